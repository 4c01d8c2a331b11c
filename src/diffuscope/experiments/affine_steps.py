r"""Euler's method on the reverse equations of an affine denoiser: its moments without a draw, and their limit.

With :math:`\alpha = 1, \sigma = t`, an affine D(x) = P x + c at every level, and a step from t to :math:`\rho t`,

.. math::  x \leftarrow x - (1 + \eta^2)(1 - \rho)(x - D) + \eta \sqrt{2 (1 - \rho)}\; t\, \xi ,

so that mean and covariance obey a recursion. A guide of a Gaussian prior with a linear observation is affine. Levels
fall from 10,000 to 0.001, and the limit is that of 200, 400 and 800 steps of equal ratio.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.schedules import VE
from diffuscope.times import log_snr_times

HIGH, LOW = 1e4, 1e-3  # sigma at the ends
LEFT = 1 / HIGH  # of the mean at the start, at the end of an ODE, and less of an SDE
SCHEDULE = VE(LOW, HIGH)
GRIDS = (200, 400, 800)


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the ends of Euler's method, without a draw."""

    mean: Float[Tensor, " D"]
    covariance: Float[Tensor, "D D"]


def euler(denoiser: Denoiser, D: int, steps: int, eta: float = 1.0) -> Moments:
    """The moments after `steps` steps and a denoise, for a denoiser that is affine: D(x) = P x + c at every level.

    x moves by -(1 + eta^2)(1 - rho)(x - D) and noise of variance 2 eta^2 (1 - rho) t^2; P and c come from D + 1 probes.
    """
    times, one = log_snr_times(SCHEDULE, HIGH, LOW, steps), torch.eye(D, dtype=torch.float64)
    probes = torch.cat([torch.zeros(1, D, dtype=torch.float64), one]).repeat(steps + 1, 1)
    answers = denoiser(probes, times.repeat_interleave(D + 1)).reshape(steps + 1, D + 1, D)
    c, P = answers[:, 0], (answers[:, 1:] - answers[:, :1]).mT
    mean, V = torch.zeros(D, dtype=torch.float64), HIGH**2 * one
    shrinks = (1 - times[1:] / times[:-1]).tolist()
    for k, (t, shrink) in enumerate(zip(times[:-1].tolist(), shrinks, strict=True)):
        A = one - (1 + eta**2) * shrink * (one - P[k])
        mean, V = A @ mean + (1 + eta**2) * shrink * c[k], A @ V @ A.T + 2 * eta**2 * shrink * t**2 * one
    return Moments(P[-1] @ mean + c[-1], P[-1] @ V @ P[-1].T)


def extrapolated(denoiser: Denoiser, D: int, eta: float = 1.0) -> tuple[Moments, Moments]:
    """The limit of many steps, from three grids, with what the last doubling changed: larger than what is left.

    Euler's error is of first order; combined from two grids it is of second, a quarter for each doubling.
    """
    runs = [euler(denoiser, D, steps, eta) for steps in GRIDS]
    ends = [
        Moments(2 * fine.mean - coarse.mean, 2 * fine.covariance - coarse.covariance) for coarse, fine in pairwise(runs)
    ]
    change = Moments((ends[1].mean - ends[0].mean).abs(), (ends[1].covariance - ends[0].covariance).abs())
    return ends[1], change

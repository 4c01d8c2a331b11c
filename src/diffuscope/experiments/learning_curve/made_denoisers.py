r"""Denoisers made at a chosen distance from the Gaussian, so that their residual is known exactly.

At noised held-out digits, let :math:`u = D_{iso} - D_G` and :math:`v = D_{emp} - D_G`, and let w be the part of v that
is uncorrelated with u, stretched to its size. The denoisers

.. math::
    D_\tau = D_G + f(\tau)(\cos\theta_\tau\, u + \sin\theta_\tau\, w), \qquad
    \langle u, w\rangle = 0,\ \langle|w|^2\rangle = \langle|u|^2\rangle
    \quad\Rightarrow\quad R(\tau) = f(\tau)^2 \langle|u|^2\rangle

turn from the side of the isotropic model to that of the examples, at the distance f from the Gaussian. With
:math:`f = 1 + 2e^{-\tau/\tau_1} + \tau/\tau_2` the residual falls and rises. Without the last term it falls to a
plateau, on which the residuals of the points change while their mean does not: the hardest case for a false alarm.
Averages are over a pool of 4,096 points, so that the curve of the pool is the exact truth for a random 128 of them.
There are 16 steps from 1 to 1,000, :math:`\tau_1 = 15` and :math:`\tau_2 = 20000`; the test has the level 0.05 and 399
resamples.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.audit import fit_references
from diffuscope.findings import TurningPoint, turning_point
from diffuscope.schedules import VE

from .residuals import Probe, standard_deviation

POOL, POINTS, RESAMPLES = 4096, 128, 399
STEPS = np.geomspace(1, 1000, 16)
PLATEAU = 1 + 2 * np.exp(-STEPS / 15)  # f without a rise
TURNING = PLATEAU + STEPS / 20_000
LEVEL = 0.05  # of the test: one in twenty shows in a few hundred repetitions, one in a hundred would not


class MadeDenoisers:
    """|u|^2, <u, w> and |w|^2 at the points of the pool, in units of the probe; sigma is that of the data."""

    def __init__(self, train: Tensor, heldout: Tensor, components: int, generator: torch.Generator) -> None:
        references, scale = fit_references(train, heldout, components, generator), standard_deviation(train)
        x_0 = heldout[torch.randint(len(heldout), (POOL,), generator=generator)]
        noise = torch.randn(x_0.shape, generator=generator)
        probe = Probe(VE(0.01 * scale, 40 * scale), references, scale, x_0, noise)
        answers = {name: answer.double() for name, answer in probe.exact.items()}
        u, v = (answers[name] - answers["Gaussian"] for name in ("isotropic", "empirical"))
        w = v - (u * v).sum() / u.square().sum() * u
        w *= (u.square().sum() / w.square().sum()).sqrt()
        self.uu, self.uw, self.ww = ((a * b).sum(1).numpy() / probe.unit for a, b in ((u, u), (u, w), (w, w)))

    def residuals(self, f: Float[ndarray, " steps"]) -> Float[ndarray, "pool steps"]:
        """The residuals at the distances `f` from the Gaussian."""
        theta = np.linspace(0, math.pi / 2, len(STEPS))
        c, s = np.cos(theta), np.sin(theta)
        return f**2 * (self.uu[:, None] * c**2 + 2 * self.uw[:, None] * c * s + self.ww[:, None] * s**2)


def detect(pool: Float[ndarray, "pool steps"], rng: np.random.Generator, repetitions: int) -> list[TurningPoint]:
    """The turning points that POINTS random points of the pool show, again and again."""
    draws = (pool[rng.integers(len(pool), size=POINTS)] for _ in range(repetitions))
    return [turning_point(draw, STEPS, rng, significance=LEVEL, resamples=RESAMPLES) for draw in draws]

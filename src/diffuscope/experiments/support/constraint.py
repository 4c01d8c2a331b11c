r"""Data that satisfy linear equations: the exact denoiser satisfies them at every noise level, the state only at zero.

If :math:`C x = d` on the support of the data, then :math:`C\,E[x_0 | x_t] = d` for every :math:`x_t`, near the data or
far, since an average of points of an affine subspace lies in it. The state itself is off: along a constraint direction
the reverse process is the one of a single data point (`fixed_start`), so that :math:`C x_t - \alpha d` has the
deviation :math:`\sigma` at every small t, and the residual vanishes with the last denoising.

Here: 40 of scikit-learn's digits of 64 pixels lie in an affine subspace of 39 dimensions, which leaves 25 equations;
three of them say that a pixel of the border is always blank.

Source: derived, as a corollary of the support theorem (Cao et al. 2025, https://arxiv.org/abs/2501.17054).
"""

import math

import torch
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.findings import Chart, Panel, at_most, equals, largest, line
from diffuscope.samplers import DDPM, trajectory
from diffuscope.times import log_snr_times

from ..experiment import Answer
from .bayes import OU

DIGITS = 40
LEVELS = (1e-3, 1e-2, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0)
STEPS, SAMPLES = 60, 200
COROLLARY = "derived, corollary of the support theorem"


def some_digits() -> Tensor:
    """DIGITS training digits as vectors of 64 numbers in [-1, 1]."""
    data = load_data("digits").in_range(-1.0, 1.0).subset(DIGITS, 2)
    return data.train.double().reshape(DIGITS, -1)


def constraints(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows C and the numbers d with C x = d for every row x, and for nothing else in their hull's plane."""
    center = rows.mean(0)
    _, singular, V = torch.linalg.svd(rows - center, full_matrices=True)
    rank = int((singular > 1e-10 * singular[0]).sum())
    C = V[rank:]
    return C, C @ center


def linear_constraint(generator: torch.Generator) -> Answer:
    """The equations on the denoiser at random states, and along a run of the reverse process."""
    rows = some_digits()
    C, d = constraints(rows)
    data = Empirical(rows)
    anywhere = []
    for sigma in LEVELS:
        alpha = 1 / math.hypot(1.0, sigma)
        for spread in (1.0, 10.0):
            x = spread * torch.randn(100, rows.shape[1], dtype=torch.float64, generator=generator)
            anywhere.append(float((data.denoise(x, alpha, sigma * alpha) @ C.T - d).abs().max()))
    denoiser = ExactDenoiser(data, OU)
    times = log_snr_times(OU, 1.5, 1e-6, STEPS)
    start = torch.randn(SAMPLES, rows.shape[1], dtype=torch.float64, generator=generator)
    sigmas, of_state, of_denoised = [], [], []
    for state in trajectory(DDPM(), denoiser, start, times, noise=generator):
        sigmas.append(state.at.sigma)
        of_state.append(float((state.x_t @ C.T - state.at.alpha * d).square().mean().sqrt()))
        of_denoised.append(float((denoiser(state.x_t, state.t) @ C.T - d).abs().max()))
    claims = (
        at_most(
            "equations",
            f"{len(C)} linear equations hold on {DIGITS} digits",
            float((rows @ C.T - d).abs().max()),
            1e-13,
            because="rounding",
            source="scikit-learn's digits",
        ),
        at_most(
            "denoiser-anywhere",
            "They hold for the exact denoiser at random states, near and far, at noise levels σ/α from 0.001 to 100",
            largest(anywhere),
            1e-10,
            because="rounding of weights and logarithms",
            source=COROLLARY,
        ),
        at_most(
            "denoiser-on-the-way",
            f"And along {SAMPLES} runs of the reverse process, to its very end",
            largest(of_denoised),
            1e-10,
            because="rounding of weights and logarithms",
            source=COROLLARY,
        ),
        equals(
            "state-off",
            "The state itself is off by noise: at t = 1e-6 the root mean square residual is σ",
            of_state[-1] / sigmas[-1],
            1.0,
            within=4 / math.sqrt(2 * SAMPLES * len(C)),
            because=f"4 standard errors of {SAMPLES * len(C):,} residuals",
            source="derived",
            unit="σ",
        ),
    )
    shown = [max(residual, 1e-17) for residual in of_denoised]
    chart = Chart(
        f"{len(C)} linear equations along the reverse process, on {DIGITS} digits",
        (
            Panel(
                "",
                "noise σ",
                "residual",
                (
                    line(sigmas, of_state, "of the state"),
                    line(sigmas, shown, "of the denoiser, largest"),
                    line(sigmas, sigmas, "σ", style="dotted"),
                ),
                x_log=True,
                y_log=True,
            ),
        ),
        "Sampling runs from right to left. The denoiser satisfies the equations at every step, to rounding; the state "
        "follows its noise down, and would still be off by σ if one stopped without the last denoising.",
    )
    told = "Yes: the exact denoiser satisfies them at every noise level, and the sample after its last denoising."
    return Answer(told, claims, (chart,))

r"""What the training losses can reach at best on finite data, and who reaches it.

Every loss is a floor plus the distance of the model from the exact minimizer. With :math:`J = E|\nabla\log\rho_t|^2`,

.. math::
    \min E|\varepsilon - \hat\varepsilon|^2
    &= d - \sigma^2 J = \frac{\alpha^2}{\sigma^2}\,E\,\mathrm{tr\,Cov}(x_0 | x_t), \\
    \min E\left|s + \frac{\varepsilon}{\sigma}\right|^2 &= \frac{d}{\sigma^2} - J, \qquad
    \nabla D = \frac{\alpha}{\sigma^2}\,\mathrm{Cov}(x_0 | x_t) .

A denoiser that is off by :math:`\Delta` pays :math:`(\alpha/\sigma)^2 E|\Delta|^2` more in the first.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054 (finite data); Vincent 2011 (denoising score matching).
"""

import math

import torch
from torch import Tensor

from diffuscope.findings import Chart, Panel, at_most, largest, line, points
from diffuscope.samplers import Instant, instants

from ..experiment import Answer
from ..four_points import OU, POINTS, FourPoints, weights

RATIOS = (0.1, 0.14, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5, 5.0)
DRAWS = 100_000
MEAN, VARIANCE = float(POINTS.mean()), float(POINTS.var(correction=0))


def by_quadrature(at: Instant) -> tuple[float, float, float]:
    """d - sigma^2 J, (alpha/sigma)^2 E Var(x_0|x_t), and the largest error of dD/dx, on a grid per component."""
    z = torch.linspace(-10, 10, 401, dtype=torch.float64)
    share = (-(z**2) / 2).softmax(0) / len(POINTS)
    x = (at.alpha * POINTS[:, None] + at.sigma * z).reshape(-1).requires_grad_()
    w = weights(x, at)
    denoised = w @ POINTS
    variance = (w * (POINTS - denoised[:, None]) ** 2).sum(1)
    (slope,) = torch.autograd.grad(denoised.sum(), x)
    denoised, variance, x = denoised.detach(), variance.detach(), x.detach()
    score = (at.alpha * denoised - x) / at.sigma**2
    J = float((share.repeat(len(POINTS)) * score**2).sum())
    doubt = float((share.repeat(len(POINTS)) * variance).sum())
    slope_error = float((slope - at.alpha / at.sigma**2 * variance).abs().max())
    return 1 - at.sigma**2 * J, (at.alpha / at.sigma) ** 2 * doubt, slope_error


def loss_floors(generator: torch.Generator) -> Answer:
    """The identities by quadrature, the losses of the minimizer and of a Gaussian model by Monte Carlo."""
    identity, slope_errors = [], []
    z_minimizer, z_gaussian = [], []
    floors, measured, of_gaussian = [], [], []
    ratios = torch.tensor(RATIOS, dtype=torch.float64)
    for at in instants(OU, OU.time_of_noise_to_signal(ratios)):
        by_information, by_doubt, error = by_quadrature(at)
        identity.append(abs(by_information - by_doubt))
        slope_errors.append(error * at.sigma)
        x_0 = POINTS[torch.randint(len(POINTS), (DRAWS,), generator=generator)][:, None]
        noise = torch.randn(DRAWS, 1, dtype=torch.float64, generator=generator)
        x_t = at.alpha * x_0 + at.sigma * noise
        exact = FourPoints()(x_t, at.t)
        gain = at.alpha * VARIANCE / (at.alpha**2 * VARIANCE + at.sigma**2)
        gaussian = MEAN + gain * (x_t - at.alpha * MEAN)
        loss, loss_of_gaussian = (((x_t - at.alpha * D) / at.sigma - noise) ** 2 for D in (exact, gaussian))
        excess = (at.alpha / at.sigma) ** 2 * (gaussian - exact) ** 2
        z_minimizer.append(_standard_errors(loss, by_doubt))
        z_gaussian.append(_standard_errors(loss_of_gaussian - loss - excess, 0.0))
        floors.append(by_doubt)
        measured.append(float(loss.mean()))
        of_gaussian.append(float(loss_of_gaussian.mean()))
    four = "4.5 standard errors: exceeded by chance in less than 1 of 10,000 runs"
    claims = (
        at_most(
            "floor-identity",
            "The two forms of the floor agree, 1 - σ²J and (α/σ)² E Var(x₀|x_t), at eleven noise levels",
            largest(identity),
            1e-12,
            because="quadrature, spectrally accurate",
            source="derived",
        ),
        at_most(
            "denoiser-slope",
            "The slope of the minimizer is (α/σ²) Var(x₀|x_t): largest difference, times σ",
            largest(slope_errors),
            1e-10,
            because="rounding of derivatives up to 1/σ",
            source="derived",
        ),
        at_most(
            "noise-loss",
            f"The noise loss of the exact minimizer, and σ² times its score loss, is the floor ({DRAWS:,} draws each)",
            largest(z_minimizer),
            4.5,
            because=four,
            source="Cao et al. 2025, finite data",
            unit="standard errors",
        ),
        at_most(
            "excess-loss",
            "A Gaussian model pays the floor and (α/σ)² times its squared distance from the minimizer",
            largest(z_gaussian),
            4.5,
            because=four,
            source="derived",
            unit="standard errors",
        ),
    )
    chart = Chart(
        "The noise loss on four data points",
        (
            Panel(
                "",
                "noise-to-signal ratio σ/α",
                "loss",
                (
                    line(RATIOS, floors, "floor"),
                    points(RATIOS, measured, "exact minimizer, measured"),
                    line(RATIOS, of_gaussian, "Gaussian model", style="dashed"),
                ),
                x_log=True,
            ),
        ),
        "The floor is not zero: where several points could have been the origin, no model can tell. Only the model "
        "that has memorized the points reaches it.",
    )
    told = "The posterior variance, at every noise level; only the memorizing denoiser reaches it."
    return Answer(told, claims, (chart,))


def _standard_errors(values: Tensor, expected: float) -> float:
    """How far the mean is from `expected`, in standard errors; rounding is no error where the values hardly vary."""
    error = float(values.std()) / math.sqrt(len(values)) + 1e-15
    return abs(float(values.mean()) - expected) / error

r"""What becomes of a push? The gain of a perturbation of the latent, in closed form and by finite differences.

For Gaussian data a push by :math:`\delta u_k` at time t moves the sample by
:math:`\delta\sqrt{\lambda / (\alpha_t^2\lambda + \sigma_t^2)}` along :math:`u_k` and nowhere else; in a
variance-preserving schedule that is :math:`\sqrt{\lambda/(1 + (\lambda - 1)\bar\alpha_t)}`. So a push of fixed size
matters more the earlier it comes only along components with :math:`\lambda > 1`; a push of a fixed share of the noise
matters more the earlier it comes along every component. `theory.geometry.pushes` has the formulas.

The model's flow is integrated with the Runge-Kutta method of order 4 down to the schedule's lowest level, where the
clean estimate is the sample. On a mixture the gain differs from start to start, as a push may change the mode. Its mean
from pure noise is known: by Stein's identity, for :math:`x_T` normal with variance :math:`v = \alpha_T^2\lambda +
\sigma_T^2` along :math:`u_k`,

.. math::  E\left[\frac{\partial x_{0,k}}{\partial x_{T,k}}\right] = \frac{\operatorname{Cov}(x_{0,k}, x_{T,k})}{v}
           = \sqrt{\lambda/v}\; \operatorname{corr}(x_{0,k}, x_{T,k}) ,

the Gaussian's gain times a correlation. (A push of 0.2 standard deviations differs from the derivative by the factor
:math:`e^{-\delta^2/2}\sinh(\delta z)/(\delta z)`, 1 up to a few thousandths.)
A difference counts from four standard errors on.

Source: Wang & Vastola 2023, *Diffusion Models Generate Images Like Painters*, https://arxiv.org/abs/2303.02490.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Panel, largest, line
from diffuscope.samplers import Heun, RungeKutta4, finish, model_times
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.theory.geometry import along, denoised_gain, displacements, noise_relative_gain, sample_gain
from diffuscope.times import log_snr_times

from .digit_models import digit_models
from .experiment import Experiment
from .part import Part, largest_difference

VARIANCES = (9.0, 2.0, 1.0, 0.5, 0.05)
DIMENSION, STARTS = 8, 3
STEPS = 240  # of Runge-Kutta 4: its error is below 1e-8 from every start here
PUSHED, FEWER, CORRELATED, MOVED, LEVELS = 192, 24, 512, 0.2, 30
COMPONENTS = tuple(component - 1 for component in (1, 5, 20))  # that are pushed
TOP = 30.0  # standard deviations of the data: there the noised data are Gaussian
STANDARD_ERRORS = 4
EXPERIMENT = Experiment(
    name="perturbation",
    title="A push early, a push late",
    question="How far does a perturbation of the latent move the image, and when does it matter most?",
    source="Wang & Vastola 2023, https://arxiv.org/abs/2303.02490",
    seconds=15,
    settings={
        "Gaussian": "8 coordinates, variances 9, 2, 1, 0.5, 0.05 and 0; 3 starts, 240 steps",
        "digits": "scikit-learn's in [-1, 1] as ten Gaussians; pushes of 0.2 standard deviations of the noise along "
        "the components 1, 5 and 20, 30 steps from at most 30 standard deviations of the data; 192 trajectories at the "
        "highest level and 24 at others; 512 for the correlation",
    },
)


@EXPERIMENT.part("Are the gains of Gaussian data those of the flow?")
def closed_form(part: Part) -> str:
    """Finite differences of three flows from two times each, along the data and beside them."""
    turn = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, dtype=torch.float64, generator=part.generator))[0]
    variances, rank = torch.tensor(VARIANCES, dtype=torch.float64), len(VARIANCES)
    data = Gaussian(turn[0], turn[:, :rank], variances)
    errors, beside = [], []
    for schedule in (VE(1e-2, 50.0), VP(), RectifiedFlow()):
        for share in (0.7, 0.3):
            t = share * schedule.t_max
            times = log_snr_times(schedule, t, schedule.t_min, STEPS)
            x = torch.randn(STARTS, DIMENSION, dtype=torch.float64, generator=part.generator)
            moved = displacements(ExactDenoiser(data, schedule), RungeKutta4(), x, times, turn.T, size=1.0)
            expected = torch.zeros(DIMENSION, dtype=torch.float64)
            expected[:rank] = denoised_gain(variances, schedule, t, schedule.t_min)
            errors.append(largest_difference(along(moved, turn.T), expected[:, None]))
            beside.append(largest_difference(moved, expected[:, None, None] * turn.T[:, None]))
    title = "Gain in the sample by central differences of the flow, minus the closed form: largest of three schedules"
    part.at_most("gain", title, largest(errors), 1e-8, "order 4 in 240 steps", source="derived")
    title = "A push along one component moves no other, and beside the data's subspace nothing"
    part.at_most("alone", title, largest(beside), 1e-8, "order 4 in 240 steps", source="derived")
    return "Yes, to the error of the integration, in a variance-exploding, a variance-preserving and a flow schedule."


@EXPERIMENT.part("When does a push matter most?")
def when(part: Part) -> str:
    """Monotone in time: up or down by the variance for a fixed size, always up for a share of the noise."""
    schedule, variances = VP(), torch.tensor(VARIANCES, dtype=torch.float64)
    times = torch.linspace(schedule.t_max, schedule.t_min, 201, dtype=torch.float64)
    gains = torch.stack([sample_gain(variances, schedule, t) for t in times])
    published = (variances / (1 + (variances - 1) * schedule.alpha(times)[:, None] ** 2)).sqrt()
    # log gain falls along the trajectory where lambda > 1, and rises where it is below 1
    turns = gains.log().diff(dim=0) * (variances - 1).sign()
    flat = largest_difference(gains[:, variances == 1], 1)
    ratios = schedule.noise_to_signal(times)
    relative = noise_relative_gain(variances, ratios)
    title = "VP: the gain is √(λ/(1 + (λ - 1)ᾱ)), the published form"
    part.at_most("published", title, largest_difference(gains, published), 1e-14, "rounding")
    title = "It falls along the trajectory where λ > 1 and rises where λ < 1: steps that do not"
    part.equals("early-or-late", title, int((turns[:, variances != 1] >= 0).sum()), 0, 0, "exact")
    title = "And is constant where λ = 1"
    part.at_most("constant", title, flat, 1e-14, "rounding")
    title = "As a share of the noise, an earlier push always moves the sample more: steps where it does not"
    part.equals("relative", title, int((relative.diff(dim=0) >= 0).sum()), 0, 0, "exact")
    names = [f"variance {variance:g}" for variance in VARIANCES]
    panels = [
        Panel(title, "noise level σ/α", "gain", tuple(map(line, [ratios] * len(names), table.T, names)), True, True)
        for title, table in (
            ("a push of fixed size (VP units)", gains),
            ("one standard deviation of the noise", relative),
        )
    ]
    part.chart(
        "By how much a push moves the sample",
        *panels,
        how_to_read="Generation runs from right to left. Left: an early push wins only for variances above 1. Right: "
        "in units of the noise at that level, it always does.",
        shared_y=True,
    )
    return (
        "It depends on the unit. A push of fixed size matters more early along components with λ > 1 only, and more "
        "late along the others; a push that is a fixed share of the noise matters more the earlier it comes, always."
    )


@EXPERIMENT.part("Do ten modes respond as their Gaussian does?")
def modes(part: Part) -> str:
    """The mean gain from pure noise against the correlation of start and sample, and single gains at every level."""
    models, components = digit_models(part.seed), list(COMPONENTS)
    denoiser, linear = ExactDenoiser(models.mixture, models.schedule), models.of_mixture
    levels = models.scale * torch.logspace(math.log10(TOP), -1, 7, dtype=torch.float64)
    variances, low = linear.eigenvalues[components], 0.02 * models.scale
    counts = [PUSHED, *[FEWER] * (len(levels) - 1)]
    gains = [
        gains_at(denoiser, level, low, linear, count, part.generator)
        for level, count in zip(levels.tolist(), counts, strict=True)
    ]
    predicted = torch.stack([sample_gain(variances, models.schedule, level) for level in levels])
    ratio = gains[0] / predicted[0][:, None]
    products = start_and_sample(denoiser, float(levels[0]), low, linear, part.generator)
    error = (ratio.var(1) / PUSHED + products.var(1) / CORRELATED).sqrt()
    apart = ((ratio.mean(1) - products.mean(1)) / error).abs()
    title = (
        f"Mean gain from noise over the Gaussian's ({listed(ratio.mean(1))}) minus the correlation of start and sample "
    )
    title += f"({listed(products.mean(1))}): largest of {len(components)} components"
    unit = "standard errors"
    part.at_most("stein", title, float(apart.max()), STANDARD_ERRORS, "Stein's identity", source="derived", unit=unit)
    title = "The mean gain from noise is no larger than the Gaussian's: largest excess"
    excess = (ratio.mean(1) - 1) / (ratio.std(1) / math.sqrt(PUSHED))
    because = "a correlation is at most 1"
    part.at_most("no-more", title, max(0.0, float(excess.max())), STANDARD_ERRORS, because, source="derived", unit=unit)
    curves = [
        mark
        for k, component in enumerate(COMPONENTS)
        for mark in (
            line(levels, [float(gain[k].mean()) for gain in gains], f"component {component + 1}"),
            line(levels, predicted[:, k], "Gaussian" if k == 0 else "", style="dotted"),
        )
    ]
    part.chart(
        "Ten modes and their Gaussian",
        Panel(
            "", "noise level σ/α of the push", "mean gain along the component", tuple(curves), x_log=True, y_log=True
        ),
        how_to_read="Mean over starts of the gain along the pushed component, by differences; dotted, the Gaussian.",
    )
    return (
        f"Less, on average: {listed(ratio.mean(1))} of the Gaussian's gain at σ/α = {levels[0]:.3g}, which is the "
        "correlation between the start and the sample along each component. Single starts differ widely, as a push "
        f"changes the mode or does not: the standard deviation of the ratio is {listed(ratio.std(1))}."
    )


def listed(values: Float[Tensor, " k"]) -> str:
    """The numbers in words."""
    return ", ".join(f"{value:.2f}" for value in values.tolist())


def states_at(
    denoiser: ExactDenoiser, level: float, count: int, generator: torch.Generator
) -> Float[Tensor, "count 64"]:
    """Independent states of the diffusion at this level (alpha = 1)."""
    x = denoiser.distribution.sample(count, generator=generator)
    return x + level * torch.randn(x.shape, dtype=torch.float64, generator=generator)


def gains_at(
    denoiser: ExactDenoiser, level: float, low: float, linear: Gaussian, count: int, generator: torch.Generator
) -> Float[Tensor, "components count"]:
    """Gains along the components of pushes at `level`."""
    directions = linear.eigenvectors.T[list(COMPONENTS)]
    x, times = states_at(denoiser, level, count, generator), model_times(denoiser, LEVELS, high=level, low=low)
    moved = displacements(denoiser, Heun(), x, times, directions, size=MOVED * level)
    return along(moved, directions)


def start_and_sample(
    denoiser: ExactDenoiser, level: float, low: float, linear: Gaussian, generator: torch.Generator
) -> Float[Tensor, "components count"]:
    """Products of the standardized coordinates of start and sample, whose mean is their correlation."""
    x, times = states_at(denoiser, level, CORRELATED, generator), model_times(denoiser, LEVELS, high=level, low=low)
    both = torch.stack([x, finish(denoiser, Heun(), x, times)]) - linear.mean
    start, end = (both @ linear.eigenvectors[:, list(COMPONENTS)]).mT
    variances = linear.eigenvalues[list(COMPONENTS), None]
    return start / (variances + level**2).sqrt() * end / variances.sqrt()

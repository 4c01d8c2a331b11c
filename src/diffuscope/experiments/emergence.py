r"""Outline first: the noise level at which each principal component of an image emerges, predicted and measured.

For Gaussian data the share of a component of variance :math:`\lambda` that is present in the clean estimate is
:math:`f = (1 + \tilde\sigma^2/\lambda)^{-1/2}`: :math:`1/\sqrt2` at :math:`\tilde\sigma = \sqrt\lambda`, the emergence
level, and growing fastest at :math:`\sqrt{2\lambda}`. Other data of the same covariance emerge no later
(`theory.geometry.feature_emergence` has the proof); how much earlier is measured here on their own trajectories.

The mixture of ten Gaussians is exact, so that the bound must hold for it at every level. A network need not obey it:
where a component emerges later, its answers at different noise levels are not those of one distribution.

The closed form is taken for variances of 100, 10, 1, 0.1 and 0.01, on a grid of 0.001 in log sigma. A
difference counts from four standard errors on; the figure shows the components 1, 5, 10 and 20.

Source: Wang & Vastola 2023, *Diffusion Models Generate Images Like Painters*, https://arxiv.org/abs/2303.02490.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Distribution, Gaussian
from diffuscope.findings import Panel, largest, line, points, rank_correlation
from diffuscope.samplers import Heun, model_times
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.theory.geometry import (
    Trajectories,
    crossing_levels,
    emerged_share,
    emergence_level,
    fastest_level,
    feature_coordinates,
    follow,
    gaussian_trajectories,
    measured_share,
)

from .digit_models import NETWORK, digit_models, digit_network
from .experiment import Experiment
from .part import Part, largest_difference, loglog

VARIANCES = (100.0, 10.0, 1.0, 0.1, 0.01)
STEP = 1e-3  # of the grid in log sigma
FOLLOWED, LEVELS, COMPONENTS = 512, 40, 20
SHOWN = tuple(component - 1 for component in (1, 5, 10, 20))  # in the figure
STANDARD_ERRORS = 4
ASKED = "a requirement, not derived"
EXPERIMENT = Experiment(
    name="emergence",
    title="Outline first, details later",
    question="At which noise level does each component of an image emerge, and in which order?",
    source="Wang & Vastola 2023, https://arxiv.org/abs/2303.02490",
    seconds=20,
    settings={
        "digits": "scikit-learn's in [-1, 1]; 20 leading components",
        "network": NETWORK,
        "trajectories": "512 of each model, Heun, 40 steps",
    },
)


@EXPERIMENT.part("When does a component of Gaussian data emerge?")
def gaussian(part: Part) -> str:
    """The maximum of the derivative, and the trajectories of three schedules."""
    variances = torch.tensor(VARIANCES, dtype=torch.float64)
    log_ratio = torch.arange(-6, 6, STEP, dtype=torch.float64)
    slope = emerged_share(variances, log_ratio.exp()).diff(dim=0)
    fastest = log_ratio[slope.argmin(0)] + STEP / 2
    off = largest_difference(fastest, fastest_level(variances).log())
    wrong, misordered = [], 0
    for schedule in (VE(1e-3, 100.0), VP(), RectifiedFlow()):
        levels, expected = levels_of(schedule, Gaussian(torch.zeros(5), torch.eye(5), variances), part.generator)
        wrong.append(largest_difference((levels / expected).log(), 0))
        misordered += int((~(levels.diff() < 0)).sum())
    title = "Growth in log(σ/α) is fastest at √(2λ): largest distance over five variances, in log σ"
    part.at_most("fastest", title, off, STEP, "the step of the grid", source="derived")
    title = "Trajectories in three schedules emerge at the predicted level: largest distance in log σ"
    part.at_most("levels", title, largest(wrong), 1e-12, "rounding: the same curve by two ways", source="derived")
    title = "They emerge in the order of their variances: neighbors in the wrong order"
    part.equals("order", title, misordered, 0, 0, "exact")
    part.chart(
        "How a component emerges",
        Panel(
            "",
            "noise level σ/α",
            "share in the clean estimate",
            tuple(
                line(log_ratio.exp()[::100], curve[::100], f"variance {variance:g}")
                for variance, curve in zip(VARIANCES, emerged_share(variances, log_ratio.exp()).T, strict=True)
            ),
            x_log=True,
        ),
        how_to_read="Generation runs from right to left. A component of variance λ is half decided near σ/α = √λ.",
    )
    return (
        "At σ/α = √λ, in every schedule: there 1/√2 of it is in the estimate. It grows fastest at √(2λ), and the "
        "components of largest variance come first."
    )


def levels_of(
    schedule: Schedule, data: Gaussian, generator: torch.Generator
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Measured and predicted emergence levels on closed-form trajectories."""
    low = max(1e-3, float(schedule.noise_to_signal(schedule.t_min)))
    high = min(100.0, float(schedule.noise_to_signal(schedule.t_max)))
    ratios = torch.logspace(math.log10(high), math.log10(low), 81, dtype=torch.float64)
    times = schedule.time_of_noise_to_signal(ratios)
    drawn = torch.randn(3, data.dimension, dtype=torch.float64, generator=generator)
    run = gaussian_trajectories(data, schedule, float(schedule.sigma(times[0])) * drawn, times)
    measured = measured_share(feature_coordinates(run, data, data.dimension))
    expected = emerged_share(data.eigenvalues, run.ratios, last=float(run.ratios[-1]))
    return crossing_levels(run.ratios, measured), crossing_levels(run.ratios, expected)


@EXPERIMENT.part("Do the components of ten modes emerge in this order, and when?")
def mixture(part: Part) -> str:
    """The bound at every level and component, the order, and by how much a mixture is earlier."""
    models = digit_models(part.seed)
    run = followed(ExactDenoiser(models.mixture, models.schedule), models.scale, part.generator, models.mixture)
    shares = feature_coordinates(run, models.of_mixture, COMPONENTS)
    variances = models.of_mixture.eigenvalues[:COMPONENTS]
    squares = shares.square() / variances
    bound = emerged_share(variances, run.ratios) ** 2
    # no less than that of normal coordinates
    error = torch.maximum(squares.std(1), math.sqrt(2) * bound) / math.sqrt(FOLLOWED)
    lead = (squares.mean(1) - bound) / error
    levels = crossing_levels(run.ratios, measured_share(shares))
    ratio, rank = levels / emergence_level(variances), float(rank_correlation(levels.numpy(), variances.numpy()))
    title = f"No component is later than in Gaussian data, at any level: largest shortfall of {lead.numel()} shares"
    because = f"{STANDARD_ERRORS} standard errors of {FOLLOWED} trajectories"
    part.at_most("bound", title, -float(lead.min()), STANDARD_ERRORS, because, source="derived", unit="standard errors")
    title = "Rank correlation of emergence level and variance, ten Gaussians"
    part.at_least("mixture-order", title, rank, 0.9, "1 is the order of the variances; 0.9 is near it", source=ASKED)
    title = "Details of ten modes come earlier than Gaussian ones: geometric mean of the levels over √λ"
    part.at_least(
        "earlier", title, float(ratio.log().mean().exp()), 1.1, "1 for Gaussian data, 1.1 beyond it", source=ASKED
    )
    chart_emergence(part, "ten Gaussians", run, shares, variances, levels)
    return (
        f"In nearly this order (rank correlation {rank:.2f}), and earlier than the Gaussian of the same covariance: "
        f"by a factor of {float(ratio[0]):.2f} for the first component and {float(ratio[-1]):.2f} for the last. Which "
        "mode it will be is decided with the outline, and the mode decides details before their own variance could."
    )


@EXPERIMENT.part("And those of a trained network?")
def network(part: Part) -> str:
    """The order, and the levels against the prediction."""
    models, trained = digit_models(part.seed), digit_network(part.seed)
    run = followed(trained, models.scale, part.generator)
    shares = feature_coordinates(run, models.gaussian, COMPONENTS)
    variances = models.gaussian.eigenvalues[:COMPONENTS]
    levels = crossing_levels(run.ratios, measured_share(shares))
    ratio, rank = levels / emergence_level(variances), float(rank_correlation(levels.numpy(), variances.numpy()))
    title = "Rank correlation of emergence level and variance, network"
    part.at_least("network-order", title, rank, 0.8, "1 is the order of the variances; 0.8 is near it", source=ASKED)
    title = "Measured over predicted level, largest factor either way over the components"
    part.at_most(
        "network-levels", title, float(ratio.log().abs().max().exp()), 2.0, "within a factor of 2", source=ASKED
    )
    chart_emergence(part, "a trained network", run, shares, variances, levels)
    late = int((levels < shares[-1].square().mean(0).sqrt()).sum())
    return (
        f"Yes (rank correlation {rank:.2f}), within a factor of {float(ratio.log().abs().max().exp()):.2f} of the "
        f"prediction. {late} of the {COMPONENTS} emerge later than in any data with the second moments of its "
        "samples: at high noise, a network trained for seconds says less than an exact denoiser would."
    )


def followed(
    denoiser: Denoiser, scale: float, generator: torch.Generator, start: Distribution | None = None
) -> Trajectories:
    """Trajectories from pure noise, or from the noised distribution `start`, with Heun's method."""
    times = model_times(denoiser, LEVELS, low=0.02 * scale)
    noise = torch.randn(FOLLOWED, 64, dtype=torch.float64, generator=generator)
    x = float(denoiser.schedule.sigma(times[0])) * noise
    if start is not None:
        x = x + float(denoiser.schedule.alpha(times[0])) * start.sample(FOLLOWED, generator=generator)
    return follow(denoiser, Heun(), x, times)


def chart_emergence(
    part: Part, name: str, run: Trajectories, shares: Tensor, variances: Tensor, levels: Tensor
) -> None:
    """Some curves with their prediction, and all levels against the variances."""
    measured, predicted = measured_share(shares), emerged_share(variances, run.ratios, last=float(run.ratios[-1]))
    curves = [line(run.ratios, measured[:, k], f"component {k + 1}") for k in SHOWN]
    curves += [line(run.ratios, predicted[:, k], "Gaussian" if k == SHOWN[0] else "", style="dotted") for k in SHOWN]
    part.chart(
        f"Emergence in {name}",
        Panel("", "noise level σ/α", "share in the clean estimate", tuple(curves), x_log=True),
        loglog(
            "", "variance of the component", "emergence level σ/α",
            points(variances, levels, "measured"),
            line(variances, variances.sqrt(), "√λ, Gaussian data", style="dashed"),
        ),
        how_to_read="Left: curves of four components on the model's own trajectories, and dotted those of Gaussian "
        "data. Right: the level where 1/√2 of each of the leading components is in the estimate.",
    )  # fmt: skip

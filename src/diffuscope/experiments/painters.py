r"""How flat is the path from noise to an image? The trajectories of Gaussian data, of a mixture and of a network.

A trajectory is nearly a rotation from noise to data in one plane, :math:`x_t \approx \alpha_t x_0 + \sigma_t x_T`,
with the schedule's :math:`\alpha` (not its square, DDPM's :math:`\bar\alpha`, which the published check had in its
place). `theory.geometry` has the statistics: shares of variance by principal components of one trajectory's centered
states, increments and noise predictions; the share outside the plane of the two ends; the error of the formula.

For CIFAR-10 the trajectories are the closed form with the data's mean and covariance, at the times of DDIM with 51
steps, every 19th of 1,000, and its linear betas, from ten starts.
On digits a network is followed in units of the data's standard deviation.

Source: Wang & Vastola 2023, *Diffusion Models Generate Images Like Painters*, https://arxiv.org/abs/2303.02490, which
describes the statistics; the numbers for CIFAR-10's spectrum were computed independently of this code.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Panel, line
from diffuscope.samplers import Heun, model_times
from diffuscope.schedules import DiscreteVP
from diffuscope.theory.geometry import (
    Trajectories,
    components_for,
    follow,
    gaussian_trajectories,
    in_plane,
    outside,
    principal_shares,
    rotated,
    rotation_error,
    rotation_residual,
)

from .digit_models import NETWORK, digit_models, digit_network
from .experiment import Experiment
from .part import PIXEL_RANGE, Part, largest_difference

STARTS = 10
DDIM_STEPS, STRIDE = 51, 19  # the grid of diffusers' DDIM: every 19th of 1,000 steps, down to the first
CIFAR_EXAMPLES = 5000
CHUNK = 4096  # images
FOLLOWED, LEVELS = 64, 40
ASKED = "a requirement, not derived"
CIFAR = "independent computation on CIFAR-10's spectrum, 10 starts"
EXPERIMENT = Experiment(
    name="painters",
    title="Images are painted in a plane",
    question="How close is a trajectory from noise to an image to a rotation in one plane?",
    source="Wang & Vastola 2023, https://arxiv.org/abs/2303.02490",
    seconds=30,
    settings={
        "CIFAR-10": "5,000 training images in [-1, 1], DDPM's linear betas, 51 DDIM times",
        "digits": f"scikit-learn's in [-1, 1]; {NETWORK}; Heun, 40 steps, 64 trajectories",
    },
    notes=(
        "The part on CIFAR-10 needs the data set (`diffuscope data fetch cifar10`); without it, it claims nothing.",
    ),
)


def shares(run: Trajectories, scale: float) -> dict[str, Float[Tensor, "batch components"]]:
    """Shares of variance of states, increments and noise predictions; states in units of the data."""
    path = run.normalized(scale)
    named = {"states": path, "increments": path.diff(dim=0), "noise": run.noise}
    return {name: principal_shares(points) for name, points in named.items()}


def ddim_times() -> Float[Tensor, " times"]:
    """The times of DDIM with 51 steps on DDPM's table, which counts from 1."""
    return 1 + STRIDE * torch.arange(DDIM_STEPS - 1, -1, -1, dtype=torch.float64)


@EXPERIMENT.part("Are the trajectories of models of digits plane?")
def digits(part: Part) -> str:
    """The closed form of the residual, and the shares of a network beside those of two exact models."""
    models, network = digit_models(part.seed), digit_network(part.seed)
    residual = closed_form_error(models.gaussian, part.generator)
    schedule, scale = models.schedule, models.scale
    times = model_times(network, LEVELS, low=0.02 * scale)
    drawn = torch.randn(FOLLOWED, len(models.train[0]), dtype=torch.float64, generator=part.generator)
    runs = {
        "network": follow(network, Heun(), float(times[0]) * drawn, times),
        "ten Gaussians": follow(ExactDenoiser(models.mixture, schedule), Heun(), float(times[0]) * drawn, times),
        "Gaussian": gaussian_trajectories(models.gaussian, schedule, float(times[0]) * drawn, times),
    }
    found = {name: shares(run, scale) for name, run in runs.items()}
    two = {name: float(kinds["states"][:, :2].sum(1).mean()) for name, kinds in found.items()}
    beside = {name: float(outside(run).mean()) for name, run in runs.items()}
    title = "Gaussian of the digits: the residual of the rotation is its closed form along every principal component"
    part.at_most("residual", title, residual, 1e-12, "rounding", source="derived")
    title = f"Network on digits: share of a trajectory's variance beyond two components, mean of {FOLLOWED}"
    part.at_most("two-components", title, 1 - two["network"], 0.005, "a two-hundredth still looks plane", source=ASKED)
    curves = [
        line(range(1, 11), 1 - kinds["states"].double().cumsum(1).mean(0)[:10], name) for name, kinds in found.items()
    ]
    part.chart(
        "One trajectory needs two components",
        Panel("", "principal components", "share of variance beyond", tuple(curves), y_log=True, y_range=(1e-9, 1)),
        plane_panel(runs["network"]),
        how_to_read="Left: the share of a trajectory's variance beyond its leading components; two leave less than a "
        "hundredth. Right: eight trajectories of the network in the plane of their two ends, from noise (top) to the "
        "sample (right). Dotted: the rotation, inside of which the residual puts every state.",
    )
    rest = "; ".join(f"{name} {two[name]:.2%} and {beside[name]:.2%}" for name in two)
    return f"Nearly. Variance in two components, and share outside the plane of start and end: {rest}."


def closed_form_error(gaussian: Gaussian, generator: torch.Generator) -> float:
    """The largest difference between residual and closed form, per unit of the start, in a DDPM schedule."""
    schedule, times = DiscreteVP.linear(), ddim_times()
    centered = Gaussian(torch.zeros_like(gaussian.mean), gaussian.eigenvectors, gaussian.eigenvalues)
    drawn = torch.randn(STARTS, gaussian.dimension, dtype=torch.float64, generator=generator)
    run = gaussian_trajectories(centered, schedule, drawn, times)
    ends = torch.cat([run.denoised[:-1], centered.flow(drawn, schedule, times[0], 0.0)[None]])  # exactly clean
    exact = Trajectories(run.times, run.alphas, run.sigmas, run.states, ends)
    residual = (exact.path - rotated(exact)) @ centered.eigenvectors
    closed = rotation_residual(centered.eigenvalues, exact.path_alphas, exact.path_sigmas)[:, None]
    return largest_difference(residual, closed * (drawn @ centered.eigenvectors))


def plane_panel(run: Trajectories, shown: int = 8) -> Panel:
    """Trajectories as a x_0 + b x_T / sigma_T, with (a, b) divided by the length of (alpha, sigma)."""
    coordinates = in_plane(run) / torch.hypot(run.path_alphas, run.path_sigmas)[:, None, None]
    angle = torch.linspace(0, math.pi / 2, 50, dtype=torch.float64)
    marks = [line(coordinates[:, b, 0], coordinates[:, b, 1]) for b in range(shown)]
    marks.append(line(angle.cos(), angle.sin(), "rotation", style="dotted"))
    return Panel(
        "a network's trajectories", "share of the sample", "share of the noise", tuple(marks), equal_scales=True
    )


@EXPERIMENT.part("Does the Gaussian of CIFAR-10 give the published statistics?")
def cifar(part: Part) -> str:
    """Ten closed-form trajectories; without the data set the reason, and no claims."""
    try:
        data = load_data("cifar10", train_limit=CIFAR_EXAMPLES, seed=part.seed).in_range(*PIXEL_RANGE)
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    gaussian = Gaussian.fit(data.train.flatten(1).split(CHUNK))
    times = ddim_times()
    drawn = torch.randn(STARTS, gaussian.dimension, dtype=torch.float64, generator=part.generator)
    run = gaussian_trajectories(gaussian, DiscreteVP.linear(), drawn, times)
    claim_shares(part, shares(run, 1.0))
    error, beside = float(rotation_error(run).mean()), float(outside(run).mean())
    title = "Mean share of |x|² outside the plane of start and end"
    part.equals(
        "plane", title, beside, 0.0032, 0.2 * 0.0032, "0.0032 up to 20%: other starts, other images", source=CIFAR
    )
    title = "Mean error of the rotation, |x - αx₀ - σx_T|² / |x|²"
    part.equals(
        "rotation", title, error, 0.0108, 0.2 * 0.0108, "0.0108 up to 20%: other starts, other images", source=CIFAR
    )
    squared = Trajectories(run.times, run.alphas**2, run.sigmas, run.states, run.denoised)
    wrong, ratios = float(rotation_error(squared).mean()), run.ratios
    curves = [
        line(ratios, rotation_error(each).mean(1)[:-1], name)
        for name, each in (("with α", run), ("with its square, ᾱ", squared))
    ]
    curves.append(line(ratios, outside(run).mean(1)[:-1], "outside the plane"))
    part.chart(
        "How far the states are from a rotation",
        Panel("", "noise level σ/α", "share of |x|²", tuple(curves), x_log=True, y_log=True, y_range=(1e-6, 0.1)),
        how_to_read="The Gaussian of CIFAR-10, mean of ten starts. With ᾱ in the place of α the formula is wrong, "
        "and its error over all levels is smaller all the same.",
    )
    return (
        f"Yes. The rotation is off by {error:.4f} of |x|² on average. With the square of α in its place, as in the "
        f"published check, the error would come out as {wrong:.4f}: smaller, and of another formula."
    )


def claim_shares(part: Part, found: dict[str, Float[Tensor, "batch components"]]) -> None:
    """Shares and dimensions of states, increments and noise predictions."""
    counts = {name: components_for(kind).double() for name, kind in found.items()}
    first, two = found["states"][:, 0].mean(), found["states"][:, :2].sum(1).mean()
    title = "States: share of variance in the first component"
    part.equals(
        "first", title, float(first), 0.981, 2 * 0.006, "0.981 up to two standard deviations of 0.006", source=CIFAR
    )
    title, digits = "States: share in the first two components", "the digits of the source, 0.9996, doubled"
    part.equals("two", title, float(two), 0.9996, 1e-4, digits, source=CIFAR)
    medians = [float(counts[name].median()) for name in ("states", "increments")]
    title = f"Components for 99.9%, median: states {medians[0]:g}, increments {medians[1]:g}; distance from 2 and 4"
    part.equals(
        "dimensions", title, max(abs(medians[0] - 2), abs(medians[1] - 4)), 0, 0.5, "whole numbers", source=CIFAR
    )
    title, room = "Noise predictions: components for 99.9%, mean", 4 * 0.4 * math.sqrt(2 / STARTS)
    because = "4.8 up to four standard errors of the difference of two means of ten, of 0.4 each"
    part.equals("noise-dimension", title, float(counts["noise"].mean()), 4.8, room, because, source=CIFAR)

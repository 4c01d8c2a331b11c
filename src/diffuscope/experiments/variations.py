r"""Variations of one image: pushes along the principal directions of its own trajectory, beside random ones.

The noise predictions of one generation, centered in time, have principal directions v_1, v_2, ... A variation adds
:math:`\pm s v_i` to the latent after step k, in units of a variance-preserving schedule, and finishes the generation.
The source reports that the leading directions give other images of the same kind, random directions change little, and
late pushes change little. All three are measured here as distances of the finished samples, in standard deviations of
the data, and compared with what Gaussian data of the same covariance would give
(`theory.geometry.gaussian_variation`). By that theory a late push of fixed size changes little only along components
whose variance is above 1; the data decide.

The part on MNIST follows a published network, the first that DIFFUSCOPE_NETWORKS names.

Source: Wang & Vastola 2023, *Diffusion Models Generate Images Like Painters*, https://arxiv.org/abs/2303.02490 (with
Stable Diffusion, whose distance is a perceptual one).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Panel, line
from diffuscope.samplers import DDIM, model_times
from diffuscope.theory.geometry import (
    Trajectories,
    distances,
    follow,
    gaussian_variation,
    principal_directions,
    random_directions,
    variations,
)

from .brought_networks import NETWORKS, brought, data_range
from .digit_models import NETWORK, SIDE, digit_models, digit_network
from .experiment import Experiment
from .part import PIXEL_RANGE, Part
from .picture_panels import pictures

STEPS, DIRECTIONS = 30, 4
PUSHED_AFTER = (0, 8, 14, 19, 24)  # steps
DIGITS_FOLLOWED, DIGITS_SIZE = 48, 1.0  # an eighth of the length of noise in 64 dimensions
MNIST_FOLLOWED, MNIST_SIZE, MNIST_EXAMPLES, MNIST_HIGHEST = 5, 5.0, 10_000, 40.0
MONTAGE = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # times the size
ASKED = "a requirement, not derived"
EXPERIMENT = Experiment(
    name="variations",
    title="Variations along an image's own trajectory",
    question="Do the principal directions of a trajectory change the image more than random ones, and when?",
    source="Wang & Vastola 2023, https://arxiv.org/abs/2303.02490",
    seconds=15,
    settings={
        "digits": f"{NETWORK}; DDIM, 30 steps; pushes of 1, an eighth of the length of noise, 48 trajectories",
        "MNIST": f"a published network, brought by {NETWORKS}; pushes of 5, 5 trajectories from at most 40 "
        "standard deviations of the data; Gaussian of 10,000 images",
        "pushes": "after 0, 8, 14, 19 and 24 steps, along 4 directions; pictures of −4, −2, −1, 0, 1, 2, 4 times their "
        "size",
    },
    notes=(
        f"The part on MNIST needs the data set and a network trained on it, the first that {NETWORKS} names as "
        "module:object: a denoiser or a function that returns one, as published_networks.flow_transformer:denoiser of "
        "docs/examples. Without them the part says so and claims nothing.",
    ),
)


@dataclass(frozen=True, eq=False)
class Moved:
    """Distances from the unperturbed sample, measured and of Gaussian data, after each of PUSHED_AFTER."""

    run: Trajectories
    scale: float
    principal: Float[Tensor, "steps samples directions"]
    random: Float[Tensor, "steps samples directions"]
    expected: Float[Tensor, "steps samples directions"]  # of the principal directions
    expected_random: Float[Tensor, "steps samples directions"]

    def over_random(self, step: int) -> float:
        """Distance by principal directions over that by random ones, of geometric means."""
        return float((self.principal[step].log().mean() - self.random[step].log().mean()).exp())

    def over_first(self, kind: Float[Tensor, "steps samples directions"]) -> float:
        """Distance by the last push over that by the first, geometric mean."""
        return float((kind[-1] / kind[0]).log().mean().exp())


def moved(
    denoiser: Denoiser, gaussian: Gaussian, x_start: Tensor, times: Tensor, size: float, generator: torch.Generator
) -> Moved:
    """Follow the starts, and push each along its own principal directions and along random ones."""
    run, shape = follow(denoiser, DDIM(), x_start, times), tuple(x_start.shape[1:])
    scale = math.sqrt(gaussian.trace / gaussian.dimension)
    directions = [
        torch.cat(
            [
                principal_directions(run.noise[:, which], DIRECTIONS),
                random_directions(DIRECTIONS, shape, generator=generator),
            ]
        )
        for which in range(len(x_start))
    ]
    rows: list[list[Tensor]] = []
    for step in PUSHED_AFTER:
        for which, both in enumerate(directions):
            pushed = variations(denoiser, DDIM(), run, both, size=size, step=step, which=which)
            shift = gaussian_variation(gaussian, denoiser.schedule, run.times[step], both, size)
            far, linear = distances(pushed, run.samples[which]), shift.flatten(1).square().mean(1).sqrt()
            rows.append([*far.split(DIRECTIONS), *linear.split(DIRECTIONS)])
    table = torch.stack([torch.stack(row) for row in rows]).reshape(len(PUSHED_AFTER), -1, 4, DIRECTIONS) / scale
    principal, random, expected, expected_random = table.unbind(2)
    return Moved(run, scale, principal, random, expected, expected_random)


@EXPERIMENT.part("What do pushes do to the digits of a small network?")
def digits(part: Part) -> str:
    """Principal against random directions, early and late, and the Gaussian's prediction."""
    models, network = digit_models(part.seed), digit_network(part.seed)
    times = model_times(network, STEPS, low=0.02 * models.scale)
    noise = torch.randn(DIGITS_FOLLOWED, SIDE**2, dtype=torch.float64, generator=part.generator)
    x = float(times[0]) * noise
    found = moved(network, models.gaussian, x, times, DIGITS_SIZE, part.generator)
    title = "Digits: distance by early pushes along principal directions over that along random ones"
    part.at_least(
        "digits-principal", title, found.over_random(0), 1.2, "1: no better than random; 1.2: better", source=ASKED
    )
    title = "The same pushes over what Gaussian data would give"
    linear = float((found.principal[0] / found.expected[0]).log().mean().exp())
    part.equals("digits-predicted", title, linear, 1.0, 0.3, "0.3, as the network is not Gaussian", source=ASKED)
    title = "Late over early pushes along random directions: as Gaussian data say, more and not less"
    late, of_gaussian = found.over_first(found.random), found.over_first(found.expected_random)
    part.at_least("digits-late", title, late, 1.0, f"Gaussian data: {of_gaussian:.2f}; most variances are below 1")
    show(part, "digits", network, found, DIGITS_SIZE, SIDE, PIXEL_RANGE)
    return (
        f"Principal directions move an image {found.over_random(0):.2f} times as far as random ones when pushed "
        "early; in 64 dimensions random directions meet the data too. Along random directions a late push moves it "
        f"{late:.2f} times as far as an early one of the same size, because most components of these data have "
        "variances below 1. That late pushes change little is not true of all data."
    )


@EXPERIMENT.part("And to those of a published network?")
def mnist(part: Part) -> str:
    """The same on MNIST; without a network the reason, and no claims."""
    try:
        denoiser, data = published()
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    gaussian = Gaussian.fit([data.train[:MNIST_EXAMPLES]])
    scale = math.sqrt(gaussian.trace / gaussian.dimension)
    highest = min(MNIST_HIGHEST * scale, float(denoiser.schedule.noise_to_signal(denoiser.schedule.t_max)))
    times = model_times(denoiser, STEPS, high=highest, low=0.02 * scale)
    schedule, shape = denoiser.schedule, data.event_shape
    clean = data.heldout[:MNIST_FOLLOWED]
    noise = torch.randn(MNIST_FOLLOWED, *shape, generator=part.generator)
    x = float(schedule.alpha(times[0])) * clean.mean(0) + float(schedule.sigma(times[0])) * noise
    found = moved(denoiser, gaussian, x, times, MNIST_SIZE, part.generator)
    title = "MNIST: distance by early pushes along principal directions over that along random ones"
    part.at_least(
        "mnist-principal", title, found.over_random(0), 1.5, "1: no better than random; 1.5: better", source=ASKED
    )
    title = "Late over early pushes along principal directions"
    late = found.over_first(found.principal)
    part.at_most("mnist-late", title, late, 1.0, "late pushes change less", source=ASKED)
    show(part, "MNIST", denoiser, found, MNIST_SIZE, shape[-1], data.data_range)
    ratio = float((found.principal[0] / found.expected[0]).log().mean().exp())
    return (
        f"Principal directions move an image {found.over_random(0):.1f} times as far as random ones, and late pushes "
        f"{late:.2f} times as far as early ones. Early pushes move it {ratio:.1f} times as far as Gaussian data would "
        "move: they choose another digit."
    )


def published() -> tuple[Denoiser, DataSet]:
    """The first denoiser that DIFFUSCOPE_NETWORKS names, and MNIST in its range; InputError where one is missing."""
    name, denoiser = next(iter(brought().items()))
    data = load_data("mnist").in_range(*data_range(denoiser))
    shape = tuple(getattr(denoiser, "event_shape", data.event_shape))
    if shape != data.event_shape:
        raise InputError(f"{NETWORKS}: expected denoisers of shape {data.event_shape}, got {shape} of {name}")
    return denoiser, data


def show(
    part: Part, name: str, denoiser: Denoiser, found: Moved, size: float, side: int, data_range: tuple[float, float]
) -> None:
    """The distances by the time of the push, and montages of the first trajectory early and late."""
    levels = found.run.ratios[list(PUSHED_AFTER)]
    kinds = {
        "principal": (found.principal, found.expected),
        "random": (found.random, found.expected_random),
    }
    curves = []
    for label, (measured, linear) in kinds.items():
        curves.append(line(levels, measured.mean((1, 2)), label))
        curves.append(line(levels, linear.mean((1, 2)), f"{label}, Gaussian data", style="dotted"))
    part.chart(
        f"How far pushes move the sample, {name}",
        Panel("", "noise level σ/α of the push", "distance / standard deviation", tuple(curves), x_log=True),
        how_to_read=f"Pushes of {size:g} in units of a variance-preserving schedule; generation runs right to left.",
    )
    shape = tuple(found.run.states.shape[2:])
    directions = torch.cat(
        [principal_directions(found.run.noise[:, 0], DIRECTIONS), random_directions(2, shape, generator=part.generator)]
    )
    part.chart(
        f"Variations of one sample, {name}",
        *(
            montage(
                f"pushed at σ/α = {float(found.run.ratios[step]):.2g}",
                torch.stack(
                    [
                        variations(denoiser, DDIM(), found.run, factor * directions, size=size, step=step)
                        for factor in MONTAGE
                    ],
                    dim=1,
                ).reshape(-1, side, side),
                data_range,
            )
            for step in (PUSHED_AFTER[0], PUSHED_AFTER[-2])
        ),
        how_to_read="Rows: the four leading directions of its trajectory, then two random ones. Columns: pushes of "
        f"{', '.join(f'{factor * size:g}' for factor in MONTAGE)}; the middle one is the sample itself.",
    )


def montage(title: str, images: Float[Tensor, "n h w"], data_range: tuple[float, float]) -> Panel:
    """Images in rows of len(MONTAGE), with gaps between them; large ones at half the resolution."""
    shown = torch.nn.functional.avg_pool2d(images[:, None], 2)[:, 0] if images.shape[1] > 2 * SIDE else images
    return pictures(title, shown.unflatten(0, (-1, len(MONTAGE))), data_range)

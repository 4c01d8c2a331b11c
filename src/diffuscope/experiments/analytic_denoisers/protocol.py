r"""One protocol for all analytic denoisers: their agreement with a network at every noise level, image by image.

With D the network's output and D_m that of a method, both at the same noised image, of d values in units in which data
fill [-1, 1],

.. math::
    \mathrm{MSE} = \frac{|D - D_m|^2}{d}, \qquad
    r^2 = 1 - \frac{|D - D_m|^2}{|D - \bar D|^2}, \qquad
    \cos = \frac{\langle D - \mu, D_m - \mu\rangle}{|D - \mu||D_m - \mu|},

where :math:`\bar D` is the mean over the values of that one output, as in the sources, and mu the mean of the data.
Tables have the mean of the MSE and of the cosine and the median of r2 over images. What a method leaves open (the size
k of a patch, at each level) is chosen on other held-out images, by the largest median r2. Intervals are those of 1,000
resamples. An output whose distance from mu is at most 1e-6 of the length of mu has no direction.

Sources: Kamb & Ganguli 2024, https://arxiv.org/abs/2412.20292; Lukoianov et al. 2025, https://arxiv.org/abs/2509.09672.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.findings import percentile_interval
from diffuscope.progress import progress_bar
from diffuscope.samplers import times_at

RESAMPLES = 1000
ROUNDING = 1e-6  # of a float32 answer, as a share of its length
Choice = float | int
Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Point:
    """Noised images at one level, sigma/alpha for data in [-1, 1], and the network's answers."""

    level: float
    t: Tensor
    x_t: Batch
    answer: Batch


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, training images in its range, and what it answers at held-out images: to choose by, and to report."""

    name: str
    network: Denoiser
    train: Float[Tensor, "n *event"]
    unit: float  # half the width of the network's range
    chosen_at: Sequence[Point]
    reported_at: Sequence[Point]


@dataclass(frozen=True)
class Method:
    """A denoiser of a subject for each of the `choices`, and how many of the reported images it is measured at."""

    name: str
    build: Callable[[Subject, Choice], Denoiser]
    choices: tuple[Choice, ...] = (0,)
    images: int | None = None
    like: str = ""  # takes the choices of this method


@dataclass(frozen=True, eq=False)
class Measured:
    """One method against one network: levels along the first axis, images along the second."""

    method: Method
    choices: tuple[Choice, ...]
    error: Float[Tensor, "levels n"]
    r2: Float[Tensor, "levels n"]
    cosine: Float[Tensor, "levels n"]
    seconds: Float[Tensor, " levels"]  # of processor time per image

    def median_r2(self, rng: np.random.Generator) -> Triple:
        """Over images and levels, with the 95% interval over images."""
        return bootstrapped(self.r2, np.median, rng)

    def mse(self, rng: np.random.Generator) -> Triple:
        """Over images and levels, with the 95% interval over images."""
        return bootstrapped(self.error, np.mean, rng)


def subject(
    name: str,
    network: Denoiser,
    train: Float[Tensor, "n *event"],
    clean: tuple[Tensor, Tensor],
    levels: Sequence[float],
    unit: float,
    generator: torch.Generator,
) -> Subject:
    """The network at both sets of clean held-out images, noised to its times nearest to `levels`."""
    chosen, reported = ([_point(network, images, level, unit, generator) for level in levels] for images in clean)
    return Subject(name, network, train, unit, chosen, reported)


def _point(network: Denoiser, clean: Batch, level: float, unit: float, generator: torch.Generator) -> Point:
    t = times_at(network, torch.tensor([level * unit], dtype=torch.float64))[0]
    alpha, sigma = float(network.schedule.alpha(t)), float(network.schedule.sigma(t))
    x_t = alpha * clean + sigma * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    with torch.no_grad():
        return Point(sigma / alpha / unit, t, x_t, network(x_t, t))


def compared(of: Subject, methods: Sequence[Method]) -> dict[str, Measured]:
    """Every method at every level; shows the progress."""
    found: dict[str, Measured] = {}
    for method in progress_bar(methods, desc=of.name, unit="method", leave=False):
        chosen = found[method.like].choices if method.like else _choices(of, method)
        found[method.name] = _measured(of, method, chosen)
    return found


def _choices(of: Subject, method: Method) -> tuple[Choice, ...]:
    if len(method.choices) == 1:
        return method.choices * len(of.chosen_at)
    medians = []
    for choice in method.choices:
        denoiser = method.build(of, choice)
        medians.append([agreement(of, at, denoiser(at.x_t, at.t))[1].quantile(0.5) for at in of.chosen_at])
    best = torch.tensor(medians).argmax(0).tolist()
    return tuple(method.choices[k] for k in best)


def _measured(of: Subject, method: Method, chosen: tuple[Choice, ...]) -> Measured:
    rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    seconds = torch.zeros(len(chosen), dtype=torch.float64)
    for choice in set(chosen):
        denoiser = method.build(of, choice)
        for k, at in enumerate(of.reported_at):
            if chosen[k] != choice:
                continue
            x_t = at.x_t[: method.images]
            start = time.process_time()
            answer = denoiser(x_t, at.t)
            seconds[k] = (time.process_time() - start) / len(x_t)
            rows[k] = agreement(of, at, answer)
    error, r2, cosine = (torch.stack(column) for column in zip(*(rows[k] for k in sorted(rows)), strict=True))
    return Measured(method, chosen, error, r2, cosine, seconds)


def agreement(of: Subject, at: Point, answer: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """MSE, r2 and cosine of the first answers with the network's, image by image."""
    D, D_m = (rows[: len(answer)].double().flatten(1) for rows in (at.answer, answer))
    mu = of.train.flatten(1).mean(0, dtype=torch.float64)
    gap = (D - D_m).square().sum(1)
    r2 = 1 - gap / (D - D.mean(1, keepdim=True)).square().sum(1)
    lengths = (D - mu).norm(dim=1) * (D_m - mu).norm(dim=1)
    flat = (D_m - mu).norm(dim=1) <= ROUNDING * mu.norm()  # mu itself, which has no direction
    cosine = torch.where(flat, 0.0, ((D - mu) * (D_m - mu)).sum(1) / lengths)
    return gap / D.shape[1] / of.unit**2, r2, cosine


def bootstrapped(
    values: Float[Tensor, "levels n"], statistic: Callable[..., np.ndarray], rng: np.random.Generator
) -> Triple:
    """A statistic over levels and images, and its 95% percentile interval over images."""
    low, high = percentile_interval(resampled(values, statistic, rng))
    return float(statistic(values.numpy())), float(low), float(high)


def resampled(
    values: Float[Tensor, "levels n"], statistic: Callable[..., np.ndarray], rng: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    """The statistic of images drawn with replacement, the same for all levels."""
    drawn = rng.integers(values.shape[1], size=(RESAMPLES, values.shape[1]))
    return statistic(values.numpy()[:, drawn], axis=(0, 2))


def difference(first: Measured, second: Measured, rng: np.random.Generator) -> Triple:
    """Median r2 of the first less that of the second, at the images that both have, with its 95% interval."""
    n = min(first.r2.shape[1], second.r2.shape[1])
    both = torch.stack([first.r2[:, :n], second.r2[:, :n]])
    drawn = rng.integers(n, size=(RESAMPLES, n))
    medians = np.median(both.numpy()[:, :, drawn], axis=(1, 3))
    low, high = percentile_interval(medians[0] - medians[1])
    value = np.median(both.numpy(), axis=(1, 2))
    return float(value[0] - value[1]), float(low), float(high)

r"""Samples from a model in one call: start noise, a grid of times the model was trained on, a sampler, a last denoise.

.. math::
    x_T = \sigma_T\,\varepsilon \ \ (\text{or } \alpha_T x_0 + \sigma_T\varepsilon,\ x_0 \sim \text{start}), \qquad
    x_T \to \dots \to x_{t_{\min}} \text{ by the sampler}, \qquad x = D(x_{t_{\min}}, t_{\min}) .

The last evaluation removes the remaining noise at the lowest level; a network is not trained at sigma = 0, where a last
step would end. NFE = steps x NFE per step + 1, and twice that with guidance.

A model that declares `one_step = True` (a consistency model, a distilled generator) is no denoiser of the states in
between: its sample is :math:`D(\sigma_T\varepsilon, T)` at the highest level of its schedule, one evaluation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import (
    Batch,
    BatchTime,
    Checked,
    ConditionalDenoiser,
    Denoiser,
    Guided,
    OfClass,
    classes_of,
    device_of,
    nearest_trained_time,
    require_shape_and_range,
)
from diffuscope.distributed import sharers
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.memory import require_memory
from diffuscope.progress import progress_bar
from diffuscope.schedules import Schedule, as_time
from diffuscope.shared_work import shared_rows, shared_tensors
from diffuscope.streams import require_seed

from .contract import Sampler, sample
from .dpm_solver import DPMSolverPP2M

LOWEST, HIGHEST = 1e-3, 160.0  # sigma/alpha where a model's own range goes beyond it
RHO = 7.0  # steps are equal in (sigma/alpha)^(1/7) (Karras et al. 2022)
BATCH = 256


def generate(
    denoiser: Denoiser,
    n: int,
    *,
    sampler: Sampler | None = None,
    steps: int = 20,
    seed: int = 0,
    classes: Sequence[int] = (),
    guidance: float | int = 1.0,
    start: Distribution | None = None,
    event_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int = BATCH,
    progress: bool = False,
) -> Batch:
    """`n` samples of the model: shape (n, *event), on its device; DPM-Solver++(2M) unless a `sampler` is given.

    A one-step model is called once per sample: `sampler` and `steps` mean nothing to it.

    Class labels cycle over the samples, with classifier-free `guidance` (1 = none). With `start`, the first states are
    draws from that distribution noised to the highest level instead of pure noise. The start noise of all samples is
    drawn at once, so a deterministic sampler's result does not depend on `batch_size`.
    Raises InputError for n or steps below 1, for a model without `event_shape` (unless it is given), for classes that
    the model does not have, for guidance without classes, for a Gaussian start, or the Gaussian of a `Teleported`
    sampler, of another shape or range than the model's, and for samples that are not finite.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, generate
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.5, -0.5]), 0.0), VE())  # whose only sample is a point
    >>> generate(point, 3, steps=5, event_shape=(2,))
    tensor([[ 1.5000, -0.5000],
            [ 1.5000, -0.5000],
            [ 1.5000, -0.5000]])
    """
    if n < 1:
        raise InputError(f"n: expected at least 1 sample, got {n}")
    require_seed(seed)
    if not math.isfinite(guidance):
        raise InputError(f"guidance: expected a finite number, got {guidance}")
    if guidance != 1 and not classes:
        raise InputError(f"guidance: expected classes with it, got {guidance:g} and no class")
    shape = getattr(denoiser, "event_shape", None) if event_shape is None else event_shape
    if shape is None:
        raise InputError("event_shape: expected the shape of one sample, as the model has no .event_shape; got None")
    for gaussian in (start, getattr(sampler, "gaussian", None)):
        if isinstance(gaussian, Gaussian):
            require_shape_and_range(gaussian, denoiser)
    require_memory(12.0 * n * math.prod(shape), "n", f"{n:,} samples of shape {tuple(shape)}")
    sampler = DPMSolverPP2M() if sampler is None else sampler
    schedule = denoiser.schedule
    times = as_time(schedule.t_max)[None] if is_one_step(denoiser) else model_times(denoiser, steps)
    generator = torch.Generator().manual_seed(seed)
    x_start = float(schedule.sigma(times[0])) * torch.randn(n, *shape, dtype=dtype, generator=generator)
    if start is not None:
        x_start += float(schedule.alpha(times[0])) * start.sample(n, generator=generator).to(x_start)
    x_start = x_start.to(device_of(denoiser))
    batches, together = torch.arange(n).split(batch_size), sharers()
    noises = [generator] * len(batches)
    if together > 1 and sampler.stochastic:
        noises = _before_each(generator, sampler, schedule, [x_start[index] for index in batches], times)
    with progress_bar(desc="sampling", unit="batch", total=len(batches), disable=not progress) as bar:

        def draw(index: Tensor, noise: torch.Generator) -> Batch:
            model = conditioned(denoiser, cycled(classes, index), guidance)
            drawn = finish(model, sampler, x_start[index], times, noise=noise, batch_size=batch_size)
            bar.update(min(together, len(batches) - bar.n))
            return drawn

        pieces = [partial(draw, index, noise) for index, noise in zip(batches, noises, strict=True)]
        return torch.cat(shared_tensors(pieces, x_start.device))


@torch.no_grad()
def finish(
    denoiser: Denoiser,
    sampler: Sampler,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    noise: torch.Generator | None = None,
    batch_size: int = BATCH,
) -> Batch:
    """Samples from states at `times[0]`: the sampler over `times`, in batches, and a denoise at the last time.

    Where processes share their work, they share the batches of a sampler without `noise`.
    Raises InputError for samples that are not finite, and for a model whose answers are of another shape or dtype.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import finish
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # D = x / (1 + t^2)
    >>> x = finish(normal, DDIM(), torch.tensor([[40.0]]), torch.tensor([3.0, 1.0]))
    >>> round(float(x), 4)  # D = 4 and 4 + 36 / 3 = 16 at t = 1, and then D = 16 / 2
    8.0
    """
    checked, device = Checked(denoiser), device_of(denoiser)

    def finished_part(part: Batch) -> Batch:
        there = part if device.type == "cpu" else part.to(device)
        return checked(sample(sampler, checked, there, times, noise=noise), times[-1]).to(part.device)

    if noise is None:
        finished = shared_rows(finished_part, x_start, batch_size)
    else:
        finished = torch.cat([finished_part(part) for part in x_start.split(batch_size)])
    if not bool(torch.isfinite(finished).all()):
        raise InputError(f"model: expected finite samples, got NaN or infinity from {len(times) - 1} steps")
    return finished


@dataclass(frozen=True)
class _Free:
    """A denoiser that costs nothing."""

    schedule: Schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        del t
        return x_t


def _before_each(
    noise: torch.Generator, sampler: Sampler, schedule: Schedule, parts: list[Batch], times: Float[Tensor, " times"]
) -> list[torch.Generator]:
    """The generator as it is before each part, if one process draws all: the numbers drawn do not depend on answers."""
    before = []
    for part in parts:
        before.append(torch.Generator(noise.device).set_state(noise.get_state()))
        sample(sampler, _Free(schedule), part, times, noise=noise)
    return before


def model_times(
    denoiser: Denoiser, steps: int, *, high: float | None = None, low: float | None = None
) -> Float[Tensor, " times"]:
    """At most `steps` steps from sigma/alpha = `high` to `low`, at times the model was trained on, decreasing.

    By default the ends are those of the model's schedule, within 1e-3 .. 160. Steps are equal in (sigma/alpha)^(1/7);
    for a model with a table of times there are fewer where two fall on one entry.
    Raises InputError for fewer than 1 step, and unless low < high.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import model_times
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())
    >>> [round(t, 4) for t in model_times(model, 2, high=128.0, low=1.0).tolist()]  # 2^7, 1.5^7, 1^7
    [128.0, 17.0859, 1.0]
    """
    schedule = denoiser.schedule
    low = max(LOWEST, float(schedule.noise_to_signal(schedule.t_min))) if low is None else low
    high = min(HIGHEST, float(schedule.noise_to_signal(schedule.t_max))) if high is None else high
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    if not low < high:
        raise InputError(f"low: expected a noise level below the highest, {high:g}, got {low:g}")
    ratios = torch.linspace(high ** (1 / RHO), low ** (1 / RHO), steps + 1, dtype=torch.float64) ** RHO
    return times_at(denoiser, ratios)


def is_one_step(denoiser: Denoiser) -> bool:
    """Whether the model declares that one call at its highest noise level is its sample, by `one_step = True`.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import is_one_step
    >>> class Distilled(ExactDenoiser):
    ...     one_step = True
    >>> normal = Gaussian.isotropic(torch.zeros(1), 1.0)
    >>> is_one_step(Distilled(normal, VE())), is_one_step(ExactDenoiser(normal, VE()))
    (True, False)
    """
    return getattr(denoiser, "one_step", False) is True


def times_at(denoiser: Denoiser, ratios: Float[Tensor, " levels"]) -> Float[Tensor, " times"]:
    """The times the model was trained on that are nearest to decreasing sigma/alpha = `ratios`, without duplicates.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import times_at
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), RectifiedFlow())
    >>> [round(t, 9) for t in times_at(model, torch.tensor([3.0, 1.0, 1.0])).tolist()]  # r / (1 + r)
    [0.75, 0.5]
    """
    return torch.unique_consecutive(nearest_trained_time(denoiser, denoiser.schedule.time_of_noise_to_signal(ratios)))


def cycled(classes: Sequence[int], index: Tensor) -> Tensor | None:
    """The class labels of the samples at `index`, with `classes` cycled over the samples; None without classes.

    >>> import torch
    >>> from diffuscope.samplers import cycled
    >>> cycled((7, 3), torch.tensor([2, 3, 4, 5])), cycled((), torch.tensor([2, 3]))
    (tensor([7, 3, 7, 3]), None)
    """
    return torch.tensor(tuple(classes))[index % len(classes)] if classes else None


def conditioned(denoiser: Denoiser, y: Tensor | None, guidance: float | int = 1.0) -> Denoiser:
    """`denoiser` for samples of the classes `y`, with classifier-free guidance; itself where y is None.

    Raises InputError for a model without classes and for a class that it does not have.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.samplers import conditioned
    >>> class Points:  # class y is the point y + 5, and no class the point 1
    ...     schedule, classes = VE(), 3
    ...     def __call__(self, x_t, t, y=None):
    ...         return torch.zeros_like(x_t) + (1 if y is None else y[:, None] + 5)
    >>> conditioned(Points(), torch.tensor([2, 0]), guidance=3.0)(torch.zeros(2, 1), 1.0).tolist()  # 1 + 3 (y + 4)
    [[19.0], [13.0]]
    """
    if y is None:
        return denoiser
    known = classes_of(denoiser)
    if not isinstance(denoiser, ConditionalDenoiser) or known < 1:
        raise InputError("classes: expected a model trained with classes, got one without")
    if not bool(((y >= 0) & (y < known)).all()):
        given = ", ".join(map(str, y.unique().tolist()))
        raise InputError(f"classes: expected classes 0 .. {known - 1}, got {given}")
    conditional = OfClass(denoiser, y)
    return conditional if guidance == 1 else Guided(conditional, denoiser, guidance)

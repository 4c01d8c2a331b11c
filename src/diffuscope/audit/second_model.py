r"""A second model, trained on other examples of the same distribution, read in the units of the first.

A model of data :math:`y = c x + b` and of another schedule answers for the first one's state
:math:`x_t = \alpha (x_0 + \rho\varepsilon)` at its own time of ratio :math:`c\rho`, where
:math:`y_t = \alpha' (c x_0 + b + c\rho\varepsilon)`:

.. math::
    D(x_t) = \frac{D'(k x_t + \alpha' b) - b}{c}, \qquad
    k = \sqrt{\frac{c^2\alpha'^2 + \sigma'^2}{\alpha^2 + \sigma^2}},

finite also at alpha = 0. A model with a table of times is asked at the nearest one; `mismatch` is by how much its noise
level is then off.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.denoisers import (
    Batch,
    BatchTime,
    Denoiser,
    Guided,
    OfClass,
    classes_of,
    nearest_trained_time,
    over_events,
    require_batch,
)
from diffuscope.errors import InputError
from diffuscope.samplers import is_one_step
from diffuscope.schedules import Schedule

from .rows_of import nearest_rows, rows_of
from .subject import Levels, Subject, evaluate, levels_at, require_examples

PROBES = 4
SEARCHED = 1000  # examples of either set in the search for repeats that rounding changed
ROUNDED = 0.01  # of the distance between neighbors
ROUNDING = 1e-6  # of a ratio sigma/alpha at the ends of a range


@dataclass(frozen=True, eq=False)
class SecondModel:
    """A denoiser of the same distribution, and its training data in the first model's range where they are known.

    It goes to `audit_model`; a model of other data is refused before any work:

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, audit_model
    >>> from diffuscope.audit import SecondModel, Subject
    >>> two, three = (ExactDenoiser(Gaussian.isotropic(torch.zeros(d), 1.0), VE()) for d in (2, 3))
    >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    >>> audit_model(Subject(two, x[:30], x[30:]), second_model=SecondModel(two, train=x[:5]))
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: second_data: expected at least 20 examples, got 5
    """

    denoiser: Denoiser
    train: Float[Tensor, "n *event"] | None = field(default=None, repr=False)
    name: str = "the second model"


@dataclass(frozen=True, eq=False)
class Translated:
    """`denoiser`, whose data are scale x + shift, as a denoiser of x under `schedule`."""

    denoiser: Denoiser
    schedule: Schedule
    scale: float = 1.0
    shift: float = 0.0

    def time(self, t: BatchTime) -> Tensor:
        """Its own time of the same noise level, the nearest that it was trained at."""
        if self.scale == 1 and self.denoiser.schedule == self.schedule:
            return nearest_trained_time(self.denoiser, t)  # without the round trip through lambda
        own = self.denoiser.schedule.time_of_lambda(self.schedule.lam(t) - math.log(self.scale))
        return nearest_trained_time(self.denoiser, own)

    def mismatch(self, t: BatchTime) -> Tensor:
        """The factor by which its noise level at `t` is off, above or below; 1 is exact."""
        off = self.schedule.lam(t) - math.log(self.scale) - self.denoiser.schedule.lam(self.time(t))
        return off.abs().exp()

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        own, time = self.denoiser.schedule, self.time(t)
        outer = torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t))
        k = torch.hypot(self.scale * own.alpha(time), own.sigma(time)) / outer
        y_t = x_t * over_events(k, x_t) + over_events(self.shift * own.alpha(time), x_t)
        return (require_batch(self.denoiser(y_t, time), y_t) - self.shift) / self.scale


def translated(second: Denoiser, first: Denoiser) -> Translated:
    """The second model in the range and under the schedule of the first; equal ones change nothing."""
    if not (hasattr(first, "data_range") and hasattr(second, "data_range")):
        return Translated(second, first.schedule)
    (low, high), (other_low, other_high) = (map(float, model.data_range) for model in (first, second))  # pyright: ignore
    scale = (other_high - other_low) / (high - low)
    return Translated(second, first.schedule, scale, other_low - scale * low)


def shared_levels(second: Translated, levels: Levels) -> Bool[Tensor, " levels"]:
    """Which of the levels lie within the second model's range."""
    own, ratios = second.denoiser.schedule, second.scale * levels.ratios
    low, high = (float(own.noise_to_signal(t)) for t in (own.t_min, own.t_max))
    return (ratios >= low * (1 - ROUNDING)) & (ratios <= high * (1 + ROUNDING))


def require_second(second: SecondModel, subject: Subject) -> None:
    """Raises InputError, in one line, for what cannot be the second model of an audit of `subject`.

    It is asked once, so that a model that gives no answers is refused before any work.
    """
    first, other, shape = subject.denoiser, second.denoiser, tuple(subject.train.shape[1:])
    if not subject.has_model or is_one_step(first):
        raise InputError("second_model: expected a denoiser as the first model, got none or a one-step map")
    if not isinstance(other, Denoiser) or not isinstance(getattr(other, "schedule", None), Schedule):
        raise InputError(f"second_model: expected a denoiser with a schedule, got {type(other).__name__}")
    if is_one_step(other):
        raise InputError("second_model: expected a denoiser, got a one-step map")
    own = tuple(getattr(other, "event_shape", shape))
    if own != shape:
        raise InputError(f"second_model: expected a model of examples of shape {shape}, got one of {own}")
    if isinstance(other, Guided) and other.scale != 1:
        raise InputError(
            f"second_model: expected a model without guidance, the denoiser of data, got one of scale {other.scale:g}"
        )
    classes = classes_of(first), classes_of(other)
    if (_is_of_class(first) and classes[1]) or (_is_of_class(other) and classes[0]):
        raise InputError(
            "second_model: expected both models asked of a class or neither, got one that is and one with "
            f"{max(classes)} classes that is asked of none"
        )
    if all(classes) and classes[0] != classes[1]:
        raise InputError(f"second_model: expected {classes[0]} classes as the first model has, got {classes[1]}")
    if second.train is not None:
        require_examples("second_data", second.train)
        if tuple(second.train.shape[1:]) != shape:
            raise InputError(
                f"second_data: expected examples of shape {shape} as in train, got {tuple(second.train.shape[1:])}"
            )
    asked = translated(other, first)
    levels = levels_at(first, torch.tensor([subject.scale], dtype=torch.float64))
    if bool(shared_levels(asked, levels).all()):
        with named_second():
            t = float(levels.times[0])
            evaluate(asked, float(first.schedule.alpha(t)) * subject.train[:PROBES], t)


def _is_of_class(model: Denoiser) -> bool:
    inner = model.conditional if isinstance(model, Guided) else model
    return isinstance(inner, OfClass) and inner.y is not None


@contextmanager
def named_second() -> Iterator[None]:
    """An InputError about "model" is one about "second_model"."""
    try:
        yield
    except InputError as error:
        if not str(error).startswith("model:"):
            raise
        raise InputError(f"second_{error}") from error


def shared_examples(first: Float[Tensor, "n *event"], other: Float[Tensor, "m *event"]) -> int:
    """How many of `other` are also in `first`, bit for bit."""
    known = set(_digests(first))
    return sum(digest in known for digest in _digests(other))


def _digests(x: Float[Tensor, "n *event"]) -> Iterator[bytes]:
    """What stands for the float32 values of every example."""
    rows = (row for part in float_parts(x) for row in part.float().cpu())
    return (hashlib.blake2b(row.contiguous().numpy().data, digest_size=16).digest() for row in rows)


def nearly_shared(
    first: Float[Tensor, "n *event"], other: Float[Tensor, "m *event"], generator: torch.Generator
) -> float:
    """The share of `other` (of SEARCHED random ones) that are in `first` up to rounding.

    That is nearer to an example of `first` than 1% of the median distance between neighbors there; 0 where most of
    these are repeated exactly.
    """
    first, other = first.float(), other.float()
    some, rest = (x[torch.randperm(len(x), generator=generator)[:SEARCHED]] for x in (first, other))
    between = nearest_rows(some.flatten(1), rows_of(first), 2)[0][:, 1].median()
    return float((nearest_rows(rest.flatten(1), rows_of(first), 1)[0][:, 0] < ROUNDED * between).double().mean())


def as_second(second: "SecondModel | Denoiser | None") -> SecondModel | None:
    """A bare denoiser as a second model of unknown data."""
    return second if second is None or isinstance(second, SecondModel) else SecondModel(second)

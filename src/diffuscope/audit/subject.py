"""The audited model and data, the settings, the noise levels, and calls of the network.

Noise levels are ratios sigma/alpha, which mean the same under every schedule. They are spaced geometrically between
LOWEST and HIGHEST times the standard deviation s of a coordinate of the data, within the range of the model's training:
below them every denoiser returns its input, above them the mean of the data.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.by_parts import mean_and_variance
from diffuscope.byte_examples import float_parts
from diffuscope.data import Canaries, DataSet, Table
from diffuscope.denoisers import Batch, Denoiser, loaded_weights, require_batch
from diffuscope.errors import InputError, NotFiniteError
from diffuscope.samplers import times_at
from diffuscope.schedules import Schedule
from diffuscope.shared_work import shared_rows
from diffuscope.streams import require_seed

from .class_data import OneClass
from .no_model import NoModel
from .originals import Originals
from .transformations import NAMES, transformations

LOWEST, HIGHEST = 0.03, 100.0
EVALUATION_BATCH = 256
FEWEST = 20  # examples, samples
FEATURES = ("pixels", "pca", "patches", "clusters", "classifier")
COUNTS = {
    "levels": (4, 1000),
    "points": (8, 10**7),
    "trajectories": (8, 10**6),
    "generated": (FEWEST, 10**7),
    "components": (1, 1000),
    "references": (FEWEST, 10**9),
    "step_seeds": (8, 10**6),
    "consistency_steps": (1, 1000),
}


@dataclass(frozen=True)
class Settings:
    """Effort of the audit; the defaults take about two minutes for 8 x 8 digits on two cores.

    Example:
        Raises InputError, naming the setting, for a value outside its range.

        >>> from diffuscope.audit import Settings
        >>> Settings(generated=500, features=("pixels", "pca")).false_discovery
        0.05
        >>> Settings(levels=3)
        Traceback (most recent call last):
            ...
        diffuscope.errors.InputError: levels: expected a whole number from 4 to 1,000, got 3
    """

    levels: int = 16  # Number of noise levels
    points: int = 512  # Training examples, and equally many held-out ones, per noise level
    trajectories: int = 256  # Number of the model's own trajectories
    generated: int = 1000  # Number of generated samples searched for copies
    components: int = 10  # Components of the Gaussian mixture
    references: int = 10_000  # Largest number of held-out examples that calibrate the search for copies
    step_seeds: int = 128  # Number of trajectories for the error of few steps
    features: tuple[str, ...] = ("pixels",)  # For distances: pixels, pca, patches, clusters, classifier, module:object
    transformations: tuple[str, ...] = NAMES  # Changes that copies may have: these, module:function, or none alone
    examples: bool = True  # Show training and held-out images in the report
    false_discovery: float = 0.05  # Expected share of false entries in the list of copies
    significance: float = 0.01  # Significance level of the tests
    skip_tolerance: float = 0.05  # Largest teleport error, in standard deviations of the data
    seed: int = 0  # Random seed
    sampler: str = ""  # The model's own sampler, module:callable; by default Heun's method makes the samples
    delta: float = 1e-5  # Delta of the lower bound of epsilon, which needs canaries
    consistency_steps: int = 1  # Calls per sample of a one-step model, with fresh noise in between
    diagnostics: bool = False  # Also test whether the model is the score of one diffusing density

    def __post_init__(self) -> None:
        for name, (least, most) in COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or not least <= int(value) <= most:
                raise InputError(f"{name}: expected a whole number from {least:,} to {most:,}, got {value}")
        require_seed(self.seed)
        for name in ("false_discovery", "significance"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: expected a number between 0 and 1, got {getattr(self, name):g}")
        if not 0 <= self.delta < 1:
            raise InputError(f"delta: expected a number from 0 up to, not including, 1, got {self.delta:g}")
        if not 0 < self.skip_tolerance < math.inf:
            raise InputError(f"skip_tolerance: expected a finite number > 0, got {self.skip_tolerance:g}")
        if not self.features or len(set(self.features)) < len(self.features):
            raise InputError(f"features: expected one or several different ones, got {' '.join(self.features) or None}")
        for name in self.features:
            if name not in FEATURES and ":" not in name:
                names = ", ".join(map(repr, FEATURES))
                raise InputError(f"features: expected {names} or module:object, got {name!r}")
        transformations(self.transformations, ())  # refuses names before any work


@dataclass(frozen=True, eq=False)
class Subject:
    """A denoiser, its training data and held-out data, all in the model's own range; `NoModel()` for samples alone.

    If both parts have labels, a classifier of them provides the features in which samples are compared with held-out
    data. Rows of a `table` are shown as its columns. Groups are the units behind several examples, such as patients;
    none is in both parts. Owners number those who may ask whether their examples were used; each is tested apart.

    `sampled` makes the samples where the denoiser does not, as a guided one does that is the denoiser of no data: of it
    are asked samples and steps, of the denoiser everything else. `of_class` says of which class the examples are.

    Raises InputError for fewer than 20 examples, values that are not finite or all the same, two shapes, a group in
    both parts, groups of one part alone, and for labels, groups and owners that are not one integer for each example.

    >>> import torch
    >>> from diffuscope.audit import Subject
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.schedules import VE
    >>> train = torch.tensor([[0.0, 0.0], [6.0, 8.0]]).repeat(10, 1)
    >>> subject = Subject(ExactDenoiser(Empirical(train), VE()), train, train + 1, name="two points")
    >>> round(subject.scale**2, 6)  # of a coordinate: (9 + 16) / 2
    12.5
    """

    denoiser: Denoiser
    train: Float[Tensor, "n *event"]
    heldout: Float[Tensor, "m *event"]
    name: str = "model"
    data_name: str = "data"
    notes: tuple[str, ...] = ()  # facts about the data, for the report
    train_labels: Shaped[Tensor, " labels"] | None = field(default=None, repr=False)
    heldout_labels: Shaped[Tensor, " others"] | None = field(default=None, repr=False)
    train_groups: Shaped[Tensor, " groups"] | None = field(default=None, repr=False)
    heldout_groups: Shaped[Tensor, " groups_too"] | None = field(default=None, repr=False)
    group_names: tuple[str, ...] = field(default=(), repr=False, kw_only=True)  # the groups are places in it
    table: Table | None = field(default=None, repr=False)
    train_owners: Shaped[Tensor, " labels"] | None = field(default=None, repr=False)
    heldout_owners: Shaped[Tensor, " others"] | None = field(default=None, repr=False)
    canaries: Canaries | None = field(default=None, repr=False)  # in the model's range; for a bound of epsilon
    originals: Originals | None = field(default=None, repr=False, kw_only=True)  # what the examples are latents of
    sampled: Denoiser | None = field(default=None, repr=False, kw_only=True)
    of_class: OneClass | None = field(default=None, repr=False, kw_only=True)

    @classmethod
    def of(
        cls, denoiser: Denoiser, data: DataSet, name: str = "model", notes: tuple[str, ...] = (), **asked: Any
    ) -> "Subject":
        """A model and a data set, with its labels, groups and columns; `asked` are owners, canaries and originals.

        The notes say which weights the model was given, if they came from a file.
        """
        return cls(
            denoiser,
            data.train,
            data.heldout,
            name,
            data.name,
            (*notes, *(loaded.note for loaded in loaded_weights(denoiser))),
            data.train_labels,
            data.heldout_labels,
            data.train_groups,
            data.heldout_groups,
            data.table,
            group_names=data.group_names,
            **asked,
        )

    def __post_init__(self) -> None:
        for name, data in (("train", self.train), ("heldout", self.heldout)):
            require_examples(name, data)
        if self.train.shape[1:] != self.heldout.shape[1:]:
            shapes = tuple(self.train.shape[1:]), tuple(self.heldout.shape[1:])
            raise InputError(f"heldout: expected examples of shape {shapes[0]} as in train, got {shapes[1]}")
        if self.canaries is not None and self.canaries.examples.shape[1:] != self.train.shape[1:]:
            shapes = tuple(self.train.shape[1:]), tuple(self.canaries.examples.shape[1:])
            raise InputError(f"canaries: expected examples of shape {shapes[0]} as in train, got {shapes[1]}")
        if self.originals is not None:
            for name in ("train", "heldout"):
                count, known = len(getattr(self, name)), len(getattr(self.originals, name))
                if count != known:
                    raise InputError(f"originals: expected {count:,} {name} examples, one for each, got {known:,}")
        for name, labels, data in (
            ("train_labels", self.train_labels, self.train),
            ("heldout_labels", self.heldout_labels, self.heldout),
            ("train_groups", self.train_groups, self.train),
            ("heldout_groups", self.heldout_groups, self.heldout),
            ("train_owners", self.train_owners, self.train),
            ("heldout_owners", self.heldout_owners, self.heldout),
        ):
            if labels is None:
                continue
            if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
                raise InputError(f"{name}: expected integers, got {labels.dtype}")
            if len(labels) != len(data):
                raise InputError(f"{name}: expected one for each example ({len(data)}), got {len(labels)}")
        if (self.train_groups is None) != (self.heldout_groups is None):
            given, missing = ("heldout", "train") if self.train_groups is None else ("train", "heldout")
            raise InputError(f"{missing}_groups: expected groups of both parts, got {given}_groups alone")
        if self.train_groups is not None and self.heldout_groups is not None:
            both = len(set(self.train_groups.tolist()) & set(self.heldout_groups.tolist()))
            if both:
                raise InputError(f"heldout_groups: expected groups that are not in train_groups, got {both} that are")

    @property
    def has_model(self) -> bool:
        """Whether there is a model; otherwise samples alone are audited."""
        return not isinstance(self.denoiser, NoModel)

    @property
    def maker(self) -> Denoiser:
        """What makes the samples: `sampled`, or else the denoiser."""
        return self.denoiser if self.sampled is None else self.sampled

    @cached_property
    def scale(self) -> float:
        """Standard deviation of a coordinate of the training data: sqrt(tr Sigma / D)."""
        return math.sqrt(mean_and_variance(self.train)[1])


@dataclass(frozen=True, eq=False)
class Levels:
    """The noise levels of an audit, from high to low, as times of the model and as ratios sigma/alpha."""

    times: Float[Tensor, " levels"]
    ratios: Float[Tensor, " levels"]

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self.times.tolist(), self.ratios.tolist(), strict=True))


def noise_levels(denoiser: Denoiser, scale: float, count: int) -> Levels:
    """`count` geometric levels within the model's range, snapped to trained times; InputError for no overlap."""
    schedule = denoiser.schedule
    low = max(LOWEST * scale, float(schedule.noise_to_signal(schedule.t_min)))
    high = min(HIGHEST * scale, float(schedule.noise_to_signal(schedule.t_max)))
    if not low < high:
        raise InputError(
            f"model: expected times that cover the noise levels of data of standard deviation {scale:g}, got "
            f"{schedule.t_min:g} to {schedule.t_max:g}"
        )
    ratios = torch.logspace(torch.log10(torch.tensor(high)), torch.log10(torch.tensor(low)), count, dtype=torch.float64)
    return levels_at(denoiser, ratios)


def levels_at(denoiser: Denoiser, ratios: Float[Tensor, " levels"]) -> Levels:
    """The trained levels nearest to the decreasing `ratios`, without duplicates."""
    times = times_at(denoiser, ratios)
    return Levels(times, denoiser.schedule.noise_to_signal(times))


def levels_within(schedule: Schedule, span: tuple[float, float], count: int) -> Float[ndarray, " levels"]:
    """`count` increasing geometric levels in `span`, as far as the schedule reaches; if nowhere, in all its range."""
    lowest, highest = (float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max))
    low, high = max(span[0], lowest), min(span[1], highest)
    return np.geomspace(low, high, count) if low < high else np.geomspace(lowest, min(highest, 1e6), count)


def require_examples(name: str, x: Shaped[Tensor, "n *event"]) -> None:
    """Raises InputError, naming the argument, for fewer than 20 examples, and unless they are finite and differ."""
    if len(x) < FEWEST:
        raise InputError(f"{name}: expected at least {FEWEST} examples, got {len(x)}")
    if not x.is_floating_point():
        raise InputError(f"{name}: expected floating-point numbers in the model's range, got {x.dtype}")
    if not all(math.isfinite(float(part.sum(dtype=torch.float64))) for part in float_parts(x)):
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    if all(bool((part == x[0]).all()) for part in float_parts(x)):
        raise InputError(f"{name}: expected examples that vary, got {len(x)} that are all the same")


def require_shape_of_samples(samples: Shaped[Tensor, "n *shape"], *, like: Float[Tensor, "m *event"]) -> None:
    """Raises InputError for samples of another shape than the data."""
    if samples.shape[1:] != like.shape[1:]:
        shapes = tuple(like.shape[1:]), tuple(samples.shape[1:])
        raise InputError(f"samples: expected examples of shape {shapes[0]}, got {shapes[1]}")


def require_samples(samples: Shaped[Tensor, "n *shape"], *, like: Float[Tensor, "m *event"]) -> None:
    """Raises InputError as `require_examples` does, and for samples of another shape than the data."""
    require_shape_of_samples(samples, like=like)
    require_examples("samples", samples)


def noised(schedule: Schedule, clean: Batch, noise: Batch, t: float) -> Batch:
    """x_t = alpha(t) x_0 + sigma(t) eps, in the dtype of `clean`."""
    return float(schedule.alpha(t)) * clean + float(schedule.sigma(t)) * noise


def evaluate(denoiser: Denoiser, x_t: Batch, t: float) -> Batch:
    """D(x_t, t) in batches, without gradients; InputError for another kind, shape or dtype, or not finite.

    Several processes share the batches.
    """

    def evaluated(part: Batch) -> Batch:
        with torch.no_grad():
            denoised = require_batch(denoiser(part, torch.tensor(t, dtype=torch.float64)), part)
        if not bool(torch.isfinite(denoised).all()):
            raise NotFiniteError(f"model: expected finite values, got NaN or infinity at time {t:g}")
        return denoised

    return shared_rows(evaluated, x_t, EVALUATION_BATCH)

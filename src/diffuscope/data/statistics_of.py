r"""Mean and covariance of real data, of all examples and of each class, with what others need to use them.

Up to LARGEST_DENSE dimensions the covariance is exact, from one pass over the data. Above, its `rank` leading
eigenpairs come from two (see `exact.streaming`), and the rest is a constant tail variance.

Classes are Gaussians :math:`N(\mu_y, \Sigma_y)` of two kinds:

- *pooled*: one covariance for all, :math:`\frac1n\sum_y\sum_{i \in y}(x_i - \mu_y)(x_i - \mu_y)^T`, from n - K degrees
  of freedom;
- *separate*: one each, shrunk toward the mean variance (see `exact.finite_sample`), which needs more examples: a class
  is refused if its sample is too small at noise of its largest standard deviation.

Memory in float64, for batches of b values in all: 6 D^2 + 4 b, or 6 D l + 4 b with l = `oversampled(rank)`; and the
Gaussians themselves, D `rank` for one, or for each separate class.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, leading_pairs, oversampled, shrinkage, shrunk, too_few_examples
from diffuscope.exact.spectral import LARGEST_DENSE
from diffuscope.memory import require_memory
from diffuscope.progress import progress_bar
from diffuscope.streams import torch_stream

from .data_set_statistics import ClassStatistics, DataStatistics
from .dataset import DataSet
from .stream import ExampleStream, open_stream
from .value_range import Range

ACCURATE = 0.01  # gain of an eigenvalue in the last half iteration without a note
RANK = 128  # where D x D is too large and no rank is given
ClassKind = Literal["none", "pooled", "separate"]
Passes = Callable[[], Iterable[Tensor]]


def data_statistics(
    data: str | DataSet | np.ndarray | Tensor,
    *,
    rank: int | None = None,
    classes: str = "none",
    data_range: Range | None = None,
    kind: str = "auto",
    labels: np.ndarray | Tensor | None = None,
    n_passes: int = 2,
    seed: int = 0,
    progress: bool = False,
) -> DataStatistics:
    """Mean and covariance of the training examples of `data`, in its own units: a spec as of `load_data`, or arrays.

    All examples are used where the data have no held-out part; the covariance is divided by their number. `rank`
    eigenpairs are kept, by default all, and 128 above 4,096 dimensions. There, `n_passes` > 2 makes the last of them
    more accurate, and `seed` decides the random probe. `labels` are those of an array. The result's `warnings()` say
    where the sample is too small.
    Raises InputError with the first mistake found, in one line.

    >>> import numpy as np
    >>> from diffuscope.data import data_statistics
    >>> statistics = data_statistics(np.array([[0.0, 1.0], [2.0, 6.0], [4.0, 2.0]]))
    >>> [round(float(v), 6) for v in statistics.gaussian.mean], round(statistics.gaussian.trace, 6)  # (8 + 14) / 3
    ([2.0, 3.0], 7.333333)
    """
    stream = open_stream(data, data_range=data_range, kind=kind, labels=labels, seed=seed)
    if rank is not None and rank < 0:
        raise InputError(f"rank: expected at least 0 (isotropic), got {rank}")
    if classes not in get_args(ClassKind):
        raise InputError(f"classes: expected {', '.join(get_args(ClassKind))}, got {classes!r}")
    if classes != "none" and stream.labels is None:
        raise InputError(f"classes: expected data with labels, got {stream.name}, which has none")
    fit = _Fit(stream, rank, n_passes, seed, progress)
    fit.require_memory(len(stream.labels.unique()) if classes == "separate" and stream.labels is not None else 1)
    gaussian = fit(stream.batches, len(stream), "all")
    if gaussian.trace == 0:
        raise InputError(
            f"data: the {len(stream):,} examples of {stream.name} are all the same; expected ones that vary"
        )
    by_class = None
    if stream.labels is not None and classes != "none":
        by_class = (_pooled if classes == "pooled" else _separate)(fit, stream.labels)
    notes = (*stream.notes, *fit.notes)
    return DataStatistics(gaussian=gaussian, classes=by_class, data=stream.name, kind=stream.kind, notes=notes)


class _Fit:
    """The fit of one Gaussian to a stream, by the dimension and the rank."""

    def __init__(self, stream: ExampleStream, rank: int | None, n_passes: int, seed: int, progress: bool) -> None:
        self.stream, self.n_passes, self.seed, self.progress = stream, n_passes, seed, progress
        self.dense = stream.dimension <= LARGEST_DENSE
        rank = rank if self.dense or rank is not None else RANK
        self.rank = rank if self.dense or rank is None else min(rank, len(stream))  # n examples span no more
        self.notes: list[str] = []

    def __call__(self, passes: Passes, n: int, what: str) -> Gaussian:
        """The Gaussian of `n` examples; the data's range is noted."""
        count = 1 if self.dense else self.n_passes
        turns = iter(range(1, count + 1))

        def watched() -> Iterator[Tensor]:
            return self.watched(passes(), n, f"{what}, pass {next(turns)} of {count}")

        if self.dense:
            return replace(Gaussian.fit(watched(), self.rank), data_range=self.stream.data_range)
        generator = torch_stream(self.seed, "statistics", "probe")
        pairs = leading_pairs(watched, self.rank or 0, generator=generator, n_passes=self.n_passes)
        gain = pairs.last_gain.max().item() if len(pairs.last_gain) else 0.0
        if gain > ACCURATE:
            self.notes.append(
                f"{what}: not all of {self.rank} eigenvalues have converged, the last half iteration added "
                f"{gain:.1%} to one; --passes {self.n_passes + 1} is more accurate"
            )
        return replace(Gaussian.of_leading(pairs), data_range=self.stream.data_range)

    def watched(self, batches: Iterable[Tensor], n: int, title: str) -> Iterator[Tensor]:
        """The batches, with a progress bar."""
        total = -(-n // self.stream.batch_size)
        yield from progress_bar(batches, desc=title, unit="batch", total=total, leave=False, disable=not self.progress)

    def require_memory(self, classes: int) -> None:
        """InputError for more than there is, before any work."""
        D, n = self.stream.dimension, len(self.stream)
        width = D if self.dense else min(D, oversampled(self.rank or 0))
        kept = (D if self.rank is None else min(self.rank, D)) * (classes + 1)
        values = D * (6.0 * width + kept) + 4.0 * min(n, self.stream.batch_size) * D
        what = f"a covariance of {D:,} dimensions and {'full rank' if self.rank is None else f'rank {self.rank}'}"
        require_memory(8 * values, "data", what)


def _class_means(fit: _Fit, which: Int64[Tensor, " n"], n_classes: int) -> Float64[Tensor, "K *event"]:
    """The mean of every class; the first example is the origin, so that an offset costs no digits."""
    stream, start, origin = fit.stream, 0, torch.zeros(())
    sums = torch.zeros(n_classes, *stream.event_shape, dtype=torch.float64)
    for batch in fit.watched(stream.batches(), len(stream), "class means"):
        origin = batch[0].clone() if start == 0 else origin
        sums.index_add_(0, which[start : start + len(batch)], batch.sub_(origin))
        start += len(batch)
    counts = torch.bincount(which, minlength=n_classes)
    return sums / counts.reshape(-1, *[1] * len(stream.event_shape)) + origin


def _pooled(fit: _Fit, labels: Int64[Tensor, " n"]) -> ClassStatistics:
    """Class means with the covariance within the classes."""
    stream = fit.stream
    values, which, counts = labels.unique(return_inverse=True, return_counts=True)
    free = len(labels) - len(values) + 1
    if free < 2:
        raise InputError(f"classes: expected a class with two examples, got {len(labels)} examples of as many classes")
    means = _class_means(fit, which, len(values))

    def centered() -> Iterator[Tensor]:
        start = 0
        for batch in stream.batches():
            yield batch.sub_(means[which[start : start + len(batch)]])
            start += len(batch)

    within = fit(centered, len(stream), "within classes")
    gaussians = tuple(
        Gaussian(mean, within.eigenvectors, within.eigenvalues, within.tail_variance, free, within.data_range)
        for mean in means
    )
    return ClassStatistics(
        labels=tuple(values.tolist()), names=_names(stream, values), counts=tuple(counts.tolist()), gaussians=gaussians,
        pooled=True, shrinkage=(0.0,) * len(values),
    )  # fmt: skip


def _separate(fit: _Fit, labels: Int64[Tensor, " n"]) -> ClassStatistics:
    """One shrunk Gaussian per class; InputError for classes with too few examples."""
    stream = fit.stream
    values, counts = labels.unique(return_counts=True)
    names, gaussians, shares = _names(stream, values), [], []
    for value, name, n in zip(values.tolist(), names, counts.tolist(), strict=True):
        index = (labels == value).nonzero().flatten()
        found = None if n < 2 else fit(lambda index=index: stream.batches(index), n, f"class {name}")
        reason = f"{n} example has no covariance" if found is None else too_few_examples(found)
        if found is None or reason is not None:
            raise InputError(f"classes: expected pooled, or more examples of class {name}, got separate; {reason}")
        shares.append(shrinkage(found))
        gaussians.append(shrunk(found, shares[-1]))
    return ClassStatistics(
        labels=tuple(values.tolist()), names=names, counts=tuple(counts.tolist()), gaussians=tuple(gaussians),
        pooled=False, shrinkage=tuple(shares),
    )  # fmt: skip


def _names(stream: ExampleStream, values: Int64[Tensor, " K"]) -> tuple[str, ...]:
    names = stream.label_names
    return tuple(names[value] if 0 <= value < len(names) else str(value) for value in values.tolist())

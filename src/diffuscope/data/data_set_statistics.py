"""The Gaussian of a data set and those of its classes, as a safetensors file that can be used without the data.

The file is that of the `Gaussian` of all examples, which `Gaussian.load` reads, with class means, covariances and facts
beside it. It holds no example; but a mean of few examples, or eigenvectors of few, do resemble them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import diffuscope
from diffuscope.errors import InputError
from diffuscope.exact import (
    Gaussian,
    GuidedGaussian,
    read_gaussian,
    too_few_examples,
    with_equal_tails,
    write_gaussian,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassStatistics:
    """One Gaussian per class, in the order of `labels`.

    Where they are `pooled` all have the same covariance, and their `count` is the number of examples behind it.
    `counts` are the examples of each class, `shrinkage` is how far each covariance was moved toward a multiple of I.

    >>> import numpy as np
    >>> from diffuscope.data import data_statistics
    >>> x, labels = np.array([[0.0], [2.0], [10.0], [14.0]]), np.array([3, 3, 7, 7])
    >>> classes = data_statistics(x, labels=labels, classes="pooled").classes
    >>> [(round(float(gaussian.mean), 6), round(gaussian.trace, 6)) for gaussian in classes.gaussians]
    [(1.0, 2.5), (12.0, 2.5)]
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    gaussians: tuple[Gaussian, ...] = field(repr=False)
    pooled: bool
    shrinkage: tuple[float, ...]

    def too_few(self) -> str | None:
        """One line if the pooled sample is too small at noise of the largest standard deviation within the classes.

        Separate classes of too few examples are refused at the fit.
        """
        return too_few_examples(self.gaussians[0]) if self.pooled else None

    def mapped(self, change: Callable[[Gaussian], Gaussian]) -> "ClassStatistics":
        """`change` of every class."""
        return replace(self, gaussians=tuple(change(gaussian) for gaussian in self.gaussians))


@dataclass(frozen=True, eq=False, kw_only=True)
class DataStatistics:
    """The `gaussian` of all examples of the data set called `data`, and of its `classes`, if they were asked for.

    `kind` is what an example is (see `DataSet`), `notes` are on what was left out and on accuracy, `version` is that of
    the library.

    >>> import numpy as np
    >>> from diffuscope.data import data_statistics
    >>> statistics = data_statistics(np.array([[0.0, 1.0], [2.0, 6.0], [4.0, 2.0]]))
    >>> doubled = statistics.rescale(scale=2, shift=1).gaussian
    >>> [round(float(v), 6) for v in doubled.mean], round(doubled.trace, 6)  # 2 (2, 3) + 1, 4 (8 + 14) / 3
    ([5.0, 7.0], 29.333333)
    """

    gaussian: Gaussian
    classes: ClassStatistics | None = None
    data: str = ""
    kind: str = ""
    notes: tuple[str, ...] = ()
    version: str = diffuscope.__version__

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.gaussian.event_shape

    def of_class(self, label: int) -> Gaussian:
        """The Gaussian of a class. Raises InputError for statistics without classes, and for a label not among them."""
        if self.classes is None:
            raise InputError("label: expected statistics of classes, got those of all examples alone")
        if label not in self.classes.labels:
            known = ", ".join(map(str, self.classes.labels[:12])) + ", ..." * (len(self.classes.labels) > 12)
            raise InputError(f"label: expected one of {known}, got {label}")
        return self.classes.gaussians[self.classes.labels.index(label)]

    def guided(self, label: int, scale: float | int, rank: int = 64) -> GuidedGaussian:
        """Guidance from all examples toward a class, both with `rank` eigenpairs at most and the mean of their tails.

        Raises InputError as `of_class` and `GuidedGaussian`.
        """
        pair = (self.of_class(label), self.gaussian)
        conditional, free = (one.truncate(min(rank, len(one.eigenvalues))) for one in pair)
        return GuidedGaussian(*with_equal_tails(conditional, free), scale)

    def warnings(self, noise_to_signal: float | int | None = None) -> tuple[str, ...]:
        """Where the sample is too small (see `too_few_examples`), line by line, and the notes on the data.

        For all examples at the level sigma/alpha of the intended use, if it is given.
        """
        of_all = too_few_examples(self.gaussian, noise_to_signal)
        within = None if self.classes is None else self.classes.too_few()
        found = (of_all, None if within is None else f"within the classes: {within}", *self.notes)
        return tuple(note for note in found if note is not None)

    def mapped(self, change: Callable[[Gaussian], Gaussian]) -> "DataStatistics":
        """`change` of every Gaussian."""
        return replace(
            self, gaussian=change(self.gaussian), classes=None if self.classes is None else self.classes.mapped(change)
        )

    def rescale(self, scale: float | int, shift: float | int) -> "DataStatistics":
        """The statistics of scale * x_0 + shift, as `Gaussian.rescale`."""
        return self.mapped(lambda gaussian: gaussian.rescale(scale, shift))

    def in_range(self, low: float | int, high: float | int) -> "DataStatistics":
        """The statistics after mapping the range of the values to [low, high], as `Gaussian.in_range`."""
        return self.mapped(lambda gaussian: gaussian.in_range(low, high))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file (float64), whole or not at all. Raises InputError where it cannot be written."""
        facts = {"data": self.data, "data_kind": self.kind, "notes": self.notes, "version": self.version}
        tensors, classes = {}, self.classes
        if classes is not None:
            kept = classes.gaussians[:1] if classes.pooled else classes.gaussians  # a covariance of all is kept once
            tensors["class_means"] = torch.stack([gaussian.mean for gaussian in classes.gaussians])
            tensors["class_eigenvectors"] = torch.stack([gaussian.eigenvectors for gaussian in kept])
            tensors["class_eigenvalues"] = torch.stack([gaussian.eigenvalues for gaussian in kept])
            facts["classes"] = {
                "labels": classes.labels, "names": classes.names, "counts": classes.counts, "pooled": classes.pooled,
                "shrinkage": classes.shrinkage, "tail_variances": [gaussian.tail_variance for gaussian in kept],
                "covariance_counts": [gaussian.count for gaussian in kept],
            }  # fmt: skip
        write_gaussian(Path(path), self.gaussian, facts, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "DataStatistics":
        """Read a file that `save` or `Gaussian.save` wrote.

        Raises InputError for a missing, truncated or different file.
        """
        gaussian, facts, tensors = read_gaussian(Path(path), Gaussian)
        try:
            known, classes = facts.get("classes"), None
            if known is not None:
                K = len(known["labels"])
                place = [0] * K if known["pooled"] else range(K)
                classes = ClassStatistics(
                    labels=tuple(map(int, known["labels"])),
                    names=tuple(map(str, known["names"])),
                    counts=tuple(map(int, known["counts"])),
                    pooled=bool(known["pooled"]),
                    shrinkage=tuple(map(float, known["shrinkage"])),
                    gaussians=tuple(
                        Gaussian(
                            mean,
                            tensors["class_eigenvectors"][j],
                            tensors["class_eigenvalues"][j],
                            known["tail_variances"][j],
                            known["covariance_counts"][j],
                            gaussian.data_range,
                        )
                        for mean, j in zip(tensors["class_means"], place, strict=True)
                    ),
                )
            return cls(
                gaussian=gaussian, classes=classes, data=str(facts.get("data", "")),
                kind=str(facts.get("data_kind", "")), notes=tuple(map(str, facts.get("notes", ()))),
                version=str(facts.get("version", "")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise InputError(f"path: cannot read {Path(path).name} as saved statistics ({error})") from error

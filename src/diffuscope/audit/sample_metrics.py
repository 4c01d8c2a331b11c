"""The numbers of an audit of samples, gathered batch by batch: update, compute, reset, as in torchmetrics.

An audit needs all samples at once: distances to held-out data depend on how many there are. So the state is the
samples themselves, and the result is that of `audit_samples` on all of them in the order in which they came.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from diffuscope.data import DataSet
from diffuscope.errors import InputError

from .run import audit_samples
from .subject import Settings, require_shape_of_samples

NAMES = (
    "memorized.copies", "memorized.nearness", "fidelity.frechet", "diversity.coverage", "diversity.modes",
    "diversity.repeats",
)  # fmt: skip


class SampleMetrics:
    """Memorization, quality and diversity of samples against training and held-out examples.

    `data` has both, in the range of the samples (`diffuscope.data.data_from_arrays` makes it of arrays, `load_data` of
    files). The samples are kept in float32 on the CPU: n samples of d numbers are 4 n d bytes.

    In a process group, let every process `update` with its own samples, gather the metrics or their `samples`, and
    merge them in the order of the ranks.

    >>> import torch
    >>> from diffuscope.data import toy_data
    >>> metrics = SampleMetrics(toy_data("two-moons", n_train=100, n_heldout=100))
    >>> for seed in range(4):
    ...     metrics.update(toy_data("two-moons", n_train=25, seed=1 + seed).train)
    >>> values = metrics.compute()
    >>> values["memorized.copies"]
    0.0
    >>> values["diversity.coverage"] > 50
    True
    >>> metrics.reset()
    >>> metrics.count
    0
    """

    def __init__(self, data: DataSet, settings: Settings | None = None) -> None:
        self.data, self.settings = data, settings or Settings()
        self._batches: list[Tensor] = []

    def update(self, samples: Shaped[Tensor, "n *shape"]) -> None:
        """Add a batch of samples, on any device, in the range of the data.

        Raises InputError for anything but a tensor, another shape than that of the data, integers, and values that are
        not finite.
        """
        if not isinstance(samples, Tensor):
            raise InputError(f"samples: expected a tensor, got {type(samples).__name__}")
        batch = samples.detach()
        require_shape_of_samples(batch, like=self.data.train)
        if not batch.is_floating_point():
            raise InputError(f"samples: expected floating-point numbers in the range of the data, got {batch.dtype}")
        kept = batch.to("cpu", torch.float32, copy=True)
        if not bool(torch.isfinite(kept).all()):
            raise InputError("samples: expected finite values, got NaN or infinity")
        self._batches.append(kept)

    @property
    def count(self) -> int:
        """The number of samples so far."""
        return sum(map(len, self._batches))

    @property
    def samples(self) -> Float[Tensor, "n *event"]:
        """All samples so far, in the order in which they came."""
        return torch.cat(self._batches) if self._batches else self.data.train[:0]

    def compute(self) -> dict[str, float]:
        """The value of every finding of `audit_samples` by its name, and its p-value as `name.p_value`.

        Among them are, each in the unit of its finding: `memorized.copies`, samples that copy training examples (%);
        `memorized.nearness`, samples nearer to training than to held-out examples (%; 50 without memorization);
        `fidelity.frechet`, the Frechet distance to held-out data by that between two held-out sets;
        `diversity.coverage`, held-out examples with a sample near them (%); `diversity.modes` and `diversity.repeats`.
        NaN stands for what cannot be told; the report of `audit_samples(metrics.samples, data)` says why.
        Raises InputError for fewer than 20 samples.
        """
        result = audit_samples(self.samples, self.data, self.settings)
        values: dict[str, float] = {name: float("nan") for name in NAMES}
        for finding in (finding for found in result.findings.values() for finding in found):
            values[finding.name] = float(finding.value)
            if finding.p_value is not None:
                values[f"{finding.name}.p_value"] = float(finding.p_value)
        return values

    def merge_state(self, others: "SampleMetrics | Iterable[SampleMetrics]") -> None:
        """Add the samples of other metrics, in this order, behind those that are here.

        Raises InputError, and adds nothing, if the others compare with other data.
        """
        added = [others] if isinstance(others, SampleMetrics) else [*others]
        mine = self.data.fingerprint()
        if any(other.data is not self.data and other.data.fingerprint() != mine for other in added):
            raise InputError("others: expected metrics of the same training and held-out examples, got other ones")
        self._batches += [batch for other in added for batch in other._batches]

    def reset(self) -> None:
        """Forget all samples."""
        self._batches = []

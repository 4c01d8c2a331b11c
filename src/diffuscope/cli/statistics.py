"""Mean and covariance of a data set."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from diffuscope.data import ClassKind, DataStatistics, Kind, data_statistics, spectrum_chart
from diffuscope.errors import InputError
from diffuscope.exact import reliable_from
from diffuscope.files import replace_atomically
from diffuscope.report import charts_png
from diffuscope.streams import require_seed

from .options import require_range, require_within, require_writable_file

LEADING = 5
SHARES = (0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Statistics:
    """Compute mean and covariance of a data set, as a file that needs no data to use, and a picture of the spectrum.

    All training examples are used. A .npy file is read in batches and may be larger than the memory.

    Example:
        Two points at a distance of 10 have a variance of 25 between them:

        >>> import numpy as np
        >>> from diffuscope.cli import main
        >>> np.save("points.npy", np.array([[0.0, 1.0], [6.0, 9.0]] * 10))
        >>> main("statistics --data points.npy".split())
        Data: points, 20 examples of shape (2,), values in [0, 9]
        Squared norm of the mean: 34
        Total variance: 25, 12.5 per dimension
        Leading eigenvalues: 25, 0
        ...
    """

    data: str = "digits"
    """Name, file or folder, as for audit."""
    kind: Kind = "auto"
    """What an example is, where its shape does not say it."""
    data_range: tuple[float, float] | None = None
    """Lowest and highest possible value, for instance 0 255; required for integer arrays."""
    to_range: tuple[float, float] | None = None
    """Map the values to this range, that of the model the statistics are for, for instance -1 1."""
    rank: int | None = None
    """Number of eigenpairs to keep; by default all, and 128 above 4,096 dimensions. The rest is a constant variance."""
    passes: int = 2
    """Passes over the data above 4,096 dimensions; more make the last eigenpairs more accurate."""
    classes: ClassKind = "none"
    """Also the Gaussian of every class: with one covariance for all (pooled), or with one each (separate)."""
    level: float | None = None
    """Lowest noise level sigma/alpha of the intended use, in the units written; warns if the examples are too few."""
    out: Path = Path("out/statistics.safetensors")
    """File for the statistics; the picture has the same name with .png."""
    seed: int = 0
    """Random seed of the probe above 4,096 dimensions."""

    def run(self) -> None:
        """Check, fit, write and print."""
        require_range("data_range", self.data_range)
        require_range("to_range", self.to_range)
        require_within("passes", self.passes, 2, 100)
        if self.rank is not None:
            require_within("rank", self.rank, 0, 10**6)
        if self.level is not None and not self.level > 0:
            raise InputError(f"level: expected a number > 0, got {self.level:g}")
        require_seed(self.seed)
        if self.out.suffix != ".safetensors":
            raise InputError(f"out: expected a file name ending in .safetensors, got {self.out}")
        require_writable_file("out", self.out)
        found = data_statistics(
            self.data, rank=self.rank, classes=self.classes, data_range=self.data_range, kind=self.kind,
            n_passes=self.passes, seed=self.seed, progress=True,
        )  # fmt: skip
        if self.to_range is not None:
            found = found.in_range(*self.to_range)
        found.save(self.out)
        picture = self.out.with_suffix(".png")
        replace_atomically(picture, charts_png((spectrum_chart(found.gaussian),), f"Statistics of {found.data}"))
        print("\n".join([*lines(found, self.level), f"Statistics: {self.out}", f"Spectrum: {picture}"]))


def lines(found: DataStatistics, level: float | None) -> list[str]:
    """What the statistics are, line by line."""
    gaussian = found.gaussian
    k, rest = len(gaussian.eigenvalues), gaussian.dimension - len(gaussian.eigenvalues)
    low, high = gaussian.data_range or (float("nan"), float("nan"))
    leading = ", ".join(f"{value:.4g}" for value in gaussian.eigenvalues[:LEADING].tolist())
    shown = [
        f"Data: {found.data}, {gaussian.count:,} examples of shape {found.event_shape}, values in [{low:g}, {high:g}]",
        f"Squared norm of the mean: {float((gaussian.mean**2).sum()):.6g}",
        f"Total variance: {gaussian.trace:.6g}, {gaussian.trace / gaussian.dimension:.3g} per dimension",
        f"Leading eigenvalues: {leading or 'none'}",
        f"Eigenvalues for {', '.join(f'{share:.0%}' for share in SHARES)} of the variance: "
        + ", ".join(str(n) if n is not None else f"> {k}" for n in map(gaussian.rank_of_share, SHARES)),
    ]
    if rest:
        shown.append(f"Beyond {k} eigenvalues: {gaussian.tail_variance:.3g} in each of {rest:,} dimensions")
    if found.classes is not None:
        counts, shares = found.classes.counts, found.classes.shrinkage
        kind = "one covariance" if found.classes.pooled else f"shrunk by {min(shares):.3g} to {max(shares):.3g}"
        each = " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))
        shown.append(f"Classes: {len(counts)}, {each} examples each, {kind}")
    lowest = reliable_from(gaussian)
    where = "at every noise level" if lowest == 0 else f"from noise {lowest:.3g} on" if isfinite(lowest) else "nowhere"
    shown.append(f"Enough examples: {where} (the effective noise variance is within 10%)")
    return shown + [f"Warning: {note}" for note in found.warnings(level)]

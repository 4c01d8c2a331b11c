"""The figures of analytic denoisers against a network: the table of the sources, and every noise level."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Chart, Intervals, Line, Panel, intervals, line

from .methods import SHORTCUTS
from .protocol import Measured, Subject, bootstrapped

NOISE = "σ/α, for data in [-1, 1]"
Found = Mapping[str, Measured]


def table_chart(of: Subject, found: Found, rng: np.random.Generator) -> Chart:
    """MSE, median r2 and seconds of every method, over all levels, as intervals."""
    seconds = {
        name: (float(at.seconds.mean()), float(at.seconds.min()), float(at.seconds.max())) for name, at in found.items()
    }
    mse, r2 = ({name: read(at, rng) for name, at in found.items()} for read in (Measured.mse, Measured.median_r2))
    low = min(0.0, max(-1.0, min(row[1] for row in r2.values())))
    return Chart(
        f"{of.name}: all noise levels",
        (
            Panel("MSE", "squared distance per value", "", (intervals(mse),), x_log=True),
            Panel("median r²", "r², cut at -1", "", (_clipped(r2, low),), x_range=(low, 1.02)),
            Panel("processor time", "seconds per image", "", (intervals(seconds),), x_log=True),
        ),
        f"Distance of each method's output from the network's at {_counts(found)} held-out images and "
        f"{len(of.reported_at)} noise levels. MSE and r²: with 95% intervals over images. Seconds: mean, least and "
        f"most over levels, of one thread, and not reproducible. The last {len(SHORTCUTS)} rows are shortcuts of "
        "published implementations.",
    )


def level_chart(of: Subject, found: Found, rng: np.random.Generator) -> Chart:
    """r2, MSE and cosine of the exact methods by noise level."""
    exact = {name: at for name, at in found.items() if name not in SHORTCUTS}
    return Chart(
        f"{of.name}: by noise level",
        (
            _by_level("median r²", of, exact, lambda at: at.r2, np.median, rng, y_range=(-0.1, 1.03)),
            _by_level("MSE", of, exact, lambda at: at.error, np.mean, rng, y_log=True),
            _by_level("cosine of D - μ", of, exact, lambda at: at.cosine, np.mean, rng, y_range=(-0.03, 1.03)),
        ),
        "Bands: 95% intervals over images. Sizes, shares and smoothings are chosen at every level, on other images.",
    )


def shortcut_chart(of: Subject, found: Found, rng: np.random.Generator) -> Chart:
    """Exact methods beside their shortcuts, r2 by level, a panel per method."""
    panels = []
    for exact in dict.fromkeys(SHORTCUTS.values()):
        beside = [exact, *(name for name, of_exact in SHORTCUTS.items() if of_exact == exact)]
        rows = {name: found[name] for name in beside}
        panels.append(_by_level(exact, of, rows, lambda at: at.r2, np.median, rng, y_range=(-0.5, 1.03)))
    return Chart(
        f"{of.name}: what shortcuts change",
        tuple(panels),
        "Median r² with the network, 95% intervals over images. The exact answer does not depend on how the data are "
        "divided; where a shortcut is closer to the network than it, that is an accident of its parameter.",
        shared_y=True,
    )


def _by_level(
    title: str,
    of: Subject,
    found: Found,
    read: Callable[[Measured], Float[Tensor, "levels n"]],
    statistic: Callable[..., np.ndarray],
    rng: np.random.Generator,
    *,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Panel:
    levels = [at.level for at in of.reported_at]
    lines: list[Line] = []
    for name, at in found.items():
        rows = [bootstrapped(row[None], statistic, rng) for row in read(at)]
        value, low, high = (torch.tensor(column) for column in zip(*rows, strict=True))
        lines.append(line(levels, value, name, low=low, high=high))
    return Panel(title, NOISE, "", tuple(lines), x_log=True, y_log=y_log, y_range=y_range)


def _clipped(rows: Mapping[str, Sequence[float]], low: float) -> Intervals:
    return intervals({name: tuple(max(low, value) for value in row) for name, row in rows.items()})  # pyright: ignore


def _counts(found: Found) -> str:
    counts = sorted({at.r2.shape[1] for at in found.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[-1]} ({counts[0]} for the equivariant scores)"

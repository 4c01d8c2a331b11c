"""The figures of analytic denoisers against a network: the table of the sources, and every noise level."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Chart, Line, Panel, intervals, line

from .methods import SHORTCUTS
from .protocol import Measured, Subject, bootstrapped

SHIFTING = ("boundary", "equivariant")
NOISE = "σ/α, for data in [-1, 1]"
Found = Mapping[str, Measured]


def table_charts(of: Subject, found: Found, rng: np.random.Generator) -> list[Chart]:
    """MSE, median r2 and seconds of every method, over all levels, as intervals."""
    seconds = {
        name: (float(at.seconds.mean()), float(at.seconds.min()), float(at.seconds.max())) for name, at in found.items()
    }
    mse, r2 = ({name: read(at, rng) for name, at in found.items()} for read in (Measured.mse, Measured.median_r2))
    return [
        Chart(
            f"{of.name}: all noise levels",
            (
                Panel("MSE", "squared distance per value", "", (intervals(mse),)),
                Panel(
                    "median r²", "r²", "", (intervals(r2),), x_range=(min(0.0, *(row[1] for row in r2.values())), 1.02)
                ),
            ),
            f"Distance of each method's output from the network's at {_counts(found)} held-out images and "
            f"{len(of.reported_at)} noise levels, with 95% intervals over images. The last {len(SHORTCUTS)} rows are "
            "shortcuts of published implementations.",
        ),
        Chart(
            f"{of.name}: processor time",
            (Panel("", "seconds per image and level", "", (intervals(seconds),), x_log=True),),
            "Mean, least and most over noise levels, on one thread. Not reproducible: times depend on the machine.",
        ),
    ]


def level_charts(of: Subject, found: Found, rng: np.random.Generator) -> list[Chart]:
    """r2, MSE and cosine by noise level: of methods that answer from the same place, and of those that shift."""
    shown = [name for name in found if name not in (*SHORTCUTS, *SHIFTING, "mean")]
    reading = (
        "Bands: 95% intervals over images. Sizes, shares and smoothings are chosen at every level, on other images."
    )
    return [
        Chart(
            f"{of.name}: {title}",
            (
                _by_level("median r²", of, rows, lambda at: at.r2, np.median, rng, y_range=(-0.1, 1.03)),
                _by_level("MSE", of, rows, lambda at: at.error, np.mean, rng, y_log=True),
                _by_level("cosine of D - μ", of, rows, lambda at: at.cosine, np.mean, rng, y_range=(-0.03, 1.03)),
            ),
            reading,
        )
        for title, rows in (
            ("answers from the same place", {name: found[name] for name in shown}),
            ("answers from other places too", {name: found[name] for name in ("local", *SHIFTING)}),
        )
    ]


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
        value, low, high = zip(*rows, strict=True)
        lines.append(line(levels, value, name, low=low, high=high))
    return Panel(title, NOISE, "", tuple(lines), x_log=True, y_log=y_log, y_range=y_range)


def _counts(found: Found) -> str:
    counts = sorted({at.r2.shape[1] for at in found.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[-1]} ({counts[0]} for the equivariant scores)"

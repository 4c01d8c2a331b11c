"""The figures of a network against analytic denoisers: along noise, training and trajectory, and over mixtures.

Marked are the standard deviations of the principal components 1, 4, 16 and 64; fractions are shown from 1e-5 to 3.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.references import band_names
from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Line, Panel, Rule, cells, line
from diffuscope.theory.network_agreement import Quantity

from ..part import loglog
from .measures import SETS, Compared

MARKED = (1, 4, 16, 64)  # principal components whose standard deviations are drawn
SHOWN = (1e-5, 3.0)  # of unexplained fractions in charts
NOISE = "σ/α, for data in [-1, 1]"


def noise_charts(title: str, result: Compared) -> list[Chart]:
    """Residuals by noise level, by set of points, by principal component, and the cosine."""
    reading = (
        "Each line is an analytic denoiser; the lower, the more of the network it explains. Vertical lines: standard "
    )
    reading += f"deviations of the principal components {', '.join(map(str, MARKED))} of the data, and, leftmost or in "
    reading += "between, of an average pixel. D - μ is vacuous at low noise, the score at high noise."
    quantities: dict[Quantity, str] = {"score": "score", "centered": "D - μ"}
    by_quantity = [_fractions(result, "held-out", of, name) for of, name in quantities.items()]
    by_set = [_fractions(result, places, "centered", f"{places} points") for places in SETS]
    column = result.candidates.index("Gaussian")
    by_band = torch.stack([at.by_band[column] for at in result.found["held-out"]], 1)
    matrix = cells(
        [f"PC {name}" for name in band_names(result.gaussian.dimension)],
        [f"{level:.2g}" for level in result.levels],
        by_band.clamp(max=1.0),
        color_range=(0.0, 1.0),
    )
    cosines = [
        line(result.levels, torch.stack([at.cosine[k] for at in result.found["held-out"]]), name)
        for k, name in enumerate(result.candidates)
        if name != "mean"
    ]
    return [
        Chart(
            f"{title}: what analytic denoisers do not explain, at held-out points",
            tuple(by_quantity),
            reading,
            shared_y=True,
        ),
        Chart(
            f"{title}: D - μ at three sets of points",
            tuple(by_set),
            "The empirical denoiser knows the training points; at the others it has no such advantage.",
            shared_y=True,
        ),
        Chart(
            f"{title}: D - μ left unexplained by the Gaussian, by principal component",
            (Panel("", NOISE, "", (matrix,)),),
            "Rows are octaves of principal components, the largest on top. Light: the network is linear there.",
        ),
        Chart(
            f"{title}: cosine of D - μ",
            (Panel("", NOISE, "cosine", tuple(cosines), x_log=True, y_range=(-0.2, 1.03)),),
            "1 means the same direction from the mean of the data, at any length.",
        ),
    ]


def trajectory_chart(title: str, result: Compared, shown: Sequence[str]) -> Chart:
    """Distances of states and outputs along the trajectories, medians with quartiles."""
    gaps, levels = result.gaps, result.gaps.ratios / result.unit
    panels = []
    for name, quartiles in (("state", gaps.state_quartiles), ("denoiser output", gaps.denoised_quartiles)):
        lines = []
        for candidate in shown:
            low, median, high = quartiles(candidate)[:, 1:] / result.unit**2  # the start is common
            lines.append(line(levels[1:], median, candidate, low=low, high=high))
        panels.append(Panel(name, NOISE, "squared distance per pixel", tuple(lines), x_log=True, y_log=True))
    return Chart(
        f"{title}: trajectories from the same noise",
        tuple(panels),
        "From right to left, from noise to image. Median over starts, band: quartiles.",
        shared_y=True,
    )


def marks(gaussian: Gaussian, unit: float) -> list[Rule]:
    """Vertical lines at the standard deviations of some principal components and of an average pixel."""
    roots = gaussian.eigenvalues.sqrt() / unit
    at = [float(roots[k - 1]) for k in MARKED if k <= len(roots)]
    return [Rule(value, "x") for value in (*at, math.sqrt(gaussian.trace / gaussian.dimension) / unit)]


def _fractions(result: Compared, places: str, of: Quantity, title: str) -> Panel:
    lines: list[Line] = [line(result.levels, result.fraction(name, of, places), name) for name in result.candidates]
    column = result.candidates.index("Gaussian")
    pooled = torch.stack([at.pooled(of)[column] for at in result.found[places]])
    lines.append(line(result.levels, pooled, "Gaussian, pooled", style="dotted"))
    rules = marks(result.gaussian, result.unit)
    return Panel(title, NOISE, "unexplained fraction", (*lines, *rules), x_log=True, y_log=True, y_range=SHOWN)


def training_chart(
    title: str, residuals: Mapping[float, Mapping[str, Float[Tensor, "n steps"]]], steps: Sequence[int], x_label: str
) -> Chart:
    """A panel per noise level: the score residual of every candidate against the step."""
    panels = [
        loglog(
            f"σ = {level:g}",
            x_label,
            "unexplained share of the score",
            *(line(steps, values.mean(0), name) for name, values in models.items() if name != "mean"),
        )
        for level, models in residuals.items()
    ]
    return Chart(
        f"{title}: residuals along training",
        tuple(panels),
        "A curve that falls and rises is a model that the network approaches and leaves again.",
        shared_y=True,
    )


def map_chart(
    title: str,
    levels: Sequence[float],
    tables: Sequence[Float[Tensor, "K ranks"]],
    components: Sequence[int],
    ranks: Sequence[int],
) -> Chart:
    """A heat map per level, rows K, columns the rank."""
    panels = []
    for level, table in zip(levels, tables, strict=True):
        rows, columns = [f"K = {K}" for K in components], [str(rank) for rank in ranks]
        top = float(table.max())
        matrix = cells(rows, columns, table.clamp(max=1.0), color_range=(0.0, min(1.0, top)))
        panels.append(Panel(f"σ = {level:g}", "rank", "", (matrix,)))
    reading = (
        "The share of the score at held-out points that a mixture of K Gaussians of this rank leaves unexplained. "
    )
    reading += "Rank 0 is isotropic; the colors of every panel have a scale of their own."
    return Chart(f"{title}: mixtures over K and rank", tuple(panels), reading)

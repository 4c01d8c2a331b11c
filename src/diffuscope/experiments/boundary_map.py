r"""Where does the target of a score network not know what it wants? The boundary regions of four small data sets.

Given :math:`x = \alpha x_0 + \sigma\varepsilon`, the proxy score :math:`\tilde s = (\alpha x_0 - x)/\sigma^2` that
denoising score matching fits has the mean :math:`s = \nabla\log p_t` and the covariance C. Its share of noise

.. math::
    \frac{\mathrm{tr}\,C}{\mathrm{tr}\,C + |s|^2}, \qquad
    C = \frac{\alpha^2}{\sigma^4} \mathrm{Cov}(x_0 \mid x) = \frac{1}{\sigma^2} I + \nabla^2 \log p_t,

is near 1 where several examples could have made x. Here :math:`\sigma^2 = \tau,\ \alpha = \sqrt{1 - \tau}`, so that any
variance-preserving schedule will do; VP's time is the one of :math:`\sigma/\alpha`. Identities are checked at 200
random points; a map shows 40 x 40 cells.

The corners of the hexagon are :math:`\pi / 3` apart. The six points of "L" are (-1, -1), (-1, 0), (-1, 1), (0, -1),
(0.5, -1) and (1, -1), those of "random" (-1, -1), (-0.9, 1), (-0.3, 0.2), (0.1, -0.1), (0.2, -0.1) and (0.9, 0.7). The
means of the share over the grid, computed independently, are at the five levels of noise

- hexagon: 0.10009, 0.23208, 0.32578, 0.27239, 0.16365;
- line: 0.10983, 0.15387, 0.19463, 0.20296, 0.14015;
- L: 0.09713, 0.18352, 0.26040, 0.27443, 0.18205;
- random: 0.07691, 0.15093, 0.24482, 0.23477, 0.14108.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (figure 1). The paper does
not define "boundary region": we take a share above one half.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Panel, heat_map, line, points
from diffuscope.schedules import VP
from diffuscope.theory.variance import ProxyScore

from .experiment import Experiment
from .part import Part, largest_difference

LEVELS = (0.05, 0.1, 0.2, 0.5, 0.75)  # sigma^2
HALF_WIDTH, CELLS = 2.0, 100
SHOWN = 40  # cells of a map on the page along each axis: 10,000 would make the page slow
PROBES = 200  # of the Hessian and of the decomposition
OURS = "our bar: undecided between two"
SOURCE = "independent computation, five digits"
_ANGLES = torch.arange(6, dtype=torch.float64) * math.pi / 3
_DIAGONAL = torch.linspace(-1, 1, 6, dtype=torch.float64)
DATA_SETS = {
    "hexagon": torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1),
    "line": torch.stack([_DIAGONAL, _DIAGONAL], 1),
    "L": torch.tensor([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0.5, -1), (1, -1)], dtype=torch.float64),
    "random": torch.tensor(
        [(-1, -1), (-0.9, 1), (-0.3, 0.2), (0.1, -0.1), (0.2, -0.1), (0.9, 0.7)], dtype=torch.float64
    ),
}
GRID_MEANS = {
    "hexagon": (0.10009, 0.23208, 0.32578, 0.27239, 0.16365),
    "line": (0.10983, 0.15387, 0.19463, 0.20296, 0.14015),
    "L": (0.09713, 0.18352, 0.26040, 0.27443, 0.18205),
    "random": (0.07691, 0.15093, 0.24482, 0.23477, 0.14108),
}
EXPERIMENT = Experiment(
    name="boundary-map",
    title="Boundary regions: where the target of denoising is noise",
    question="Where does the noise of the target live, and how does that change with the noise level?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532, figure 1",
    seconds=3,
    settings={
        "data": "six points in the plane: hexagon, line, L, random",
        "noise": "variance preserving, sigma^2 = 0.05, 0.1, 0.2, 0.5, 0.75",
        "grid": "100 x 100 points, both ends included, in [-2, 2]^2",
    },
    notes=("All numbers are exact up to rounding: nothing is sampled, so that the maps have no error bars.",),
)


def time_of(level: float) -> float:
    """VP's time at which sigma^2 is `level`."""
    return float(VP().time_of_noise_to_signal(math.sqrt(level / (1 - level))))


def grid() -> Float[Tensor, "cells 2"]:
    """The points of the means, both ends included."""
    return torch.cartesian_prod(*[torch.linspace(-HALF_WIDTH, HALF_WIDTH, CELLS, dtype=torch.float64)] * 2)


def boundary(data: Float[Tensor, "n 2"], level: float) -> Float[Tensor, " cells"]:
    """tr C / (tr C + |s|^2) on the grid."""
    return ProxyScore(data, VP()).boundary_fraction(grid(), time_of(level))


def shape_of(share: Float[Tensor, " cells"], data: Float[Tensor, "n 2"], level: float) -> tuple[float, float]:
    """Of the cells of share > 1/2: the median posterior weight of the second most likely example, and the RMS radius.

    The radius is the distance from the mean of the noised examples. NaN if no cell has such a share.
    """
    inside, shrunk = share > 0.5, math.sqrt(1 - level) * data
    cells = grid()[inside]
    if len(cells) == 0:
        return math.nan, math.nan
    weights = torch.softmax(-torch.cdist(cells, shrunk).square() / (2 * level), 1).sort(1, descending=True).values
    return float(weights[:, 1].median()), float((cells - shrunk.mean(0)).square().sum(1).mean().sqrt())


def map_panel(name: str, level: float) -> Panel:
    """The share at the centers of cells, and the examples shrunk by alpha."""
    edges = torch.linspace(-HALF_WIDTH, HALF_WIDTH, SHOWN + 1, dtype=torch.float64)
    y, x = torch.meshgrid(*[(edges[1:] + edges[:-1]) / 2] * 2, indexing="ij")
    centers = torch.stack([x.flatten(), y.flatten()], 1)
    share = ProxyScore(DATA_SETS[name], VP()).boundary_fraction(centers, time_of(level)).reshape(SHOWN, SHOWN)
    shrunk = math.sqrt(1 - level) * DATA_SETS[name]
    marks = (heat_map(edges, edges, share), points(shrunk[:, 0], shrunk[:, 1]))
    return Panel(f"σ² = {level:g}", "", "", marks, equal_scales=True)


@EXPERIMENT.part("Is the covariance what theory says?")
def identities(part: Part) -> str:
    """C against the Hessian of log p, and the mean over the examples against the score, at random points."""
    worst = {"hessian": 0.0, "mean": 0.0}
    for data in DATA_SETS.values():
        x = (2 * torch.rand(PROBES, 2, dtype=torch.float64, generator=part.generator) - 1) * HALF_WIDTH
        for level in LEVELS:
            found = deviations(data, level, x)
            worst = {name: max(worst[name], found[name]) for name in worst}
    because = f"rounding at {PROBES * len(LEVELS) * len(DATA_SETS):,} random points, in units of sigma^-4"
    title = "C is the identity over σ² plus the Hessian of log p: the largest deviation of an element"
    part.at_most("hessian", title, worst["hessian"], 1e-12, because, source="derived")
    title = "The mean of the proxy score over the examples is the score: the largest deviation"
    part.at_most("mean", title, worst["mean"], 1e-12, because.replace("^-4", "^-2"), source="derived")
    return "Yes, to rounding." if all(claim.holds for claim in part.claims) else "No."


def deviations(data: Float[Tensor, "n 2"], level: float, x: Float[Tensor, "probes 2"]) -> dict[str, float]:
    """The largest deviations of C and of the score from their definitions, in units of 1/sigma^4 and 1/sigma^2."""
    proxy, alpha = ProxyScore(data, VP()), math.sqrt(1 - level)

    leaf = x.clone().requires_grad_()
    log_prob = torch.logsumexp(-(leaf[:, None] - alpha * data).square().sum(2) / (2 * level), 1)
    (gradient,) = torch.autograd.grad(log_prob.sum(), leaf, create_graph=True)
    rows = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in gradient.unbind(1)]
    C = proxy.covariance(x, time_of(level)).dense()
    weights = torch.softmax(-(x[:, None] - alpha * data).square().sum(2) / (2 * level), 1)
    mean = (alpha * weights @ data - x) / level
    identity = torch.eye(2, dtype=torch.float64)
    return {
        "hessian": largest_difference(C - identity / level, torch.stack(rows, 1)) * level**2,
        "mean": largest_difference(proxy.score(x, time_of(level)), mean) * level,
    }


def farthest_mean(shares: list[Float[Tensor, " cells"]], published: Sequence[float]) -> float:
    """The largest deviation of the means of the shares from the published ones, at any level."""
    return largest_difference([float(share.mean()) for share in shares], published)


@EXPERIMENT.part("Where is the noise?")
def maps(part: Part) -> str:
    """The four maps at five levels, their means, and whether the noise lies between nearest neighbors."""
    shares = {name: [boundary(data, level) for level in LEVELS] for name, data in DATA_SETS.items()}
    for name, found in shares.items():
        off = farthest_mean(found, GRID_MEANS[name])
        title = f"{name}: grid means of the share at five levels, the largest deviation"
        part.at_most(f"means-{name.lower()}", title, off, 1e-5, "the digits of the source", source=SOURCE)
    low, high = ([shape_of(found[k], DATA_SETS[name], LEVELS[k]) for name, found in shares.items()] for k in (0, -1))
    title = f"σ² = {LEVELS[0]:g}: median posterior weight of the second example in boundary cells, least of four sets"
    part.at_least("between", title, min(second for second, _ in low), 0.1, OURS, source="measured here")
    ratios = [far / near for (_, near), (_, far) in zip(low, high, strict=True)]
    title = f"RMS radius of the boundary cells at σ² = {LEVELS[-1]:g} over that at {LEVELS[0]:g}, largest of four sets"
    part.at_most(
        "blob", title, max(ratios), 0.7, "our bar, 0.7: it contracts by almost a third", source="measured here"
    )
    for name in DATA_SETS:
        part.chart(
            f"Share of noise in the target: {name}",
            *(map_panel(name, level) for level in LEVELS),
            how_to_read="Color: tr C / (tr C + |s|²). Dots: the examples, shrunk by α. At low noise the share is "
            "large along the edges between neighbors, at high noise in one blob in the middle.",
        )
    part.chart("How much boundary there is", means_panel(shares), how_to_read="Mean over the grid; exact.")
    rest = ", ".join(
        f"{name} {near:.2f} and {far:.2f}" for name, (_, near), (_, far) in zip(shares, low, high, strict=True)
    )
    return (
        "At low noise between neighboring examples, at high noise in one blob around their mean. RMS radius of the "
        f"cells in which noise is more than half of the target, at σ² = {LEVELS[0]:g} and {LEVELS[-1]:g}: {rest}."
    )


def means_panel(shares: Mapping[str, list[Float[Tensor, " cells"]]]) -> Panel:
    """The grid means over the noise level."""
    marks = [line(LEVELS, [float(share.mean()) for share in found], name) for name, found in shares.items()]
    return Panel("", "σ²", "mean share of noise", tuple(marks), x_log=True)

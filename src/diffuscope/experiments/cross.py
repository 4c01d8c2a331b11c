r"""Which gaps are filled depends on the features: edges of a square by Gaussian bumps, a cross by Fourier features.

Four points on the unit circle, a quarter turn apart, at three rotations. A model is a linear denoiser of
:math:`10^3` products of functions of x, y and t, trained on P = 500 draws by ridge regression; 100 models are sampled
by 30 Euler steps to epsilon = 0.01. In the frame of the points, a sample is

- *near* a point within 0.2 of it; else, by what it is closer to and within 0.1 of,
- on an *edge*, a side of the square between neighboring points, or
- on the *cross*, a segment between opposite points.

The regions are ours; the source only shows pictures. It explains them by the features: local bumps keep the noise
where the target's covariance is, between neighbors; Fourier features spread it along lines through the center.

The published pictures are histograms that were normalized along one axis only: every column sums to 1, so that they
show p(y | x), and columns with few samples look as full as others. Both are drawn here, in 40 x 40 cells.

Computed independently of this code, at every rotation: 0.63 to 0.68 of the samples of Gaussian features are near a
point and 0.08 on an edge; of Fourier features 0.37 to 0.46 near, and 0.28 to 0.38 on the cross.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Figure 3) and its code.
"""

import math
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.exact import GaussianMixture
from diffuscope.findings import Panel, Repeated, heat_map, intervals, largest
from diffuscope.schedules import VP
from diffuscope.streams import torch_stream
from diffuscope.theory.variance import (
    Decomposition,
    Fourier,
    GaussianBumps,
    Products,
    decompose,
    quenched_sample,
    train_linear,
)
from diffuscope.times import uniform_times

from .experiment import Experiment
from .gap_filling import fine_steps
from .part import Part, panel

EPSILON, SAMPLES, MODELS, STARTS, STEPS, FINE = 0.01, 500, 100, 1000, 30, 60
FINE_STARTS = 100
SCHEDULE = VP(0.2, 40.0, EPSILON)
ROTATIONS = (0.0, 22.5, 45.0)
NEAR, WIDTH = 0.2, 0.1
CELLS = 40
INDEPENDENT = "independent computation of the published setting"
OURS = "measured here"
PUBLISHED = (
    ("Gaussian", "near", 0.63, 0.68),
    ("Gaussian", "edge", 0.08, 0.08),
    ("Fourier", "near", 0.37, 0.46),
    ("Fourier", "cross", 0.28, 0.38),
)
FEATURES = {
    "Gaussian": Products((GaussianBumps(-1.5, 1.5, 10),) * 2, GaussianBumps(EPSILON, 1, 10)),
    "Fourier": Products((Fourier(3.0),) * 2, Fourier(1 - EPSILON)),
}
EXPERIMENT = Experiment(
    name="cross",
    title="Features decide which gaps are filled: a square or a cross",
    question="Four points: do Gaussian features fill the sides of the square, and Fourier features the cross?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=40,
    settings={
        "data": "four points on the unit circle, rotated by 0, 22.5 and 45 degrees",
        "Gaussian": "10 bumps (densities) along each of the two axes, in [-1.5, 1.5], and along t, std half their "
        "spacing",
        "Fourier": "1, cos 1 to 5, sin 1 to 4 per axis, of period 3 in x and y and 0.99 in t",
        "training": "500 draws per model, ridge 0.1, 100 models per panel",
        "schedule": "variance preserving, beta = 0.2 at t = 0 and 40 at t = 1",
        "sampling": "30 equal Euler steps from t = 1 to 0.01, 1,000 starts per model; decomposition: 100 of them, and "
        "60 fine steps",
        "regions": "near: within 0.2 of a point; edge and cross: within 0.1 of a side or a diagonal",
    },
    notes=(
        "The ridge is not matched: it weighs on cosines of height 1 and on densities of height 1.2 in x and 3.6 in t.",
        "Beyond |x| = 1.5 Fourier features repeat and bumps vanish; the published code continues the value at 1.5.",
    ),
)


def points_at(degrees: float) -> Float[Tensor, "4 2"]:
    """The four points."""
    angle = torch.deg2rad(degrees + 90 * torch.arange(4, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def data_at(degrees: float) -> GaussianMixture:
    """The four points as a distribution."""
    return GaussianMixture.isotropic(
        torch.full((4,), 0.25, dtype=torch.float64), points_at(degrees), torch.zeros(4, dtype=torch.float64)
    )


def regions(x: Float[Tensor, "*n 2"], degrees: float, width: float = WIDTH) -> dict[str, Bool[Tensor, "*n"]]:
    """Which samples are near a point, on an edge and on the cross; no sample is in two of them."""
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=x.dtype)
    small, big = (x @ turn).abs().sort(dim=-1).values.unbind(-1)  # |u| and |v| in the frame of the points, sorted
    to_point = torch.hypot(big - 1, small)
    to_cross = torch.where(big < 1, small, to_point)
    # the side from (1, 0) to (0, 1): along it (big - small) / sqrt(2) is at most 1 / sqrt(2) from its middle
    to_edge = torch.where(big - small < 1, (big + small - 1).abs() / math.sqrt(2), to_point)
    near = to_point < NEAR
    edge = ~near & (to_edge < width) & (to_edge < to_cross)
    return {"near": near, "edge": edge, "cross": ~near & (to_cross < width) & (to_cross <= to_edge)}


def masses(
    x: Float[Tensor, "models starts 2"], degrees: float, width: float = WIDTH
) -> dict[str, Float[Tensor, " models"]]:
    """The share of every model's samples in each region."""
    return {name: inside.double().mean(1) for name, inside in regions(x, degrees, width).items()}


def cross_beyond_edges(ends: Float[Tensor, "fields batch 2"], degrees: float) -> Float[Tensor, " fields"]:
    """Mass of the cross minus that of the edges."""
    found = masses(ends, degrees)
    return found["cross"] - found["edge"]


@dataclass(frozen=True, eq=False)
class Square:
    """The samples of one panel, the shares of their regions, and why the cross has another mass than the edges."""

    samples: Float[Tensor, "models starts 2"]
    masses: dict[str, Float[Tensor, " models"]]
    why: Decomposition

    @property
    def beyond(self) -> Repeated:
        """Mass of the cross minus that of the edges."""
        return Repeated.of(self.masses["cross"] - self.masses["edge"])


@cache
def square(features: str, degrees: float, seed: int) -> Square:
    """Train and sample one panel."""
    generator = torch_stream(seed, "experiment", "cross", f"{features} {degrees}")
    ensemble = train_linear(
        data_at(degrees), SCHEDULE, FEATURES[features], samples=SAMPLES, models=MODELS, generator=generator
    )
    x = torch.randn(MODELS, STARTS, 2, dtype=torch.float64, generator=generator)
    times = uniform_times(1.0, EPSILON, STEPS)
    samples = quenched_sample(ensemble, SCHEDULE, x, times)
    few, beyond = x[:, :FINE_STARTS], partial(cross_beyond_edges, degrees=degrees)
    why = decompose(ensemble, data_at(degrees), beyond, few, times=times, fine=fine_steps(EPSILON, FINE))
    return Square(samples, masses(samples, degrees), why)


def histogram(samples: Float[Tensor, "models starts 2"]) -> Float[Tensor, "rows columns"]:
    """The share of all samples in each cell of [-1.5, 1.5]^2, rows along y."""
    place = ((samples.flatten(0, 1) + 1.5) / 3 * CELLS).floor().long()
    inside = ((place >= 0) & (place < CELLS)).all(1)
    flat = place[inside, 1] * CELLS + place[inside, 0]
    return torch.bincount(flat, minlength=CELLS**2).double().reshape(CELLS, CELLS) / len(place)


@EXPERIMENT.part("Which gaps are filled?")
def filled(part: Part) -> str:
    """Masses of the regions for both kinds of features at three rotations."""
    found = {(name, degrees): square(name, degrees, part.seed) for name in FEATURES for degrees in ROTATIONS}
    for name, sign, sentence in (
        ("Gaussian", -1, "Gaussian features: more samples on the edges than on the cross"),
        ("Fourier", 1, "Fourier features: more samples on the cross than on the edges"),
    ):
        least = min((found[name, degrees].beyond for degrees in ROTATIONS), key=lambda mean: sign * mean.significance)
        because = f"Student's 99.9% over {MODELS} models; cross minus edges is {least}"
        title = f"{sentence}, the least certain of three rotations"
        part.at_least(name.lower(), title, sign * least.significance, least.seen, because, unit="standard errors")
    title = "Masses against an independent computation (near 0.63 to 0.68 and 0.37 to 0.46; Gaussian edges 0.08, "
    title += "Fourier cross 0.28 to 0.38): the largest deviation in units of its tolerance"
    because = "four standard errors over models; for edges and cross also what regions half as wide again would change"
    off = largest(
        outside(found[name, degrees], degrees, region, low, high)
        for name, region, low, high in PUBLISHED
        for degrees in ROTATIONS
    )
    part.at_most("masses", title, off, 1.0, because, source=INDEPENDENT)
    for name in FEATURES:
        heat = {degrees: histogram(found[name, degrees].samples) for degrees in ROTATIONS}
        part.chart(
            f"{name} features",
            *(density_panel(f"{degrees:g} degrees", each) for degrees, each in heat.items()),
            how_to_read=f"All samples of {MODELS} models in {CELLS} x {CELLS} cells: the root of their density, so "
            "that sparse regions are seen. Its uncertainty is in the masses below.",
        )
    heat = {degrees: columns_normalized(histogram(found["Fourier", degrees].samples)) for degrees in ROTATIONS}
    part.chart(
        "Fourier features, as published: every column sums to 1",
        *(density_panel(f"{degrees:g} degrees", each) for degrees, each in heat.items()),
        how_to_read="The same samples, normalized over y alone: this is p(y | x). Columns that hold hardly any samples "
        "are as bright as others, and where samples lie in x is lost.",
    )
    rows = {}
    for (name, degrees), each in found.items():
        for region, values in each.masses.items():
            mean = Repeated.of(values)
            rows[f"{name}, {degrees:g}°, {region}"] = (mean.mean, mean.low, mean.high)
    part.chart(
        "Mass of the regions",
        panel("", "share of the samples (ratio)", "", intervals(rows)),
        how_to_read=f"Mean over {MODELS} models and its 99.9% interval.",
    )
    shares = {name: tuple(span(found, name, region) for region in ("near", "edge", "cross")) for name in FEATURES}
    return (
        "; ".join(
            f"{name} features: near {near}, edges {edge}, cross {cross}" for name, (near, edge, cross) in shares.items()
        )
        + " (from the lowest to the highest of three rotations)."
    )


def span(found: dict[tuple[str, float], Square], name: str, region: str) -> str:
    """The lowest and highest mass over the rotations."""
    means = [float(found[name, degrees].masses[region].mean()) for degrees in ROTATIONS]
    return f"{min(means):.2f} to {max(means):.2f}"


def outside(each: Square, degrees: float, region: str, low: float, high: float) -> float:
    """How far a mass is outside of an independent range, in units of the tolerance."""
    mean = Repeated.of(each.masses[region])
    if region == "near":
        tolerance = 4 * mean.error
    else:
        width = [float(masses(each.samples, degrees, factor * WIDTH)[region].mean()) for factor in (0.5, 1.5)]
        tolerance = 4 * mean.error + max(abs(mean.mean - other) for other in width)
    return max(low - mean.mean, mean.mean - high, 0.0) / tolerance


def columns_normalized(shares: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Every column divided by its sum; a column without samples is zero."""
    return shares / shares.sum(0, keepdim=True).clamp(min=1e-15)


def density_panel(title: str, shares: Float[Tensor, "rows columns"]) -> Panel:
    """A heat map of the root of the shares."""
    edges = torch.linspace(-1.5, 1.5, CELLS + 1, dtype=torch.float64)
    return Panel(title, "x", "y", (heat_map(edges, edges, shares.sqrt()),), equal_scales=True)


@EXPERIMENT.part("Is it discretization, bias or variance?")
def why(part: Part) -> str:
    """The terms of the cross's mass beyond the edges."""
    found = {(name, degrees): square(name, degrees, part.seed).why for name in FEATURES for degrees in ROTATIONS}
    gaussian, fourier = ([found[name, degrees] for degrees in ROTATIONS] for name in FEATURES)
    share = sum(each.discretization.mean for each in gaussian) / sum(each.total.mean for each in gaussian)
    title = "Gaussian features: 30 steps with the true score, as a share of the edges' mass beyond the cross, mean of "
    title += "three rotations (ratio)"
    remaining = ", ".join(str(each.remaining) for each in gaussian)
    part.at_least("edges", title, share, 0.5, f"half; with fine steps cross - edge is {remaining}", source=OURS)
    share = min(each.bias.mean / each.total.mean for each in fourier)
    title = "Fourier features: bias as a share of the cross's mass beyond the edges, least of three rotations (ratio)"
    part.at_least("bias", title, share, 0.5, "half: the average model fills the cross", source=OURS)
    error = math.hypot(*(each.variance.error for each in fourier)) / len(fourier)
    variance = Repeated(sum(each.variance.mean for each in fourier) / len(fourier), error, MODELS)
    title = "Fourier features: variance takes mass from the cross, mean of three rotations"
    because = f"Student's 99.9%; variance is {variance}"
    part.at_most("variance", title, variance.significance, -variance.seen, because, source=OURS, unit="standard errors")
    title = "Change of the fine limit if every other step is left out, the largest panel"
    unresolved = largest(each.unresolved for each in found.values())
    part.at_most("resolved", title, unresolved, 0.01, "a tenth of the least total of Fourier features", source=OURS)
    rows = {}
    for (name, degrees), each in found.items():
        for label, term in (*each.terms.items(), ("total", each.total)):
            rows[f"{name}, {degrees:g}°, {label}"] = (term.mean, term.mean - 2 * term.error, term.mean + 2 * term.error)
    part.chart(
        "Mass of the cross beyond that of the edges",
        panel("", "cross - edge (ratio)", "", intervals(rows)),
        how_to_read="Its deviation from that of the true score, which has neither, split into four terms that add up "
        "to the total; two standard errors.",
    )
    biases, variances = (", ".join(str(getattr(each, term)) for each in fourier) for term in ("bias", "variance"))
    answer = "Mostly not variance" if all(claim.holds for claim in part.claims) else "The terms do not separate clearly"
    return (
        f"{answer}. With Gaussian features 30 Euler steps put mass on the edges with the true score, too, without any "
        f"model; with fine steps cross - edge is {remaining} at 0, 22.5 and 45 degrees. With Fourier features the "
        f"average model has a bias of {biases}, and the variance between models contributes {variances}."
    )

r"""The network's field beside the exact score of the noised law: over the plane, by noise level, by density.

An arrow is :math:`\sigma^2 s(x) = E[x_0|x_t = x] - x`, the way back to the data, drawn at a common fraction of its
length. Errors are those of `measure`. Noise levels outside of [LOW, HIGH] were not trained on; they are shown, and say
so.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.findings import Arrows, Chart, Claim, HeatMap, Panel, arrows, at_least, at_most, heat_map, largest, line
from diffuscope.training import LogUniformNoise

from ..experiment import Answer
from .measure import COARSE, Agreement, Plane, Regions, agreement, by_density
from .setting import BAR, DRAWS, HIGH, LARGEST_ERROR, LEAST_COSINE, LEVELS, LOW, STEPS, drawn, plane, score_of, trained

SHOWN = torch.logspace(-1.3, 0.5, 13, dtype=torch.float64).tolist()  # .05 to 3.2
REGIONS = torch.logspace(-5, 0, 11, dtype=torch.float64)
EVERY = 6  # points of the grid between two arrows
LENGTH = 0.5  # of the longest arrow drawn
DRAWN_ABOVE = 1e-4  # of the largest density


def learned(generator: torch.Generator) -> Answer:
    """One training, and what there is to see of it."""
    model = trained(
        drawn(DRAWS, generator), generator, title="double moon", steps=STEPS, noise=LogUniformNoise(LOW, HIGH)
    )
    planes = {sigma: plane(sigma) for sigma in LEVELS}
    scores = {sigma: score_of(model, seen.points, sigma) for sigma, seen in planes.items()}
    found = {sigma: agreement(seen, scores[sigma]) for sigma, seen in planes.items()}
    regions = {sigma: by_density(seen, scores[sigma], sigma, REGIONS) for sigma, seen in planes.items()}
    rare, dense = (rms_between(regions[LEVELS[0]], *ends) for ends in ((1e-3, 1e-2), (0.1, 1.0)))
    claims = (
        *(claim for sigma, seen in found.items() for claim in bar(sigma, seen)),
        at_least(
            "rare-regions",
            f"Noise {LEVELS[0]:g}: rms error where the density is .001 to .01 of its maximum, over that above .1",
            rare / dense,
            2.0,
            because="the draws of a region decide its error: like 1/√density it would be about 10",
            source=BAR,
        ),
    )
    worst, least = largest(seen.error for seen in found.values()), -largest(-seen.cosine for seen in found.values())
    under = ", ".join(f"{seen.law_cosine:.4f}" for seen in found.values())
    return Answer(
        f"Yes: at noise {_listed()} the centered relative error is at most {worst:.1%} and the mean direction cosine "
        f"at least {least:.4f} ({under} with points weighted by the law, most of which lies where the score is "
        "nearly 0).",
        claims,
        (
            field_chart(planes[LEVELS[0]], scores[LEVELS[0]], LEVELS[0]),
            Chart(
                "Where it errs",
                (level_panel(model), *region_panels(regions)),
                f"Left: by noise level; training saw levels from {LOW:g} to {HIGH:g} (dotted), the dashed line is the "
                "bar. Middle and right, in the same colors: by the density over its maximum. The error grows where "
                "draws are rare; directions also go astray on the crest, where the score is nearly 0.",
            ),
        ),
    )


def bar(sigma: float, seen: Agreement) -> tuple[Claim, Claim]:
    """The two claims of the bar at one noise level."""
    return (
        at_most(
            f"error-{sigma:g}".replace(".", ""),
            f"Noise {sigma:g}: centered relative error of the learned score against the exact score of the noised law",
            seen.error,
            LARGEST_ERROR,
            because="5%, asked for",
            source=BAR,
        ),
        at_least(
            f"cosine-{sigma:g}".replace(".", ""),
            f"Noise {sigma:g}: mean cosine between the two, over the grid's points above 1% of the largest density",
            seen.cosine,
            LEAST_COSINE,
            because=".99, asked for",
            source=BAR,
        ),
    )


def field_chart(law: Plane, score: Float[Tensor, "n 2"], sigma: float) -> Chart:
    """The exact field and the learned one over the density."""
    density = _cropped(law)
    reach = float((sigma**2 * law.score[_drawn(law)]).norm(dim=1).max())
    panels = tuple(
        Panel(title, "x", "y", (density, _arrows(law, field, sigma, LENGTH / reach)), equal_scales=True)
        for title, field in (("exact, of the noised law", law.score), ("learned from draws", score))
    )
    return Chart(
        f"The score of the double moon at noise {sigma:g}",
        panels,
        f"Arrows: σ²·score, the way back to the data, at {LENGTH / reach:.2g} of its length; behind them the density "
        f"with its noise. Drawn where the density exceeds {DRAWN_ABOVE:g} of its maximum.",
        shared_y=True,
    )


def rms_between(found: Regions, low: float, high: float) -> float:
    """The rms over the regions between two densities, each counting the same."""
    inside = (found.centers > low) & (found.centers < high)
    return float(found.noise_error[inside].square().mean().sqrt())


def _cropped(law: Plane) -> HeatMap:
    """The density, as far as arrows are drawn and a little beyond."""
    table = law.density.reshape(len(law.y), len(law.x))
    rows, columns = (
        slice(int(seen[0]), int(seen[-1]) + 1)
        for seen in ((table.amax(dim) > DRAWN_ABOVE / 10).nonzero()[:, 0] for dim in (1, 0))
    )
    x, y = law.edges
    return heat_map(x[columns.start : columns.stop + 1], y[rows.start : rows.stop + 1], table[rows, columns])


def _drawn(law: Plane) -> Tensor:
    """Every EVERY-th point along both axes, where the density is not too small."""
    rows, columns = len(law.y), len(law.x)
    coarse = torch.zeros(rows, columns, dtype=torch.bool)
    coarse[EVERY // 2 - 1 :: EVERY, EVERY // 2 - 1 :: EVERY] = True
    return coarse.flatten() & (law.density > DRAWN_ABOVE)


def _arrows(law: Plane, score: Tensor, sigma: float, scale: float) -> Arrows:
    at = _drawn(law)
    way = scale * sigma**2 * score[at]
    return arrows(law.points[at, 0], law.points[at, 1], way[:, 0], way[:, 1])


def level_panel(model: Denoiser) -> Panel:
    """Centered relative error against noise."""
    errors = []
    for sigma in SHOWN:
        seen = plane(sigma, COARSE)
        errors.append(agreement(seen, score_of(model, seen.points, sigma)).error)
    marks = (
        line(SHOWN, errors, "error"),
        line([SHOWN[0], SHOWN[-1]], [LARGEST_ERROR] * 2, style="dashed"),
        *(line([edge, edge], [min(errors), max(errors)], style="dotted") for edge in (LOW, HIGH)),
    )
    return Panel("by noise level", "noise σ", "centered relative error", marks, x_log=True, y_log=True)


def region_panels(seen: dict[float, Regions]) -> tuple[Panel, Panel]:
    """Error of the predicted noise, and misdirection, against density."""
    errors = tuple(line(found.centers, found.noise_error, f"σ = {sigma:g}") for sigma, found in seen.items())
    turned = tuple(line(found.centers, 1 - found.cosine) for found in seen.values())
    axis = "density / its maximum"
    return (
        Panel("by density", axis, "σ · rms |s - s*|", errors, x_log=True, y_log=True),
        Panel("direction", axis, "1 - cosine", turned, x_log=True, y_log=True),
    )


def _listed() -> str:
    return f"{', '.join(f'{sigma:g}' for sigma in LEVELS[:-1])} and {LEVELS[-1]:g}"

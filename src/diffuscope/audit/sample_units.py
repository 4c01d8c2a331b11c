"""Are samples in the units of the data, and are they held-out examples? The findings, for two questions alike.

They are asked of the samples of a model (`wiring`) and of samples alone (`samples`), whose names begin accordingly.
"""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.findings import Finding, exact_share_interval
from diffuscope.report import Cell, Table

from .units import SAME_UNITS, SHIFT, SampleUnits

LEAKED = 0.01  # share of the samples that may be held-out examples


def exploded_finding() -> Finding:
    """A model whose samples are not finite."""
    return Finding(
        name="wiring.samples",
        title="Can it be sampled?",
        value=float("nan"),
        unit="",
        verdict="Sampling from the model ends in NaN or infinity.",
        tone="alarm",
        power="Heun's method on the probability-flow ODE, from noised data.",
    )


def units_of_samples(result: SampleUnits, question: str, *, own: bool) -> Finding:
    """Units of the samples and of the data; `own` are the model's own samples."""
    whose = "its samples" if own else "the samples"
    shifted = result.far and abs(result.shift) >= SHIFT
    value, unit, null = (
        result.deviation,
        "x",
        "1x: their median distance from the mean of the data is that of the data.",
    )
    text = f"The units of {whose} are those of the data."
    if result.fault:
        value, null = result.before / max(result.after, 1e-6), "1x: no nearer to the data under any map."
        text = (
            f"{whose.capitalize()} are not in the units of the data: {result.nearer:.0%} of them are nearer to the "
            f"data if read as {result.name} ({result.written})."
        )
    elif shifted:
        value, unit, null = result.shift, "standard deviations", "0: their median mean is that of the data."
        text = f"{whose.capitalize()} are not like the data: their mean is off by {value:+.3g} standard deviations."
    elif result.far:
        text = f"{whose.capitalize()} are not like the data: they are spread {value:.3g} times as wide."
    return Finding(
        name=f"{question}.samples",
        title="Are the samples in the units of the data?",
        value=value,
        unit=unit,
        verdict=text,
        # how far the model's own samples are is the question of quality
        tone="alarm" if result.fault or (result.far and not own) else "neutral" if result.far else "good",
        null=f"{null} The median distance to training data is {result.before:.3g} times that of held-out examples.",
        power=f"A spread off by a factor of {SAME_UNITS:g}, a mean off by {SHIFT:g} deviation, or a known range or "
        "turn of images in which nearly all samples are much nearer to the data would be a fault.",
    )


def heldout_finding(result: SampleUnits, question: str) -> Finding:
    """Samples that are held-out examples: files that were mixed up, or a model that has seen them."""
    low, high = exact_share_interval(*result.heldout)
    seen = low > result.chance + LEAKED
    count, searched = result.heldout
    return Finding(
        name=f"{question}.heldout",
        title="Samples that are held-out examples",
        value=100 * count / searched,
        unit="%",
        verdict=f"{count} of {searched} samples are held-out examples: the sets are mixed up, or the model was trained "
        "on them."
        if seen
        else "The samples are no held-out examples.",
        tone="alarm" if seen else "good",
        interval=(100 * low, 100 * high),
        null=f"{100 * result.chance:.2g}%: the share of held-out examples that equal another one.",
        power=f"{searched} samples; from {100 * LEAKED:g}% beyond chance, with the whole interval, it is a fault.",
    )


def units_table(sets: Mapping[str, Float[Tensor, "_ *event"]]) -> Table:
    """Mean, deviation and range of every set, per channel."""
    rows: list[list[Cell]] = []
    for name, x in sets.items():
        found = _numbers(x)
        for k, numbers in enumerate(found):
            rows.append([f"{name}, channel {k}" if len(found) > 1 else name, *numbers])
    return Table("Units of data, model and samples", ["", "mean", "deviation", "lowest", "highest"], rows)


def _numbers(x: Float[Tensor, "_ *event"]) -> list[list[float]]:
    """Mean, deviation, and the least and the greatest value; of each channel where these are few."""
    channels = x.shape[1] if x.ndim >= 4 and x.shape[1] <= 4 else 1

    def parts() -> Iterator[Tensor]:
        return (part.double().reshape(len(part), channels, -1) for part in float_parts(x))

    count, total, squares = x.numel() // channels, torch.zeros(channels), torch.zeros(channels)
    lowest, highest = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
    for part in parts():
        total = total + part.sum((0, 2))
        lowest, highest = torch.minimum(lowest, part.amin((0, 2))), torch.maximum(highest, part.amax((0, 2)))
    mean = total / count
    for part in parts():
        squares = squares + (part - mean[:, None]).square_().sum((0, 2))
    return torch.stack([mean, (squares / max(1, count - 1)).sqrt(), lowest, highest], 1).tolist()

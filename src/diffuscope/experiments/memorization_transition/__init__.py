r"""Memorization: one network, trained on few examples and on many, and how far it has left them.

*Copies.* What counts is the excess over what chance does: held-out examples, as many as training ones, to which the
same samples may be as close,

.. math::  \text{excess} = P(\text{copy of a training example}) - P(\text{"copy" of a held-out example}),

which is zero for a model that has nothing of its own examples in it, whether its distribution is p or not.

*Losses.* The exact memorizer's held-out loss leaves its training loss by one irreducible loss of p at a multiple of
half the mean distance of an example to its nearest other, :math:`\sigma_* = \tfrac12 E\, d_1`: where p is flat between
neighbors nothing but :math:`\sigma/\sigma_*` can matter.

*Agreement* of networks A and B on disjoint sets, started from the same noise (B': from other noise; x: a draw of p):

.. math::
    a = \frac{\mathrm{rms}\,|x^A - x^B|}{\mathrm{rms}\,|x^A - x^{B'}|}, \qquad
    b = \frac{\mathrm{med}\,d_1(x^A; S_A)}{\mathrm{med}\,d_1(x; S_A)} .

A model of p has b = 1 and a = 0, a memorizer b = 0. In the plane the memorizers' a falls as fast as the networks', as
examples come to lie everywhere: a small a with b = 1 is the sign of a distribution learned. (Medians: a few samples end
between the modes.)
"""

import math
from dataclasses import replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.findings import AGREES, Panel, Repeated, Rule, jackknife, largest, line

from ..experiment import Experiment
from ..nearness import RADIUS, chance, copies
from ..part import Part, loglog
from ..three_modes import DEPTH, MODES, SAMPLING_STEPS, SCHEDULE, VARIANCE, WIDTH, generated
from .gaps import LEVELS, Gaps, measured, opening
from .ladder import BATCH, SETS, SIZES, STEPS, Ladder, climbed

SAMPLES, HELD_OUT_SETS = 4000, 4  # of each network; held-out sets to compare them with
STARTS, RECALLED = 2000, 500  # of networks, and of exact memorizers
FLAT = 64  # from here on neighbors are closer than the modes are wide
GU = "Yoon et al. 2023; Gu et al. 2023, https://arxiv.org/abs/2310.02664"
TRANSITION = "the marker: https://github.com/Animadversio/DiffusionMemorizationPhaseTrans"
KADKHODAIE = "Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557"
EXPERIMENT = Experiment(
    name="memorization-transition",
    title="Memorization: few examples are copied, many are learned from",
    question="From how many training examples on does one network stop copying them?",
    source="https://github.com/Animadversio/DiffusionMemorizationPhaseTrans; Gu et al. 2023, "
    "https://arxiv.org/abs/2310.02664; Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557",
    seconds=70,
    settings={
        "distribution": f"three equal modes of variance {VARIANCE:.4g} on the unit circle, in the plane",
        "training sets": f"{SETS} independent ones of each of {', '.join(f'{n:,}' for n in SIZES)} examples",
        "network": f"MLP of {WIDTH} x {DEPTH}, {STEPS:,} steps of {BATCH} examples, the same at every size",
        "sampler": f"DPM-Solver++ 2M, {SAMPLING_STEPS} steps from σ = {SCHEDULE.t_max:g} to {SCHEDULE.t_min:g} and a "
        "last denoising; 4,000 samples of each network, beside 4 sets of held-out examples",
        "agreement": "2,000 starts of networks, 500 of exact memorizers",
        "flat": "from 64 examples on, where neighbors are closer than the modes are wide",
    },
)


@EXPERIMENT.part("How many samples are copies, and how many would be by chance?")
def share(part: Part) -> str:
    """Copies of training and of held-out examples at every size, and the number expected by chance."""
    ladder = climbed(part.seed)
    sizes = ladder.sizes
    x = ladder.generated(torch.randn(SAMPLES, ladder.sets, len(sizes), 2, generator=part.generator)).movedim(0, 2)
    found, heldout = torch.zeros(2, ladder.sets, len(sizes), 2, dtype=torch.float64)
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            found[s, k] = copies(examples, x[s, k]).double().mean(1)
            others = [MODES.sample(len(examples), generator=part.generator) for _ in range(HELD_OUT_SETS)]
            heldout[s, k] = torch.stack([copies(other, x[s, k]).double().mean(1) for other in others]).mean(0)
    by_chance = torch.stack([chance(MODES, n) for n in sizes])
    few, expected = Repeated.of(found[:, 0, 1]), float(by_chance[0, 1])
    by_radius, end = (Repeated.of((found - heldout)[:, -1, j]) for j in range(2))
    title = f"Trained on {sizes[0]} examples the network copies them (ratio): low end of the share's 99.9% interval "
    title += f"over {ladder.sets} training sets"
    part.at_least("small-ratio", title, few.low, 2 * expected, f"twice the chance, {expected:.2g}", source=GU)
    title = f"Trained on {sizes[-1]} it does not: copies of training examples (ratio) minus those of held-out ones"
    part.agrees("large", title, end, 0.0, source="derived")
    title = "The largest excess that the test could miss there, by either criterion"
    missed = largest((by_radius.room(AGREES), end.room(AGREES)))
    part.at_most("power", title, missed, 0.05, "5% of the samples, our bar", source="our bar")

    panels = []
    for j, title in enumerate((f"within {RADIUS:g} of an example", "three times closer than to any other")):
        means = [Repeated.of(found[:, k, j]) for k in range(len(sizes))]
        low, high = [max(0.0, mean.low) for mean in means], [min(1.0, mean.high) for mean in means]
        marks = (
            line(sizes, [mean.mean for mean in means], "training examples", low=low, high=high),
            line(sizes, heldout[:, :, j].mean(0), "held-out examples"),
            line(sizes, by_chance[:, j], "by chance", style="dashed"),
            Rule(1.0, label="memorizer"),
        )
        panels.append(Panel(title, "training examples", "share of samples", marks, x_log=True, y_range=(0.0, 1.05)))
    part.chart(
        "Copies among the samples",
        *panels,
        how_to_read=f"Mean over {ladder.sets} training sets with its 99.9% interval; the memorizer and chance are "
        "exact. Left: from 128 examples on the share rises again, and that of held-out examples with it: without its "
        "chance the radius would accuse independent draws. Right: chance is about 1/9 at every size.",
        shared_y=True,
    )
    return (
        f"From {float(found[:, 0, 1].mean()):.0%} of the samples at n = {sizes[0]} (by chance {expected:.0%}) to "
        f"{float(found[:, -1, 1].mean()):.1%} at {sizes[-1]} (by chance {float(by_chance[-1, 1]):.1%}; excess over "
        f"held-out examples {end})."
    )


@EXPERIMENT.part("At which noise levels does the held-out loss leave the training loss?")
def losses(part: Part) -> str:
    """Gaps of networks and memorizers at every noise level."""
    ladder = climbed(part.seed)
    gaps, sizes = measured(ladder, part.generator), ladder.sizes
    opened = torch.stack([opening(rung.mean(0)) for rung in gaps.memorizer.unbind(1)]) / gaps.marker.mean(0)
    flat = opened[[k for k, n in enumerate(sizes) if n >= FLAT]]
    center = float(flat.log().mean().exp())
    ratio = jackknife(
        lambda kept: (opening(gaps.network[kept, 1].mean(0)) / opening(gaps.memorizer[kept, 1].mean(0))).log(),
        ladder.sets,
    )
    ends = [Repeated.of(gaps.network[:, -1, j]) for j in range(len(LEVELS))]
    title = f"The exact memorizer's gap opens at one to two times the marker from n = {FLAT} on: the mean multiple"
    because = f"our bar: 1.5 within 0.5; {flat.min():.2f} to {flat.max():.2f} over the sizes"
    part.equals("marker", title, center, 1.5, 0.5, because, source=TRANSITION)
    title = f"Networks on {sizes[1]} examples open their gap near where their memorizers do: far end of the 99.9% "
    title += "interval of the logarithm of one σ over the other"
    because = (
        f"a factor of 3 to either side, our bar, of the {float(LEVELS[-1] / LEVELS[0]):.0f}-fold range of levels; "
    )
    because += f"it is {math.exp(ratio.mean):.2f}, {ladder.sets} sets, by jackknife"
    far = max(abs(ratio.low), abs(ratio.high))
    part.at_most("network-opens", title, far, math.log(3), because, source="measured here")
    title = f"On {sizes[-1]} it opens at no level: the largest upper end of the gap's 99.9% intervals, in floors"
    because = f"a fifth of a floor, our bar; the memorizer reaches {float(gaps.memorizer[:, -1].amax()):.0f}"
    part.at_most("network-closed", title, largest(end.high for end in ends), 0.2, because, source="measured here")
    _show_losses(part, sizes, gaps)
    _show_gaps(part, sizes, gaps)
    held = {claim.name for claim in part.claims if claim.holds}
    return (
        f"The memorizer's held-out loss leaves its training loss by a whole floor at σ = {center:.2f} times half the "
        f"mean distance of neighbors, from n = {FLAT} on. The network's opens "
        f"{'near' if 'network-opens' in held else 'elsewhere than'} its memorizer's at n = {sizes[1]} and "
        f"{'at no level' if 'network-closed' in held else 'perhaps still'} at {sizes[-1]}."
    )


def _show_losses(part: Part, sizes: tuple[int, ...], gaps: Gaps) -> None:
    panels, unit = [], LEVELS.square()
    for k in (0, 2, len(sizes) - 1):
        marks = (
            line(LEVELS, gaps.heldout[:, k].mean(0) / unit, "held-out"),
            line(LEVELS, gaps.train[:, k].mean(0) / unit, "training"),
            line(LEVELS, gaps.memorizer_heldout[:, k].mean(0) / unit, "memorizer", style="dotted"),
            line(LEVELS, gaps.memorizer_train[:, k].mean(0) / unit, style="dotted"),
            line(LEVELS, gaps.floor / unit, "irreducible loss of p", style="dashed"),
        )
        panels.append(Panel(f"n = {sizes[k]}", "noise level σ", "loss / σ²", marks, x_log=True, y_range=(0.0, 3.0)))
    part.chart(
        "Training and held-out loss by noise level",
        *panels,
        how_to_read="Mean over training sets; dotted: the memorizer's held-out loss (above) and training loss. Where "
        "examples are few the training loss sinks below the irreducible loss of p and the held-out loss pays for it; "
        "where they are many the network stays on it, far from the memorizer.",
        shared_y=True,
    )


def _show_gaps(part: Part, sizes: tuple[int, ...], gaps: Gaps) -> None:
    marker, panels = gaps.marker.mean(0), []
    for title, rows in (("exact memorizer", gaps.memorizer.mean(0)), ("network", gaps.network.mean(0))):
        marks = []
        for k, n in enumerate(sizes):
            shown = rows[k] > 0.02  # below it the mean is noise
            if int(shown.sum()) > 1 and n not in (128, 512):  # as many curves as there are colors
                marks.append(line((LEVELS / marker[k])[shown], rows[k][shown], f"n = {n}"))
        axes = ("σ over half the mean distance of neighbors", "gap / irreducible loss")
        drawn = loglog(title, *axes, *marks, Rule(1.0, axis="x"))
        panels.append(replace(drawn, x_range=(0.05, 30.0), y_range=(0.02, 300.0)))
    part.chart(
        "Where the gap opens",
        *panels,
        how_to_read="Held-out minus training loss; vertical: the marker. The memorizers of many examples fall on one "
        "curve. A network follows it from the right, and leaves it at levels that it does not resolve in these steps.",
        shared_y=True,
    )


@EXPERIMENT.part("Do networks on disjoint examples generate the same samples?")
def agreement(part: Part) -> str:
    """Distances between networks, and to their own examples, at every size."""
    ladder = climbed(part.seed)
    sizes, pairs = ladder.sizes, list(combinations(range(ladder.sets), 2))
    starts = torch.randn(STARTS, 1, 1, 2, generator=part.generator).expand(-1, ladder.sets, len(sizes), -1)
    x = ladder.generated(starts)
    a = torch.stack([_distance(x[:, one], x[:, other]) for one, other in pairs])
    recalled = _distance(*(_recalled(ladder, starts[:RECALLED, s, 0], s) for s in range(2)))
    fresh = MODES.sample(2 * STARTS, generator=part.generator)
    b = torch.zeros(ladder.sets, len(sizes), dtype=torch.float64)
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            b[s, k] = _nearest(x[:, s, k], examples) / _nearest(fresh, examples)

    def fall(kept: Tensor) -> Tensor:
        first, last = a[[set(pair) <= set(kept.tolist()) for pair in pairs]].mean(0)[[0, -1]]
        return 1 - last / first

    fell, last = jackknife(fall, ladder.sets), Repeated.of(b[:, -1])
    title = f"Networks on disjoint sets come to agree: the share of a that is gone from n = {sizes[0]} to {sizes[-1]}, "
    title += "low end of the 99.9% interval"
    because = f"half, our bar; it is {fell}, all pairs of {ladder.sets} sets, by jackknife"
    part.at_least("agree", title, fell.low, 0.5, because, source=KADKHODAIE)
    title = f"At n = {sizes[-1]} samples are as far from the training examples as draws of p are: |b - 1|, far end of "
    title += "the 99.9% interval"
    because = "15%, our bar: the distribution of the network need not be p"
    part.at_most("fresh", title, max(abs(last.low - 1), abs(last.high - 1)), 0.15, because, source=KADKHODAIE)
    marks = (
        line(sizes, a.mean(0), "a: two networks from the same noise", low=a.amin(0), high=a.amax(0)),
        line(sizes, b.mean(0), "b: sample to nearest training example", low=b.amin(0), high=b.amax(0)),
        line(sizes, recalled, "a: two exact memorizers", style="dashed"),
        Rule(1.0, label="a: other noise; b: draws of p"),
    )
    part.chart(
        "Do two networks agree?",
        Panel("", "training examples", "ratio", marks, x_log=True, y_range=(0.0, 1.3)),
        how_to_read="Mean and range; dashed: the exact memorizers of the first two sets. Theirs falls too: only a "
        "small a together with b near one is beyond a memorizer.",
    )
    return (
        f"a falls from {float(a[:, 0].mean()):.2f} to {float(a[:, -1].mean()):.2f} (of two exact memorizers from "
        f"{float(recalled[0]):.2f} to {float(recalled[-1]):.2f}), b rises from {float(b[:, 0].mean()):.2f} to "
        f"{float(b[:, -1].mean()):.2f} (of memorizers it is 0)."
    )


def _distance(one: Float[Tensor, "n sizes 2"], other: Float[Tensor, "n sizes 2"]) -> Float[Tensor, " sizes"]:
    same, different = (off.square().sum(-1).mean(0).sqrt() for off in (one - other, one - other.roll(1, 0)))
    return same / different


def _recalled(ladder: Ladder, starts: Tensor, which: int) -> Float[Tensor, "n sizes 2"]:
    """Samples of the exact memorizer of set `which` at every size, from the same starts."""
    made = [generated(ExactDenoiser(Empirical(rows), SCHEDULE), starts.double()) for rows in ladder.examples[which]]
    return torch.stack(made, 1)


def _nearest(x: Tensor, examples: Tensor) -> Tensor:
    return nearest_neighbors(x, examples, 1)[0].median()

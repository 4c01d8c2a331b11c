r"""Two networks on disjoint training sets, started from the same noise: do they make the same sample?

.. math::
    a = \frac{\mathrm{rms}\,|x^A - x^B|}{\mathrm{rms}\,|x^A - x^{B'}|}, \qquad
    b = \frac{\mathrm{med}\,d_1(x^A; S_A)}{\mathrm{med}\,d_1(x; S_A)},

B' a sample of B from other noise, x a fresh draw of p. A memorizer has a near one and b = 0: what it makes is decided
by its own examples. A model of the law has b = 1 and a = 0. (Medians: a few samples end between the modes.)

Source: Kadkhodaie et al. 2024 (arXiv:2310.02557), who compare images by their cosine; the two ratios are ours.
"""

import torch
from torch import Tensor

from diffuscope.exact import nearest_neighbors
from diffuscope.experiments.chart import Chart, Panel, line
from diffuscope.experiments.claim import at_least, at_most
from diffuscope.experiments.experiment import Answer
from diffuscope.experiments.memorization_transition.ladder import climbed
from diffuscope.experiments.repeated import Repeated
from diffuscope.experiments.three_modes import LAW

STARTS = 2000
SOURCE = "Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557"


def agreement(generator: torch.Generator) -> Answer:
    """Distances between networks, and to their own examples, at every size."""
    ladder = climbed(generator.initial_seed())
    sizes, pairs = ladder.sizes, ladder.sets // 2
    starts = torch.randn(STARTS, 1, 1, 2, generator=generator).expand(-1, ladder.sets, len(sizes), -1)
    x = ladder.generated(starts)
    one, other = x[:, 0 : 2 * pairs : 2], x[:, 1 : 2 * pairs : 2]
    apart = _rms(one - other) / _rms(one - other.roll(1, 0))
    fresh = LAW.sample(2 * STARTS, generator=generator)
    near = torch.zeros(ladder.sets, len(sizes), dtype=torch.float64)
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            near[s, k] = _nearest(x[:, s, k], examples) / _nearest(fresh, examples)
    fell = Repeated.of(apart[:, 0] - apart[:, -1])
    rose = Repeated.of(near[:, -1] - near[:, 0])
    last = Repeated.of(near[:, -1])
    claims = (
        at_least(
            "agree",
            f"Networks on disjoint sets come to agree: what a falls by from n = {sizes[0]} to {sizes[-1]}, over "
            "what there is to fall",
            fell.mean / float(apart[:, 0].mean()),
            0.5,
            because=f"half; over {pairs} pairs it falls by {fell}",
            source=SOURCE,
        ),
        at_least(
            "leave",
            f"While they leave their own examples: what b rises by, lower end of the 99.9% interval over "
            f"{ladder.sets} networks",
            rose.low,
            0.2,
            because="a fifth of the way from copies to fresh draws",
            source=SOURCE,
        ),
        at_most(
            "fresh",
            f"At n = {sizes[-1]} samples are as far from the training examples as fresh draws are: |b - 1|, the "
            "farther end of the 99.9% interval",
            max(abs(last.low - 1), abs(last.high - 1)),
            0.15,
            because="15%: the law of the network need not be p",
            source=SOURCE,
        ),
    )
    panel = Panel(
        "",
        "training examples",
        "ratio",
        (
            line(sizes, apart.mean(0), "a: two networks from the same noise", low=apart.amin(0), high=apart.amax(0)),
            line(sizes, near.mean(0), "b: sample to nearest training example", low=near.amin(0), high=near.amax(0)),
            line(sizes, [1.0] * len(sizes), "a: other noise; b: fresh draws", style="dotted"),
        ),
        x_log=True,
        y_range=(0.0, 1.3),
    )
    how = "Mean and range. Few examples: each network repeats its own. Many: both have learned one law."
    told = (
        f"a falls from {float(apart[:, 0].mean()):.2f} to {float(apart[:, -1].mean()):.2f}, b rises from "
        f"{float(near[:, 0].mean()):.2f} to {float(near[:, -1].mean()):.2f}."
    )
    return Answer(told, claims, (Chart("Do two networks agree?", (panel,), how),))


def _rms(difference: Tensor) -> Tensor:
    return difference.square().sum(-1).mean(0).sqrt()


def _nearest(x: Tensor, examples: Tensor) -> Tensor:
    return nearest_neighbors(x, examples, 1)[0].median()

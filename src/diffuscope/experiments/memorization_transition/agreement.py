r"""Two networks on disjoint training sets, started from the same noise: do they make the same sample?

.. math::
    a = \frac{\mathrm{rms}\,|x^A - x^B|}{\mathrm{rms}\,|x^A - x^{B'}|}, \qquad
    b = \frac{\mathrm{med}\,d_1(x^A; S_A)}{\mathrm{med}\,d_1(x; S_A)},

B' a sample of B from other noise, x a fresh draw of p. A model of the law has b = 1 and a = 0. A memorizer has b = 0;
its a is below 1, since the start still decides in which region its samples end, and falls as examples fill the plane.
In two dimensions it falls as fast as the networks' does, beside which it is shown: a small a alone is no sign of a
law learned, a small a with b = 1 is. (Medians: a few samples end between the modes.)

Source: Kadkhodaie et al. 2024 (arXiv:2310.02557), who compare images by their cosine; the two ratios are ours.
"""

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.findings import Chart, Panel, Repeated, at_least, at_most, jackknife, line

from ..experiment import Answer
from ..three_modes import LAW, SCHEDULE, generated
from .ladder import Ladder, climbed

STARTS, RECALLED = 2000, 500  # of networks, and of exact memorizers
SOURCE = "Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557"


def agreement(generator: torch.Generator) -> Answer:
    """Distances between networks, and to their own examples, at every size."""
    ladder = climbed(generator.initial_seed())
    sizes, pairs = ladder.sizes, list(combinations(range(ladder.sets), 2))
    starts = torch.randn(STARTS, 1, 1, 2, generator=generator).expand(-1, ladder.sets, len(sizes), -1)
    x = ladder.generated(starts)
    apart = torch.stack([_apart(x[:, one], x[:, other]) for one, other in pairs])
    recalled = _apart(*(_recalled(ladder, starts[:RECALLED, s, 0], s) for s in range(2)))
    fresh = LAW.sample(2 * STARTS, generator=generator)
    near = torch.zeros(ladder.sets, len(sizes), dtype=torch.float64)
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            near[s, k] = _nearest(x[:, s, k], examples) / _nearest(fresh, examples)
    fell = jackknife(lambda kept: _fall(apart, [set(pair) <= set(kept.tolist()) for pair in pairs]), ladder.sets)
    rose = Repeated.of(near[:, -1] - near[:, 0])
    last = Repeated.of(near[:, -1])
    claims = (
        at_least(
            "agree",
            f"Networks on disjoint sets come to agree: the share of a that is gone from n = {sizes[0]} to {sizes[-1]}, "
            "lower end of the 99.9% interval",
            fell.low,
            0.5,
            because=f"half asked for; it is {fell}, all pairs of {ladder.sets} sets, by jackknife",
            source=SOURCE,
        ),
        at_least(
            "leave",
            f"While they leave their own examples: what b rises by, lower end of the 99.9% interval over "
            f"{ladder.sets} networks",
            rose.low,
            0.2,
            because="asked for: a fifth of the way from copies to fresh draws",
            source=SOURCE,
        ),
        at_most(
            "fresh",
            f"At n = {sizes[-1]} samples are as far from the training examples as fresh draws are: |b - 1|, the "
            "farther end of the 99.9% interval",
            max(abs(last.low - 1), abs(last.high - 1)),
            0.15,
            because="15% asked for: the law of the network need not be p",
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
            line(sizes, recalled, "a: two exact memorizers", style="dashed"),
            line(sizes, [1.0] * len(sizes), "a: other noise; b: fresh draws", style="dotted"),
        ),
        x_log=True,
        y_range=(0.0, 1.3),
    )
    how = (
        "Mean and range; dashed: the exact memorizers of the first two sets. Theirs falls too, as examples come to lie "
        "everywhere, so that a alone tells little: it is a small a beside b near one that a memorizer cannot have."
    )
    told = (
        f"a falls from {float(apart[:, 0].mean()):.2f} to {float(apart[:, -1].mean()):.2f} (of two exact memorizers "
        f"from {float(recalled[0]):.2f} to {float(recalled[-1]):.2f}), b rises from {float(near[:, 0].mean()):.2f} to "
        f"{float(near[:, -1].mean()):.2f} (of memorizers it is 0)."
    )
    return Answer(told, claims, (Chart("Do two networks agree?", (panel,), how),))


def _fall(apart: Float[Tensor, "pairs sizes"], kept: list[bool]) -> Tensor:
    first, last = apart[kept].mean(0)[[0, -1]]
    return 1 - last / first


def _apart(one: Tensor, other: Tensor) -> Tensor:
    return _rms(one - other) / _rms(one - other.roll(1, 0))


def _recalled(ladder: Ladder, starts: Tensor, which: int) -> Tensor:
    """Samples of the exact memorizer of set `which` at every size, from the same starts."""
    made = [generated(ExactDenoiser(Empirical(rows), SCHEDULE), starts.double()) for rows in ladder.examples[which]]
    return torch.stack(made, 1)


def _rms(difference: Tensor) -> Tensor:
    return difference.square().sum(-1).mean(0).sqrt()


def _nearest(x: Tensor, examples: Tensor) -> Tensor:
    return nearest_neighbors(x, examples, 1)[0].median()

r"""The share of samples that copy a training example, against what innocent samples do by chance.

Two laws are known exactly beside the networks: the memorizer D_S, whose flow ends on training examples only, and the
population's D_p, whose samples meet a criterion with the probability that `chance` integrates. For large n the null of
a *network* is sharper still: held-out examples, as many as training ones, to which the same samples may be as near,

.. math::  \text{excess} = P(\text{copy of a training example}) - P(\text{"copy" of a held-out example}),

which is zero for a model that has nothing of its own examples in it, whether its law is p or not.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.findings import AGREES, Chart, Panel, Repeated, at_least, at_most, equals, largest, line
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times

from ..experiment import Answer
from ..nearness import RADIUS, Near, chance
from ..three_modes import LAW, SCHEDULE, generated
from .ladder import climbed

SAMPLES, HELD_OUT = 4000, 4  # of each network; held-out sets to compare them with
INNOCENT_SETS, INNOCENT = 64, 200  # training sets of every size, and exact draws beside each
RECITED, RECITED_STEPS = 200, 60
TO_THE_END = VE(1e-5, 10.0)
SOURCE = "the radius: https://github.com/Animadversio/DiffusionMemorizationPhaseTrans"
RATIO_SOURCE = "Yoon et al. 2023; Gu et al. 2023, https://arxiv.org/abs/2310.02664"
POWER = 0.05  # the largest excess that may pass unseen at the upper end
BY = ("radius", "ratio")


def shares(generator: torch.Generator) -> Answer:
    """Copies at every training size, their two exact references, and the null of held-out examples."""
    ladder = climbed(generator.initial_seed())
    sizes = ladder.sizes
    x = ladder.generated(torch.randn(SAMPLES, ladder.sets, len(sizes), 2, generator=generator)).movedim(0, 2)
    found, held = torch.zeros(2, ladder.sets, len(sizes), 2, dtype=torch.float64)
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            found[s, k] = Near.to(examples, x[s, k]).shares
            others = [LAW.sample(len(examples), generator=generator) for _ in range(HELD_OUT)]
            held[s, k] = torch.stack([Near.to(other, x[s, k]).shares for other in others]).mean(0)
    by_chance = torch.stack([chance(LAW, n) for n in sizes])
    excess = found - held
    smallest = [Repeated.of(found[:, 0, j]) for j in range(2)]
    near, end = (Repeated.of(excess[:, -1, j]) for j in range(2))
    doublings = torch.tensor(sizes, dtype=torch.float64).log2()
    centered = doublings - doublings.mean()
    slope = Repeated.of(((found - by_chance)[:, :, 1] @ centered) / (centered @ centered))
    over = Repeated.of(found[:, -1, 0] - found[:, _middle(sizes), 0])
    claims = (
        at_most(
            "memorizer",
            f"Every sample of the exact memorizer is a copy by both criteria, n = {sizes[0]} to {sizes[-1]}: those "
            f"that are not, of {RECITED} each",
            _not_recited(ladder.examples[0], generator),
            0.0,
            because="its flow ends on the examples; the last noise is 1e-5",
            source="derived; Cao et al. 2025, https://arxiv.org/abs/2501.17054",
        ),
        *(
            at_most(
                name,
                f"Innocent samples ({what}) look like copies as often as the integrals say: the largest deviation, "
                "two criteria, all sizes",
                largest(_deviation(rows, by_chance)),
                4.5,
                because=f"4.5 standard errors, {2 * len(sizes)} numbers over {INNOCENT_SETS} training sets each",
                source="derived",
                unit="standard errors",
            )
            for name, what, rows in (
                ("chance-of-draws", "exact draws of p", _innocent(sizes, generator, flow=False)),
                ("chance-of-flow", "the flow of the exact denoiser of p", _innocent(sizes, generator, flow=True)),
            )
        ),
        *(
            at_least(
                f"small-{by}",
                f"Trained on {sizes[0]} examples the network copies them ({by}): the lower end of the share's 99.9% "
                f"interval over {ladder.sets} training sets",
                smallest[j].low,
                times * float(by_chance[0, j]),
                because=f"{times} times what is expected by chance, {float(by_chance[0, j]):.2g}",
                source=(SOURCE, RATIO_SOURCE)[j],
            )
            for j, (by, times) in enumerate(zip(BY, (5, 2), strict=True))
        ),
        at_most(
            "trend",
            "The share above chance (ratio) falls with the doublings of the training set: its slope",
            slope.significance,
            -slope.seen,
            because=f"Student's 99.9% over {ladder.sets} slopes, {slope} per doubling",
            source=RATIO_SOURCE,
            unit="standard errors",
        ),
        equals(
            "large",
            f"Trained on {sizes[-1]} it does not: samples that are copies of training examples (ratio), less those "
            "that are of as many held-out ones",
            end.mean,
            0.0,
            within=end.room(AGREES),
            because=f"Student's interval over {ladder.sets} training sets, missed once in 10,000",
            source="derived",
        ),
        equals(
            "large-radius",
            "Nor by radius: there as many samples are near held-out examples as near training ones",
            near.mean,
            0.0,
            within=near.room(AGREES),
            because=f"Student's interval over {ladder.sets} training sets, missed once in 10,000",
            source="derived",
        ),
        at_most(
            "power",
            "An excess that would have been missed there is small, by either criterion",
            largest((near.room(AGREES), end.room(AGREES))),
            POWER,
            because="5% of the samples",
            source="asked for",
        ),
        at_least(
            "radius-misleads",
            f"Without its chance the radius would call the innocent guilty: the share at n = {sizes[-1]} less that at "
            f"{sizes[_middle(sizes)]}",
            over.significance,
            over.seen,
            because=f"Student's 99.9%; it is {over}, though chance alone grows with the number of examples",
            source="derived",
            unit="standard errors",
        ),
    )
    told = (
        f"From {float(found[:, 0, 1].mean()):.0%} of the samples at n = {sizes[0]} (by chance "
        f"{float(by_chance[0, 1]):.0%}) to {float(found[:, -1, 1].mean()):.1%} at {sizes[-1]} (by chance "
        f"{float(by_chance[-1, 1]):.1%}; excess over held-out examples {end})."
    )
    return Answer(told, claims, (_chart(sizes, found, held, by_chance),))


def _middle(sizes: tuple[int, ...]) -> int:
    """The first size of at least 32: most copies are gone, and those by chance have not come."""
    return next(k for k, n in enumerate(sizes) if n >= 32)


def _not_recited(rungs: tuple[Tensor, ...], generator: torch.Generator) -> float:
    missed = 0.0
    times = karras_times(TO_THE_END, TO_THE_END.t_max, TO_THE_END.t_min, RECITED_STEPS)
    for examples in rungs:
        denoiser = ExactDenoiser(Empirical(examples), TO_THE_END)
        start = TO_THE_END.t_max * torch.randn(RECITED, 2, dtype=torch.float64, generator=generator)
        x = denoiser(sample(DPMSolverPP2M(), denoiser, start, times), TO_THE_END.t_min)
        near = Near.to(examples, x)
        missed += float((~near.radius | ~near.ratio).sum())
    return missed


def _innocent(
    sizes: tuple[int, ...], generator: torch.Generator, *, flow: bool
) -> list[Float[Tensor, "sets criteria"]]:
    """For every size the shares of exact draws, or of samples of the exact flow, over independent training sets."""
    denoiser, found = ExactDenoiser(LAW, SCHEDULE), []
    for n in sizes:
        count = INNOCENT_SETS * INNOCENT
        if flow:
            x = generated(denoiser, torch.randn(count, 2, dtype=torch.float64, generator=generator))
        else:
            x = LAW.sample(count, generator=generator)
        found.append(
            torch.stack([Near.to(LAW.sample(n, generator=generator), rows).shares for rows in x.split(INNOCENT)])
        )
    return found


def _deviation(rows: list[Tensor], by_chance: Tensor) -> list[float]:
    """|mean - chance| in standard errors, of both criteria at every size."""
    deviations = []
    for found, expected in zip(rows, by_chance, strict=True):
        for j in range(2):
            mean = Repeated.of(found[:, j])
            # where almost none is near the standard error of the chance itself is the safer one
            error = max(mean.error, float((expected[j] * (1 - expected[j]) / found.shape[0] / INNOCENT).sqrt()))
            deviations.append(abs(mean.mean - float(expected[j])) / error)
    return deviations


def _chart(sizes: tuple[int, ...], found: Tensor, held: Tensor, by_chance: Tensor) -> Chart:
    panels = []
    for j, title in enumerate((f"within {RADIUS:g} of an example", "three times nearer than to any other")):
        means = [Repeated.of(found[:, k, j]) for k in range(len(sizes))]
        low, high = [max(0.0, m.low) for m in means], [min(1.0, m.high) for m in means]
        panels.append(
            Panel(
                title,
                "training examples",
                "share of samples",
                (
                    line(sizes, [1.0] * len(sizes), "memorizer", style="dotted"),
                    line(sizes, [m.mean for m in means], "training examples", low=low, high=high),
                    line(sizes, held[:, :, j].mean(0), "held-out examples"),
                    line(sizes, by_chance[:, j], "by chance", style="dashed"),
                ),
                x_log=True,
                y_range=(0.0, 1.05),
            )
        )
    how = (
        f"Samples of the networks near training and held-out examples, mean over {len(found)} training sets with its "
        "99.9% interval; the memorizer and chance are exact. Left: beyond 128 examples the share rises "
        "again, and that of held-out examples with it. Right: chance is about 1/9 at every size. What a network "
        "remembers is what is above the held-out examples' share, whatever its law."
    )
    return Chart("Copies among the samples", tuple(panels), how, shared_y=True)

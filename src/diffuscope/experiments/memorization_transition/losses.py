r"""Training and held-out loss by noise level, each against its exact floor, and where the gap between them opens.

With R_S and R_p the irreducible losses of the training set and of the law,

.. math::
    \text{gap}(\sigma) = \underbrace{E_p|D - D_p|^2 + R_p}_{\text{held-out loss}}
      - \underbrace{(E_S|D - D_S|^2 + R_S)}_{\text{training loss}},

all per coordinate. For the memorizer D = D_S the training excess is zero and the gap is a property of the examples
alone. It is told as a share of R_p, and *opens* at the largest :math:`\sigma` where it reaches R_p: there held-out and
training loss are one floor apart. The marker is half the mean distance of an example to its nearest other,
:math:`\sigma_* = \tfrac12 E\, d_1`; where p is flat between neighbors nothing but :math:`\sigma/\sigma_*` can matter.

R_S and R_p are means of exact posterior variances over drawn x_t, R_S over each set's own and R_p over UNSEEN that all
sets share: an error of up to 1 % in R_p (one standard error) is in every set's gap, and in no interval over sets.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical, nearest_other_neighbors
from diffuscope.findings import Chart, Panel, Repeated, at_least, at_most, equals, jackknife, largest, line
from diffuscope.training import Optimum, PlainWeight, denoising_loss

from ..experiment import Answer
from ..three_modes import LAW
from .ladder import Ladder, climbed

LEVELS = torch.logspace(math.log10(0.015), math.log10(1.5), 9, dtype=torch.float64)
POINTS, UNSEEN, DRAWN = 512, 3000, 20_000
RECALLED = 1500  # of the unseen draws: what a memorizer does there, whose distance hides the rest of the noise
FLAT = 64  # from here on neighbors are nearer than the modes are wide
CLOSED = 0.2  # floors
SOURCE = "the marker: https://github.com/Animadversio/DiffusionMemorizationPhaseTrans"


@dataclass(frozen=True, eq=False)
class Gaps:
    """The two losses of networks and of exact memorizers by set, size and level; R_p by level; the marker."""

    train: Float[Tensor, "sets sizes levels"]
    unseen: Float[Tensor, "sets sizes levels"]
    memorizer_train: Float[Tensor, "sets sizes levels"]
    memorizer_unseen: Float[Tensor, "sets sizes levels"]
    floor: Float[Tensor, " levels"]
    marker: Float[Tensor, "sets sizes"]

    @property
    def network(self) -> Float[Tensor, "sets sizes levels"]:
        """Held-out less training loss of the networks, over the floor."""
        return (self.unseen - self.train) / self.floor

    @property
    def memorizer(self) -> Float[Tensor, "sets sizes levels"]:
        """The same of the exact memorizers."""
        return (self.memorizer_unseen - self.memorizer_train) / self.floor


def losses(generator: torch.Generator) -> Answer:
    """Gaps of networks and memorizers at every noise level."""
    ladder = climbed(generator.initial_seed())
    gaps, sizes = _gaps(ladder, generator), ladder.sizes
    relative = gaps.memorizer
    marker = gaps.marker.mean(0)
    opened = torch.stack([opening(rung.mean(0)) for rung in relative.unbind(1)]) / marker
    flat = [k for k, n in enumerate(sizes) if n >= FLAT]
    center = float(opened[flat].log().mean().exp())
    small = jackknife(
        lambda kept: (opening(gaps.network[kept, 1].mean(0)) / opening(relative[kept, 1].mean(0))).log(), ladder.sets
    )
    ends = [Repeated.of(gaps.network[:, -1, j]) for j in range(len(LEVELS))]
    drawn, expected, error = _drawn_loss(ladder, generator)
    coarse, fine = (int((LEVELS - level).abs().argmin()) for level in (0.25, 0.03))
    captured = (gaps.network[:, : flat[0]].sum((0, 1)) / relative[:, : flat[0]].sum((0, 1))).tolist()
    claims = (
        equals(
            "loss-is-excess-and-floor",
            f"The loss of a network on its {sizes[0]} training examples, drawn {DRAWN:,} times, is its distance to "
            "their exact denoiser plus their irreducible loss",
            drawn,
            expected,
            within=4 * error,
            because="4 standard errors of both",
            source="Vincent 2011",
        ),
        *(
            at_most(
                name,
                f"The exact memorizer's gap opens at one multiple of the marker, {center:.2f}, from n = "
                f"{sizes[flat[0]]} to {sizes[-1]}: {what} multiple over it",
                found / center if name == "widest" else center / found,
                1.25,
                because=f"25% asked for; the marker itself falls {float(marker[flat[0]] / marker[-1]):.1f}-fold",
                source=SOURCE,
            )
            for name, what, found in (
                ("widest", "the largest", largest(opened[flat].tolist())),
                ("narrowest", "inverse of the smallest", -largest((-opened[flat]).tolist())),
            )
        ),
        *(
            bound(
                f"marker-{side}",
                f"That multiple is between one and two: the gap opens {where} the mean distance of neighbors",
                center,
                factor,
                because=f"asked for; {opened[flat].min():.2f} to {opened[flat].max():.2f} over the sizes",
                source=SOURCE,
            )
            for side, bound, factor, where in (
                ("low", at_least, 1, "above half"),
                ("high", at_most, 2, "below"),
            )
        ),
        at_most(
            "network-opens",
            f"Networks on {sizes[1]} examples open their gap near where their memorizers do: the farther end of the "
            "99.9% interval of the logarithm of one σ over the other",
            max(abs(small.low), abs(small.high)),
            math.log(3),
            because=f"a factor of 3 to either side asked for, of the {float(LEVELS[-1] / LEVELS[0]):.0f}-fold range of "
            f"levels; it is {math.exp(small.mean):.2f}, {ladder.sets} sets, by jackknife",
            source="measured here",
        ),
        at_most(
            "network-closed",
            f"On {sizes[-1]} it opens at no level: the largest upper end of the gap's 99.9% intervals, in floors",
            largest(end.high for end in ends),
            CLOSED,
            because=f"a fifth of a floor asked for; the memorizer reaches {float(relative[:, -1].amax()):.0f}",
            source="measured here",
        ),
        at_most(
            "network-blind",
            f"Within these steps it does not resolve fine levels: of the memorizer's gap at n < {FLAT} it has, at σ = "
            f"{float(LEVELS[fine]):.2g}, at most a quarter of what it has at {float(LEVELS[coarse]):.2g}",
            captured[fine] / captured[coarse],
            0.25,
            because=f"a quarter asked for; there it has {captured[coarse]:.0%}",
            source="measured here",
        ),
    )
    held = {claim.name for claim in claims if claim.holds}
    told = (
        f"The memorizer's held-out loss leaves its training loss by a whole floor at σ = {center:.2f} times half the "
        f"mean distance of neighbors, {'whatever' if {'widest', 'narrowest'} <= held else 'but not at every'} n from "
        f"{FLAT} on. The network's opens {'near' if 'network-opens' in held else 'elsewhere than'} its memorizer's at "
        f"n = {sizes[1]} and {'at no level' if 'network-closed' in held else 'perhaps still'} at {sizes[-1]}."
    )
    return Answer(told, claims, (_loss_chart(ladder, gaps), _gap_chart(ladder, gaps)))


def opening(gap: Float[Tensor, " levels"]) -> Float[Tensor, ""]:
    """The largest sigma where the gap is one, between levels on a log-log line; NaN if it is one nowhere."""
    above = (gap >= 1).nonzero()
    if len(above) == 0:
        return torch.tensor(math.nan, dtype=torch.float64)
    k = int(above[-1])
    if k == len(gap) - 1:
        return LEVELS[-1]
    low, high = gap[k].log(), gap[k + 1].clamp_min(1e-3).log()
    share = low / (low - high)
    return (LEVELS[k].log() * (1 - share) + LEVELS[k + 1].log() * share).exp()


@torch.no_grad()
def _gaps(ladder: Ladder, generator: torch.Generator) -> Gaps:
    """One set of unseen draws serves all networks; every training set has noised examples of its own."""
    shape = (ladder.sets, len(ladder.sizes), len(LEVELS))
    train, unseen, floors, memorized = (torch.zeros(shape, dtype=torch.float64) for _ in range(4))
    noised = [
        LAW.sample(UNSEEN, generator=generator)
        + sigma * torch.randn(UNSEEN, 2, dtype=torch.float64, generator=generator)
        for sigma in LEVELS
    ]
    exact = [LAW.denoise(x, 1.0, sigma) for x, sigma in zip(noised, LEVELS, strict=True)]
    floor = torch.stack(
        [LAW.posterior_covariance(x, 1.0, s).trace().mean() / 2 for x, s in zip(noised, LEVELS, strict=True)]
    )
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            denoiser, law = ladder.alone(s, k), Empirical(examples)
            repeated = examples.repeat(-(-POINTS // len(examples)), 1).float()  # enough to noise; the same law
            optimum = Optimum.of(denoiser, repeated, noise_to_signal=tuple(LEVELS.tolist()), points=POINTS, seed=s)
            for j, level in enumerate(optimum.distance(denoiser, 0).levels):
                train[s, k, j] = level.train.loss
                found = denoiser(noised[j].float(), LEVELS[j]).double()
                unseen[s, k, j] = (found - exact[j]).square().mean() + floor[j]
                floors[s, k, j] = level.train.irreducible
                found = law.denoise(noised[j][:RECALLED], 1.0, LEVELS[j])
                memorized[s, k, j] = (found - exact[j][:RECALLED]).square().mean() + floor[j]
    marker = torch.tensor(
        [[float(nearest_other_neighbors(rows, 1)[0].mean()) / 2 for rows in rungs] for rungs in ladder.examples],
        dtype=torch.float64,
    )
    return Gaps(train, unseen, floors, memorized, floor, marker)


@torch.no_grad()
def _drawn_loss(ladder: Ladder, generator: torch.Generator) -> tuple[float, float, float]:
    """The denoising loss of one network, drawn; excess and floor at other draws; the standard error of both."""
    examples, denoiser = ladder.examples[0][0], ladder.alone(0, 0)
    level = LEVELS[len(LEVELS) // 2]
    x_0 = examples[torch.randint(len(examples), (DRAWN,), generator=generator)].float()
    noise = torch.randn(DRAWN, 2, generator=generator)
    parts = [
        float(denoising_loss(denoiser, rows, level, other, PlainWeight()))
        for rows, other in zip(x_0.split(100), noise.split(100), strict=True)
    ]
    repeated = examples.repeat(-(-DRAWN // len(examples)), 1).float()
    optimum = Optimum.of(denoiser, repeated, noise_to_signal=(float(level),), points=DRAWN)
    found = optimum.distance(denoiser, 0).levels[0].train
    drawn = Repeated.of(torch.tensor(parts, dtype=torch.float64))
    # the posterior variance varies less from point to point than the square it is the mean of
    return drawn.mean, found.loss, math.hypot(drawn.error, found.standard_error, drawn.error)


def _loss_chart(ladder: Ladder, gaps: Gaps) -> Chart:
    panels, unit = [], LEVELS.square()
    for k in (0, 2, len(ladder.sizes) - 1):
        marks = (
            line(LEVELS, gaps.unseen[:, k].mean(0) / unit, "held-out"),
            line(LEVELS, gaps.train[:, k].mean(0) / unit, "training"),
            line(LEVELS, gaps.memorizer_unseen[:, k].mean(0) / unit, "memorizer", style="dotted"),
            line(LEVELS, gaps.memorizer_train[:, k].mean(0) / unit, style="dotted"),
            line(LEVELS, gaps.floor / unit, "floor of the law", style="dashed"),
        )
        axes = {"x_log": True, "y_range": (0.0, 3.0)}
        panels.append(Panel(f"n = {ladder.sizes[k]}", "noise level σ", "loss / σ²", marks, **axes))
    how = (
        "Mean over training sets; dotted: the memorizer's held-out loss (above) and training loss. "
        "Where examples are few the training loss sinks below the floor of the law and the "
        "held-out loss pays for it; where they are many the network stays on the floor, far from the memorizer."
    )
    return Chart("Training and held-out loss by noise level", tuple(panels), how, shared_y=True)


def _gap_chart(ladder: Ladder, gaps: Gaps) -> Chart:
    marker, panels = gaps.marker.mean(0), []
    for title, rows in (("exact memorizer", gaps.memorizer), ("network", gaps.network)):
        marks = []
        for k, n in enumerate(ladder.sizes):
            mean = rows[:, k].mean(0)
            shown = mean > 0.02  # below it the mean is noise
            if int(shown.sum()) > 1 and n not in (128, 512):  # as many curves as there are colors
                marks.append(line((LEVELS / marker[k])[shown], mean[shown], f"n = {n}"))
        marks.append(line([1.0, 1.0], [0.02, 300.0], style="dashed"))
        panels.append(
            Panel(title, "σ over half the mean distance of neighbors", "gap / floor", tuple(marks), x_log=True,
                  y_log=True, x_range=(0.05, 30.0), y_range=(0.02, 300.0))
        )  # fmt: skip
    how = (
        "Held-out less training loss; dashed: the marker. The memorizers of many examples fall on one curve of σ over "
        "it. A network comes along it from the right, and leaves it at levels that it does not resolve in these steps. "
        "Gaps below the axis are not drawn."
    )
    return Chart("Where the gap opens", tuple(panels), how, shared_y=True)

r"""What the noise of the target does to a network: its loss floor, what it learns, and what it copies.

.. math::
    E\,\tfrac1d|D - T_M|^2 = E\,\tfrac1d|D - D^*|^2 + \frac1M\, E\,\tfrac1d \operatorname{tr}\mathrm{Cov}(x_0|x_t) .

Vastola's hypothesis is that the second term is what makes diffusion models generalize: less noise in the target, nearer
to the memorizer. The same networks on the same batches are compared set by set, so that a difference has a standard
error over independent training sets.

One caveat is measured too: less noise is also faster learning. Each noise-free network is looked at when its training
error was what its twin at M = 1 ends with; what is left of the difference there is not a matter of speed.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical
from diffuscope.findings import DIFFERS, Chart, Panel, Repeated, at_least, at_most, largest, line

from ..experiment import Answer
from ..nearness import chance
from ..three_modes import LAW, alone
from .dial import DIAL, EXAMPLES, PAPER, objective, targets_of, weighed, written
from .networks import dialed

FLOOR_LEVEL, DRAWS = 0.25, 20_000
INVERSE = torch.tensor([0.0 if math.isinf(m) else 1 / m for m in DIAL], dtype=torch.float64)


def floors(generator: torch.Generator) -> Answer:
    """The loss of each network of the first set at its own M, drawn, against its distance and the floor over M."""
    found = dialed(generator.initial_seed())
    data = found.examples[0]
    x_0 = data[torch.randint(len(data), (DRAWS,), generator=generator)]
    noise = torch.randn(DRAWS, 2, dtype=torch.float64, generator=generator)
    sigma = torch.full((DRAWS,), FLOOR_LEVEL, dtype=torch.float64)
    x_t, law = x_0 + FLOOR_LEVEL * noise, Empirical(data)
    exact = weighed(data, x_t, sigma) @ data
    variance = law.posterior_covariance(x_t, 1.0, FLOOR_LEVEL).trace() / 2
    deviations, losses, distances = [], [], []
    for k, m in enumerate(DIAL):
        denoiser = alone(found.denoiser, k)
        with torch.no_grad():
            answer = denoiser(x_t.float(), sigma).double()
        drawn = targets_of(objective(m), data, x_0, sigma, noise, generator=generator)
        loss, distance = (answer - drawn).square().mean(1), (answer - exact).square().mean(1)
        off = loss - distance - variance * INVERSE[k]
        # at M = infinity nothing is random: what is left is rounding
        error = max(float(off.std()) / math.sqrt(DRAWS), 1e-12)
        deviations.append(abs(float(off.mean())) / error)
        losses.append(float(loss.mean()))
        distances.append(float(distance.mean()))
    floor = float(variance.mean())
    claims = (
        at_most(
            "loss-floor",
            f"The loss at M is the distance to the exact denoiser plus the irreducible loss over M, σ = "
            f"{FLOOR_LEVEL:g}: the largest deviation, M = 1 to ∞",
            largest(deviations),
            4.5,
            because=f"4.5 standard errors of {DRAWS:,} draws, paired",
            source=PAPER,
            unit="standard errors",
        ),
        at_most(
            "floor-gone",
            "Of the floor at M = 1 nothing is left at M = ∞: |loss less distance| over that floor",
            abs(losses[-1] - distances[-1]) / floor,
            1e-12,
            because="rounding",
            source="derived",
        ),
    )
    panel = Panel(
        "",
        "1 / M",
        "loss at σ = 0.25",
        (
            line(INVERSE, losses, "loss, drawn"),
            line(INVERSE, torch.tensor(distances) + floor * INVERSE, "distance + floor", style="dashed"),
            line(INVERSE, distances, "distance to the exact denoiser"),
            line(INVERSE, INVERSE * floor, "irreducible loss over M", style="dotted"),
        ),
        y_range=(0.0, 1.15 * max(losses)),
    )
    how = (
        "Networks of one training set, one per M; the dashed line is what the loss must be. It says little of how well "
        "a network does: at M = 1 most of it is floor."
    )
    rest = ", all distance." if all(claim.holds for claim in claims) else "; but distance and floor are not all of it."
    told = f"From {losses[0]:.4f} at M = 1, of which {floor:.4f} is floor, to {losses[-1]:.4f} at M = ∞{rest}"
    return Answer(told, claims, (Chart("The loss and its floor", (panel,), how),))


def generalization(generator: torch.Generator) -> Answer:
    """Training error, unseen error and copies at every M, set by set."""
    found = dialed(generator.initial_seed())
    train, unseen, copied = found.train[-1], found.unseen[-1], found.shares[:, :, 1]
    learned = Repeated.of(train[:, 0] - train[:, -1])
    farther = unseen[:, -1] - unseen[:, 0]
    worse = Repeated.of(farther)
    more = Repeated.of(copied[:, -1] - copied[:, 0])
    slope = Repeated.of(_slope(unseen))
    left = _matched(found.train, found.unseen)
    reached = ~left.isnan()
    matched = Repeated.of(left[reached]) if int(reached.sum()) > 1 else Repeated(math.nan, math.nan, int(reached.sum()))
    theirs = float(farther[reached].mean())
    claims = (
        *(
            at_least(
                name,
                what,
                difference.significance,
                difference.seen,
                because=f"Student's 99.9% over {len(train)} training sets; the difference is {difference}, and one of "
                f"{difference.room(DIFFERS):.2g} would have been seen",
                source=source,
                unit="standard errors",
            )
            for name, what, difference, source in (
                (
                    "learned",
                    "Without noise in the target a network comes nearer to the memorizer: training error at M = 1 less "
                    "that at M = ∞",
                    learned,
                    "derived",
                ),
                ("unseen", "And goes farther from the law: unseen error at M = ∞ less that at M = 1", worse, PAPER),
                ("copies", "It copies more: share of copies (ratio) at M = ∞ less that at M = 1", more, PAPER),
            )
        ),
        at_most(
            "dial",
            "It is a dial: the slope of the unseen error over 1/M",
            slope.significance,
            -slope.seen,
            because=f"Student's 99.9%; more noise, less error: {slope}",
            source=PAPER,
            unit="standard errors",
        ),
        at_most(
            "speed",
            "Most of it is speed: at equal training error what is left of the difference in unseen error, farther end "
            "of the 99.9% interval, as a share of it",
            max(abs(matched.low), abs(matched.high)) / theirs if theirs > 0 else math.nan,
            0.5,
            because=f"half asked for; {matched} is left of {theirs:.3f}, over {matched.repetitions} sets",
            source="measured here",
        ),
        at_least(
            "reached",
            "Nearly every noise-free network comes to the training error that its twin at M = 1 ends with: share of "
            "the sets, the others left out of the comparison at equal error",
            matched.repetitions / len(left),
            0.9,
            because=f"nine of ten asked for; it is {matched.repetitions} of {len(left)}",
            source="measured here",
        ),
    )
    held = {claim.name for claim in claims if claim.holds}
    answer = "yes" if {"learned", "unseen", "copies", "dial"} <= held else "not in all that it should mean"
    speed = (
        "has mostly come farther on the same way"
        if {"speed", "reached"} <= held
        else "is not shown to have just come farther on the same way"
    )
    fell = 1 - float(unseen[:, 0].mean() / unseen[:, -1].mean())
    told = (
        f"After equally many steps {answer}: from M = ∞ to M = 1 the unseen error falls by {fell:.0%} and copies from "
        f"{float(copied[:, -1].mean()):.1%} to {float(copied[:, 0].mean()):.1%} of the samples. The noise-free "
        f"network {speed}: of a difference in unseen error of {theirs:.3f} it keeps {matched} at equal training error."
    )
    return Answer(told, claims, (_dial_chart(train, unseen, copied), _path_chart(found.train, found.unseen)))


def _slope(values: Float[Tensor, "sets dial"]) -> Float[Tensor, " sets"]:
    """Least squares over 1/M, in every set."""
    centered = INVERSE - INVERSE.mean()
    return values @ centered / (centered @ centered)


def _matched(
    train: Float[Tensor, "looks sets dial"], unseen: Float[Tensor, "looks sets dial"]
) -> Float[Tensor, " sets"]:
    """Unseen error at M = infinity less that at M = 1, where the former's training error was the latter's last one.

    NaN for a set where it never was, or already at the first look.
    """
    left = torch.full((train.shape[1],), math.nan, dtype=torch.float64)
    for s in range(train.shape[1]):
        path, wanted = train[:, s, -1], train[-1, s, 0]
        later = (path <= wanted).nonzero()
        if len(later) == 0 or int(later[0]) == 0:
            continue
        k = int(later[0])
        share = (path[k - 1] - wanted) / (path[k - 1] - path[k])
        there = unseen[k - 1, s, -1] * (1 - share) + unseen[k, s, -1] * share
        left[s] = there - unseen[-1, s, 0]
    return left


def _dial_chart(train: Tensor, unseen: Tensor, copied: Tensor) -> Chart:
    panels = []
    for title, label, values in (
        ("copies", "share of samples (ratio)", copied),
        ("error to the law", "unseen error", unseen),
        ("error to the memorizer", "training error", train),
    ):
        means = [Repeated.of(values[:, k]) for k in range(len(DIAL))]
        mean, error = torch.tensor([m.mean for m in means]), torch.tensor([m.error for m in means])
        marks = [line(INVERSE, mean, f"{len(values)} networks", low=mean - error, high=mean + error)]
        if title == "copies":
            marks.append(line((0.0, 1.0), [float(chance(LAW, EXAMPLES)[1])] * 2, "by chance", style="dashed"))
        panels.append(Panel(title, "1 / M", label, tuple(marks)))
    how = (
        "0 is the noise-free target, 1 denoising. Mean and one standard error over training sets, the same sets at "
        "every M, so that differences are surer than the bands say. Errors in units of the noise."
    )
    return Chart("Less noise in the target, more memory", tuple(panels), how)


def _path_chart(train: Tensor, unseen: Tensor) -> Chart:
    marks = tuple(
        line(train[:, :, k].mean(1), unseen[:, :, k].mean(1), f"M = {written(DIAL[k])}") for k in (0, 2, len(DIAL) - 1)
    )
    how = (
        "Each curve runs from right to left in training, mean over the training sets. If the dial were speed alone all "
        "would be one curve, and only how far they get would differ."
    )
    return Chart("The way there", (Panel("", "training error", "unseen error", marks),), how)

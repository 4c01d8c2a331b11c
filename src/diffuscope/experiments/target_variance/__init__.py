r"""The noise of the target, a dial between denoising and memorizing.

Denoising trains on x_0; the mean of M draws from its posterior is a target of the same mean and less noise,

.. math::  E[T_M | x_t] = D^*(x_t), \qquad \mathrm{Cov}(T_M | x_t) = \tfrac1M\, \mathrm{Cov}(x_0 | x_t),

so that the loss at M is the squared distance to D* plus the irreducible loss over M. Vastola's hypothesis is that this
noise is what makes diffusion models generalize: with less of it a network comes closer to the memorizer. The same
networks are trained on the same batches at every M and compared set by set, so that a difference has a standard error
over independent training sets.

Less noise is also faster learning. Each noise-free network is therefore compared a second time, at the step where its
training error equaled the final one of its twin at M = 1; the remaining difference is not a matter of speed.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical, nearest_other_neighbors
from diffuscope.findings import DIFFERS, Repeated, Rule, largest, line, points

from ..experiment import Experiment
from ..nearness import chance
from ..part import Part, loglog, panel
from ..three_modes import DEPTH, MODES, VARIANCE, WIDTH
from .gradients import SAMPLES, sample_gradients
from .networks import BATCH, SETS, STEPS, dialed
from .targets import DIAL, EXAMPLES, FINITE, covariance, posterior_weights, targets_of

INVERSE = torch.tensor([1 / M for M in DIAL], dtype=torch.float64)
LEVELS, DRAWS = (0.1, 0.2, 0.4, 0.8), 20_000  # draws at each of 2 points per level
EXPERIMENT = Experiment(
    name="target-variance",
    title="The noise of the target: a dial between denoising and memorizing",
    question="What effect does the noise in its targets have on a network?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=45,
    settings={
        "M": "1, 2, 4, 8, 32, ∞",
        "identity": "20,000 draws at each of two points per level 0.1, 0.2, 0.4, 0.8",
        "data": f"{EXAMPLES} draws from three equal modes of variance {VARIANCE:.4g} on the unit circle, in the plane",
        "training": f"{SETS} training sets, a network for every M, {STEPS:,} steps of {BATCH} examples, the same "
        "batches at every M",
        "network": f"MLP of {WIDTH} x {DEPTH}",
    },
)


@EXPERIMENT.part("Does averaging M draws divide the target's covariance by M?")
def identity(part: Part) -> str:
    """The library's targets half way between an example and its nearest other, where the posterior is undecided."""
    data = MODES.sample(EXAMPLES, generator=part.generator)
    chosen = torch.randperm(EXAMPLES, generator=part.generator)[: 2 * len(LEVELS)]
    x_t = (data[chosen] + data[nearest_other_neighbors(data, 1)[1][chosen, 0]]) / 2
    sigma, p = torch.tensor(LEVELS, dtype=torch.float64).repeat(2), Empirical(data)
    mean, posterior = p.denoise(x_t, 1.0, sigma), covariance(p, x_t, sigma)
    weights = posterior_weights(data, x_t, sigma)
    x_0 = data[torch.multinomial(weights, DRAWS, replacement=True, generator=part.generator)]
    noise = ((x_t[:, None] - x_0) / sigma[:, None, None]).flatten(0, 1)  # what leads from x_0 to x_t
    times = sigma[:, None].expand(-1, DRAWS).flatten()
    deviations, traces = [], []
    for M in FINITE:
        drawn = targets_of(M, data, x_0.flatten(0, 1), times, noise, generator=part.generator)
        off = drawn.reshape(x_0.shape) - mean[:, None]
        traces.append(off.square().sum(2).mean(1))
        if M > 1:  # the square of a single draw between two points is nearly constant, and has no standard error
            products = M * off[..., :, None] * off[..., None, :]
            error = products.std(1) / math.sqrt(DRAWS)
            deviations.append(float(((products.mean(1) - posterior).abs() / error).max()))
    title = "M Cov(T_M | x_t) is the posterior covariance, element by element: the largest deviation, M = "
    title += f"{FINITE[1]} to {FINITE[-1]}"
    because = f"4.5 standard errors of {DRAWS:,} draws, {len(deviations) * len(x_t) * 3} numbers"
    part.at_most("target-covariance", title, largest(deviations), 4.5, because, unit="standard errors")
    exact, marks = posterior.diagonal(dim1=1, dim2=2).sum(1), []
    for k, level in enumerate(LEVELS):
        marks.append(points(FINITE, [float(trace[k]) for trace in traces], f"σ = {level:g}"))
        marks.append(line(FINITE, [float(exact[k]) / M for M in FINITE], style="dashed"))
    part.chart(
        "The noise in the target",
        loglog("", "draws in the mean, M", "tr Cov(target | x_t)", *marks),
        how_to_read="Half way between two examples. Dots: the library's targets. Dashed: posterior covariance over M.",
    )
    return "Yes, element by element." if part.claims[0].holds else "No: its covariance differs."


@EXPERIMENT.part("How much of the gradient's noise comes from the target?")
def gradient(part: Part) -> str:
    """Variance of the gradient at every M, and its two parts."""
    found = sample_gradients(part.generator)
    a, *measured = (found.squares.mean(1) - found.mean).tolist()
    b = float(found.target_part.mean())
    deviations = []
    for k, M in enumerate(FINITE):
        influence = found.influence[1 + k] - found.influence[0] - found.target_part / M
        deviations.append(abs(measured[k] - a - b / M) / (float(influence.std()) / math.sqrt(len(influence))))
    title = "The variance of the gradient is a + b/M, a and b from the exact posterior: the largest deviation, M = 1 "
    title += f"to {FINITE[-1]}"
    because = f"4.5 standard errors over {SAMPLES:,} samples, the same x_t on both sides"
    part.at_most("total-variance", title, largest(deviations), 4.5, because, unit="standard errors")

    part.chart(
        "Where the gradient's noise comes from",
        panel(
            "",
            "1 / M",
            "variance of a sample's gradient",
            points([1 / M for M in FINITE], measured, "measured"),
            line((0.0, 1.0), (a, a + b), "a + b/M, exact posterior"),
            Rule(a, label="a: where x_t lies"),
        ),
        how_to_read="Averaging targets moves along the line down to a and no lower.",
    )
    least = b / FINITE[-1]
    return (
        f"At these weights the target's noise is {b / (a + b):.0%} of the gradient's variance at M = 1 and "
        f"{least / (a + least):.0%} at M = {FINITE[-1]}."
    )


@EXPERIMENT.part("Does less noise in the target mean more memorization?")
def generalization(part: Part) -> str:
    """Training error, held-out error and copies at every M, set by set."""
    found = dialed(part.seed)
    train, heldout, copied = found.train[-1], found.heldout[-1], found.copied
    closer, further, more = train[:, 0] - train[:, -1], heldout[:, -1] - heldout[:, 0], copied[:, -1] - copied[:, 0]
    for name, title, difference in (
        (
            "learned",
            "Without noise in the target a network is closer to the memorizer: training error, M = 1 - M = ∞",
            closer,
        ),
        ("unseen", "And farther from the distribution: held-out error, M = ∞ - M = 1", further),
        ("copies", "It copies more: share of copies (ratio), M = ∞ - M = 1", more),
    ):
        mean = Repeated.of(difference)
        because = f"Student's 99.9% over {len(train)} training sets; the difference is {mean}, and "
        because += f"{mean.room(DIFFERS):.2g} would have been detected"
        part.at_least(name, title, mean.significance, mean.seen, because, unit="standard errors")
    centered = INVERSE - INVERSE.mean()
    slope = Repeated.of(heldout @ centered / (centered @ centered))
    title, because = "It is a dial: the slope of the held-out error over 1/M", f"Student's 99.9%; the slope is {slope}"
    part.at_most("dial", title, slope.significance, -slope.seen, because, unit="standard errors")
    left = left_at_equal_error(found.train, found.heldout)
    reached = ~left.isnan()
    sets = int(reached.sum())
    matched = Repeated.of(left[reached]) if sets > 1 else Repeated(math.nan, math.nan, sets)
    whole = float(further[reached].mean())
    title = "Most of it is speed: the share of the difference in held-out error that remains at equal training error, "
    title += "far end of the 99.9% interval"
    share = max(abs(matched.low), abs(matched.high)) / whole if whole > 0 else math.nan
    because = f"half, our bar; {matched} of {whole:.3f} remains, over {sets} sets"
    part.at_most("speed", title, share, 0.5, because, source="measured here")
    title = "Share of the sets whose noise-free network reaches the final training error of its twin at M = 1; the "
    title += "others are left out of the comparison"
    because = f"nine of ten, our bar; {sets} of {len(left)}"
    part.at_least("reached", title, sets / len(left), 0.9, because, source="measured here")

    panels = []
    for title, label, values in (
        ("copies", "share of samples (ratio)", copied),
        ("distance from the distribution", "held-out error", heldout),
        ("distance from the memorizer", "training error", train),
    ):
        means = [Repeated.of(values[:, k]) for k in range(len(DIAL))]
        mean, error = torch.tensor([m.mean for m in means]), torch.tensor([m.error for m in means])
        marks = [line(INVERSE, mean, f"{len(values)} networks", low=mean - error, high=mean + error)]
        by_chance = [Rule(float(chance(MODES, EXAMPLES)[1]), label="by chance")] if title == "copies" else []
        panels.append(panel(title, "1 / M", label, *marks, *by_chance))
    part.chart(
        "Less noise in the target, more memorization",
        *panels,
        how_to_read="0 is the noise-free target, 1 denoising. Mean and one standard error over training sets, the same "
        "sets at every M, so that differences are more certain than the bands suggest. Errors in units of the noise.",
    )
    paths = ((DIAL[k], found.train[:, :, k].mean(1), found.heldout[:, :, k].mean(1)) for k in (0, 2, len(DIAL) - 1))
    part.chart(
        "The path of training",
        panel(
            "", "training error", "held-out error", *(line(x, y, f"M = {M:g}".replace("inf", "∞")) for M, x, y in paths)
        ),
        how_to_read="Each curve runs from right to left during training, mean over the training sets. If M changed "
        "only the speed, all would be the same curve, of different lengths.",
    )
    held = {claim.name for claim in part.claims if claim.holds}
    answer = "yes" if {"learned", "unseen", "copies", "dial"} <= held else "not in every respect"
    speed = "is mostly" if {"speed", "reached"} <= held else "is not shown to be merely"
    fell = 1 - float(heldout[:, 0].mean() / heldout[:, -1].mean())
    return (
        f"After equally many steps {answer}: from M = ∞ to M = 1 the held-out error falls by {fell:.0%} and copies "
        f"from {float(copied[:, -1].mean()):.1%} to {float(copied[:, 0].mean()):.1%} of the samples. The noise-free "
        f"network {speed} farther along the same path: of a difference in held-out error of {whole:.3f}, {matched} "
        "remains at equal training error."
    )


def left_at_equal_error(
    train: Float[Tensor, "looks sets dial"], heldout: Float[Tensor, "looks sets dial"]
) -> Float[Tensor, " sets"]:
    """Held-out error at M = infinity minus that at M = 1, where the former's training error was the latter's last one.

    NaN for a set where it never was, or already at the first look.
    """
    left = torch.full((train.shape[1],), math.nan, dtype=torch.float64)
    for s in range(train.shape[1]):
        path, wanted = train[:, s, -1], train[-1, s, 0]
        later = (path <= wanted).nonzero()
        if len(later) > 0 and int(later[0]) > 0:
            k = int(later[0])
            share = (path[k - 1] - wanted) / (path[k - 1] - path[k])
            left[s] = heldout[k - 1, s, -1] * (1 - share) + heldout[k, s, -1] * share - heldout[-1, s, 0]
    return left

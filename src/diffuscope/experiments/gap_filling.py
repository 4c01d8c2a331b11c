r"""Do linear models fill the gaps between three points, and is it generalization through variance?

The data are -1, 0, 1; the schedule has :math:`\alpha_t = e^{-(0.1 t + 9.95 t^2)}` (twice the usual rate). A model is a
linear denoiser of 16 x 16 Gaussian bumps in x and t, trained on P draws by ridge regression, and 100 of them are
sampled by Euler steps of the probability-flow ODE from t = 1 to epsilon. The *gap mass* is P(0.25 < |x| < 0.75).

The paper reads its growth with F/P and with epsilon as generalization through variance. 30 Euler steps, however, put
mass into the gaps with the true score, too, and the average model is biased by its ridge. `theory.variance.decompose`
separates the three, with more models of fewer starts each, because bias is what the *average* model does, and the
average of 100 models of few samples is still noisy.

With 30 steps and P = 64, 128, 256, 512, 1,024 the published code has the gap masses 0.18, 0.21, 0.13, 0.09, 0.06 at
epsilon = 1e-4; 0.25, 0.25, 0.14, 0.10, 0.06 at 1e-3; and 0.25, 0.21, 0.17, 0.10, 0.09 at 1e-2. With 300 steps and P =
64, 256, 1,024 it has 0.238, 0.101, 0.015 at 1e-2. The true score has 0.074, 0.0043 and 0.0001 in 30, 100 and 1,000
steps.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Figure 2). Its code looks the
denoiser up on a grid, to the right neighbor, constant outside of [-1.5, 1.5], and mixes indices in its quartile bands;
here the models are evaluated exactly, and the bands are the quartiles over models in each bin.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import GaussianMixture
from diffuscope.findings import Panel, Repeated, groups, intervals, largest, line
from diffuscope.schedules import VP
from diffuscope.streams import torch_stream
from diffuscope.theory.variance import (
    Decomposition,
    GaussianBumps,
    LinearEnsemble,
    Products,
    decompose,
    quenched_sample,
    train_linear,
)
from diffuscope.theory.variance.decompose import true_score
from diffuscope.times import uniform_times

from .experiment import Experiment
from .part import Part, panel

EPSILONS, SAMPLES, BUMPS = (1e-4, 1e-3, 1e-2), (64, 128, 256, 512, 1024), 16
FEATURES_PER_SAMPLE = tuple(BUMPS**2 / P for P in SAMPLES)
MODELS, STARTS = 100, 300
# more models where the average is noisier: P = 64 .. 1024
MANY_MODELS, FEW_STARTS, FINE = (600, 800, 2500, 600, 300), 20, 120
QUANTILES = 8000  # starts with the true score, at equal quantiles
EDGES = torch.linspace(-1.5, 1.5, 60 + 1, dtype=torch.float64)
# at F/P = 4, 2, 1, 1/2, 1/4, and at 4, 1, 1/4 with 300 steps and epsilon = 0.01
PUBLISHED = {
    1e-4: (0.18, 0.21, 0.13, 0.09, 0.06),
    1e-3: (0.25, 0.25, 0.14, 0.10, 0.06),
    1e-2: (0.25, 0.21, 0.17, 0.10, 0.09),
}
PUBLISHED_300 = {64: 0.238, 256: 0.101, 1024: 0.015}
TRUE_SCORE = {30: 0.074, 100: 0.0043, 1000: 0.0001}
THEIR_CODE = "run of the published code with 2,000 samples per model"
OURS = "measured here"
EXPERIMENT = Experiment(
    name="gap-filling",
    title="Gaps filled by linear models: variance, bias, or too few steps?",
    question="Linear models put samples between three points. Which part of it is generalization through variance?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=60,
    settings={
        "data": "-1, 0, 1",
        "schedule": "α = exp(-(0.1 t + 9.95 t²)), from t = 1 to ε = 1e-4, 1e-3, 1e-2",
        "model": "16 x 16 Gaussian bumps (densities) on [-1.5, 1.5] x [ε, 1], ridge 0.1",
        "samples per model": "64, 128, 256, 512, 1,024",
        "sampling": "Euler, 30 and 300 equal steps; 100 models of 300 starts, 8,000 starts with the true score",
        "decomposition": "600, 800, 2,500, 600, 300 models of 20 starts; 120 fine Heun steps",
        "densities": "in 60 cells of [-1.5, 1.5]",
    },
    notes=(
        "The bumps are densities, so the published ridge of 0.1 is weaker for more bumps; the numbers hold for this "
        "choice of features alone.",
    ),
)


def data() -> GaussianMixture:
    """Three points of equal weight."""
    points = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    return GaussianMixture.isotropic(torch.full((3,), 1 / 3, dtype=torch.float64), points, torch.zeros(3))


def schedule_to(epsilon: float) -> VP:
    """The schedule of the source, with beta(t) twice its 0.1 + 19.9 t."""
    return VP(0.2, 40.0, epsilon)


def fine_steps(epsilon: float, steps: int) -> Float[Tensor, " times"]:
    """Times from 1 to epsilon, by a common factor: as many where the noise is small as where it is large."""
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = epsilon**share
    times[-1] = epsilon
    return times


def gap_mass(x: Float[Tensor, "fields batch 1"]) -> Float[Tensor, " fields"]:
    """P(0.25 < |x| < 0.75)."""
    return ((x.abs() > 0.25) & (x.abs() < 0.75)).double().mean((1, 2))


def trained(epsilon: float, samples: int, models: int, generator: torch.Generator) -> LinearEnsemble:
    """Models of the source."""
    features = Products((GaussianBumps(-1.5, 1.5, BUMPS),), GaussianBumps(epsilon, 1, BUMPS))
    return train_linear(data(), schedule_to(epsilon), features, samples=samples, models=models, generator=generator)


@dataclass(frozen=True, eq=False)
class Generated:
    """Samples of 100 models of one panel, by the number of steps."""

    samples: dict[int, Float[Tensor, "models starts 1"]]

    def gap(self, steps: int) -> Repeated:
        """Mean gap mass over models; its error includes the spread between models."""
        return Repeated.of(gap_mass(self.samples[steps]))

    def spread(self, steps: int) -> float:
        """Standard deviation between models."""
        return float(gap_mass(self.samples[steps]).std())


@cache
def generated(epsilon: float, samples: int, seed: int) -> Generated:
    """One panel of figure 2, at 30 and 300 steps from the same starts."""
    generator = torch_stream(seed, "experiment", "gap-filling", f"panel {epsilon} {samples}")
    ensemble = trained(epsilon, samples, MODELS, generator)
    x = torch.randn(MODELS, STARTS, 1, dtype=torch.float64, generator=generator)
    ends = {
        steps: quenched_sample(ensemble, ensemble.schedule, x, uniform_times(1.0, epsilon, steps))
        for steps in (30, 300)
    }
    return Generated(ends)


def densities(samples: Float[Tensor, "models starts 1"]) -> Float[Tensor, "models bins"]:
    """A histogram of every model, as a density: what lies outside counts in the total."""
    models, starts = samples.shape[:2]
    place = torch.bucketize(samples[..., 0].contiguous(), EDGES) - 1
    inside = (place >= 0) & (place < len(EDGES) - 1)
    cell = (torch.arange(models)[:, None] * (len(EDGES) - 1) + place)[inside]
    counts = torch.bincount(cell, minlength=models * (len(EDGES) - 1)).reshape(models, -1)
    return counts.double() / (starts * EDGES.diff())


@EXPERIMENT.part("How much do coarse steps put into the gaps with the true score?")
def discretization(part: Part) -> str:
    """The true score by Euler's method, from starts at equal quantiles: no model, no randomness."""
    shares = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    x = torch.special.ndtri(shares)[None, :, None]
    steps, found = (10, 30, 100, 300, 1000), {}
    for epsilon in EPSILONS:
        schedule = schedule_to(epsilon)
        ends = [
            quenched_sample(true_score(data(), schedule), schedule, x, uniform_times(1.0, epsilon, count))
            for count in steps
        ]
        found[epsilon] = [float(gap_mass(end)) for end in ends]
    at = dict(zip(steps, found[1e-2], strict=True))
    off = {K: abs(at[K] - mass) / (4 * math.sqrt(mass / 100_000) + 0.5e-4) for K, mass in TRUE_SCORE.items()}
    title = "True score, ε = 0.01: gap mass at 30, 100 and 1,000 Euler steps against 0.074, 0.0043 and 0.0001; the "
    title += "largest deviation in units of its tolerance"
    because = "four standard errors of 100,000 samples, and the digits that are printed"
    part.at_most("euler", title, largest(off.values()), 1.0, because, source="independent computation")
    title = "True score, 1,000 steps, every ε: gap mass"
    part.at_most(
        "true-score", title, largest(row[-1] for row in found.values()), 1e-3, "the gaps are empty", source="derived"
    )
    curves = [line(steps, row, f"ε = {epsilon:g}") for epsilon, row in found.items()]
    part.chart(
        "Gap mass with the true score",
        Panel("", "Euler steps", "gap mass", tuple(curves), x_log=True, y_log=True, y_range=(1e-5, 1)),
        how_to_read=f"P(0.25 < |x| < 0.75) of {QUANTILES:,} starts at equal quantiles of N(0, 1): no sampling "
        f"error, but each start is a share of {1 / QUANTILES:.1e}. With fine steps it would be zero.",
    )
    thirty = ", ".join(f"{row[1]:.3f} (ε = {epsilon:g})" for epsilon, row in found.items())
    return f"At the published 30 steps {thirty}; with 1,000 steps none. No learned model is involved."


@EXPERIMENT.part("Does the gap mass grow with the features per sample?")
def panels(part: Part) -> str:
    """Figure 2 with 30 and 300 steps, against a run of the published code."""
    grid = {(epsilon, P): generated(epsilon, P, part.seed) for epsilon in EPSILONS for P in SAMPLES}
    off = []
    for epsilon in EPSILONS:
        for P, mass in zip(SAMPLES, PUBLISHED[epsilon], strict=True):
            off.append(deviation(grid[epsilon, P], 30, mass))
    off += [deviation(grid[1e-2, P], 300, mass) for P, mass in PUBLISHED_300.items()]
    title = f"Gap mass in the {len(off)} published settings, 30 and 300 steps: the largest deviation from a run of the "
    title += "published code, in units of its tolerance"
    because = "four standard errors of the difference of two ensembles of 100 models, their spread included, and 0.015 "
    because += "for the lookup of that code"
    part.at_most("panels", title, largest(off), 1.0, because, source=THEIR_CODE)
    rise = {
        steps: Repeated.of(gap_mass(grid[1e-2, 64].samples[steps]) - gap_mass(grid[1e-2, 1024].samples[steps]))
        for steps in (30, 300)
    }
    title = "It grows with F/P: gap mass at F/P = 4 minus 1/4, ε = 0.01, 300 steps"
    because = f"Student's 99.9% over models; the difference is {rise[300]}"
    part.at_least("features", title, rise[300].significance, rise[300].seen, because, unit="standard errors")
    for epsilon in EPSILONS:
        row = []
        for P, ratio in zip(SAMPLES, FEATURES_PER_SAMPLE, strict=True):
            quartiles = quartile_lines(grid[epsilon, P])
            row.append(Panel(f"F/P = {ratio:g}", "x", "density", quartiles, y_range=(0, 4)))
        part.chart(
            f"What {MODELS} models generate, ε = {epsilon:g}",
            *row,
            how_to_read=f"Median over {MODELS} models of the density in each of {len(EDGES) - 1} bins, and the band "
            "between its quartiles over models (in the published code, between wrong indices). Peaks are cut off.",
            shared_y=True,
        )
    part.chart(
        *gap_chart(grid),
        how_to_read="Mean over models, the band is one standard error. The standard "
        f"deviation between models is {grid[1e-2, 64].spread(30):.2f} at F/P = 4 and "
        f"{grid[1e-2, 1024].spread(30):.2f} at 1/4 (30 steps, ε = 0.01): as large as the mean.",
        shared_y=True,
    )
    by_epsilon = {steps: [grid[epsilon, 1024].gap(steps) for epsilon in EPSILONS] for steps in (30, 300)}
    by_ratio = ", ".join(f"{grid[1e-2, P].gap(300)}" for P in SAMPLES)
    return (
        f"From F/P = 1/4 to 4 by {rise[30]} with 30 steps and by {rise[300]} with 300 (ε = 0.01), though it need not "
        f"rise everywhere: {by_ratio} at F/P = 4, 2, 1, 1/2 and 1/4 with 300 steps. At F/P = 1/4 the gap mass at "
        f"ε = 1e-4, 1e-3, 1e-2 is {', '.join(map(str, by_epsilon[30]))} with 30 steps, and "
        f"{', '.join(map(str, by_epsilon[300]))} with 300: most of it was an error of the steps."
    )


def deviation(panel_of: Generated, steps: int, mass: float) -> float:
    """The deviation from a published gap mass in units of its tolerance."""
    tolerance = 4 * math.sqrt(2) * panel_of.gap(steps).error + 0.015
    return abs(panel_of.gap(steps).mean - mass) / tolerance


def quartile_lines(panel_of: Generated) -> tuple:
    """Median and quartiles over models, bin by bin, at 30 and 300 steps."""
    middle, marks = (EDGES[1:] + EDGES[:-1]) / 2, []
    for steps, samples in panel_of.samples.items():
        low, median, high = densities(samples).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
        marks.append(line(middle, median, f"{steps} steps", low=low, high=high))
    return tuple(marks)


def gap_chart(grid: dict[tuple[float, int], Generated]) -> tuple[str, Panel, Panel]:
    """Gap mass over F/P for every epsilon, at 30 and at 300 steps."""
    both = []
    for steps in (30, 300):
        curves = []
        for epsilon in EPSILONS:
            gaps = [grid[epsilon, P].gap(steps) for P in SAMPLES]
            mean, error = torch.tensor([g.mean for g in gaps]), torch.tensor([g.error for g in gaps])
            curves.append(line(FEATURES_PER_SAMPLE, mean, f"ε = {epsilon:g}", low=mean - error, high=mean + error))
        both.append(Panel(f"{steps} steps", "features per sample, F/P", "gap mass", tuple(curves), x_log=True))
    return "Mass in the gaps", both[0], both[1]


@EXPERIMENT.part("Discretization, bias or variance?")
def decomposition(part: Part) -> str:
    """The three of them at epsilon = 0.01 and 30 steps, for every F/P."""
    epsilon, found = 1e-2, {}
    for P, models in zip(SAMPLES, MANY_MODELS, strict=True):
        ensemble = trained(epsilon, P, models, part.generator)
        x = torch.randn(models, FEW_STARTS, 1, dtype=torch.float64, generator=part.generator)
        times, fine = uniform_times(1.0, epsilon, 30), fine_steps(epsilon, FINE)
        found[BUMPS**2 / P] = decompose(ensemble, data(), gap_mass, x, times=times, fine=fine)
    few, many, one = found[0.25], found[4.0], found[1.0]
    share = few.discretization.mean / few.total.mean
    title = "F/P = 1/4: discretization as a share of the deviation (ratio)"
    part.at_least("discretization", title, share, 0.5, f"half; {few.discretization} of {few.total}", source=OURS)
    share = many.bias.mean / many.total.mean
    title = "F/P = 4: bias as a share of the deviation (ratio)"
    part.at_least("bias", title, share, 0.5, f"half; {many.bias} of {many.total}", source=OURS)
    title = "F/P = 1: variance fills the gaps"
    because = f"three standard errors; variance is {one.variance}"
    part.at_least("variance", title, one.variance.significance, 3.0, because, source=OURS, unit="standard errors")
    title = "Change of the fine limit if every other step is left out, the largest over F/P"
    unresolved = largest(each.unresolved for each in found.values())
    because = "at order 2 a third of 0.004 is left, 0.0013: below every standard error"
    part.at_most("resolved", title, unresolved, 0.004, because, source=OURS)
    part.chart(*terms_chart(found), how_to_read=HOW_TO_READ_TERMS)
    variances = ", ".join(str(each.variance) for each in found.values())
    filled = ", ".join(f"{ratio:g}" for ratio, each in found.items() if each.variance.significance >= 3)
    return (
        f"All three. At F/P = 1/4 the deviation is {few.total} and discretization {few.discretization}; at F/P = 4 "
        f"it is {many.total} and bias {many.bias}. Variance contributes {variances} at F/P = 4, 2, 1, 1/2 and 1/4; "
        f"that it fills the gaps is certain to three standard errors at F/P = {filled or 'none of them'}."
    )


HOW_TO_READ_TERMS = (
    "Left: the terms, which add up to the deviation of the gap mass from its value under the true score. Interaction "
    "is how much more the coarse steps do to a model than to the true score; below 0, less. Right: each with two "
    "standard errors, of models, starts and the average model."
)


def terms_chart(found: dict[float, Decomposition]) -> tuple[str, Panel, Panel]:
    """The terms beside each other, and each with its interval."""
    names = [f"F/P = {ratio:g}" for ratio in found]
    labels = list(next(iter(found.values())).terms)
    bars = groups(names, {label: [each.terms[label].mean for each in found.values()] for label in labels})
    rows = {}
    for name, each in zip(names, found.values(), strict=True):
        for label, term in (*each.terms.items(), ("total", each.total)):
            rows[f"{name}, {label}"] = (term.mean, term.mean - 2 * term.error, term.mean + 2 * term.error)
    return (
        "Where the mass in the gaps comes from, 30 steps, ε = 0.01",
        panel("", "", "gap mass", bars),
        panel("", "gap mass", "", intervals(rows)),
    )

r"""Are trained score fields Gaussian enough? Trained models against Gaussian fields of the same moments, by samples.

The effective equation of generalization through variance keeps mean and covariance of the score over training runs.
Half of an ensemble of linear denoisers gives these two moments; Gaussian fields with them
(`theory.variance.matched_gaussian`) are sampled through the same probability-flow ODE as the other half, and
`closure_report` compares the two distributions and the cumulants of the denoiser.

For total variation it has two statistics, one on average above the true value and one below. Its null, the distance
between two halves of the trained models, is far from zero: models differ, and a histogram of 200 of them is noisy.

Models are trained on P = 64, 256, 1,024 or 4,096 draws; in the schedule beta is 0.2 at t = 0 and 40 at t = 1.
Cumulants are those at 6 points of [-1.25, 1.25] and t = 0.05, 0.1 and 0.3.

Sources: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532, Figure 2 (setting; the
closure is not tested there). By an independent computation the total variation is 0.20, 0.26, 0.065 and 0.028.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical
from diffuscope.findings import Line, Panel, Rule, area, line
from diffuscope.schedules import VP
from diffuscope.theory.variance import (
    ClosureReport,
    FieldRuns,
    GaussianBumps,
    Products,
    closure_report,
    matched_gaussian,
    run_fields,
    train_linear,
)
from diffuscope.times import uniform_times

from .experiment import Experiment
from .part import Part

SCHEDULE = VP(0.2, 40.0, epsilon=0.01)
DATA = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
SIDE, RIDGE = 16, 0.1
FEATURES = Products((GaussianBumps(-1.5, 1.5, SIDE),), GaussianBumps(0.01, 1.0, SIDE))
SAMPLES = (64, 256, 1024, 4096)
INDEPENDENT = {64: 0.20, 256: 0.26, 1024: 0.065, 4096: 0.028}
RUNS, TRAJECTORIES, STEPS = 200, 250, 300
PROBES = torch.linspace(-1.25, 1.25, 6, dtype=torch.float64)[:, None]
PROBE_TIMES = (0.05, 0.1, 0.3)
EDGES = torch.linspace(-1.5, 1.5, 60 + 1, dtype=torch.float64)
EXPERIMENT = Experiment(
    name="closure",
    title="How far a Gaussian model of trained scores can be trusted",
    question="Do Gaussian score fields with an ensemble's mean and covariance generate what the ensemble generates?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=60,
    settings={
        "models": "data -1, 0, 1; 16 x 16 bumps in (x, t), ridge 0.1; per P, 200 models for the moments and 200 to "
        "compare",
        "samples": "200 Gaussian fields; 250 trajectories per field, 300 Euler steps to t = 0.01",
        "total variation": "60 cells of width 0.05 on [-1.5, 1.5], and two outside",
    },
    notes=(
        "Fields are drawn once per run and kept along a trajectory (quenched).",
        "Total variation is that of the cells' shares; differences inside of a cell are not seen.",
    ),
)


def runs(P: int, generator: torch.Generator) -> tuple[FieldRuns, FieldRuns]:
    """Trained models, and Gaussian fields with the moments of as many others."""
    ensemble = train_linear(
        Empirical(DATA), SCHEDULE, FEATURES, samples=P, models=2 * RUNS, ridge=RIDGE, generator=generator
    )
    first, second = (replace(ensemble, weights=weights) for weights in ensemble.weights.split(RUNS))
    times = uniform_times(1.0, 0.01, STEPS)
    probes = [(PROBES, t) for t in PROBE_TIMES]
    trained, gaussian = (
        run_fields(fields, RUNS, SCHEDULE, times, trajectories=TRAJECTORIES, probes=probes, generator=generator)
        for fields in (second, matched_gaussian(first, RUNS, generator=generator))
    )
    return trained, gaussian


@EXPERIMENT.part("From how many examples per feature on does the closure hold?")
def closure(part: Part) -> str:
    """Reports at P/F from a quarter to 16."""
    found: dict[int, tuple[FieldRuns, FieldRuns, ClosureReport]] = {}
    for P in SAMPLES:
        pair = runs(P, part.generator)
        ratio = P / FEATURES.number
        report = closure_report(*pair, edges=EDGES, samples_per_feature=ratio, generator=part.generator)
        found[P] = (*pair, report)
    reports = {P: report for P, (_, _, report) in found.items()}
    claim(part, reports)
    part.chart(
        "Trained models against Gaussian fields",
        distances(reports),
        kurtosis(reports),
        how_to_read="Left: total variation between the two distributions of samples. The true value lies between the "
        "bounds, one-sided 95% each; dotted, the distance between two halves of the trained models. Right: excess "
        "kurtosis of the denoiser over training runs, zero for a Gaussian; median of 18 points and times with its 95% "
        "bootstrap interval, which is too short for a few runs with heavy tails.",
    )
    part.chart(
        "What they generate",
        *(histograms(P, *found[P][:2]) for P in (256, 4096)),
        how_to_read="Shares of samples per cell of width 0.05, with two standard errors over training runs: at one "
        "example per feature the Gaussian fields spread wider than the trained ones.",
        shared_y=True,
    )
    return " ".join(f"{report.statement}." for report in reports.values())


def claim(part: Part, reports: dict[int, ClosureReport]) -> None:
    """Fails up to P = F, holds at 16 F; the independent numbers lie within the bounds."""
    few, many = min(reports[P].distance.at_least for P in SAMPLES[:2]), reports[SAMPLES[-1]]
    part.at_least(
        "fails",
        "P <= F: least lower bound (95%) of the total variation",
        few,
        0.05,
        "far above zero, the value of a true closure",
        source="derived",
    )
    part.at_most(
        "holds",
        "P = 16 F: upper bound (95%) of the total variation",
        many.distance.at_most,
        0.1,
        "the tolerance of the report",
        source="derived",
    )
    outside = max(
        max(report.distance.at_least - INDEPENDENT[P], INDEPENDENT[P] - report.distance.at_most)
        for P, report in reports.items()
    )
    part.at_most(
        "independent",
        "Total variation of an independent computation: largest distance from our bounds",
        max(0.0, outside),
        0.05,
        "the error of the other computation, of 100 models and other cells",
        source="independent computation in the same setting",
    )
    part.at_least(
        "heavy-tails",
        "P <= F: least median excess kurtosis of the denoiser",
        min(reports[P].kurtosis.median for P in SAMPLES[:2]),
        1,
        "beyond what counts as Gaussian",
        source="independent computation in the same setting: 2 to 8",
    )
    part.at_most(
        "light-tails",
        "P = 16 F: magnitude of the median excess kurtosis of the denoiser",
        abs(many.kurtosis.median),
        1,
        "what counts as Gaussian",
        source="independent computation in the same setting",
    )


def distances(reports: dict[int, ClosureReport]) -> Panel:
    """Bounds on the total variation by P/F, and the null."""
    ratios = [P / FEATURES.number for P in reports]
    found = [report.distance for report in reports.values()]
    marks = [
        area(ratios, [d.at_least for d in found], [d.at_most for d in found], "total variation, bounds"),
        line(ratios, [d.null for d in found], "two halves of the trained models", style="dotted"),
        line(ratios, list(INDEPENDENT.values()), "independent computation", style="dashed"),
    ]
    return Panel("samples", "examples per feature P/F", "total variation", tuple(marks), x_log=True, y_range=(0, 0.5))


def kurtosis(reports: dict[int, ClosureReport]) -> Panel:
    """The median excess kurtosis by P/F."""
    found = [report.kurtosis for report in reports.values()]
    low, high = [k.median_low for k in found], [k.median_high for k in found]
    ratios = [P / FEATURES.number for P in reports]
    curve = line(ratios, [k.median for k in found], "median of 18 points", low=low, high=high)
    return Panel("the denoiser", "examples per feature P/F", "excess kurtosis", (curve, Rule(0)), x_log=True)


def histograms(P: int, trained: FieldRuns, gaussian: FieldRuns) -> Panel:
    """Mean shares of the cells with two standard errors."""
    marks: list[Line] = []
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    for name, of in (("trained models", trained), ("Gaussian fields", gaussian)):
        mean, error = cell_shares(of)
        marks.append(line(middles, mean, name, low=(mean - 2 * error).clamp(min=0), high=mean + 2 * error))
    return Panel(f"P/F = {P / FEATURES.number:g}", "x", "share of samples", tuple(marks))


def cell_shares(of: FieldRuns) -> tuple[Float[Tensor, " cells"], Float[Tensor, " cells"]]:
    """The mean over runs of the share of every cell, and its standard error."""
    by_run = torch.stack([torch.histogram(rows[:, 0], EDGES).hist for rows in of.samples]) / TRAJECTORIES
    return by_run.mean(0), by_run.std(0) / math.sqrt(len(of))

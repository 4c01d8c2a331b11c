r"""How uncertain is a score that kernel gradient flow learns from finitely many noisy targets? Theory and flows.

Data are +1 and -1 with equal weights, at one noise level, and the kernel is a Gaussian of length l. Each flow has its
own P noised examples. Its equation is linear and is solved exactly, by the eigenvectors of the features

.. math::
    \phi_n(x) = e^{-x^2 / 2 l^2} \frac{(x / l)^n}{\sqrt{n!}}, \qquad
    \sum_n \phi_n(x) \phi_n(y) = e^{-(x - y)^2 / 2 l^2},

so that neither time steps nor the quadrature of the theory (`theory.variance.KernelFlow`) are in it. The variance of
the score over flows is then compared with the theory, with and without its misfit term, at 21 points from -1 to 1.
Averages over the noised data are sums over at least 80 nodes; with 90 features the series has an error below 1e-9 for
|x| < 3.2.

Source: Vastola 2025, https://arxiv.org/abs/2504.12532, which has the term of the target; the misfit is derived here.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import NORMAL_95, Line, Panel, line
from diffuscope.schedules import VE
from diffuscope.theory.variance import Contributions, KernelFlow, Population, RBFKernel

from .experiment import Experiment
from .part import Part, largest_difference, loglog, panel

DATA = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
SCHEDULE, LEVEL, LENGTH = VE(0.01, 10.0), 0.5, 0.5
SAMPLES, RUNS, TIMES = 1000, 1000, (1.0, 5.0, 50.0)
STARTED = (0.2, 1.0, 5.0)  # training times of the part about the random start
SIZES, LONGEST = (6, 12, 25, 50, 100, 400), 50.0
POINTS = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
NODES, TERMS = 80, 90  # of the series: an error below 1e-9 for |x| < 3.2
KERNEL = RBFKernel(LENGTH)
BECAUSE = f"four standard errors of a variance over {RUNS:,} flows; correlated points, for any seed"
EXPERIMENT = Experiment(
    name="kernel-flow",
    title="The noise of a score learned by kernel gradient flow",
    question="Does the theory give the covariance of trained scores, and what does it need for that?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=15,
    settings={
        "data": "-1 and 1, variance exploding from 0.01 to 10, noise level 0.5",
        "kernel": "Gaussian, length 0.5",
        "flows": "1,000 for every setting, each on 1,000 noised examples of its own unless stated",
        "training times": "1, 5, 50; 0.2, 1, 5 from a random start",
        "few examples": "6, 12, 25, 50, 100, 400, at the training time 50",
    },
)


def features(x: Float[Tensor, "n 1"]) -> Float[Tensor, "n terms"]:
    """phi_n(x)."""
    n, z = torch.arange(TERMS, dtype=torch.float64), x / LENGTH
    size = torch.exp(torch.special.xlogy(n, z.abs()) - torch.lgamma(n + 1) / 2 - z**2 / 2)
    return size * z.sign() ** n


def trained(
    samples: int, times: Sequence[float], generator: torch.Generator, *, random_start: bool = False
) -> Float[Tensor, "times runs points"]:
    """The scores of RUNS flows at POINTS, from 0 or from a draw of the Gaussian process of the kernel."""
    at, made = features(POINTS), []
    for _ in range(RUNS):
        x_0 = DATA[torch.randint(2, (samples,), generator=generator)]
        x = x_0 + LEVEL * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
        phi, target = features(x), (x_0 - x) / LEVEL**2
        rates, V = torch.linalg.eigh(phi.T @ phi / samples)
        rates, towards = rates.clamp(min=0)[:, None], V.T @ (phi.T @ target / samples)
        start = V.T @ torch.randn(TERMS, 1, dtype=torch.float64, generator=generator) if random_start else 0.0
        gains = [torch.where(rates > 1e-13, -torch.expm1(-rates * time) / rates, time) for time in times]
        ends = [gain * towards + torch.exp(-rates * time) * start for gain, time in zip(gains, times, strict=True)]
        made.append(torch.stack([(at @ V @ end)[:, 0] for end in ends]))
    return torch.stack(made, 1)


def on_population() -> Population:
    """The inputs of training, by quadrature."""
    return Population.of(DATA, SCHEDULE, (LEVEL, LEVEL), nodes=NODES)


def predicted(flow: KernelFlow) -> Contributions:
    """The terms of the variance at POINTS."""
    return flow.contributions(POINTS, LEVEL, POINTS, LEVEL)


def ratio_line(ratio: Float[Tensor, " points"], label: str) -> Line:
    """Measured over predicted variance against x, with the 95% interval of the measured one."""
    margin = NORMAL_95 * math.sqrt(2 / RUNS)
    return line(POINTS[:, 0], ratio, label, low=ratio * (1 - margin), high=ratio * (1 + margin))


@EXPERIMENT.part("Is the covariance that of trained flows, and is the misfit needed for it?")
def covariance(part: Part) -> str:
    """Variance over flows divided by the theory's, with and without R."""
    population, made = on_population(), trained(SAMPLES, TIMES, part.generator)
    variance, error = made.var(1), math.sqrt(2 / RUNS)
    terms = [predicted(KernelFlow(population, KERNEL, samples=SAMPLES, time=time)) for time in TIMES]
    ratio = torch.stack([v / each.total[:, 0, 0] for v, each in zip(variance, terms, strict=True)])
    without = torch.stack([v / each.target[:, 0, 0] for v, each in zip(variance, terms, strict=True)])
    medians = ratio.median(1).values
    title = f"Variance over trained flows / theory, median over x: the largest distance from 1 of {len(TIMES)} times"
    part.at_most("median", title, largest_difference(medians, 1), 0.1, "a requirement: 10%")
    title = f"The same at every x, {len(POINTS)} points from -1 to 1: the largest distance from 1"
    part.at_most("points", title, float((ratio - 1).abs().max() / error), 4, BECAUSE, unit="standard errors")
    title = f"Without the misfit, at the training time {TIMES[0]:g}: the largest ratio over x"
    part.at_least("without", title, float(without[0].max()), 1 + 10 * error, "ten standard errors above 1")
    part.chart(
        "Measured over predicted variance of the score",
        panel("theory with the misfit", "x", "ratio", *map(ratio_line, ratio, [f"τ = {time:g}" for time in TIMES])),
        Panel(
            "without", "x", "ratio", tuple(map(ratio_line, without, [f"τ = {time:g}" for time in TIMES])), y_log=True
        ),
        how_to_read="Variance over flows by theory; 1 is agreement. Bands: 95% of the measured variance. On the right "
        "the theory knows the noise of the targets only, and is too small wherever the score is not learned yet.",
    )
    spans = ", ".join(f"{float(low):.2f} to {float(high):.2f}" for low, high in zip(*ratio.aminmax(dim=1), strict=True))
    worst = ", ".join(f"{float(high):.1f}" for high in without.amax(1))
    return (
        f"The ratios are {spans} at the times {', '.join(f'{time:g}' for time in TIMES)}. "
        f"Without the misfit they are up to {worst}: at finite training times it cannot be left out."
    )


@EXPERIMENT.part("What is left of a random start?")
def start(part: Part) -> str:
    """Flows that begin at a draw of the Gaussian process of the kernel."""
    population, made = on_population(), trained(SAMPLES, STARTED, part.generator, random_start=True)
    flows = [KernelFlow(population, KERNEL, samples=SAMPLES, time=time, initial=KERNEL) for time in STARTED]
    terms, error = [predicted(flow) for flow in flows], math.sqrt(2 / RUNS)
    ratio = torch.stack([v / each.total[:, 0, 0] for v, each in zip(made.var(1), terms, strict=True)])
    title = "With a random start: variance over trained flows / theory, the largest distance from 1 over x and time"
    part.at_most("start", title, float((ratio - 1).abs().max() / error), 4, BECAUSE, unit="standard errors")
    times = torch.logspace(-2, 3, 31, dtype=torch.float64)
    every = [
        predicted(KernelFlow(population, KERNEL, samples=SAMPLES, time=float(time), initial=KERNEL)) for time in times
    ]
    curves = {
        "target": [float(each.target.mean()) for each in every],
        "misfit": [float(each.misfit.mean()) for each in every],
        "start": [float(each.initial.mean()) for each in every],
    }
    part.chart(
        "Where the variance comes from, by training time",
        loglog("theory", "training time τ", "mean variance", *(line(times, y, name) for name, y in curves.items())),
        panel("trained flows / theory", "x", "ratio", *map(ratio_line, ratio, [f"τ = {time:g}" for time in STARTED])),
        how_to_read="Left: the three terms, averaged over x from -1 to 1. The start is forgotten first where the "
        "kernel's eigenvalues are large; the misfit rises and falls, and the noise of the targets stays. Right: the "
        "variance over flows by theory, with its 95% interval.",
    )
    shares = [float((each.initial / each.total).median()) for each in terms]
    by_time = ", ".join(f"{share:.0%} at τ = {time:g}" for share, time in zip(shares, STARTED, strict=True))
    return f"Its median share of the variance is {by_time}."


@EXPERIMENT.part("How many examples does the first order in 1/P need?")
def samples(part: Part) -> str:
    """Variance over flows divided by the theory's, from few examples to many."""
    population, rows = on_population(), []
    learned = KernelFlow(population, KERNEL, samples=1, time=LONGEST).learned
    for size in SIZES:
        variance = trained(size, (LONGEST,), part.generator)[0].var(0)
        flow = KernelFlow(population, KERNEL, samples=size, time=LONGEST)
        ratio = variance / predicted(flow).total[:, 0, 0]
        rows.append([size / learned, *ratio.quantile(torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64)).tolist()])
    per_feature, median, low, high = torch.tensor(rows, dtype=torch.float64).T
    title = f"{SIZES[-1]} examples, {float(per_feature[-1]):.0f} per learned feature: median ratio"
    part.equals("enough", title, float(median[-1]), 1, 0.1, "a requirement: 10%")
    title = f"{SIZES[0]} examples, {float(per_feature[0]):.1f} per learned feature: the largest ratio over x"
    bar = 1 + 4 * math.sqrt(2 / RUNS)
    part.at_least("too-few", title, float(high[0]), bar, "the first order does not hold: beyond four standard errors")
    part.chart(
        "Variance over flows by theory, against the number of examples",
        loglog(
            f"training time {LONGEST:g}",
            "examples per learned feature",
            "ratio",
            line(per_feature, median, "median over x, and range", low=low, high=high),
            line(per_feature, torch.ones_like(per_feature), "theory", style="dashed"),
        ),
        how_to_read=f"The band is the range over {len(POINTS)} points, which is wider than the standard error of "
        f"{math.sqrt(2 / RUNS):.0%} at each of them. Theory is the leading order in 1/P.",
    )
    medians = ", ".join(f"{float(m):.2f} at {float(p):.1f}" for m, p in zip(median, per_feature, strict=True))
    return f"Median ratio by examples per learned feature (there are {learned:.1f}): {medians}."

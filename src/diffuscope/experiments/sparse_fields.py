r"""Whole fields from a few observed nodes: one comparison for several equations.

A problem is a held-out field, of which some random nodes of one channel are observed with noise. Three methods infer
every channel at all nodes, from the same training fields:

- the kernel density of the fields (`physics.kernel_prior`), whose posterior is exact; its only number, the pull a, is
  chosen on all validation fields by the square error of the mean;
- Gaussian-process regression with the training mean and covariance (a = 0);
- DPS with the same prior denoiser and the weight that is best on the first validation fields (8 for Darcy flow, 24 for
  Burgers' equation), one for all problems.

The first and the last draw 19 samples, whose extremes are an interval of 90%, with the same sampler at an NFE of 20,
from sigma = 30 to 0.002; a sample that is larger than 1e6 has diverged. The square error of a posterior mean
that is estimated from n samples is corrected for their variance, :math:`|\bar x - x|^2 - s^2/n`, so that both are
compared as if they had drawn infinitely many. Methods are compared problem by problem, in paired standard errors.

The pull is one of 0, 0.5, 0.7, 0.8, 0.9, 0.95 and 0.98, the weight one of 1e-5, 1e-4, 0.001, 0.01, 0.1 and 1.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.findings import HeatMap, Panel, groups, heat_map
from diffuscope.physics import DPS, LinearObservation, at_nodes, observe
from diffuscope.physics.kernel_prior import KernelPrior
from diffuscope.samplers import SDEDPMSolverPP2M, generate
from diffuscope.schedules import VE

from .part import Part, panel

PULLS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
WEIGHTS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
DRAWS, NFE = 19, 20  # the extremes of 19 draws are an interval of (19 - 1)/(19 + 1) = 90%
SCHEDULE = VE(2e-3, 30.0)
OURS, GP, DPS_BEST = "kernel density", "Gaussian process", "DPS"
UNSTABLE = 1e6  # a sample that is larger than this has diverged


@dataclass(frozen=True, eq=False)
class Data:
    """Fields (n, channels, *grid); `observed` is the channel some nodes of which are seen, with this noise."""

    train: Tensor
    validation: Tensor
    test: Tensor
    channels: tuple[str, ...]
    observed: int
    seen: int
    noise: float


@dataclass(frozen=True, eq=False)
class Sensed:
    """One problem."""

    truth: Float[Tensor, "channels *grid"]
    observation: LinearObservation
    y: Float[Tensor, " m"]


@dataclass(frozen=True, eq=False)
class Inferred:
    """What a method gives: square errors of the mean by channel, and whether each node is in its 90% interval."""

    errors: Float[Tensor, " channels"]
    covered: Bool[Tensor, "channels *grid"]
    mean: Float[Tensor, "channels *grid"]
    draws: Float[Tensor, "draws channels *grid"]


def sense(data: Data, truth: Tensor, generator: torch.Generator) -> Sensed:
    """Random nodes of the observed channel."""
    nodes = torch.randperm(truth[0].numel(), generator=generator)[: data.seen] + data.observed * truth[0].numel()
    observation = at_nodes(nodes, tuple(truth.shape), data.noise)
    return Sensed(truth, observation, observe(observation, truth[None], generator=generator)[0])


def mean_errors(prior: KernelPrior, problem: Sensed) -> Float[Tensor, " channels"]:
    """Square errors of the posterior mean, in closed form."""
    return (prior.given(problem.observation, problem.y).mean - problem.truth).square().flatten(1).mean(1)


def regressed(prior: KernelPrior, problem: Sensed, generator: torch.Generator) -> Inferred:
    """Mean and 90% intervals of a Gaussian prior (a = 0), in closed form."""
    given = prior.given(problem.observation, problem.y)
    apart, spread = given.mean - problem.truth, given.variance.clamp(min=0).sqrt()
    covered = apart.abs() <= 1.6448536 * spread
    squares = apart.square().flatten(1).mean(1)
    return Inferred(squares, covered, given.mean, given.sample(DRAWS, generator=generator))


def sampled(denoiser: Denoiser, truth: Tensor, seed: int) -> Inferred:
    """From DRAWS samples at NFE calls each; where they have diverged the error is that of the largest number kept."""
    x = generate(denoiser, DRAWS, sampler=SDEDPMSolverPP2M(), steps=NFE - 1, seed=seed, event_shape=tuple(truth.shape),
                 dtype=torch.float64)  # fmt: skip
    x = x.clamp(-UNSTABLE, UNSTABLE)
    mean, variance = x.mean(0), x.var(0)
    squares = ((mean - truth).square() - variance / DRAWS).flatten(1).mean(1)
    return Inferred(squares, (truth > x.amin(0)) & (truth < x.amax(0)), mean, x)


def by_kernel(prior: KernelPrior, problem: Sensed, seed: int) -> Inferred:
    """Samples of the exact posterior's denoiser."""
    given = prior.given(problem.observation, problem.y)
    return sampled(ExactDenoiser(given, SCHEDULE), problem.truth, seed)


def by_dps(prior: KernelPrior, weight: float, problem: Sensed, seed: int) -> Inferred:
    """Samples of DPS."""
    return sampled(DPS(ExactDenoiser(prior, SCHEDULE), problem.observation, problem.y, weight), problem.truth, seed)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every method on every test problem, and what was chosen on validation problems."""

    data: Data
    pull: float
    weight: float
    problems: list[Sensed]
    results: dict[str, list[Inferred]]
    prior: KernelPrior

    def errors(self, method: str, channel: int) -> Float[Tensor, " problems"]:
        """Square errors of the mean."""
        return torch.stack([each.errors[channel] for each in self.results[method]])

    def rms(self, method: str, channel: int) -> float:
        """Root mean square error."""
        return math.sqrt(max(0.0, float(self.errors(method, channel).mean())))

    def advantage(self, other: str, channel: int) -> float:
        """Mean square error of ours minus the other's, in paired standard errors."""
        apart = self.errors(OURS, channel) - self.errors(other, channel)
        return float(apart.mean()) / (float(apart.std()) / math.sqrt(len(apart)))

    def coverage(self, method: str, channel: int) -> tuple[float, float]:
        """The share of covered nodes, and its standard error over problems."""
        shares = torch.stack([each.covered[channel].double().mean() for each in self.results[method]])
        return float(shares.mean()), float(shares.std()) / math.sqrt(len(shares))


def scored(errors: Iterable[Tensor], scale: Float[Tensor, " channels"]) -> float:
    """The mean square error over problems, every channel in units of its variance."""
    return float(torch.stack([each / scale for each in errors]).mean())


def compare(data: Data, seed: int, generator: torch.Generator, *, tuned_on: int = 8) -> Comparison:
    """Choose pull and weight on validation fields, then every method on the test fields."""
    scale = data.train.var(0).flatten(1).mean(1)
    prior = KernelPrior(data.train, 0.0)
    validation = [sense(data, truth, generator) for truth in data.validation]
    by_pull = {a: scored((mean_errors(prior.pulled(a), each) for each in validation), scale) for a in PULLS}
    pull = min(by_pull, key=lambda a: by_pull[a])
    ours = prior.pulled(pull)
    by_weight = {
        w: scored((by_dps(ours, w, each, seed + k).errors for k, each in enumerate(validation[:tuned_on])), scale)
        for w in WEIGHTS
    }
    weight = min(by_weight, key=lambda w: by_weight[w])
    problems = [sense(data, truth, generator) for truth in data.test]
    methods = {OURS: partial(by_kernel, ours), DPS_BEST: partial(by_dps, ours, weight)}
    results = {name: [m(each, seed + k) for k, each in enumerate(problems)] for name, m in methods.items()}
    results[GP] = [regressed(prior, each, generator) for each in problems]
    return Comparison(data, pull, weight, problems, results, ours)


def claims(part: Part, found: Comparison, prefix: str = "") -> None:
    """Not worse than either beyond two paired standard errors, for every channel."""
    for channel, name in enumerate(found.data.channels):
        for other in (GP, DPS_BEST):
            title = f"Square error of the mean {name}, of the {OURS} minus {other}, over {len(found.problems)} problems"
            key = f"{prefix}{name.split()[-1]}-{other.split()[0].lower()}"
            because = "not worse beyond two paired standard errors"
            part.at_most(
                key, title, found.advantage(other, channel), 2, because, source="our bar", unit="standard errors"
            )


def table(found: Comparison) -> str:
    """Errors and coverage in words."""
    told = []
    for channel, name in enumerate(found.data.channels):
        errors = ", ".join(f"{method} {found.rms(method, channel):.4f}" for method in (OURS, GP, DPS_BEST))
        shares = ", ".join(f"{100 * found.coverage(method, channel)[0]:.0f}%" for method in (OURS, GP, DPS_BEST))
        told.append(f"{name}: root mean square error {errors}; 90% intervals cover {shares}")
    return f"{'; '.join(told)}. Chosen on validation fields: a = {found.pull:g}, DPS's weight {found.weight:g}."


def charts(part: Part, found: Comparison, prefix: str) -> None:
    """One problem as maps, and errors and coverage of all."""
    origin = f"{prefix.rstrip('-')} fields"
    names = (OURS, GP, DPS_BEST)
    channel = found.data.observed
    first = found.problems[0]
    maps = {"truth": first.truth[channel]} | {name: found.results[name][0].mean[channel] for name in names}
    part.chart(
        f"One problem of {origin}: the mean {found.data.channels[channel]}",
        *(Panel(name, "", "", (_map(values),), equal_scales=True) for name, values in maps.items()),
        how_to_read=f"From {found.data.seen} of {first.truth[0].numel()} nodes.",
    )
    for_channels = found.data.channels
    errors = {name: [found.rms(name, c) for c in range(len(for_channels))] for name in names}
    shares = {name: [found.coverage(name, c)[0] for c in range(len(for_channels))] for name in names}
    part.chart(
        f"Errors and coverage, {origin}",
        panel("root mean square error of the mean", "", "", groups([*for_channels], errors)),
        panel("share of nodes in their 90% interval", "", "", groups([*for_channels], shares)),
        how_to_read=f"{len(found.problems)} held-out problems. {OURS} and DPS: {DRAWS} samples at {NFE} network "
        "calls each; errors corrected for the number of samples. Intervals are the extremes of the samples; of the "
        "Gaussian process mean ± 1.645 standard deviations.",
    )


def _map(values: Tensor) -> HeatMap:
    rows, columns = values.shape
    edges = [torch.linspace(0, 1, n + 1, dtype=torch.float64) for n in (columns, rows)]
    return heat_map(edges[0], edges[1], values)

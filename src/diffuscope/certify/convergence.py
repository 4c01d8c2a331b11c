"""Measured orders against declared ones: of the endpoint, and of the distribution for stochastic samplers."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .affine import count_draws, weak_error
from .behavior import run
from .counting import CountingDenoiser
from .order import STEPS, MeasuredOrder, measured_order
from .problems import OracleProblem
from .target import Target

STRONG_TOLERANCE = 0.15
WEAK_TOLERANCE = 0.2
FINER = ((250, 400), (630, 1000))  # steps added where the order falls short
AFFINE = 1e-8  # a larger misfit means that the sampler is not affine on Gaussian data; or 1e3 times its own rounding


def admitted(target: Target, steps: Sequence[int]) -> tuple[int, ...]:
    """Those numbers of steps that the target accepts."""
    return tuple(n for n in steps if target.coarsest <= n <= target.finest)


def most_misfit(target: Target) -> float:
    """The largest misfit of an affine map that rounding explains."""
    return max(AFFINE, 1e3 * target.floor)


def endpoint_error(target: Target, problem: OracleProblem, schedule: Schedule, times: Float[Tensor, " times"]) -> float:
    """rms distance of the endpoints from the exact flow's, relative to the data's scale."""
    ended = run(target, problem.denoiser(schedule), problem.start(schedule), times)
    return float((ended - problem.exact_end(schedule)).double().square().mean().sqrt()) / problem.scale


def strong_order(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> MeasuredOrder:
    """Order of the endpoint error of a deterministic target on grids of equal steps in log-SNR.

    Where it falls short of the declared order the grids are refined twice, to 400 and 1,000 steps, and the finest
    decade decides: terms of the error that cancel by chance on coarse grids do not fail a sampler.
    """
    n = list(admitted(target, steps))
    errors = [endpoint_error(target, problem, schedule, problem.times(schedule, k)) for k in n]
    found = measured_order(n, errors, target.floor)
    for finer in FINER:
        if target.order is None or not found.falls_short_of(target.order, STRONG_TOLERANCE):
            break
        further = admitted(target, finer)
        n.extend(further)
        errors.extend(endpoint_error(target, problem, schedule, problem.times(schedule, k)) for k in further)
        clear = [pair for pair in zip(n, errors, strict=True) if not pair[1] <= 10 * target.floor]
        if len(clear) < len(steps):
            break
        finest = clear[-len(steps) :]
        found = measured_order([k for k, _ in finest], [error for _, error in finest], target.floor)
    return found


def weak_order(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> MeasuredOrder | None:
    """Order of the exact error of mean and covariance on Gaussian data; None where the target is not affine there."""
    n, denoiser = admitted(target, steps), problem.denoiser(schedule)
    draws = count_draws(target, denoiser, problem.times(schedule, n[0]))
    if draws.others or not draws.draws:
        return None
    found = [weak_error(target, denoiser, problem.times(schedule, k)) for k in n]
    if max(misfit for _, misfit in found) > most_misfit(target):
        return None
    return measured_order(n, [error for error, _ in found], target.floor)


def strong_order_finding(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> Finding:
    """The measured order of a deterministic target against the declared one."""
    finding = judged(strong_order(target, problem, schedule, steps), target.order, STRONG_TOLERANCE)
    climbed = finding.tone == "alarm" and target.nfe_per_step == 1 and (target.order or 0) > 2
    if climbed and abs(finding.value - 2) < 2 * STRONG_TOLERANCE:
        # so tell this from a wrong coefficient
        verdict = f"{finding.verdict} A multistep method that climbs from order 1 at a cold start has order 2."
        return replace(finding, verdict=verdict)
    return finding


def weak_order_finding(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> Finding:
    """The measured weak order of a stochastic target against the declared one."""
    found = weak_order(target, problem, schedule, steps)
    if found is None:
        verdict = "Not affine in torch's normal draws on Gaussian data: no weak order; see the samples' distribution."
        return Finding(
            name="weak_order", title="Weak order", value=float("nan"), unit="order", verdict=verdict, tone="neutral"
        )
    return judged(found, target.order, WEAK_TOLERANCE)


def judged(found: MeasuredOrder, declared: int | None, tolerance: float) -> Finding:
    """Measured against declared: short of it by more than the tolerance is a failure."""
    (low, high), last = found.interval, f"error {found.errors[-1]:.2g} at {found.steps[-1]} steps"
    if found.exact:
        return Finding(
            name="order", title="Order", value=float("inf"), unit="order", verdict=f"Exact: {last}.", tone="good"
        )
    band = f"{found.order:.2f} (95%: {low:.2f} to {high:.2f}), {last}"
    if declared is None:
        return Finding(
            name="order",
            title="Order",
            value=found.order,
            unit="order",
            verdict=f"Order {band}; none is declared.",
            tone="neutral",
            interval=(low, high),
        )
    if found.falls_short_of(declared, tolerance):
        verdict, tone = f"Converges at order {band}, not at the declared order {declared}.", "alarm"
    elif found.order > declared + tolerance:
        verdict, tone = f"Converges at order {band}, faster than the declared order {declared}.", "good"
    else:
        verdict, tone = f"Order {band}, as declared ({declared}).", "good"
    null = f"Declared order {declared}, within {tolerance}."
    return Finding(
        name="order",
        title="Order",
        value=found.order,
        unit="order",
        verdict=verdict,
        tone=tone,
        interval=(low, high),
        null=null,
    )


def moments(
    distribution: GaussianMixture, y: Float[Tensor, "batch d"], ratio: float
) -> Float[Tensor, "batch statistics"]:
    """Per sample, what has a mean known exactly: the coordinates, their products, the responsibilities w_k(y), and the
    width :math:`\\sum_k w_k(y)|y - \\mu_k|^2 / E|y - \\mu_k|^2`, with E over component k.

    The overall second moments hardly feel how wide the components are; the width feels nothing else.
    """
    products = torch.einsum("bi,bj->bij", y, y).flatten(1)
    shares = distribution.responsibilities(y, 1.0, ratio)
    rank, d = distribution.eigenvalues.shape[1], y.shape[1]
    spread = distribution.eigenvalues.sum(1) + (d - rank) * distribution.tail_variances + d * ratio**2
    distances = (y[:, None] - distribution.means.flatten(1)).square().sum(2)
    width = (shares * distances / spread).sum(1, keepdim=True)
    return torch.cat([y, products, shares, width], dim=1)


def exact_moments(distribution: GaussianMixture, ratio: float) -> Float[Tensor, " statistics"]:
    """E of `moments` under the noised distribution: mean, second moment, the weights, and 1."""
    overall = distribution.as_gaussian()
    mean, covariance = overall.mean.reshape(-1), overall.eigenvectors @ torch.diag(overall.eigenvalues)
    covariance = covariance @ overall.eigenvectors.T + ratio**2 * torch.eye(len(mean)).double()
    return torch.cat(
        [mean, (torch.outer(mean, mean) + covariance).flatten(), distribution.weights, torch.ones(1).double()]
    )


def distribution_finding(target: Target, problem: OracleProblem, schedule: Schedule, samples: int) -> Finding:
    """Monte Carlo on a mixture: means, second moments, component weights and widths, with their standard errors."""
    distribution = problem.distribution
    if not isinstance(distribution, GaussianMixture):
        raise TypeError(f"problem: expected a GaussianMixture, got {type(distribution).__name__}")
    denoiser, truth = ExactDenoiser(distribution, schedule), exact_moments(distribution, problem.low)
    coarse, fine = (min(max(n, target.coarsest), target.finest) for n in (40, 160))
    errors, deviations = [], []
    for n in (coarse, fine):
        draw = torch.Generator().manual_seed(17)
        clean = distribution.sample(samples, generator=draw).double()
        times = problem.times(schedule, n)
        noised = clean + problem.high * torch.randn(clean.shape, dtype=torch.float64, generator=draw)
        ended = run(target, denoiser, schedule.alpha(times[0]) * noised, times, seed=n)
        values = moments(distribution, ended.double() / schedule.alpha(times[-1]), problem.low)
        errors.append((values.mean(0) - truth).abs())
        deviations.append(values.std(0) / samples**0.5)
    # what is left at the finer grid: noise, and at least half of the coarse bias gone
    beyond = errors[1] - errors[0] / 2 - 4.5 * deviations[1]
    worst = int((errors[1] / deviations[1]).argmax())
    error, deviation = float(errors[1][worst]), float(deviations[1][worst])
    good = bool((beyond <= 0).all())
    word = "right" if good else "wrong"
    return Finding(
        name="law",
        title=f"Distribution of the samples on {problem.title}",
        value=error / deviation,
        unit="standard errors",
        verdict=f"Means, second moments, component weights and widths are {word}: the worst of {len(truth)} is "
        f"{error / deviation:.1f} standard errors off at {fine} steps.",
        tone="good" if good else "alarm",
        null=f"{samples} samples; within 4.5 standard errors and half of the bias at {coarse} steps.",
    )


def stationary_bias(target: Target, schedule: Schedule) -> Finding:
    """On N(0, I) data every noised distribution is N(0, (alpha^2 + sigma^2) I): the variance that 20 steps add or
    lose.
    """
    distribution = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    problem = OracleProblem("standard", "the standard normal distribution", distribution)
    (n,) = (min(max(20, target.coarsest), target.finest),)
    error, misfit = weak_error(target, problem.denoiser(schedule), problem.times(schedule, n))
    verdict = f"{n} steps on standard normal data move the variance by {error:.2g} of its value."
    if misfit > most_misfit(target):
        verdict, error = "Not affine on Gaussian data: no exact variance.", float("nan")
    return Finding(name="bias", title="Stationary bias", value=error, unit="relative", verdict=verdict, tone="neutral")


def affordable(target: Target, budgets: Sequence[int]) -> tuple[int, ...]:
    """The numbers of steps that cost about each of the `budgets`, those that the target accepts."""
    return admitted(target, [max(1, budget // (target.nfe_per_step or 1)) for budget in budgets])


def budget_errors(
    target: Target, problem: OracleProblem, schedule: Schedule, budgets: Sequence[int]
) -> list[tuple[int, int, float]]:
    """(steps, evaluations, endpoint error) for numbers of steps that cost about each of the `budgets`."""
    rows = []
    for n in affordable(target, budgets):
        counting = CountingDenoiser(problem.denoiser(schedule))
        ended = run(target, counting, problem.start(schedule), problem.times(schedule, n))
        error = float((ended - problem.exact_end(schedule)).double().square().mean().sqrt()) / problem.scale
        rows.append((n, counting.calls, error))
    return rows


def weak_errors(
    target: Target, problem: OracleProblem, schedule: Schedule, budgets: Sequence[int]
) -> list[tuple[int, int, float]]:
    """(steps, evaluations, exact error of mean and covariance on Gaussian data); empty if the target is not affine."""
    rows = []
    for n in affordable(target, budgets):
        error, misfit = weak_error(target, problem.denoiser(schedule), problem.times(schedule, n))
        if misfit <= most_misfit(target):
            rows.append((n, n * (target.nfe_per_step or 1), error))
    return rows

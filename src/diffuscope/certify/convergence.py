"""Measured orders of convergence against declared ones: strong, and weak for stochastic samplers."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .affine import count_draws, weak_error
from .behavior import measured, run
from .order import STEPS, MeasuredOrder, measured_order
from .problems import OracleProblem
from .target import Target

STRONG_TOLERANCE = 0.15
WEAK_TOLERANCE = 0.2
FINER = ((250, 400), (630, 1000))  # numbers of steps added if the order falls short
AFFINE = 1e-8  # a larger misfit, also beyond 1e3 times the target's rounding, is no rounding error


def admitted(target: Target, steps: Sequence[int]) -> tuple[int, ...]:
    """The numbers of steps that the target accepts."""
    return tuple(n for n in steps if target.coarsest <= n <= target.finest)


def most_misfit(target: Target) -> float:
    """The largest misfit of an affine map that rounding explains."""
    return max(AFFINE, 1e3 * target.floor)


def endpoint_error(target: Target, problem: OracleProblem, schedule: Schedule, times: Float[Tensor, " times"]) -> float:
    """Root-mean-square distance of the endpoints from those of the exact flow, relative to the data's scale."""
    return scaled_error(run(target, problem.denoiser(schedule), problem.start(schedule), times), problem, schedule)


def scaled_error(ended: Batch, problem: OracleProblem, schedule: Schedule) -> float:
    """Root-mean-square distance of `ended` from the exact endpoints, relative to the data's scale."""
    return float((ended - problem.exact_end(schedule)).double().square().mean().sqrt()) / problem.scale


def strong_order(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> MeasuredOrder:
    """Order of the endpoint error of a deterministic target on grids of equal steps in log-SNR.

    If it falls short of the declared order, the grids are refined twice, to 400 and 1,000 steps, and the finest decade
    decides, so that a sampler does not fail because error terms cancel by chance on coarse grids.

    Raises InputError if the target accepts too few of the numbers of steps to fit an order.
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
    """Order of the exact error of mean and covariance on Gaussian data; None if the target is not affine there.

    Raises InputError if the target accepts too few of the numbers of steps to fit an order.
    """
    n, denoiser = admitted(target, steps), problem.denoiser(schedule)
    draws = count_draws(target, denoiser, problem.times(schedule, n[0] if n else target.finest))
    if draws.others or not draws.draws:
        return None
    errors, misfits = [], []
    for k in n:
        error, misfit = weak_error(target, denoiser, problem.times(schedule, k))
        errors.append(error)
        misfits.append(misfit)
    if max(misfits, default=0.0) > most_misfit(target):
        return None
    return measured_order(n, errors, target.floor)


def strong_order_finding(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> Finding:
    """The measured order of a deterministic target against the declared one."""
    finding = judged(strong_order(target, problem, schedule, steps), target.order, STRONG_TOLERANCE)
    multistep = finding.tone == "alarm" and target.nfe_per_step == 1 and (target.order or 0) > 2
    if multistep and abs(finding.value - 2) < 2 * STRONG_TOLERANCE:
        # not a wrong coefficient
        verdict = f"{finding.verdict} A multistep method that starts with a step of order 1 has order 2."
        return replace(finding, verdict=verdict)
    return finding


def weak_order_finding(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int] = STEPS
) -> Finding:
    """The measured weak order of a stochastic target against the declared one."""
    found = weak_order(target, problem, schedule, steps)
    if found is None:
        verdict = "No weak order: not affine in torch's normal draws on Gaussian data; see the samples' distribution."
        return measured(value=float("nan"), unit="order", verdict=verdict, tone="neutral")
    return judged(found, target.order, WEAK_TOLERANCE)


def judged(found: MeasuredOrder, declared: int | None, tolerance: float) -> Finding:
    """The measured order fails if it is below the declared one by more than the tolerance."""
    (low, high), last = found.interval, f"error {found.errors[-1]:.2g} at {found.steps[-1]} steps"
    if found.exact:
        return measured(value=float("inf"), unit="order", verdict=f"Exact: {last}.", tone="good")
    band = f"{found.order:.2f} (95%: {low:.2f} to {high:.2f}), {last}"
    null = "" if declared is None else f"Declared order {declared}, within {tolerance}."
    if declared is None:
        verdict, tone = f"Order {band}; none is declared.", "neutral"
    elif found.falls_short_of(declared, tolerance):
        verdict, tone = f"Converges at order {band}, not at the declared order {declared}.", "alarm"
    elif found.order > declared + tolerance:
        verdict, tone = f"Converges at order {band}, faster than the declared order {declared}.", "good"
    else:
        verdict, tone = f"Order {band}, as declared ({declared}).", "good"
    return measured(value=found.order, unit="order", verdict=verdict, tone=tone, interval=found.interval, null=null)


def moments(
    distribution: GaussianMixture, y: Float[Tensor, "batch d"], ratio: float
) -> Float[Tensor, "batch statistics"]:
    r"""Per sample, statistics whose means are known exactly: coordinates, their products, responsibilities, and width.

    The width is :math:`\sum_k w_k(y)|y - \mu_k|^2 / E|y - \mu_k|^2`, w_k(y) the responsibilities, E over component k.
    The second moments hardly depend on the widths of the components; this statistic depends on nothing else.
    """
    products = torch.einsum("bi,bj->bij", y, y).flatten(1)
    shares = distribution.responsibilities(y, 1.0, ratio)
    rank, d = distribution.eigenvalues.shape[1], y.shape[1]
    spread = distribution.eigenvalues.sum(1) + (d - rank) * distribution.tail_variances + d * ratio**2
    distances = (y[:, None] - distribution.means.flatten(1)).square().sum(2)
    width = (shares * distances / spread).sum(1, keepdim=True)
    return torch.cat([y, products, shares, width], dim=1)


def exact_moments(distribution: GaussianMixture, ratio: float) -> Float[Tensor, " statistics"]:
    """The means of `moments` under the noised distribution: mean, second moments, the weights, and 1."""
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
    errors, standard_errors = [], []
    for n in (coarse, fine):
        draw = torch.Generator().manual_seed(17)
        clean = distribution.sample(samples, generator=draw).double()
        times = problem.times(schedule, n)
        noised = clean + problem.high * torch.randn(clean.shape, dtype=torch.float64, generator=draw)
        ended = run(target, denoiser, schedule.alpha(times[0]) * noised, times, seed=n)
        values = moments(distribution, ended.double() / schedule.alpha(times[-1]), problem.low)
        errors.append((values.mean(0) - truth).abs())
        standard_errors.append(values.std(0) / samples**0.5)
    # on the finer grid, noise and at most half of the coarse bias may remain
    good = bool((errors[1] - errors[0] / 2 - 4.5 * standard_errors[1] <= 0).all())
    word, worst = "right" if good else "wrong", float((errors[1] / standard_errors[1]).max())
    return measured(
        value=worst,
        unit="standard errors",
        verdict=f"Means, second moments, component weights and widths on {problem.title} are {word}: the worst of "
        f"{len(truth)} is {worst:.1f} standard errors off at {fine} steps.",
        tone="good" if good else "alarm",
        null=f"{samples:,} samples; within 4.5 standard errors plus half of the bias at {coarse} steps.",
    )


def stationary_bias(target: Target, schedule: Schedule) -> Finding:
    """The relative error of the variance after 20 steps on N(0, I) data, noised to N(0, (alpha^2 + sigma^2) I)."""
    distribution = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    problem = OracleProblem("standard", "the standard normal distribution", distribution)
    n = min(max(20, target.coarsest), target.finest)
    error, misfit = weak_error(target, problem.denoiser(schedule), problem.times(schedule, n))
    verdict = f"{n} steps on standard normal data change the variance by {error:.2g} of its value."
    if misfit > most_misfit(target):
        verdict, error = "Not affine on Gaussian data: no exact variance.", float("nan")
    return measured(value=error, unit="relative", verdict=verdict, tone="neutral")


def affordable(target: Target, budgets: Sequence[int]) -> tuple[int, ...]:
    """The accepted numbers of steps whose cost is about that of each of the `budgets` (NFE)."""
    return admitted(target, [max(1, budget // (target.nfe_per_step or 1)) for budget in budgets])


def budget_errors(
    target: Target, problem: OracleProblem, schedule: Schedule, budgets: Sequence[int]
) -> list[tuple[int, int, float]]:
    """(steps, NFE, endpoint error) for numbers of steps that cost about each of the `budgets` (NFE)."""
    rows = []
    for n in affordable(target, budgets):
        counting = CountingDenoiser(problem.denoiser(schedule))
        ended = run(target, counting, problem.start(schedule), problem.times(schedule, n))
        rows.append((n, counting.calls, scaled_error(ended, problem, schedule)))
    return rows


def weak_errors(
    target: Target, problem: OracleProblem, schedule: Schedule, budgets: Sequence[int]
) -> list[tuple[int, int, float]]:
    """(steps, NFE, exact error of mean and covariance on Gaussian data); empty if the target is not affine."""
    rows = []
    for n in affordable(target, budgets):
        error, misfit = weak_error(target, problem.denoiser(schedule), problem.times(schedule, n))
        if misfit <= most_misfit(target):
            rows.append((n, n * (target.nfe_per_step or 1), error))
    return rows

"""Measured orders of convergence against declared ones: strong, and weak for stochastic samplers."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .affine import WeakError, weak_error
from .asked import NotChosenError, TargetError
from .behavior import measured, run, sentence
from .limit import RESOLUTION, SURE, Limit, limit_of
from .order import FEWEST, STEPS, MeasuredOrder, measured_order
from .problems import OracleProblem
from .target import Target

STRONG_TOLERANCE = 0.15
WEAK_TOLERANCE = 0.2
FINER = ((250, 400), (630, 1000))  # numbers of steps added where the first ones do not decide
AFFINE = 1e-8  # a larger misfit, also beyond 1e3 times the target's rounding, is no rounding error


class Budget:
    """CPU seconds of a certificate: once they are spent, no grid is refined, and what is open stays undecided."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds, self._end = seconds, time.process_time() + seconds

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return time.process_time() > self._end


@dataclass(frozen=True)
class Convergence:
    """The order of the errors of a target, and the limit of its endpoints."""

    order: MeasuredOrder
    limit: Limit

    def decided(self, declared: int | None, tolerance: float) -> bool:
        """Whether finer grids could not change the verdict."""
        order = "reached" if declared is None else self.order.against(declared, tolerance)
        if order == "reached" and self.limit.verdict == "right":
            return True
        far = self.limit.distance - SURE * self.limit.uncertainty
        return self.limit.verdict == "wrong" and far > RESOLUTION and far > 0.8 * self.limit.finest_error


class NotAffineError(Exception):
    """The endpoint is not an affine function of start and noise, so that its moments are not known exactly."""


def admitted(target: Target, steps: Sequence[int]) -> tuple[int, ...]:
    """The numbers of steps that the target accepts."""
    return tuple(n for n in steps if target.coarsest <= n <= target.finest)


def step_counts(target: Target, steps: Sequence[int]) -> tuple[int, ...]:
    """Those of `steps` that the target accepts; if too few for an order, up to six of the largest that it accepts."""
    found = admitted(target, steps)
    if len(found) >= FEWEST:
        return found
    most = max(target.coarsest, min(target.finest, max(steps)))
    spread = np.geomspace(max(target.coarsest, most / 8), most, 6)
    return tuple(sorted({round(n) for n in spread.tolist()}))


def converge(
    target: Target,
    errors_of: Callable[[int], np.ndarray],
    steps: Sequence[int],
    tolerance: float,
    norm: float | int = 2,
    budget: Budget | None = None,
) -> Convergence:
    """Order and limit of the vectors of errors `errors_of(n)` on grids of n steps.

    Where they do not decide about the declared order and the limit, grids of up to 1,000 steps are added, and the
    finest decide, as many as there are `steps`: no sampler fails because error terms cancel by chance on coarse grids.

    Raises InputError if the target accepts too few numbers of steps to fit an order.
    """
    n = list(step_counts(target, steps))
    errors = [errors_of(k) for k in n]
    for finer in (*FINER, ()):
        sizes = [float(np.linalg.norm(error, norm)) for error in errors]
        # the finest grids whose error is no rounding; all if these are too few
        clear = [i for i, size in enumerate(sizes) if not size <= 10 * target.floor][-len(steps) :]
        kept = clear if len(clear) >= FEWEST else range(len(n))
        order = measured_order([n[i] for i in kept], [sizes[i] for i in kept], target.floor)
        limit = limit_of([n[i] for i in kept], np.stack([errors[i] for i in kept]), 10 * max(target.floor, 1e-5), norm)
        found = Convergence(order, limit)
        further = admitted(target, [k for k in finer if k > n[-1]])
        if found.decided(target.order, tolerance) or not further or (budget is not None and budget.spent):
            return found
        n.extend(further)
        errors.extend(errors_of(k) for k in further)
    raise AssertionError("the last round returns")


def endpoint_errors(target: Target, problem: OracleProblem, schedule: Schedule, steps: int) -> np.ndarray:
    """The errors of all coordinates of the endpoints; their 2-norm is their root mean square over the data's scale."""
    ended = run(target, problem.denoiser(schedule), problem.start(schedule), problem.times(schedule, steps))
    return coordinate_errors(ended, problem, schedule)


def coordinate_errors(ended: Batch, problem: OracleProblem, schedule: Schedule) -> np.ndarray:
    """The same for endpoints `ended`."""
    errors = (ended - problem.exact_end(schedule)).double().flatten()
    return (errors / (problem.scale * math.sqrt(len(errors)))).numpy()


def strong_order(
    target: Target,
    problem: OracleProblem,
    schedule: Schedule,
    steps: Sequence[int] = STEPS,
    budget: Budget | None = None,
) -> Convergence:
    """Order and limit of the endpoints of a deterministic target on grids of equal steps in log-SNR.

    Raises InputError if the target accepts too few numbers of steps to fit an order.

    >>> import torch
    >>> from diffuscope import DDIM, VE, Gaussian
    >>> from diffuscope.certify import OracleProblem, sampler_target, strong_order
    >>> data = Gaussian.isotropic(torch.zeros(1), 3.0)
    >>> problem = OracleProblem("normal", "a Gaussian", data, high=6.0, low=1.0)
    >>> found = strong_order(sampler_target(DDIM()), problem, VE(), steps=(1, 2, 4, 8))
    >>> round(found.order.errors[0], 6) == round(1 - (9 / 39) / (4 / 39) ** 0.5, 6)  # x_s = (3 + 6) / (3 + 36) x_t
    True
    """
    errors = partial(endpoint_errors, target, problem, schedule)
    return converge(target, errors, steps, STRONG_TOLERANCE, 2, budget)


def weak_order(
    target: Target,
    problem: OracleProblem,
    schedule: Schedule,
    steps: Sequence[int] = STEPS,
    budget: Budget | None = None,
) -> Convergence:
    """Order and limit of the exact mean and covariance on Gaussian data, of their largest error.

    Raises NotAffineError if the target is not affine there, and InputError if it accepts too few numbers of steps.

    >>> import torch
    >>> from diffuscope import VE, Gaussian
    >>> from diffuscope.certify import OracleProblem, sampler_target, weak_order
    >>> from diffuscope.samplers import DDPM, OptimalVariance
    >>> data = Gaussian.isotropic(torch.ones(1).double(), 3.0)  # on which DDPM with this variance is exact
    >>> problem, target = OracleProblem("normal", "a Gaussian", data), sampler_target(DDPM(OptimalVariance(data)))
    >>> found = weak_order(target, problem, VE(), steps=(2, 3, 4, 5))
    >>> found.order.exact, found.limit.verdict
    (True, 'right')
    """
    denoiser = problem.denoiser(schedule)

    def errors_of(steps: int) -> np.ndarray:
        if steps == coarsest:
            return first.errors
        return exact_weak_error(target, denoiser, problem.times(schedule, steps)).errors

    coarsest = step_counts(target, steps)[0]
    first = exact_weak_error(target, denoiser, problem.times(schedule, coarsest))
    floored = replace(target, floor=max(target.floor, first.precision))
    return converge(floored, errors_of, steps, WEAK_TOLERANCE, np.inf, budget)


def exact_weak_error(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> WeakError:
    """`weak_error`; NotAffineError where it does not exist, or does not explain a row of random numbers."""
    try:
        found = weak_error(target, denoiser, times)
    except NotChosenError as error:
        raise NotAffineError(str(error)) from error
    if not found.misfit <= max(AFFINE, 1e3 * target.floor, 30 * found.precision):
        raise NotAffineError(f"a misfit of {found.misfit:.2g}")
    return found


def is_affine(target: Target, problem: OracleProblem, schedule: Schedule) -> bool:
    """Whether the endpoint on Gaussian data is affine in start and draws; True where a run tells what is wrong."""
    n = step_counts(target, STEPS)[0]
    try:
        exact_weak_error(target, problem.denoiser(schedule), problem.times(schedule, n))
    except NotAffineError:
        return False
    except (InputError, TargetError):
        return True  # its findings say so
    return True


def order_finding(
    target: Target,
    problem: OracleProblem,
    schedule: Schedule,
    steps: Sequence[int] = STEPS,
    budget: Budget | None = None,
) -> Finding:
    """The measured order of a target against the declared one, and its limit against the exact one."""
    if not target.stochastic:
        return judged(strong_order(target, problem, schedule, steps, budget), target, STRONG_TOLERANCE, budget)
    try:
        return judged(weak_order(target, problem, schedule, steps, budget), target, WEAK_TOLERANCE, budget)
    except NotAffineError:
        verdict = "No weak order: not affine in torch's draws on Gaussian data; see the samples' distribution."
        return measured(value=math.nan, unit="order", verdict=verdict, tone="neutral")


def judged(found: Convergence, target: Target, tolerance: float, budget: Budget | None = None) -> Finding:
    """A wrong limit fails, and an order below the declared one by more than the tolerance; doubt is told."""
    order, limit, declared = found.order, found.limit, target.order
    (low, high), (near, far) = order.interval, limit.interval
    last = f"error {order.errors[-1]:.2g} at {order.steps[-1]} steps"
    reached = "reached" if declared is None else order.against(declared, tolerance)
    band = f"order {order.order:.2f} (95%: {low:.2f} to {high:.2f})" if math.isfinite(order.order) else "no clear order"
    wanted = "" if declared is None else f"Declared order {declared}, within {tolerance}; "
    say = partial(
        measured,
        value=math.inf if order.exact else order.order,
        unit="order",
        interval=None if math.isnan(low) else order.interval,
        null=f"{wanted}a limit within {RESOLUTION:.0%} of the exact result, in units of the data's scale.",
        power=f"A limit that is off by more than {max(far, limit.tolerance):.1g} would have been found.",
    )
    if not math.isfinite(limit.finest_error):
        return say(verdict=f"The result is not finite, or beyond all bounds, at {order.steps[-1]} steps.", tone="alarm")
    if limit.verdict == "wrong":
        off = f"{limit.distance:.2g} of the data's scale off ({near:.2g} to {far:.2g})"
        said = f"Converges to a wrong limit, {off}; {last}."
        if max(order.errors) < 1.01 * min(order.errors) and limit.distance < RESOLUTION:
            said += " An adaptive solver, whose error does not depend on the steps, declares its tolerance as floor."
        return say(verdict=said, tone="alarm")
    if reached == "missed":
        short = f"Converges at {band}, not at the declared order {declared}, {last}."
        return say(verdict=short + _cold_start(target, order.order), tone="alarm")
    if order.exact:
        return say(verdict=f"Exact: {last}.", tone="good")
    if limit.verdict == "open" or reached == "open":
        return say(verdict=_open(found, target, reached, band, last, budget), tone="unknown", power="")
    right = f"the limit is right to {max(far, 1e-9):.1g}"
    if declared is None:
        verdict = sentence([f"{band}, {last}", f"none is declared, and {right}"])
    elif order.order > declared + tolerance:
        verdict = sentence([f"{band}, above the declared {declared}, {last}", right])
    else:
        verdict = sentence([f"{band}, as declared ({declared}), {last}", right])
    return say(verdict=verdict, tone="good")


def _cold_start(target: Target, order: float) -> str:
    multistep = target.nfe_per_step == 1 and (target.order or 0) > 2
    if multistep and abs(order - 2) < 2 * STRONG_TOLERANCE:
        return " A multistep method that starts with a step of order 1 has order 2."  # not a wrong coefficient
    return ""


def _open(found: Convergence, target: Target, reached: str, band: str, last: str, budget: Budget | None) -> str:
    """What is not decided, and what would decide it."""
    doubts = []
    if reached == "open":
        doubts.append(f"{band} does not decide about the declared order {target.order}")
    if found.limit.verdict == "open":
        near, far = found.limit.interval
        doubts.append(f"the limit is between {near:.2g} and {far:.2g} of the data's scale off")
    if budget is not None and budget.spent:
        need = f"more than {budget.seconds:g} s"
    elif target.finest < FINER[-1][-1]:
        need = f"more than the {target.finest} steps that it accepts"
    else:
        need = f"more than {FINER[-1][-1]:,} steps"
    return sentence([f"{' and '.join(doubts)}, {last}; to decide it takes {need}"])


def stationary_bias(target: Target, schedule: Schedule) -> Finding:
    """The relative error of the variance after 20 steps on N(0, I) data, noised to N(0, (alpha^2 + sigma^2) I)."""
    distribution = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    problem = OracleProblem("standard", "the standard normal distribution", distribution)
    n = min(max(20, target.coarsest), target.finest)
    try:
        error = exact_weak_error(target, problem.denoiser(schedule), problem.times(schedule, n)).largest
    except NotAffineError:
        verdict = "Not affine on Gaussian data: no exact variance."
        return measured(value=math.nan, unit="relative", verdict=verdict, tone="neutral")
    verdict = f"{n} steps on standard normal data change the variance by {error:.2g} of its value."
    return measured(value=error, unit="relative", verdict=verdict, tone="neutral")


def affordable(target: Target, budgets: Sequence[int]) -> tuple[int, ...]:
    """The accepted numbers of steps whose cost is about that of each of the `budgets` (NFE)."""
    return admitted(target, [max(1, budget // (target.nfe_per_step or 1)) for budget in budgets])


def budget_errors(
    target: Target, problem: OracleProblem, schedule: Schedule, budgets: Sequence[int]
) -> list[tuple[int, int, float]]:
    """(steps, NFE, error) for numbers of steps that cost about each of the `budgets` (NFE).

    The error is that of the endpoints, or for a stochastic target the exact one of mean and covariance on Gaussian
    data; no rows for one that is not affine there.
    """
    rows = []
    for n in affordable(target, budgets):
        times = problem.times(schedule, n)
        counting = CountingDenoiser(problem.denoiser(schedule))
        ended = run(target, counting, problem.start(schedule), times)
        if target.stochastic:
            try:
                error = exact_weak_error(target, problem.denoiser(schedule), times).largest
            except NotAffineError:
                return []
        else:
            error = float(np.linalg.norm(coordinate_errors(ended, problem, schedule)))
        rows.append((n, counting.calls, error))
    return rows

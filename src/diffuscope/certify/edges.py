"""The edges of what a sampler is used for: few steps, extreme levels, images, alpha = 0, and what it leaves behind."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, Denoiser, ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import Schedule
from diffuscope.times import uniform_times

from .affine import marginal
from .asked import NotChosenError, asked
from .behavior import allowed, fixed_noise, is_costly, largest_difference, measured, noiseless, run, steps_of
from .chosen_noise import ChosenNoise, no_noise
from .convergence import (
    Budget,
    NotAffineError,
    admitted,
    converge,
    coordinate_errors,
    endpoint_errors,
    exact_weak_error,
    judged,
    order_finding,
)
from .problems import OracleProblem, unequal_gaussian, wide_gaussian
from .target import Target

FEW = (1, 2, 3, 5)
MUCH_MORE = 3.0  # times the error of DDIM at as few steps
STRETCHED = (25, 40, 63, 100, 160)  # numbers of steps from one extreme level to the other
COSTLY = (25, 40, 63, 100)  # the same for costly targets


def stretched(target: Target) -> tuple[int, ...]:
    """The numbers of steps for a long way."""
    return COSTLY if is_costly(target) else STRETCHED


def runs(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """A plain run gives a finite state of the start's shape, and asks the denoiser."""
    counting = CountingDenoiser(problem.denoiser(schedule))
    ended = run(target, counting, problem.start(schedule), problem.times(schedule, steps_of(target)))
    finite = bool(torch.isfinite(ended).all())
    verdict = f"{steps_of(target)} steps give a finite state."
    if not counting.calls:
        verdict = "It never asks the denoiser."
    elif not finite:
        verdict = f"{steps_of(target)} steps give NaN or infinity."
    tone = "good" if finite and counting.calls else "alarm"
    return measured(value=float(counting.calls), unit="NFE", verdict=verdict, tone=tone)


def few_steps(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """One, two, three and five steps, to a level above zero, are finite."""
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    counts, errors, times_ddim = admitted(target, FEW), [], [0.0]
    for n in counts:
        times = problem.times(schedule, n)
        ended = run(target, denoiser, start, times)
        if not target.stochastic:
            ddim = sample(DDIM(), denoiser, start, times)
            ours, theirs = (float(np.linalg.norm(coordinate_errors(end, problem, schedule))) for end in (ddim, ended))
            times_ddim.append(theirs / ours)
        errors.append(largest_difference(ended, problem.exact_end(schedule), problem.scale))
        if not bool(torch.isfinite(ended).all()):
            verdict = f"{n} step{'s give' if n > 1 else ' gives'} NaN or infinity."
            return measured(value=math.nan, unit="data scale", verdict=verdict, tone="alarm")
    if not counts:
        verdict = f"It takes no fewer than {target.coarsest} steps."
        return measured(value=math.nan, unit="data scale", verdict=verdict, tone="neutral")
    verdict = f"{', '.join(map(str, counts))} steps are finite, at most {max(errors):.2g} of the data's scale off."
    if max(times_ddim) > MUCH_MORE:
        verdict += f" That is up to {max(times_ddim):.2g} times the error of DDIM."
    tone = "attention" if max(times_ddim) > MUCH_MORE else "good"
    return measured(value=max(errors), unit="data scale", verdict=verdict, tone=tone)


def many_steps(target: Target, schedule: Schedule) -> Finding:
    """A thousand steps (400 of a costly target), or the most that are accepted, err no more than 160 do."""
    problem, most = unequal_gaussian(), min(400 if is_costly(target) else 1000, target.finest)
    few = min(160, most // 2)
    if target.stochastic or few < target.coarsest:
        verdict = "Asked of deterministic samplers that take enough steps."
        return measured(value=math.nan, unit="data scale", verdict=verdict, tone="neutral")
    errors = [float(np.linalg.norm(endpoint_errors(target, problem, schedule, n))) for n in (few, most)]
    good = errors[1] <= max(1.1 * errors[0], 1e-4, 100 * target.floor)
    verdict = f"The error is {errors[1]:.2g} of the data's scale at {most} steps, and {errors[0]:.2g} at {few}."
    return measured(value=errors[1], unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def extremes(target: Target, schedule: Schedule, budget: Budget | None = None) -> Finding:
    """From a noise-to-signal ratio of 1e3 to one of 1e-3, on data ten times as large, to the right limit."""
    undeclared = replace(target, order=None)
    return order_finding(undeclared, wide_gaussian(), schedule, stretched(target), budget)


def zero_snr(target: Target, schedule: Schedule, budget: Budget | None = None) -> Finding:
    """From pure noise, alpha(1) = 0, on Gaussian data in equal steps of time, to the right limit."""
    undeclared, problem = replace(target, order=None), unequal_gaussian()
    distribution, low = problem.distribution, float(schedule.time_of_noise_to_signal(problem.low))
    assert isinstance(distribution, Gaussian)
    denoiser = ExactDenoiser(distribution, schedule)
    z = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mean, covariance = marginal(distribution, schedule, low)
    values, vectors = torch.linalg.eigh(covariance)
    # along every principal axis, the number of standard deviations is conserved
    exact = mean + (z @ vectors * values.sqrt()) @ vectors.T
    size = float(values.max().sqrt())

    def errors_of(steps: int) -> np.ndarray:
        times = uniform_times(1.0, low, steps)
        if target.stochastic:
            return exact_weak_error(target, denoiser, times).errors
        ended = run(target, denoiser, schedule.sigma(1.0) * z, times)
        return ((ended - exact) / size / math.sqrt(z.numel())).double().flatten().numpy()

    try:
        found = converge(undeclared, errors_of, stretched(target), 0.0, np.inf if target.stochastic else 2, budget)
    except NotAffineError:
        ended = run(target, denoiser, schedule.sigma(1.0) * z, uniform_times(1.0, low, steps_of(target)))
        finite = bool(torch.isfinite(ended).all())
        verdict = f"From alpha = 0 the state is {'finite' if finite else 'NaN or infinite'}; it is not affine."
        return measured(value=math.nan, unit="order", verdict=verdict, tone="good" if finite else "alarm")
    return judged(found, undeclared, 0.0, budget)


def images(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """Images of two channels end where the vectors of their numbers end, with the same noise."""
    if target.event != "any":
        verdict = f"It takes {target.event}s only."
        return measured(value=math.nan, unit="data scale", verdict=verdict, tone="neutral")
    times, denoiser = problem.times(schedule, steps_of(target)), problem.denoiser(schedule)
    start = problem.start(schedule)
    ended = []
    for laid_out in (target, asked(replace(target, event="image"))):
        fixed = fixed_noise(laid_out, denoiser, times, len(start))
        try:
            with ChosenNoise(fixed(list(range(len(start)))) if callable(fixed) else no_noise):
                ended.append(run(laid_out, denoiser, start, times))
        except NotChosenError:
            fixed = None
        if fixed is None:
            verdict = "Not compared: its draws cannot be fixed row by row."
            return measured(value=math.nan, unit="data scale", verdict=verdict, tone="attention")
    error = largest_difference(ended[0], ended[1], problem.scale)
    good = error <= allowed(target)
    verdict = "Images end where the vectors of their numbers end."
    if not good:
        verdict = f"Images of {problem.start(schedule)[0].numel()} numbers end {error:.2g} from the vectors of theirs."
    return measured(value=error, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def untouched(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """A run changes neither its start nor its times, and the next run does not depend on it."""
    denoiser, n = problem.denoiser(schedule), steps_of(target)
    start, times = problem.start(schedule), problem.times(schedule, n)
    given = start.clone(), times.clone()
    generator = torch.Generator().manual_seed(0) if target.stochastic else None
    first = target.run(denoiser, *given, generator)
    faults = [
        f"the {what} given to it {'are' if what == 'times' else 'is'} changed in place"
        for what, before, after in (("start", start, given[0]), ("times", times, given[1]))
        if not torch.equal(before, after)
    ]
    other = unequal_gaussian()
    fewer = max(n // 2, target.coarsest)
    run(target, other.denoiser(schedule), other.start(schedule)[:5], other.times(schedule, fewer), seed=8)
    again = run(target, denoiser, start.clone(), times.clone())
    if not torch.equal(first, again):
        faults.append("a run depends on those before it")
    verdict = (
        "; ".join(faults).capitalize() + "." if faults else "It changes nothing that it is given, and keeps nothing."
    )
    return measured(value=float(len(faults)), unit="faults", verdict=verdict, tone="alarm" if faults else "good")


@dataclass(eq=False)
class Listening:
    """`denoiser`, with the times that it was asked at."""

    denoiser: Denoiser

    def __post_init__(self) -> None:
        self.schedule, self.asked = self.denoiser.schedule, []

    def __call__(self, x_t: Batch, t: Tensor | float) -> Batch:
        self.asked.append(torch.as_tensor(t, dtype=torch.float64).detach().flatten())
        return self.denoiser(x_t, t)


def time_precision(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The denoiser is asked at times that are not rounded to half precision, and within the grid."""
    times, listening = problem.times(schedule, steps_of(target)), Listening(problem.denoiser(schedule))
    run(target, listening, problem.start(schedule), times)
    asked_at = torch.cat(listening.asked)
    say = partial(measured, unit="times", value=float(len(asked_at)))
    for name, half in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        if _representable(asked_at, half) and not _representable(times, half):
            return say(verdict=f"The denoiser is asked at times rounded to {name}.", tone="alarm")
    if not bool(torch.isfinite(asked_at).all()):
        return say(verdict="The denoiser is asked at a time that is not finite.", tone="alarm")
    rounded = _representable(asked_at, torch.float32) and not _representable(times, torch.float32)
    precision = "rounded to float32" if rounded else "in double precision"
    return say(verdict=f"The denoiser is asked at times {precision}.", tone="good")


def rounding(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The end is smooth in the start and the times: its second difference over small changes is no larger than 1e-5.

    Over 1e-4 of the start, and 2e-3 of each step, a smooth map has one of about 1e-7; numbers rounded to half precision
    inside the sampler leave 1e-4. Asked of the mean over the starts, so that one of them next to a decision of an
    adaptive sampler is no fault.
    """
    times, denoiser = problem.times(schedule, steps_of(target)), problem.denoiser(schedule)
    start = problem.start(schedule)
    step = 1e-4 * float(start.square().mean().sqrt())
    moved = torch.zeros_like(times)
    moved[1:-1] = 2e-3 * times.diff()[1:]
    sizes = {}
    for name, change, shift in (("start", step, 0 * moved), ("times", 0.0, moved)):
        ended = [noiseless(target, denoiser, start + k * change, times + k * shift).double() for k in (-1, 0, 1)]
        sizes[name] = float((ended[0] - 2 * ended[1] + ended[2]).abs().amax(1).mean()) / problem.scale
    name, size = max(sizes.items(), key=lambda item: item[1])
    good = size <= max(1e-5, 100 * target.floor)
    verdict = f"The end is smooth in start and times to {max(size, 1e-15):.0e}."
    if not good:
        jumps = f"The end jumps by {size:.1g} of the data's scale as the {name} move{'' if name == 'times' else 's'}"
        verdict = f"{jumps}: numbers are rounded inside."
    return measured(value=size, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def _representable(times: Float[Tensor, " times"], dtype: torch.dtype) -> bool:
    """Whether all of these times, three at least, have the precision of `dtype`."""
    return len(times.unique()) > 2 and bool((times.to(dtype).double() == times).all())

"""The end of a run at sigma = 0: the finished sample."""

import math
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.findings import Finding, Tone
from diffuscope.schedules import VE, Schedule

from .affine import weak_error
from .asked import NotChosenError, TargetError
from .behavior import allowed, largest_difference, measured, noiseless, run, steps_of
from .chosen_noise import ChosenNoise, no_noise
from .problems import OracleProblem, flow, unequal_gaussian
from .target import Target

Point = Float[Tensor, "1 d"]
LEFT = 1e-4  # a distance from the data that is no noise: rounding to float32, a time kept from 0 by 1e-5
EULERS = 1.25  # times what a last step of Euler's method leaves
MEND = "end with the denoiser's answer there, raise an exception, or declare reaches_zero = False"
CLEAN = 0.05  # of the data's scale: what may be left at sigma = 0 with the finer steps


def steps_before_zero(target: Target) -> int:
    """The same where one more step, to sigma = 0, follows."""
    return max(target.coarsest, min(steps_of(target), target.finest - 1))


def finished(times: Float[Tensor, " times"]) -> Float[Tensor, " times+1"]:
    """`times` with a last step to clean data, t = 0."""
    return torch.cat([times, times.new_zeros(1)])


def single_point(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """If the data are a single point, the finished sample is that point, whatever the noise.

    Where nothing is declared, the target may refuse the step to sigma = 0 or give NaN. It may also be an integrator in
    time, which leaves no more than a step of Euler's method does and comes nearer with finer steps. What else ends away
    from the point is still noised, and fails.
    """
    point = torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    denoiser, start = ExactDenoiser(Empirical(point), schedule), problem.start(schedule)[:, :2]
    times = problem.times(schedule, steps_before_zero(target))
    null = f"Distance at most {allowed(target):.0e} after the step to clean data."
    said = partial(measured, unit="data units", null=null)
    why = "It declares no step to sigma = 0"
    if target.reaches_zero is not False:
        ended = _reached(target, denoiser, start, finished(times))
        error = math.nan if ended is None else largest_difference(ended, point)
        if error <= allowed(target):
            return said(value=error, verdict="The finished sample is the data point.", tone="good")
        if ended is not None and (target.reaches_zero or not math.isnan(error)):
            tone, verdict = _missed(target, problem, denoiser, point, ended)
            return said(value=error, verdict=verdict, tone=tone)
        why = f"It {'refuses the' if ended is None else 'gives NaN or infinity after a'} step to sigma = 0"
    # fine steps, as their error is not the question
    times = problem.times(schedule, min(8 * steps_of(target), target.finest))
    ended = run(target, denoiser, start, times)
    alpha, sigma = float(schedule.alpha(times[-1])), float(schedule.sigma(times[-1]))
    noises = largest_difference(ended, alpha * point, sigma)
    tone: Tone = "neutral" if target.reaches_zero is False else "attention"
    verdict = f"{why}; above it, the sample is within {noises:.2g} of its noise of the data point."
    if not noises <= 6:
        tone, verdict = "alarm", f"Above sigma = 0 the sample is {noises:.2g} of its noise from the only data point."
    return said(value=noises * sigma, verdict=verdict, tone=tone)


def _missed(
    target: Target, problem: OracleProblem, denoiser: ExactDenoiser, point: Point, ended: Batch
) -> tuple[Tone, str]:
    """What is wrong, or to be noted, of a run to sigma = 0 that `ended` away from the only data point."""
    schedule, start = denoiser.schedule, problem.start(denoiser.schedule)[:, :2]
    error = largest_difference(ended, point)
    if math.isnan(error):
        return "alarm", "The finished sample is not finite."
    away = f"{error:.2g} away from the only data point"
    times = problem.times(schedule, steps_before_zero(target))
    level = f"{float(schedule.sigma(times[-1])):.2g}"
    if largest_difference(ended, run(target, denoiser, start, times)) <= allowed(target):
        still = f"At sigma = 0 it returns the state of the time before, still noised (sigma = {level}), {away}"
        return "alarm", f"{still}; {MEND}."
    if target.reaches_zero:
        return "alarm", f"The finished sample is {away}."
    if error <= LEFT:
        return "attention", f"The finished sample is {away}."
    finer = _with_finer_steps(target, problem, denoiser, point)
    if finer <= error / 2 and _is_integrated(target, problem, denoiser, point):
        return "attention", f"The finished sample is {away}; with eight times the steps, {finer:.2g}."
    return "alarm", f"At sigma = 0 the sample is {away}, not finished; {MEND}."


def _is_integrated(target: Target, problem: OracleProblem, denoiser: ExactDenoiser, point: Point) -> bool:
    """Whether a step to sigma = 0 leaves no more noise than one of Euler's method in time does, after fine steps.

    That is none under VE and rectified flow, and some of it under VP, whose sigma is no linear function of time. A
    state that is not finished has all of the noise, or most.
    """
    schedule, start = denoiser.schedule, problem.start(denoiser.schedule)[:, :2]
    times = problem.times(schedule, max(target.coarsest, min(8 * steps_of(target), target.finest - 1)))
    before, ended = run(target, denoiser, start, times), _reached(target, denoiser, start, finished(times))
    if ended is None:
        return False
    t = times[-1]
    noise = (before - schedule.alpha(t) * point) / schedule.sigma(t)
    euler = before - t * (schedule.alpha_dot(t) * point + schedule.sigma_dot(t) * noise)
    return largest_difference(ended, point) <= EULERS * largest_difference(euler, point) + LEFT


def _with_finer_steps(target: Target, problem: OracleProblem, denoiser: ExactDenoiser, point: Point) -> float:
    """The distance from the data point with eight times the steps, from a sixteenth of the last level.

    A solver of the equation in time is not exact at the end, but comes nearer.
    """
    finer, schedule = replace(problem, low=problem.low / 16), denoiser.schedule
    n = max(1, min(8 * steps_of(target), target.finest - 1))
    ended = _reached(target, denoiser, problem.start(schedule)[:, :2], finished(finer.times(schedule, n)))
    return math.nan if ended is None else largest_difference(ended, point)


def _reached(target: Target, denoiser: Denoiser, start: Batch, times: Float[Tensor, " times"]) -> Batch | None:
    """The end of a run to sigma = 0; None if it raises an exception, unless the step is declared.

    What is returned and is no state raises TargetError in any case: it refuses nothing.
    """
    try:
        return run(target, denoiser, start, times)
    except (TargetError, InputError) as error:
        refused = isinstance(error, InputError) or error.__cause__ is not None
        if target.reaches_zero or not refused:
            raise TargetError(str(error)) from error
        return None


def last_step(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The step to sigma = 0 is finite and ends where the exact flow does; its distance from a call of the denoiser."""
    times = problem.times(schedule, steps_before_zero(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    if target.reaches_zero is False:
        verdict = "It declares no step to clean data."
        return measured(value=math.nan, unit="data units", verdict=verdict, tone="neutral")
    with ChosenNoise(no_noise):
        ended = _reached(target, denoiser, start, finished(times))
    before = noiseless(target, denoiser, start, times)
    said = partial(measured, unit="data units")
    if ended is None or not bool(torch.isfinite(ended).all()):
        what = "is refused" if ended is None else "gives NaN or infinity"
        tone: Tone = "alarm" if target.reaches_zero else "attention"
        return said(value=math.nan, verdict=f"The step to clean data, sigma = 0, {what}; stop above it.", tone=tone)
    coarse, fine = clean_errors(target, schedule)
    if fine > CLEAN and not fine <= coarse / 2:
        off = f"{coarse:.2g} of the data's scale off, and {fine:.2g} with more and finer steps"
        return said(value=fine, verdict=f"After the step to clean data the result is {off}.", tone="alarm")
    distance = largest_difference(ended, schedule.alpha(0.0) * denoiser(before, times[-1]))
    if distance <= allowed(target):
        verdict = "The step to clean data is one call of the denoiser."
    elif largest_difference(ended, before) <= allowed(target):
        verdict = f"It takes no step to clean data: it ends as before, {distance:.2g} from a plain denoise."
        return said(value=distance, verdict=verdict, tone="alarm")
    else:
        verdict = f"The step to clean data is finite; it ends {distance:.2g} from a plain denoise."
    return said(value=distance, verdict=verdict, tone="good")


def clean_errors(target: Target, schedule: Schedule) -> tuple[float, float]:
    """The error at sigma = 0 on Gaussian data, with few steps and with eight times as many to a sixteenth of the level.

    Of the endpoints of the exact flow, or of mean and covariance for a stochastic target; zeros where unknown,
    or where the target does not take enough steps.
    """
    few = steps_before_zero(target)
    many = min(8 * few, target.finest - 1)
    if many < 4 * few:
        return 0.0, 0.0
    found = []
    for factor, n in ((1, few), (16, many)):
        problem = replace(unequal_gaussian(), low=unequal_gaussian().low / factor)
        times, denoiser = finished(problem.times(schedule, n)), problem.denoiser(schedule)
        if target.stochastic:
            try:
                error = weak_error(target, denoiser, times)
            except NotChosenError:
                return 0.0, 0.0
            found.append(error.largest if error.misfit < 1e-3 else 0.0)
        else:
            exact = schedule.alpha(0.0) * flow(problem.distribution, problem.start(VE()), problem.high, 0.0)
            ended = run(target, denoiser, problem.start(schedule), times).double()
            found.append(float((ended - exact).square().mean().sqrt()) / problem.scale)
    return found[0], found[1]

"""Requirements beyond convergence: clean samples, the dtype of the start, independent rows, a single generator."""

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, Denoiser, ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .affine import count_draws
from .chosen_noise import ChosenNoise, no_noise
from .problems import OracleProblem
from .target import Target

STEPS = 12

measured = partial(Finding, name="", title="")  # the question gives its finding its own name and title


def run(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"], seed: int = 0) -> Batch:
    """One run, with a fresh generator if the target is stochastic."""
    return target.run(denoiser, x, times, torch.Generator().manual_seed(seed) if target.stochastic else None)


def noiseless(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"]) -> Batch:
    """One run with every normal draw replaced by zero."""
    with ChosenNoise(no_noise):
        return run(target, denoiser, x, times)


def allowed(target: Target) -> float:
    """The largest difference that float64 rounding explains, or the declared accuracy of the target's own tables."""
    return max(1e-9, 100 * target.floor)


def steps_of(target: Target) -> int:
    """The number of steps of these checks, as near to STEPS as the target accepts."""
    return min(max(STEPS, target.coarsest), target.finest)


def finished(times: Float[Tensor, " times"]) -> Float[Tensor, " times+1"]:
    """`times` with a last step to clean data, t = 0."""
    return torch.cat([times, times.new_zeros(1)])


def largest_difference(a: Tensor, b: Tensor, scale: float = 1.0) -> float:
    """The largest difference of two results relative to `scale`; NaN if either is not finite."""
    return float((a - b).abs().max()) / scale if bool((torch.isfinite(a) & torch.isfinite(b)).all()) else float("nan")


def single_point(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """If the data are a single point, the finished sample is that point, whatever the noise."""
    point = torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    denoiser = ExactDenoiser(Empirical(point), schedule)
    times = finished(problem.times(schedule, steps_of(target)))
    error = largest_difference(run(target, denoiser, problem.start(schedule)[:, :2], times), point)
    reached = error <= allowed(target)
    verdict = "The finished sample is the data point."
    if not reached:
        distance = "not finite" if math.isnan(error) else f"{error:.2g} away from the only data point"
        verdict = f"The finished sample is {distance}."
    return measured(
        value=error,
        unit="data units",
        verdict=verdict,
        tone="good" if reached else "alarm",
        null=f"Distance at most {allowed(target):.0e} after the step to clean data.",
    )


def last_step(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The step to sigma = 0 is finite; its distance from a single call of the denoiser."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    ended = noiseless(target, denoiser, start, finished(times))
    before = noiseless(target, denoiser, start, times)
    finite = bool(torch.isfinite(ended).all())
    distance = largest_difference(ended, schedule.alpha(0.0) * denoiser(before, times[-1]))
    if not finite:
        verdict = "The step to clean data gives NaN or infinity."
    elif distance <= allowed(target):
        verdict = "The step to clean data is one call of the denoiser."
    else:
        verdict = f"The step to clean data is finite; it ends {distance:.2g} from a plain denoise."
    return measured(value=distance, unit="data units", verdict=verdict, tone="good" if finite else "alarm")


def precision(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The result has the dtype of the start, and float32 and float64 agree up to rounding."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule).float()
    single = noiseless(target, denoiser, start, times)
    double = noiseless(target, denoiser, start.double(), times)
    kept = single.dtype == torch.float32 and double.dtype == torch.float64
    difference = largest_difference(single.double(), double, problem.scale)
    # a few dozen operations at 6e-8, amplified by the flow
    good = kept and difference <= 1e-4
    dtypes = f"{str(single.dtype)[6:]} and {str(double.dtype)[6:]}"
    verdict = f"float32 and float64 starts give {dtypes} results, which differ by {difference:.1g}."
    if good:
        verdict = f"The result has the dtype of the start; float32 costs an error of {difference:.1g}."
    return measured(value=difference, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def batching(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The result of a row does not depend on the other rows of its batch."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)[:4]
    together = noiseless(target, denoiser, start, times)
    alone = torch.cat([noiseless(target, denoiser, row[None], times) for row in start])
    error = largest_difference(together, alone, problem.scale)
    good = error <= allowed(target)
    verdict = f"A row ends {error:.2g} elsewhere when others join it."
    if good:
        verdict = "Rows end at the same points in a batch as alone."
    return measured(value=error, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def randomness(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The generator determines the result, and no other generator is used."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    before = torch.get_rng_state()
    first, second, other = (run(target, denoiser, start, times, seed) for seed in (4, 4, 5))
    untouched = torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    draws = count_draws(target, denoiser, times).draws
    faults = []
    if not torch.equal(first, second):
        faults.append("the same seed gives different results")
    if target.stochastic and not untouched:
        faults.append("the global generator is drawn from")
    if target.stochastic and torch.equal(first, other):
        faults.append("another seed changes nothing")
    if faults:
        tone, verdict = "alarm", "; ".join(faults).capitalize() + "."
    elif target.stochastic:
        tone, verdict = "good", "The generator determines the result."
    elif draws:
        # the result does not depend on them, but other users' draws now do
        tone, verdict = "attention", f"The result is deterministic, but {draws} random draws are made and not used."
    else:
        tone, verdict = "good", "No random numbers are drawn."
    return measured(value=float(draws), unit="draws", verdict=verdict, tone=tone)


def cost(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The NFE per step against the declared number; further NFE at the start are counted separately."""
    n = max(1, steps_of(target) // 2)
    few, many = (evaluations(target, problem, schedule, steps) for steps in (n, 2 * n))
    per_step, start = (many - few) / n, 2 * few - many
    if target.nfe_per_step is None:
        verdict, tone = f"{many} NFE in {2 * n} steps; no fixed cost is declared.", "neutral"
    elif per_step == target.nfe_per_step and start >= 0:
        extra = f" and {start} at the start" if start else ""
        verdict, tone = f"{target.nfe_per_step} NFE per step{extra}, as declared.", "good"
    else:
        verdict = f"{many} NFE in {2 * n} steps and {few} in {n}; {target.nfe_per_step} per step declared."
        tone = "alarm"
    return measured(value=per_step, unit="NFE", verdict=verdict, tone=tone)


def evaluations(target: Target, problem: OracleProblem, schedule: Schedule, steps: int) -> int:
    """The NFE of a run of `steps` steps."""
    counting = CountingDenoiser(problem.denoiser(schedule))
    noiseless(target, counting, problem.start(schedule), problem.times(schedule, steps))
    return counting.calls


def invariance(target: Target, problem: OracleProblem) -> Finding:
    """Whether the same steps in log-SNR lead to the same endpoint in every schedule."""
    n = steps_of(target)
    ends = []
    for schedule in target.schedules:
        times = problem.times(schedule, n)
        ended = noiseless(target, problem.denoiser(schedule), problem.start(schedule), times)
        ends.append(ended / schedule.alpha(times[-1]))
    difference = max(float((end - ends[0]).abs().max()) for end in ends) / problem.scale
    names = ", ".join(type(schedule).__name__ for schedule in target.schedules)
    if len(target.schedules) == 1:
        verdict = f"Runs in one schedule only ({names})."
    elif difference <= allowed(target):
        verdict = f"The same steps in log-SNR end at the same points under {names}."
    else:
        verdict = f"The endpoints depend on the time variable: {difference:.2g} apart under {names} in {n} steps."
    return measured(value=difference, unit="data scale", verdict=verdict, tone="neutral")

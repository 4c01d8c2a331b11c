"""What a sampler must do besides converge: finish, keep its dtype, treat rows apart, draw only from its generator."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .affine import count_draws
from .chosen_noise import ChosenNoise, no_noise
from .counting import CountingDenoiser
from .problems import OracleProblem
from .target import Target

STEPS = 12


def run(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"], seed: int = 0) -> Batch:
    """One run with a fresh generator, where the target draws at all."""
    return target.run(denoiser, x, times, torch.Generator().manual_seed(seed) if target.stochastic else None)


def noiseless(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"]) -> Batch:
    """One run with every normal draw replaced by zero."""
    with ChosenNoise(no_noise):
        return run(target, denoiser, x, times)


def allowed(target: Target) -> float:
    """Rounding: what a float64 computation may differ by, or what the target says of its own tables."""
    return max(1e-9, 100 * target.floor)


def steps_of(target: Target) -> int:
    """The number of steps of these checks, as near to STEPS as the target accepts."""
    return min(max(STEPS, target.coarsest), target.finest)


def finished(times: Float[Tensor, " times"]) -> Float[Tensor, " times+1"]:
    """`times` with a last step to clean data, t = 0."""
    return torch.cat([times, times.new_zeros(1)])


def single_point(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """On one data point the finished sample is that point, noise and all."""
    point = torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    denoiser = ExactDenoiser(Empirical(point), schedule)
    times = finished(problem.times(schedule, steps_of(target)))
    ended = run(target, denoiser, problem.start(schedule)[:, :2], times)
    error = float((ended - point).abs().max()) if bool(torch.isfinite(ended).all()) else float("nan")
    reached = error <= allowed(target)
    place = "the data point" if reached else f"{error:.2g} away from the only data point"
    return Finding(
        name="point",
        title="A single data point is hit",
        value=error,
        unit="data units",
        verdict=f"The finished sample is {place}.",
        tone="good" if reached else "alarm",
        null=f"Distance at most {allowed(target):.0e} after the step to clean data.",
    )


def last_step(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The step to sigma = 0 is finite, and how far it ends from a plain denoise."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    ended = noiseless(target, denoiser, start, finished(times))
    before = noiseless(target, denoiser, start, times)
    clean = schedule.alpha(0.0) * denoiser(before, times[-1])
    finite = bool(torch.isfinite(ended).all())
    apart = float((ended - clean).abs().max()) if finite else float("nan")
    if not finite:
        verdict = "The step to clean data gives NaN or infinity."
    elif apart <= allowed(target):
        verdict = "The step to clean data is one call of the denoiser."
    else:
        verdict = f"The step to clean data is finite; it ends {apart:.2g} from a plain denoise."
    return Finding(
        name="last_step",
        title="The last step",
        value=apart,
        unit="data units",
        verdict=verdict,
        tone="good" if finite else "alarm",
    )


def precision(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """float32 in, float32 out, and the same result but for rounding; float64 likewise."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule).float()
    single = noiseless(target, denoiser, start, times)
    double = noiseless(target, denoiser, start.double(), times)
    kept = single.dtype == torch.float32 and double.dtype == torch.float64
    apart = float((single.double() - double).abs().max()) / problem.scale
    # a few dozen operations at 6e-8, amplified by the flow
    good = kept and apart <= 1e-4
    verdict = (
        f"float32 and float64 starts end in {str(single.dtype)[6:]} and {str(double.dtype)[6:]}, {apart:.1g} apart."
        if not good
        else f"The result has the dtype of the start; float32 costs {apart:.1g}."
    )
    return Finding(
        name="dtype",
        title="float32 and float64",
        value=apart,
        unit="data scale",
        verdict=verdict,
        tone="good" if good else "alarm",
    )


def batching(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """A batch is its rows one by one."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)[:4]
    together = noiseless(target, denoiser, start, times)
    apart = torch.cat([noiseless(target, denoiser, row[None], times) for row in start])
    error = float((together - apart).abs().max()) / problem.scale
    good = error <= allowed(target)
    return Finding(
        name="batch",
        title="Rows of a batch are independent",
        value=error,
        unit="data scale",
        verdict="A batch ends as its rows one by one."
        if good
        else f"A row ends {error:.2g} elsewhere when others join it.",
        tone="good" if good else "alarm",
    )


def randomness(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The generator decides everything, and nothing else is drawn from."""
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
        tone, verdict = "good", "The generator decides everything."
    elif draws:
        # the result does not depend on them, but other people's draws now do
        tone, verdict = "attention", f"The result is deterministic; {draws} random draws are made for nothing."
    else:
        tone, verdict = "good", "Nothing is drawn at random."
    return Finding(
        name="randomness",
        title="Determinism under a fixed generator",
        value=float(draws),
        unit="draws",
        verdict=verdict,
        tone=tone,
    )


def cost(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The evaluations of the denoiser per step, against the declared; what a start costs more is told apart."""
    n = max(1, steps_of(target) // 2)
    few, many = (evaluations(target, problem, schedule, steps) for steps in (n, 2 * n))
    per_step, start = (many - few) / n, 2 * few - many
    if target.nfe_per_step is None:
        verdict, tone = f"{many} evaluations in {2 * n} steps; no fixed cost is declared.", "neutral"
    elif per_step == target.nfe_per_step and start >= 0:
        extra = f" and {start} for the start" if start else ""
        verdict, tone = f"{target.nfe_per_step} evaluations per step{extra}, as declared.", "good"
    else:
        verdict = f"{many} evaluations in {2 * n} steps, {few} in {n}; {target.nfe_per_step} per step declared."
        tone = "alarm"
    return Finding(
        name="cost", title="Evaluations per step", value=per_step, unit="evaluations", verdict=verdict, tone=tone
    )


def evaluations(target: Target, problem: OracleProblem, schedule: Schedule, steps: int) -> int:
    """How often a run of so many steps asks the denoiser."""
    counting = CountingDenoiser(problem.denoiser(schedule))
    noiseless(target, counting, problem.start(schedule), problem.times(schedule, steps))
    return counting.calls


def invariance(target: Target, problem: OracleProblem) -> Finding:
    """Whether the endpoint depends on the schedule in which the same steps in log-SNR are walked."""
    n = steps_of(target)
    ends = []
    for schedule in target.schedules:
        times = problem.times(schedule, n)
        ended = noiseless(target, problem.denoiser(schedule), problem.start(schedule), times)
        ends.append(ended / schedule.alpha(times[-1]))
    apart = max(float((end - ends[0]).abs().max()) for end in ends) / problem.scale
    names = ", ".join(type(schedule).__name__ for schedule in target.schedules)
    if len(target.schedules) == 1:
        verdict = f"Runs in one schedule only ({names})."
    elif apart <= allowed(target):
        verdict = f"The same steps in log-SNR end at the same points under {names}."
    else:
        verdict = f"The steps depend on the time variable: {apart:.2g} apart under {names} at {n} steps."
    return Finding(
        name="invariance",
        title="Invariance under change of schedule",
        value=apart,
        unit="data scale",
        verdict=verdict,
        tone="neutral",
    )

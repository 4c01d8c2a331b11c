"""Requirements beyond convergence: clean samples, the dtype of the start, independent rows, a single generator."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.findings import Finding, Tone
from diffuscope.schedules import Schedule

from .asked import NotChosenError, TargetError
from .chosen_noise import ChosenNoise, Drawn, count_draws, no_noise, row_draws
from .global_generators import drawn_from, global_states
from .problems import OracleProblem
from .target import Target

STEPS = 12

measured = partial(Finding, name="", title="")  # the question gives its finding its own name and title


def run(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"], seed: int = 0) -> Batch:
    """One run, with a fresh generator if the target is stochastic."""
    # a copy: a run may overwrite its start, which is a question of its own
    return target.run(denoiser, x.clone(), times, torch.Generator().manual_seed(seed) if target.stochastic else None)


def noiseless(target: Target, denoiser: Denoiser, x: Batch, times: Float[Tensor, " times"]) -> Batch:
    """One run with every normal draw replaced by zero."""
    with ChosenNoise(no_noise):
        return run(target, denoiser, x, times)


def allowed(target: Target) -> float:
    """The largest difference that float64 rounding explains, or the declared accuracy of the target's own tables."""
    return max(1e-9, 100 * target.floor)


def is_costly(target: Target) -> bool:
    """Three evaluations per step or more, or two for a stochastic target, which is run on a row for every draw."""
    return (target.nfe_per_step or 1) > (1 if target.stochastic else 2)


def steps_of(target: Target) -> int:
    """The number of steps of these checks, as near to STEPS as the target accepts; half as many for a costly one."""
    wanted = STEPS // 2 if is_costly(target) else STEPS
    return min(max(wanted, target.coarsest), target.finest)


def largest_difference(a: Tensor, b: Tensor, scale: float = 1.0) -> float:
    """The largest difference of two results relative to `scale`; NaN if either is not finite."""
    return float((a - b).abs().max()) / scale if bool((torch.isfinite(a) & torch.isfinite(b)).all()) else float("nan")


def sentence(faults: list[str]) -> str:
    """The faults as one sentence."""
    joined = "; ".join(faults)
    return f"{joined[0].upper()}{joined[1:]}."


WORST: tuple[Tone, ...] = ("alarm", "unknown", "attention", "good", "neutral")
Question = Callable[[Target, OracleProblem, Schedule], Finding]


def everywhere(question: Question, target: Target, problem: OracleProblem) -> Finding:
    """The worst answer to `question` over the target's schedules, which it names if they differ."""
    found = {type(schedule).__name__: _answer(question, target, problem, schedule) for schedule in target.schedules}
    name, worst = min(found.items(), key=lambda item: WORST.index(item[1].tone))
    if len({finding.tone for finding in found.values()}) == 1:
        return worst
    return replace(worst, verdict=f"Under {name}: {worst.verdict[0].lower()}{worst.verdict[1:]}")


def _answer(question: Question, target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    try:
        return question(target, problem, schedule)
    except InputError as error:
        # a stated limit of the target: neither a failure nor a success
        return measured(value=math.nan, unit="", verdict=f"Not measured: {error}", tone="attention")
    except TargetError as fault:
        return measured(value=math.nan, unit="", verdict=str(fault), tone="alarm")


def precision(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The result has the dtype of the start, and float32 and float64 agree up to rounding."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule).float()
    fixed = fixed_noise(target, denoiser, times, len(start))

    def ended(x: Batch) -> Batch:
        with ChosenNoise(fixed(list(range(len(x)))) if callable(fixed) else no_noise):
            return run(target, denoiser, x, times)

    try:
        single, double = ended(start), ended(start.double())
    except NotChosenError:
        single, double = noiseless(target, denoiser, start, times), noiseless(target, denoiser, start.double(), times)
    kept = single.dtype == torch.float32 and double.dtype == torch.float64
    difference = largest_difference(single.double(), double, problem.scale)
    # a few dozen operations at 6e-8, amplified by the flow
    good = kept and difference <= 1e-4
    dtypes = f"{str(single.dtype)[6:]} and {str(double.dtype)[6:]}"
    verdict = f"float32 and float64 starts give {dtypes} results, which differ by {difference:.1g}."
    if good:
        verdict = f"The result has the dtype of the start; float32 costs an error of {difference:.1g}."
    return measured(value=difference, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


BATCH = 130
COMPARED = [0, 1, 50, 129]


def batching(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The result of a row does not depend on the other rows of its batch, with the noise of each row fixed."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule).repeat(11, 1)[:BATCH]
    fixed = fixed_noise(target, denoiser, times, len(start))
    unfixed = "Not compared: its draws cannot be fixed row by row."
    not_compared = measured(value=math.nan, unit="data scale", verdict=unfixed, tone="attention")
    if fixed is None:
        return not_compared
    if isinstance(fixed, str):
        return measured(value=math.nan, unit="data scale", verdict=fixed, tone="alarm")

    def ended(rows: list[int], seed: int) -> Batch:
        with ChosenNoise(fixed(rows)):
            return run(target, denoiser, start[rows], times, seed)

    try:
        together = ended(list(range(len(start))), seed=0)
        if not torch.equal(together, ended(list(range(len(start))), seed=1)):
            raise NotChosenError("other noise")
        alone = torch.cat([ended([row], seed=0) for row in COMPARED])
    except NotChosenError:
        return not_compared
    error = largest_difference(together[COMPARED], alone, problem.scale)
    good = error <= allowed(target)
    verdict = f"A row ends {error:.2g} elsewhere when others join it."
    if good:
        verdict = "Rows end at the same points in a batch as alone."
    return measured(value=error, unit="data scale", verdict=verdict, tone="good" if good else "alarm")


def fixed_noise(
    target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"], rows: int
) -> Callable[[list[int]], Callable[[int, Drawn], Tensor]] | str | None:
    """Noise that is a function of draw and row: for a choice of rows, the `draw` of `ChosenNoise`.

    None if the draws cannot be chosen; a verdict if all rows share one.
    """
    if not target.stochastic:
        return lambda chosen: no_noise  # noqa: ARG005
    try:
        draws = row_draws(target, denoiser, times)
    except NotChosenError:
        return None
    if None in draws:
        return "A random draw is shared by all rows of the batch: they are not independent."
    generator = torch.Generator().manual_seed(6)
    # uniform on (-sqrt 3, sqrt 3), of variance 1, which is in the range of every draw
    table = [
        (torch.rand(rows, draw.width, dtype=torch.float64, generator=generator) - 0.5) * math.sqrt(12)
        for draw in draws
        if draw is not None
    ]

    def of_rows(chosen: list[int]) -> Callable[[int, Drawn], Tensor]:
        def draw(k: int, drawn: Drawn) -> Tensor:
            own = draws[k] if k < len(draws) else None
            if own is None:
                raise NotChosenError("more draws than for fewer rows")
            return own.laid_out(table[k][chosen], drawn)

        return draw

    return of_rows


def randomness(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The generator determines the result, and no other generator is used."""
    times = problem.times(schedule, steps_of(target))
    denoiser, start = problem.denoiser(schedule), problem.start(schedule)
    states, before = global_states(), torch.get_rng_state()
    first, second, other = (run(target, denoiser, start, times, seed) for seed in (4, 4, 5))
    same = torch.equal(first, second)
    touched = drawn_from(states, values_differ=not same)
    torch.set_rng_state(before)
    counted = count_draws(target, denoiser, times)
    draws = counted.draws + counted.others
    faults = []
    if not same:
        faults.append("the same seed gives different results")
    if target.stochastic and touched:
        faults.append(f"the global generator of {' and '.join(touched)} is drawn from")
    if target.stochastic and torch.equal(first, other):
        faults.append("another seed changes nothing")
    if faults:
        tone, verdict = "alarm", sentence(faults)
    elif target.stochastic:
        tone, verdict = "good", "The generator determines the result."
    elif draws:
        # the result does not depend on them, but other users' draws now do
        tone, verdict = "attention", f"The result is deterministic, but {draws} random draws are made and not used."
    elif touched:
        changed = f"The result is deterministic, but the global generator of {' and '.join(touched)} is changed."
        tone, verdict = "attention", changed
    else:
        tone, verdict = "good", "No random numbers are drawn."
    return measured(value=float(draws), unit="draws", verdict=verdict, tone=tone)


def cost(target: Target, problem: OracleProblem, schedule: Schedule) -> Finding:
    """The NFE per step against the declared number; further NFE at the start are counted separately."""
    n = max(target.coarsest, min(STEPS // 2, target.finest // 2))
    m = min(2 * n, target.finest)
    if m == n:
        verdict = f"It takes {n} step{'s' if n > 1 else ''} only; the cost of one is not counted."
        return measured(value=math.nan, unit="NFE", verdict=verdict, tone="neutral")
    few, many = (evaluations(target, problem, schedule, steps) for steps in (n, m))
    per_step = (many - few) / (m - n)
    start = few - per_step * n
    if target.nfe_per_step is None:
        verdict, tone = f"{many} NFE in {m} steps; no fixed cost is declared.", "neutral"
    elif per_step == target.nfe_per_step and start >= 0:
        extra = f" and {start:g} at the start" if start else ""
        verdict, tone = f"{target.nfe_per_step} NFE per step{extra}, as declared.", "good"
    else:
        verdict = f"{many} NFE in {m} steps and {few} in {n}; {target.nfe_per_step} per step declared."
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

"""The questions about a sampler as its library ships it: levels, start, end, convergence; see `as_shipped`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding, Tone

from .as_shipped import (
    Errors,
    Plan,
    Shipped,
    affine,
    ddim,
    errors_of,
    marginal,
    noise,
    shipped_gaussian,
    shipped_mixture,
    signal,
)
from .problems import flow

FEW = (1, 2, 3)  # asked for exceptions only
# some divide 1000, some do not; 61 floating-point steps of 1000/61 end below 1000
STEPS = (5, 10, 20, 30, 50, 61, 100, 200, 300)
TYPICAL = 50
JUDGED = 20  # the fewest steps whose error is compared with DDIM's
FACTOR = 2.0
TOLERANCE = 1e-3  # errors below it are float32 tables
ROUNDING = 0.51  # training steps by which a timestep is rounded
BIAS = 0.01
SLOW = 0.7  # of a method whose order is 1; the lowest training level does not vanish
AFFINE = 1e-3

measured = partial(Finding, unit="")


@dataclass(frozen=True, eq=False)
class Trial:
    """What a sampler does at one number of steps: its plan and errors, or why there are none."""

    steps: int
    plan: Plan | None = None
    errors: Errors | None = None
    refused: str = ""
    raised: str = ""


def tried(shipped: Shipped, steps: int, data: Gaussian) -> Trial:
    """One number of steps; whatever the library raises is recorded."""
    plan = None
    try:
        try:
            plan = shipped.plan(steps)
        except InputError as error:  # a stated limit
            return Trial(steps, refused=str(error))
        return Trial(steps, plan, errors_of(plan, data, steps))
    except Exception as error:  # someone else's code
        message = str(error).splitlines()[0] if str(error) else "no message"
        return Trial(steps, plan, raised=f"{type(error).__name__}: {message}")


def runs(trials: Sequence[Trial]) -> Finding:
    """Every number of steps runs and is finite."""
    raised = [trial for trial in trials if trial.raised]
    wild = [trial.steps for trial in trials if trial.errors and not math.isfinite(trial.errors.discretization)]
    refused = [trial for trial in trials if trial.refused]
    ran = [trial.steps for trial in trials if trial.errors]
    verdict, tone = f"Runs at {_numbers(ran)} steps.", "good"
    if refused:
        verdict = f"Runs at {_numbers(ran)} steps; refuses {_numbers([t.steps for t in refused])}: {refused[0].refused}"
    if not ran and not raised:
        tone = "unknown"
    if wild:
        verdict, tone = f"NaN or infinity at {_numbers(wild)} steps.", "alarm"
    if raised:
        verdict, tone = f"Raises at {_numbers([t.steps for t in raised])} steps: {raised[0].raised}", "alarm"
    return measured(
        name="shipped.runs",
        title="Numbers of steps",
        value=float(len(raised) + len(wild)),
        unit="failures",
        verdict=verdict,
        tone=tone,
    )


def levels(trials: Sequence[Trial]) -> Finding:
    """The level of the state against that which the timestep tells the network, in steps of the training table."""
    question = partial(measured, name="shipped.levels", title="Noise level given to the network", unit="training steps")
    plans = [(trial.steps, trial.plan) for trial in trials if trial.plan and trial.steps > max(FEW)]
    if not plans:
        return question(value=math.nan, verdict="No plan to compare.", tone="unknown")
    off = [float(plan.off.abs().max()) for _, plan in plans]
    worst = int(np.argmax([math.inf if math.isnan(x) else x for x in off]))
    steps, plan = plans[worst]
    call = int(plan.off.abs().nan_to_num(nan=math.inf).argmax())
    state, told = float(plan.attributed[call]), float(plan.told[call])
    where = f"call {call + 1} of {len(plan.told)} at {steps} steps (timestep {float(plan.timesteps[call]):.4g})"
    where += f": state at {state:.4g}, its timestep at {told:.4g}"
    repeats = {n: _repeats(plan) for n, plan in plans if _repeats(plan)}
    value, tone = off[worst], "good"
    verdict = f"The timesteps agree with the state's level to {value:.2g} training steps."
    if not value <= 1 + TOLERANCE:
        tone, verdict = "alarm", f"Off by {value:.3g} training steps in sigma/alpha at {where}."
    elif value > ROUNDING:
        tone, verdict = "attention", f"Rounded by up to {value:.2g} of a training step: {where}."
    if repeats:
        finest = max(repeats)
        verdict += f" {repeats[finest]} of {finest} timesteps repeat the one before."
    return question(value=value, verdict=verdict, tone=tone, null="At most half a training step, by rounding.")


def start(trials: Sequence[Trial]) -> Finding:
    """What the library's start does to the samples: exact, by the affine map."""
    question = partial(measured, name="shipped.start", title="Bias of the start", unit="standard deviations")
    usable = [(t.plan, t.errors) for t in trials if t.plan and t.errors and t.steps >= JUDGED]
    usable = [(plan, found) for plan, found in usable if math.isfinite(found.mean_bias)]
    if not usable:
        return question(value=math.nan, verdict="No run to judge.", tone="unknown")
    typical, found = min(usable, key=lambda pair: abs(pair[1].steps - TYPICAL))
    r = float(typical.attributed[0])
    biases = [max(abs(each.mean_bias), abs(each.spread_bias)) for _, each in usable]
    said = f"mean by {found.mean_bias:.2g} standard deviations, variance by {100 * found.spread_bias:+.2g}%"
    verdict = f"At {found.steps} steps the start at sigma/alpha = {r:.4g} moves the samples: {said}."
    tone: Tone = "good" if max(biases) <= BIAS else "attention"
    worst_plan, worst = usable[int(np.argmax(biases))]
    if tone == "attention" and worst.steps != found.steps:
        verdict += f" At {worst.steps}, from {float(worst_plan.attributed[0]):.4g}: {worst.mean_bias:.2g}"
        verdict += f" and {100 * worst.spread_bias:+.2g}%."
    wrong = [plan for plan, _ in usable if not 0.9 * float(noise(plan.attributed[0])) <= plan.start <= 1.1]
    if wrong:
        tone = "alarm"
        verdict += f" The start has {wrong[0].start:.3g} times the noise of its first level."
    return question(value=found.mean_bias, verdict=verdict, tone=tone, null=f"At most {BIAS} from {JUDGED} steps on.")


def end(trials: Sequence[Trial]) -> Finding:
    """On data that are one point, the finished sample is that point; else by how much noise is left."""
    question = partial(measured, name="shipped.end", title="Noise left at the end", unit="data units")
    plans = [(trial.steps, trial.plan) for trial in trials if trial.plan and trial.errors and trial.steps >= JUDGED]
    if not plans:
        return question(value=math.nan, verdict="No run to judge.", tone="unknown")
    steps, plan = min(plans, key=lambda pair: abs(pair[0] - TYPICAL))
    gaussian = shipped_gaussian()
    point = Gaussian(gaussian.mean, gaussian.eigenvectors, torch.zeros(2, dtype=torch.float64))
    mean, spread = marginal(point, plan.attributed[0])
    ended = affine(lambda x, generator: plan.run(point, x, generator), mean, plan.draws).moments(mean, spread)
    left = plan.end_scale * float(ended[1].diagonal().max().sqrt())
    shift = float((plan.end_scale * ended[0] - point.mean).abs().max())
    declared = float(noise(plan.end)) * plan.end_scale
    shrinkage = abs(float(signal(plan.end)) * plan.end_scale - 1)
    if left <= TOLERANCE and shift <= TOLERANCE:
        verdict, tone = "The finished sample of a single point is that point.", "good"
    elif left <= 2 * declared + TOLERANCE and shift <= shrinkage + declared + TOLERANCE:
        # twice: timesteps rounded at the lowest levels
        verdict = f"Noise of {left:.2g} is left: the last level is sigma/alpha = {plan.end:.2g}, not 0."
        tone = "attention"
    else:
        verdict = f"A single point ends with noise {left:.2g}, {shift:.2g} away; the last level is {plan.end:.2g}."
        tone = "alarm"
    return question(value=left, verdict=f"{verdict} ({steps} steps)", tone=tone, null="0, or the declared last level.")


def convergence(trials: Sequence[Trial], *, stochastic: bool) -> Finding:
    """The moments of the samples from the exact start, against DDIM on the same levels."""
    question = partial(measured, name="shipped.convergence", title="Convergence on a Gaussian", unit="x DDIM's error")
    found = [t.errors for t in trials if t.errors and math.isfinite(t.errors.discretization) and t.steps >= JUDGED]
    if len(found) < 2:
        return question(value=math.nan, verdict="Too few runs to judge.", tone="unknown")
    finest = found[-1]
    shown = [each for each in found if each.steps in (JUDGED, TYPICAL, finest.steps)]
    said = ", ".join(f"{each.discretization:.2g} ({each.ideal:.2g}) at {each.steps}" for each in shown)
    errors = [max(each.discretization, 1e-12) for each in found]
    rate = -float(np.polyfit(np.log([each.steps for each in found]), np.log(errors), 1)[0])
    verdict = f"Error of mean and covariance (DDIM's on the same levels): {said} steps; rate {rate:.2f}."
    if max(each.misfit for each in found) > AFFINE:
        verdict = "Not affine on Gaussian data (clipping or thresholding?): no exact moments."
        return question(value=math.nan, verdict=verdict, tone="unknown")
    larger = [each for each in found if each.discretization > FACTOR * each.ideal + TOLERANCE]
    unexplained = [each for each in larger if each.discretization > FACTOR * each.told + TOLERANCE]
    tone: Tone = "good"
    if finest in unexplained and rate < (0.5 if stochastic else SLOW):
        tone, verdict = "alarm", f"Does not converge to the right distribution. {verdict}"
    elif stochastic and finest in unexplained and rate < SLOW:
        tone, verdict = "attention", f"Converges slowly. {verdict}"
    elif unexplained and not stochastic:
        tone, verdict = "attention", f"More than {FACTOR:g} times DDIM's error. {verdict}"
    elif larger and not unexplained:
        tone, verdict = "attention", f"The rounding of its timesteps costs accuracy. {verdict}"
    ratio = finest.discretization / max(finest.ideal, TOLERANCE)
    return question(
        value=ratio, verdict=verdict, tone=tone, null=f"At most {FACTOR:g} times DDIM's from {JUDGED} steps."
    )


def branching(trials: Sequence[Trial]) -> Finding:
    """Endpoints on a mixture, whose flow is not affine, against the exact flow and DDIM on the same levels."""
    question = partial(measured, name="shipped.mixture", title="Endpoints on a mixture", unit="x DDIM's error")
    plans = [(trial.steps, trial.plan) for trial in trials if trial.plan and trial.errors and trial.steps >= JUDGED]
    if not plans:
        return question(value=math.nan, verdict="No run to judge.", tone="unknown")
    steps, plan = min(plans, key=lambda pair: abs(pair[0] - TYPICAL))
    ours, theirs = _endpoint_errors(plan)
    good = ours <= FACTOR * theirs + 10 * TOLERANCE
    verdict = f"At {steps} steps {ours:.2g} from the exact endpoints, {theirs:.2g} by DDIM on the same levels."
    return question(value=ours / theirs, verdict=verdict, tone="good" if good else "attention")


def _endpoint_errors(plan: Plan) -> tuple[float, float]:
    """Relative distances of the library's endpoints and DDIM's from those of the exact flow."""
    mixture = shipped_mixture()
    high = min(float(plan.attributed[0]), 1e4)
    draw = torch.Generator().manual_seed(3)
    clean = mixture.sample(16, generator=draw).double()
    x = signal(high) * clean + noise(high) * torch.randn(clean.shape, dtype=torch.float64, generator=draw)
    low = max(plan.end, 1e-3)
    exact = flow(mixture, x / signal(high), high, low)
    exact = signal(plan.end) * (exact if plan.end else mixture.denoise(exact, 1.0, low))

    def distance(ended: Float[Tensor, "batch d"]) -> float:
        return float((ended - exact).square().mean().sqrt() / exact.square().mean().sqrt())

    return distance(plan.run(mixture, x, None)), distance(ddim(plan, mixture, x, told=False))


def findings(shipped: Shipped, trials: Sequence[Trial]) -> tuple[Finding, ...]:
    """All questions, in order."""
    answers = [runs(trials), levels(trials), start(trials), end(trials)]
    answers.append(convergence(trials, stochastic=shipped.stochastic))
    if not shipped.stochastic:
        answers.append(branching(trials))
    return tuple(answers)


def _repeats(plan: Plan) -> int:
    """Timesteps that equal the one before although the level is another."""
    same = plan.timesteps[1:] == plan.timesteps[:-1]
    return int((same & (plan.attributed[1:] != plan.attributed[:-1])).sum())


def _numbers(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "no"

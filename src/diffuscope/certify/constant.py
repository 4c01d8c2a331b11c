r"""The size of the error, not its order alone: that of a target over that of a named reference on the same grids.

A sampler that asks half a step late, or leaves out a corrector, may keep the order that it declares and lose a factor.
Where the error is more than twice that of the reference, the usual mistakes are made in the reference one by one; the
one that reproduces the target's endpoints names the cause.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.findings import Finding
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    EulerMaruyama,
    Heun,
    NoiseAdamsBashforth,
    RungeKutta4,
    Sampler,
    SDEDPMSolverPP2M,
    StochasticHeun,
)
from diffuscope.schedules import Schedule

from .behavior import measured
from .convergence import NotAffineError, admitted, endpoint_errors, exact_weak_error
from .problems import OracleProblem
from .target import Target, sampler_target

MUCH = 2.0
GRIDS = (40, 80, 160)
# by order and by whether it is stochastic; the largest error of those counts whose cost is the target's, if there are
REFERENCES: dict[tuple[int, bool], tuple[Sampler, ...]] = {
    (1, False): (DDIM(), Euler()),
    (2, False): (DPMSolverPP2M(), Heun()),
    (3, False): (DPMSolverPP3M(), NoiseAdamsBashforth(3)),
    (4, False): (RungeKutta4(),),
    (1, True): (DDPM(), EulerMaruyama()),
    (2, True): (SDEDPMSolverPP2M(), StochasticHeun()),
}


def constant(target: Target, problem: OracleProblem, schedule: Schedule, order: float) -> Finding:
    """The error of `target`, of measured `order`, over that of the reference of its order."""
    key = (target.order or (round(order) if math.isfinite(order) else 0), target.stochastic)
    grids = admitted(target, GRIDS)
    if key not in REFERENCES or not grids:
        why = (
            f"There is no reference of order {key[0]}." if grids else "It takes none of the numbers of steps compared."
        )
        return measured(value=float("nan"), unit="times", verdict=why, tone="neutral")
    n = grids[-1]
    try:
        error, references = _size(target, problem, schedule, n), _references(target, key, problem, schedule, n)
    except NotAffineError:
        verdict = "Not affine on Gaussian data: no exact error to compare."
        return measured(value=float("nan"), unit="times", verdict=verdict, tone="neutral")
    reference = max(references, key=lambda each: references[each])
    if not references[reference] > 100 * target.floor:
        verdict = f"The error of {reference} is rounding at {n} steps; there is nothing to compare."
        return measured(value=float("nan"), unit="times", verdict=verdict, tone="neutral")
    ratio = error / references[reference]
    verdict = f"At {n} steps the error is {ratio:.2g} times that of {reference}."
    if not ratio > MUCH:
        return measured(value=ratio, unit="times", verdict=verdict, tone="good")
    cause = _cause(target, REFERENCES[key], problem, schedule, grids[0])
    verdict += f" {cause}" if cause else " None of the usual causes reproduces it."
    return measured(value=ratio, unit="times", verdict=verdict, tone="attention", null=f"At most {MUCH:g} times.")


def _size(target: Target, problem: OracleProblem, schedule: Schedule, n: int) -> float:
    """The largest error of the moments, or the root mean square of the endpoints'."""
    return float(np.linalg.norm(_errors(target, problem, schedule, n), np.inf if target.stochastic else 2))


def _references(
    target: Target, key: tuple[int, bool], problem: OracleProblem, schedule: Schedule, n: int
) -> dict[str, float]:
    """The errors of the references of the target's cost; of all of its order if there are none."""
    samplers = [sampler_target(sampler) for sampler in REFERENCES[key]]
    fair = [each for each in samplers if each.nfe_per_step == target.nfe_per_step] or samplers
    return {each.name: _size(each, problem, schedule, n) for each in fair}


@dataclass(frozen=True, eq=False)
class AskedElsewhere:
    """`denoiser`, asked at `times` other than the grid's."""

    denoiser: Denoiser
    grid: Float[Tensor, " times"]
    elsewhere: Float[Tensor, " times"]

    @property
    def schedule(self) -> Schedule:
        """The denoiser's."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: Tensor | float) -> Batch:
        nearest = int((self.grid - float(torch.as_tensor(t).flatten()[0])).abs().argmin())
        return self.denoiser(x_t, self.elsewhere[nearest])


def _halfway(schedule: Schedule, a: Tensor, b: Tensor) -> Tensor:
    return schedule.time_of_lambda((schedule.lam(a) + schedule.lam(b)) / 2)


def _shifts(schedule: Schedule, times: Float[Tensor, " times"]) -> dict[str, Float[Tensor, " times"]]:
    """What a mistaken sampler asks at, for each time of the grid."""
    late, early = torch.cat([times[1:], times[-1:]]), torch.cat([times[:1], times[:-1]])
    return {
        "the denoiser is asked at the next level": late,
        "the denoiser is asked at the level before": early,
        "the denoiser is asked half a step late": _halfway(schedule, times, late),
        "the denoiser is asked half a step early": _halfway(schedule, times, early),
    }


def _cause(
    target: Target, references: tuple[Sampler, ...], problem: OracleProblem, schedule: Schedule, n: int
) -> str | None:
    """The mistake that, made in a reference, gives the target's errors to a tenth."""
    times, theirs = problem.times(schedule, n), _errors(target, problem, schedule, n)
    for sampler in references:
        for mistake, elsewhere in _shifts(schedule, times).items():
            found = _errors(_mistaken(sampler_target(sampler), times, elsewhere), problem, schedule, n)
            if np.linalg.norm(found - theirs) <= 0.1 * np.linalg.norm(theirs):
                return f"Likely cause: {mistake} (so asked, {type(sampler).__name__} errs alike)."
    return None


def _errors(target: Target, problem: OracleProblem, schedule: Schedule, n: int) -> np.ndarray:
    if target.stochastic:
        return exact_weak_error(target, problem.denoiser(schedule), problem.times(schedule, n)).errors
    return endpoint_errors(target, problem, schedule, n)


def _mistaken(target: Target, times: Float[Tensor, " times"], elsewhere: Float[Tensor, " times"]) -> Target:
    run: Callable[..., Batch] = target.run
    return replace(target, run=lambda denoiser, *rest: run(AskedElsewhere(denoiser, times, elsewhere), *rest))

r"""Flow maps and few-step models against the exact flow: :math:`\Phi_{t \to s}`, from any level to any lower one.

A flow map is the solution operator of the probability-flow ODE. It is the identity for s = t, and
:math:`\Phi_{u \to s} \circ \Phi_{t \to u} = \Phi_{t \to s}`. On the oracle problems it is known, in closed form for
Gaussians and to a relative 1e-12 otherwise.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.findings import Finding
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

from .asked import TargetError, blamed, require_result
from .behavior import largest_difference, sentence
from .listed import ListedCertificate
from .problems import OracleProblem, flow, mixture, unequal_gaussian
from .target import called

FlowMap = Callable[[Denoiser, Batch, Float[Tensor, ""], Float[Tensor, ""]], Batch]

LEVELS = (4.0, 1.0, 0.3, 0.1)  # noise to signal, from the highest
SCHEDULES: tuple[Schedule, ...] = (VE(), VP(), RectifiedFlow())

measured = partial(Finding, unit="data scale")


def certify_flow_map(
    flow_map: FlowMap,
    name: str | None = None,
    *,
    tolerance: float = 0.01,
    problems: Sequence[OracleProblem] = (),
    schedules: Sequence[Schedule] = SCHEDULES,
) -> ListedCertificate:
    """The certificate of `flow_map(denoiser, x_t, t, s)`, which takes states from time t to time s < t in one step.

    `denoiser` is the exact one of the problem at hand, with its `schedule`; a trained few-step model that does not use
    it names the `problems` whose data it was trained on, and its `schedules`. The error may be `tolerance` of the
    data's scale. Raises InputError for what cannot be called, and for a tolerance outside (0, 1).

    >>> from diffuscope.certify import certify_flow_map, unequal_gaussian
    >>> def exact(denoiser, x_t, t, s):
    ...     return denoiser.distribution.flow(x_t, denoiser.schedule, t, s)  # the closed form of Gaussian data
    >>> certify_flow_map(exact, problems=[unequal_gaussian()]).verdict
    'passes'
    """
    if not callable(flow_map):
        raise InputError(f"target: expected callable(denoiser, x_t, t, s), got a {type(flow_map).__name__}")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    asked = problems or (unequal_gaussian(), mixture(2))
    findings: list[Finding] = []
    try:
        for schedule in schedules:
            findings += [_jumps(flow_map, problem, schedule, tolerance) for problem in asked]
        findings += [question(flow_map, asked[0], schedules[0], tolerance) for question in (_identity, _steps, _rows)]
    except TargetError as fault:
        fault_found = measured(
            name="map.runs", title="A plain call", value=float("nan"), verdict=str(fault), tone="alarm"
        )
        findings.append(fault_found)
    return ListedCertificate(
        name or called(flow_map),
        "flow map",
        tuple(findings),
        f"A jump between any two of the noise-to-signal ratios {', '.join(f'{level:g}' for level in LEVELS)} that is "
        f"off by more than {tolerance:g} of the data's scale would have failed.",
        "Jumps from exact states of the noised distribution are compared with the exact probability-flow map.",
    )


def _mapped(flow_map: FlowMap, problem: OracleProblem, schedule: Schedule, x: Batch, high: float, low: float) -> Batch:
    t, s = (schedule.time_of_noise_to_signal(ratio) for ratio in (high, low))
    return require_result(blamed(flow_map, problem.denoiser(schedule), x, t, s), tuple(x.shape))


def _state(problem: OracleProblem, schedule: Schedule, ratio: float) -> Batch:
    """Exact states at a level, on the flow of the problem's starts."""
    return schedule.alpha(schedule.time_of_noise_to_signal(ratio)) * _unscaled(problem, ratio)


@cache
def _unscaled(problem: OracleProblem, ratio: float) -> Batch:
    y = problem.start(VE())
    return y if ratio == problem.high else flow(problem.distribution, y, problem.high, ratio)


def _jumps(flow_map: FlowMap, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:
    """Every jump between two of the levels."""
    worst, where = 0.0, ""
    for i, high in enumerate(LEVELS):
        x_t = _state(problem, schedule, high)
        for low in LEVELS[i + 1 :]:
            exact = _state(problem, schedule, low)
            scale = float(exact.square().mean().sqrt())
            error = largest_difference(_mapped(flow_map, problem, schedule, x_t, high, low), exact, scale)
            if not error <= worst:
                worst, where = error, f", worst from sigma/alpha = {high:g} to {low:g}"
    good = worst <= tolerance
    return measured(
        name=f"map.{problem.name}.{type(schedule).__name__}",
        title=f"Jumps on {problem.title} under {type(schedule).__name__}",
        value=worst,
        verdict=f"At most {worst:.2g} of the data's scale off{where}.",
        tone="good" if good else "alarm",
        null=f"At most {tolerance:g} of the data's scale.",
    )


def _identity(flow_map: FlowMap, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:
    """A jump of no length changes nothing."""
    x_t = _state(problem, schedule, 1.0)
    error = largest_difference(_mapped(flow_map, problem, schedule, x_t, 1.0, 1.0), x_t, problem.scale)
    good = error <= min(tolerance, 1e-3)
    verdict = f"A jump from t to t changes the state by {error:.2g} of the data's scale."
    tone = "good" if good else "alarm"
    return measured(name="map.identity", title="A jump of no length", value=error, verdict=verdict, tone=tone)


def _steps(flow_map: FlowMap, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:
    """Two jumps end where one does."""
    x_t = _state(problem, schedule, 4.0)
    once = _mapped(flow_map, problem, schedule, x_t, 4.0, 0.1)
    twice = _mapped(flow_map, problem, schedule, _mapped(flow_map, problem, schedule, x_t, 4.0, 1.0), 1.0, 0.1)
    error = largest_difference(once, twice, problem.scale)
    good = error <= 2 * tolerance
    verdict = f"Two jumps end {error:.2g} of the data's scale from where one ends."
    tone = "good" if good else "alarm"
    return measured(name="map.composition", title="Two jumps for one", value=error, verdict=verdict, tone=tone)


def _rows(flow_map: FlowMap, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:  # noqa: ARG001
    """Rows do not depend on each other, and keep their dtype."""
    x_t = _state(problem, schedule, 4.0)[:4]
    together = _mapped(flow_map, problem, schedule, x_t, 4.0, 0.1)
    alone = torch.cat([_mapped(flow_map, problem, schedule, row[None], 4.0, 0.1) for row in x_t])
    single = _mapped(flow_map, problem, schedule, x_t.float(), 4.0, 0.1)
    error = largest_difference(together, alone, problem.scale)
    rounded = largest_difference(single.double(), together.double(), problem.scale)
    faults = []
    if not error <= 1e-9:
        faults.append(f"a row ends {error:.2g} elsewhere when others join it")
    if single.dtype != torch.float32 or not rounded <= 1e-3:
        faults.append(f"float32 states give {str(single.dtype)[6:]} results, {rounded:.1g} off")
    verdict = sentence(faults) if faults else "Rows are independent and keep their dtype."
    tone = "alarm" if faults else "good"
    return measured(name="map.rows", title="Rows and their dtype", value=error, verdict=verdict, tone=tone)

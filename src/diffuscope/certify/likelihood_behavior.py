"""What a likelihood must do beyond being right: a seed decides it, float32 and single rows do, its mass is 1."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Finding, Tone
from diffuscope.schedules import Schedule

from .global_generators import drawn_from, global_states
from .likelihood_calls import Calls
from .likelihood_errors import Place, SharedBudget, measure
from .likelihood_interval import Limits
from .problems import OracleProblem

SAME = 1e-9  # relative difference of two answers to one question
MASS = 0.02  # of one
LINE, POINTS = 6.0, 241  # half of the interval over which a density in one dimension is integrated, and its points
ALONE = 3  # rows evaluated alone


@dataclass(frozen=True)
class Repeatability:
    """What `determinism` found, for the questions that only a deterministic likelihood can be asked."""

    finding: Finding
    random: bool


def determinism(calls: Calls, place: Place) -> Repeatability:
    """The generator alone decides the values: same seed, same values, after other calls and in any global state."""
    denoiser, t, x_t = place.problem.denoiser(place.schedule), place.t, place.x_t
    before = global_states()
    first = calls(denoiser, x_t, t, 4)
    other = calls(denoiser, x_t, t, 5)
    calls(denoiser, 1.1 * x_t.flip(0), t, 6)  # other points in between
    second = calls(denoiser, x_t, t, 4)
    same, is_random = _same(first, second), not _same(first, other)
    touched = drawn_from(before, values_differ=not same)
    faults = []
    if not same:
        faults.append(
            f"the same points and seed give values {_apart(first, second):.2g} nats apart on two calls, so that "
            "something else than the generator decides them, or state is kept"
        )
    if touched and (is_random or not same):
        faults.append(f"the global generator of {' and '.join(touched)} is drawn from")
    tone: Tone = "good"
    if faults:
        tone, verdict = "alarm", "; ".join([faults[0][0].upper() + faults[0][1:], *faults[1:]]) + "."
    elif touched:
        verdict = f"The values are deterministic, but the global generator of {' and '.join(touched)} is drawn from."
        tone = "attention"
    elif is_random:
        verdict = "The generator determines the values, and nothing else is drawn from."
    else:
        verdict = "The values are deterministic, and no generator is drawn from."
    found = Finding(
        name="likelihood.deterministic",
        title="Use of the generator",
        value=_apart(first, second),
        unit="nats",
        verdict=verdict,
        tone=tone,
        null="The same points and seed give the same values, and no global generator changes.",
    )
    return Repeatability(found, is_random)


def mass(calls: Calls, problem: OracleProblem, schedule: Schedule, ratio: float, *, is_random: bool) -> Finding:
    """The density integrates to one in one dimension; not required of a random estimate of its logarithm."""
    place = Place(problem, schedule, ratio)
    denoiser, grid = problem.denoiser(schedule), torch.linspace(-LINE, LINE, POINTS, dtype=torch.float64)[:, None]
    values = calls(denoiser, grid, place.t, 0).double()
    total = float(torch.trapezoid(values.exp(), grid[:, 0]))
    good = abs(total - 1) <= MASS
    tone: Tone = "good" if good else "alarm"
    verdict = f"In one dimension it integrates to {total:.4f}."
    if is_random and not _same(values, calls(denoiser, grid, place.t, 1).double()):
        tone = "neutral"
        verdict = (
            "Not required of a random estimate: the exponential of an unbiased log-density need not integrate to one "
            f"({total:.3g} from one seed)."
        )
    return Finding(
        name="likelihood.mass",
        title="The density integrates to one",
        value=total,
        unit="probability",
        verdict=verdict,
        tone=tone,
        null=f"1 within {MASS}, by the trapezoidal rule.",
    )


def precision(calls: Calls, place: Place, limits: Limits, budget: SharedBudget) -> Finding:
    """float32 points are answered in float32 or float64 near the exact values, float64 ones in float64."""
    denoiser = place.problem.denoiser(place.schedule)
    given, dtypes, unchanged = place.x_t.float(), [], True
    for x_t in (given, given.double()):
        passed_on = x_t.clone()
        values = Calls(lambda d, x, t, g, kept=passed_on: calls.log_density(d, kept, t, g))(denoiser, x_t, place.t, 0)  # noqa: ARG005
        dtypes.append(values.dtype)
        unchanged = unchanged and torch.equal(passed_on, x_t)
    found = measure(calls, Place(place.problem, place.schedule, place.ratio, torch.float32), limits, budget)
    names = " and ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    sentence, tone = found.sentence(level=True), found.tone
    verdict = f"From float32 points: {sentence[0].lower()}{sentence[1:]}."
    if not unchanged:
        tone, verdict = "alarm", "The points x_t are changed in place."
    elif not set(dtypes) <= {torch.float32, torch.float64}:
        tone, verdict = "alarm", f"float32 and float64 points give {names} values."
    elif tone == "good" and dtypes[1] != torch.float64:
        tone, verdict = (
            "attention",
            f"float64 points give {names.split()[-1]} values; {verdict[0].lower()}{verdict[1:]}",
        )
    return Finding(
        name="likelihood.dtype",
        title="float32 and float64",
        value=found.error,
        unit="nats",
        verdict=verdict,
        tone=tone,
        interval=found.interval,
        confidence=0.99,
        null=f"Within {limits.tolerance} nats in float32; float64 values for float64 points; x_t as it was.",
    )


def batching(calls: Calls, place: Place, tolerance: float, *, is_random: bool) -> Finding:
    """The value of a row does not depend on the other rows; of a random estimate only the shape can be compared."""
    denoiser, t = place.problem.denoiser(place.schedule), place.t
    rows = place.x_t[:ALONE]
    alone = torch.cat([calls(denoiser, row[None], t, 0) for row in rows]).double()
    tone: Tone = "neutral"
    if is_random:
        difference = float("nan")
        verdict = "A batch of one is answered; rows of a random estimate differ anyway, and are compared in batches."
    else:
        difference = float((alone - calls(denoiser, place.x_t, t, 0)[:ALONE].double()).abs().max())
        tone = "good" if difference <= tolerance else "alarm"
        verdict = f"The value of a row is {difference:.2g} nats different when others join it."
        if difference <= SAME:
            verdict = "Rows have the same values in a batch as alone."
    return Finding(
        name="likelihood.batch",
        title="Independence of the rows of a batch",
        value=difference,
        unit="nats",
        verdict=verdict,
        tone=tone,
        null=f"Within {tolerance} nats, as steps that are chosen for a whole batch allow.",
    )


def _same(first: Float[Tensor, " batch"], second: Float[Tensor, " batch"]) -> bool:
    return torch.allclose(first, second, rtol=SAME, atol=SAME, equal_nan=True)


def _apart(first: Float[Tensor, " batch"], second: Float[Tensor, " batch"]) -> float:
    return float((first - second).abs().max())

"""The questions of a sampler's certificate, in order."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from diffuscope.errors import InputError
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from . import behavior, convergence
from .certificate import Certificate, Errors
from .order import STEPS
from .problems import OracleProblem, mixture, oracle_problems, unequal_gaussian
from .target import Target

BUDGETS = (5, 10, 20, 40, 80)
SAMPLES = 20_000


@dataclass(frozen=True)
class Question:
    """One requirement of a certificate; `answer` measures it."""

    name: str
    title: str
    answer: Callable[[], Finding]


def questions(target: Target, steps: Sequence[int] = STEPS, samples: int = SAMPLES) -> Iterator[Question]:
    """All questions about `target`, with numbers of `steps` for the orders and `samples` for the distribution."""
    first, plane = target.schedules[0], mixture(2)

    def order(name: str, place: str, problem: OracleProblem, schedule: Schedule) -> Question:
        if target.stochastic:
            measure = partial(convergence.weak_order_finding, target, problem, schedule, steps)
            return Question(f"weak_order.{name}", f"Weak order {place}", measure)
        measure = partial(convergence.strong_order_finding, target, problem, schedule, steps)
        return Question(f"order.{name}", f"Order {place}", measure)

    if target.stochastic:
        gaussian = unequal_gaussian()
        for schedule in target.schedules:
            where = type(schedule).__name__
            yield order(where, f"under {where}", gaussian, schedule)
        uneven = gaussian.in_uneven_steps()
        yield order("uneven", f"under {type(first).__name__} in uneven steps", uneven, first)
        distribution = partial(convergence.distribution_finding, target, plane, first, samples)
        yield Question("law", "Distribution of the samples", distribution)
        yield Question("bias", "Stationary bias", partial(convergence.stationary_bias, target, first))
    else:
        for problem in oracle_problems():
            yield order(problem.name, f"on {problem.title}", problem, first)
        for schedule in target.schedules[1:]:
            where = type(schedule).__name__
            yield order(f"{plane.name}.{where}", f"on {plane.title} under {where}", plane, schedule)
        yield order(f"{plane.name}.uneven", f"on {plane.title} in uneven steps", plane.in_uneven_steps(), first)
    yield Question("point", "A single data point", partial(behavior.single_point, target, plane, first))
    yield Question("last_step", "The step to clean data", partial(behavior.last_step, target, plane, first))
    yield Question("dtype", "float32 and float64", partial(behavior.precision, target, plane, first))
    yield Question("batch", "Independence of the rows of a batch", partial(behavior.batching, target, plane, first))
    yield Question("randomness", "Use of the generator", partial(behavior.randomness, target, plane, first))
    yield Question("cost", "NFE per step", partial(behavior.cost, target, plane, first))
    yield Question("invariance", "Change of schedule", partial(behavior.invariance, target, plane))


def certify_sampler(
    target: Target,
    *,
    steps: Sequence[int] = STEPS,
    samples: int = SAMPLES,
    advance: Callable[[str], object] = lambda title: None,  # noqa: ARG005
) -> Certificate:
    """Answer every question about `target`; if it raises an exception, the question fails and the next one follows.

    `steps` are the numbers of steps for the orders, `samples` the number of samples for the test of their distribution.
    `advance` is called with the title of each question before it is answered.
    """
    findings = []
    for question in questions(target, steps, samples):
        advance(question.title)
        findings.append(_answered(question))
    advance("Error against NFE")
    return Certificate(target, tuple(findings), _error_tables(target))


def _error_tables(target: Target) -> Errors:
    """Rows by problem; empty if the target raises an exception, which its findings report."""
    schedule, tables = target.schedules[0], {}
    try:
        if target.stochastic:
            gaussian = unequal_gaussian()
            tables[gaussian.name] = convergence.weak_errors(target, gaussian, schedule, BUDGETS)
        else:
            for problem in oracle_problems():
                tables[problem.name] = convergence.budget_errors(target, problem, schedule, BUDGETS)
    except Exception:  # someone else's code
        return {}
    return {name: rows for name, rows in tables.items() if rows}


def _answered(question: Question) -> Finding:
    """The finding, with the name and title of the question."""
    try:
        finding = question.answer()
    except InputError as error:
        # a stated limit of the target: neither a failure nor a success
        finding = behavior.measured(value=float("nan"), unit="", verdict=f"Not measured: {error}", tone="attention")
    except Exception as error:
        # someone else's code: whatever it raises is a finding, with its line
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).splitlines()[0] if str(error) else "no message"
        verdict = f"Raised {type(error).__name__} in {where.name}, line {where.lineno}: {message}"
        finding = behavior.measured(value=float("nan"), unit="", verdict=verdict, tone="alarm")
    return replace(finding, name=question.name, title=question.title)

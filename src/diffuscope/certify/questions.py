"""Everything that a sampler is asked, in order."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from diffuscope.errors import InputError
from diffuscope.findings import Finding

from . import behavior, convergence
from .certificate import Certificate, Errors
from .order import STEPS
from .problems import mixture, oracle_problems, unequal_gaussian
from .target import Target

BUDGETS = (5, 10, 20, 40, 80)
SAMPLES = 20_000


@dataclass(frozen=True)
class Question:
    """One thing that a target is asked; `answer` measures it."""

    name: str
    title: str
    answer: Callable[[], Finding]


def questions(target: Target, steps: Sequence[int] = STEPS, samples: int = SAMPLES) -> Iterator[Question]:
    """Everything that `target` is asked."""
    first, plane = target.schedules[0], mixture(2)
    if target.stochastic:
        for schedule in target.schedules:
            where = type(schedule).__name__
            yield Question(
                f"weak_order.{where}",
                f"Weak order under {where}",
                partial(convergence.weak_order_finding, target, unequal_gaussian(), schedule, steps),
            )
        yield Question(
            "weak_order.uneven",
            f"Weak order under {type(first).__name__} in uneven steps",
            partial(convergence.weak_order_finding, target, unequal_gaussian().in_uneven_steps(), first, steps),
        )
        yield Question(
            "law",
            "Distribution of the samples",
            partial(convergence.distribution_finding, target, plane, first, samples),
        )
        yield Question("bias", "Stationary bias", partial(convergence.stationary_bias, target, first))
    else:
        for problem in oracle_problems():
            yield Question(
                f"order.{problem.name}",
                f"Order on {problem.title}",
                partial(convergence.strong_order_finding, target, problem, first, steps),
            )
        for schedule in target.schedules[1:]:
            where = type(schedule).__name__
            yield Question(
                f"order.{plane.name}.{where}",
                f"Order on {plane.title} under {where}",
                partial(convergence.strong_order_finding, target, plane, schedule, steps),
            )
        yield Question(
            f"order.{plane.name}.uneven",
            f"Order on {plane.title} in uneven steps",
            partial(convergence.strong_order_finding, target, plane.in_uneven_steps(), first, steps),
        )
    yield Question("point", "A single data point", partial(behavior.single_point, target, plane, first))
    yield Question("last_step", "The step to clean data", partial(behavior.last_step, target, plane, first))
    yield Question("dtype", "float32 and float64", partial(behavior.precision, target, plane, first))
    yield Question("batch", "Rows of a batch", partial(behavior.batching, target, plane, first))
    yield Question("randomness", "Where randomness comes from", partial(behavior.randomness, target, plane, first))
    yield Question("cost", "NFE per step", partial(behavior.cost, target, plane, first))
    yield Question("invariance", "Change of schedule", partial(behavior.invariance, target, plane))


def certify_sampler(
    target: Target,
    *,
    steps: Sequence[int] = STEPS,
    samples: int = SAMPLES,
    advance: Callable[[str], object] = lambda title: None,  # noqa: ARG005
) -> Certificate:
    """Ask `target` everything. Where it raises an exception that question counts as failed, and the others go on.

    `steps` are the numbers of steps for the orders, `samples` how many are drawn for the distribution of the samples.
    `advance` is called with the title of each question before it is asked.
    """
    findings = []
    for question in questions(target, steps, samples):
        advance(question.title)
        findings.append(_answered(question))
    advance("Error against NFE")
    return Certificate(target, tuple(findings), _error_tables(target))


def _error_tables(target: Target) -> Errors:
    """Rows by problem; empty where the target raises, which its findings already report."""
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
    """The finding under the question's own name and title."""
    try:
        finding = question.answer()
    except InputError as error:
        # a limit that the target states: not a wrong answer, and not a right one
        finding = Finding(
            name="", title="", value=float("nan"), unit="", verdict=f"Not asked: {error}", tone="attention"
        )
    except Exception as error:
        # someone else's code: whatever it raises is a finding, with the line that it comes from
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).splitlines()[0] if str(error) else "no message"
        verdict = f"Raised {type(error).__name__} in {where.name}, line {where.lineno}: {message}"
        finding = Finding(name="", title="", value=float("nan"), unit="", verdict=verdict, tone="alarm")
    return replace(finding, name=question.name, title=question.title)

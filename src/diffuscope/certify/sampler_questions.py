"""The questions of a sampler's certificate, in order."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from diffuscope.errors import InputError
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule
from diffuscope.threads import one_thread

from . import behavior, clean, edges
from .asked import TargetError, asked
from .certificate import Certificate, Errors
from .constant import constant
from .convergence import Budget, budget_errors, is_affine, order_finding, stationary_bias
from .known import require_known, with_known
from .order import STEPS
from .problems import OracleProblem, mixture, oracle_problems, unequal_gaussian
from .sample_distribution import distribution_finding
from .target import Target, target_of

FEWER_STEPS = (10, 16, 25, 40, 63, 100)
NFE_BUDGETS = (5, 10, 20, 40, 80)
SAMPLES = 20_000
SECONDS = 60.0


@dataclass(frozen=True)
class Question:
    """One requirement of a certificate; `answer` measures it.

    >>> from diffuscope import Heun
    >>> from diffuscope.certify import questions, sampler_target
    >>> question = next(questions(sampler_target(Heun())))
    >>> question.name, question.answer().tone
    ('runs', 'good')
    """

    name: str
    title: str
    answer: Callable[[], Finding]


def questions(
    target: Target, steps: Sequence[int] = STEPS, samples: int = SAMPLES, budget: Budget | None = None
) -> Iterator[Question]:
    """All questions about `target`, with numbers of `steps` for the orders and `samples` for the distribution.

    The first is whether it runs at all. A costly target takes fewer steps by default.

    >>> from itertools import islice
    >>> from diffuscope import Heun
    >>> from diffuscope.certify import oracle_problems, questions, sampler_target
    >>> names = [question.name for question in islice(questions(sampler_target(Heun())), 6)]
    >>> names[0], [f"order.{problem.name}" for problem in oracle_problems()] == names[1:]
    ('runs', True)
    """
    target = asked(target)
    if tuple(steps) == STEPS and behavior.is_costly(target):
        steps = FEWER_STEPS
    first, plane, gaussian = target.schedules[0], mixture(2), unequal_gaussian()
    yield Question("runs", "A plain run", partial(behavior.everywhere, edges.runs, target, plane))

    def order(name: str, place: str, problem: OracleProblem, schedule: Schedule) -> Question:
        kind, title = ("weak_order", "Weak order") if target.stochastic else ("order", "Order")
        return Question(
            f"{kind}.{name}", f"{title} {place}", partial(order_finding, target, problem, schedule, steps, budget)
        )

    if target.stochastic:
        for schedule in target.schedules:
            where = type(schedule).__name__
            yield order(where, f"under {where}", gaussian, schedule)
        yield order("uneven", f"under {type(first).__name__} in uneven steps", gaussian.in_uneven_steps(), first)
        # in the others the exact weak error says it, where there is one
        for schedule in target.schedules[: 1 if is_affine(target, gaussian, first) else None]:
            where = "" if schedule is first else f" under {type(schedule).__name__}"
            name = f"distribution.{type(schedule).__name__}" if where else "distribution"
            follows = partial(distribution_finding, target, plane, schedule, samples)
            yield Question(name, f"Distribution of the samples{where}", follows)
        yield Question("bias", "Stationary bias", partial(stationary_bias, target, first))
    else:
        for problem in oracle_problems():
            yield order(problem.name, f"on {problem.title}", problem, first)
        for schedule in target.schedules[1:]:
            where = type(schedule).__name__
            yield order(f"{plane.name}.{where}", f"on {plane.title} under {where}", plane, schedule)
        yield order(f"{plane.name}.uneven", f"on {plane.title} in uneven steps", plane.in_uneven_steps(), first)
    size = partial(_constant, target, gaussian if target.stochastic else plane, first, steps, budget)
    yield Question("constant", "Error against a reference", size)
    for schedule in target.schedules:
        where = type(schedule).__name__
        extreme = partial(edges.extremes, target, schedule, budget)
        yield Question(f"extremes.{where}", f"Noise from 1e3 to 1e-3 under {where}", extreme)
        if float(schedule.alpha(1.0)) == 0 and target.starts_at_zero_snr is not False:
            from_noise = partial(edges.zero_snr, target, schedule, budget)
            yield Question(f"zero_snr.{where}", f"From alpha = 0 under {where}", from_noise)
    yield Question("many_steps", "A thousand steps", partial(edges.many_steps, target, first))
    for name, title, question in (
        ("few_steps", "One to five steps", edges.few_steps),
        ("point", "A single data point", clean.single_point),
        ("last_step", "The step to clean data", clean.last_step),
        ("dtype", "float32 and float64", behavior.precision),
        ("time", "Precision of the time", edges.time_precision),
        ("rounding", "Rounding inside", edges.rounding),
        ("batch", "Independence of the rows of a batch", behavior.batching),
        ("untouched", "What a run leaves behind", edges.untouched),
        ("randomness", "Use of the generator", behavior.randomness),
        ("cost", "NFE per step", behavior.cost),
    ):
        yield Question(name, title, partial(behavior.everywhere, question, target, plane))
    yield Question("images", "Images", partial(behavior.everywhere, edges.images, target, mixture(64)))
    yield Question("invariance", "Change of schedule", partial(behavior.invariance, target, plane))


def _constant(
    target: Target, problem: OracleProblem, schedule: Schedule, steps: Sequence[int], budget: Budget | None
) -> Finding:
    order = math.nan if target.order else order_finding(target, problem, schedule, steps, budget).value
    return constant(target, problem, schedule, order)


@one_thread()  # the tensors are small; with more, CPU time would depend on what else the machine does
def certify_sampler(
    sampler: object,
    *,
    steps: Sequence[int] = STEPS,
    samples: int = SAMPLES,
    seconds: float = SECONDS,
    known: Sequence[str] = (),
    advance: Callable[[str], object] = lambda title: None,  # noqa: ARG005
) -> Certificate:
    """The certificate of a `Target`, a `Sampler` or a callable(denoiser, x_start, times, generator).

    `steps` are the numbers of steps for the orders, `samples` the number of samples for the test of their distribution.
    After `seconds` of CPU time, on one thread of torch's, no further grid is refined, and questions that are left are
    undecided. `known` names questions whose failure is known and does not count. `advance` is called with the title of
    each question before it is answered.

    A target that does wrong in a plain run is asked nothing else; in one schedule, nothing else in that schedule.

    Raises InputError for an object that is none of these, and for a name in `known` that no question has.

    >>> from diffuscope import certify_sampler
    >>> def forgets(denoiser, x_start, times, generator):
    ...     x_start = x_start / 2
    >>> found = certify_sampler(forgets)
    >>> found.verdict, found.failures[0].verdict
    ('fails', 'it returns a NoneType; expected the state at times[-1], a tensor')
    """
    target, budget = target_of(sampler), Budget(seconds)
    if known:
        require_known(known, [question.name for question in questions(target)])
    schedules = tuple(s for s in target.schedules if _runs(replace(target, schedules=(s,))))
    findings = []
    for question in questions(replace(target, schedules=schedules) if schedules else target, steps, samples, budget):
        advance(question.title)
        if question.name == "runs":
            findings.append(_answered(next(questions(target)), None))
            if not schedules:
                break
        else:
            findings.append(_answered(question, budget))
    advance("Error against NFE")
    errors = _error_tables(asked(replace(target, schedules=schedules)), budget) if schedules else {}
    return Certificate(target, with_known(findings, known), errors, tuple(known))


def _runs(target: Target) -> bool:
    """Whether a plain run does nothing wrong; a stated limit is no wrong."""
    return _answered(next(questions(target)), None).tone != "alarm"


def _error_tables(target: Target, budget: Budget) -> Errors:
    """Rows by problem; empty if the target does wrong, which its findings report."""
    tables: Errors = {}
    try:
        for problem in (unequal_gaussian(),) if target.stochastic else oracle_problems():
            if not budget.spent:
                tables[problem.name] = budget_errors(target, problem, target.schedules[0], NFE_BUDGETS)
    except (TargetError, InputError):
        return {}
    return {name: rows for name, rows in tables.items() if rows}


def _answered(question: Question, budget: Budget | None) -> Finding:
    """The finding, with the name and title of the question."""
    say = partial(behavior.measured, value=math.nan, unit="")
    if budget is not None and budget.spent:
        spent = f"Not asked: the {budget.seconds:g} s of CPU time are over; --budget, in Python seconds=, gives more"
        finding = say(verdict=f"{spent}.", tone="unknown")
    else:
        try:
            finding = question.answer()
        except InputError as error:
            # a stated limit of the target: neither a failure nor a success
            finding = say(verdict=f"Not measured: {error}", tone="attention")
        except TargetError as fault:
            finding = say(verdict=str(fault), tone="alarm")
    return replace(finding, name=question.name, title=question.title)

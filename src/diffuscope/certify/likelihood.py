r"""Likelihoods compared with closed forms: the log-density of the noised distribution, in nats.

A target :math:`f(D, x_t, t)` claims to be :math:`\log p_t(x_t)`, where D is the exact denoiser of a known distribution
and

.. math::  p_t(x) = \int p_0(x_0)\, N(x;\, \alpha x_0, \sigma^2 I)\, dx_0

has a closed form for Gaussians and their mixtures. Its error is measured on six densities at one level of noise, and on
a mixture in the plane at five levels :math:`\sigma/\alpha` from 0.02 to 10 in every schedule.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Finding
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.threads import one_thread

from . import likelihood_behavior as behavior
from .asked import TargetError
from .likelihood_calls import Calls, LogDensity
from .likelihood_errors import Place, SharedBudget, measure
from .likelihood_finding import comparison
from .likelihood_interval import Limits
from .problems import OracleProblem, mixture, unequal_gaussian

SCHEDULES = VP(), VE(), RectifiedFlow()
RATIO = 0.3  # sigma/alpha at which all densities are compared
LEVELS = tuple(0.02 * 500 ** (k / 4) for k in range(5))  # sigma/alpha from 0.02 to 10
EXACT = 1e-2  # nats per sample: the largest accepted error in up to 8 dimensions
ALLOWED_TOGETHER = 8  # dimensions beyond which it grows with d, as the error of an integrator does
SINGLE = 5e-2  # the same from float32 points at the lowest level
SECONDS = 120.0  # CPU time for the repeats of a random estimate


def likelihood_problems() -> tuple[OracleProblem, ...]:
    """Gaussians in 1, 2 and 16 dimensions, and mixtures in 1, 2 and 64.

    >>> import math, torch
    >>> from diffuscope.certify import likelihood_problems
    >>> narrow = likelihood_problems()[0].distribution  # N(0.7, 0.25), here with noise of variance 0.09
    >>> value = narrow.log_prob(torch.tensor([[1.7]]), alpha=1.0, sigma=0.3)
    >>> math.isclose(value, -math.log(2 * math.pi * 0.34) / 2 - 1 / 0.34 / 2, rel_tol=1e-6)
    True
    """
    spread = torch.linspace(2.0, 0.2, 16, dtype=torch.float64)
    wide = Gaussian(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64), spread)
    narrow = Gaussian.isotropic(torch.tensor([0.7], dtype=torch.float64), 0.25)
    return (
        OracleProblem("gaussian-1", "a Gaussian in one dimension", narrow),
        unequal_gaussian(),
        OracleProblem("gaussian-16", "a Gaussian in 16 dimensions", wide),
        pair_on_the_line(),
        mixture(2),
        mixture(64),
    )


def pair_on_the_line() -> OracleProblem:
    """Two components in one dimension, where the density can be integrated."""
    distribution = GaussianMixture.isotropic(
        torch.tensor([0.6, 0.4], dtype=torch.float64),
        torch.tensor([[-1.0], [1.2]], dtype=torch.float64),
        torch.tensor([0.1, 0.2], dtype=torch.float64),
    )
    return OracleProblem("mixture-1", "a Gaussian mixture in one dimension", distribution)


@one_thread()  # as for samplers
def certify_likelihood(
    log_density: LogDensity,
    *,
    schedules: Sequence[Schedule] = SCHEDULES,
    tolerance: float = EXACT,
    budget: float = SECONDS,
    advance: Callable[[str], object] = lambda title: None,  # noqa: ARG005
) -> tuple[Finding, ...]:
    r"""Compare `log_density(denoiser, x_t, t, generator)` with the exact log p_t(x_t), in nats.

    `denoiser(x, t)` is exact and has `schedule`; `x_t` is (batch, d), float64 unless stated; `t` a number; `generator`
    a fresh one; the answer has shape (batch,). The error must be at most `tolerance` nats for every sample, times d/8
    beyond 8 dimensions. A random estimate is repeated until an interval of its error decides, in at most `budget`
    seconds of CPU time: see `likelihood_interval`. All densities are compared in the first of `schedules` that the
    target takes, and the mixture in the plane in all of them. A schedule that is refused by an InputError is reported,
    and neither passes nor fails.
    `advance` is called with the title of each question before it is answered.

    Whatever the target raises is a finding; if it cannot be called at all, the only one. Raises InputError where there
    is no schedule, or `tolerance` or `budget` is not positive.

    >>> from diffuscope import VE, certify_likelihood
    >>> def exact(denoiser, x_t, t, generator):
    ...     return denoiser.distribution.log_prob(x_t, denoiser.schedule.alpha(t), denoiser.schedule.sigma(t))
    >>> {finding.tone for finding in certify_likelihood(exact, schedules=[VE()])}
    {'good'}
    """
    if not schedules:
        raise InputError("schedules: expected at least one")
    if not (tolerance > 0 and budget > 0):
        raise InputError(f"tolerance, budget: expected values > 0, got {tolerance}, {budget}")
    calls = Calls(log_density)
    advance("The likelihood runs")
    runs, first = _runs(calls, schedules)
    findings = [runs]
    if first is None:
        return (runs,)
    for question in _questions(calls, first, schedules, tolerance, budget):
        advance(question.title)
        findings.append(_answered(question))
    return tuple(findings)


@dataclass(frozen=True)
class _Question:
    """One requirement; `answer` measures it."""

    name: str
    title: str
    answer: Callable[[], Finding]


def _questions(
    calls: Calls, first: Schedule, schedules: Sequence[Schedule], tolerance: float, budget: float
) -> Iterator[_Question]:
    """The questions in the order of the page: densities, schedules, and behavior."""
    densities, plane, names = likelihood_problems(), mixture(2), _names(schedules)
    places = {name: _places(plane, schedule) for name, schedule in zip(names, schedules, strict=True)}
    count = len(densities) + sum(map(len, places.values())) + 1
    shared = SharedBudget(budget, count)

    def limits(problem: OracleProblem, largest: float = tolerance) -> Limits:
        d = math.prod(problem.distribution.event_shape)
        return Limits(largest * max(1.0, d / ALLOWED_TOGETHER), d, count)

    def compared(*among: Place) -> Finding:
        measured, refused = [], []
        for place in among:
            try:
                measured.append(measure(calls, place, limits(place.problem), shared))
            except InputError as error:
                if not measured and place is among[-1]:
                    raise
                refused.append(str(error))
        return comparison(measured, limits(among[0].problem).tolerance, refused)

    for problem in densities:
        name, title = f"likelihood.{problem.name}", f"Log-density of {problem.title}"
        yield _Question(name, title, lambda problem=problem: compared(Place(problem, first, RATIO)))
    for name, among in places.items():
        title = f"Log-density at {len(among)} levels of noise under {name}"
        yield _Question(f"likelihood.{name}", title, lambda among=among: compared(*among))
    is_random = False

    def determinism() -> Finding:
        nonlocal is_random
        found = behavior.determinism(calls, Place(unequal_gaussian(), first, RATIO))
        is_random = found.random
        return found.finding

    def mass() -> Finding:
        return behavior.mass(calls, pair_on_the_line(), first, RATIO, is_random=is_random)

    def precision() -> Finding:
        return behavior.precision(calls, _places(plane, first)[0], limits(plane, max(SINGLE, tolerance)), shared)

    def batching() -> Finding:
        return behavior.batching(calls, Place(plane, first, RATIO), tolerance, is_random=is_random)

    yield _Question("likelihood.deterministic", "Use of the generator", determinism)
    yield _Question("likelihood.mass", "The density integrates to one", mass)
    yield _Question("likelihood.dtype", "float32 and float64", precision)
    yield _Question("likelihood.batch", "Independence of the rows of a batch", batching)


def _answered(question: _Question) -> Finding:
    """The finding, with the name and title of the question."""
    try:
        finding = question.answer()
    except InputError as error:
        # a stated limit of the target: neither a failure nor a success
        finding = _plain(f"Not measured: {error}", "attention")
    except TargetError as fault:
        finding = _plain(str(fault), "alarm")
    return replace(finding, name=question.name, title=question.title)


def _runs(calls: Calls, schedules: Sequence[Schedule]) -> tuple[Finding, Schedule | None]:
    """Whether the target can be called, and the first schedule that it takes."""
    refused = ""
    for schedule in schedules:
        try:
            Place(unequal_gaussian(), schedule, RATIO).errors(calls, seed=0)
        except InputError as error:
            refused = refused or str(error)
        except TargetError as fault:
            return _plain(str(fault), "alarm"), None
        else:
            return _plain("It returns one value per sample.", "good"), schedule
    return _plain(f"Every schedule is refused: {refused}", "unknown"), None


def _plain(verdict: str, tone: behavior.Tone) -> Finding:
    return Finding(
        name="likelihood.runs",
        title="The likelihood runs",
        value=float("nan"),
        unit="",
        verdict=verdict,
        tone=tone,
    )


def _names(schedules: Sequence[Schedule]) -> list[str]:
    """The names of their classes, numbered where one occurs again."""
    names: list[str] = []
    for schedule in schedules:
        name = type(schedule).__name__
        before = sum(other.split("-")[0] == name for other in names)
        names.append(f"{name}-{before + 1}" if before else name)
    return names


def _places(problem: OracleProblem, schedule: Schedule) -> tuple[Place, ...]:
    """The levels that lie within the schedule."""
    low, high = (float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max))
    return tuple(Place(problem, schedule, ratio) for ratio in dict.fromkeys(min(max(r, low), high) for r in LEVELS))

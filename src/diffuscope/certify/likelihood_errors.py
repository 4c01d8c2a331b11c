"""The error of a likelihood at one level of noise: from one call if deterministic, repeated until decided if not."""

import math
import time
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.findings import Tone
from diffuscope.schedules import Schedule

from .likelihood_calls import Calls
from .likelihood_interval import PLANNED, Judged, Limits, judge
from .problems import OracleProblem

SAMPLES = 8
LOOK = (6, 32)  # calls and copies of the first look, which may pass an estimate but not fail it
CALLS, COPIES = PLANNED, 48  # at least, in a second and a third look
MOST_COPIES = 2048
SHARED_CALLS = (32, 256)  # the least and the most, where the rows of a call share their noise
LOOKS = 2  # of the kind that may fail
MARGIN = 3.0  # more repeats than the first look calls for
SHARED = 8.0  # variance of a call's mean over that of independent rows, beyond which the rows share their noise


@dataclass(frozen=True)
class Place:
    """A density, a schedule and a level sigma/alpha = `ratio`: where a likelihood is compared."""

    problem: OracleProblem
    schedule: Schedule
    ratio: float
    dtype: torch.dtype = torch.float64

    @property
    def t(self) -> float:
        """The time of the level."""
        return float(self.schedule.time_of_noise_to_signal(self.ratio))

    @cached_property
    def x_t(self) -> Batch:
        """SAMPLES points of the noised distribution."""
        draw = torch.Generator().manual_seed(5)
        clean = self.problem.distribution.sample(SAMPLES, generator=draw).double()
        noise = torch.randn(clean.shape, dtype=torch.float64, generator=draw)
        return (self.schedule.alpha(self.t) * clean + self.schedule.sigma(self.t) * noise).to(self.dtype)

    @cached_property
    def exact(self) -> Float[Tensor, " batch"]:
        """log p_t there, float64."""
        alpha, sigma = self.schedule.alpha(self.t), self.schedule.sigma(self.t)
        return self.problem.distribution.log_prob(self.x_t.double(), alpha, sigma)

    def errors(self, calls: Calls, seed: int, copies: int = 1) -> Float[Tensor, "copies batch"]:
        """The target minus the exact values, float64, in one call with `copies` copies of every point."""
        x_t = self.x_t.repeat(copies, *[1] * (self.x_t.ndim - 1))
        values = calls(self.problem.denoiser(self.schedule), x_t, self.t, seed)
        return values.double().reshape(copies, -1) - self.exact


@dataclass(frozen=True)
class Measured:
    """The error at one place: in nats, the worst of its samples or, of a random estimate, mostly their mean."""

    density: str
    dimension: int
    schedule: str
    ratio: float
    tone: Tone
    error: float
    standard_error: float = 0.0
    interval: tuple[float, float] | None = None  # 99%
    repeats: int = 1
    wanted: int = 0  # repeats that would decide
    not_finite: int = 0  # samples

    def sentence(self, *, level: bool) -> str:
        """What was measured, with its level of noise or without it, in a sentence that lacks its full stop."""
        place = f" at sigma/alpha = {self.ratio:.2g}" if level else ""
        if self.not_finite:
            return f"NaN or infinity for {self.not_finite} of {SAMPLES} samples{place}"
        size = f"{self.error:+.2g} nats from the exact value{place}"
        per_dimension = f"{self.error / self.dimension:+.2g} per dimension"
        if self.repeats == 1:
            return f"At worst {size}, {per_dimension}"
        chance = f"standard error {self.standard_error:.2g} after {self.repeats:,} repeats"
        if self.tone == "unknown":
            return f"{size} ({chance}): about {self.wanted:,} repeats would decide"
        return f"{size} ({chance}), {per_dimension}"


@dataclass
class SharedBudget:
    """CPU seconds for repeats, shared by the `places` that are still to come."""

    seconds: float
    places: int

    def share(self) -> float:
        """Seconds for the next place: four times an equal share, as most places need few."""
        share = min(self.seconds, 4 * self.seconds / max(1, self.places))
        self.places -= 1
        return share


def measure(calls: Calls, place: Place, limits: Limits, budget: SharedBudget) -> Measured:
    """The error at `place`: from one call if all its samples are within the tolerance or a second call repeats it."""
    facts = place.problem.name, limits.dimension, type(place.schedule).__name__, place.ratio
    seconds, begun = budget.share(), time.process_time()
    first = place.errors(calls, seed=0)[0]
    finite = torch.isfinite(first)
    if not bool(finite.all()):
        return Measured(*facts, tone="alarm", error=math.nan, not_finite=int((~finite).sum()))
    worst = float(first[first.abs().argmax()])
    if abs(worst) <= limits.tolerance:
        return Measured(*facts, tone="good", error=worst)
    begun_again = time.process_time()
    if torch.allclose(first, place.errors(calls, seed=1)[0], rtol=1e-9, atol=1e-9):
        return Measured(*facts, tone="alarm", error=worst)
    single = time.process_time() - begun_again
    tone, judged, repeats = _repeated(calls, place, limits, begun + seconds, single)
    budget.seconds -= time.process_time() - begun
    k = judged.worst
    return Measured(
        *facts,
        tone=tone,
        error=float(judged.mean[k]),
        standard_error=float(judged.standard_error[k]),
        interval=(float(judged.low[k]), float(judged.high[k])),
        repeats=repeats,
        wanted=_rounded(_wanted(judged, repeats)) if tone == "unknown" else 0,
        not_finite=int((~torch.isfinite(judged.mean[1:])).sum()),
    )


def _repeated(calls: Calls, place: Place, limits: Limits, deadline: float, single: float) -> tuple[Tone, Judged, int]:
    """The verdict on a random estimate after up to three looks, each at fresh repeats and within `deadline`.

    `single` is the CPU time of a call without copies.
    """
    (number, copies), shared, look = LOOK, False, 0
    tests = Limits(limits.tolerance, limits.dimension, LOOKS * limits.tests)
    while True:
        look, begun = look + 1, time.process_time()
        errors = torch.stack([place.errors(calls, 1000 * look + k, copies) for k in range(number)])
        cost = (time.process_time() - begun) / number
        judged, repeats = judge(errors, tests), number * copies
        if not bool(torch.isfinite(judged.mean).all()) or (look > 1 and bool(judged.failing.any())):
            return "alarm", judged, repeats
        if judged.inside and (look > 1 or not judged.suspect):
            return "good", judged, repeats
        left, shared = deadline - time.process_time(), shared or _shares_noise(errors)
        wanted = _wanted(judged, repeats)
        if shared:
            least, most = SHARED_CALLS
            number, copies = min(max(least, math.ceil(wanted / copies)), most, int(left / max(cost, 1e-6))), 1
        else:
            more = (left / CALLS - cost) / max((cost - single) / copies, 1e-6)  # the cost grows linearly with copies
            number, copies = CALLS, min(max(COPIES, math.ceil(wanted / CALLS)), MOST_COPIES, copies + int(more))
        if look > LOOKS or number < CALLS or copies < (1 if shared else COPIES):
            return "unknown", judged, repeats


def _wanted(judged: Judged, repeats: int) -> float:
    """The number of repeats for the next look."""
    return max(2.0, MARGIN * judged.missing) * repeats


def _shares_noise(errors: Float[Tensor, "calls copies samples"]) -> bool:
    """The rows of a call share their noise, so that more copies are no more repeats."""
    of_rows = float(errors.flatten(0, 1).var(0).mean())
    return float(errors.mean((1, 2)).var()) > SHARED * of_rows / (errors.shape[1] * errors.shape[2])


def _rounded(count: float) -> int:
    """Two leading digits, rounded up."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, count))) - 1)
    return math.ceil(count / unit) * unit

r"""Would the model denoise better if it were read in another way? The conventions that a wrapper can get wrong.

A network with output F is a denoiser once a wrapper says how its input is scaled, which number it is given as the time,
and what F is. At noise level rho = sigma/alpha the network is asked at :math:`\alpha'(x_0 + \rho\varepsilon)` with the
label of a *convention* (a schedule with its alpha', and a rule from its times to labels), and F is read in every way:

.. math::
    D = F, \quad \frac{x \mp \sigma F}{\alpha}, \quad \frac{x \mp F}{\alpha}, \quad
    \frac{x \pm \sigma^2 F}{\alpha}, \quad \frac{\alpha x \mp \sigma F}{\alpha^2 + \sigma^2}, \quad
    \frac{\pm\sigma F - \dot\sigma x}{\sigma\dot\alpha - \dot\sigma\alpha}

(data; noise; noise times sigma; score; the v of Salimans & Ho 2022, alpha eps - sigma x_0; the velocity dx/dt).
Errors are relative to the Gaussian's, :math:`\sum_k \lambda_k\rho^2/(\lambda_k + \rho^2)`, so that levels weigh alike;
the score of a reading is the geometric mean over levels. The reading with the best score on some examples is compared
with the given one on others, pair by pair, so that the choice among hundreds costs nothing.

Where the network itself cannot be reached, the denoiser is asked at other times and its output is converted back.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, nearest_trained_time
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule

from .network_calls import CalledNetwork, called_network

DECLARED = "as declared"
PLANTED = (1.25, 1.5, 2.0, 3.0, 5.0)  # factors by which the noise that a model is told may be wrong
SMALLEST, LARGEST = 1e-6, 1e12  # relative errors beyond are rounding, and failures
TABLES = (1000, 20, 50, 100, 200, 250, 300, 400, 500, 2000, 4000, 5000, 10_000)


@dataclass(frozen=True)
class Instant:
    """alpha, sigma and their derivatives at one time."""

    alpha: float
    sigma: float
    alpha_dot: float
    sigma_dot: float

    @property
    def ratio(self) -> float:
        """sigma / alpha."""
        return self.sigma / self.alpha


Variances = Float[Tensor, " components"]
Reading = Callable[[Batch, Batch, Instant], Batch]
READINGS: dict[str, Reading] = {
    "noise": lambda x, f, i: (x - i.sigma * f) / i.alpha,
    "noise times sigma": lambda x, f, i: (x - f) / i.alpha,
    "clean data": lambda _, f, __: f,
    "velocity dx/dt": lambda x, f, i: (i.sigma * f - i.sigma_dot * x) / (i.sigma * i.alpha_dot - i.sigma_dot * i.alpha),
    "v = alpha noise - sigma data": lambda x, f, i: (i.alpha * x - i.sigma * f) / (i.alpha**2 + i.sigma**2),
    "score": lambda x, f, i: (x + i.sigma**2 * f) / i.alpha,
}
INVERSES: dict[str, Reading] = {  # from a denoiser's answer to what its network said, if it was read so
    "clean data": lambda _, d, __: d,
    "noise": lambda x, d, i: (x - i.alpha * d) / i.sigma,
    "noise times sigma": lambda x, d, i: x - i.alpha * d,
    "velocity dx/dt": lambda x, d, i: i.alpha_dot * d + i.sigma_dot * (x - i.alpha * d) / i.sigma,
    "v = alpha noise - sigma data": lambda x, d, i: i.alpha * (x - i.alpha * d) / i.sigma - i.sigma * d,
    "score": lambda x, d, i: (i.alpha * d - x) / i.sigma**2,
}


@dataclass(frozen=True)
class Convention:
    """A scale of the input and the time that the network is given: `answer(x, t)` at times of `schedule`."""

    name: str
    schedule: Schedule
    trained: Callable[[float], float]  # the nearest time at which the network is defined
    answer: Callable[[Batch, float], Batch]
    # by ratio, for all conventions with these times
    instants: dict[float, tuple[float, Instant]] = field(default_factory=dict, kw_only=True, compare=False)

    def instant(self, ratio: float) -> tuple[float, Instant]:
        """The time at which sigma/alpha is nearest to `ratio`, and what the schedule says there."""
        if ratio not in self.instants:
            t = self.trained(float(self.schedule.time_of_noise_to_signal(ratio)))
            self.instants[ratio] = t, instant_of(self.schedule, t)
        return self.instants[ratio]


def instant_of(schedule: Schedule, t: float) -> Instant:
    """The four functions of the schedule at time `t`."""
    return Instant(*(float(f(t)) for f in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot)))


def declared(denoiser: Denoiser) -> Convention:
    """The denoiser as it is; its answers are clean data."""

    def ask(x: Batch, t: float) -> Batch:
        return denoiser(x, torch.tensor(t, dtype=torch.float64))

    return Convention(DECLARED, denoiser.schedule, partial(_nearest, denoiser), ask)


def _nearest(denoiser: Denoiser, t: float) -> float:
    schedule = denoiser.schedule
    return float(nearest_trained_time(denoiser, min(max(t, schedule.t_min), schedule.t_max)))


def conventions(denoiser: Denoiser, x: Batch, network: CalledNetwork) -> Iterator[Convention]:
    """The declared labels, moved or reversed, and the labels and input scales of the field, for the network."""
    schedule, given = denoiser.schedule, declared(denoiser)

    @cache
    def label(t: float) -> float:
        called = called_network(denoiser, x, t)
        if called is None:
            raise ValueError("the network is not called at this time")
        return called.time

    def labeled(name: str, schedule: Schedule, label: Callable[[float], float], table: bool = False) -> Convention:
        def trained(t: float) -> float:
            t = min(max(t, schedule.t_min), schedule.t_max)
            return float(round(t)) if table else t

        return Convention(name, schedule, trained, lambda x, t: network(x, label(t)))

    first, last = given.trained(schedule.t_min), given.trained(schedule.t_max)
    moved: dict[str, Callable[[float], float]] = {
        DECLARED: label,
        "the declared time plus 1": lambda t: label(t) + 1,
        "the declared time minus 1": lambda t: label(t) - 1,
        "the declared time reversed": lambda t: label(first) + label(last) - label(t),
        "1 minus the declared time": lambda t: 1 - label(t),
        "1,000 times the declared time": lambda t: 1000 * label(t),
        "1,000 times the declared time, reversed": lambda t: 1000 * (label(first) + label(last) - label(t)),
        "the declared time divided by its largest": lambda t: label(t) / label(last),
        "the time t of the schedule": lambda t: t,
        "the time t of the schedule, reversed": lambda t: first + last - t,
    }
    shifted = shifted_levels(schedule).items()
    moved |= {name: lambda t, shift=shift: label(given.trained(shift(t))) for name, shift in shifted}
    for name, rule in moved.items():
        yield Convention(
            name, schedule, given.trained, lambda x, t, rule=rule: network(x, rule(t)), instants=given.instants
        )
    for steps in TABLES:
        chain = DiscreteVP.linear(steps=steps)
        yield labeled(f"the index t - 1 of DDPM's {steps:,} steps", chain, lambda t: t - 1, True)
    thousand = DiscreteVP.linear()
    yield labeled("the step t of DDPM's 1,000 steps", thousand, lambda t: t, True)
    yield labeled("t / 1,000 of DDPM's 1,000 steps", thousand, lambda t: t / 1000, True)
    yield labeled("the reversed index 1,000 - t of DDPM's 1,000 steps", thousand, lambda t: 1000 - t, True)
    roots = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64)
    scaled = DiscreteVP(tuple((roots**2).tolist()))
    yield labeled("the index t - 1 of Stable Diffusion's 1,000 steps", scaled, lambda t: t - 1, True)
    for other in (VP(), Cosine(), RectifiedFlow()):
        kind = type(other).__name__
        yield labeled(f"the time t of the schedule {kind}", other, lambda t: t)
        yield labeled(f"1 - t of the schedule {kind}", other, lambda t: 1 - t)
        yield labeled(f"1,000 t of the schedule {kind}", other, lambda t: 1000 * t)
        yield labeled(f"1,000 (1 - t) of the schedule {kind}", other, lambda t: 1000 * (1 - t))
    levels: dict[str, Callable[[float], float]] = {
        "sigma/alpha": lambda r: r,
        "log(sigma/alpha)": np.log,
        "log(sigma/alpha) / 4": lambda r: np.log(r) / 4,
        "log(alpha/sigma)": lambda r: -np.log(r),
        "the log signal-to-noise ratio": lambda r: -2 * np.log(r),
    }
    for other in (VE(1e-4, 1e4), VP(), RectifiedFlow()):
        for name, level in levels.items():
            ratio = other.noise_to_signal
            yield labeled(
                f"{name}, with the input scaled as in {type(other).__name__}",
                other,
                lambda t, level=level, ratio=ratio: float(level(float(ratio(t)))),
            )


def shifted_levels(schedule: Schedule) -> dict[str, Callable[[float], float]]:
    """The times of noise levels that are lower or higher by each of the factors PLANTED."""

    def shifted(t: float, factor: float) -> float:
        return float(schedule.time_of_noise_to_signal(factor * float(schedule.noise_to_signal(t))))

    factors = sorted([*PLANTED, *(1 / factor for factor in PLANTED)])
    name = "the declared time of {:.3g} times the noise"
    return {name.format(factor): partial(shifted, factor=factor) for factor in factors}


def black_box_conventions(denoiser: Denoiser) -> Iterator[Convention]:
    """The denoiser asked at other times, its answers converted back to what its network said there, if read as data,
    as noise, and so on: every conversion of the same answers.
    """
    given, schedule = declared(denoiser), denoiser.schedule
    first, last = schedule.t_min, schedule.t_max
    moved: dict[str, Callable[[float], float]] = {
        "the time as declared": lambda t: t,
        "the reversed time t_max - t": lambda t: last - t,
        "the reversed time t_max + t_min - t": lambda t: last + first - t,
    }
    moved |= {name: cache(shift) for name, shift in shifted_levels(schedule).items()}
    trained, instant_at = cache(given.trained), cache(partial(instant_of, schedule))
    answers: dict[tuple[float, str], Batch] = {}

    def asked(x: Batch, t: float) -> Batch:
        key = t, hashlib.sha256(x.numpy().tobytes()).hexdigest()
        if key not in answers:
            answers[key] = given.answer(x, t)
        return answers[key]

    def answer(x: Batch, t: float, invert: Reading, move: Callable[[float], float]) -> Batch:
        if not first - 1e-9 <= move(t) <= last + 1e-9:
            raise ValueError("outside the times of the model")
        other = trained(move(t))
        return invert(x, asked(x, other), instant_at(other))

    for invert in INVERSES.values():
        for name, move in moved.items():
            ask = partial(answer, invert=invert, move=move)
            yield Convention(name, schedule, given.trained, ask, instants=given.instants)


def gaussian_error(variances: Variances, ratio: float) -> float:
    """The denoising error at noise level `ratio` of a Gaussian with these principal variances."""
    return float((variances * ratio**2 / (variances + ratio**2)).sum())


@torch.no_grad()
def relative_errors(
    convention: Convention, readings: dict[str, Reading], ratio: float, clean: Batch, noise: Batch, variances: Variances
) -> Float[ndarray, "readings n"]:
    """|D - x_0|^2 over the Gaussian's error at the level nearest to `ratio`; LARGEST where the network fails."""
    worst = np.full((len(readings), len(clean)), LARGEST)
    try:
        t, instant = convention.instant(ratio)
        if not abs(math.log(instant.ratio / ratio)) < 1:
            return worst
        x = instant.alpha * clean + instant.sigma * noise
        output = convention.answer(x.clone(), t)
    except Exception:  # a label that this network does not take rules the convention out
        return worst
    if not isinstance(output, Tensor) or output.shape != x.shape:
        return worst
    rows = [(read(x, output, instant) - clean).flatten(1).double().square().sum(1) for read in readings.values()]
    errors = torch.stack(rows).numpy() / gaussian_error(variances, instant.ratio)
    return np.clip(np.where(np.isfinite(errors), errors, LARGEST), SMALLEST, LARGEST)

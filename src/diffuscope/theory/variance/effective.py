r"""Samples under a random score: the Ito equation of white noise, and the ODE of fields that are drawn once.

With :math:`D_t = g^2/2`, a step of :math:`h = t_k - t_{k+1} > 0` backward in time is, for white noise of amplitude A,

.. math::
    x_{k+1} = x_k - h\,(f x_k - D_t\,\bar s(x_k, t_k)) + \sqrt h\, B z, \qquad B B^T = A(x_k, t_k),\ z \sim N(0, I),

with everything taken at the start of the step (Ito). A quenched field is drawn before the first step and kept: each
field :math:`s_\theta` has its own probability-flow ODE, and all of its trajectories share it,

.. math::  \dot x = f x - D_t\, s_\theta(x, t), \qquad \theta \text{ fixed along the trajectory} .

Both are Euler's method, of order 1 in h (in distribution for white noise); the ODE can also be solved by Heun's, of
order 2. They are not each other's approximation: over n steps a quenched error of the drift adds up to n h, a white
one to :math:`\sqrt{n h}`. A kernel of the one kind is refused where the other is expected.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Proposition 3.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .noise import Points, Quenched, ScoreFields, White

TRAJECTORIES = 2**16  # followed at once, per field


@dataclass(frozen=True, eq=False)
class Steps:
    """Checked steps backward in time: each start t, its length h > 0, and the coefficients f and D = g^2/2 there.

    The arrays have one value per time; `h` one less.
    """

    times: Float[Tensor, " times"]
    h: Float[Tensor, " steps"]
    f: Float[Tensor, " times"]
    D: Float[Tensor, " times"]

    @classmethod
    def of(cls, schedule: Schedule, times: Float[Tensor, " times"], *, to_the_end: bool = False) -> "Steps":
        """The steps on `times`; with `to_the_end` the score is evaluated at the last time too.

        Raises InputError unless there are two or more times that decrease, with sigma > 0 and finite coefficients
        wherever the score is evaluated.
        """
        times = times.detach().double()
        if len(times) < 2 or not bool(times.isfinite().all()) or not bool((times.diff() < 0).all()):
            raise InputError(f"times: expected at least two finite times that decrease, got {_shown(times)}")
        f, D = schedule.f(times), schedule.g_squared(times) / 2
        used = len(times) if to_the_end else len(times) - 1
        sigma = schedule.sigma(times)[:used]
        bad = ~(f[:used].isfinite() & D[:used].isfinite() & (D[:used] >= 0) & sigma.isfinite() & (sigma > 0))
        if bool(bad.any()):
            t = float(times[int(bad.nonzero()[0])])
            raise InputError(f"times: expected sigma > 0 and a finite drift at every step, got t = {t:g}")
        return cls(times, -times.diff(), f, D)


def effective_white_sample(
    kernel: White | Quenched,
    x: Points,
    times: Float[Tensor, " times"],
    *,
    generator: torch.Generator,
    trajectories: int = TRAJECTORIES,
) -> Points:
    """Euler-Maruyama from `x` at times[0] to times[-1], with noise that is drawn anew at every step.

    `trajectories` are followed at once: their memory is a few times that many points, and what one call of the kernel
    needs. NFE: one score and one amplitude per step. Raises InputError for a kernel that is not white, for times that
    do not decrease, and for points that are not finite.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Naive, effective_white_sample
    >>> naive, x = Naive(Gaussian.isotropic(torch.zeros(1), 9.0), VE(), kappa=0.5), torch.full((4000, 1), 10.0)
    >>> x = effective_white_sample(naive, x, torch.tensor([4.0, 2.0]), generator=torch.Generator().manual_seed(0))
    >>> bool((x.mean() - 6.8).abs() < 4 * 0.0095)  # 10 - 2 x 4 x 10 / (9 + 16), and its standard error
    True
    >>> bool((x.var() - 0.36).abs() < 4 * 0.0081)  # 0.5 x 2 x 4^2 (1 / 16 - 1 / 25)
    True
    """
    white = as_white(kernel)

    def score_and_noise(state: Points, t: Float[Tensor, ""]) -> tuple[Points, Points]:
        return white.score(state, t), white.amplitude(state, t).draw(generator=generator)

    return euler_maruyama(white.schedule, score_and_noise, x, times, trajectories=trajectories)


@torch.no_grad()
def euler_maruyama(
    schedule: Schedule,
    score_and_noise: Callable[[Points, Float[Tensor, ""]], tuple[Points, Points]],
    x: Points,
    times: Float[Tensor, " times"],
    *,
    trajectories: int,
) -> Points:
    """x <- x - h (f x - D score) + sqrt(h) noise along `times`, with fresh noise at every step; no gradients."""
    check_points(x)
    require_count("trajectories", trajectories, 1)
    steps = Steps.of(schedule, times)
    ends = []
    for start in x.split(trajectories):
        state = start
        for k, h in enumerate(steps.h):
            score, noise = score_and_noise(state, steps.times[k])
            state = (state - h * (steps.f[k] * state - steps.D[k] * score) + h.sqrt() * noise).to(x)
        ends.append(state)
    end = torch.cat(ends)
    if not bool(end.isfinite().all()):
        raise InputError("kernel: expected finite scores and noise, got trajectories that end in NaN or infinity")
    return end


@torch.no_grad()
def quenched_sample(
    fields: ScoreFields | White | Quenched,
    schedule: Schedule,
    x: Float[Tensor, "fields batch d"],
    times: Float[Tensor, " times"],
    *,
    method: Literal["euler", "heun"] = "euler",
    trajectories: int = TRAJECTORIES,
) -> Float[Tensor, "fields batch d"]:
    """The probability-flow ODE of every field, from its own `x` at times[0] to times[-1].

    The fields are already drawn: nothing here is random, and no gradients are recorded.
    `trajectories` of every field are followed at once. NFE per step: 1 for Euler, 2 for Heun, which needs sigma > 0 at
    the last time too. Raises InputError for a kernel in the place of its fields, for an answer of another shape or
    NaN, and as `effective_white_sample` does for times and points.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import quenched_sample
    >>> m = torch.tensor([1.0, 6.0])[:, None, None]  # of each field all trajectories end at one point
    >>> x = torch.full((2, 1, 1), 10.0)
    >>> x = quenched_sample(lambda x, t: (m - x) / t**2, VE(), x, torch.tensor([4.0, 2.0, 1.0]))
    >>> [round(value, 6) for value in x.flatten().tolist()]  # m + (10 - m) / 4
    [3.25, 7.0]
    """
    if isinstance(fields, White | Quenched):
        raise InputError(
            f"fields: expected drawn score fields, as of a quenched kernel's draw(...), got {_kind(fields)}"
        )
    if method not in ("euler", "heun"):
        raise InputError(f"method: expected 'euler' or 'heun', got {method!r}")
    check_points(x)
    require_count("trajectories", trajectories, 1)
    steps = Steps.of(schedule, times, to_the_end=method == "heun")

    def drift(state: Tensor, k: int) -> Tensor:
        score = fields(state, steps.times[k])
        if score.shape != state.shape:
            raise InputError(f"fields: expected scores of shape {tuple(state.shape)}, got {tuple(score.shape)}")
        return steps.f[k] * state - steps.D[k] * score

    ends = []
    for start in x.split(trajectories, dim=1):
        state = start
        for k, h in enumerate(steps.h):
            velocity = drift(state, k)
            ahead = (state - h * velocity).to(x)
            if method == "heun":
                ahead = (state - h / 2 * (velocity + drift(ahead, k + 1))).to(x)
            state = ahead
        ends.append(state)
    end = torch.cat(ends, dim=1)
    if not bool(end.isfinite().all()):
        raise InputError("fields: expected finite scores on the way, got trajectories that end in NaN or infinity")
    return end


def as_white(kernel: White | Quenched) -> White:
    """The kernel; InputError unless it is white noise, and that alone."""
    if not isinstance(kernel, White) or isinstance(kernel, Quenched):
        raise InputError(f"kernel: expected white noise (schedule, score, amplitude), got {_kind(kernel)}")
    return kernel


def as_quenched(kernel: White | Quenched) -> Quenched:
    """The kernel; InputError unless it is a quenched field, and that alone."""
    if not isinstance(kernel, Quenched) or isinstance(kernel, White):
        wanted = "a quenched field (schedule, score, covariance, draw)"
        raise InputError(f"kernel: expected {wanted}, got {_kind(kernel)}")
    return kernel


def check_points(x: Tensor) -> None:
    """InputError unless there are finite points in floats."""
    if x.numel() == 0 or not x.is_floating_point() or not bool(x.isfinite().all()):
        raise InputError(f"x: expected finite points, at least one, got shape {tuple(x.shape)} and dtype {x.dtype}")


def _kind(given: Any) -> str:
    if isinstance(given, White) and isinstance(given, Quenched):
        return f"{type(given).__name__}, which is white and quenched at once"
    if isinstance(given, White):
        return f"the white kernel {type(given).__name__}"
    return f"the quenched kernel {type(given).__name__}" if isinstance(given, Quenched) else type(given).__name__


def _shown(times: Tensor) -> str:
    ends = f", from {float(times[0]):g} to {float(times[-1]):g}" if len(times) else ""
    return f"{len(times)}{ends}"

"""Reference trajectories: the scheme itself on many levels, interpolated in between.

Where a model has a table of trained times, the reference walks the whole table (up to `WHOLE_TABLE` levels): a network
need not be smooth from one of its times to the next, and a part of the table has its own limit.
"""

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, nearest_trained_time

from ..calibrated import HISTORY, SAME_LEVEL
from ..eigenbasis import Eigenbasis
from ..schedule_values import Instant, instants
from .plan import Plan, features_of, plain_weights, stepped
from .whitened_model import WhitenedModel

FAR = 300.0  # highest finite level of a grid: sigma/alpha in standard deviations of the data
STEPS = 160  # of a reference in continuous time
WHOLE_TABLE = 1000  # levels of a table that are all walked


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Reference states z at increasing levels and their ends, in the coordinates of one Gaussian, `basis`.

    They are read in those of another with the same mean, `frame`.
    """

    lams: list[float]
    states: Float[Tensor, "levels M m"]
    ends: Float[Tensor, "M m"]
    basis: Eigenbasis
    frame: Eigenbasis

    @property
    def start(self) -> Float[Tensor, "M n"]:
        """z at the start."""
        return self.at(self.lams[0])

    @cached_property
    def end(self) -> Float[Tensor, "M n"]:
        """Coordinates of the clean data at the end, about the mean."""
        return self.ends if self.frame is self.basis else self.frame.coordinates(self.basis.rows(self.ends))

    def at(self, lam: float) -> Float[Tensor, "M n"]:
        """z at any level, by the cubic polynomial through the four nearest."""
        if lam <= self.lams[0] + SAME_LEVEL:
            return self._framed(self.states[0].double(), lam)
        first_finite = int(not math.isfinite(self.lams[0]))
        right = bisect.bisect_left(self.lams, lam)
        first = max(first_finite, min(right - 2, len(self.lams) - 4))
        nodes = self.lams[first : first + 4]
        z = torch.zeros_like(self.states[0], dtype=torch.float64)
        for j, node in enumerate(nodes):
            others = [other for i, other in enumerate(nodes) if i != j]
            z = z + math.prod((lam - other) / (node - other) for other in others) * self.states[first + j]
        return self._framed(z, lam)

    def _framed(self, z: Float[Tensor, "M m"], lam: float) -> Float[Tensor, "M n"]:
        if self.frame is self.basis:
            return z
        spread, other = ((1 + basis.variances * math.exp(2 * lam)).sqrt() for basis in (self.basis, self.frame))
        return self.frame.coordinates(self.basis.rows(spread * z)) / other

    def part(self, which: slice) -> "Trajectories":
        """Some of the trajectories."""
        return replace(self, states=self.states[:, which], ends=self.ends[which])


def reference_of(model: WhitenedModel, starts: Batch, levels: Sequence[Instant]) -> Trajectories:
    """The scheme with plain weights on `levels`."""
    plan = Plan(tuple(levels), plain_weights(levels), torch.zeros_like(model.basis.variances))
    z, recent = model.whitened(starts), deque(maxlen=HISTORY)
    states = torch.empty(len(levels), *z.shape, dtype=starts.dtype, device=starts.device)
    for i, at in enumerate(levels):
        states[i] = z
        recent.append(model.residual(z, at))
        z = stepped(model, plan, i, z, features_of(model, levels, i, z, recent))
    return Trajectories([at.lam for at in levels], states, z, model.basis, model.basis)


def reference_levels(model: WhitenedModel, steps: int | None) -> tuple[Instant, ...]:
    """`steps` levels, by default a whole table of trained times or `STEPS`."""
    if steps is None and model.discrete:
        levels = spaced_levels(model, 20 * WHOLE_TABLE)
        return levels if len(levels) <= WHOLE_TABLE else spaced_levels(model, WHOLE_TABLE)
    return spaced_levels(model, steps or STEPS)


def spaced_levels(model: WhitenedModel, steps: int) -> tuple[Instant, ...]:
    """Levels equally spaced in log(alpha/sigma), each replaced by the nearest trained one, without repeats."""
    lam_start = max(model.start.lam, -math.log(FAR * model.largest_std))
    lams = torch.linspace(lam_start, model.end.lam, steps, dtype=torch.float64)
    times = nearest_trained_time(model.denoiser, model.schedule.time_of_lambda(lams))
    times[0], times[-1] = (model.start.t if model.start.lam == lam_start else times[0]), model.end.t
    if model.start.lam < lam_start:
        times = torch.cat([times.new_tensor([model.start.t]), times])
    return distinct(instants(model.schedule, times))


def distinct(levels: Sequence[Instant]) -> tuple[Instant, ...]:
    """Levels without repeats: two readings of one trained time differ by rounding."""
    return (levels[0], *(b for a, b in itertools.pairwise(levels) if b.lam - a.lam > SAME_LEVEL))


def halved(levels: Sequence[Instant]) -> tuple[Instant, ...]:
    """Every second level, and both ends."""
    return (*levels[:-1:2], levels[-1])

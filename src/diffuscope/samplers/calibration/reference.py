"""Reference trajectories: the scheme itself on many levels, interpolated in between."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, nearest_trained_time

from ..calibrated import SAME_LEVEL
from ..schedule_values import instants
from .plan import Plan, plain_weights, walked
from .whitened_model import WhitenedModel

FAR = 300.0  # highest finite level of a grid: sigma/alpha in standard deviations of the data


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Reference states z at increasing levels, and their ends."""

    lams: Float[Tensor, " levels"]
    z: Float[Tensor, "levels M m"]
    end: Float[Tensor, "M m"]

    def at(self, lam: float) -> Float[Tensor, "M m"]:
        """z at any level, by the cubic polynomial through the four nearest."""
        if lam <= float(self.lams[0]) + SAME_LEVEL:
            return self.z[0].double()
        first_finite = int(not math.isfinite(float(self.lams[0])))
        right = int(torch.searchsorted(self.lams, lam))
        first = max(first_finite, min(right - 2, len(self.lams) - 4))
        nodes = self.lams[first : first + 4].tolist()
        z = torch.zeros_like(self.z[0], dtype=torch.float64)
        for j, node in enumerate(nodes):
            others = [other for i, other in enumerate(nodes) if i != j]
            z = z + math.prod((lam - other) / (node - other) for other in others) * self.z[first + j]
        return z

    def part(self, which: slice) -> "Trajectories":
        """Some of the trajectories."""
        return Trajectories(self.lams, self.z[:, which], self.end[which])


def reference_of(model: WhitenedModel, starts: Batch, steps: int) -> Trajectories:
    """The scheme with plain weights on `steps` levels (fewer where the model has fewer)."""
    lam_start = max(model.start.lam, -math.log(FAR * model.largest_std))
    lams = torch.linspace(lam_start, model.end.lam, steps, dtype=torch.float64)
    times = nearest_trained_time(model.denoiser, model.schedule.time_of_lambda(lams))
    times[0], times[-1] = (model.start.t if model.start.lam == lam_start else times[0]), model.end.t
    if model.start.lam < lam_start:
        times = torch.cat([times.new_tensor([model.start.t]), times])
    levels = instants(model.schedule, torch.unique_consecutive(times))
    plan = Plan(levels, plain_weights(levels), torch.zeros_like(model.basis.variances))
    walk = walked(model, plan, model.whitened(starts))
    states = torch.stack([state.to(starts.dtype) for state in walk.states])
    return Trajectories(torch.tensor([at.lam for at in levels], dtype=torch.float64), states, walk.end)

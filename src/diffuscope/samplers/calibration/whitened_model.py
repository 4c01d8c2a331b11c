"""A denoiser as the residual that moves whitened states, with its evaluations counted."""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from ..calibrated import SAME_LEVEL
from ..eigenbasis import Eigenbasis
from ..schedule_values import Instant, instants

CLOSEST = 0.02  # levels keep this distance in log(alpha/sigma)
CHUNK = 512  # samples in one call of the denoiser


class WhitenedModel:
    """The denoiser as the residual that moves z, counting its evaluations; `starts` set event shape, dtype, device."""

    def __init__(self, denoiser: Denoiser, gaussian: Gaussian, starts: Batch) -> None:
        schedule, basis = denoiser.schedule, Eigenbasis.of(gaussian, starts.device)
        self.schedule = schedule
        self.denoiser, self.basis, self.starts, self.evaluations = denoiser, basis, starts, 0
        ends = nearest_trained_time(denoiser, torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64))
        self.start, self.end = instants(schedule, ends)
        self.rms_std = math.sqrt(float(basis.variances.sum() / starts[0].numel()))
        self.largest_std = math.sqrt(float(basis.variances.max()))

    def about(self, gaussian: Gaussian) -> "WhitenedModel":
        """The same model about another Gaussian; this one counts the evaluations and keeps the scales of the data."""
        other = WhitenedModel(self, gaussian, self.starts)
        other.rms_std, other.largest_std = self.rms_std, self.largest_std
        return other

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D(x_t, t), counted and checked; InputError where the denoiser's output has another shape or is not finite."""
        self.evaluations += len(x_t)
        denoised = torch.cat([self.denoiser(part, t) for part in x_t.split(CHUNK)])
        if denoised.shape != x_t.shape or not bool(torch.isfinite(denoised).all()):
            raise InputError(f"denoiser: expected finite values of shape {tuple(x_t.shape)} at time {float(t):g}")
        return denoised

    def residual(self, z: Float[Tensor, "M m"], at: Instant) -> Float[Tensor, "M m"]:
        """Delta at the state z."""
        rows = self.basis.rows(self.basis.spread(at) * z) + at.alpha * self.basis.mean
        denoised = self(rows.reshape(-1, *self.starts.shape[1:]).to(self.starts.dtype), at.t)
        return self.basis.coordinates(denoised.double().flatten(1) - self.basis.mean) - self.basis.gain(at) * z

    def whitened(self, x_start: Batch) -> Float[Tensor, "M m"]:
        """z of states at the start."""
        rows = x_start.double().flatten(1) - self.start.alpha * self.basis.mean
        return self.basis.coordinates(rows) / self.basis.spread(self.start)

    def levels(self, lams: Sequence[float]) -> tuple[Instant, ...] | None:
        """The trained levels nearest to `lams`; None outside the model's range or where two are too close."""
        if not (lams[0] >= self.start.lam and lams[-1] <= self.end.lam + 1e-9):
            return None
        exact = self.schedule.time_of_lambda(torch.tensor(lams, dtype=torch.float64))
        times = nearest_trained_time(self.denoiser, exact)
        if lams[0] <= self.start.lam + SAME_LEVEL:
            times[0] = self.start.t
        if not bool((times[1:] < times[:-1]).all()):
            return None
        levels = instants(self.schedule, times)
        separated = all(b.lam - a.lam >= CLOSEST for a, b in itertools.pairwise(levels))
        return levels if separated or self.discrete else None

    def distance(self, a: Float[Tensor, "M m"], b: Float[Tensor, "M m"]) -> float:
        """Mean distance over sqrt(D), also at low rank: the complement is orthogonal to the eigenvectors."""
        return float((a - b).norm(dim=1).mean()) / math.sqrt(len(self.basis.mean))

    @cached_property
    def discrete(self) -> bool:
        """Whether the model was trained on a table of times only."""
        middle = (self.start.t + self.end.t) / 2 + math.sqrt(2) / 1e3 * (self.start.t - self.end.t)
        return float(nearest_trained_time(self.denoiser, middle)) != middle

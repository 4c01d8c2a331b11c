r"""The exact network that a diffusers scheduler's timesteps were made for.

The network is exact for the data and was trained on the scheduler's own table: at timestep t it takes its input for
:math:`\sqrt{\bar\alpha_t}x_0 + \sqrt{1-\bar\alpha_t}\varepsilon` (log(sigma/alpha) is linear between integer t, as
in the library's `_sigma_to_t`). For flow matching it is :math:`(1-s)x_0 + s\varepsilon` with s = t/1000. Continuous
timesteps are log(sigma)/4 (EDM, `timestep_type=continuous`) or an angle, sigma/alpha = tan(pi t/2) (the cosine DPM
solver, IPNDM). The network answers in the scheduler's `prediction_type`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify.as_shipped import noise, signal
from diffuscope.denoisers import Batch
from diffuscope.exact import Distribution

from .diffusers_schedulers import clean_of

POINT = 0.5  # the clean point of a run that measures levels: clipping to [-1, 1] does not change it


@dataclass(frozen=True)
class TrainedNetwork:
    """The exact network for the data that the scheduler's table was made for."""

    scheduler: Any
    kind: str

    @cached_property
    def table(self) -> Float[Tensor, " train"]:
        """log(sigma/alpha) of every training step."""
        alphas_cumprod = self.scheduler.alphas_cumprod.double()
        return 0.5 * ((1 - alphas_cumprod) / alphas_cumprod).log()

    @property
    def continuous(self) -> bool:
        """Whether timesteps are log(sigma)/4 instead of steps of the table, an option of the Euler scheduler."""
        config = self.scheduler.config
        return config.get("timestep_type") == "continuous" and config.get("prediction_type") == "v_prediction"

    def told(self, timesteps: Float[Tensor, " calls"]) -> Float[Tensor, " calls"]:
        """sigma/alpha at which the network answers for these timesteps."""
        if self.kind == "flow":
            return 1 / (self.scheduler.config.num_train_timesteps / timesteps - 1)
        if self.kind in ("edm", "angle"):
            through_angle = self.kind == "angle" or "Cosine" in type(self.scheduler).__name__
            return (timesteps * math.pi / 2).tan().abs() if through_angle else (4 * timesteps).exp()
        if self.continuous:
            return (4 * timesteps).exp()
        table = self.table
        below = timesteps.long().clamp(0, len(table) - 1)
        above = (below + 1).clamp(max=len(table) - 1)
        between = table[below] + (timesteps - below) * (table[above] - table[below])
        return torch.where(timesteps == below, table[below], between).exp()

    def off(self, ratios: Float[Tensor, " calls"], timesteps: Float[Tensor, " calls"]) -> Float[Tensor, " calls"]:
        """How many training steps `ratios` lie above the timesteps' levels; infinite outside the table."""
        steps = self.scheduler.config.get("num_train_timesteps", 1000)
        if self.kind == "flow":
            return steps / (1 + 1 / ratios) - timesteps
        if self.kind == "angle":
            return steps * (ratios.atan() * 2 / math.pi - timesteps)
        if self.kind == "edm":
            config = self.scheduler.config
            return steps * (ratios / self.told(timesteps)).log() / math.log(config.sigma_max / config.sigma_min)
        if self.continuous:
            return steps * (ratios / self.told(timesteps)).log() / (self.table[-1] - self.table[0])
        table, levels = self.table, ratios.log()
        low = (torch.searchsorted(table, levels) - 1).clamp(0, len(table) - 2)
        exact = (levels[:, None] - table).abs().min(dim=1)
        position = low + (levels - table[low]) / (table[low + 1] - table[low])
        position = torch.where(exact.values < 1e-6, exact.indices.double(), position)
        position = torch.where(ratios.isinf() & table[-1].isinf(), len(table) - 1.0, position)
        outside = (timesteps < 0) | (timesteps > len(table) - 1)
        return torch.where(outside, math.inf, position - timesteps)

    def landing(self, state: Batch, t: Tensor) -> float:
        """sigma/alpha of the level to which the step from timestep t led: the nearest of the table, or 0."""
        levels = torch.cat([torch.ones(1, dtype=torch.float64), self.scheduler.alphas_cumprod.double()])
        alpha_bar = (state[0, 0] / POINT) ** 2
        nearest = ((levels - alpha_bar).abs() / (levels * (1 - levels)).clamp(min=1e-5)).argmin()
        if hasattr(self.scheduler, "previous_timestep"):
            # its float32 coefficients do not tell the lowest levels apart
            nearest = self.scheduler.previous_timestep(t) + 1
        return float(((1 - levels[nearest]) / levels[nearest]) ** 0.5)

    def __call__(self, distribution: Distribution, x: Batch, ratio: Tensor) -> Batch:
        """The network's answer to the scheduler's input x, told that it is at `ratio`."""
        alpha, sigma = self.scales(ratio)
        if self.kind == "edm":
            x = x / self.scheduler.precondition_inputs(1.0, ratio)
        x = x.double()
        clean = distribution.denoise(x, float(alpha), float(sigma)) if sigma > 0 else x / alpha
        return self.answer(x, clean, ratio)

    def answer(self, x: Batch, clean: Batch, ratio: Tensor) -> Batch:
        """The clean point in the network's parametrization; x is a state at `ratio`."""
        alpha, sigma = self.scales(ratio)
        prediction = self._prediction()
        if self.kind == "edm":
            skip, out = (self.scheduler.precondition_outputs(*unit, ratio) for unit in ((1.0, 0.0), (0.0, 1.0)))
            return (clean - skip * x) / out
        if prediction == "sample":
            return clean
        eps = (x - alpha * clean) / sigma if sigma > 0 else torch.zeros_like(x)
        if prediction == "epsilon":
            return eps
        return eps - clean if prediction == "flow_prediction" else alpha * eps - sigma * clean

    def clean(self, x: Batch, output: Batch, ratio: Tensor) -> Batch:
        """The clean point that the scheduler makes of `output`, taking x to be at `ratio`."""
        alpha, sigma = self.scales(ratio)
        if self.kind == "edm":
            return self.scheduler.precondition_outputs(x, output, ratio)
        return clean_of(self._prediction(), x, output, alpha, sigma)

    def scales(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """The alpha and sigma of the network's input (before EDM's preconditioning)."""
        if self.kind == "edm":
            return torch.ones_like(ratio), ratio
        if self.kind == "flow":
            return 1 / (1 + ratio), 1 / (1 + 1 / ratio)
        return signal(ratio), noise(ratio)

    def norm(self, ratio: Tensor) -> Tensor:
        """The scheduler's state over ours, (1 + r^2)^(1/2) or that over 1 + r."""
        if self.kind in ("ve", "edm"):
            return 1 / signal(ratio)
        return torch.hypot(*self.scales(ratio)) if self.kind == "flow" else torch.ones_like(ratio)

    def _prediction(self) -> str:
        if self.kind == "angle":
            return "v_prediction"
        given = self.scheduler.config.get("prediction_type", "flow_prediction" if self.kind == "flow" else "epsilon")
        return "sample" if given == "original_sample" else str(given)

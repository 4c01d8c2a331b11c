r"""The grid of a diffusers scheduler that starts with a jump: its levels, its tail, and a longer one with a given tail.

Of five schedulers. Their states :math:`\alpha x_0 + \sigma\varepsilon` at the noise-to-signal ratio r are

.. math::
    \text{DDIM, DPMSolverMultistep, UniPC: } \alpha = \frac{1}{\sqrt{1 + r^2}},\ \sigma = \frac{r}{\sqrt{1 + r^2}};
    \qquad \text{Euler, Heun: } \alpha = 1,\ \sigma = r; \qquad \text{flow sigmas } s:\ \alpha = 1 - s,\ \sigma = s .

Where the library needs care:

- `timesteps` and `sigmas` are both cut, and the first index is set;
- Heun has two entries per step but for the first, [t_0, t_1, t_1, t_2, t_2, ...], so that both are cut at 2k;
- DDIM has no sigmas, and a stride of T // steps training steps, whatever its timesteps are. It keeps the number of
  steps of the whole grid. Where T / steps is no integer, its states would be at other levels than its timesteps, a
  little more with every step; a longer grid than the pipeline asked for is therefore laid out again in that stride;
- for some numbers of steps (61 of 1000, by rounding) the spacing `trailing` makes one timestep more, -1: these are
  skipped.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify.as_shipped import noise, signal
from diffuscope.errors import InputError
from diffuscope.samplers import truncate
from diffuscope.schedules import VE

from .diffusers_schedulers import kind_of

SUPPORTED = (
    "DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
)  # fmt: skip


@dataclass(frozen=True)
class TeleportGrid:
    """The grids of `scheduler`, which are set in it, seen from the level sigma/alpha = `noise_to_signal`.

    Raises InputError for another scheduler than the five, and for a level outside its table.
    """

    scheduler: Any
    noise_to_signal: float

    def __post_init__(self) -> None:
        name = type(self.scheduler).__name__
        if self._name is None:
            raise InputError(f"scheduler: expected one of {', '.join(SUPPORTED)}, got {name}")
        low, high = 0.0, math.inf
        if self._kind != "flow":
            alphas_cumprod = self.scheduler.alphas_cumprod.double()
            low, high = ((1 / alphas_cumprod[index] - 1).sqrt().item() for index in (0, -1))
        require_within(self.noise_to_signal, low, high, f"{name}'s table")

    @property
    def _name(self) -> str | None:
        """The one of the five that the scheduler is, or is derived from."""
        return next((base.__name__ for base in type(self.scheduler).__mro__ if base.__name__ in SUPPORTED), None)

    @property
    def _kind(self) -> str:
        return kind_of(str(self._name), {"use_flow_sigmas": self.scheduler.config.get("use_flow_sigmas")})

    @property
    def _entries(self) -> int:
        """Entries of a step in the scheduler's lists."""
        return 2 if self._name == "HeunDiscreteScheduler" else 1

    def levels(self) -> Float[Tensor, " levels"]:
        """sigma/alpha at the start of every step of the present grid, and 0 for its end."""
        if self._name == "DDIMScheduler":
            alphas_cumprod = self.scheduler.alphas_cumprod.double()[self.scheduler.timesteps.long().cpu()]
            starts = (1 / alphas_cumprod - 1).sqrt()
        else:
            starts = torch.as_tensor(self.scheduler.sigmas[:-1]).double().cpu()[:: self._entries]
            starts = starts / (1 - starts) if self._kind == "flow" else starts
        return torch.cat([starts, starts.new_zeros(1)])

    def above(self) -> int:
        """The number of steps of the present grid above the level; its tail begins at the time nearest to it."""
        return truncate(self.levels(), VE(), self.noise_to_signal).steps_saved

    def scales(self, ratio: float) -> tuple[float, float]:
        """alpha and sigma of a state of the scheduler at sigma/alpha = `ratio`."""
        if self._kind == "ve":
            return 1.0, ratio
        if self._kind == "flow":
            return 1 / (1 + ratio), 1 / (1 + 1 / ratio)
        return float(signal(ratio)), float(noise(ratio))

    def cut(self, steps: int) -> None:
        """Removes the first `steps` steps of the present grid."""
        inner, first = self.scheduler, self._entries * steps
        inner.timesteps = inner.timesteps[first:]
        if self._name != "DDIMScheduler":
            inner.sigmas = inner.sigmas[first:]
            inner.num_inference_steps = inner.num_inference_steps - steps
            inner.set_begin_index(0)

    def lay_out_with_tail(self, steps: int, arguments: dict[str, Any]) -> int:
        """Sets the grid whose last `steps` steps begin nearest to the level, and returns the number of steps before.

        `arguments` are those of set_timesteps. The start of these steps falls as the whole grid becomes longer.
        """
        most = self.scheduler.config.num_train_timesteps
        above, below = steps, steps  # numbers of steps between which the level is crossed
        while below < most and self._octaves(below, steps, arguments) > 0:
            above, below = below, min(2 * below, most)
        numbers = range(above, below + 1)
        first_below = above + bisect_left(
            numbers, True, key=lambda number: self._octaves(number, steps, arguments) <= 0
        )
        # the two on each side of the level, as the library may not make one of them
        near = [number for number in range(first_below - 2, first_below + 2) if steps <= number <= most]
        near = [number for number in near if self._lay_out(number, steps, arguments)] or [steps]
        best = min(near, key=lambda number: abs(self._octaves(number, steps, arguments)))
        self._lay_out(best, steps, arguments)
        return best - steps

    def _octaves(self, number: int, steps: int, arguments: dict[str, Any]) -> float:
        """How far above the level the last `steps` steps of a grid of `number` steps begin, as log2 of sigma/alpha."""
        self._lay_out(number, steps, arguments)
        return math.log2(float(self.levels()[number - steps]) / self.noise_to_signal)

    def _lay_out(self, number: int, asked: int, arguments: dict[str, Any]) -> bool:
        """Sets the grid of `number` steps; False where the library makes another number of them."""
        inner = self.scheduler
        inner.set_timesteps(**{**arguments, "num_inference_steps": number})
        if len(self.levels()) != number + 1:
            return False
        if self._name == "DDIMScheduler" and number != asked:
            stride = inner.config.num_train_timesteps // number
            last = inner.timesteps[-1].clamp(max=stride - 1)
            rest = last + stride * torch.arange(number - 2, -1, -1, device=inner.timesteps.device)
            # the first state is the pipeline's, at the level of the first timestep
            inner.timesteps = torch.cat([inner.timesteps[:1], rest])
        return True


def require_within(noise_to_signal: float | int, low: float, high: float, of: str) -> None:
    """Raises InputError unless the level of a jump is between `low` and `high`, the ends of the levels `of`."""
    if not (low <= noise_to_signal <= high and 0 < noise_to_signal < math.inf):
        given = f"got {noise_to_signal:g}"
        raise InputError(f"noise_to_signal: expected a level of {of}, sigma/alpha in {low:.3g} .. {high:.3g}, {given}")

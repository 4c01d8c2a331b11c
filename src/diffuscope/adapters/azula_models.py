r"""Denoisers of azula (https://github.com/probabilists/azula), those of its plugins included, as ours.

azula's `denoiser(x_t, t)` returns a posterior, whose mean is D; its `schedule(t)` returns (alpha, sigma) on [0, 1] with
t growing from data to noise, as here. A schedule may be any function, so that what azula does not state is computed:
derivatives by automatic differentiation, and the inverse of :math:`\lambda = \log(\alpha/\sigma)` by section. Nothing
else is converted, and the library itself is not imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Weights, load_network
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time, Times, as_time

from .libraries import Options
from .model_inputs import USUAL_RANGE, Range, Shape, described, repeated, settings_of

SECTIONS, ROUNDS = 64, 9  # of [0, 1]: to 2^-54, the rounding of t


def load(name: str, options: Options, weights: Weights | None = None) -> Any:
    """The denoiser of the azula denoiser `module:object`, with `weights` and with `options` of `from_azula`."""
    settings = settings_of(from_azula, options, f"azula:{name}")
    return from_azula(load_network(name, weights), **settings)  # type: ignore[arg-type]


def from_azula(
    denoiser: Any,
    *,
    event_shape: Shape = None,
    data_range: Range = USUAL_RANGE,
    condition: Mapping[str, Any] | None = None,
) -> "AzulaDenoiser":
    """The denoiser of an azula denoiser; `condition` are its further arguments (`{"label": ...}`).

    Tensors of one row in it are repeated over the batch. Without an `event_shape`, `generate` has to be told it.
    Raises InputError for an object without azula's schedule.

    >>> import math
    >>> import torch
    >>> from diffuscope.adapters import from_azula
    >>> from types import SimpleNamespace
    >>> class Denoiser:  # what is read of one of azula's, for data N(0, I) and sigma = 0.3 + 5 t
    ...     def schedule(self, t):
    ...         return torch.ones_like(t), 0.3 + 5 * t
    ...     def __call__(self, x_t, t):
    ...         return SimpleNamespace(mean=x_t / (1 + (0.3 + 5 * t) ** 2))
    >>> denoiser = from_azula(Denoiser(), event_shape=(2,))
    >>> t = denoiser.schedule.time_of_lambda(-math.log(2))  # sigma = 2
    >>> round(float(t), 6), [round(value, 5) for value in denoiser(torch.tensor([[5.0, 10.0]]), t)[0].tolist()]
    (0.34, [1.0, 2.0])
    """
    scales: Any = getattr(denoiser, "schedule", None)
    if not callable(denoiser) or scales is None:
        raise InputError(f"model: expected an azula denoiser, which has a schedule, got {type(denoiser).__name__}")
    schedule = AzulaSchedule(scales)
    if not float(schedule.sigma(0.0)) > 0 or not float(schedule.lam(1.0)) < float(schedule.lam(0.0)):
        raise InputError("model: expected an azula schedule with sigma > 0 and decreasing log(alpha/sigma) on [0, 1]")
    return described(AzulaDenoiser(denoiser, schedule, event_shape, data_range, condition or {}), denoiser, data_range)


@dataclass(frozen=True)
class AzulaSchedule(Schedule):
    """Times in [0, 1] with azula's (alpha, sigma)."""

    scales: Callable[[Tensor], tuple[Tensor, Tensor]] = field(repr=False)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    def alpha(self, t: Time) -> Times:
        return self._scale(0, as_time(t))

    def sigma(self, t: Time) -> Times:
        return self._scale(1, as_time(t))

    def alpha_dot(self, t: Time) -> Times:
        return self._slope(0, as_time(t))

    def sigma_dot(self, t: Time) -> Times:
        return self._slope(1, as_time(t))

    def time_of_lambda(self, lam: Time) -> Times:
        """By section; a level beyond those of [0, 1] has the end's time."""
        lam = as_time(lam)
        parts = torch.arange(SECTIONS, dtype=torch.float64, device=lam.device) / SECTIONS
        low, width = torch.zeros_like(lam), 1.0
        for _ in range(ROUNDS):
            later = self.lam(low[..., None] + width * parts) > lam[..., None]  # lambda decreases with t
            low = low + width * (later.sum(-1) - 1).clamp(min=0) / SECTIONS
            width /= SECTIONS
        return low

    def _scale(self, which: int, t: Times) -> Times:
        return self.scales(t)[which].to(t).expand(t.shape)

    def _slope(self, which: int, t: Times) -> Times:
        with torch.enable_grad():
            at = t if t.requires_grad else t.detach().requires_grad_()
            scale = self._scale(which, at)
            if not scale.requires_grad:  # a constant
                return torch.zeros_like(t)
            (slope,) = torch.autograd.grad(scale.sum(), at, create_graph=t.requires_grad)
        return slope

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self.scales).items()))
        return f"AzulaSchedule({type(self.scales).__name__}({settings}))"


class AzulaDenoiser(torch.nn.Module):
    """The mean of an azula denoiser's posterior."""

    def __init__(
        self,
        denoiser: Any,
        schedule: AzulaSchedule,
        event_shape: Shape,
        data_range: Range,
        condition: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.denoiser_of_azula, self.schedule, self.condition = denoiser, schedule, condition
        self.data_range = data_range
        if event_shape is not None:
            self.event_shape = tuple(event_shape)

    def forward(self, x_t: Batch, t: BatchTime) -> Batch:
        t = as_time(t).to(x_t.device)
        if t.ndim and len(t) and bool((t == t[0]).all()):
            t = t[0]  # one time for all, which every azula denoiser takes
        return self.denoiser_of_azula(x_t, t, **repeated(self.condition, len(x_t))).mean.to(x_t)

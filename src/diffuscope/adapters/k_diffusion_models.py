"""Model wrappers of k-diffusion (https://github.com/crowsonkb/k-diffusion) as denoisers: `wrapper(x, sigma)` is D.

x = x_0 + sigma eps. The wrappers of `external` (DiscreteEpsDDPMDenoiser, DiscreteVDDPMDenoiser, CompVisDenoiser,
OpenAIDenoiser) have a table `sigmas` of the levels that their network was trained at: `nearest_trained_time` names
these, while between them the wrapper interpolates, or, with `quantize`, takes the nearest. `VDenoiser` and the
library's own `layers.Denoiser` know all levels; .01 and 160 are used unless given. The library itself is not imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffuscope.denoisers import Batch, DataPredictor, Weights, load_network
from diffuscope.errors import InputError
from diffuscope.schedules import VE, Time, Times, as_time

from .libraries import Options
from .model_inputs import USUAL_RANGE, Range, Shape, described, repeated, require_shape, settings_of

LOWEST, HIGHEST = 0.01, 160.0


def load(name: str, options: Options, weights: Weights | None = None) -> Any:
    """The denoiser of the wrapper `module:object`, with `weights` and with `options` of `from_k_diffusion`."""
    settings = settings_of(from_k_diffusion, options, f"k_diffusion:{name}")
    return from_k_diffusion(load_network(name, weights), **settings)  # type: ignore[arg-type]


def from_k_diffusion(
    wrapper: Any,
    *,
    event_shape: Shape = None,
    data_range: Range = USUAL_RANGE,
    sigma_min: float | int | None = None,
    sigma_max: float | int | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Any:
    """The denoiser of a k-diffusion wrapper; `condition` are its further arguments (`{"cond": ...}`).

    Tensors of one row in it are repeated over the batch. Raises InputError for an object that cannot be called with
    (x, sigma), and unless the event shape is given.

    >>> import torch
    >>> from diffuscope.adapters import from_k_diffusion
    >>> denoiser = from_k_diffusion(lambda x, sigma: x / (1 + sigma.reshape(-1, 1) ** 2), event_shape=(2,))
    >>> denoiser(torch.tensor([[5.0, 10.0]]), 2.0).tolist(), denoiser.schedule
    ([[1.0, 2.0]], VE(sigma_min=0.01, sigma_max=160.0))
    """
    if not callable(wrapper) or isinstance(wrapper, type):
        raise InputError(f"model: expected a wrapper called as wrapper(x, sigma), got {type(wrapper).__name__}")
    shape = require_shape(event_shape, f"a {type(wrapper).__name__} of k-diffusion")
    table = getattr(wrapper, "sigmas", None)
    low = float(getattr(wrapper, "sigma_min", LOWEST) if sigma_min is None else sigma_min)
    high = float(getattr(wrapper, "sigma_max", HIGHEST) if sigma_max is None else sigma_max)
    made = DataPredictor(
        _Called(wrapper, condition or {}),
        VE(low, high),
        event_shape=shape,
        data_range=data_range or USUAL_RANGE,
        clock=None if table is None else Levels(as_time(table.cpu().double())),
    )
    return described(made, wrapper, data_range)


@dataclass(frozen=True)
class Levels:
    """The label is sigma; trained are the levels of a table, in increasing order."""

    sigmas: Tensor = field(repr=False, compare=False)

    def label(self, t: Time) -> Tensor:
        return as_time(t)

    def nearest(self, t: Time) -> Times:
        """The level of the table whose logarithm is nearest, as the wrappers quantize."""
        t = as_time(t)
        table = self.sigmas.to(t.device)
        above = torch.searchsorted(table, t.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return torch.where(t.square() <= low * high, low, high)


class _Called(nn.Module):
    """(x, sigma) to D, with constant further arguments."""

    def __init__(self, wrapper: Any, condition: Mapping[str, Any]) -> None:
        super().__init__()
        self.wrapper, self.condition = wrapper, condition

    def forward(self, x: Batch, sigma: Tensor) -> Batch:
        return self.wrapper(x, sigma, **repeated(self.condition, len(x)))

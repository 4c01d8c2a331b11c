"""Networks of EDM (https://github.com/NVlabs/edm) as denoisers: `net(x, sigma, class_labels)` returns D itself.

x = x_0 + sigma eps. The network states `img_channels`, `img_resolution`, `label_dim` (classes, given as one-hot rows;
a row of zeros is none), `sigma_min` and `sigma_max`; where these are 0 and infinity its sampler's .002 and 80 are used.
`round_sigma` names the level that the network was trained at (iDDPM's are a table). Its published files are pickles
of code, which are never loaded: build the network and load its weights.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffuscope.denoisers import Batch, Classes, DataPredictor, Weights, load_network
from diffuscope.errors import InputError
from diffuscope.schedules import VE, Time, Times, as_time

from .libraries import Options
from .model_inputs import USUAL_RANGE, Range, Shape, described, require_shape, settings_of

LOWEST, HIGHEST = 0.002, 80.0  # of EDM's sampler


def load(name: str, options: Options, weights: Weights | None = None) -> Any:
    """The denoiser of the network `module:object`, with `weights` and with `options` of `from_edm`."""
    settings = settings_of(from_edm, options, f"edm:{name}")
    return from_edm(load_network(name, weights), **settings)  # type: ignore[arg-type]


def from_edm(
    net: Any,
    *,
    event_shape: Shape = None,
    data_range: Range = USUAL_RANGE,
    sigma_min: float | int | None = None,
    sigma_max: float | int | None = None,
) -> Any:
    """The denoiser of an EDM network; what is not given it states itself.

    Raises InputError for an object that cannot be called with (x, sigma), and for an event shape that is unknown.

    >>> import torch
    >>> from diffuscope.adapters import from_edm
    >>> denoiser = from_edm(lambda x, sigma: x / (1 + sigma.reshape(-1, 1) ** 2), event_shape=(2,))  # data N(0, I)
    >>> denoiser(torch.tensor([[5.0, 10.0]]), 2.0).tolist(), denoiser.schedule
    ([[1.0, 2.0]], VE(sigma_min=0.002, sigma_max=80.0))
    """
    if not callable(net) or isinstance(net, type):
        raise InputError(f"model: expected a network net(x, sigma), got {_kind(net)}")
    shape = require_shape(event_shape or _shape_of(net), f"the {type(net).__name__}")
    low = max(LOWEST, float(getattr(net, "sigma_min", 0.0))) if sigma_min is None else float(sigma_min)
    high = min(HIGHEST, float(getattr(net, "sigma_max", HIGHEST))) if sigma_max is None else float(sigma_max)
    made = DataPredictor(
        _Called(net), VE(low, high), event_shape=shape, data_range=data_range or USUAL_RANGE, clock=Rounded(net)
    )
    return described(made, net, data_range)


@dataclass(frozen=True)
class Rounded:
    """The label is sigma; trained are the levels to which the network rounds."""

    net: Any = field(repr=False, compare=False)

    def label(self, t: Time) -> Tensor:
        return as_time(t)

    def nearest(self, t: Time) -> Times:
        """`round_sigma(t)` within the network's range; t itself where that leaves it alone."""
        t = as_time(t)
        if not hasattr(self.net, "round_sigma"):
            return t
        rounded = self.net.round_sigma(t).to(t).reshape(t.shape)
        return torch.where((rounded - t).abs() <= 1e-6 * t, t, rounded)


class _Called(nn.Module):
    """(x, sigma) or (x, sigma, classes) to D."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.classes = int(getattr(net, "label_dim", 0) or 0)

    def forward(self, x: Batch, sigma: Tensor, y: Classes = None) -> Batch:
        if not self.classes:
            return self.net(x, sigma)
        rows = torch.as_tensor(self.classes if y is None else y, device=x.device).long().expand(len(x))
        one_hot = nn.functional.one_hot(rows, self.classes + 1)[:, : self.classes].to(x.dtype)
        return self.net(x, sigma, one_hot)


def _shape_of(net: Any) -> Shape:
    channels, size = getattr(net, "img_channels", None), getattr(net, "img_resolution", None)
    if channels is None or size is None:
        return None
    return (int(channels), *((int(size), int(size)) if not isinstance(size, tuple | list) else map(int, size)))


def _kind(net: Any) -> str:
    return f"the class {net.__name__}" if inspect.isclass(net) else f"a {type(net).__name__}"

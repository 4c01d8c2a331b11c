r"""azula's posterior samplers (https://github.com/probabilists/azula) as methods of `diffuscope grade`: `azula:MMPS`.

A guided denoiser (MMPS, TMPD, DiffPIR) is sampled by our sampler, as our own guides are; a sampler (DPS, PGDM, RePaint,
TDS) takes its own steps over the same noise levels, in our time, and a last denoise. Arguments are the library's
defaults. `DPSSampler` divides by the norm of the misfits of the whole batch, so that its strength falls with the number
of draws: zeta is the square root of that number, which gives every draw the published step. The twist of TDS is
N(y; h(D), r^2 + q^2/(1 + q^2)) with q = sigma/alpha.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.physics.grading import Entry
from diffuscope.physics.observations import LinearObservation, Observation
from diffuscope.samplers.generation import generate, model_times
from diffuscope.schedules import Schedule

from .libraries import global_noise_from, library

NAMES = ("DPS", "PGDM", "MMPS", "TMPD", "DiffPIR", "RePaint", "TDS")


def methods() -> dict[str, Entry]:
    """The methods by name, azula:NAME. Raises InputError where azula is not installed."""
    library("azula.guidance", "azula", "methods")
    return {f"azula:{name}": Entry(f"azula:{name}", f"azula's {name}", _Run(name)) for name in NAMES}


@dataclass(frozen=True)
class _Run:
    """One of azula's methods with the signature of ours."""

    name: str

    def __call__(
        self, denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int
    ) -> Tensor:
        guidance = library("azula.guidance", "azula", "methods")
        theirs, y = _module(denoiser), y.float()
        if self.name in _GUIDES:
            guide = _GUIDES[self.name](guidance, theirs, observation, y)
            ours = _Guided(guide, denoiser.schedule, tuple(observation.event_shape))
            return generate(ours, n, steps=steps, seed=seed)
        times = model_times(denoiser, steps)
        sampler = _SAMPLERS[self.name](guidance, theirs, observation, y, n)
        type_ = type(sampler)
        sampler.__class__ = type(type_.__name__, (type_,), {"timesteps": times})
        generator = torch.Generator().manual_seed(seed)
        x = float(denoiser.schedule.sigma(times[0])) * torch.randn(n, *observation.event_shape, generator=generator)
        with torch.no_grad(), global_noise_from(generator, x.device):
            return denoiser(sampler(x), times[-1])


@dataclass(frozen=True)
class _Guided:
    """azula's guided denoiser as ours."""

    guide: Any
    schedule: Schedule
    event_shape: tuple[int, ...]

    def __call__(self, x_t: Batch, t: Any) -> Batch:
        return self.guide(x_t, torch.as_tensor(t, dtype=torch.float64)).mean.to(x_t.dtype)


def _module(denoiser: Denoiser) -> Any:
    """Our denoiser as azula's."""
    base = library("azula.denoise", "azula", "methods")

    class Ours(base.Denoiser):
        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return denoiser.schedule.alpha(t).float(), denoiser.schedule.sigma(t).float()

        def forward(self, x_t: Tensor, t: Tensor) -> Any:
            return base.DiracPosterior(mean=denoiser(x_t, t))

    return Ours()


def _linear(observation: Observation, name: str) -> LinearObservation:
    if not isinstance(observation, LinearObservation):
        raise InputError(f"observation: azula's {name} expects a linear one, got {type(observation).__name__}")
    return observation


def _mmps(guidance: Any, denoiser: Any, observation: Observation, y: Tensor) -> Any:
    covariance = library("azula.linalg.covariance", "azula", "methods")
    noise = covariance.IsotropicCovariance(torch.tensor(observation.noise**2))
    return guidance.MMPSDenoiser(denoiser, y, observation, noise)


def _tmpd(guidance: Any, denoiser: Any, observation: Observation, y: Tensor) -> Any:
    return guidance.TMPDenoiser(denoiser, y, _linear(observation, "TMPD"), observation.noise**2)


def _diffpir(guidance: Any, denoiser: Any, observation: Observation, y: Tensor) -> Any:
    return guidance.DiffPIRDenoiser(denoiser, y, _linear(observation, "DiffPIR"), observation.noise**2)


def _dps(guidance: Any, denoiser: Any, observation: Observation, y: Tensor, n: int) -> Any:
    return guidance.DPSSampler(denoiser, y, observation, zeta=n**0.5, silent=True)


def _pgdm(guidance: Any, denoiser: Any, observation: Observation, y: Tensor, n: int) -> Any:
    del n
    H = _linear(observation, "PGDM")
    inverse = torch.linalg.pinv(H.matrix).float()

    def back(v: Tensor) -> Tensor:
        return (v @ inverse.T).reshape(*v.shape[:-1], *H.event_shape)

    return guidance.PGDMSampler(denoiser, y, H, back, silent=True)


def _repaint(guidance: Any, denoiser: Any, observation: Observation, y: Tensor, n: int) -> Any:
    H = _linear(observation, "RePaint").matrix
    if not bool(((H == 0) | (H == 1)).all() and (H.sum(1) == 1).all()):
        raise InputError("observation: azula's RePaint expects values at nodes, got other combinations of them")
    mask = (H.sum(0) > 0).reshape(observation.event_shape)
    field = (y.double() @ H).float().reshape(observation.event_shape).expand(n, *observation.event_shape)
    return guidance.RePaintSampler(denoiser, field, mask, silent=True)


def _tds(guidance: Any, denoiser: Any, observation: Observation, y: Tensor, n: int) -> Any:
    del n

    def twist(x: Tensor, ratio: Tensor) -> Tensor:
        variance = observation.noise**2 + ratio**2 / (1 + ratio**2)
        return -((y - observation(x)) ** 2) / (2 * variance) - variance.log() / 2

    return guidance.TDSSampler(denoiser, twist, silent=True)


_GUIDES: dict[str, Callable[..., Any]] = {"MMPS": _mmps, "TMPD": _tmpd, "DiffPIR": _diffpir}
_SAMPLERS: dict[str, Callable[..., Any]] = {"DPS": _dps, "PGDM": _pgdm, "RePaint": _repaint, "TDS": _tds}

r"""azula's samplers (https://github.com/probabilists/azula) as targets: `azula:REABSampler?order=3`.

azula writes the kernel as :math:`N(\alpha_t x, \sigma_t^2 I)` with t increasing from data to noise, as we do. Nothing
is converted: its schedule returns our (alpha, sigma), its denoiser our D as the mean of a posterior. Its grid is
`timesteps`, equal steps of its own time; a subclass replaces it by our times. Any schedule is possible.

azula's own schedules keep alpha, sigma > 0: no start at alpha = 0 is asked, and there is no special last step. At
sigma = 0 those whose step divides by sigma or takes its logarithm (`HeunSampler`, `zEABSampler`, `xEABSampler`,
`REABSampler`), and `ItoSampler`, whose step would add noise there, raise InputError; the others return the value of
their formula. Noise comes from torch's global generator, seeded from ours.

Declared orders are azula's statements: the argument `order` of the multistep samplers, "1st order" for `EulerSampler`
and `DDIMSampler` ("equivalent"), "2nd order" for `HeunSampler`. It states none for the stochastic ones.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, RectifiedFlow

from .libraries import Options, arguments_of, global_noise_from, library, require_known

_NO_STEP_TO_ZERO = ("HeunSampler", "ItoSampler", "zEABSampler", "xEABSampler", "REABSampler")


@dataclass(frozen=True, eq=False)
class _Posterior:
    """The output of a denoiser in azula; its samplers read the mean."""

    mean: Batch


@dataclass(frozen=True)
class _Denoiser:
    """Our denoiser with azula's interface."""

    denoiser: Denoiser

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.denoiser.schedule.alpha(t), self.denoiser.schedule.sigma(t)

    def __call__(self, x_t: Batch, t: Tensor) -> _Posterior:
        return _Posterior(self.denoiser(x_t, t))


def names() -> tuple[str, ...]:
    """The samplers that the installed azula has. Raises InputError where it is not installed."""
    sample = library("azula.sample", "azula")
    exported = (getattr(sample, name) for name in sample.__all__)
    return tuple(sampler.__name__ for sampler in exported if _is_sampler(sampler, sample))


def target(name: str, options: Options) -> Target:
    """The azula sampler `name` with constructor `options`; the grid options belong to the caller.

    Raises InputError where azula is absent, has no such sampler, or the sampler no such option.
    """
    sample = library("azula.sample", "azula")
    sampler: Any = getattr(sample, name, None)
    if not _is_sampler(sampler, sample):
        raise InputError(f"target: azula has no sampler {name!r}; expected one of {', '.join(names())}")
    settings = {key: value for key, value in arguments_of(sampler.__init__).items() if key != "denoiser"}
    require_known(options, set(settings), f"azula:{name}")
    settings.update(options)

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        if name in _NO_STEP_TO_ZERO and float(denoiser.schedule.sigma(times[-1])) == 0:
            raise InputError(f"times: azula:{name} has no step to sigma = 0; expected sigma(times[-1]) > 0")
        on_our_times = type(name, (sampler,), {"timesteps": times.double().to(x_start.device)})
        with torch.no_grad(), global_noise_from(generator, x_start.device):
            return on_our_times(_Denoiser(denoiser), silent=True, **options)(x_start)

    return Target(
        name=f"azula:{name}",
        run=run,
        order=_order(name, settings),
        stochastic=_stochastic(name, settings),
        nfe_per_step=_nfe_per_step(name, settings),
        schedules=(VE(), VP(), RectifiedFlow()),
        starts_at_zero_snr=False,
    )


def _is_sampler(exported: Any, sample: Any) -> bool:
    return inspect.isclass(exported) and issubclass(exported, sample.Sampler) and exported is not sample.Sampler


def _order(name: str, settings: dict[str, Any]) -> int | None:
    if "order" in settings:
        return int(settings["order"])
    if _stochastic(name, settings):
        return None
    return {"DDIMSampler": 1, "EulerSampler": 1, "HeunSampler": 2}.get(name)


def _stochastic(name: str, settings: dict[str, Any]) -> bool:
    if name == "PCSampler":
        return settings["corrections"] > 0 and settings["delta"] > 0
    return name == "DDPMSampler" or (name in ("DDIMSampler", "ItoSampler") and settings["eta"] > 0)


def _nfe_per_step(name: str, settings: dict[str, Any]) -> int:
    if name == "PCSampler":
        return 1 + settings["corrections"]
    return 2 if name == "HeunSampler" else 1

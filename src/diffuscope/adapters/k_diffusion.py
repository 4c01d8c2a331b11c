r"""k-diffusion's samplers (https://github.com/crowsonkb/k-diffusion) as targets: `k_diffusion:sample_dpmpp_2m`.

k-diffusion has variance-exploding states, :math:`y = x/\alpha` at noise :math:`\sigma/\alpha`, and expects
`model(y, sigma) -> D`. Other schedules are run through :math:`x = \alpha y`, which needs alpha > 0. A sampler takes one
step from each given level to the next and none after the last; a last step to 0 is by its own formula.
`sample_dpm_fast` and `sample_dpm_adaptive` choose their own levels and are not offered; `log_likelihood` is no sampler.

Levels are cast to the dtype of the state, as the library's own callers do. A sampler with an argument `noise_sampler`
gets one of the same distribution as its default, a Brownian motion over the levels drawn from our generator; the others
draw from torch's global generator, seeded from ours.

Declared orders: those of the named method for the deterministic samplers ("Euler steps" 1, "Heun steps" and
"DPM-Solver-2" 2, "2M" 2, the argument `order` of `sample_lms`). For the stochastic ones the library names the order of
a step but no order of convergence, so none is declared. `sample_dpmpp_3m_sde` at eta = 0 converges at order 2 although
its name says 3: its second difference is half of the second derivative that its last coefficient belongs to.

The package imports far more than its samplers need. `k_diffusion.sampling` is loaded alone, with empty modules in place
of the absent ones, and both are removed from `sys.modules` afterwards.
"""

import functools
import importlib
import importlib.util
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import VE

from .libraries import BrownianNoise, Options, arguments_of, global_noise_from, not_installed, require_known

_OWN_LEVELS = ("sample_dpm_fast", "sample_dpm_adaptive")
_OURS = {"extra_args", "callback", "disable", "noise_sampler"}
_ORDERS = {
    "sample_euler": 1,
    "sample_heun": 2,
    "sample_dpm_2": 2,
    "sample_dpmpp_2m": 2,
    # ancestral and SDE samplers at eta = 0
    "sample_euler_ancestral": 1,
    "sample_dpm_2_ancestral": 2,
    "sample_dpmpp_2s_ancestral": 2,
    "sample_dpmpp_sde": 2,
    "sample_dpmpp_2m_sde": 2,
    "sample_dpmpp_3m_sde": 3,
}
_TWO_EVALUATIONS = {
    f"sample_{name}" for name in ("heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde")
}


@dataclass(frozen=True)
class _Model:
    """Our denoiser with k-diffusion's interface: D from y = x/alpha and one noise level per sample."""

    denoiser: Denoiser

    def __call__(self, y: Batch, sigma: Float[Tensor, " batch"]) -> Batch:
        schedule = self.denoiser.schedule
        # the batch has one level; a single time keeps the denoiser's cost and precision
        t = schedule.time_of_noise_to_signal(sigma[0])
        return self.denoiser(y * over_events(schedule.alpha(t), y), t)


def names() -> tuple[str, ...]:
    """The samplers of the installed k-diffusion on given levels. Raises InputError where it is absent."""
    return tuple(name for name in vars(sampling()) if name.startswith("sample_") and name not in _OWN_LEVELS)


def target(name: str, options: Options) -> Target:
    """The k-diffusion function `name` with its keyword `options`.

    Raises InputError where k-diffusion is absent, has no such sampler, or the sampler no such option.
    """
    if name not in names():
        raise InputError(f"target: k_diffusion has no sampler {name!r}; expected one of {', '.join(names())}")
    sampler = getattr(sampling(), name)
    settings: dict[str, Any] = arguments_of(sampler)
    takes_noise = "noise_sampler" in settings
    require_known(options, set(settings) - _OURS, f"k_diffusion:{name}")
    settings.update(options)

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        schedule = denoiser.schedule
        levels = schedule.noise_to_signal(times).to(x_start)
        given = {"noise_sampler": BrownianNoise(x_start, generator)} if takes_noise else {}
        y = x_start / over_events(schedule.alpha(times[0]), x_start)
        with torch.no_grad(), global_noise_from(generator, x_start.device):
            y = sampler(_Model(denoiser), y, levels, extra_args={}, disable=True, **given, **options)
        return y * over_events(schedule.alpha(times[-1]), y)

    # ancestral and SDE samplers by eta, Karras et al.'s by churn
    stochastic = bool(settings.get("eta", 0) or settings.get("s_churn", 0))
    return Target(
        name=f"k_diffusion:{name}",
        run=run,
        order=None if stochastic else settings.get("order", _ORDERS.get(name)),
        stochastic=stochastic,
        nfe_per_step=2 if name in _TWO_EVALUATIONS else 1,
        schedules=(VE(),),
        # these two fail on a single step to 0
        coarsest=2 if name in ("sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde") else 1,
    )


class _Absent(ModuleType):
    """Stands in for a module that is not installed and that the samplers do not use: every name in it is another."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # as in a package, so that modules inside it can be imported

    def __getattr__(self, name: str) -> "_Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")


@functools.cache
def sampling() -> ModuleType:
    """`k_diffusion.sampling`, without the rest of its package."""
    return part("sampling")


def part(name: str) -> ModuleType:
    """The module `name` of k-diffusion and what it needs of it; names of absent packages in it are empty modules."""
    if "k_diffusion" in sys.modules and hasattr(sys.modules["k_diffusion"], name):
        return getattr(sys.modules["k_diffusion"], name)
    spec = importlib.util.find_spec("k_diffusion") if sys.modules.get("k_diffusion", "") is not None else None
    if spec is None or spec.submodule_search_locations is None:
        raise not_installed("k-diffusion", "--no-deps k-diffusion")  # its samplers need none of its dependencies
    before = set(sys.modules)
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    stand_ins = {"k_diffusion": package}
    sys.modules["k_diffusion"] = package
    try:
        return _import_past_absences(f"k_diffusion.{name}", stand_ins)
    finally:
        ours = [name for name in sys.modules if name.split(".")[0] == "k_diffusion" and name not in before]
        for name in [*ours, *stand_ins]:
            sys.modules.pop(name, None)


def _import_past_absences(module: str, stand_ins: dict[str, ModuleType]) -> ModuleType:
    """The imported `module`, with an empty module, added to `stand_ins`, for each absent one that it imports."""
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or error.name in stand_ins or error.name.startswith("k_diffusion"):
                raise InputError(f"target: importing {module} failed with {error}") from error
            stand_ins[error.name] = sys.modules[error.name] = _Absent(error.name)

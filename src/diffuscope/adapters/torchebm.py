r"""torchebm's sampler of flows and diffusions (https://github.com/soran-ghaderi/torchebm) as a target:
`torchebm:FlowSampler?integrator=heun&interpolant=vp&prediction=score&mode=sde`.

Its time runs from noise at 0 to data at 1: it is 1 - t in ours. Its interpolants are our schedules, `linear` the
rectified flow and `vp` VP(0.1, 20). The model answers as a velocity :math:`-(\dot\alpha D + \dot\sigma\varepsilon)`, a
score or a noise, and the sampler makes the drift of it by its own formulas. Its grid is equal steps of its time; a
subclass replaces it by ours, and in `sde` mode omits the additional last step (`last_step=None`).

Offered are the fixed-step integrators; adaptive ones choose steps of their own. All but `euler` and `midpoint` evaluate
at the end of a step and have none to sigma = 0 (InputError); nor has `sde` mode, which would add noise there. A
predicted noise is divided by sigma - 1e-8, so that errors below 1e-6 are its rounding.

Declared orders are those of the named methods, none in `sde` mode.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser, denoised_to_noise
from diffuscope.errors import InputError
from diffuscope.schedules import VP, RectifiedFlow, Schedule

from .libraries import Options, library, require_known, velocity

# integrator: order, evaluations per step
_INTEGRATORS = {
    "euler": (1, 1),
    "euler_maruyama": (1, 1),
    "heun": (2, 2),
    "midpoint": (2, 2),
    "rk4": (4, 4),
    "rk438": (4, 4),
}
_SCHEDULES: dict[str, Schedule] = {"linear": RectifiedFlow(), "vp": VP()}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "integrator": tuple(_INTEGRATORS),
    "interpolant": tuple(_SCHEDULES),
    "prediction": ("velocity", "score", "noise"),
    "mode": ("ode", "sde"),
    "diffusion_form": ("SBDM", "constant", "sigma", "linear", "decreasing", "increasing-decreasing"),
}


def names() -> tuple[str, ...]:
    """The one sampler. Raises InputError where torchebm is not installed."""
    library("torchebm.samplers", "torchebm")
    return ("FlowSampler",)


def target(name: str, options: Options) -> Target:
    """torchebm's `FlowSampler` by a fixed-step `integrator`, in a choice of interpolant, prediction and mode.

    Raises InputError where torchebm is absent, for another name, other options and other values of them.
    """
    sampler: Any = library("torchebm.samplers", "torchebm").FlowSampler
    if name not in names():
        raise InputError(f"target: torchebm has no sampler {name!r}; expected FlowSampler")
    require_known(options, set(_OPTIONS), f"torchebm:{name}")
    for option, value in options.items():
        if value not in _OPTIONS[option]:
            expected = ", ".join(_OPTIONS[option])
            raise InputError(f"target: torchebm:{name}: expected {option} {expected}, got {value!r}")
    settings: dict[str, Any] = {"integrator": "euler", "interpolant": "linear", "prediction": "velocity", "mode": "ode"}
    settings.update(options)
    stochastic = settings["mode"] == "sde"
    if stochastic:
        settings["last_step"] = None
    order, evaluations = _INTEGRATORS[settings["integrator"]]
    ends_at_zero = not stochastic and settings["integrator"] in ("euler", "euler_maruyama", "midpoint")

    class OnOurTimes(sampler):
        grid: Tensor

        def _grid_and_drift(self, drift_fn: Any, n_steps: int) -> tuple[Any, Tensor, Tensor]:  # noqa: ARG002
            return drift_fn, self.grid, self.grid

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        if float(denoiser.schedule.sigma(times[-1])) == 0 and not ends_at_zero:
            raise InputError(f"times: torchebm:{name} has no step to sigma = 0 here; expected sigma(times[-1]) > 0")
        own = OnOurTimes(
            _Model(denoiser, settings["prediction"]), dtype=torch.float64, device=x_start.device, **settings
        )
        own.grid = 1 - times.double().to(x_start.device)
        return own.sample(x_start.double(), n_steps=len(times) - 1, generator=generator).to(x_start.dtype)

    return Target(
        name=f"torchebm:{name}",
        run=run,
        order=None if stochastic else order,
        stochastic=stochastic,
        nfe_per_step=None if stochastic else evaluations,
        schedules=(_SCHEDULES[settings["interpolant"]],),
        floor=1e-6 if settings["prediction"] == "noise" else 1e-12,
    )


class _Model(torch.nn.Module):
    """Our denoiser with torchebm's interface: a velocity, score or noise at its time, equal for the whole batch."""

    def __init__(self, denoiser: Denoiser, prediction: str) -> None:
        super().__init__()
        self.denoiser, self.prediction = denoiser, prediction

    def forward(self, x: Batch, their_time: Float[Tensor, " batch"]) -> Batch:
        t = 1 - their_time[0]
        if self.prediction == "velocity":
            return -velocity(self.denoiser, x, t)
        noise = denoised_to_noise(x, self.denoiser(x, t), self.denoiser.schedule, t)
        return noise if self.prediction == "noise" else -noise / self.denoiser.schedule.sigma(t)

r"""deepinv's solvers of diffusion SDEs (https://github.com/deepinv/deepinv) as targets:
`deepinv:HeunSolver?alpha=1&process=VariancePreservingDiffusion`.

deepinv writes the kernel as :math:`N(s(t)x, s(t)^2\sigma(t)^2 I)`: s is our alpha and its sigma our sigma/alpha, with t
increasing from data to noise, as we do. A solver walks `timesteps`, which are ours, through

.. math::
    dx = \Big(\frac{\dot s}{s}x - (1 + a)s^2\sigma\dot\sigma\nabla\log p_t\Big)dt + s\sqrt{2a\sigma\dot\sigma}\,dw ,

a = `alpha`: 0 (our default) is the probability flow, 1 the reverse SDE. The process is `EDMDiffusionSDE` on any of our
schedules, or one with the library's own s, sigma and derivatives: `VariancePreservingDiffusion` is our VP(0.1, 20),
`FlowMatching` our rectified flow. DDPMSolver and DDIMSolver set the noise of the step themselves (`eta`).

The library calls its denoiser in float32, and so ours: errors below 1e-5 are its rounding. At sigma = 0 `HeunSolver`
evaluates the score and divides by 0, and the stochastic `EulerSolver` would add noise there (InputError).
Every process starts at alpha > 0.

Declared orders are those of the named methods, Euler and DDIM 1, Heun 2; none for stochastic ones.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

from .libraries import Options, arguments_of, library, require_known

_SOLVERS = ("EulerSolver", "HeunSolver", "AncestralSolver", "DDPMSolver", "DDIMSolver")
_PROCESSES: dict[str, tuple[Schedule, ...]] = {
    "EDMDiffusionSDE": (VE(), VP(), RectifiedFlow()),
    "VariancePreservingDiffusion": (VP(),),
    "FlowMatching": (RectifiedFlow(),),
}


def names() -> tuple[str, ...]:
    """The solvers that the installed deepinv has. Raises InputError where it is not installed."""
    sampling = library("deepinv.sampling", "deepinv")
    return tuple(name for name in _SOLVERS if hasattr(sampling, name))


def target(name: str, options: Options) -> Target:
    """The deepinv solver `name` with its options, and `alpha` and `process` of the equation.

    Raises InputError where deepinv is absent, has no such solver, or the solver no such option.
    """
    if name not in names():
        raise InputError(f"target: deepinv has no solver {name!r}; expected one of {', '.join(names())}")
    sampling = library("deepinv.sampling", "deepinv")
    solver = getattr(sampling, name)
    own = {key: value for key, value in arguments_of(solver.__init__).items() if key in ("eta", "variance")}
    require_known(options, {*own, "alpha", "process"}, f"deepinv:{name}")
    process, alpha = str(options.get("process", "EDMDiffusionSDE")), float(options.get("alpha") or 0)
    if process not in _PROCESSES:
        raise InputError(f"target: deepinv:{name}: expected process {', '.join(_PROCESSES)}, got {process!r}")
    of_solver = {key: value for key, value in options.items() if key in own}
    stochastic = _stochastic(name, alpha, {**own, **of_solver})

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        no_last_step = name == "HeunSolver" or (name == "EulerSolver" and stochastic)
        if no_last_step and float(denoiser.schedule.sigma(times[-1])) == 0:
            raise InputError(f"times: deepinv:{name} has no step to sigma = 0; expected sigma(times[-1]) > 0")
        equation = {} if process != "EDMDiffusionSDE" else _of_schedule(denoiser.schedule)
        sde = getattr(sampling, process)(**equation, alpha=alpha, denoiser=_Model(denoiser), device=x_start.device)
        sde.denoiser = _Model(denoiser)  # without the change of range between [0, 1] and [-1, 1]
        walk = solver(timesteps=times.double(), rng=generator, **of_solver)
        return walk.sample(sde, x_start.double()).sample.to(x_start.dtype)

    return Target(
        name=f"deepinv:{name}",
        run=run,
        order=None if stochastic else {"HeunSolver": 2}.get(name, 1),
        stochastic=stochastic,
        nfe_per_step=2 if name == "HeunSolver" else 1,
        schedules=_PROCESSES[process],
        floor=1e-5,
        starts_at_zero_snr=False,
    )


class _Model(torch.nn.Module):
    """Our denoiser with deepinv's interface: D from y = x/alpha and sigma/alpha."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, y: Batch, sigma: Float[Tensor, ""]) -> Batch:
        schedule, y = self.denoiser.schedule, y.double()
        t = schedule.time_of_noise_to_signal(sigma.double())
        return self.denoiser(y * over_events(schedule.alpha(t), y), t)


def _of_schedule(schedule: Schedule) -> dict[str, Any]:
    """The functions s and sigma of time with their derivatives."""

    def sigma_prime(t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return (schedule.sigma_dot(t) * alpha - sigma * schedule.alpha_dot(t)) / alpha**2

    return {
        "sigma_t": schedule.noise_to_signal,
        "scale_t": schedule.alpha,
        "sigma_prime_t": sigma_prime,
        "scale_prime_t": schedule.alpha_dot,
    }


def _stochastic(name: str, alpha: float, settings: dict[str, Any]) -> bool:
    """Whether the solver draws noise: by its own eta where it has one, else by the alpha of the equation."""
    if name == "DDPMSolver":
        return True
    eta = settings.get("eta")
    return alpha > 0 if eta is None else float(eta) > 0

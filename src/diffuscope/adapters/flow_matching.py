r"""flow_matching's ODE solver (https://github.com/facebookresearch/flow_matching) as a target:
`flow_matching:ODESolver?method=midpoint`.

Its time runs from noise at 0 to data at 1, ours from data at t = 0 to noise at 1, so that its time is 1 - t and its
velocity

.. math::  u = -(\dot\alpha_t D + \dot\sigma_t \varepsilon), \qquad \varepsilon = (x - \alpha_t D)/\sigma_t .

`time_grid` takes our times as they are: torchdiffeq's fixed-step methods then step from each to the next. Its adaptive
methods choose steps of their own and are not offered, nor are its Adams methods, whose order varies. At sigma = 0 the
velocity divides by 0; `euler` and `midpoint` never evaluate it at the end of a step, and the others raise InputError.

Declared orders are those of the named methods in torchdiffeq's documentation (euler 1, midpoint and heun2 2, heun3 3,
rk4 4, by the 3/8 rule).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import VP, RectifiedFlow

from .libraries import Options, library, require_known, velocity

# method: order, evaluations per step
_METHODS = {"euler": (1, 1), "midpoint": (2, 2), "heun2": (2, 2), "heun3": (3, 3), "rk4": (4, 4)}


def names() -> tuple[str, ...]:
    """The one solver. Raises InputError where flow_matching is not installed."""
    library("flow_matching.solver", "flow_matching")
    return ("ODESolver",)


def target(name: str, options: Options) -> Target:
    """flow_matching's `ODESolver` by a fixed-step `method` (euler by default).

    Raises InputError where flow_matching is absent, for another name, other options and adaptive methods.
    """
    solver = library("flow_matching.solver", "flow_matching").ODESolver
    if name not in names():
        raise InputError(f"target: flow_matching has no sampler {name!r}; expected ODESolver")
    require_known(options, {"method"}, f"flow_matching:{name}")
    method = str(options.get("method", "euler"))
    if method not in _METHODS:
        raise InputError(f"target: flow_matching:{name}: expected method {', '.join(_METHODS)}, got {method!r}")
    order, evaluations = _METHODS[method]

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        del generator
        if method not in ("euler", "midpoint") and float(denoiser.schedule.sigma(times[-1])) == 0:
            raise InputError(f"times: flow_matching:{method} has no step to sigma = 0; expected sigma(times[-1]) > 0")

        def forward(x: Batch, t: Float[Tensor, ""]) -> Batch:
            return -velocity(denoiser, x, 1 - t)

        grid = 1 - times.double()
        return solver(forward).sample(x_start.double(), step_size=None, method=method, time_grid=grid).to(x_start.dtype)

    return Target(
        name=f"flow_matching:{name}",
        run=run,
        order=order,
        stochastic=False,
        nfe_per_step=evaluations,
        schedules=(RectifiedFlow(), VP()),
    )

"""Where smalldiffusion, deepinv, flow_matching or torchebm are absent: their samplers by their published formulas.

smalldiffusion: DDIM and its family; deepinv: the equation of a process by Euler and Heun; flow_matching and torchebm:
Runge-Kutta methods in a time that runs from noise to data.
"""

import importlib.util
import sys
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]


def samples(
    model: Any,
    sigmas: Tensor,
    gam=1.0,
    mu=0.0,
    cond=None,
    cfg_scale=0.0,
    batchsize=1,
    xt: Any = None,
    accelerator: Any = None,
):
    """arXiv:2306.04848: noise averaged with that of the step before, and drawn to mu."""
    assert batchsize == 1
    assert accelerator.device == xt.device
    eps: Any = None
    for level, following in pairwise(sigmas):
        before, eps = eps, model.eval().predict_eps_cfg(xt, level, cond, cfg_scale)
        average = eps if before is None else gam * eps + (1 - gam) * before
        down = (following / level**mu) ** (1 / (1 - mu))
        xt = xt - (level - down) * average + (following**2 - down**2).sqrt() * model.rand_input(len(xt))
        yield xt


# deepinv: dx = (s'/s x - (1 + a) s^2 sigma sigma' score) dt + s sqrt(2 a sigma sigma') dw, from noise to data


class EDMDiffusionSDE:
    def __init__(
        self,
        sigma_t: Any = None,
        scale_t: Any = None,
        sigma_prime_t: Any = None,
        scale_prime_t: Any = None,
        alpha=0.0,
        denoiser: Any = None,
        device=None,
    ):
        self.sigma_t, self.scale_t, self.sigma_prime_t, self.scale_prime_t = (
            sigma_t,
            scale_t,
            sigma_prime_t,
            scale_prime_t,
        )
        self.alpha, self.denoiser = alpha, denoiser
        assert device == torch.device("cpu")

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        s, sigma = self.scale_t(t), self.sigma_t(t)
        minus_score = (x / s - self.denoiser((x / s).float(), sigma.float())) / (s * sigma**2)
        forward = self.scale_prime_t(t) / s * x
        return forward + (1 + self.alpha) * s**2 * sigma * self.sigma_prime_t(t) * minus_score

    def diffusion(self, t: Tensor) -> Tensor:
        return self.scale_t(t) * (2 * self.alpha * self.sigma_t(t) * self.sigma_prime_t(t)).sqrt()


class VariancePreservingDiffusion(EDMDiffusionSDE):
    """beta from 0.1 to 20."""

    def __init__(self, alpha=0.0, denoiser=None, device=None):
        exponent = lambda t: 0.1 * t + 19.9 * t**2 / 2  # noqa: E731
        scale = lambda t: (-exponent(t) / 2).exp()  # noqa: E731
        sigma = lambda t: exponent(t).expm1().sqrt()  # noqa: E731
        beta = lambda t: 0.1 + 19.9 * t  # noqa: E731
        sigma_prime = lambda t: exponent(t).exp() * beta(t) / (2 * sigma(t))  # noqa: E731
        super().__init__(sigma, scale, sigma_prime, lambda t: -beta(t) / 2 * scale(t), alpha, denoiser, device)


class FlowMatching(EDMDiffusionSDE):
    def __init__(self, alpha=0.0, denoiser=None, device=None):
        super().__init__(
            lambda t: t / (1 - t), lambda t: 1 - t, lambda t: 1 / (1 - t) ** 2, lambda t: -torch.ones_like(t), alpha,
            denoiser, device,
        )  # fmt: skip


class EulerSolver:
    twice = False

    def __init__(self, timesteps: Tensor, rng: torch.Generator | None = None):
        self.timesteps, self.rng = timesteps, rng

    def sample(self, sde: Any, x: Tensor) -> SimpleNamespace:
        for t, s in pairwise(self.timesteps):
            x = self.step(sde, x, t, s)
        return SimpleNamespace(sample=x)

    def noise(self, sde: Any, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        if not sde.alpha:
            return torch.zeros_like(x)
        return sde.diffusion(t) * (t - s).sqrt() * torch.randn(x.shape, generator=self.rng, dtype=x.dtype)

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return x + (s - t) * sde.drift(x, t) + self.noise(sde, x, t, s)


class HeunSolver(EulerSolver):
    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        slope, noise = sde.drift(x, t), self.noise(sde, x, t, s)
        return x + (s - t) * (slope + sde.drift(x + (s - t) * slope + noise, s)) / 2 + noise


class DDIMSolver(EulerSolver):
    """arXiv:2010.02502, eq. 12, at the noise `eta`."""

    def __init__(self, timesteps: Tensor, rng: torch.Generator | None = None, eta=0.0):
        super().__init__(timesteps, rng)
        self.eta = eta

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        y, high, low = x / sde.scale_t(t), sde.sigma_t(t), sde.sigma_t(s)
        clean = sde.denoiser(y.float(), high.float())
        fresh = self.eta * low * (1 - (low / high) ** 2).sqrt()
        noise = torch.randn(x.shape, generator=self.rng, dtype=x.dtype) if self.eta else torch.zeros_like(x)
        y = clean + (low**2 - fresh**2).sqrt() * (y - clean) / high + fresh * noise
        return sde.scale_t(s) * y


class DDPMSolver(DDIMSolver):
    def __init__(self, timesteps: Tensor, rng: torch.Generator | None = None):
        super().__init__(timesteps, rng, 1.0)


class AncestralSolver(DDIMSolver):
    def __init__(self, timesteps: Tensor, rng: torch.Generator | None = None):
        super().__init__(timesteps, rng)

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        self.eta = sde.alpha
        return super().step(sde, x, t, s)


# Runge-Kutta methods of flow_matching and torchebm: nodes, rows and weights

TABLEAUS: dict[str, tuple[tuple[float, ...], list[list[float]], list[float]]] = {
    "euler": ((0,), [[]], [1]),
    "euler_maruyama": ((0,), [[]], [1]),
    "midpoint": ((0, 1 / 2), [[], [1 / 2]], [0, 1]),
    "heun": ((0, 1), [[], [1]], [1 / 2, 1 / 2]),
    "heun2": ((0, 1), [[], [1]], [1 / 2, 1 / 2]),
    "heun3": ((0, 1 / 3, 2 / 3), [[], [1 / 3], [0, 2 / 3]], [1 / 4, 0, 3 / 4]),
    "rk4": ((0, 1 / 2, 1 / 2, 1), [[], [1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    "rk438": ((0, 1 / 3, 2 / 3, 1), [[], [1 / 3], [-1 / 3, 1], [1, -1, 1]], [1 / 8, 3 / 8, 3 / 8, 1 / 8]),
}


def runge_kutta(method: str, slope: Velocity, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    nodes, rows, weights = TABLEAUS[method]
    slopes: list[Tensor] = []
    for node, row in zip(nodes, rows, strict=True):
        slopes.append(slope(x + h * sum((a * k for a, k in zip(row, slopes, strict=True)), 0 * x), t + node * h))
    return x + h * sum(b * k for b, k in zip(weights, slopes, strict=True) if b)


class ODESolver:
    def __init__(self, velocity_model: Velocity):
        self.velocity = velocity_model

    def sample(self, x_init: Tensor, step_size: None, method: str, time_grid: Tensor) -> Tensor:
        assert step_size is None
        for t, s in pairwise(time_grid):
            x_init = runge_kutta(method, self.velocity, x_init, t, s - t)
        return x_init


class FlowSampler:
    """Its time is 1 - t, whose velocity is -(alpha' D + sigma' eps)."""

    def __init__(
        self, model, integrator="dopri5", interpolant="linear", prediction="velocity", mode="ode", dtype=None,
        device=None, diffusion_form="SBDM", last_step="mean",
    ):  # fmt: skip
        assert dtype == torch.float64
        assert device == torch.device("cpu")
        assert diffusion_form == "SBDM"
        assert last_step == (None if mode == "sde" else "mean")
        self.model, self.integrator, self.prediction, self.sde = model, integrator, prediction, mode == "sde"
        self.linear = interpolant == "linear"

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma and their derivatives, in the time that runs from data to noise."""
        if self.linear:
            return 1 - t, t, -torch.ones_like(t), torch.ones_like(t)
        beta, exponent = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
        alpha = (-exponent / 2).exp()
        sigma = (1 - alpha**2).sqrt()
        return alpha, sigma, -beta / 2 * alpha, beta / 2 * alpha**2 / sigma

    def _noise(self, x: Tensor, u: Tensor) -> Tensor:
        """The predicted noise at their time u."""
        alpha, sigma, alpha_dot, sigma_dot = self._scales(1 - u)
        answer = self.model(x, u.expand(len(x)))
        if self.prediction == "velocity":  # of v = -(alpha' D + sigma' eps), D = (x - sigma eps) / alpha
            return -(answer + alpha_dot / alpha * x) / (sigma_dot - alpha_dot * sigma / alpha)
        return answer if self.prediction == "noise" else -sigma * answer

    def _drift(self, x: Tensor, u: Tensor) -> Tensor:
        if self.prediction == "velocity" and not self.sde:
            return self.model(x, u.expand(len(x)))
        alpha, sigma, alpha_dot, sigma_dot = self._scales(1 - u)
        noise = self._noise(x, u)
        flow = -(alpha_dot / alpha * (x - sigma * noise) + sigma_dot * noise)
        return flow - self._rate(u) / 2 * noise / sigma if self.sde else flow

    def _rate(self, u: Tensor) -> Tensor:
        """The square of the reverse SDE's diffusion."""
        alpha, sigma, alpha_dot, sigma_dot = self._scales(1 - u)
        return 2 * sigma * (sigma_dot - alpha_dot / alpha * sigma)

    def _grid_and_drift(self, drift_fn: Any, n_steps: int) -> tuple[Any, Tensor, Tensor]:
        grid = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)
        return drift_fn, grid, grid

    def sample(self, x: Tensor, n_steps: int, generator: torch.Generator | None) -> Tensor:
        drift, grid, _ = self._grid_and_drift(self._drift, n_steps)
        assert len(grid) == n_steps + 1
        for u, v in pairwise(grid):
            moved = runge_kutta(self.integrator, drift, x, u, v - u)
            if self.sde:
                noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                moved = moved + (self._rate(u) * (v - u)).sqrt() * noise
            x = moved
        return x


MODULES: dict[str, dict[str, dict[str, Any]]] = {
    "smalldiffusion": {"smalldiffusion": {"samples": samples}},
    "deepinv": {
        "deepinv.sampling": {
            kind.__name__: kind
            for kind in (
                EDMDiffusionSDE,
                VariancePreservingDiffusion,
                FlowMatching,
                EulerSolver,
                HeunSolver,
                DDIMSolver,
                DDPMSolver,
                AncestralSolver,
            )
        }
    },
    "flow_matching": {"flow_matching.solver": {"ODESolver": ODESolver}},
    "torchebm": {"torchebm.samplers": {"FlowSampler": FlowSampler}},
}


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import` finds these where a library is not installed."""
    for library, modules in MODULES.items():
        if importlib.util.find_spec(library) is None:
            for name, content in modules.items():
                module = ModuleType(name)
                module.__dict__.update(content)
                monkeypatch.setitem(sys.modules, name, module)

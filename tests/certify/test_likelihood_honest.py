r"""Sound likelihoods pass: exact, ODE with either probe, float32, and the algorithms of k-diffusion and flow_matching.

The two packages are used where they are installed (`pip install --no-deps k-diffusion flow_matching torchdiffeq`);
otherwise their algorithms, with SciPy's Dormand-Prince method at their tolerances. With y = x/alpha and one probe v of
random signs, k-diffusion's integrates

.. math::  dy/d\rho = (y - D)/\rho, \qquad d\ell/d\rho = v^T \frac{\partial}{\partial y}\frac{y - D}{\rho} v,
           \qquad \log p(y) = \ell + \log N(y_T; 0, \rho_T^2),

and flow_matching's the same of the velocity of rectified flow, from data at u = 1 to N(0, I) at u = 0.
"""

import importlib.util
import math

import pytest
import torch
from likelihood_targets import END, OdeLikelihood, exact, normal
from scipy.integrate import solve_ivp

from diffuscope.adapters.k_diffusion import sampling
from diffuscope.certify import LikelihoodCertificate, certify_likelihood
from diffuscope.densities.likelihood import log_likelihood
from diffuscope.schedules import RectifiedFlow


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in (*names, "torchdiffeq"))


def standard_normal(x):
    return -(x.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2


def with_probe(velocity, x_t, v, start, end, tolerance):
    """Where dx/ds = velocity(x, s) leads from `start` to `end`, and the integral of v^T (d velocity/dx) v."""
    shape, rows = x_t.shape, len(x_t)

    def slope(s, flat):
        state = torch.from_numpy(flat).to(x_t.dtype)
        with torch.enable_grad():
            x = state[:-rows].reshape(shape).requires_grad_()
            value = velocity(x, s)
            (gradient,) = torch.autograd.grad((value * v).sum(), x)
        return torch.cat([value.detach().flatten(), (gradient * v).flatten(1).sum(1)]).double().numpy()

    first = torch.cat([x_t.flatten(), x_t.new_zeros(rows)]).double().numpy()
    solved = solve_ivp(slope, (start, end), first, rtol=tolerance, atol=tolerance, method="RK45")
    last = torch.from_numpy(solved.y[:, -1])
    return last[:-rows].reshape(shape), last[-rows:]


def k_diffusion(denoiser, x_t, t, generator):
    """`k_diffusion.sampling.log_likelihood` from sigma/alpha to 1e4, where N(0, sigma^2) is right to 1e-4 nats."""
    schedule, d = denoiser.schedule, math.prod(x_t.shape[1:])
    y, ratio, alpha = x_t / schedule.alpha(t), float(schedule.noise_to_signal(t)), float(schedule.alpha(t))

    def model(y, sigma):
        return denoiser.distribution.denoise(y, 1.0, sigma)

    if installed("k_diffusion"):
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            value, _ = sampling().log_likelihood(lambda y, s: model(y, s[0]), y.to(x_t), ratio, END)
    else:
        v = normal(y, generator).sign()
        end, total = with_probe(lambda y, s: (y - model(y, s)) / s, y, v, ratio, END, 1e-4)
        value = total + standard_normal(end / END) - d * math.log(END)
    return value - d * math.log(alpha)


def flow_matching(denoiser, x_t, t, generator):
    """`ODESolver.compute_likelihood` from the level of t, in the states x / (alpha + sigma) of rectified flow."""
    schedule, d = denoiser.schedule, math.prod(x_t.shape[1:])
    scale = float(schedule.alpha(t) + schedule.sigma(t))
    first = float(schedule.sigma(t)) / scale

    def velocity(x, u):
        tau = min(1.0, 1 - float(u) * (1 - first))  # the noise level of rectified flow, `first` at u = 1
        denoised = denoiser.distribution.denoise(x, 1 - tau, tau)
        return (1 - first) * (denoised - x) / tau

    x = (x_t / scale).to(x_t.dtype)
    if installed("flow_matching"):
        from flow_matching.solver import ODESolver  # pyright: ignore[reportMissingImports]

        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            solver = ODESolver(lambda x, t: velocity(x, t))
            _, value = solver.compute_likelihood(x, standard_normal, None, "dopri5", atol=1e-5, rtol=1e-5)
    else:
        end, total = with_probe(velocity, x, normal(x, generator).sign(), 1.0, 0.0, 1e-5)
        value = standard_normal(end) + total
    return value - d * math.log(scale)


def ode_in_float32(denoiser, x_t, t, generator):  # noqa: ARG001
    return log_likelihood(denoiser, x_t.float(), t).log_prob


HONEST = {
    "exact": exact,
    "float32": ode_in_float32,
    "rademacher": OdeLikelihood(64, divergence="rademacher"),
    "gaussian": OdeLikelihood(64, divergence="normal"),
    "k-diffusion": k_diffusion,
    "flow_matching": flow_matching,
}


def test_rectified_flow_is_the_flow_of_the_last_target():
    """So that its states need no other change than their scale: alpha + sigma = 1."""
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    assert torch.allclose(RectifiedFlow().alpha(t) + RectifiedFlow().sigma(t), torch.ones_like(t))


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_a_sound_likelihood_passes(name: str):
    found = certify_likelihood(HONEST[name], budget=400.0)
    assert LikelihoodCertificate(name, found).passed, [f.verdict for f in found if f.tone in ("alarm", "unknown")]

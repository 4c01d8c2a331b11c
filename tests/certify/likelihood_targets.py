r"""Likelihoods for the tests of the certifier: sound ones, and ones with a planted fault.

`OdeLikelihood` integrates the probability flow of y = x/alpha in l = log(sigma/alpha), with the divergence along it,

.. math::
    dy/dl = y - D, \qquad \log p(y) = \log N(y_T; 0, \rho_T^2) + \int_l^{l_T} (d - \operatorname{div} D)\, dl', \qquad
    \log p_t(x_t) = \log p(y) - d \log\alpha,

by the classical Runge-Kutta method of order 4; its options are the places where implementations go wrong.
"""

import math
from dataclasses import dataclass

import torch

from diffuscope.schedules import VP, RectifiedFlow

END = 1e4  # sigma/alpha where the noised distribution is N(0, sigma^2) to 1e-4 nats


def exact(denoiser, x_t, t, generator):  # noqa: ARG001
    schedule = denoiser.schedule
    return denoiser.distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))


def normal(like, generator):
    return torch.randn(like.shape, dtype=torch.float64, generator=generator)


def probe_noise(x_t, generator, size):
    """The error of a Gaussian probe of a divergence: chi-squared, skewed, of mean 0."""
    return size * (normal(x_t, generator).square() - 1).flatten(1).sum(1)


@dataclass(frozen=True)
class OdeLikelihood:
    """The log-density by the probability flow; the defaults are right."""

    steps: int = 100
    base: str = "end"  # or "unit": the standard deviation 1 in every schedule; "squared": sigma squared
    divergence_sign: float = 1.0
    drift: float = 1.0
    log_alpha: bool = True
    divergence: str = "exact"  # or "rademacher", "normal", "shared", "differences" in float32
    batch_mean: bool = False

    def __call__(self, denoiser, x_t, t, generator):
        schedule, d = denoiser.schedule, math.prod(x_t.shape[1:])
        alpha, ratio = float(schedule.alpha(t)), float(schedule.noise_to_signal(t))
        end = END if self.base == "end" else min(END, float(schedule.noise_to_signal(schedule.t_max)))
        draw = {"rademacher": lambda: normal(x_t, generator).sign(), "normal": lambda: normal(x_t, generator)}
        probe = draw[self.divergence]() if self.divergence in draw else None

        def slope(y, level):
            rho = math.exp(level)
            denoised, divergence = self._denoised(denoiser, y, rho, probe)
            return self.drift * (y - denoised), self.drift * (d - divergence)

        y, total, level = x_t / alpha, torch.zeros(len(x_t), dtype=x_t.dtype), math.log(ratio)
        h = (math.log(end) - level) / self.steps
        for _ in range(self.steps):
            slopes, at = [slope(y, level)], (0.5, 0.5, 1.0)
            for part in at:
                slopes.append(slope(y + part * h * slopes[-1][0], level + part * h))
            y, total = (
                value + h / 6 * (a + 2 * b + 2 * c + e)
                for value, (a, b, c, e) in zip((y, total), zip(*slopes, strict=True), strict=True)
            )
            level += h
        if self.batch_mean:
            total = total.mean().expand_as(total)
        spread = {"end": end, "unit": 1.0, "squared": end**2}[self.base]
        base = -(y / spread).square().flatten(1).sum(1) / 2 - d * (math.log(spread) + math.log(2 * math.pi) / 2)
        return base + self.divergence_sign * total - (d * math.log(alpha) if self.log_alpha else 0)

    def _denoised(self, denoiser, y, rho, probe):
        """D(y) at sigma/alpha = rho, and its divergence."""
        distribution = denoiser.distribution
        if self.divergence == "exact":
            divergence = distribution.posterior_covariance(y, 1.0, rho).trace() / rho**2
            return distribution.denoise(y, 1.0, rho), divergence
        if self.divergence == "differences":
            step, y_32 = 1e-6, y.float()
            denoised = distribution.denoise(y_32, 1.0, rho)
            shifts = step * torch.eye(y.shape[1], dtype=torch.float32)
            moved = [distribution.denoise(y_32 + shift, 1.0, rho)[:, k] for k, shift in enumerate(shifts)]
            return denoised.double(), torch.stack([(m - denoised[:, k]) / step for k, m in enumerate(moved)]).sum(
                0
            ).double()
        with torch.enable_grad():
            at = y.detach().requires_grad_()
            denoised = distribution.denoise(at, 1.0, rho)
            (gradient,) = torch.autograd.grad((denoised * probe).sum(), at)
        return denoised.detach(), (gradient * probe).sum(1)


def below_a_tenth(denoiser, x_t, t, generator):  # noqa: ARG001
    """The density at sigma/alpha = 0.1 for every lower level."""
    alpha = denoiser.schedule.alpha(t)
    return denoiser.distribution.log_prob(x_t, alpha, alpha * denoiser.schedule.noise_to_signal(t).clamp_min(0.1))


def variance_preserving_everywhere(denoiser, x_t, t, generator):
    """sigma = sqrt(1 - alpha^2) also under rectified flow."""
    if not isinstance(denoiser.schedule, RectifiedFlow):
        return exact(denoiser, x_t, t, generator)
    alpha = denoiser.schedule.alpha(t)
    return denoiser.distribution.log_prob(x_t, alpha, (1 - alpha**2).sqrt())


def in_bits(*given):
    return exact(*given) / math.log(2)


def per_dimension(denoiser, x_t, t, generator):
    return exact(denoiser, x_t, t, generator) / x_t.shape[1]


def scaled_variable(denoiser, x_t, t, generator):
    """The density of x/alpha, without d log alpha."""
    return exact(denoiser, x_t, t, generator) + x_t.shape[1] * denoiser.schedule.alpha(t).log()


def far_and_noisy(denoiser, x_t, t, generator):
    """+56 nats with a standard deviation of 246: a standard error of 87 after eight repeats."""
    return exact(denoiser, x_t, t, generator) + 56 + 246 * normal(x_t[:, 0], generator)


def from_the_global_generator(denoiser, x_t, t, generator):
    return exact(denoiser, x_t, t, generator) + 0.01 * torch.randn(len(x_t))


def small_probes(denoiser, x_t, t, generator):
    """Probes of variance 0.9 in place of 1."""
    return exact(denoiser, x_t, t, generator) + probe_noise(x_t, generator, 0.9) - 0.1 * x_t.shape[1]


def coupled_rows(denoiser, x_t, t, generator):
    """The density of a batch of eight, and something else for a single row."""
    return exact(denoiser, x_t, t, generator) + 0.1 * (len(x_t) == 1)


class Remembering:
    """Every call adds a little."""

    def __init__(self):
        self.calls = 0

    def __call__(self, denoiser, x_t, t, generator):
        self.calls += 1
        return exact(denoiser, x_t, t, generator) + 1e-6 * self.calls


def in_eight_bits(denoiser, x_t, t, generator):
    return exact(denoiser, x_t.to(torch.float8_e4m3fn).float() if x_t.dtype == torch.float32 else x_t, t, generator)


def in_place(denoiser, x_t, t, generator):
    values = exact(denoiser, x_t, t, generator)
    x_t /= denoiser.schedule.alpha(t) + 1.0
    return values


def nan_at_high_noise(denoiser, x_t, t, generator):
    values = exact(denoiser, x_t, t, generator)
    return values * (torch.nan if denoiser.schedule.noise_to_signal(t) > 5 else 1)


def vp_only(denoiser, x_t, t, generator):
    if not isinstance(denoiser.schedule, VP):
        raise NotImplementedError("this schedule")
    return exact(denoiser, x_t, t, generator)

"""The reader's own parts, each as simple as can be: a sampler, guidance, a flow map, a likelihood."""

import itertools

from diffuscope.densities import log_likelihood
from diffuscope.times import log_snr_times


def my_sampler(denoiser, x_start, times, generator):
    """Euler's method in sigma / alpha: DDIM."""
    del generator
    x, schedule = x_start, denoiser.schedule
    for t, s in itertools.pairwise(times):
        denoised = denoiser(x, t)
        held = schedule.sigma(s) / schedule.sigma(t)
        x = schedule.alpha(s) * denoised + held * (x - schedule.alpha(t) * denoised)
    return x


my_sampler.order, my_sampler.stochastic, my_sampler.nfe_per_step = 1, False, 1  # pyright: ignore[reportFunctionMemberAccess]


def guide(conditional, unconditional, scale):
    """D_u + scale (D_c - D_u)."""

    def guided(x, t):
        return unconditional(x, t) + scale * (conditional(x, t) - unconditional(x, t))

    return guided


def flow_map(denoiser, x_t, t, s):
    """What a model of one step should answer: the end of many of Euler's."""
    return x_t if t == s else my_sampler(denoiser, x_t, log_snr_times(denoiser.schedule, t, s, 400), None)


def log_density(denoiser, x_t, t, generator):
    del generator
    return log_likelihood(denoiser, x_t, t).log_prob

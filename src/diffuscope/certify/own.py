"""diffuscope's own samplers as targets."""

from diffuscope.certify.target import Target
from diffuscope.samplers import Sampler, sample


def own_target(sampler: Sampler, name: str | None = None) -> Target:
    """`sampler` with what it declares of itself."""
    return Target(
        name or type(sampler).__name__,
        lambda denoiser, x, times, generator: sample(sampler, denoiser, x, times, noise=generator),
        sampler.order,
        sampler.stochastic,
        sampler.nfe_per_step,
    )

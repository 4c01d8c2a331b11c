"""diffuscope's own samplers as targets."""

from diffuscope.certify.target import Target
from diffuscope.samplers import DormandPrince, Sampler, sample


def own_target(sampler: Sampler, name: str | None = None) -> Target:
    """`sampler` with what it declares of itself.

    Under error control the steps are the tolerance's: no order in the number of times is declared.
    """
    return Target(
        name or type(sampler).__name__,
        lambda denoiser, x, times, generator: sample(sampler, denoiser, x, times, noise=generator),
        None if isinstance(sampler, DormandPrince) else sampler.order,
        sampler.stochastic,
        sampler.nfe_per_step,
    )

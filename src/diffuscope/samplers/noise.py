r"""The randomness of a stochastic sampler: independent draws from one explicit generator.

A step over the interval from a to b of some clock needs the standardized increment of a Brownian motion,

.. math::  \xi = \frac{W_b - W_a}{\sqrt{|b - a|}} \sim N(0, I),

and, for schemes of strong order 1.5, the part of the time integral that is independent of it,

.. math::  \int_a^b (W_u - W_a)\,du = \tfrac12 |b - a|^{3/2}\left(\xi + \frac{\zeta}{\sqrt 3}\right), \qquad
           \zeta \sim N(0, I) .

`Noise` draws both afresh, which is all that a single run needs. `BrownianPath` takes both from one path over the
clock, so that a finer grid refines the same path.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch


class Noise:
    """Independent draws from `generator`, on the device and in the dtype of the state `like`.

    >>> import torch
    >>> from diffuscope.samplers import Noise
    >>> noise, again = (torch.Generator().manual_seed(3) for _ in range(2))
    >>> drawn = Noise(noise).increment(torch.zeros(2, 3), 0.0, 4.0)  # standardized, whatever the interval
    >>> torch.equal(drawn, torch.randn(2, 3, generator=again))
    True
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, like: Batch) -> Batch:
        """N(0, I), independent of everything else."""
        drawn = torch.randn(like.shape, dtype=like.dtype, device=self.generator.device, generator=self.generator)
        return drawn.to(like.device)

    def uniform(self, like: Batch) -> Float[Tensor, " batch"]:
        """U(0, 1), one for each sample of the batch `like`."""
        device = self.generator.device
        drawn = torch.rand(len(like), dtype=torch.float64, device=device, generator=self.generator)
        return drawn.to(like.device)

    def increment(self, like: Batch, a: float, b: float) -> Batch:  # noqa: ARG002
        """xi over the interval from clock `a` to `b`."""
        return self.normal(like)

    def increment_and_area(self, like: Batch, a: float, b: float) -> Sequence[Batch]:  # noqa: ARG002
        """(xi, zeta) over the interval from clock `a` to `b`."""
        return self.normal(like), self.normal(like)

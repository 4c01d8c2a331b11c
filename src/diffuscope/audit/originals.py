"""What people know of examples that are audited as latents: their pictures, for the page."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

Pictures = Float[Tensor, "_ *picture"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Originals:
    """The examples whose latents are audited, in the same order: training and held-out ones, and given samples.

    `decode` makes pictures of latents, in the range of the audit, of samples that are latents from the start. Where
    neither is known, samples have no picture.
    """

    train: Pictures = field(repr=False)
    heldout: Pictures = field(repr=False)
    samples: Pictures | None = field(default=None, repr=False)
    decode: Callable[[Float[Tensor, "_ *latent"]], Pictures] | None = field(default=None, repr=False)

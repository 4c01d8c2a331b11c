"""The prior of a solution by name: generated fields as a finite set, or the Gaussian of the problem.

Fields are generated in blocks, each from a random stream of its own, so that a run that was interrupted goes on where
it stopped and more fields begin with the same ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.memory import require_memory
from diffuscope.progress import progress_bar
from diffuscope.streams import torch_stream

from .problem import Problem

Arrays = Mapping[str, np.ndarray]
Remember = Callable[[str, Callable[[], dict[str, np.ndarray]]], Arrays]
BLOCK = 100  # fields


@dataclass(frozen=True, eq=False, kw_only=True)
class Prior:
    """What is believed of the fields before the readings: a finite set `fields`, a distribution, or a denoiser.

    `words` say what it is. `truths` are fields to measure calibration with: of the generator, or of the public data.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import Prior
    >>> Prior(name="mine", words="white noise", distribution=Gaussian.isotropic(torch.zeros(2, 5), 0.1)).event_shape
    (2, 5)
    """

    name: str
    words: str
    fields: Float[Tensor, "n channels *grid"] | None = None
    distribution: Distribution | None = None
    denoiser: Denoiser | None = None
    truths: Float[Tensor, "k channels *grid"] | None = None
    mend: str = "use more of them"  # where too few of the fields agree; {more} is about how many would do
    residual_words: str = ""  # instead of a verdict on the residual, where the equation of the fields is not known

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The shape of a field; None where a denoiser does not state it."""
        if self.fields is not None:
            return tuple(self.fields.shape[1:])
        owner = self.distribution if self.distribution is not None else self.denoiser
        shape = getattr(owner, "event_shape", getattr(getattr(owner, "distribution", None), "event_shape", None))
        return None if shape is None else tuple(shape)


def forget(name: str, compute: Callable[[], dict[str, np.ndarray]]) -> Arrays:
    """Compute, and keep nothing."""
    del name
    return compute()


def generated_fields(
    problem: Problem, n: int, *, seed: int, stream: str = "fields", remember: Remember = forget, progress: bool = False
) -> Float[Tensor, "n channels *grid"]:
    """`n` random fields of the problem, float64; the first ones of a larger number.

    Raises InputError for n < 1, more than fit into memory, and fields that are not finite.

    >>> from diffuscope.physics import PROBLEMS, generated_fields
    >>> problem = PROBLEMS["poisson-1d"](nodes=9)
    >>> fields = generated_fields(problem, 3, seed=0)
    >>> bool((problem.residual(fields).abs() < 1e-10).all())  # every field solves the equation
    True
    >>> bool((fields == generated_fields(problem, 7, seed=0)[:3]).all())
    True
    """
    require_count("fields", n, 1)
    require_memory(24.0 * n * math.prod(problem.event_shape), "fields", f"{n:,} fields of {problem.event_shape}")
    blocks = []
    with progress_bar(desc=f"generating {stream}", unit="field", total=n, disable=not progress) as bar:
        for block in range(-(-n // BLOCK)):

            def draw(block: int = block) -> dict[str, np.ndarray]:
                generator = torch_stream(seed, "solve", stream, str(block))
                return {"fields": problem.fields(BLOCK, generator=generator).numpy()}

            blocks.append(torch.from_numpy(np.asarray(remember(f"{stream}-{block}", draw)["fields"])))
            bar.update(min(BLOCK, n - block * BLOCK))
    fields = torch.cat(blocks)[:n]
    if not bool(fields.isfinite().all()):
        raise InputError(f"problem: expected finite fields of {problem.name}, got NaN or infinity")
    return fields

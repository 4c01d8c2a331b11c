"""A random part of many rows."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .rows_of import AnyRows


def some_rows(rows: AnyRows, most: int, rng: np.random.Generator) -> Float[Tensor, "_ features"]:
    """At most so many of the rows, at random; as they are if they are no more.

    >>> some_rows(torch.zeros(5, 2), 3, np.random.default_rng(0)).shape
    torch.Size([3, 2])
    """
    if len(rows) <= most:
        return rows if isinstance(rows, Tensor) else rows[torch.arange(len(rows))]
    return rows[torch.from_numpy(rng.permutation(len(rows))[:most])]

r"""Equidistant nodes of a box, and the values of a field on them.

Along a bounded axis of n nodes and length L the nodes are :math:`x_i = o + i h`, :math:`h = L / (n - 1)`, both ends
included. Along a periodic axis :math:`h = L / n`, and the node at o + L, which is the first one, is left out. The
trapezoidal weight of a node is h, and h/2 at the ends of a bounded axis.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A grid of `shape` nodes on the box from `origin` to `origin + lengths`.

    Raises InputError for axes that do not fit together, lengths that are not positive, fewer than 3 nodes on an axis.

    >>> Grid((5,)).coordinates[:, 0].tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...] = ()
    periodic: tuple[bool, ...] = ()
    origin: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        axes = len(self.shape)
        object.__setattr__(self, "lengths", tuple(map(float, self.lengths or (1.0,) * axes)))
        object.__setattr__(self, "periodic", tuple(self.periodic or (False,) * axes))
        object.__setattr__(self, "origin", tuple(map(float, self.origin or (0.0,) * axes)))
        for name in ("lengths", "periodic", "origin"):
            if len(getattr(self, name)) != axes:
                raise InputError(f"{name}: expected one per axis ({axes}), got {getattr(self, name)}")
        if axes == 0 or min(self.shape) < 3:
            raise InputError(f"shape: expected at least 3 nodes along every axis, got {self.shape}")
        if not all(0 < length < math.inf for length in self.lengths):
            raise InputError(f"lengths: expected positive numbers, got {self.lengths}")

    @property
    def axes(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many nodes."""
        return math.prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """h along every axis."""
        intervals = [n if around else n - 1 for n, around in zip(self.shape, self.periodic, strict=True)]
        return tuple(length / n for length, n in zip(self.lengths, intervals, strict=True))

    def along(self, axis: int) -> Float[Tensor, " n"]:
        """The coordinates of the nodes of one axis, float64."""
        n, h = self.shape[axis], self.spacing[axis]
        return self.origin[axis] + h * torch.arange(n, dtype=torch.float64)

    @cached_property
    def coordinates(self) -> Float[Tensor, "*grid axes"]:
        """The coordinates of every node, float64."""
        return torch.stack(torch.meshgrid(*map(self.along, range(self.axes)), indexing="ij"), -1)

    @cached_property
    def boundary(self) -> Bool[Tensor, "*grid"]:
        """Whether a node lies on the boundary; a periodic axis has none."""
        on = torch.zeros(self.shape, dtype=torch.bool)
        for axis in range(self.axes):
            if not self.periodic[axis]:
                on.index_fill_(axis, torch.tensor([0, self.shape[axis] - 1]), True)
        return on

    @cached_property
    def weights(self) -> Float[Tensor, "*grid"]:
        """Trapezoidal weights: their sum is the volume of the box."""
        weights = torch.ones(self.shape, dtype=torch.float64)
        for axis in range(self.axes):
            w = torch.full((self.shape[axis],), self.spacing[axis], dtype=torch.float64)
            if not self.periodic[axis]:
                w[[0, -1]] /= 2
            weights = weights * w.reshape(-1, *[1] * (self.axes - axis - 1))
        return weights

r"""Many small networks trained in one loop, each on its own data set: one batch of matrix products, not a queue.

Networks :math:`f_1, .., f_K` of one architecture become one network on events (K, ...),

.. math::  F(x)_k = f_k(x_k), \qquad
           \tfrac{1}{Kd} |F(x) - y|^2 = \tfrac1K \sum_k \tfrac1d |f_k(x_k) - y_k|^2 ,

whose gradient in the weights of f_k is 1/K times that of f_k alone. Adam is invariant to the factor (up to its 1e-8),
so that the library's own training loop trains K runs at once. Each network has its own data and noise; they share the
noise *levels* of a batch. A cap on the norm of the gradient would couple the runs: leave it at infinity.
"""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from diffuscope.errors import InputError


class SideBySide(nn.Module):
    """`networks` of one architecture, network(x, label), as one on events (models, *event).

    Raises InputError for networks with buffers.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, buffers = stack_module_state(list(networks))
        if buffers:  # every network would answer with those of the first
            raise InputError(f"networks: expected networks without buffers, got {', '.join(buffers)}")
        self._names = tuple(weights)
        self.weights = nn.ParameterList([nn.Parameter(values) for values in weights.values()])
        self._template = (copy.deepcopy(networks[0]),)  # in a tuple: its weights are not this module's

    def forward(self, x: Float[Tensor, "batch models *event"], label: Tensor) -> Float[Tensor, "batch models *event"]:
        """Every network on its own column, all with the label of the row."""

        def one(weights: Mapping[str, Tensor], column: Tensor) -> Tensor:
            return functional_call(self._template[0], dict(weights), (column, label))

        return torch.vmap(one, in_dims=(0, 1), out_dims=1)(dict(zip(self._names, self.weights, strict=True)), x)

    def alone(self, place: int) -> nn.Module:
        """A copy of the network at `place`."""
        network = copy.deepcopy(self._template[0])
        stacked = zip(self._names, self.weights, strict=True)
        network.load_state_dict({name: values[place] for name, values in stacked})
        return network


def stacked(sets: Sequence[Float[Tensor, "_ *event"]]) -> Float[Tensor, "examples models *event"]:
    """Data sets of several sizes as one for `SideBySide`, float32: each repeated up to their least common multiple."""
    longest = math.lcm(*map(len, sets))
    return torch.stack([rows.repeat(longest // len(rows), *[1] * (rows.ndim - 1)) for rows in sets], 1).float()

r"""What is observed of a field: :math:`y = h(x) + r\,\varepsilon` with Gaussian noise of known standard deviation r.

r = 0 is a hard constraint. A linear h is a matrix H, one row per observed number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffuscope.errors import InputError

Fields = Float[Tensor, "batch *event"]
Values = Float[Tensor, " m"] | Float[Tensor, "batch m"]  # one observation for all samples, or one per sample


@runtime_checkable
class Observation(Protocol):
    """`observation(x)` is h(x), (batch, m), differentiable by autograd; `noise` is r.

    >>> import torch
    >>> from diffuscope.physics import Observation, at_nodes
    >>> isinstance(at_nodes(torch.tensor([2]), (5,), noise=0.1), Observation)
    True
    """

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    @property
    def noise(self) -> float: ...

    def __call__(self, x: Fields) -> Float[Tensor, "batch m"]: ...


@dataclass(frozen=True, eq=False)
class LinearObservation:
    """h(x) = H x, for a `matrix` H of (m, D), D = prod(event_shape). Raises InputError for shapes that do not fit.

    >>> import torch
    >>> from diffuscope.physics import LinearObservation
    >>> H = LinearObservation(torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]), (3,), noise=0.1)
    >>> H(torch.tensor([[3.0, 5.0, 7.0]])).tolist(), H.adjoint(torch.tensor([[3.0, 5.0]])).tolist()
    ([[13.0, 28.0]], [[3.0, 6.0, 20.0]])
    """

    matrix: Float[Tensor, "m D"]
    event_shape: tuple[int, ...]
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.matrix.shape[1] != math.prod(self.event_shape):
            raise InputError(
                f"matrix: expected {math.prod(self.event_shape)} columns (the values of a field), got "
                f"{self.matrix.shape[1]}"
            )
        _require_noise(self.noise)
        object.__setattr__(self, "matrix", self.matrix.double())

    def __call__(self, x: Fields) -> Float[Tensor, "batch m"]:
        """H x."""
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, v: Float[Tensor, "batch m"]) -> Fields:
        """H^T v."""
        return (v @ self.matrix.to(v)).reshape(len(v), *self.event_shape)


@dataclass(frozen=True, eq=False)
class NonlinearObservation:
    """Any h that autograd can differentiate.

    >>> import torch
    >>> from diffuscope.physics import NonlinearObservation
    >>> energy = NonlinearObservation(lambda x: x.square().sum(1, keepdim=True) / 2, (3,), noise=0.1)
    >>> energy(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])).tolist()
    [[7.0], [8.0]]
    """

    function: Callable[[Tensor], Tensor]
    event_shape: tuple[int, ...]
    noise: float = 0.0

    def __post_init__(self) -> None:
        _require_noise(self.noise)

    def __call__(self, x: Fields) -> Float[Tensor, "batch m"]:
        """h(x)."""
        return self.function(x).flatten(1)


def at_nodes(nodes: Int[Tensor, " m"], event_shape: tuple[int, ...], noise: float | int = 0.0) -> LinearObservation:
    """The values at some entries of the flattened field. Raises InputError for indices that it does not have.

    >>> import torch
    >>> from diffuscope.physics import at_nodes
    >>> at_nodes(torch.tensor([5, 1]), (2, 3))(torch.tensor([[[10.0, 11.0, 12.0], [13.0, 14.0, 15.0]]])).tolist()
    [[15.0, 11.0]]
    """
    D = math.prod(event_shape)
    if len(nodes) and not bool(((nodes >= 0) & (nodes < D)).all()):
        raise InputError(f"nodes: expected indices from 0 to {D - 1}, got {int(nodes.min())} to {int(nodes.max())}")
    matrix = torch.zeros(len(nodes), D, dtype=torch.float64)
    matrix[torch.arange(len(nodes)), nodes] = 1
    return LinearObservation(matrix, event_shape, float(noise))


def where(mask: Bool[Tensor, "*event"], noise: float | int = 0.0) -> LinearObservation:
    """The values where `mask` holds: a patch, a boundary.

    >>> import torch
    >>> from diffuscope.physics import where
    >>> x = torch.tensor([[[10.0, 11.0, 12.0], [13.0, 14.0, 15.0]]])
    >>> where(x[0] > 12.5)(x).tolist()
    [[13.0, 14.0, 15.0]]
    """
    return at_nodes(mask.flatten().nonzero()[:, 0], tuple(mask.shape), noise)


def averages(masks: Sequence[Tensor], noise: float | int = 0.0) -> LinearObservation:
    """The means over some sets of nodes, one per mask. Raises InputError for none, empty ones, and several shapes.

    >>> import torch
    >>> from diffuscope.physics import averages
    >>> x = torch.tensor([[10.0, 11.0, 15.0, 30.0]])
    >>> averages([x[0] < 20, x[0] > 12])(x).tolist()  # (10 + 11 + 15) / 3, (15 + 30) / 2
    [[12.0, 22.5]]
    """
    if not masks or not all(bool(mask.any()) for mask in masks):
        raise InputError("masks: expected at least one, and a node in every mask")
    shapes = {tuple(mask.shape) for mask in masks}
    if len(shapes) > 1:
        raise InputError(f"masks: expected one shape, that of a field, got {sorted(shapes)}")
    rows = torch.stack([mask.double().flatten() / mask.sum() for mask in masks])
    return LinearObservation(rows, tuple(masks[0].shape), float(noise))


def misfit(predicted: Float[Tensor, "batch m"], y: Tensor) -> Float[Tensor, "batch m"]:
    """y - h(x), float64; InputError for a y that is neither (m,) nor (1, m) nor (batch, m), which would broadcast."""
    batch, m = predicted.shape
    if y.ndim not in (1, 2) or y.shape[-1] != m or (y.ndim == 2 and len(y) not in (1, batch)):
        raise InputError(f"y: expected shape ({m},) or ({batch}, {m}), as the observation gives, got {tuple(y.shape)}")
    return y.double() - predicted.double()


def log_likelihood(observation: Observation, x: Fields, y: Values) -> Float[Tensor, " batch"]:
    """log N(y; h(x), r^2 I), float64; for r = 0 it is 0 where h(x) = y to rounding, and minus infinity elsewhere.

    Raises InputError for a y of another size than h(x).

    >>> import math, torch
    >>> from diffuscope.physics import at_nodes, log_likelihood
    >>> x, y = torch.tensor([[1.0, 7.0], [2.0, 7.0]]), torch.tensor([5.0])
    >>> found = log_likelihood(at_nodes(torch.tensor([0]), (2,), noise=2.0), x, y)
    >>> (found + math.log(2) + math.log(2 * math.pi) / 2).tolist()  # -(5 - 1)^2 / (2 x 4), -(5 - 2)^2 / (2 x 4)
    [-2.0, -1.125]
    """
    off = misfit(observation(x.double()), y)
    r = observation.noise
    if r == 0:
        scale = 1e-9 * (1 + y.abs().amax())
        return torch.where((off.abs() <= scale).all(1), 0.0, -math.inf).double()
    return -0.5 * off.square().sum(1) / r**2 - off.shape[1] * (math.log(r) + 0.5 * math.log(2 * math.pi))


def observe(observation: Observation, x: Fields, *, generator: torch.Generator) -> Float[Tensor, "batch m"]:
    """y = h(x) + r eps, float64.

    >>> import torch
    >>> from diffuscope.physics import at_nodes, observe
    >>> x = torch.tensor([[3.0, 7.0]]).expand(10_000, 2)
    >>> y = observe(at_nodes(torch.tensor([1]), (2,), noise=0.5), x, generator=torch.Generator().manual_seed(0))
    >>> bool((y.mean() - 7).abs() < 4 * 0.005), bool((y.std() - 0.5).abs() < 4 * 0.0035)  # standard errors
    (True, True)
    """
    exact = observation(x.double())
    return exact + observation.noise * torch.randn(exact.shape, dtype=torch.float64, generator=generator)


def _require_noise(noise: float) -> None:
    if not 0 <= noise < math.inf:
        raise InputError(f"noise: expected a standard deviation >= 0, got {noise}")

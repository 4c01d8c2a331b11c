r"""Noisy dynamics: a drift and a diffusion matrix, at any state and time.

.. math::  dX = f(X, t)\,dt + G(X, t)\,dW, \qquad D = \tfrac12 G G^T .

D may be constant, a function of the state, or singular: in a *silent* direction, a null vector of a constant D, there
is no noise, and the path must follow the drift, :math:`n\cdot(\dot x - f) = 0`.

>>> import torch
>>> ornstein_uhlenbeck = Dynamics(lambda x: -x, 1.0)
>>> ornstein_uhlenbeck.drift_at(torch.tensor([[2.0, 0.0]]), torch.zeros(1))
tensor([[-2., -0.]], dtype=torch.float64)
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError

States = Float[Tensor, "n d"]
Times = Float[Tensor, " n"]
Box = tuple[float | Tensor, float | Tensor]
SILENT = 1e-12  # an eigenvalue of D below this share of the largest is zero
STEP = 1e-6  # of a finite difference
ROWS = 1e-9  # of the largest drift: what rounding may change of a row when others are left out


@dataclass(frozen=True, eq=False)
class Dynamics:
    """`drift` is f(x) or f(x, t) of states (n, d) and times (n,), differentiable by autograd, row by row.

    `diffusion` is D: a number, one per coordinate, a matrix, or a function of (x) or (x, t) that returns (n, d, d).
    `domain` is a box (low, high) or a predicate of states. A `torch.nn.Module` of lower precision is copied into
    float64. Raises InputError for a D that is negative, not symmetric, not finite, or zero, for a drift that takes
    neither one nor two arguments, and for a box whose ends are not in order.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics
    >>> spring = Dynamics(lambda x: -2 * x, torch.tensor([0.5, 4.0]), domain=(-10.0, 5.0))
    >>> x, t = torch.tensor([[3.0, 7.0]]).double(), torch.zeros(1)
    >>> spring.drift_at(x, t).tolist(), spring.matrix_at(x, t).tolist(), spring.inside(x).tolist()
    ([[-6.0, -14.0]], [[[0.5, 0.0], [0.0, 4.0]]], [False])
    """

    drift: Callable[..., Tensor]
    diffusion: float | int | Tensor | Callable[..., Tensor]
    domain: Box | Callable[[Tensor], Tensor] | None = None
    _drift: Callable[[Tensor, Tensor], Tensor] = field(init=False, repr=False)
    _diffusion: Callable[[Tensor, Tensor], Tensor] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_drift", _of_two("drift", _in_float64(self.drift)))
        given = _of_two("diffusion", self.diffusion) if callable(self.diffusion) else None
        object.__setattr__(self, "_diffusion", given)
        if given is None:
            _checked_matrix(self.constant_matrix)
        if self.domain is not None and not callable(self.domain):
            _checked_box(self.domain)

    @property
    def constant(self) -> bool:
        """Whether D is the same everywhere."""
        return self._diffusion is None

    @property
    def autonomous(self) -> bool:
        """Whether neither drift nor diffusion takes a time."""
        functions = [each for each in (self.drift, self.diffusion) if callable(each)]
        return all(_arguments("drift", each) == 1 for each in functions)

    @cached_property
    def constant_matrix(self) -> Tensor:
        """A constant D as it was given: a number, a diagonal or a matrix, in float64."""
        given = self.diffusion
        try:
            if isinstance(given, Tensor) and given.is_complex():
                raise TypeError
            return torch.as_tensor(given, dtype=torch.float64).detach()
        except (TypeError, ValueError, RuntimeError):
            kind = f"a {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise InputError(
                f"diffusion: expected a number, one per coordinate, a matrix of numbers or a function, got {kind}"
            ) from None

    def drift_at(self, x: States, t: Times) -> States:
        """f(x, t) in float64, which may be infinite or NaN. Raises InputError for another shape or precision."""
        x = x.double()
        try:
            f = self._drift(x.clone(), t.clone())  # it may overwrite what it is given
        except RuntimeError as error:
            if "dtype" not in str(error) and "scalar type" not in str(error):
                raise
            raise InputError(
                f"drift: expected a function of float64 states, and a part of it has another precision ({error}); "
                ".double() makes a module or a tensor float64"
            ) from error
        if not isinstance(f, Tensor) or f.shape != x.shape:
            got = tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__
            raise InputError(f"drift: expected states of shape {tuple(x.shape)} back, got {got}")
        if f.is_complex() or (f.dtype != torch.float64 and f.requires_grad):  # a constant may be of any precision
            raise InputError(f"drift: expected float64 back, as the states are, got {f.dtype}".replace("torch.", ""))
        return f.double()

    def matrix_at(self, x: States, t: Times) -> Float[Tensor, "n d d"]:
        """D(x, t) in float64. Raises InputError for another shape."""
        n, d = x.shape
        if self._diffusion is None:
            return self._matrix(d).expand(n, d, d)
        D = self._diffusion(x.double(), t)
        if not isinstance(D, Tensor) or D.shape != (n, d, d):
            got = tuple(D.shape) if isinstance(D, Tensor) else type(D).__name__
            raise InputError(f"diffusion: expected matrices of shape {(n, d, d)} back, got {got}")
        return D.double()

    def silent(self, d: int) -> Float[Tensor, "d silent"]:
        """An orthonormal basis of the directions without noise; none where D depends on the state."""
        if not self.constant:
            return torch.zeros(d, 0, dtype=torch.float64)
        eigenvalues, vectors = torch.linalg.eigh(self._matrix(d))
        return vectors[:, eigenvalues <= SILENT * eigenvalues[-1]]

    def precision_at(self, x: States, t: Times) -> Float[Tensor, "n d d"]:
        """D^-1; of the noisy directions alone (the pseudo-inverse) where a constant D is singular.

        NaN where a D that depends on the state is not positive definite: no path can go there.
        """
        if self.constant:
            d = x.shape[1]
            return torch.linalg.pinv(self._matrix(d), rtol=SILENT, hermitian=True).expand(len(x), d, d)
        D = self.matrix_at(x, t)
        factor, failed = torch.linalg.cholesky_ex(D)
        identity = torch.eye(x.shape[1], dtype=D.dtype).expand_as(D)
        return torch.cholesky_solve(identity, torch.where(failed[:, None, None] == 0, factor, torch.nan))

    def inside(self, x: States) -> Bool[Tensor, " n"]:
        """Which states lie in the domain."""
        if self.domain is None:
            return torch.ones(len(x), dtype=torch.bool)
        if callable(self.domain):
            found = self.domain(x)
            if not isinstance(found, Tensor) or tuple(found.shape) != (len(x),) or found.dtype != torch.bool:
                got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
                raise InputError(f"domain: expected one bool per state back, shape ({len(x)},), got {got}")
            return found
        low, high = (torch.as_tensor(end, dtype=x.dtype) for end in self.domain)
        return ((x >= low) & (x <= high)).all(1)

    def _matrix(self, d: int) -> Float[Tensor, "d d"]:
        given = self.constant_matrix
        if given.ndim and given.shape[0] != d:
            raise InputError(f"diffusion: expected a matrix of {d} x {d} for states of {d}, got {tuple(given.shape)}")
        return given if given.ndim == 2 else torch.diag(given.expand(d))


def require_regular(dynamics: Dynamics, x: States, t: Times) -> None:
    """InputError for what no path through these states can have.

    A drift or diffusion that is not finite there, a D that depends on the state and is not symmetric and positive
    definite, a drift that changes with the state but of which autograd knows nothing, and one whose value at a state
    depends on the other rows.
    """
    at = x.detach().double().requires_grad_()
    f = dynamics.drift_at(at, t)
    if not bool(torch.isfinite(f).all()):
        bad = int((~torch.isfinite(f).all(1)).nonzero()[0])
        raise InputError(f"drift: expected finite values, got {_row(f[bad])} at x = {_row(x[bad])}")
    if not f.requires_grad and not torch.equal(f, f[:1].expand_as(f)):
        raise InputError(
            "drift: expected a function that autograd can differentiate, and its values change with x but carry no "
            "gradient (is there a detach, a no_grad or a NumPy call in it?)"
        )
    few = [0, 0, -1]  # of another sum and mean
    apart = (dynamics.drift_at(x[few], t[few]) - f[few]).abs().amax(1)
    if bool((apart > ROWS * f.abs().max()).any()):
        bad = few[int(apart.argmax())]
        raise InputError(
            f"drift: expected a function of each row alone, and its value at x = {_row(x[bad])} depends on the other "
            "rows (is there a sum or mean over dimension 0, a batch norm, or dropout in it?)"
        )
    _require_twice(dynamics, x[few], t[few])
    if not dynamics.constant:
        D = dynamics.matrix_at(at, t)
        finite = torch.isfinite(D).all((1, 2))
        failed = ~finite | (torch.linalg.cholesky_ex(torch.where(finite[:, None, None], D, 0)).info != 0)
        failed |= (D - D.mT > SILENT * D.amax((1, 2), keepdim=True)).any(2).any(1)
        if bool(failed.any()):
            bad = int(failed.nonzero()[0])
            expected = "expected symmetric positive definite matrices where D depends on the state"
            raise InputError(f"diffusion: {expected}, got {D[bad].tolist()} at x = {_row(x[bad])}")


def _require_twice(dynamics: Dynamics, x: States, t: Times) -> None:
    """InputError for a drift of which a part has a first derivative alone: autograd takes the second for zero."""

    def slope(at: Tensor) -> Tensor:  # of |f|^2
        f = dynamics.drift_at(at, t)
        if not f.requires_grad:
            return torch.zeros_like(at)
        found = torch.autograd.grad(f.square().sum(), at, create_graph=True, materialize_grads=True, allow_unused=True)
        return found[0]

    x = x + 1000 * STEP * (1 + x.abs().max())  # a kink may lie at a state as given
    step = STEP * (1 + x.abs().max())
    apart = (slope((x + step).requires_grad_()) - slope((x - step).requires_grad_())).detach() / (2 * step)
    at = x.clone().requires_grad_()
    first, second = slope(at), torch.zeros_like(x)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), at, materialize_grads=True, allow_unused=True)
    missing = (apart - second).abs() > 0.1 * apart.abs() + 1e-6 * (1 + first.detach().abs().max())
    if bool(missing.any()):
        raise InputError(
            "drift: expected a function that autograd can differentiate twice, and the second derivative of a part of "
            "it is missing (an autograd function with once_differentiable, as in the exact denoiser of a data set?)"
        )


def _arguments(name: str, function: Callable[..., Any]) -> int:
    """1 for f(x), 2 for f(x, t)."""
    try:
        called = function.forward if isinstance(function, torch.nn.Module) else function
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
    if required not in (1, 2):
        raise InputError(f"{name}: expected a function of (x) or of (x, t), got one of {required} arguments")
    return required


def _of_two(name: str, function: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    if not callable(function):
        raise InputError(f"{name}: expected a function of (x) or of (x, t), got {type(function).__name__}")
    if _arguments(name, function) == 2:
        return function
    return lambda x, _: function(x)


def _in_float64(drift: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A copy of a module of lower precision; anything else as it is."""
    if not isinstance(drift, torch.nn.Module):
        return drift
    numbers = [each for each in (*drift.parameters(), *drift.buffers()) if each.is_floating_point()]
    return drift if all(each.dtype == torch.float64 for each in numbers) else copy.deepcopy(drift).double()


def _checked_box(domain: Box) -> None:
    try:
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in domain)
        ordered = bool((low < high).all())
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"domain: expected a box (low, high) or a function of states, got {domain}") from None
    if not ordered:  # NaN too
        raise InputError(f"domain: expected a box (low, high) with low < high, got {domain}")


def _checked_matrix(D: Tensor) -> None:
    if D.ndim > 2 or (D.ndim == 2 and D.shape[0] != D.shape[1]):
        raise InputError(f"diffusion: expected a number, one per coordinate or a matrix, got shape {tuple(D.shape)}")
    if not bool(torch.isfinite(D).all()):
        raise InputError("diffusion: expected finite numbers, got NaN or infinity")
    if D.ndim == 2 and not torch.allclose(D, D.mT, rtol=1e-12, atol=0):
        raise InputError("diffusion: expected a symmetric matrix D = G G^T / 2 (was G itself given?)")
    least, largest = (float(end) for end in _ends(D))
    if least < -SILENT * largest or largest <= 0:
        raise InputError(f"diffusion: expected D = G G^T / 2 >= 0 and not zero, got one with eigenvalue {least:.3g}")


def _ends(D: Tensor) -> tuple[Tensor, Tensor]:
    eigenvalues = torch.linalg.eigvalsh(D) if D.ndim == 2 else D.reshape(-1)
    return eigenvalues.min(), eigenvalues.max()


def _row(x: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in x[:8].tolist()) + (", ..." if len(x) > 8 else "") + ")"

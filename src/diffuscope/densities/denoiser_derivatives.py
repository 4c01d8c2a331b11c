r"""Directional derivatives of a denoiser in x, for any model that torch can differentiate.

With the Jacobian :math:`J_{ik} = \partial_k D_i` at one point and a direction v,

.. math::
    J^T v = \nabla_x\, (v \cdot D), \qquad
    J v = \nabla_u\, (v \cdot J^T u), \qquad
    \nabla_x\, (v^T J v) = \nabla_x\, (v \cdot J^T v) .

The first is one reverse pass, the other two a second pass through the first: no model needs forward-mode rules.
Sums over the unit vectors v = e_k are exact, :math:`\sum_k \nabla (e_k^T J e_k) = \nabla\,\mathrm{div}\,D`; means over
random v with :math:`E[vv^T] = I` are unbiased. Every function works on ROWS points at a time.

A model of piecewise linear layers (ReLU) has :math:`\nabla (v^T J v) = 0` almost everywhere, whatever it learned.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size
from diffuscope.schedules import as_time

ROWS = 256  # points differentiated at once: the memory is that of a training step on as many examples
NUMBERS = 2**20  # coordinates of these, at most
# J^T u is independent of u where the model's own derivative is not made of operations of torch
ONLY_ONCE = "denoiser: expected an answer that torch can differentiate in x_t twice, got only once"

OneTime = Float[Tensor, ""] | float | int


def pull_back(denoiser: Denoiser, x_t: Batch, t: OneTime, v: Batch) -> Batch:
    """J^T v at every point. Raises InputError where the denoiser has no derivative in x_t."""
    return _by_rows(lambda x, w: _pulled(denoiser, x, t, w, twice=False)[1], x_t, v)


def push_and_pull(denoiser: Denoiser, x_t: Batch, t: OneTime, v: Batch) -> tuple[Batch, Batch]:
    """(J v, J^T v) at every point. Raises InputError where the denoiser cannot be differentiated twice."""

    def both(x: Tensor, w: Tensor) -> Tensor:
        u = w.clone().requires_grad_()
        _, pulled = _pulled(denoiser, x, t, u, twice=True)
        pushed = torch.autograd.grad(pulled, u, w, allow_unused=True)[0]
        if pushed is None:
            raise InputError(ONLY_ONCE)
        return torch.stack([_finite(pushed), pulled], 1)

    stacked = _by_rows(both, x_t, v)
    return stacked[:, 0], stacked[:, 1]


def divergence_gradient_along(denoiser: Denoiser, x_t: Batch, t: OneTime, v: Batch) -> Batch:
    """grad (v^T J v) at every point. Raises InputError where the denoiser cannot be differentiated twice."""

    def along(x: Tensor, w: Tensor) -> Tensor:
        u = w.clone().requires_grad_()
        x, pulled = _pulled(denoiser, x, t, u, twice=True)
        gradient, pushed = torch.autograd.grad(pulled, (x, u), w, allow_unused=True)
        if pushed is None:
            raise InputError(ONLY_ONCE)
        return torch.zeros_like(x) if gradient is None else _finite(gradient)  # None: the Jacobian is constant in x

    return _by_rows(along, x_t, v)


def divergence_gradient(denoiser: Denoiser, x_t: Batch, t: OneTime) -> Batch:
    """grad div D, exactly, from one second derivative per point and coordinate.

    Raises InputError where the denoiser cannot be differentiated twice.
    """
    total, D = torch.zeros_like(x_t), x_t[0].numel()
    for pairs in torch.arange(len(x_t) * D, device=x_t.device).split(ROWS):  # of a point and a coordinate
        points = pairs // D
        units = torch.nn.functional.one_hot(pairs % D, D).to(x_t.dtype).reshape(-1, *x_t.shape[1:])
        total.index_add_(0, points, divergence_gradient_along(denoiser, x_t[points], t, units))
    return total


def signs(x: Batch, generator: torch.Generator) -> Batch:
    """A direction of independent random signs per point (Rademacher), E[v v^T] = I, |v_k| = 1."""
    drawn = torch.randint(0, 2, x.shape, generator=generator, device=generator.device)
    return (2 * drawn - 1).to(device=x.device, dtype=x.dtype)


def checked_points(x_t: Batch, t: OneTime) -> Batch:
    """`x_t` without its graph. Raises InputError for an empty or non-finite batch, and for t not one finite number."""
    if x_t.ndim < 2 or x_t.numel() == 0:
        raise InputError(f"x_t: expected a batch of at least one point, (batch, *event), got shape {tuple(x_t.shape)}")
    if not x_t.is_floating_point() or not bool(torch.isfinite(x_t).all()):
        raise InputError("x_t: expected finite floating-point values")
    if as_time(t).ndim != 0 or not bool(torch.isfinite(as_time(t))):
        raise InputError(f"t: expected one finite time for all points, got {t!r}")
    return x_t.detach()


def differentiable(derivative: Callable[[], Tensor]) -> Tensor:
    """`derivative()` under autograd, with plain attention. Raises InputError where torch cannot differentiate."""
    try:
        # the fused attention kernels have no second derivative
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return derivative()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        expected = "denoiser: expected an answer that torch can differentiate in x_t, twice"
        raise InputError(f"{expected}, got: {reason}") from error


def _pulled(denoiser: Denoiser, x: Tensor, t: OneTime, v: Tensor, *, twice: bool) -> tuple[Tensor, Tensor]:
    """x as a leaf, and J^T v, with a graph where it is to be differentiated again."""
    x = x.detach().requires_grad_()
    denoised = denoiser(x, t)
    if denoised.shape != x.shape:
        raise InputError(f"denoiser: expected an answer of shape {tuple(x.shape)}, got {tuple(denoised.shape)}")
    pulled = None
    if denoised.requires_grad:
        pulled = torch.autograd.grad(denoised, x, v, create_graph=twice, allow_unused=True)[0]
    if pulled is None:
        raise InputError("denoiser: expected an answer that depends on x_t through torch, got one without a gradient")
    return x, _finite(pulled)


def _finite(derivative: Tensor) -> Tensor:
    if not bool(torch.isfinite(derivative).all()):
        raise InputError("denoiser: expected finite derivatives in x_t, got NaN or infinity")
    return derivative


def _by_rows(function: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, v: Tensor) -> Tensor:
    rows = min(ROWS, chunk_size(NUMBERS, each=x_t[0].numel()))
    parts = zip(x_t.split(rows), v.split(rows), strict=True)
    return torch.cat([differentiable(lambda x=x, w=w: function(x, w)).detach() for x, w in parts])

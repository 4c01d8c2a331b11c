r"""The classical losses of a score model s(x) at one noise level, sample by sample: explicit, implicit and sliced.

For x of density p with score :math:`s^* = \nabla\log p` and Fisher information :math:`J = E|s^*|^2`, and a random
direction v with :math:`E[vv^T] = I`,

.. math::
    \text{explicit: } \tfrac12 |s - s^*|^2, \qquad
    \text{implicit: } \tfrac12 |s|^2 + \nabla\cdot s, \qquad
    \text{by a probe: } \tfrac12 |s|^2 + v^T \nabla s\, v, \qquad
    \text{sliced: } \tfrac12 (v\cdot s)^2 + v^T \nabla s\, v .

Integration by parts, :math:`E[s\cdot s^*] = -E[\nabla\cdot s]`, makes the means of the last three equal, and equal to
explicit - J/2, for every s that grows slower than p decays: one minimizer, one mean gradient. Denoising,
:math:`\tfrac12|s(x_0 + \sigma\varepsilon) + \varepsilon/\sigma|^2`, has the mean
explicit + :math:`\tfrac12(d/\sigma^2 - J)` for the density of :math:`x_0 + \sigma\varepsilon`, where
:math:`d/\sigma^2 - J \ge 0` is irreducible. The sliced loss needs products of s with v only, at the price of the
additional variance of :math:`\tfrac12(v\cdot s)^2`.

All functions keep the graph to the parameters of s, so that the losses can be minimized.

Sources: Hyvarinen 2005 (explicit and implicit, theorem 1); Vincent 2011 (denoising); Song, Garg, Shi & Ermon 2019,
*Sliced score matching* (arXiv:1905.07088, eqs. 7 and 8: sliced, and by a probe, there with variance reduction).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError

Score = Callable[[Batch], Batch]
"""s(x): one score per sample, from that sample alone."""

Losses = Float[Tensor, " batch"]


def explicit_losses(score: Score, x: Batch, true_score: Float[Tensor, "..."]) -> Losses:
    """|s(x) - s*(x)|^2 / 2 of every sample, with `true_score` = s*(x). Raises InputError for another shape.

    >>> import torch
    >>> from diffuscope.training import explicit_losses
    >>> x, true_score = torch.tensor([[2.0, 4.0]]), torch.tensor([[-1.0, -3.0]])
    >>> float(explicit_losses(lambda x: -x / 4, x, true_score))  # (0.5^2 + 2^2) / 2
    2.125
    """
    if true_score.shape != x.shape:
        raise InputError(f"true_score: expected the shape of x {tuple(x.shape)}, got {tuple(true_score.shape)}")
    return _half_square(_evaluated(score, x) - true_score)


def implicit_losses(score: Score, x: Batch) -> Losses:
    """|s|^2 / 2 + div s of every sample, the divergence exact: d gradients, one after the other.

    Raises InputError where torch cannot differentiate s in x.

    >>> import torch
    >>> from diffuscope.training import implicit_losses
    >>> x, matrix = torch.tensor([[2.0, 1.0]]), torch.tensor([[-1.0, 0.5], [0.5, -2.0]])
    >>> implicit_losses(lambda x: x @ matrix, x).item()  # s = (-1.5, -1): 3.25 / 2 + (-1 - 2)
    -1.375
    """
    leaf, s = _at_leaf(score, x)
    units = torch.eye(leaf[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    divergence = torch.stack([_along(s, leaf, unit.expand_as(leaf)) for unit in units]).sum(0)
    return _half_square(s) + divergence


def implicit_losses_by_probe(score: Score, x: Batch, v: Float[Tensor, "..."]) -> Losses:
    """|s|^2 / 2 + v^T (ds/dx) v of every sample, one direction `v` each with E[v v^T] = I (Hutchinson).

    >>> import torch
    >>> from diffuscope.training import implicit_losses_by_probe
    >>> x, matrix = torch.tensor([[2.0, 1.0]]), torch.tensor([[-1.0, 0.5], [0.5, -2.0]])
    >>> v = torch.tensor([[1.0, -1.0]])
    >>> implicit_losses_by_probe(lambda x: x @ matrix, x, v).item()  # 3.25 / 2 + (-1 - 2 - 0.5 - 0.5)
    -2.375
    """
    leaf, s = _at_leaf(score, x)
    return _half_square(s) + _along(s, leaf, _direction(v, x))


def sliced_losses(score: Score, x: Batch, v: Float[Tensor, "..."]) -> Losses:
    """(v . s)^2 / 2 + v^T (ds/dx) v of every sample, one direction `v` each with E[v v^T] = I.

    >>> import torch
    >>> from diffuscope.training import sliced_losses
    >>> x, matrix = torch.tensor([[2.0, 1.0]]), torch.tensor([[-1.0, 0.5], [0.5, -2.0]])
    >>> v = torch.tensor([[1.0, -1.0]])
    >>> sliced_losses(lambda x: x @ matrix, x, v).item()  # (-1.5 + 1)^2 / 2 + (-1 - 2 - 0.5 - 0.5)
    -3.875
    """
    leaf, s = _at_leaf(score, x)
    return (s * _direction(v, x)).flatten(1).sum(1).square() / 2 + _along(s, leaf, v)


def signs(x: Batch, *, generator: torch.Generator) -> Batch:
    """One direction of independent random signs per sample of `x`: E[v v^T] = I with the least variance.

    >>> import torch
    >>> from diffuscope.training import signs
    >>> v = signs(torch.zeros(4000, 3), generator=torch.Generator().manual_seed(0))
    >>> v.unique().tolist(), (v.T @ v / 4000).round().abs().tolist()
    ([-1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    drawn = torch.randint(0, 2, x.shape, generator=generator, device=generator.device)
    return (2 * drawn - 1).to(x)


def _half_square(s: Batch) -> Losses:
    return s.square().flatten(1).sum(1) / 2


def _evaluated(score: Score, x: Batch) -> Batch:
    s = score(x)
    if s.shape != x.shape:
        raise InputError(f"score: expected an answer of shape {tuple(x.shape)}, got {tuple(s.shape)}")
    return s


def _direction(v: Tensor, x: Batch) -> Batch:
    if v.shape != x.shape:
        raise InputError(f"v: expected one direction per sample, shape {tuple(x.shape)}, got {tuple(v.shape)}")
    return v


@torch.enable_grad()
def _at_leaf(score: Score, x: Batch) -> tuple[Batch, Batch]:
    """x as a leaf, and s there; the fused attention kernels have no second derivative, so attention is plain."""
    leaf = x.detach().clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        return leaf, _evaluated(score, leaf)


@torch.enable_grad()
def _along(s: Batch, x: Batch, v: Batch) -> Losses:
    """v^T (ds/dx) v, with its graph."""
    product = torch.autograd.grad(s, x, v, create_graph=True, allow_unused=True)[0] if s.requires_grad else None
    if product is None:
        raise InputError("score: expected an answer that torch can differentiate in x, got one without a gradient")
    return (product * v).flatten(1).sum(1)

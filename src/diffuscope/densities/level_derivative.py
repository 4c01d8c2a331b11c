r"""The derivative of a denoiser in the noise level lambda, at fixed x_t / alpha.

.. math::
    \left.\frac{\partial D}{\partial\lambda}\right|_{x_t/\alpha}
      = \frac{\partial_t D + f J x_t}{\dot\lambda}, \qquad
    \frac{dt}{d\lambda} = \frac{\alpha\sigma}{\dot\alpha\sigma - \dot\sigma\alpha}, \qquad
    \frac{d\log\alpha}{d\lambda} = \frac{\dot\alpha\sigma}{\dot\alpha\sigma - \dot\sigma\alpha} .

There are two methods. *Autograd* through the time is exact to rounding where the model is differentiable in time: a
table of steps is not, and a model that reads part of its time outside torch would be wrong silently. *Differences* in
lambda work for any model: values at :math:`\lambda \pm h`, :math:`h = 0.4, 0.2, \dots, 0.0125` (moved inside at the
ends of the schedule, snapped to the table of a model that has one), are interpolated by polynomials through each run
of neighboring pairs. On equidistant halvings this is Richardson extrapolation, of order 2m with m pairs. The polynomial
that agrees best with the two shorter ones inside it is kept; its error is the larger of that disagreement and the
effect of rounding (Ridders 1982). Autograd is used only where it agrees with the differences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, nearest_trained_time, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import as_time

from .denoiser_derivatives import ROWS, OneTime, checked_points, differentiable

LONGEST, HALVINGS = 0.4, 5
LONGER = (0.8, 1.6, 3.2)  # for a table too coarse for the other steps
AGREEMENT = 0.01  # largest relative difference between autograd and the differences


@dataclass(frozen=True, eq=False)
class NoiseDerivative:
    """dD/dlambda at every point, the estimated norm of its error per point, and the method."""

    value: Batch
    error: Float[Tensor, " batch"]
    by_autograd: bool


def noise_derivative(denoiser: Denoiser, x_t: Batch, t: OneTime) -> NoiseDerivative:
    """dD/dlambda at fixed x_t/alpha, by autograd where it agrees with differences, else by differences.

    Costs 12 function evaluations and, to check autograd, about one training step per point. Raises InputError where
    alpha(t) = 0 or sigma(t) = 0, and for a table of too few steps.
    """
    differences = noise_derivative_by_differences(denoiser, x_t, t)
    try:
        exact = noise_derivative_by_autograd(denoiser, x_t, t)
    except InputError:
        return differences
    gap = (exact.value - differences.value).double().norm()
    allowed = 10 * differences.error.norm() + AGREEMENT * differences.value.double().norm()
    return exact if bool(gap <= allowed) else differences


def noise_derivative_by_autograd(denoiser: Denoiser, x_t: Batch, t: OneTime) -> NoiseDerivative:
    """dD/dlambda through torch's graph of the time; the stated error is the rounding of one evaluation.

    Correct only where the denoiser does all of its arithmetic on the time in torch, which cannot be seen from outside:
    so `noise_derivative` compares. Raises InputError for a table of steps, and where no gradient reaches the time.
    """
    x_t, time = checked_points(x_t, t), as_time(t)
    schedule = denoiser.schedule
    _noise_level(denoiser, t)
    alpha, sigma, alpha_dot, sigma_dot = (
        function(time) for function in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot)
    )
    wronskian = alpha_dot * sigma - sigma_dot * alpha
    step = alpha * sigma / wronskian
    beside = time + 1e-3 * step
    if bool(nearest_trained_time(denoiser, beside) != beside):
        raise InputError("denoiser: expected one that knows every time, got one that knows a table of steps")

    def derivative(x: Tensor) -> Tensor:
        along = torch.zeros_like(time, requires_grad=True)
        moved = over_events(1 + along * (alpha_dot * sigma / wronskian), x) * x
        denoised = denoiser(moved, time + along * step)
        u = torch.zeros_like(denoised, requires_grad=True)
        pulled = None
        if denoised.requires_grad:
            pulled = torch.autograd.grad(denoised, along, u, create_graph=True, allow_unused=True)[0]
        if pulled is None:
            raise InputError("denoiser: expected an answer that depends on the time through torch")
        return torch.autograd.grad(pulled, u)[0]

    value = torch.cat([differentiable(lambda x=x: derivative(x)) for x in x_t.split(ROWS)])
    rounding = torch.finfo(x_t.dtype).eps * value.flatten(1).double().norm(dim=1)
    return NoiseDerivative(value, rounding, True)


def noise_derivative_by_differences(denoiser: Denoiser, x_t: Batch, t: OneTime) -> NoiseDerivative:
    """dD/dlambda from differences between noise levels, as above. Raises InputError as `noise_derivative` does."""
    x_t = checked_points(x_t, t)
    nodes = _nodes(denoiser, t)
    offsets = torch.tensor([offset for offset, _ in nodes], dtype=torch.float64)
    alpha = denoiser.schedule.alpha(t)
    parts = []
    with torch.no_grad():
        for x in x_t.split(ROWS):
            here = denoiser(x, as_time(t))
            rounding = torch.finfo(x.dtype).eps * here.flatten(1).double().norm(dim=1)

            def change(time: Tensor, x: Tensor = x, here: Tensor = here) -> Tensor:
                moved = over_events(denoiser.schedule.alpha(time) / alpha, x) * x
                return denoiser(moved, time) - here

            parts.append(_best_polynomial(offsets, [time for _, time in nodes], change, rounding))
    value, error = (torch.cat(part) for part in zip(*parts, strict=True))
    return NoiseDerivative(value.to(x_t.dtype), error, False)


def _noise_level(denoiser: Denoiser, t: OneTime) -> float:
    """lambda(t); InputError where it is infinite."""
    lam = float(denoiser.schedule.lam(t))
    if not abs(lam) < float("inf"):
        raise InputError(f"t: expected alpha > 0 and sigma > 0, got t = {float(t):g}, where lambda = {lam:g}")
    return lam


def _nodes(denoiser: Denoiser, t: OneTime) -> list[tuple[float, Tensor]]:
    """(offset in lambda, time) of the neighboring levels, the farthest first, an even number."""
    schedule, lam = denoiser.schedule, _noise_level(denoiser, t)
    ends = sorted(float(schedule.lam(end)) for end in (schedule.t_min, schedule.t_max))
    neighbors: dict[float, tuple[float, Tensor]] = {}

    def add(length: float) -> None:
        above = length if lam + length <= ends[1] else -1.5 * length
        below = -length if lam - length >= ends[0] else 1.5 * length
        for offset in (above, below):
            time = nearest_trained_time(denoiser, schedule.time_of_lambda(lam + offset))
            actual = float(schedule.lam(time)) - lam
            if float(time) != float(t) and abs(actual) < float("inf"):
                neighbors[float(time)] = (actual, time)

    for halving in range(HALVINGS + 1):
        add(LONGEST / 2**halving)
    for length in LONGER:
        if len(neighbors) < 4:
            add(length)
    nodes = sorted(neighbors.values(), key=lambda node: -abs(node[0]))
    if len(nodes) < 4:
        raise InputError(f"t: expected at least 4 other noise levels near t = {float(t):g}, got {len(nodes)}")
    return nodes[len(nodes) % 2 :]


def _best_polynomial(
    offsets: Float[Tensor, " nodes"],
    times: list[Tensor],
    change: Callable[[Tensor], Tensor],
    rounding: Float[Tensor, " batch"],
) -> tuple[Tensor, Tensor]:
    """The derivative at 0 of the best interpolating polynomial per point, and its error, from D(offset) - D(0)."""
    changes = torch.stack([change(time).double() for time in times])
    pairs = len(times) // 2
    runs: dict[tuple[int, int], Tensor] = {}
    value = torch.zeros_like(changes[0])
    least = torch.full((len(value),), float("inf"), dtype=torch.float64, device=value.device)
    for length in range(1, pairs + 1):
        for first in range(pairs - length + 1):
            part = slice(2 * first, 2 * (first + length))
            weights = _weights(offsets[part]).to(value.device)
            estimate = torch.einsum("n,nb...->b...", weights, changes[part])
            runs[first, length] = estimate
            if length > 1:
                shorter = (runs[first, length - 1], runs[first + 1, length - 1])
                gaps = [(estimate - other).flatten(1).norm(dim=1) for other in shorter]
                error = torch.stack([*gaps, weights.abs().sum() * rounding]).amax(0)
                better = error < least
                value[better], least[better] = estimate[better], error[better]
    return value, least


def _weights(offsets: Float[Tensor, " nodes"]) -> Float[Tensor, " nodes"]:
    """w with p'(0) = sum_i w_i (y_i - y_0) for the polynomial through (0, y_0) and (offset_i, y_i) (Lagrange)."""
    others = offsets[None] - torch.diag(offsets)  # row i: every other node, and 0 in place of node i
    differences = offsets[:, None] - others
    factors = torch.where(torch.eye(len(offsets), dtype=torch.bool), 1.0, -others / differences)
    return factors.prod(1) / offsets

r"""The density that a denoiser's probability flow generates, along characteristics, without a grid.

Started from :math:`\nu` at time T, the flow (eta = 0 of the reverse family) maps x_T to x_t, and

.. math::  \log q_t(x_t) = \log\nu(x_T) + \log\left|\det\frac{\partial x_T}{\partial x_t}\right| .

Each point is computed on its own, to the tolerance of the integration. With :math:`\nu = p_T` and the exact denoiser,
:math:`q_t = p_t`; from any other start :math:`\log(q/p)` is constant along each trajectory.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054, section 2 (eta = 0).
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser

from .divergence import Divergence, ExactDivergence, JacobianDivergence
from .flow_map import transport


def generated_log_density(
    denoiser: Denoiser,
    x_t: Batch,
    t: float | int,
    start: float | int,
    log_start: Callable[[Tensor], Tensor],
    *,
    divergence: Divergence | None = None,
    tolerance: float | None = None,
) -> Float[Tensor, " batch"]:
    """log q_t(x_t) in nats for the flow started at time `start` > t from the log-density `log_start`.

    `divergence` and `tolerance` as in `log_likelihood`; with several probes their mean. Raises InputError as
    `transport` does.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import generated_log_density
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE())
    >>> x_t, log_start = torch.tensor([[4.0]], dtype=torch.float64), lambda x: -(x[:, 0] ** 2) / 128
    >>> log_q = generated_log_density(denoiser, x_t, 1.0, 13**0.5, log_start)  # x_T = 2 x_t, as 16 = 2^2 * 4
    >>> round(log_q.item(), 6)  # -8^2 / 128 + log 2
    0.193147
    """
    if divergence is None:
        divergence = ExactDivergence() if isinstance(denoiser, ExactDenoiser) else JacobianDivergence()
    carried = transport(denoiser, x_t, t, start, divergence=divergence, tolerance=tolerance)
    return log_start(carried.x_s) + carried.log_det.mean(1)

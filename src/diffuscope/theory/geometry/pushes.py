r"""What becomes of a perturbation: a push by :math:`\delta u` at time t', seen in the state, the estimate, the sample.

For Gaussian data the flow is linear: a push along an eigenvector (variance :math:`\lambda`) stays along it, with the
gains

.. math::
    \text{state at } t: \ \psi = \sqrt{\frac{\alpha_t^2\lambda + \sigma_t^2}{\alpha_{t'}^2\lambda + \sigma_{t'}^2}},
    \qquad
    D(t): \ \xi = \frac{\alpha_t\lambda}{\sqrt{(\alpha_t^2\lambda + \sigma_t^2)(\alpha_{t'}^2\lambda + \sigma_{t'}^2)}},
    \qquad
    \text{sample}: \ \sqrt{\frac{\lambda}{\alpha_{t'}^2\lambda + \sigma_{t'}^2}} .

Off the data's subspace (:math:`\lambda = 0`) D and sample do not move. In a variance-preserving schedule the last is
:math:`\sqrt{\lambda / (1 + (\lambda - 1)\bar\alpha_{t'})}`: a push of fixed size matters more the earlier it comes
*only if* :math:`\lambda > 1`; where :math:`\lambda < 1` the gain grows from :math:`\sqrt\lambda` to 1. A push of a
fixed share of the noise, :math:`\delta = \tilde\sigma\epsilon` at alpha = 1, has the gain
:math:`\sqrt{\lambda\tilde\sigma^2/(\lambda + \tilde\sigma^2)}`, which is the larger the earlier, for every variance.

For any model the gain is measured by central differences of its own flow, :math:`[x_0(x + \delta u) - x_0(x -
\delta u)] / 2\delta`. Source: Wang & Vastola 2023, https://arxiv.org/abs/2303.02490.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.samplers import Sampler, finish
from diffuscope.schedules import Schedule, Time, as_time


def state_gain(variances: Float[Tensor, " k"], schedule: Schedule, t: Time, s: Time) -> Float[Tensor, " k"]:
    """psi: how much of a push at time t is in the state at time s."""
    return (_spread(variances, schedule, s) / _spread(variances, schedule, t)).sqrt()


def denoised_gain(variances: Float[Tensor, " k"], schedule: Schedule, t: Time, s: Time) -> Float[Tensor, " k"]:
    """xi: how much of a push at time t is in the clean estimate at time s; 0 for a variance of 0."""
    lam = variances.double()
    product = _spread(lam, schedule, s) * _spread(lam, schedule, t)
    return schedule.alpha(as_time(s)) * lam / product.sqrt()


def sample_gain(variances: Float[Tensor, " k"], schedule: Schedule, t: Time) -> Float[Tensor, " k"]:
    """sqrt(lambda / (alpha^2 lambda + sigma^2)): how much of a push at time t is in the sample."""
    return (variances.double() / _spread(variances, schedule, t)).sqrt()


def noise_relative_gain(variances: Float[Tensor, " k"], ratios: Float[Tensor, " levels"]) -> Float[Tensor, "levels k"]:
    """sqrt(lambda r^2 / (lambda + r^2)): the change by a push of one standard deviation of noise at sigma/alpha = r.

    At r = infinity it is sqrt(lambda).
    """
    inverse = ratios.double()[:, None] ** -2
    return (variances.double() / (1 + variances.double() * inverse)).sqrt()


def displacements(
    denoiser: Denoiser,
    sampler: Sampler,
    x_t: Batch,
    times: Float[Tensor, " times"],
    directions: Float[Tensor, "k *event"],
    *,
    size: float | int,
) -> Float[Tensor, "k batch *event"]:
    """Central differences of the sample, by pushes of +-`size` along each direction at times[0]; one run.

    The states `x_t` are at times[0], and the sample is the clean estimate at the last time. Raises InputError unless
    size > 0.
    """
    if not size > 0:
        raise InputError(f"size: expected the size of a push, > 0, got {size}")
    require_like(directions, x_t)
    pushes = size * directions.to(x_t)[:, None]
    both = torch.stack([x_t + pushes, x_t - pushes])
    forward, backward = finish(denoiser, sampler, both.flatten(0, 2), times).reshape(both.shape)
    return (forward - backward) / (2 * size)


def require_like(directions: Float[Tensor, "k *event"], x_t: Float[Tensor, "batch *shape"]) -> None:
    """ValueError for directions of another shape than the states, which would broadcast."""
    if directions.shape[1:] != x_t.shape[1:]:
        shapes = tuple(directions.shape[1:]), tuple(x_t.shape[1:])
        raise ValueError(f"directions: expected the shape {shapes[1]} of a state, got {shapes[0]}")


def along(moved: Float[Tensor, "k batch *event"], directions: Float[Tensor, "k *event"]) -> Float[Tensor, "k batch"]:
    """The component of each displacement along its own direction: the measured gain."""
    return (moved.flatten(2) * directions.to(moved).flatten(1)[:, None]).sum(2)


def _spread(variances: Tensor, schedule: Schedule, t: Time) -> Tensor:
    alpha, sigma = schedule.alpha(as_time(t)), schedule.sigma(as_time(t))
    return alpha**2 * variances.double() + sigma**2

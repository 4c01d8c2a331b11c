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
    """psi: how much of a push at time t is in the state at time s.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.geometry import state_gain
    >>> round(float(state_gain(torch.tensor([3.0]), RectifiedFlow(), 0.5, 0.2)), 6)  # (0.64 x 3 + 0.04) / (0.75 + 0.25)
    1.4
    """
    return (_spread(variances, schedule, s) / _spread(variances, schedule, t)).sqrt()


def denoised_gain(variances: Float[Tensor, " k"], schedule: Schedule, t: Time, s: Time) -> Float[Tensor, " k"]:
    """xi: how much of a push at time t is in the clean estimate at time s; 0 for a variance of 0.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.geometry import denoised_gain
    >>> round(float(denoised_gain(torch.tensor([3.0]), RectifiedFlow(), 0.5, 0.2)), 6)  # 0.8 x 3 / (1.4 x 1)
    1.714286
    """
    lam = variances.double()
    product = _spread(lam, schedule, s) * _spread(lam, schedule, t)
    return schedule.alpha(as_time(s)) * lam / product.sqrt()


def sample_gain(variances: Float[Tensor, " k"], schedule: Schedule, t: Time) -> Float[Tensor, " k"]:
    """sqrt(lambda / (alpha^2 lambda + sigma^2)): how much of a push at time t is in the sample.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.geometry import sample_gain
    >>> round(float(sample_gain(torch.tensor([3.0]), RectifiedFlow(), 0.2)), 6)  # sqrt(3 / (0.64 x 3 + 0.04))
    1.237179
    """
    return (variances.double() / _spread(variances, schedule, t)).sqrt()


def noise_relative_gain(variances: Float[Tensor, " k"], ratios: Float[Tensor, " levels"]) -> Float[Tensor, "levels k"]:
    """sqrt(lambda r^2 / (lambda + r^2)): the change by a push of one standard deviation of noise at sigma/alpha = r.

    At r = infinity it is sqrt(lambda).

    >>> import torch
    >>> from diffuscope.theory.geometry import noise_relative_gain
    >>> found = noise_relative_gain(torch.tensor([144.0]), torch.tensor([16.0, torch.inf]))
    >>> [round(gain, 6) for gain in found.flatten().tolist()]  # 12 x 16 / 20, and 12
    [9.6, 12.0]
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

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import displacements
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.ones(1), 9.0), VE())  # one step from sigma 4 to 2, then D
    >>> x_t, times = torch.tensor([[5.0]]).double(), torch.tensor([4.0, 2.0]).double()
    >>> moved = displacements(model, DDIM(), x_t, times, torch.tensor([[1.0]]), size=0.5)
    >>> round(float(moved), 6)  # 9 / 25 + (16 / 25) (2 / 4) = 0.68, times 9 / 13
    0.470769
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
    """The component of each displacement along its own direction: the measured gain.

    >>> import torch
    >>> from diffuscope.theory.geometry import along
    >>> round(float(along(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[0.6, -0.8]]))), 6)  # 3 x 0.6 - 4 x 0.8
    -1.4
    """
    return (moved.flatten(2) * directions.to(moved).flatten(1)[:, None]).sum(2)


def _spread(variances: Tensor, schedule: Schedule, t: Time) -> Tensor:
    alpha, sigma = schedule.alpha(as_time(t)), schedule.sigma(as_time(t))
    return alpha**2 * variances.double() + sigma**2

r"""The reverse diffusion of a denoiser, exact or trained, as noisy dynamics.

With the noise level :math:`r = \sigma/\alpha` every schedule is :math:`y = x_0 + r\varepsilon` for
:math:`y = x/\alpha`, and in the time :math:`u = (r_T^2 - r^2) / 2`, which runs from the noise to the data, the noise is
constant:

.. math::  dy = 2\,s(y, r)\,du + \sqrt2\,dW_u, \qquad s = \frac{E[x_0 \mid y] - y}{r^2} .

For an exact score the most likely path of the full functional ("OM") between two states is straight in u, whatever the
data are, with :math:`S = |y_1 - y_0|^2 / 4u_1 + \log p(y_0, r_T) / p(y_1, r)`.

Source: Vastola 2024, https://arxiv.org/abs/2504.09761, has the question; the identity is derived in the experiment
`reverse-diffusion-is-a-bridge`.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser, modules_within
from diffuscope.errors import InputError
from diffuscope.exact import Empirical

from .discrete_action import Mesh
from .dynamics import Dynamics

Denoised = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ReverseDiffusion:
    """The dynamics of y = x / alpha in the time u, from the noise level sigma / alpha `highest` to `lowest`.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.theory.paths import reverse_diffusion
    >>> data = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE())
    >>> reverse = reverse_diffusion(data, highest=2.0, lowest=1.0)
    >>> [round(u, 6) for u in reverse.times(3).tolist()], reverse.level(torch.tensor([0.0, 1.5])).tolist()
    ([0.0, 1.0, 1.5], [2.0, 1.0])
    >>> reverse.dynamics.drift_at(torch.tensor([[14.0]]), torch.tensor([0.0]))  # 2 s = -2 y / (3 + r^2)
    tensor([[-4.]], dtype=torch.float64)
    """

    dynamics: Dynamics
    highest: float | int
    lowest: float | int

    def level(self, u: Tensor) -> Tensor:
        """The noise level at the times u."""
        return _level(self.highest, u)

    def times(self, nodes: int) -> Mesh:
        """Times u from 0 on, at equal ratios of the noise level."""
        shares = torch.linspace(0, 1, nodes, dtype=torch.float64)
        r = self.highest * (self.lowest / self.highest) ** shares
        u = (self.highest**2 - r**2) / 2
        u[0] = 0.0
        return u


def reverse_diffusion(
    denoiser: Denoiser, highest: float | int, lowest: float | int, *, event_shape: tuple[int, ...] | None = None
) -> ReverseDiffusion:
    """The reverse diffusion of `denoiser` between two noise levels sigma / alpha, its events flattened to rows.

    `event_shape` is by default that of an exact distribution, and otherwise one dimension. Modules are copied into
    float64. Raises InputError unless 0 < lowest < highest. Paths need derivatives by autograd of the denoiser: the
    `Empirical` distribution is computed so that it has them, and where others do not `least_action` refuses them.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.theory.paths import least_action, reverse_diffusion
    >>> reverse = reverse_diffusion(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE()), highest=1, lowest=0.5)
    >>> u = reverse.times(51)
    >>> path = least_action(reverse.dynamics, torch.tensor([2.0]), torch.tensor([1.0]), u, "OM").states[0, :, 0]
    >>> bool((path - (2 - u / u[-1])).abs().max() < 1e-4)  # straight
    True
    """
    if not 0 < lowest < highest < math.inf:
        raise InputError(f"lowest, highest: expected noise levels 0 < lowest < highest, got {lowest} and {highest}")
    if isinstance(denoiser, ExactDenoiser):
        event_shape = event_shape or tuple(denoiser.distribution.event_shape)
    denoised = _denoised(denoiser, event_shape)

    def drift(y: Tensor, u: Tensor) -> Tensor:
        r = _level(highest, u)
        return 2 * (denoised(y, r) - y) / r[:, None] ** 2

    dynamics = Dynamics(drift, 1.0)
    return ReverseDiffusion(dynamics, highest, lowest)


def _level(highest: float | int, u: Tensor) -> Tensor:
    return (highest**2 - 2 * u.double()).sqrt()


def _denoised(denoiser: Denoiser, event_shape: tuple[int, ...] | None) -> Denoised:
    """E[x_0 | y] of rows y at noise levels r."""
    if isinstance(denoiser, ExactDenoiser) and isinstance(denoiser.distribution, Empirical):
        return _of_points(denoiser.distribution)
    model = copy.deepcopy(denoiser)
    for module in modules_within(model):
        module.double().eval().requires_grad_(False)
    schedule = model.schedule

    def denoised(y: Tensor, r: Tensor) -> Tensor:
        t = schedule.time_of_noise_to_signal(r)
        shape = (len(y), *(event_shape or y.shape[1:]))
        x = (schedule.alpha(t)[:, None] * y).reshape(shape)
        return model(x, t).reshape(y.shape)

    return denoised


def _of_points(data: Empirical) -> Denoised:
    """The posterior mean over points in plain products, of which autograd has all derivatives."""
    points, weights = data.points.flatten(1).double(), data.weights[data.weights > 0]
    square, prior = points.square().sum(1) / 2, weights.log()

    def denoised(y: Tensor, r: Tensor) -> Tensor:
        logits = prior + (y @ points.T - square) / r[:, None] ** 2
        return logits.softmax(1) @ points

    return denoised

r"""The plane of a trajectory: the rotation from its start to its end, and what is outside.

A state is nearly a combination of the two ends,

.. math::  x_t \approx \alpha_t x_0 + \frac{\sigma_t}{\sigma_T} x_T ,

with the schedule's own alpha, the root of what DDPM calls :math:`\bar\alpha`. (With :math:`\bar\alpha` itself in its
place the error comes out smaller, on CIFAR-10's spectrum by four tenths, and flatters the claim; so does a pairing of
states and times that is off by one.) For centered Gaussian data, along an eigenvector of variance :math:`\lambda` and
with the start's coordinate c, the residual is exactly

.. math::
    c\left[\frac{\sqrt{\alpha_t^2\lambda + \sigma_t^2} - \alpha_t\sqrt\lambda}{\sqrt{\alpha_T^2\lambda + \sigma_T^2}}
           - \frac{\sigma_t}{\sigma_T}\right] .

From a start without signal (:math:`\alpha_T = 0`) it is between :math:`-\min(\alpha_t\sqrt\lambda, \sigma_t)\,
c/\sigma_T` and 0: none at either end. As a share of the state's own coordinate it is largest,
:math:`\sqrt2 - 1`, where signal :math:`\alpha_t\sqrt\lambda` and noise :math:`\sigma_t` of that component are equal.

`outside` does not use the formula's coefficients: it is the share of :math:`|x_t|^2` outside the plane of
:math:`x_T` and :math:`x_0`, whatever the combination. Source: Wang & Vastola 2023, https://arxiv.org/abs/2303.02490.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .trajectories import Trajectories


def rotated(trajectories: Trajectories) -> Float[Tensor, "points batch *event"]:
    """alpha_t x_0 + (sigma_t / sigma_T) x_T along the path.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import follow, rotated
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.full((1,), 2.0), 0.0), VE())  # D = 2: states 10, 6, 4
    >>> found = follow(point, DDIM(), torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]).double())
    >>> [round(x, 6) for x in rotated(found).flatten().tolist()]  # 2 + 10 sigma / 4, and the sample
    [12.0, 7.0, 4.5, 2.0]
    """
    alphas, sigmas = (
        values.to(trajectories.states).reshape(-1, *[1] * (trajectories.states.ndim - 1))
        for values in (trajectories.path_alphas, trajectories.path_sigmas / trajectories.sigmas[0])
    )
    return alphas * trajectories.samples + sigmas * trajectories.states[0]


def rotation_error(trajectories: Trajectories) -> Float[Tensor, "points batch"]:
    """|x_t - rotated|^2 / |x_t|^2 along the path.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import follow, rotation_error
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.full((1,), 2.0), 0.0), VE())  # D = 2: states 10, 6, 4
    >>> found = follow(point, DDIM(), torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]).double())
    >>> [round(x, 6) for x in rotation_error(found).flatten().tolist()]  # (2 / 10)^2, (1 / 6)^2, (0.5 / 4)^2, 0
    [0.04, 0.027778, 0.015625, 0.0]
    """
    path = trajectories.path.double().flatten(2)
    return (path - rotated(trajectories).double().flatten(2)).square().sum(2) / path.square().sum(2)


def rotation_residual(
    variances: Float[Tensor, " k"],
    alphas: Float[Tensor, " points"],
    sigmas: Float[Tensor, " points"],
) -> Float[Tensor, "points k"]:
    """The residual of the formula per unit of the start's coordinate, for centered Gaussian data; the start first.

    >>> import torch
    >>> from diffuscope.theory.geometry import rotation_residual
    >>> found = rotation_residual(torch.tensor([144.0]), torch.tensor([0.0, 0.5]), torch.tensor([10.0, 8.0]))
    >>> [round(value, 6) for value in found.flatten().tolist()]  # (10 - 0) / 10 - 1, (10 - 0.5 x 12) / 10 - 0.8
    [0.0, -0.4]
    """
    lam, alpha, sigma = variances.double(), alphas.double()[:, None], sigmas.double()[:, None]
    spread = (alpha**2 * lam + sigma**2).sqrt()
    return (spread - alpha * lam.sqrt()) / spread[:1] - sigma / sigma[:1]


def outside(trajectories: Trajectories) -> Float[Tensor, "points batch"]:
    """The share of |x_t|^2 outside the plane of start and end, along the path; zero at both ends.

    >>> import torch
    >>> from diffuscope.theory.geometry import Trajectories, outside
    >>> states = torch.tensor([[[2.0, 0.0, 0.0]], [[1.0, 1.0, 3.0]], [[0.0, 4.0, 0.0]]])
    >>> denoised = torch.tensor([[[0.0, 5.0, 0.0]]]).expand(3, 1, 3)
    >>> found = Trajectories(torch.arange(3.0), torch.ones(3), torch.tensor([4.0, 2.0, 1.0]), states, denoised)
    >>> [round(value, 6) for value in outside(found).flatten().tolist()]  # 3^2 / (1 + 1 + 3^2)
    [0.0, 0.818182, 0.0, 0.0]
    """
    path = trajectories.path.double().flatten(2)
    basis = _plane(trajectories)
    return (1 - _within(path, basis).square().sum(2) / path.square().sum(2)).clamp(min=0)


def in_plane(trajectories: Trajectories) -> Float[Tensor, "points batch 2"]:
    """a and b of the nearest a x_0 + b x_T / sigma_T; of a rotation they are alpha_t and sigma_t.

    >>> import torch
    >>> from diffuscope.theory.geometry import Trajectories, in_plane
    >>> states = torch.tensor([[[2.0, 0.0, 0.0]], [[1.0, 1.0, 3.0]], [[0.0, 4.0, 0.0]]])
    >>> denoised = torch.tensor([[[0.0, 5.0, 0.0]]]).expand(3, 1, 3)
    >>> found = Trajectories(torch.arange(3.0), torch.ones(3), torch.tensor([4.0, 2.0, 1.0]), states, denoised)
    >>> [round(value, 6) for value in in_plane(found)[1].flatten().tolist()]  # (1, 1, .) = 1/5 x_0 + 2 x_T / 4
    [0.2, 2.0]
    """
    basis = _plane(trajectories)
    end = trajectories.samples.double().flatten(1).norm(dim=1)
    start = _within(trajectories.states[:1].double().flatten(2), basis)[0] / float(trajectories.sigmas[0])
    along, across = _within(trajectories.path.double().flatten(2), basis).unbind(2)
    b = across / start[:, 1]
    return torch.stack([(along - b * start[:, 0]) / end, b], dim=2)


def _plane(trajectories: Trajectories) -> Float[Tensor, "batch D 2"]:
    """x_0, and the part of x_T at right angles to it, both of length one."""
    end, start = (x.double().flatten(1) for x in (trajectories.samples, trajectories.states[0]))
    first = end / end.norm(dim=1, keepdim=True)
    rest = start - (start * first).sum(1, keepdim=True) * first
    return torch.stack([first, rest / rest.norm(dim=1, keepdim=True)], dim=2)


def _within(
    path: Float[Tensor, "points batch D"], basis: Float[Tensor, "batch D 2"]
) -> Float[Tensor, "points batch 2"]:
    return torch.einsum("pbd,bdk->pbk", path, basis)

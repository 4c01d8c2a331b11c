r"""When the features of a sample emerge along its trajectory: outline first, and the noise level of each component.

For Gaussian data the part of the k-th principal component (variance :math:`\lambda`) that is present in the clean
estimate D(t), as a share of what the sample will have, is in every schedule

.. math::  f(\tilde\sigma) = \frac{\xi(t)}{\xi(0)} = \left(1 + \frac{\tilde\sigma^2}{\lambda}\right)^{-1/2},
           \qquad \tilde\sigma = \sigma/\alpha .

It is :math:`1/\sqrt2` at :math:`\tilde\sigma = \sqrt\lambda`, the *emergence level*, 1/2 at :math:`\sqrt{3\lambda}`.
With :math:`u = \tilde\sigma^2/\lambda`, :math:`df/d\log\tilde\sigma = -u(1 + u)^{-3/2}` is greatest at u = 2: the
component emerges fastest at :math:`\sqrt{2\lambda}`. Components of large variance come first.

For any model the share is measured on its own trajectories b, with :math:`c_{kb}(t) = u_k^T(D(t) - \mu)`, as a root
mean square, relative to the last level:

.. math::  F_k(t) = \sqrt{\frac{\sum_b c_{kb}(t)^2}{\sum_b c_{kb}(t_{last})^2}} ,

which is :math:`f(\tilde\sigma)/f(\tilde\sigma_{last})` for a Gaussian model, and :math:`1/\sqrt2` at
:math:`\tilde\sigma^2 = \lambda + 2\tilde\sigma_{last}^2`. *No data emerge later than Gaussian data
of the same second moments.* Let :math:`M = E[c(0)^2]` along any direction u. The best denoiser's error is at most that
of the best multiple of :math:`u^T(x_t - \alpha\mu)`,

.. math::  M - E[c(t)^2] \le \frac{M\sigma^2}{\alpha^2 M + \sigma^2}
           \quad\Rightarrow\quad \sqrt{E[c(t)^2]/M} \ge \left(1 + \tilde\sigma^2/M\right)^{-1/2} ,

and states on exact trajectories have the marginals of the diffusion: the emergence level is at least :math:`\sqrt M`.
Where a network's is lower, with M of its own samples, its answers at different noise levels are not those of one
distribution. Modes are decided with the outline, and bring details early.

Source: Wang & Vastola 2023, https://arxiv.org/abs/2303.02490; the level of fastest emergence and the bound are derived
here.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from .trajectories import Trajectories

EMERGED = math.sqrt(0.5)  # the share at sigma/alpha = sqrt(lambda)


def emerged_share(
    variances: Float[Tensor, " k"], ratios: Float[Tensor, " levels"], *, last: float = 0.0
) -> Float[Tensor, "levels k"]:
    """f at sigma/alpha = `ratios` for components of these variances, relative to the level `last`.

    Raises InputError for a variance that is not positive. Infinite ratios have share 0.

    >>> import torch
    >>> from diffuscope.theory.geometry import emerged_share
    >>> found = emerged_share(torch.tensor([144.0]), torch.tensor([torch.inf, 16.0, 9.0]))
    >>> [round(share, 6) for share in found.flatten().tolist()]  # 0, 12 / 20, 12 / 15
    [0.0, 0.6, 0.8]
    >>> round(float(emerged_share(torch.tensor([144.0]), torch.tensor([16.0]), last=5.0)), 6)  # 13 / 20
    0.65
    """
    if not bool((variances > 0).all()):
        raise InputError("variances: expected values > 0")
    lam, levels = variances.double(), ratios.double()[:, None]
    return ((1 + last**2 / lam) / (1 + levels**2 / lam)).sqrt()


def emergence_level(variances: Float[Tensor, " k"], *, last: float = 0.0) -> Float[Tensor, " k"]:
    """sigma/alpha = sqrt(lambda + 2 last^2), where 1/sqrt(2) of what a component has at the level `last` is there.

    >>> import torch
    >>> from diffuscope.theory.geometry import emergence_level
    >>> float(emergence_level(torch.tensor([7.0]), last=1.0))  # sqrt(7 + 2)
    3.0
    """
    return (variances.double() + 2 * last**2).sqrt()


def fastest_level(variances: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """sigma/alpha = sqrt(2 lambda), where a component grows fastest in log sigma.

    >>> import torch
    >>> from diffuscope.theory.geometry import fastest_level
    >>> float(fastest_level(torch.tensor([8.0])))  # sqrt(2 x 8)
    4.0
    """
    return (2 * variances.double()).sqrt()


def feature_coordinates(
    trajectories: Trajectories, gaussian: Gaussian, components: int
) -> Float[Tensor, "levels batch k"]:
    """u_k^T (D(t) - mu) for the leading principal components of `gaussian`, float64.

    Raises InputError for more components than the Gaussian has.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import feature_coordinates, gaussian_trajectories
    >>> data = Gaussian(torch.tensor([3.0, 5.0]), torch.eye(2), torch.tensor([144.0, 1.0]))
    >>> found = gaussian_trajectories(data, VE(), torch.tensor([[43.0, 9.0]]), torch.tensor([16.0, 9.0, 5.0]).double())
    >>> [round(c, 4) for c in feature_coordinates(found, data, 1).flatten().tolist()]  # 288 / 20, 288 / 15, 288 / 13
    [14.4, 19.2, 22.1538]
    """
    known = gaussian.eigenvectors.shape[1]
    if not 1 <= components <= known:
        raise InputError(f"components: expected 1 .. {known}, got {components}")
    mean, basis = gaussian.mean.flatten(), gaussian.eigenvectors[:, :components]
    return torch.stack([(level.double().flatten(1) - mean) @ basis for level in trajectories.denoised])


def measured_share(coordinates: Float[Tensor, "levels batch k"]) -> Float[Tensor, "levels k"]:
    """F_k, the root mean square over the batch relative to the last level; NaN for a component that no sample has.

    >>> import torch
    >>> from diffuscope.theory.geometry import measured_share
    >>> c = torch.tensor([[[1.0], [-2.0]], [[6.0], [8.0]]])  # two levels of two trajectories
    >>> [round(share, 6) for share in measured_share(c).flatten().tolist()]  # sqrt((1 + 4) / (36 + 64))
    [0.223607, 1.0]
    """
    return root_share(coordinates.square().mean(1))


def root_share(squares: Float[Tensor, "levels *k"]) -> Float[Tensor, "levels *k"]:
    """The root of mean squares relative to the last level.

    >>> import torch
    >>> from diffuscope.theory.geometry import root_share
    >>> root_share(torch.tensor([4.0, 9.0, 16.0])).tolist()
    [0.5, 0.75, 1.0]
    """
    return (squares / squares[-1]).sqrt()


def crossing_levels(
    ratios: Float[Tensor, " levels"], shares: Float[Tensor, "levels *k"], threshold: float = EMERGED
) -> Float[Tensor, "*k"]:
    """sigma/alpha where each share F passes `threshold` for good, from high noise to low.

    Between two levels log(F^-2 - 1) is a line in log sigma, which it is for Gaussian data: then the result is exact.
    NaN where F is never below, and where it ends below. What is above at high noise by errors alone does not count.

    >>> import torch
    >>> from diffuscope.theory.geometry import crossing_levels
    >>> found = crossing_levels(torch.tensor([16.0, 9.0]), torch.tensor([[0.6], [0.8]], dtype=torch.float64))
    >>> round(float(found), 6)  # of a Gaussian component of variance 144
    12.0
    """
    log_ratio, levels = ratios.double().log(), shares.double()
    below = levels < threshold
    place = below.int().cumsum(0).argmax(0)  # the last level below
    after = (place + 1).clamp(max=len(levels) - 1)
    missing = (levels.clamp(1e-150, 1 - 1e-12) ** -2 - 1).log()
    before, here = (missing.gather(0, index[None])[0] for index in (place, after))
    part = (math.log(threshold**-2 - 1) - before) / (here - before)
    crossing = torch.exp(log_ratio[place] + part * (log_ratio[after] - log_ratio[place]))
    return torch.where(below.any(0) & ~below[-1], crossing, torch.nan)

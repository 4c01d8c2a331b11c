r"""The PCA-local denoiser: every pixel is answered from the pixels that its Wiener filter reads most.

The best linear denoiser of data with covariance :math:`\Sigma` reads x_t by

.. math::  W = \alpha\Sigma\,(\alpha^2\Sigma + \sigma^2 I)^{-1} ,

whose row q is what the answer at pixel q reads. Its mask is the smallest set of pixels that holds a given `share` of
the row's energy,

.. math::  M_q = \text{the smallest } S \text{ with } \sum_{p \in S} W_{qp}^2 \ge \text{share} \sum_p W_{qp}^2 :

a few neighbors at low noise, wide and of the data's own shape at high noise; no patch size is chosen. The answer is the
posterior mean of the pixel, given its mask alone, under the empirical distribution of the same place,

.. math::
    D_q(x_t) = \frac{\sum_i w_{qi}\, y_{iq}}{\sum_i w_{qi}}, \qquad
    w_{qi} = \exp\Big(-\frac{1}{2\sigma^2}\sum_{p \in M_q} (x_p - \alpha y_{ip})^2\Big) .

A share of 1 reads all pixels and is the empirical denoiser; 0 reads one pixel.

**One product per query.** With :math:`e_{pi} = (x_p - \alpha y_{ip})^2` all logits are :math:`-Me/2\sigma^2`. Expanding
the square into three products would save nothing, since one of them, :math:`(M \circ x) Y^T`, is as large, and would
cancel at low noise. It costs 2 d^2 N operations a query. Weights are accumulated over all data by an online
log-sum-exp, so that the answer does not depend on how the data are cut into pieces.

The idea that locality comes from the covariance of the data: Lukoianov et al. 2025, https://arxiv.org/abs/2509.09672.
The definition of the masks is ours.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.exact.distribution import checked_levels
from diffuscope.schedules import Schedule, as_time

from ..clocks import ScheduleTime
from ..contract import Batch, BatchTime

FIT_ROWS = 4096  # examples at once in the fit of the covariance


def wiener_masks(gaussian: Gaussian, alpha: float, sigma: float, share: float | int) -> Bool[Tensor, "d d"]:
    """Row q: the fewest pixels that hold `share` of the energy of row q of the Wiener filter; itself if that is zero.

    Raises InputError for a share outside 0 .. 1, and for sigma <= 0.
    """
    _require_share(share)
    if not sigma > 0:
        raise InputError(f"sigma: expected a number > 0, got {sigma}")
    values, vectors = gaussian.eigenvalues, gaussian.eigenvectors
    variances = torch.cat([values, values.new_tensor([gaussian.tail_variance])])
    gain = variances / (alpha**2 * variances + sigma**2)
    filter_ = (vectors * (gain[:-1] - gain[-1])) @ vectors.T
    filter_.diagonal().add_(gain[-1])
    energy, order = filter_.square().sort(dim=1, descending=True, stable=True)
    held = energy.cumsum(1)
    before = torch.cat([torch.zeros_like(held[:, :1]), held[:, :-1]], 1)
    needed = before < share * held[:, -1:]
    needed[:, 0] = True
    if share == 1:
        needed[:] = True  # pixels of no energy too: the empirical denoiser
    masks = torch.zeros_like(needed).scatter_(1, order, needed)
    silent = held[:, -1] == 0
    if share < 1:
        masks[silent] = torch.eye(len(masks), dtype=torch.bool)[silent]
    return masks


def masked_means(
    x: Float[Tensor, "batch d"],
    alpha: float,
    sigma: float,
    points: Float[Tensor, "points d"],
    masks: Bool[Tensor, "d d"],
    *,
    memory: int = 128 * 2**20,
) -> Float[Tensor, "batch d"]:
    """The posterior mean of every pixel given its mask, one noise level for the batch, in the precision of `x`.

    Uses about `memory` bytes, at least those of one query and one point.
    """
    selected = masks.to(x.dtype) / (-2 * sigma**2)
    cells = max(1, memory // (4 * x.element_size() * x.shape[1]))  # pairs of a query and a point
    block = max(1, cells // len(points))
    answers = [_mean(part, alpha, points.split(min(cells, len(points))), selected) for part in x.split(block)]
    return torch.cat(answers) if answers else x.clone()


def _mean(
    x: Float[Tensor, "batch d"], alpha: float, pieces: tuple[Tensor, ...], selected: Float[Tensor, "d d"]
) -> Float[Tensor, "batch d"]:
    top = torch.full_like(x, -torch.inf)
    total, mean = torch.zeros_like(x), torch.zeros_like(x)
    for rows in pieces:
        y = rows.to(x.dtype).T
        logits = selected @ (x[:, :, None] - alpha * y).square_()
        higher = torch.maximum(top, logits.amax(2))
        kept = (top - higher).exp()
        weights = logits.sub_(higher[:, :, None]).exp_()
        total = total * kept + weights.sum(2)
        mean = mean * kept + weights.mul_(y).sum(2)
        top = higher
    return mean / total


class PCALocal:
    """The PCA-local denoiser of the data `points` (N, *event) under `schedule`, with masks that hold `share`.

    Computed in the precision of x_t. A call uses about `memory` bytes besides d x d numbers for each noise level.
    Raises InputError for a share outside 0 .. 1 and for fewer than two points or points that are not finite.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> PCALocal(points, RectifiedFlow(), share=0.9)(torch.tensor([[0.25]], dtype=torch.float64), 0.5)  # tanh(0.5)
    tensor([[0.4621]], dtype=torch.float64)
    """

    clock: ClassVar = ScheduleTime()

    def __init__(
        self,
        points: Float[Tensor, "points *event"],
        schedule: Schedule,
        *,
        share: float | int,
        memory: int = 128 * 2**20,
    ) -> None:
        _require_share(share)
        self._gaussian = Gaussian.fit(points.detach().split(FIT_ROWS))
        self._points = points.detach().reshape(len(points), -1)
        self._schedule, self._share, self._memory = schedule, share, memory

    @property
    def schedule(self) -> Schedule:
        """That of x_t."""
        return self._schedule

    def masks(self, alpha: float, sigma: float) -> Bool[Tensor, "d d"]:
        """What every pixel reads at this noise level."""
        return wiener_masks(self._gaussian, alpha, sigma, self._share)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """The posterior mean of every pixel given its mask, in the precision of `x_t`."""
        t = as_time(t)
        event_shape = self._gaussian.event_shape
        alphas, sigmas = checked_levels(x_t, self._schedule.alpha(t), self._schedule.sigma(t), event_shape)
        x = x_t.detach().reshape(len(x_t), self._points.shape[1])
        answer = torch.empty_like(x)
        for rows, alpha, sigma in _by_level(alphas, sigmas):
            masks = self.masks(alpha, sigma)
            answer[rows] = masked_means(x[rows], alpha, sigma, self._points, masks, memory=self._memory)
        return answer.reshape(x_t.shape)


def _by_level(
    alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"]
) -> Iterator[tuple[Tensor, float, float]]:
    """(rows, alpha, sigma) of every different noise level."""
    levels, level_of = torch.stack([alphas, sigmas], 1).unique(dim=0, return_inverse=True)
    for k, (alpha, sigma) in enumerate(levels.tolist()):
        yield (level_of == k).nonzero()[:, 0], alpha, sigma


def _require_share(share: float | int) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"share: expected a number in 0 .. 1, got {share}")

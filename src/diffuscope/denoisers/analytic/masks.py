r"""A score through masks: every output value sees the values of the query through weights of its own.

.. math::
    D_r(x) = \sum_i w_{ri}\, y_{i,r}, \qquad
    w_{ri} \propto \exp\Big(-\frac{1}{2\sigma^2} \sum_p m_{rp}\, (x_p - \alpha y_{ip})^2\Big) .

All masks 1 give the empirical denoiser, windows around every pixel the local score. Masks from the principal components
of the data are those of Lukoianov et al. 2025, https://arxiv.org/abs/2509.09672.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .aggregation import MEMORY, center_mean
from .denoiser import AnalyticDenoiser, ByViews, checked_images
from .views import MaskView, View

Matrix = Float[Tensor, "values values"]


@dataclass(frozen=True, eq=False)
class Masks:
    """The view through `masks`, one matrix or a function of sigma/alpha to one."""

    masks: Matrix | Callable[[float], Matrix]
    height: int
    width: int
    values: int

    def __call__(self, level: float) -> Iterable[View]:
        masks = self.masks(level) if callable(self.masks) else self.masks
        if tuple(masks.shape) != (self.values, self.values):
            raise InputError(
                f"masks: expected a matrix of shape ({self.values}, {self.values}), one row per value of an image, "
                f"got {tuple(masks.shape)}"
            )
        if not bool((masks.isfinite() & (masks >= 0)).all()):
            raise InputError("masks: expected finite weights >= 0, got a negative or non-finite one")
        return [MaskView(masks.detach(), self.height, self.width)]


def masked_score(
    data: Float[Tensor, "images *event"],
    schedule: Schedule,
    masks: Matrix | Callable[[float], Matrix],
    *,
    memory: int = MEMORY,
) -> AnalyticDenoiser:
    """The score machine of the masks m_rp, rows r and columns p in the order of a flattened image.

    `masks` may be a function of the noise level sigma/alpha (infinite at alpha = 0). `data` are images (images, height,
    width) or (images, channels, height, width). Raises InputError for other data, NaN, and masks of another shape or
    with negative weights.
    """
    images = checked_images(data)
    channels, height, width, _ = images.shape
    views = Masks(masks, height, width, channels * height * width)
    if not callable(masks):
        views(0.0)
    return AnalyticDenoiser(images, tuple(data.shape[1:]), schedule, ByViews(views, center_mean), memory)

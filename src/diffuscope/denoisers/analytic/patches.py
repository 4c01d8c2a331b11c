r"""Denoisers that know only patches of the images: local, equivariant, boundary-aware scores and composed patches.

Every one is the exact minimizer of the denoising loss under a constraint on the network: pixel q is a function of the
window of k x k pixels around it (*local*), the same function at all pixels (*equivariant*), or at all pixels that are
as far from the edges (*boundary-aware*). With the posterior weights of `views` and `aggregation`,

.. math::
    D_q = \sum_s w_{q,s}\, y_{s, q} \quad (\text{scores}), \qquad
    D = \frac{\sum_C C^T D_C}{\sum_C C^T 1} \quad (\text{composition of crops } C),

where :math:`D_C = E[C x_0 \mid C x_t]` is the posterior mean over the crops of all images at one location. A window
that covers the image leaves the empirical denoiser, which memorizes: k = 2 max(H, W) - 1 around a pixel, k = H = W as
a crop. Nothing is approximated: all images count at every noise level, whatever the batch.

Sources: Kamb & Ganguli 2024, https://arxiv.org/abs/2412.20292; Niedoba et al. 2024, https://arxiv.org/abs/2411.19339;
their common form, by what a query sees, how responses are weighed and where they come from:
https://arxiv.org/abs/2605.24192.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .aggregation import MEMORY, center_mean, overlap_mean
from .denoiser import AnalyticDenoiser, Average, ByViews, checked_images
from .equivariant import BoundaryAware, Circular
from .views import View, crop_views, local_views

Images = Float[Tensor, "images *event"]
Size = int | Callable[[float], int]


@dataclass(frozen=True, eq=False)
class WindowSize:
    """`size`, one number or a function of sigma/alpha to one, refused where images have no such window."""

    size: Size
    height: int
    width: int
    largest: int
    odd: bool

    def __call__(self, level: float) -> int:
        size = self.size(level) if callable(self.size) else self.size
        size = int(size) if isinstance(size, Integral) else size  # also NumPy's
        if not (isinstance(size, int) and 1 <= size <= self.largest and (size % 2 or not self.odd)):
            kind = "an odd number" if self.odd else "a whole number"
            image = f"for images of {self.height} x {self.width} pixels"
            raise InputError(f"size: expected {kind} 1 .. {self.largest} {image}, got {size}")
        return size


@dataclass(frozen=True, eq=False)
class Windows:
    """The views of the windows of every noise level."""

    of: Callable[[int, int, int], Iterator[View]]
    size: WindowSize

    def __call__(self, level: float) -> Iterable[View]:
        return self.of(self.size.height, self.size.width, self.size(level))


def local_score(data: Images, schedule: Schedule, size: Size, *, memory: int = MEMORY) -> AnalyticDenoiser:
    """Pixel q from the windows around q of all images; what is outside the image is ignored.

    `data` are images (images, height, width) or (images, channels, height, width); `size` is odd, at most
    2 max(height, width) - 1, or a function of the noise level sigma/alpha (infinite at alpha = 0) to such a number.
    Memory: about `memory` bytes besides the images. Raises InputError for other data or sizes, and for NaN.
    """
    return _denoiser(
        data, schedule, size, _around, lambda size: ByViews(Windows(local_views, size), center_mean), memory
    )


def equivariant_score(data: Images, schedule: Schedule, size: Size, *, memory: int = MEMORY) -> AnalyticDenoiser:
    """Pixel q from the windows around all pixels of all images, which continue periodically, as does the query.

    So shifting the query shifts the answer, and shifting an image changes nothing. (The code of Kamb & Ganguli
    continues the query alone and takes the windows inside the images.) `size` is odd, at most min(height, width); the
    rest as `local_score`. The cost is that of (height x width)^2 x images pairs of windows, and grows with the size up
    to 9 pixels; windows of pixels of the background, the median value, are counted once.

    >>> import torch
    >>> from diffuscope.denoisers.analytic import equivariant_score
    >>> from diffuscope.schedules import VE
    >>> pixels = torch.tensor([[[-1.0, 1.0, 1.0, -1.0]]])  # one image of four pixels
    >>> x = torch.tensor([[[0.25, 0.0, 0.0, -0.25]]])
    >>> equivariant_score(pixels, VE(), 1)(x, 0.5)  # tanh(x / sigma^2) = tanh(1), wherever the pixel is
    tensor([[[ 0.7616,  0.0000,  0.0000, -0.7616]]])
    """
    return _denoiser(data, schedule, size, _periodic, Circular, memory)


def boundary_equivariant_score(
    data: Images, schedule: Schedule, size: Size, *, memory: int = MEMORY
) -> AnalyticDenoiser:
    """Pixel q from the windows around all pixels of all images that are cut by the edges as its own window is.

    Near a corner that is the same location, along an edge the same distance from it, inside every window inside.
    `size` and the rest as `local_score`.
    """
    return _denoiser(data, schedule, size, _around, BoundaryAware, memory)


def patch_composition(data: Images, schedule: Schedule, size: Size, *, memory: int = MEMORY) -> AnalyticDenoiser:
    """The average of the posterior means of all crops that contain a pixel, each over the crops at its location.

    `size` is at most min(height, width) and may be even; the rest as `local_score`.
    """
    return _denoiser(
        data, schedule, size, _inside, lambda size: ByViews(Windows(crop_views, size), overlap_mean), memory
    )


def _around(size: Size, height: int, width: int) -> WindowSize:
    """Around a pixel, cut at the edges."""
    return WindowSize(size, height, width, 2 * max(height, width) - 1, odd=True)


def _periodic(size: Size, height: int, width: int) -> WindowSize:
    """Around a pixel, no pixel twice."""
    return WindowSize(size, height, width, (min(height, width) - 1) // 2 * 2 + 1, odd=True)


def _inside(size: Size, height: int, width: int) -> WindowSize:
    return WindowSize(size, height, width, min(height, width), odd=False)


def _denoiser(
    data: Images,
    schedule: Schedule,
    size: Size,
    bounds: Callable[[Size, int, int], WindowSize],
    average: Callable[[WindowSize], Average],
    memory: int,
) -> AnalyticDenoiser:
    images = checked_images(data)
    checked = bounds(size, *images.shape[1:3])
    if not callable(size):
        checked(0.0)
    return AnalyticDenoiser(images, tuple(data.shape[1:]), schedule, average(checked), memory)

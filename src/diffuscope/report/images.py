"""Small images as data URLs, with which a page contains its pictures."""

import base64
import io

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffuscope.errors import InputError

_COMFORTABLE_PIXELS = 96


def image_png(image: Real[np.ndarray, "*image"], low: float | int, high: float | int, scale: int | None = None) -> str:
    """A gray (H, W), (H, W, 1), (1, H, W) or color (H, W, 3), (3, H, W) image as a PNG data URL.

    `low` is black and `high` white; values beyond are clipped. Each pixel becomes a square of `scale` x `scale` pixels,
    by default the largest whose image fits into 96 x 96. An array (3, H, 3) is read with its channels first.
    Raises InputError for another shape, for values that are not finite, and unless low < high.

    >>> import base64
    >>> import io
    >>> import numpy as np
    >>> from diffuscope.report import image_png
    >>> from PIL import Image
    >>> url = image_png(np.array([[-3.0, 0.5, 3.0]]), low=-1, high=3, scale=1)
    >>> with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
    ...     np.asarray(image).tolist()  # 255 * (0.5 + 1) / 4 = 95.6
    [[0, 96, 255]]
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 3)):
        raise InputError(f"image: expected (H, W), (H, W, 3) or (C, H, W) with C = 1 or 3, got {np.shape(image)}")
    if not np.isfinite(values).all():
        raise InputError(f"image: expected finite values, got {int((~np.isfinite(values)).sum())} of NaN or infinity")
    if not low < high:
        raise InputError(f"image range: expected low < high, got {low} and {high}")
    if scale is None:
        scale = max(1, _COMFORTABLE_PIXELS // max(values.shape[:2]))
    levels = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
    enlarged = levels.repeat(scale, axis=0).repeat(scale, axis=1)
    encoded = io.BytesIO()
    Image.fromarray(enlarged).save(encoded, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")

"""Pictures of a page: the pixels that went in come out, enlarged and no more."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from diffuscope.errors import InputError
from diffuscope.report import image_png


def decoded(address: str) -> np.ndarray:
    kind, encoded = address.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_levels_survive_enlarging():
    levels = np.arange(256, dtype=np.float64).reshape(16, 16)
    picture = decoded(image_png(levels, 0, 255, scale=3))
    assert picture.shape == (48, 48)
    assert (picture[::3, ::3] == levels).all()
    assert (picture == picture[::3, ::3].repeat(3, 0).repeat(3, 1)).all()


def test_range_goes_to_black_and_white_and_beyond_is_clipped():
    picture = decoded(image_png(np.array([[-5.0, -1.0, 0.0, 1.0, 5.0]]), -1, 1, scale=1))
    assert picture.tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize(("shape", "same"), [((1, 5, 4), (5, 4)), ((5, 4, 1), (5, 4)), ((3, 5, 4), None)])
def test_channels_may_come_first_or_last(shape, same):
    image = np.random.default_rng(0).random(shape)
    other = np.moveaxis(image, 0, -1) if same is None else image.reshape(same)
    assert image_png(image, 0, 1) == image_png(other, 0, 1)


def test_default_size_fits_a_phone():
    assert decoded(image_png(np.zeros((8, 8)), 0, 1)).shape == (96, 96)
    assert decoded(image_png(np.zeros((28, 28)), 0, 1)).shape == (84, 84)
    assert decoded(image_png(np.zeros((3, 200, 100)), 0, 1)).shape == (200, 100, 3)


@pytest.mark.parametrize(
    ("image", "low", "high"),
    [
        (np.zeros((2, 5, 5)), 0, 1),
        (np.zeros(5), 0, 1),
        (np.zeros((0, 5)), 0, 1),
        (np.full((2, 2), np.nan), 0, 1),
        (np.zeros((2, 2)), 1, 1),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image, low, high):
    with pytest.raises(InputError, match=r"^image[^\n]*expected[^\n]*$"):
        image_png(image, low, high)

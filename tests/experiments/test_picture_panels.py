"""Pictures of a panel stand where they should, with gaps between them."""

import math

import pytest
import torch

from diffuscope.data import load_data
from diffuscope.denoisers import MLP, Preconditioned
from diffuscope.experiments import sample_quality
from diffuscope.experiments.digit_models import InDouble
from diffuscope.experiments.part import PIXEL_RANGE
from diffuscope.experiments.picture_panels import pictures
from diffuscope.findings import HeatMap
from diffuscope.schedules import VE


def test_pictures_lie_in_rows_from_the_top_with_a_gap_behind_each():
    """Two rows of three pictures of 2 x 1 pixels: the numbers of row, column and height as digits."""
    row, column, h = torch.meshgrid(*(torch.arange(n) for n in (2, 3, 2)), indexing="ij")
    images = (100 * row + 10 * column + h).double()[..., None]
    panel = pictures("p", images, (0.0, 120.5))
    (mark,) = panel.marks
    assert isinstance(mark, HeatMap)
    gap = math.nan
    top, below = [0, gap, 10, gap, 20, gap], [1, gap, 11, gap, 21, gap]
    lower, last = [100, gap, 110, gap, 120, gap], [101, gap, 111, gap, 120.5, gap]  # 121 is beyond the range
    expected = torch.tensor([top, below, [gap] * 6, lower, last, [gap] * 6], dtype=torch.float64)
    assert torch.equal(torch.tensor(mark.values, dtype=torch.float64).nan_to_num(-1), expected.nan_to_num(-1))
    assert list(mark.x_edges) == [0, 1, 2, 3, 4, 5, 6]
    assert list(mark.y_edges) == [6, 5, 4, 3, 2, 1, 0]
    assert (panel.title, panel.x_label, panel.y_label, panel.equal_scales) == ("p", "", "", True)


def test_forty_digits_are_shown_ten_a_row():
    images = load_data("digits").in_range(*PIXEL_RANGE).train[:50]
    (mark,) = sample_quality._pictures("digits", images).marks
    assert isinstance(mark, HeatMap)
    shown = torch.tensor(mark.values, dtype=torch.float64)
    assert shown.shape == (4 * 9, 10 * 9)
    for row, column in ((0, 0), (1, 0), (0, 1), (3, 9)):
        at = shown[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
        assert torch.equal(at, images[10 * row + column, 0].double())


def test_a_network_in_double_is_that_network():
    network = Preconditioned(MLP((3,), width=4, depth=1), VE(0.1, 2.0), 1.0, event_shape=(3,), data_range=PIXEL_RANGE)
    x_t = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answer = InDouble(network)(x_t, 0.7)
    assert answer.dtype == torch.float64
    assert torch.equal(answer, network(x_t.float(), 0.7).double())
    assert InDouble(network).schedule == VE(0.1, 2.0)
    assert answer.flatten().tolist() != pytest.approx(x_t.flatten().tolist(), abs=1e-3)

"""Pictures of examples: slices of volumes, sheets with lines between images, and as many curves and points as fit."""

import numpy as np
import pytest
import torch
from made_by_hand import decoded

from chart_reading import marks_of
from diffuscope.audit.pictures import as_images, is_series, ordinary_samples
from diffuscope.findings import Chart, Line, Points
from diffuscope.report import Gallery


@pytest.mark.parametrize(("depth", "middle"), [(1, 0), (2, 1), (5, 2), (6, 3)])
def test_the_picture_of_a_volume_is_its_middle_slice(depth, middle):
    volumes = torch.arange(float(depth))[:, None, None].expand(2, 1, depth, 3, 3)
    shown = as_images(volumes)
    assert shown is not None
    assert shown.shape == (2, 1, 3, 3)
    assert (shown == middle).all()
    (gallery,) = ordinary_samples(volumes, volumes + torch.rand(2, 1, depth, 3, 3))
    assert isinstance(gallery, Gallery)
    assert gallery.how_to_read.endswith("Can you tell which is which? Middle slices of volumes.")


@pytest.mark.parametrize(
    ("shape", "pictured"), [((1, 4, 4), True), ((3, 4, 4), True), ((2, 4, 4), False), ((4,), False)]
)
def test_gray_and_color_images_have_pictures(shape, pictured):
    assert (as_images(torch.zeros(2, *shape)) is not None) == pictured


def test_series_have_a_channel_and_a_length():
    assert is_series(torch.zeros(2, 1, 9))
    assert not is_series(torch.zeros(2, 9))
    assert not is_series(torch.zeros(2, 1, 9, 9))


def test_images_of_a_sheet_are_apart_by_a_gray_pixel_and_missing_ones_are_light():
    x = torch.zeros(3, 1, 2, 3)
    x[2] = 8.0
    (gallery,) = ordinary_samples(x[:2], x)
    assert isinstance(gallery, Gallery)
    sheet = decoded(gallery.items[0].pictures[0])
    scale = 320 // (8 * 4 - 1)
    assert sheet.shape[:2] == ((8 * 3 - 1) * scale, (8 * 4 - 1) * scale)
    pixels = sheet[::scale, ::scale]
    pixels = pixels.reshape(23, 31, -1)[..., 0]
    assert (pixels[:2, :3] == 0).all()
    assert (pixels[:2, 4:7] == 0).all()
    assert (pixels[:2, 8:11] == 255).all()
    gray = np.concatenate([pixels[:, 3::4].flatten(), pixels[2::3].flatten()])
    assert len(np.unique(gray)) == 1
    assert int(gray[0]) in (127, 128)


def test_eight_series_are_curves_of_their_first_channel():
    x = torch.randn(9, 2, 5, generator=torch.Generator().manual_seed(0))
    (chart,) = ordinary_samples(x, x[:3] + 1)
    assert isinstance(chart, Chart)
    ours, theirs = chart.panels
    assert (ours.title, theirs.title) == ("samples", "held-out examples")
    of_ours, of_theirs = (marks_of(panel, Line) for panel in (ours, theirs))
    assert (len(ours.marks), len(theirs.marks)) == (len(of_ours), len(of_theirs)) == (8, 3)
    assert of_ours[7].y == pytest.approx(x[7, 0].tolist())
    assert list(of_ours[0].x) == [0, 1, 2, 3, 4]
    assert of_theirs[1].y == pytest.approx((x[1, 0] + 1).tolist())


def test_a_thousand_points_of_each_kind_are_shown():
    x = torch.randn(1001, 2, generator=torch.Generator().manual_seed(0))
    (chart,) = ordinary_samples(x, x[:7] + 1)
    assert isinstance(chart, Chart)
    (panel,) = chart.panels
    heldout, samples = panel.marks
    assert isinstance(heldout, Points)
    assert isinstance(samples, Points)
    assert (len(heldout.x), len(samples.x)) == (7, 1000)
    assert samples.y[999] == pytest.approx(float(x[999, 1]))
    assert panel.equal_scales
    assert chart.title == "Samples beside held-out examples"
    (alone,) = ordinary_samples(x, x, examples=False)
    assert isinstance(alone, Chart)
    assert alone.title == "Samples"

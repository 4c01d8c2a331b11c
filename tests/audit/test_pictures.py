"""Ordinary samples on the page: the first in order, unaltered, beside held-out examples unless these must not show."""

import numpy as np
import pytest
import torch
from made_by_hand import decoded

from diffuscope.audit.pictures import ordinary_samples
from diffuscope.findings import Chart, Points
from diffuscope.report import Gallery


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_sixty_four_are_shown_in_order(channels, generator):
    samples = torch.randint(0, 256, (70, channels, 5, 4), generator=generator).float()
    heldout = torch.randint(0, 256, (66, channels, 5, 4), generator=generator).float()
    heldout[0, 0, 0, :2] = torch.tensor([0.0, 255.0])
    (gallery,) = ordinary_samples(samples, heldout)
    assert isinstance(gallery, Gallery)
    assert [item.caption for item in gallery.items] == ["64 samples", "64 held-out examples"]
    for item, x in zip(gallery.items, (samples, heldout), strict=True):
        sheet = decoded(item.pictures[0])
        scale = sheet.shape[1] // (8 * 5 - 1)
        pixels = sheet[::scale, ::scale].reshape(8 * 6 - 1, 8 * 5 - 1, channels)
        for index in (0, 7, 8, 63):
            top, left = 6 * (index // 8), 5 * (index % 8)
            shown = pixels[top : top + 5, left : left + 4]
            assert np.array_equal(shown, x[index].permute(1, 2, 0).numpy().astype(np.uint8))


def test_few_images_leave_the_rest_of_the_sheet_empty_and_values_beyond_the_data_are_clipped():
    heldout = torch.cat([torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4)])
    (gallery,) = ordinary_samples(5 * heldout[3:4], heldout)
    assert isinstance(gallery, Gallery)
    assert gallery.items[0].caption == "1 samples"
    assert set(np.unique(decoded(gallery.items[0].pictures[0]))) <= {127, 128, 255}


def test_data_in_the_plane_are_a_scatter_of_samples_over_held_out_data(generator):
    samples, heldout = torch.randn(2, 50, 2, generator=generator)
    (chart,) = ordinary_samples(samples, heldout)
    assert isinstance(chart, Chart)
    first, second = chart.panels[0].marks
    assert isinstance(first, Points)
    assert isinstance(second, Points)
    assert (first.label, second.label) == ("held-out examples", "samples")
    assert second.x == pytest.approx(samples[:, 0].tolist())
    assert second.y == pytest.approx(samples[:, 1].tolist())


def test_without_examples_no_held_out_example_is_shown(generator):
    for shape in ((1, 4, 4), (2,)):
        samples, heldout = torch.randn(2, 50, *shape, generator=generator)
        (block,) = ordinary_samples(samples, heldout, examples=False)
        assert isinstance(block, Gallery | Chart)
        assert "held-out" not in block.title
        shown = block.items if isinstance(block, Gallery) else block.panels[0].marks
        assert len(shown) == 1


def test_data_without_a_picture_get_none(generator):
    assert ordinary_samples(*torch.randn(2, 50, 7, generator=generator)) == []
    assert ordinary_samples(*torch.randn(2, 50, 2, 4, 4, generator=generator)) == []
    assert ordinary_samples(*torch.zeros(2, 50, 1, 4, 4)) == []

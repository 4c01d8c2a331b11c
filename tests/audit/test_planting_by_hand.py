"""Planted copies: what each modification does to a single pixel or row, and the smallest share that is found."""

import inspect
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.planting import _of_rows, modifications, smallest_share_found
from numbers_in_tests import rng, seeded


def made(side=16):
    """Modifications for images between 0 and 10."""
    train = torch.zeros(2, 1, side, side)
    train[0, 0, 0, 0] = 10.0
    return modifications(train, seeded())


def impulse(count, side=16):
    x = torch.zeros(count, 1, side, side)
    x[:, 0, side // 2, side // 2] = 1.0
    return x


@pytest.mark.parametrize(("side", "pixels"), [(16, (1, 2)), (15, (1,)), (7, ())])
def test_images_are_shifted_by_at_most_an_eighth_of_their_side(side, pixels):
    names = [name for name in made(side) if name.startswith("shifted")]
    assert names == [f"shifted by {k} pixel{'s' if k > 1 else ''}" for k in pixels]


@pytest.mark.parametrize(("name", "pixels"), [("shifted by 1 pixel", 1), ("shifted by 2 pixels", 2)])
def test_a_shift_goes_to_every_place_at_its_distance_and_no_nearer_one(name, pixels):
    moved = made()[name](impulse(400))
    assert (moved.flatten(1).sum(1) == 1).all()
    places = {divmod(int(place), 16) for place in moved.flatten(1).argmax(1)}
    ring = {
        (8 + i, 8 + j)
        for i in range(-pixels, pixels + 1)
        for j in range(-pixels, pixels + 1)
        if max(abs(i), abs(j)) == pixels
    }
    assert places == ring


def test_a_blur_weighs_by_a_normal_density_of_half_a_pixel():
    found = made()["blur of 0.5 pixel"](impulse(1))[0, 0]
    center = float(found[8, 8])
    assert float(found[8, 9]) / center == pytest.approx(math.exp(-2), rel=1e-5)
    assert float(found[9, 9]) / center == pytest.approx(math.exp(-4), rel=1e-5)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)


def test_images_are_turned_by_five_degrees_to_either_side_in_turn():
    """The slopes of a plane are turned, away from the border."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    turned = made()["rotated by 5°"](torch.cat([ramp] * 3))[:, 0, 5:11, 5:11]
    along = (turned[:, :, 1:] - turned[:, :, :-1]).mean((1, 2))
    down = (turned[:, 1:] - turned[:, :-1]).mean((1, 2))
    assert along.tolist() == pytest.approx([math.cos(math.radians(5))] * 3, abs=1e-4)
    assert down.abs().tolist() == pytest.approx([math.sin(math.radians(5))] * 3, abs=1e-4)
    assert (down > 0).tolist() in ([True, False, True], [False, True, False])


def test_light_and_contrast_are_of_the_range_and_clipped_to_it():
    x = torch.full((1, 1, 16, 16), 5.0)
    x[0, 0, 0, :2] = torch.tensor([9.0, 1.0])
    found = made()
    for name, value, ends in (("brightness +0.2", 7.0, (10.0, 3.0)), ("brightness -0.2", 3.0, (7.0, 0.0))):
        image = found[name](x)[0, 0]
        assert image[5, 5] == pytest.approx(value)
        assert image[0, :2].tolist() == pytest.approx(ends)
    for factor in (0.8, 1.2):
        image = found[f"contrast x{factor:g}"](x)[0, 0]
        assert image[0, :2].tolist() == pytest.approx([5 + 4 * factor, 5 - 4 * factor], abs=1e-5)
    wide = x.clone()
    wide[0, 0, 0, :2] = torch.tensor([10.0, 0.0])
    assert found["contrast x1.2"](wide)[0, 0, 0, :2].tolist() == [10.0, 0.0]
    assert found["mirrored"](x)[0, 0, 0, -2:].tolist() == [1.0, 9.0]
    assert torch.equal(found["exact"](x), x)


def columns(*widths):
    ends = np.cumsum([0, *widths]).tolist()
    return SimpleNamespace(columns=[SimpleNamespace(start=a, stop=b) for a, b in itertools.pairwise(ends)])


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, []), (2, ["1 column of another row"]), (7, ["1 column of another row"]),
     (8, ["1 column of another row", "2 columns of another row"]),
     (12, ["1 column of another row", "3 columns of another row"])],
)  # fmt: skip
def test_one_column_or_a_quarter_is_taken_from_another_row(count, names):
    """Every value tells its row: so many columns are of other rows, and whole ones."""
    widths = [1 + k % 2 for k in range(count)]
    train = 1000 + torch.arange(50.0)[:, None].expand(50, sum(widths)).clone()
    found = inspect.unwrap(_of_rows)(train, columns(*widths), seeded())
    assert list(found) == names
    x = torch.arange(300.0)[:, None].expand(300, sum(widths)).clone()
    for name, modified in found.items():
        changed = modified(x) >= 1000
        ends = np.cumsum([0, *widths])
        by_column = torch.stack([changed[:, a] for a in ends[:-1]], 1)
        assert (by_column.sum(1) == int(name[0])).all()
        assert by_column.any(0).all()
        for a, b in itertools.pairwise(ends):
            assert (changed[:, a:b] == changed[:, a : a + 1]).all()
            values = modified(x)[:, a:b]
            assert (values == values[:, :1]).all()  # of one row
    assert x[0, 0] == 0  # as it was


def share(p_values, samples=40, rate=0.05, **more):
    return smallest_share_found(np.asarray(p_values, dtype=float), samples, rate, rng(), **more)


def test_a_p_value_at_the_bound_of_the_list_is_on_it():
    """Of the first place for one copy: a share of 1 - 0.05^(1/40) has one among forty."""
    first = 0.05 * 1 / 40
    alone = 1 - 0.05 ** (1 / 40)
    assert share(np.full(10**4, first)) == pytest.approx(alone, rel=1e-3)
    second = share(np.full(10**4, first * 1.01))  # the second place is for two
    assert stats.binom.sf(1, 40, second) == pytest.approx(0.95, abs=1e-3)
    bound = np.full(40, 1e-6)
    assert share(np.full(10**4, 1e-6), also=bound) == pytest.approx(alone, rel=1e-3)
    assert share(np.full(10**4, 1.01e-6), also=bound) == math.inf


def test_few_planted_copies_are_found_with_the_lower_limit_of_their_share():
    """All of 20, so at least 0.05^(1/20) of all: P(found) = 1 - (1 - pi q)^S."""
    q = 0.05 ** (1 / 20)
    assert share(np.zeros(20)) == pytest.approx((1 - 0.05 ** (1 / 40)) / q, rel=0.1)
    half = stats.beta.ppf(0.05, 10, 11)  # ten of twenty
    expected = (1 - 0.05 ** (1 / 40)) / half
    assert share([0.0] * 10 + [1.0] * 10) == pytest.approx(expected, rel=0.12)


def test_copies_that_are_all_needed_are_found_by_no_share_and_by_half_of_the_power():
    """Of one sample with one planted copy, which is found with probability 0.05 at least."""
    assert share([0.0], samples=1) == math.inf
    assert share(np.zeros(10**4), samples=1) == pytest.approx(0.95, abs=1e-3)
    assert share(np.zeros(10**4), samples=1, power=0.5) == pytest.approx(0.5, abs=1e-3)
    every = np.where(np.arange(3) < 2, -1.0, 0.5)
    assert share(np.zeros(10**4), samples=3, also=every) == pytest.approx(0.95 ** (1 / 3), abs=1e-3)

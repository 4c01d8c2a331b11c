"""Averages over windows by matrix products, against sums of squared differences over views of every shift."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers.analytic import (
    boundary_equivariant_score,
    boundary_views,
    center_mean,
    checked_images,
    circular_views,
    crop_views,
    equivariant,
    equivariant_score,
    local_views,
)
from diffuscope.denoisers.analytic.equivariant import TOLERANCE, BoundaryAware, Circular
from diffuscope.denoisers.analytic.row_products import row_mean
from diffuscope.denoisers.analytic.shared_windows import Line, boundary_lines, circular_lines
from diffuscope.denoisers.analytic.views import MaskView, SquareView
from diffuscope.denoisers.analytic.weighted_sums import WeightedSums
from diffuscope.denoisers.analytic.window_products import active_share, background, rounding, window_means
from diffuscope.schedules import VE
from second_device import second_device

MEMORY = 2**20


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def strokes(n: int, *shape: int, seed: int = 1) -> Tensor:
    """Images with a background of 0.25, whose left half is empty in every second one."""
    found = normal(n, *shape, seed=seed)
    found[::2, ..., : shape[-1] // 2] = 0.25
    found[:, ..., : shape[-2] // 2, :] = 0.25
    return found


def by_windows(x: Tensor, images: Tensor, size: int, alpha: float, sigma: float, memory: int = MEMORY) -> Tensor:
    classes = [(circular_lines(x.shape[2], size)[0], circular_lines(x.shape[3], size)[0])]
    ((rows, columns, means),) = window_means(x, images, classes, alpha, sigma, memory=memory)
    answer = torch.full_like(x, math.nan)
    answer[:, :, rows, columns] = means
    return answer


def by_rows(x: Tensor, images: Tensor, size: int, alpha: float, sigma: float, memory: int = MEMORY) -> Tensor:
    return row_mean(x, images, size, alpha, sigma, memory=memory)


def by_shifts(x: Tensor, images: Tensor, size: int, alpha: float, sigma: float) -> Tensor:
    height, width = x.shape[2:]
    return center_mean(x, images, list(circular_views(height, width, size)), alpha, sigma).mean


PRODUCTS: dict[str, Callable[..., Tensor]] = {"windows": by_windows, "rows": by_rows}


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.05), (0.7, 0.5), (1.0, 5.0), (0.0, 1.0)])
@pytest.mark.parametrize("shape", [(1, 7, 6), (2, 5, 5)])
@pytest.mark.parametrize("way", PRODUCTS)
def test_products_are_the_sums_of_squared_differences(way, shape, alpha, sigma):
    """To 1e-12 with values of order one: the same sums in float64."""
    x, images = normal(2, *shape, seed=2), checked_images(strokes(5, *shape))
    for size in (1, 3, 5):
        exact = by_shifts(x, images, size, alpha, sigma)
        torch.testing.assert_close(PRODUCTS[way](x, images, size, alpha, sigma), exact, rtol=0, atol=1e-12)
        little = PRODUCTS[way](x, images, size, alpha, sigma, memory=1)
        torch.testing.assert_close(little, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", PRODUCTS)
def test_an_image_twice_counts_twice(way):
    """Windows of background are counted with the others: three equal images and another one, weights three to one."""
    x, first, second = normal(1, 1, 6, 6, seed=3), strokes(1, 1, 6, 6, seed=4), strokes(1, 1, 6, 6, seed=5)
    three = checked_images(torch.cat([first, first, first, second]))
    sums = []
    for data in (first, second):
        weights = [PRODUCTS[way](x, checked_images(data), 3, 1.0, 2.0), total_weight(x, data, 3, 2.0)]
        sums.append(weights)
    expected = sum(n * w * mean for n, (mean, w) in zip((3, 1), sums, strict=True)) / (3 * sums[0][1] + sums[1][1])
    torch.testing.assert_close(PRODUCTS[way](x, three, 3, 1.0, 2.0), expected, rtol=0, atol=1e-13)


def total_weight(x: Tensor, data: Tensor, size: int, sigma: float) -> Tensor:
    """The sum of the weights of all windows, for every pixel of the query."""
    near = [(i, j) for i in range(-(size // 2), size // 2 + 1) for j in range(-(size // 2), size // 2 + 1)]
    own, of = (torch.stack([rows.roll((i, j), (2, 3)) for i, j in near], -1) for rows in (x, data))
    squares = (own.flatten(2, 3)[:, :, :, None] - of.flatten(0, 3)[None, None, None]).square().sum(-1)
    return (-squares / (2 * sigma**2)).exp().sum(-1).reshape(x.shape)


@pytest.mark.parametrize("way", PRODUCTS)
def test_all_background_is_the_answer_everywhere(way):
    images = checked_images(torch.full((3, 1, 5, 6), 0.25).double())
    answer = PRODUCTS[way](normal(2, 1, 5, 6), images, 3, 0.8, 0.3)
    torch.testing.assert_close(answer, torch.full_like(answer, 0.25), rtol=0, atol=1e-15)


@pytest.mark.parametrize("way", PRODUCTS)
def test_a_query_that_is_far_from_all_data_is_answered_by_the_nearest(way):
    """Costs of 1e6 and more: the exponential of every one of them underflows."""
    data = torch.cat([torch.ones(1, 1, 5, 5), -torch.ones(1, 1, 5, 5)]).double()
    x = 100 * torch.ones(1, 1, 5, 5).double()
    x = torch.cat([x, -x])
    answer = PRODUCTS[way](x, checked_images(data), 3, 1.0, 0.1)
    torch.testing.assert_close(answer, x.sign(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [1, 3, 7, 11])
def test_windows_that_the_edges_cut_alike_are_those_of_the_views(size):
    x, images = normal(2, 1, 7, 6, seed=6), checked_images(strokes(4, 1, 7, 6))
    exact = center_mean(x, images, list(boundary_views(7, 6, size)), 1.0, 0.7).mean
    found = BoundaryAware(lambda _: size)(x, images, 1.0, 0.7, memory=MEMORY)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("pixels", "size"), [(5, 1), (5, 3), (6, 5), (5, 5), (5, 9)])
def test_every_pixel_is_the_output_of_one_window(pixels, size):
    for lines in (circular_lines(pixels, size), boundary_lines(pixels, size)):
        outputs = torch.cat([line.outputs() for line in lines])
        assert sorted(outputs.tolist()) == list(range(pixels))
        assert all(line.windows().shape == (len(line.first), line.length) for line in lines)


@pytest.mark.parametrize("kind", [Circular, BoundaryAware])
def test_at_very_low_noise_the_sums_of_differences_take_over(kind, monkeypatch):
    """x of order one at sigma = 1e-7 rounds logits of 1e15: only differences know the nearest windows."""
    data, sigma = normal(4, 1, 6, 6), 1e-7
    images, x = checked_images(data), data[:2] + sigma * normal(2, 1, 6, 6, seed=7)
    assert bool((rounding(x, images, 9, 1.0, sigma) > 1e3 * TOLERANCE).all())
    views = {Circular: circular_views, BoundaryAware: boundary_views}[kind]
    exact = center_mean(x, images, list(views(6, 6, 3)), 1.0, sigma).mean
    found = kind(lambda _: 3)(x, images, 1.0, sigma, memory=MEMORY)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-15)
    torch.testing.assert_close(found, data[:2], rtol=0, atol=1e-12)
    monkeypatch.setattr("diffuscope.denoisers.analytic.equivariant.TOLERANCE", math.inf)
    wrong = kind(lambda _: 3)(x, images, 1.0, sigma, memory=MEMORY)
    assert float((wrong - data[:2]).abs().max()) < 1e-12  # the nearest are still found where no other is as near


def test_the_stated_rounding_bounds_what_products_change():
    """Two sources whose logits differ by one, at magnitudes of 1e9: the log-odds of the answer are off by less."""
    y = torch.tensor([[1.0], [-1.0]]).double()
    x, sigma = torch.full((1, 1, 1, 1), 1.0).double(), 3e-5
    images = checked_images(y[:, :, None, None].expand(2, 1, 1, 1) * 1.0)
    for shift in torch.linspace(-3, 3, 13):
        at = x * 0 + shift.double() * sigma**2 / 2  # log-odds of y = 1 against -1: 2 x / sigma^2 = shift
        answer = by_windows(at, images, 1, 1.0, sigma)
        found = torch.log1p(answer) - torch.log1p(-answer)
        assert float((found - shift.double()).abs()) <= float(rounding(at, images, 1, 1.0, sigma)) + 1e-14


def test_pieces_of_any_size_and_order_give_the_sums_of_the_whole():
    """Logits from -2000 to 2000: overflow and underflow in every order."""
    logits, values = 500 * normal(3, 60), normal(1, 60, seed=8)
    rows = torch.cat([torch.ones_like(values), values])
    exact = logits.softmax(1) @ values[0]
    for order in (torch.arange(60), torch.arange(60).flip(0), logits[0].argsort()):
        total = WeightedSums(3, channels=1, device=logits.device)
        for some in order.split(7):
            total.add(lambda reference, some=some: logits[:, some] - reference[:, None], rows[:, some])
        torch.testing.assert_close(total.mean()[0], exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("first", [True, False])
def test_equal_sources_count_by_their_number(first):
    logits = torch.tensor([[700.0, -3.0], [-900.0, -2000.0], [1.0, 2.0]]).double()
    values = torch.tensor([[1.0, 1.0], [5.0, 7.0]]).double()
    total = WeightedSums(3, channels=1, device=logits.device)
    if first:
        total.add_equal(4)
    total.add(lambda reference: logits - reference[:, None], values)
    if not first:
        total.add_equal(4)
    weights = torch.cat([logits, torch.full((3, 1), math.log(4), dtype=torch.float64)], 1).softmax(1)
    torch.testing.assert_close(
        total.mean()[0], weights @ torch.tensor([5.0, 7.0, 0.0]).double(), rtol=1e-14, atol=1e-24
    )


def test_the_background_is_the_most_frequent_value_and_its_windows_are_known():
    """A stroke of one pixel is in 9 of 36 windows of 3 x 3."""
    data = torch.full((10, 1, 6, 6), -1.0)
    data[:, 0, 0, 0] = 1.0
    images = checked_images(data)
    assert background(images).tolist() == [-1.0]
    lines = circular_lines(6, 3)[0], circular_lines(6, 3)[0]
    assert active_share(images, *lines) == pytest.approx(9 / 36)


def test_shifts_of_digits_of_bytes_change_nothing_in_float32():
    """The bar is 1e-6 of the largest answer, at every noise level; large windows are computed by rows."""
    data = (strokes(10, 8, 8, seed=9) * 60 + 128).round().clamp(0, 255).float() / 127.5 - 1
    for size, sigma in ((3, 0.1), (7, 0.1), (3, 0.5), (7, 2.0), (5, 8.0)):
        x = data[:2] + sigma * normal(2, 8, 8, seed=10).float()
        answer = equivariant_score(data, VE(), size)(x, sigma)
        moved = equivariant_score(data, VE(), size)(x.roll((3, 5), (1, 2)), sigma).roll((-3, -5), (1, 2))
        of_moved = equivariant_score(data.roll((3, 5), (1, 2)), VE(), size)(x, sigma)
        singly = torch.cat([equivariant_score(data.flip(0), VE(), size, memory=2**16)(row[None], sigma) for row in x])
        for other in (moved, of_moved, singly):
            assert float((other - answer).abs().max()) <= 1.5e-7 * float(answer.abs().max())


def test_a_size_that_covers_the_image_has_no_shared_window():
    assert all(len(line.first) == 1 for line in boundary_lines(5, 9))
    data, x = normal(4, 5, 5), normal(2, 5, 5, seed=11)
    exact = center_mean(x[:, None], checked_images(data), list(local_views(5, 5, 9)), 1.0, 0.7).mean[:, 0]
    torch.testing.assert_close(boundary_equivariant_score(data, VE(), 9)(x, 0.7), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [equivariant_score, boundary_equivariant_score])
def test_no_query_has_no_answer(kind):
    assert kind(normal(4, 5, 5), VE(), 3)(normal(0, 5, 5), 0.7).shape == (0, 5, 5)


def test_a_view_follows_the_data_to_their_device():
    elsewhere = torch.zeros(1, device=second_device())
    views = [*circular_views(3, 4, 3), *boundary_views(3, 4, 3), *local_views(3, 4, 3), *crop_views(3, 4, 2)]
    for view in views:
        assert isinstance(view, SquareView)
        moved = view.to(elsewhere)
        assert {moved.rows.window.device, moved.columns.window.device} == {elsewhere.device}
        assert (moved.outputs, moved.query, moved.source) == (view.outputs, view.query, view.source)
    masks = MaskView(torch.rand(12, 12, generator=torch.Generator().manual_seed(12)), 3, 4)
    squares = normal(2, 1, 3, 4, 5).float()
    there = masks.to(elsewhere).sums(squares.to(elsewhere.device))
    torch.testing.assert_close(there.cpu(), masks.sums(squares), rtol=0, atol=1e-6)


def test_a_line_continues_periodically():
    assert Line(range(-1, 2), 3, 1, 4).windows().tolist() == [[3, 0, 1], [0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize("by_windows", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_pixels_of_oblong_images_have_the_mean_over_the_windows_of_all_pixels(monkeypatch, shape, by_windows):
    """Weights exp(-|w - alpha w_i|^2 / 2 sigma^2) of the 3 x 3 windows around every pixel of all images."""
    monkeypatch.setattr(equivariant, "active_share", lambda *_: 0.0 if by_windows else 1e9)
    data, x, alpha, sigma = normal(4, 1, *shape), normal(2, 1, *shape, seed=5), 0.8, 0.6

    def windows(images: Tensor) -> Tensor:
        shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        return torch.stack([images.roll(shift, (-2, -1)) for shift in shifts], -1).reshape(len(images), -1, 9)

    squares = (windows(x)[:, :, None] - alpha * windows(data).reshape(1, 1, -1, 9)).square().sum(3)
    expected = (-squares / (2 * sigma**2)).softmax(2) @ data.flatten()
    found = Circular(lambda _: 3)(x, data.permute(1, 2, 3, 0).contiguous(), alpha, sigma, memory=MEMORY)
    torch.testing.assert_close(found, expected.reshape(2, 1, *shape), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "views"), [(Circular, "circular_views"), (BoundaryAware, "boundary_views")])
def test_differences_are_taken_where_products_round_by_more_than_the_tolerance(monkeypatch, kind, views):
    data, x = normal(1, 3, 3, 4, seed=1), normal(2, 1, 3, 3)
    taken: list[int] = []
    real = getattr(equivariant, views)
    monkeypatch.setattr(equivariant, views, lambda *given: taken.append(1) or real(*given))
    for size, expected in ((TOLERANCE, 0), (math.nextafter(TOLERANCE, 1), 1)):
        monkeypatch.setattr(
            equivariant, "rounding", lambda x_t, *_, size=size: torch.full((len(x_t),), size, dtype=torch.float64)
        )
        kind(lambda _: 3)(x, data, 0.8, 0.6, memory=MEMORY)
        assert len(taken) == expected


def test_what_products_round_depends_on_sizes_and_not_on_signs():
    x, data = normal(2, 1, 3, 5) - 3, normal(1, 3, 5, 3, seed=1)  # an odd number of values has one median
    found = rounding(x, data, 9, 0.8, 0.6)
    torch.testing.assert_close(rounding(-x, -data, 9, 0.8, 0.6), found, rtol=1e-12, atol=0)
    assert bool((rounding(2 * x, 2 * data, 9, 0.8, 0.6) > found).all())

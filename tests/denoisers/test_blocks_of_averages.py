"""Pieces in which averages over images are summed, the weights that are left out, and the errors that are stated."""

import math

import pytest
import torch

from diffuscope.denoisers.analytic import aggregation, equivariant
from diffuscope.denoisers.analytic.aggregation import BUFFERS, WORKING, _by_blocks, _Sums
from diffuscope.denoisers.analytic.views import Axis, SquareView
from numbers_in_tests import double


def whole(pixels: int) -> SquareView:
    """One output that sees a square image of so many rows."""
    every = slice(0, pixels)
    axis = Axis(slice(0, 1), every, every, torch.ones(1, pixels))
    return SquareView(axis, axis)


def pieces(queries: int, images: int, pixels: int, memory: int) -> tuple[list[int], set[int]]:
    """The queries of every block, and the images of a chunk."""
    rows, chunks = [], set()

    def block(x, images, views, ratio, chunk):  # noqa: ARG001
        rows.append(len(x))
        chunks.add(chunk)
        return x, _Sums.empty(x, views, moments=0)

    x = torch.zeros(queries, 1, pixels, pixels)
    sources = torch.zeros(1, pixels, pixels, images)
    _by_blocks(block, x, sources, [whole(pixels)], 1.0, 1.0, torch.float64, memory)
    return rows, chunks


def test_pairs_of_a_query_and_an_image_fit_in_the_cache_and_in_the_memory():
    """A view of 4 x 4 pixels has 2^18 / 16 pairs in the cache, and 14 arrays of 8 bytes for each pixel of a pair."""
    most = WORKING // 16
    assert pieces(9, 5, 4, 2**40) == ([9], {5})
    assert pieces(2, 2 * most, 4, 2**40) == ([1, 1], {most})
    assert pieces(7, most // 3, 4, 2**40) == ([3, 3, 1], {most // 3})
    pair = BUFFERS * 8 * 16
    assert pieces(7, 5, 4, 12 * pair) == ([2, 2, 2, 1], {5})
    assert pieces(2, 5, 4, 4 * pair) == ([1, 1], {4})
    assert pieces(2, 5, 4, pair - 1) == ([1, 1], {1})


def test_the_rounding_of_a_mean_is_that_of_its_least_cost_and_vanishes_with_the_second_weight():
    """delta = eps (2 c + S sqrt c), times 2 (1 - 1 / sum) and 1/2 at most; the largest of all outputs."""
    least = double(4.0, 9.0, 0.0).reshape(1, 1, 1, 3).float()
    sums = double(1.1, 1.0, 7.0).reshape(1, 1, 1, 1, 3)
    eps = 2.0**-23
    found = _Sums(least, sums).error(double(10.0))
    assert float(found) == pytest.approx(eps * (2 * 4 + 10 * 2) * (2 - 2 / 1.1), rel=1e-12, abs=0)
    many = _Sums(least, sums + 1).error(double(10.0))
    assert float(many) == pytest.approx(eps * (2 * 9 + 10 * 3) * 0.5, rel=1e-12, abs=0)
    assert float(_Sums(least, torch.full_like(sums, 0.9)).error(double(10.0))) == 0.0


def test_the_size_of_an_error_is_that_of_query_and_image_in_units_of_root_two_sigma():
    """max |x| = 3 and alpha max |y| = 0.5 * 4 over sqrt(2) 2; at the cost c = 1 the error is eps / 2 (2 + S)."""

    def block(x, images, views, ratio, chunk):  # noqa: ARG001
        assert ratio == pytest.approx(0.5 / (math.sqrt(2) * 2))
        torch.testing.assert_close(x, double([[[-3.0, 1.0], [0.0, 2.0]]]) / (math.sqrt(2) * 2))
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        return x, _Sums(one, 2 * one[:, :, None])

    x = double([[[-3.0, 1.0], [0.0, 2.0]]])
    for values in ([-4.0, 1.0], [-1.0, 4.0]):
        images = double(*values).expand(1, 2, 2, 2)
        found = _by_blocks(block, x, images, [whole(2)], 0.5, 2.0, torch.float64, 2**20)
        size = (3 + 0.5 * 4) / (math.sqrt(2) * 2)
        assert float(found.error) == pytest.approx(2.0**-52 / 2 * (2 + size), rel=1e-12, abs=0)


@pytest.mark.parametrize(("rows", "near"), [(1, 0), (3, 0), (3, 1), (3, 2)])
def test_sources_are_summed_relative_to_the_least_cost_and_left_out_beyond_the_bound(
    monkeypatch: pytest.MonkeyPatch, rows: int, near: int
):
    """Chunks of two sources for `rows` outputs: the least cost falls from 9 to 5, and 10.5 is beyond a bound of 5.

    The third chunk has a source of cost 7 for `near` outputs. Where these are most, what is beyond counts as e^-5.
    """
    monkeypatch.setattr(aggregation, "NEGLIGIBLE", 5.0)
    view = SquareView(
        Axis(slice(0, rows), slice(0, rows), slice(0, rows), torch.eye(rows)),
        Axis(slice(0, 1), slice(0, 1), slice(0, 1), torch.ones(1, 1)),
    )
    x = torch.zeros(1, 1, rows, 1, dtype=torch.float64)
    totals = _Sums.empty(x, [view], moments=1)
    assert totals.sums.shape == (1, 1, 2, rows, 1)
    costs = [[9.0, 10.0], [5.0, 5.5], [10.5, 11.0], [10.0, 6.0]]
    values = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    for cost, value in zip(costs, values, strict=True):
        some = double(*cost).expand(1, 1, rows, 1, 2).clone()
        if cost[0] == 10.5:
            some[:, :, :near, :, 0] = 7.0
        totals.add(view.outputs, some, double(*value).expand(1, rows, 1, 2))
    # the first two are scaled from 9 to 5
    kept = [(9 - 5, 1.0), (10 - 5, 2.0), (0, 3.0), (0.5, 4.0), (5, 7.0), (1, 8.0)]
    third = [[(2, 5.0), (5, 6.0)] if k < near else [(5, 5.0), (5, 6.0)] if near == 2 else [] for k in range(rows)]
    mass, first = ([sum(v**k * math.exp(-c) for c, v in kept + more) for more in third] for k in (0, 1))
    assert totals.least.flatten().tolist() == [5.0] * rows
    torch.testing.assert_close(totals.sums[0, 0, 0].flatten(), double(*mass), rtol=1e-14, atol=0)
    torch.testing.assert_close(totals.sums[0, 0, 1].flatten(), double(*first), rtol=1e-14, atol=0)


def test_what_is_negligible_is_exactly_what_lies_beyond_the_bound(monkeypatch: pytest.MonkeyPatch):
    """A cost of 10 counts beside 5 where the bound is 5; a thousand just beyond it do not."""
    monkeypatch.setattr(aggregation, "NEGLIGIBLE", 5.0)
    totals = _Sums.empty(torch.zeros(1, 1, 1, 1, dtype=torch.float64), [whole(1)], moments=0)
    one = (slice(0, 1), slice(0, 1))
    totals.add(one, double(5.0).reshape(1, 1, 1, 1, 1), None)
    totals.add(one, double(10.0).reshape(1, 1, 1, 1, 1), None)
    counted = float(totals.sums)
    assert counted == pytest.approx(1 + math.exp(-5), rel=1e-14, abs=0)
    totals.add(one, double(*[10.0001] * 1000).reshape(1, 1, 1, 1, 1000), None)
    assert float(totals.sums) == counted


@pytest.mark.parametrize(("height", "rows"), [(15, 1), (16, 0), (17, 0)])
def test_rows_of_windows_are_multiplied_where_that_is_less_work(
    monkeypatch: pytest.MonkeyPatch, height: int, rows: int
):
    """3 x 3 windows cost 9 + 40 as they are and 3 + H + 30 by rows, if all of them differ from the background."""
    taken: list[int] = []
    by_rows = equivariant.row_mean
    monkeypatch.setattr(equivariant, "row_mean", lambda *given, **memory: taken.append(1) or by_rows(*given, **memory))
    images = torch.arange(3.0 * height).reshape(1, height, 3, 1).double() / (3 * height)
    equivariant.Circular(lambda _: 3)(torch.zeros(1, 1, height, 3).double(), images, 0.8, 0.6, memory=2**20)
    assert len(taken) == rows

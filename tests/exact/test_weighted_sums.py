"""The stated error of a weighted sum holds on every processor: also where its library adds the terms one by one."""

import pytest
import torch

from diffuscope.exact import Empirical
from diffuscope.exact._weighted_sums import add_weighted, summation_error


def one_by_one(left, right):
    """The product of two matrices as the sum over its inner index, each partial sum rounded."""
    total = torch.zeros(left.shape[0], right.shape[1], dtype=left.dtype)
    for column, row in zip(left.T, right, strict=True):
        total = torch.addr(total, column, row)
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 1000, 2048])
def test_copies_of_a_point_are_summed_within_the_stated_error_even_one_by_one(monkeypatch, generator, dtype, n):
    """All roundings of equal terms have one sign; powers of two as weights, so that nothing else is rounded."""
    monkeypatch.setattr(torch.Tensor, "__matmul__", one_by_one)
    point = torch.rand(1, 3, generator=generator, dtype=torch.float64).to(dtype)
    weights = torch.tensor([[1.0, 2.0**-40]], dtype=dtype)
    total = torch.zeros(2, 3, dtype=dtype)
    add_weighted(total, weights.expand(n, 2), point.expand(n, 3))
    mean = total.double() / (n * weights.double().T)
    off = (mean - point.double()).norm(dim=1)
    assert bool((off <= summation_error(float(point.double().norm()), dtype, n)).all())
    if n == 2048:  # in one product the sum would not be
        whole = one_by_one(weights.expand(n, 2).T, point.expand(n, 3)).double() / (n * weights.double().T)
        assert bool(((whole - point.double()).norm(dim=1) > summation_error(1.0, dtype, n)).all())


def test_the_error_is_that_of_a_block_and_of_as_many_blocks_as_are_collected():
    """u / 2 (block + blocks), and 8 units for all else; in float64 all blocks."""
    for dtype, u in ((torch.float32, 2.0**-24), (torch.float64, 2.0**-53)):
        assert summation_error(3.0, dtype, 2) == pytest.approx(3 * (u * (8 + (2 + 2 / 128) / 2) + 2.0**-53 / 128))
        assert summation_error(1.0, dtype, 512) == pytest.approx(u * (8 + (128 + 4) / 2) + 2 * 2.0**-53)
        assert summation_error(1.0, dtype, 2048) == pytest.approx(80 * u + 8 * 2.0**-53)
        assert summation_error(1.0, dtype, 2_560_000) == pytest.approx(80 * u + 10_000 * 2.0**-53)


def test_sums_are_added_to_what_is_there_in_its_precision(generator):
    weights = torch.rand(700, 2, generator=generator)
    values = torch.rand(700, 3, generator=generator)
    total = torch.full((2, 3), 1e9, dtype=torch.float64)
    add_weighted(total, weights, values)
    exact = 1e9 + weights.double().T @ values.double()
    torch.testing.assert_close(total, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 16])
def test_one_query_or_many_see_copies_of_a_point_within_the_stated_error(dtype, batch, d, generator):
    """A product with one row is another routine of the library than one with many."""
    for n in (200, 2_000, 20_000):
        point = torch.rand(1, d, generator=generator, dtype=torch.float64).to(dtype)
        x = (point + 0.5 * torch.randn(batch, d, generator=generator, dtype=torch.float64)).to(dtype)
        data = Empirical(point.repeat(n, 1))
        found = data.denoise_with_error(x, 1.0, 0.5)
        off = (found.value - point).double().norm(dim=1) / point.double().norm()
        assert bool((off <= found.relative_error).all())


@pytest.mark.parametrize("batch", [1, 40])
def test_a_variance_of_many_equal_distances_is_rounded_like_one(batch, generator):
    """Half of all points at each end of an axis, and x between: (2 r)^2 / 4 of that axis, in float32."""
    ends = torch.tensor([[0.7, 0.3], [-0.7, 0.3]]).repeat(10_000, 1)
    x = torch.zeros(batch, 2) + torch.randn(batch, 1, generator=generator) * torch.tensor([[0.0, 1.0]])
    covariance = Empirical(ends).posterior_covariance(x, 1.0, 3.0)
    r = float(ends[0, 0])
    assert covariance.trace().tolist() == pytest.approx([r**2] * batch, rel=1e-5)
    assert covariance.matvec(torch.eye(2)[:1].expand(batch, 2))[:, 0].tolist() == pytest.approx(
        [r**2] * batch, rel=1e-5
    )

"""Exact posteriors and neighbors of pictures held as bytes, against direct sums in float64 over their values.

By products of floats and by products of integers, which are forced here, whatever the clock says of them.
"""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from sharded_run import pictures
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.exact import (
    Empirical,
    ShardedEmpirical,
    _digit_products,
    _integers,
    _posterior,
    _screening,
    nearest_neighbors,
    nearest_other_neighbors,
)
from diffuscope.exact._digit_products import DigitPass
from diffuscope.exact._products import byte_products, exact_products
from diffuscope.exact._screening import PointTable

pytestmark = pytest.mark.usefixtures("one_thread")

LEVELS = [(0.0, 1.0), (1.0, 80.0), (0.2, 3.0), (1.0, 6.0), (1.0, 1.5), (1.0, 0.4), (0.9, 0.05), (1.0, 0.002)]
VALUES = {
    "in [-1, 1]": torch.arange(256) / 127.5 - 1,
    "in [0, 1]": torch.arange(256) / 255,
    "standardized": (torch.arange(256) / 255 - 0.4734) / 0.2515,
    "not affine": (torch.arange(256) / 255) ** 2.2,
}


def floats_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PointTable, "by_digits", lambda *_: None)


def integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any dimension. Where this processor has no exact product of integers, one of float64 stands in for it."""
    monkeypatch.setattr(_screening, "LEAST_INNER", 1)
    monkeypatch.setattr(_screening, "integer_products_are_fast", lambda **_: True)
    if not _integers.integer_products_are_exact(256):
        monkeypatch.setattr(_screening, "integer_products_are_exact", lambda _: True)
        monkeypatch.setattr(_digit_products, "integer_product", lambda a, b: (a.double() @ b.double()).int())


@pytest.fixture(params=[floats_only, integers])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Products of floats alone, and of integers wherever they can be."""
    request.param(monkeypatch)
    return request.param


def direct(y: Tensor, weights: Tensor, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Posterior mean and log evidence by differences in float64, for one sample after the other."""
    squares = torch.stack([(each - alpha * y).square().sum(1) for each in x])
    log_joint = weights.log() - squares / (2 * sigma**2)
    return log_joint.softmax(1) @ y, log_joint.logsumexp(1)


def noisy(y: Tensor, alpha: float, sigma: float, generator: torch.Generator) -> Tensor:
    """Of points, of a midpoint of two points (a tie), and far from all, in float32."""
    x = alpha * torch.cat([y[:6], (y[6:7] + y[7:8]) / 2]) + sigma * torch.randn(7, y.shape[1], generator=generator)
    x[6] = alpha * (y[6] + y[7]) / 2
    return torch.cat([x, 3 * x[:1]]).float()


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_denoiser_of_bytes_is_the_direct_sum_at_every_level_within_the_error_it_states(
    name, weighted, products, generator
):
    bytes = pictures(600)
    data = ByteExamples(bytes, VALUES[name])
    y = data.floats().flatten(1).double()
    weights = torch.rand(600, generator=generator, dtype=torch.float64) if weighted else torch.ones(600).double()
    distribution = Empirical(data, weights, memory=2**18)  # 32 pictures at a time
    weights = weights / weights.sum()
    assert isinstance(distribution.points, ByteExamples)
    by_digits = distribution._table.by_digits(torch.ones(2, 256))
    assert (by_digits is not None) == (products is integers and name != "not affine")
    for alpha, sigma in LEVELS:
        x = noisy(y, alpha, sigma, generator)
        exact, log_evidence = direct(y, weights, x.double(), alpha, sigma)
        found = distribution.denoise_with_error(x.reshape(-1, 16, 16), alpha, sigma)
        error = (found.value.flatten(1).double() - exact).norm(dim=1) / exact.norm(dim=1)
        assert float(error.max()) < 1e-4, (alpha, sigma)
        assert bool((error <= found.relative_error).all()), (alpha, sigma)
        volume = x.shape[1] / 2 * torch.tensor(2 * torch.pi * sigma**2, dtype=torch.float64).log()
        log_prob = distribution.log_prob(x.reshape(-1, 16, 16), alpha, sigma).double()
        torch.testing.assert_close(log_prob, log_evidence - volume, rtol=1e-6, atol=1e-4)


def test_in_float64_bytes_are_exact_to_the_precision_of_float64(generator):
    data = ByteExamples(pictures(300), VALUES["in [-1, 1]"])
    y = data.floats().flatten(1).double()
    distribution, weights = Empirical(data), torch.full((300,), 1 / 300).double()
    for alpha, sigma in LEVELS[:-1]:
        x = noisy(y, alpha, sigma, generator).double()
        exact, _ = direct(y, weights, x, alpha, sigma)
        found = distribution.denoise(x.reshape(-1, 16, 16), alpha, sigma).flatten(1)
        assert float(((found - exact).norm(dim=1) / exact.norm(dim=1)).max()) < 1e-10, (alpha, sigma)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.usefixtures("products")
def test_covariance_nearest_points_and_draws_of_bytes_are_those_of_their_values(name, generator):
    index = torch.randperm(400, generator=generator)[:250]
    data = ByteExamples(pictures(400), VALUES[name], index)  # listed in another order than they lie
    held, floats = Empirical(data), Empirical(data.floats())
    for alpha, sigma in LEVELS[1:]:
        x = noisy(data.floats().flatten(1).double(), alpha, sigma, generator).reshape(-1, 16, 16)
        v = torch.randn(x.shape, generator=generator)
        one, other = held.posterior_covariance(x, alpha, sigma), floats.posterior_covariance(x, alpha, sigma)
        scale = float(floats.points.square().sum() / 250)
        torch.testing.assert_close(one.trace(), other.trace(), rtol=1e-4, atol=1e-9 * scale)
        torch.testing.assert_close(one.matvec(v), other.matvec(v), rtol=1e-3, atol=1e-5)
        one, other = held.nearest(x, alpha, sigma, 5), floats.nearest(x, alpha, sigma, 5)
        assert torch.equal(one.indices, other.indices)
        torch.testing.assert_close(one.distances, other.distances, rtol=1e-12, atol=0)
    draws = [each.sample(20, generator=torch.Generator().manual_seed(1)) for each in (held, floats)]
    assert torch.equal(draws[0], draws[1])


@pytest.mark.usefixtures("products")
def test_sharded_bytes_are_the_bytes(generator):
    data = ByteExamples(pictures(300), VALUES["in [-1, 1]"])
    one, other = Empirical(data), ShardedEmpirical(data)
    for alpha, sigma in LEVELS:
        x = noisy(data.floats().flatten(1).double(), alpha, sigma, generator).reshape(-1, 16, 16)
        torch.testing.assert_close(other.denoise(x, alpha, sigma), one.denoise(x, alpha, sigma), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_neighbors_among_bytes_are_those_among_their_values(name, generator):
    bytes = pictures(300)
    bytes[200:210] = bytes[:10]
    data = ByteExamples(bytes, VALUES[name])
    queries = data.floats()[:40] + 0.3 * torch.randn(40, 16, 16, generator=generator)
    for ours, theirs in (
        (nearest_neighbors(queries, data, 7), nearest_neighbors(queries, data.floats(), 7)),
        (nearest_neighbors(data[:20], data, 3), nearest_neighbors(data.floats()[:20], data.floats(), 3)),
        (nearest_other_neighbors(data, 2), nearest_other_neighbors(data.floats(), 2)),
    ):
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("name", ["in [-1, 1]", "in [0, 1]", "standardized"])
def test_products_of_bytes_are_the_points_their_distances_to_the_mean_and_within_their_deviation(name):
    data = ByteExamples(pictures(100), VALUES[name]).reshape(100, -1)
    assert isinstance(data, ByteExamples)
    y = data.floats().double()
    exact, made = exact_products(data, 2**27), byte_products(data, 2**27)
    assert made is not None
    for products in made:
        rows = products.rows(10, 60, torch.float32)
        assert torch.equal(rows, rows.round())
        assert torch.equal(rows[3:5], products.at(torch.tensor([13, 14]), torch.float32))
        off = (products.offset + products.scale * rows.double() - y[10:60]).norm(dim=1)
        assert float(off.max()) <= products.deviation
        assert float((products.scale * rows).norm(dim=1).max()) <= products.largest_norm * (1 + 1e-6)
        # a point is off by its deviation, and its square by twice that times its distance
        slack = float((2 * exact.half_squares).sqrt().max()) * products.deviation * 2
        assert float((products.half_squares - exact.half_squares).abs().max()) <= slack
        assert float((products.center - exact.center).norm()) <= products.deviation
    assert made[0].typical_norm < made[1].typical_norm or name == "standardized"


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("bright", [False, True])
def test_no_score_of_bytes_is_off_by_more_than_its_bound_nor_typically_by_more_than_its_error(bright, generator):
    """Bright pictures are far from the origin of the integers, and near each other."""
    bytes = pictures(500)
    data = ByteExamples(bytes // 64 + 250 if bright else bytes, VALUES["in [-1, 1]"])
    table = Empirical(data)._table
    y = data.floats().flatten(1).double()
    for size in (0.01, 1.0, 1000.0):
        q = size * torch.randn(20, 256, generator=generator)
        q[1] *= 1e-6
        q[2, 1:] *= 1e-3  # one large entry
        q[3] = 0
        kappa = torch.full((20,), size, dtype=torch.float64)
        exact = q.double() @ y.T - kappa[:, None] * (y - table.center).square().sum(1) / 2
        by = table.by_digits(q)
        if by is None:
            found = table.scores(0, 500, q, kappa).double() + table.constant(q)[:, None]
        else:
            scores = torch.addr(torch.zeros(500, 1), by.half_squares.float(), -kappa.float())
            by.add_at(scores, torch.arange(500), q)
            found = scores.T.double() + by.constant(q)[:, None]
        off = (found - exact).abs()
        bound = table.score_bound(q, kappa, by)
        assert bool((off.amax(1) <= bound).all())
        assert bool((off.square().mean(1).sqrt() <= table.score_error(q, kappa, by)).all())
        if by is not None and not bright:  # not vacuous, and less than for floats
            assert float((off.amax(1) / bound).max()) > 0.02
            assert bool((bound[4:] < 0.5 * table.score_bound(q, kappa)[4:]).all())


def test_a_query_of_one_digit_leaves_an_error_that_is_stated_and_repaired(monkeypatch, generator):
    integers(monkeypatch)
    monkeypatch.setattr(_digit_products, "DIGITS", 1)
    data = ByteExamples(pictures(600), VALUES["in [-1, 1]"])
    y, distribution = data.floats().flatten(1).double(), Empirical(data)
    for alpha, sigma in LEVELS:
        x = noisy(y, alpha, sigma, generator)
        exact, _ = direct(y, torch.full((600,), 1 / 600).double(), x.double(), alpha, sigma)
        found = distribution.denoise_with_error(x.reshape(-1, 16, 16), alpha, sigma)
        error = (found.value.flatten(1).double() - exact).norm(dim=1) / exact.norm(dim=1)
        assert float(error.max()) < 1e-4, (alpha, sigma)
        assert bool((error <= found.relative_error).all()), (alpha, sigma)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_sums_with_weights_of_few_digits_are_off_by_their_standard_deviation(digits, monkeypatch, generator):
    """Thousands of weights that vanish without the random part of their rounding, a few large ones, a sharp one."""
    integers(monkeypatch)
    monkeypatch.setattr(_digit_products, "WEIGHT_DIGITS", digits)
    monkeypatch.setattr(_digit_products, "LARGEST", (126.0, 32600.0, 8.35e6)[digits - 1])
    data = ByteExamples(pictures(3000), VALUES["in [-1, 1]"])
    table = Empirical(data)._table
    by = table.by_digits(torch.randn(200, 256, generator=generator))
    assert by is not None
    run = DigitPass(by, 200, 2**24)
    weights = torch.rand(3000, 200, generator=generator)
    weights[:, 1] *= 0.3 / _digit_products.LARGEST
    weights[0, 1] = 1.0
    weights[:, 2] = 0.0
    weights[5, 2] = 1.0
    weights *= torch.linspace(-20, 2, 200).exp() / weights.amax(0)
    collected, variance = torch.zeros(200, 256), torch.zeros(200, dtype=torch.float64)
    scores = torch.empty(3000, 200)
    ranges = list(run.chunks())
    assert len(ranges) > 1
    assert ranges[-1][1] == 3000
    for start, stop in ranges:
        part = weights[start:stop]
        run.add_products(scores[start:stop], start, stop)
        if start == 0:
            variance += run.add_weighted(collected, part, None, part.amax(0).log())
        else:  # in another order, as where some samples are left out
            order = torch.arange(199, -1, -1)
            order = order[order != 2]  # zero here
            variance[order] += run.add_weighted(collected, part[:, order], order, part[:, order].amax(0).log())
    R = data.bytes.flatten(1).double() - 128
    off = by.scale * (collected.double() - weights.double().T @ R).norm(dim=1)
    single = 2.0**-22 * weights.double().sum(0) * by.typical_norm  # the sums are collected in float32
    assert bool((off <= _posterior.ROUNDED * variance.sqrt() + single).all())
    assert float((off / variance.sqrt()).square().mean().sqrt()) > 0.1
    assert float(off[1] / variance[1].sqrt()) < 1


def test_products_that_saturate_are_not_used(monkeypatch, generator):
    monkeypatch.setattr(_screening, "LEAST_INNER", 1)
    monkeypatch.setattr(_screening, "integer_products_are_fast", lambda **_: True)
    _integers.integer_products_are_exact.cache_clear()
    monkeypatch.setattr(_integers, "integer_product", lambda a, b: (a.double() @ b.double()).clamp(-(2**15), 2**15 - 1))
    table = Empirical(ByteExamples(pictures(20), VALUES["in [0, 1]"]))._table
    try:
        assert table.by_digits(torch.randn(3, 256, generator=generator)) is None
    finally:
        _integers.integer_products_are_exact.cache_clear()


def test_one_sample_that_is_not_a_number_leaves_the_others_as_they_are(monkeypatch, generator):
    integers(monkeypatch)
    data = ByteExamples(pictures(300), VALUES["in [-1, 1]"])
    distribution = Empirical(data)
    x = data[:3] + torch.randn(3, 16, 16, generator=generator)
    with_nan = torch.cat([x, torch.full_like(x[:1], math.nan)])
    torch.testing.assert_close(
        distribution.denoise(with_nan, 1.0, 1.0)[:3], distribution.denoise(x, 1.0, 1.0), rtol=1e-4, atol=1e-5
    )
    assert distribution.denoise(x[:0], 1.0, 1.0).shape == (0, 16, 16)
    torch.testing.assert_close(
        distribution.denoise(x[:1], 1.0, 80.0), distribution.denoise(x, 1.0, 80.0)[:1], rtol=1e-5, atol=1e-6
    )


def test_the_deviation_of_points_adds_its_work_on_the_query_and_on_the_farthest_point_to_both_errors():
    """A point that is off by e, |e| <= dev, has a score that is off by (q - kappa (y - c)) . e.

    That is at most (|q| + kappa R) dev, and a root of the dimension less in a random direction.
    """
    table = Empirical(ByteExamples(pictures(100), VALUES["standardized"]))._table
    radius, made = table.radius, table.products(torch.float32)
    assert made.deviation > 0
    q = torch.cat([torch.zeros(1, 256), torch.eye(256)[:2] * torch.tensor([[3.0], [400.0]])])
    for level in (0.0, 0.1, 50.0):
        kappa = torch.full((3,), level, dtype=torch.float64)
        bound, error = table.score_bound(q, kappa), table.score_error(q, kappa)
        assert bool((error <= bound).all())
        exact = dataclasses.replace(made, deviation=0.0)
        table._made[0] = exact
        rounding, typical = table.score_bound(q, kappa), table.score_error(q, kappa)
        table._made[0] = made
        work = (torch.tensor([0.0, 3.0, 400.0], dtype=torch.float64) + level * radius) * made.deviation
        torch.testing.assert_close(bound - rounding, work, rtol=1e-5, atol=1e-12)
        torch.testing.assert_close(error - typical, work / 16, rtol=1e-5, atol=1e-12)

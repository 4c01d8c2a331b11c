"""The tracked denoiser: its bound holds in every case, is small, and costs less than a product."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import (
    Distribution,
    Empirical,
    TrackedEmpirical,
    _integers,
    tracked_points,
    tracked_scores,
)
from diffuscope.exact.tracked_points import GridPoints
from diffuscope.exact.tracked_scores import TrackedLevel, TrackedScores
from diffuscope.exact.tracked_survivors import Survivors
from diffuscope.samplers import DPMSolverPP2M, Heun, generate
from diffuscope.schedules import VE


def reference(points: Tensor, weights: Tensor, x: Tensor, alpha: float, sigma: float) -> np.ndarray:
    """The mean by the direct sum over differences, in extended precision (64 bits), one sample after the other."""
    y, w = points.flatten(1).double().numpy().astype(np.longdouble), weights.numpy().astype(np.longdouble)
    means = []
    for row in x.flatten(1).double().numpy().astype(np.longdouble):
        costs = ((row - np.longdouble(alpha) * y) ** 2).sum(1) / (2 * np.longdouble(sigma) ** 2)
        joint = w * np.exp(costs.min() - costs)
        means.append(y[0] + joint @ (y - y[0]) / joint.sum())
    return np.stack(means)


def data_sets(seed: int) -> tuple[str, Tensor, Tensor]:
    """(kind, points, weights): spectra, bytes, clusters, duplicates, offsets, heavy tails, a grid of two values."""
    generator = torch.Generator().manual_seed(seed)
    n, d = 20 + seed * 37 % 280, (1, 2, 3, 8, 33)[seed % 5]
    normal = torch.randn(n, d, generator=generator)
    kinds: dict[str, Callable[[], Tensor]] = {
        "spectrum": lambda: normal * torch.arange(1, d + 1) ** -1.0,
        "bytes": lambda: (normal * 40 + 128).clamp(0, 255).round() / 255,
        "scaled bytes": lambda: 2 * ((normal * 40 + 128).clamp(0, 255).round() / 255) - 1,
        "clusters": lambda: normal * 0.01 + torch.randn(4, d, generator=generator)[torch.arange(n) % 4],
        "duplicates": lambda: normal[torch.arange(n) % 7],
        "offset": lambda: normal + 30,
        "tails": lambda: normal / torch.rand(n, 1, generator=generator).clamp_min(0.01),
        "two values": lambda: (normal > 0).float(),
    }
    kind = tuple(kinds)[seed % len(kinds)]
    weights = torch.ones(n) if seed % 3 else torch.rand(n, generator=generator) ** 4
    return kind, kinds[kind](), weights.double() / weights.double().sum()


def levels(seed: int) -> list[tuple[float, float]]:
    """(alpha, sigma) from noise to data: variance exploding, preserving, and flow matching from alpha = 0."""
    steps = np.linspace(0, 1, 9)
    if seed % 3 == 0:
        return [(1.0, float(sigma)) for sigma in (80 ** (1 / 7) + steps * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7]
    if seed % 3 == 1:
        return [(math.sqrt(1 - s * s), s) for s in (0.9999, 0.99, 0.9, 0.7, 0.5, 0.3, 0.1, 0.03, 0.01)]
    return [(float(t), float(1 - t)) for t in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 0.999)]


def steps(
    distribution: Distribution, x: Tensor, path: list[tuple[float, float]]
) -> Iterator[tuple[Tensor, float, float]]:
    """(x, alpha, sigma) along DDIM's steps (Euler's in sigma / alpha), the denoiser given."""
    for (alpha, sigma), following in zip(path, [*path[1:], (1.0, 0.0)], strict=True):
        yield x, alpha, sigma
        denoised = distribution.denoise(x, alpha, sigma)
        x = following[0] * denoised + following[1] / sigma * (x - alpha * denoised)


def excess(tracked: TrackedEmpirical, points: Tensor, weights: Tensor, seed: int) -> list[tuple[float, float, float]]:
    """(error / bound, bound, norm) of every row of a trajectory with a jump, and of a smaller batch after it."""
    generator = torch.Generator().manual_seed(1000 + seed)
    batch, path = (1, 3, 8)[seed % 3], levels(seed)
    x = path[0][1] * torch.randn(batch, points.shape[1], generator=generator)
    found = []

    def compare(x: Tensor, alpha: float, sigma: float) -> None:
        result = tracked.denoise_with_error(x, alpha, sigma)
        exact = reference(points, weights, x, alpha, sigma)
        errors = np.sqrt(((result.value.double().numpy() - exact) ** 2).sum(1)).astype(float)
        norms = np.sqrt((exact**2).sum(1)).astype(float)
        for error, norm, bound in zip(errors, norms, result.relative_error.tolist(), strict=True):
            # the reference itself is exact to a few of its own last digits
            found.append((max(0.0, error - 1e-17 * norm) / max(bound * norm, 1e-300), bound, norm))

    for state, alpha, sigma in steps(tracked, x, path):
        x = state
        compare(x, alpha, sigma)
        if seed % 4 == 0:  # fresh noise in between
            compare(x + 0.1 * sigma * torch.randn(x.shape, generator=generator), alpha, sigma)
    compare(x.flip(0)[:2] + 0.3, *path[3])
    return found


@pytest.mark.parametrize(
    "tolerance", [pytest.param(1e-2, marks=pytest.mark.slow), 1e-3, pytest.param(1e-4, marks=pytest.mark.slow)]
)
def test_the_bound_holds_for_every_row_and_is_below_the_tolerance(tolerance: float):
    ratios, cases = [], 0
    for seed in range(48):
        kind, points, weights = data_sets(seed)
        tracked = TrackedEmpirical(Empirical(points, weights), tolerance=tolerance)
        typical = float(points.double().square().sum(1).mean().sqrt())
        for ratio, bound, norm in excess(tracked, points, weights, seed):
            assert ratio <= 1, (kind, seed, ratio, bound)
            assert bound * norm <= 1.01 * tolerance * max(norm, 0.1 * typical), (kind, seed, bound)
            ratios.append(ratio)
            cases += 1
    print(f"{tolerance:g}: {cases} rows, error / bound at most {max(ratios):.2g}, median {np.median(ratios):.2g}")
    # not vacuous: in some case the error is a fair share of the bound
    assert max(ratios) > 0.02


def violated(tolerance: float = 1e-2) -> bool:
    """Whether a false bound shows on the cases of the test above."""
    for seed in range(48):
        _, points, weights = data_sets(seed)
        tracked = TrackedEmpirical(Empirical(points, weights), tolerance=tolerance)
        if any(ratio > 1 for ratio, _, _ in excess(tracked, points, weights, seed)):
            return True
    return False


def test_a_bound_without_what_is_left_of_the_query_would_be_caught(monkeypatch: pytest.MonkeyPatch):
    move = TrackedScores.move

    def forgetful(self: TrackedScores, q: Tensor, level: TrackedLevel, allowed: Tensor) -> None:
        move(self, q, level, allowed)
        self.left = torch.zeros_like(self.left)

    monkeypatch.setattr(TrackedScores, "move", forgetful)
    monkeypatch.setattr(tracked_scores, "MOST_DIGITS", 1)
    assert violated()


def test_a_frozen_set_that_ignores_how_far_the_state_moved_would_be_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Survivors, "bound_at", lambda self, _: self.bound - 100.0)
    assert violated()


def test_a_lost_digit_of_the_points_would_be_caught(monkeypatch: pytest.MonkeyPatch):
    of = GridPoints.of

    def coarse(table: object) -> GridPoints:
        grid = of(table)  # pyright: ignore
        grid.planes[0].bitwise_and_(-16)
        return grid

    monkeypatch.setattr(GridPoints, "of", coarse)
    assert violated()


def test_a_product_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch):
    def saturated(left: Tensor, right: Tensor) -> Tensor:
        return (left.double() @ right.double()).clamp(-(2**15), 2**15 - 1).int()

    _integers.integer_products_are_exact.cache_clear()
    monkeypatch.setattr(_integers, "integer_product", saturated)
    try:
        assert not _integers.integer_products_are_exact(784)
        points = torch.randn(50, 784, generator=torch.Generator().manual_seed(0))
        tracked = TrackedEmpirical(points)
        result = tracked.denoise_with_error(points[:2] + 0.1, 1.0, 3.0)
        assert tracked.work.in_float64 == 2
        assert float(result.relative_error.max()) < 1e-6
    finally:
        _integers.integer_products_are_exact.cache_clear()


def test_digits_write_a_matrix_to_any_precision():
    r = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    total, rest = torch.zeros_like(r), r
    for _, (digit, step, rest) in zip(range(4), _integers.digits(r), strict=False):
        total += step * digit.T.double()
        assert float(rest.abs().max()) <= step / 2 * (1 + 1e-12)
        torch.testing.assert_close(total + rest, r, rtol=0, atol=1e-14)
    assert float(rest.abs().max()) < float(r.abs().max()) / 254**3 / 250
    assert list(_integers.digits(torch.zeros(2, 3, dtype=torch.float64))) == []


def test_sums_of_weights_by_bytes_are_sums_of_integers():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4096, 8, generator=generator) ** 20 * _integers.LARGEST_WEIGHT
    weights[:4, 0] = torch.tensor([0.0, 0.99, 127.5, _integers.LARGEST_WEIGHT])
    left = torch.randint(-128, 128, (20, 4096), dtype=torch.int8, generator=generator)
    digits = _integers.byte_digits(weights)
    sums = _integers.from_byte_digits(_integers.integer_product(left, digits))
    assert torch.equal(sums, left.double() @ weights.floor().double())


@pytest.mark.parametrize("kind", ["bytes", "floats", "few values", "one value", "outlier"])
def test_points_are_their_digits_up_to_the_residual(kind: str):
    generator = torch.Generator().manual_seed(3)
    points = {
        "bytes": 2 * (torch.randint(0, 256, (500, 30), generator=generator) / 255) - 1,
        "floats": torch.randn(500, 30, generator=generator),
        "few values": torch.randint(0, 3, (500, 30), generator=generator) * 0.7 + 11,
        "one value": torch.full((500, 30), 0.3),
        "outlier": torch.randn(500, 30, generator=generator).index_fill(0, torch.tensor([7]), 1e4),
    }[kind]
    table = Empirical(points)._table
    grid = GridPoints.of(table)
    assert len(grid.planes) == (2 if kind in ("floats", "outlier") else 1)
    assert tuple(len(plane) for plane in grid.planes) == (500,) * len(grid.planes)
    written = grid.offset + grid.step * sum(plane.double() / 256**j for j, plane in enumerate(grid.planes))
    residual = float((points.double() - written).norm(dim=1).max())
    assert residual <= grid.residual <= 1.1 * residual + 1e-12
    largest = float(points.double().abs().max())
    assert residual < (2e-6 * largest if len(grid.planes) == 1 else 1e-4 * largest)
    rows = grid.transposed[0][0]
    assert torch.equal(rows[:30].T, grid.planes[0])
    half_squares = tracked_points.half_squares_of(rows.double() @ torch.eye(500, dtype=torch.float64), grid)
    assert bool((half_squares >= table.half_squares).all())
    assert float((half_squares - table.half_squares).max()) <= 1.01 * grid.half_square_step


def moved(points: Tensor, sigmas: list[float], tracked: TrackedEmpirical) -> list[int]:
    """The products of one digit at every level of a trajectory."""
    x = sigmas[0] * torch.randn(16, points.shape[1], generator=torch.Generator().manual_seed(5))
    counts = [0]
    for _ in steps(tracked, x, [(1.0, sigma) for sigma in sigmas]):
        counts.append(tracked.work.products)
    counts.append(tracked.work.products)
    return np.diff(counts).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_points_are_not_written_to(dtype: torch.dtype):
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kept, weights = points.clone(), torch.full((50,), 0.02, dtype=torch.float64)
    result = TrackedEmpirical(points, tolerance=1e-3).denoise_with_error(x, 2.0, 1.5)
    assert torch.equal(points, kept)
    exact = reference(kept, weights, x, 2.0, 1.5)
    assert float((result.value - torch.from_numpy(exact.astype(float))).norm(dim=1).max()) < 2e-3


def test_tracking_saves_digits_and_frozen_survivors_all_products():
    points = torch.randint(0, 256, (3000, 64), generator=torch.Generator().manual_seed(1)) / 255
    sigmas = [40.0, 30.0, 22.0, 16.0, 1.0, 0.5, 0.1, 0.03, 0.01, 0.002]
    tracked = TrackedEmpirical(points)
    products = moved(points, sigmas, tracked)[1:]
    cold = [sum(moved(points, [sigma], TrackedEmpirical(points))) for sigma in sigmas[:4]]
    assert sum(products[1:4]) < sum(cold[1:4])
    assert products[-3:] == [0, 0, 0]
    assert tracked.work.in_float64 == 0
    assert tracked.work.frozen >= 3 * 16


def test_the_order_of_batches_does_not_matter():
    points = torch.randint(0, 256, (900, 12), generator=torch.Generator().manual_seed(1)) / 255
    tracked, empirical = TrackedEmpirical(points, tolerance=1e-4), Empirical(points)
    generator = torch.Generator().manual_seed(2)
    for sigma in (0.01, 3.0, 0.2, 80.0, 0.05, 0.05, 1.0):
        for batch in (70, 3):
            x = points[:batch] + sigma * torch.randn(batch, 12, generator=generator)
            expected = empirical.denoise(x.double(), 1.0, sigma)
            errors = (tracked.denoise(x, 1.0, sigma) - expected).norm(dim=1) / expected.norm(dim=1)
            assert float(errors.max()) < 1e-4


def test_it_is_a_distribution_and_the_rest_is_the_empirical_one():
    points = torch.randn(60, 2, 3, generator=torch.Generator().manual_seed(0))
    tracked, empirical = TrackedEmpirical(points, tolerance=1e-5), Empirical(points)
    assert isinstance(tracked, Distribution)
    x, sigma = points[:5] + 0.3, torch.linspace(0.5, 2, 5)
    torch.testing.assert_close(tracked.denoise(x, 1.0, sigma), empirical.denoise(x, 1.0, sigma), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tracked.score(x, 0.9, 0.5), empirical.score(x, 0.9, 0.5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tracked.log_prob(x, 0.9, 0.5), empirical.log_prob(x, 0.9, 0.5))
    trace = tracked.posterior_covariance(x, 0.9, 0.5).trace()
    torch.testing.assert_close(trace, empirical.posterior_covariance(x, 0.9, 0.5).trace())
    with_gradient = x.clone().requires_grad_()
    tracked.denoise(with_gradient, 0.9, 0.5).sum().backward()
    by_empirical = x.clone().requires_grad_()
    empirical.denoise(by_empirical, 0.9, 0.5).sum().backward()
    torch.testing.assert_close(with_gradient.grad, by_empirical.grad)
    assert tracked.denoise(x[:0], 1.0, 0.5).shape == (0, 2, 3)
    assert bool(tracked.denoise(x * torch.nan, 1.0, 0.5).isnan().all())
    assert tracked.sample(4, generator=torch.Generator().manual_seed(0)).shape == (4, 2, 3)


def test_what_is_tracked_carries_no_graph_of_the_states_it_was_asked_at():
    points = torch.randint(0, 256, (40, 6), generator=torch.Generator().manual_seed(1)) / 255
    tracked, x = TrackedEmpirical(points, tolerance=1e-4), points[:5].clone().requires_grad_()
    found = tracked.denoise_with_error(x, 1.0, 0.5)
    assert not found.value.requires_grad
    assert not found.relative_error.requires_grad
    with torch.no_grad():
        tracked.score(x, 1.0, 0.4)
    assert not tracked.denoise(points[:5], 1.0, 0.3).requires_grad


@pytest.mark.parametrize("sampler", [Heun(), DPMSolverPP2M()])
def test_samplers_end_where_they_end_with_the_empirical_distribution(sampler: object):
    points = torch.randint(0, 256, (400, 16), generator=torch.Generator().manual_seed(1)) / 255
    tracked = TrackedEmpirical(points, tolerance=1e-4)
    ends = [
        generate(ExactDenoiser(distribution, VE()), 20, sampler=sampler, steps=18, event_shape=(16,))  # pyright: ignore
        for distribution in (tracked, Empirical(points))
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-3)
    assert tracked.work.frozen > 0


@pytest.mark.parametrize("value", [0.0, 0.7])
@pytest.mark.parametrize("n", [1, 30])
def test_data_of_one_value_are_their_own_mean(n: int, value: float):
    points = torch.full((n, 3), value)
    tracked = TrackedEmpirical(points)
    for sigma in (80.0, 1.0, 0.002):
        result = tracked.denoise_with_error(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), 1.0, sigma)
        torch.testing.assert_close(result.value, points[:1].expand(5, 3), rtol=1e-6, atol=1e-12)


def test_the_exponential_is_as_exact_as_the_bound_assumes():
    x = torch.linspace(-80, 22, 1_000_003)
    exact = x.double().exp()
    assert float(((x.exp().double() - exact) / exact).abs().max()) < 4 * 2.0**-24


def test_another_tolerance_shares_the_points_and_not_the_past():
    points = torch.randint(0, 256, (200, 12), generator=torch.Generator().manual_seed(1)) / 255
    rough = TrackedEmpirical(points, tolerance=1e-2)
    rough.denoise(points[:3] + 1, 1.0, 5.0)
    fine = rough.with_tolerance(1e-5)
    assert (rough.tolerance, fine.tolerance, rough.work.evaluated, fine.work.evaluated) == (1e-2, 1e-5, 3, 0)
    bound = fine.denoise_with_error(points[:3] + 1, 1.0, 5.0).relative_error
    assert float(bound.max()) <= 1e-5


def test_a_tolerance_outside_of_0_to_1_is_refused():
    for tolerance in (0, -1e-3, 1, math.nan):
        with pytest.raises(InputError, match=r"^tolerance: expected a number between 0 and 1"):
            TrackedEmpirical(torch.zeros(2, 2), tolerance=tolerance)

"""A number that is exactly its limit is within it, or beyond it: onsets, pilots, and the theory of the variance."""

import dataclasses
import math
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.findings import exact_share_interval
from diffuscope.schedules import VE
from diffuscope.theory import NoForecast, copies_surely, forecast_onset
from diffuscope.theory.learning_curves import checked_start
from diffuscope.theory.memorization_onset import chance_is_small
from diffuscope.theory.onset_pilots import _PilotRun, require_heldout
from diffuscope.theory.variance import Affine, KernelFlow, LinearEnsemble, LinearFeatures, Population, decompose
from diffuscope.theory.variance.closure import cumulants
from diffuscope.theory.variance.eigenfunctions import eigenfunctions
from diffuscope.theory.variance.feature_moments import _inverse
from diffuscope.theory.variance.population import Nodes, _grid
from diffuscope.theory.variance.proxy import _of_points
from numbers_in_tests import double, seeded

THEORY = "diffuscope.theory"
ROUNDING = 1 + 1e-15
LINE = Gaussian.isotropic(double(0.0), 1.0)


def limit(monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: object) -> None:
    monkeypatch.setattr(import_module(f"{THEORY}.{module}"), name, value)


def accepted(call: Callable[[], object], message: str) -> bool:
    try:
        call()
    except InputError as error:
        if message not in str(error):
            raise
        return False
    return True


def population() -> Population:
    return Population.of(LINE, VE(), (0.25, 0.5), time_nodes=2, nodes=8)


# learning curves and onsets


def test_the_first_invalid_eigenvalue_of_a_start_is_below_zero() -> None:
    assert checked_start(double(0.0, 0.0), double(1.0, 1.0)).tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match=r"finite and >= 0, got -1 among 3$"):
        checked_start(double(0.0, -1.0, -2.0), double(1.0, 1.0, 1.0))


def test_a_share_bounded_by_exactly_one_percent_does_not_exceed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = exact_share_interval(5, 10)
    for share, chance, above, below in ((low, high, False, False), (low / ROUNDING, high * ROUNDING, True, True)):
        limit(monkeypatch, "memorization_onset", "SHARE", share)
        limit(monkeypatch, "memorization_onset", "CHANCE", chance)
        assert (copies_surely(5, 10), chance_is_small(5, 10)) == (above, below)


@pytest.mark.parametrize(
    ("slope", "error", "reason"),
    [
        (1.0, 0.5, None), (1.0, 0.5 * ROUNDING, "does not grow with their size"), (1.5, 0.5, None),
        (1.5 * ROUNDING, 0.5, "grows faster than in proportion to their size"),
    ],
)  # fmt: skip
def test_growth_is_told_at_exactly_two_errors_and_at_exactly_the_steepest(monkeypatch, slope, error, reason) -> None:
    limit(monkeypatch, "onset_forecast", "STEEPEST", 1.5)
    limit(monkeypatch, "onset_forecast", "_slope", lambda *_: (slope, error))
    found = forecast_onset([64, 128, 256], [1920, 3840, 7680], 1024)
    assert isinstance(found, NoForecast) is (reason is not None)
    if isinstance(found, NoForecast):
        assert str(reason) in found.reason


def test_one_heldout_example_would_do_if_it_told_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "onset_pilots", "chance_is_small", lambda *_: True)
    require_heldout(1)
    with pytest.raises(InputError, match=r"heldout: expected at least 1 examples.*got 0$"):
        require_heldout(0)


@pytest.mark.parametrize(("error", "copies"), [(0.5, 3), (0.5 * ROUNDING, None)])
def test_a_pilot_is_fitted_at_exactly_its_limit(monkeypatch: pytest.MonkeyPatch, error: float, copies) -> None:
    limit(monkeypatch, "onset_pilots", "FITTED", 0.5)
    for name, made in (("averaged", torch.nn.Identity()), ("generate", None), ("copied", torch.ones(3))):
        limit(monkeypatch, "onset_pilots", name, lambda *_, made=made, **__: made)
    run: Any = SimpleNamespace(average=None, data=None, settings=SimpleNamespace(seed=0))
    pilot: Any = SimpleNamespace(denoiser=None, run=run, _relative_error=lambda _: error)
    assert _PilotRun._copies(pilot) == copies


# the variance of a finite data set


def test_a_probe_at_which_all_runs_are_zero_is_left_out() -> None:
    values = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    with_zeros = torch.cat([torch.zeros(6, 1).double(), values], 1)
    found = [[each.values.tolist() for each in cumulants(given, generator=seeded(1))] for given in (values, with_zeros)]
    assert found[0] == found[1]
    assert [len(each) for each in found[1]] == [2, 2]


def test_three_fine_times_are_enough() -> None:
    m = double(*[2.0, 4.0] * 5)
    models = LinearEnsemble(Affine(), VE(), torch.stack([m, 0 * m], 1)[:, None])
    x, ends = torch.full((10, 1, 1), 4.0).double(), double(4.0, 1.0)
    data = Gaussian.isotropic(double(2.0), 0.0)

    def of(fine: Tensor) -> object:
        return decompose(models, data, lambda x: x.mean((1, 2)), x, times=ends, fine=fine)

    assert [accepted(lambda t=t: of(t), "at least three times") for t in (double(4, 2, 1), ends)] == [True, False]


def modes(*rows: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Of a kernel that is this matrix on places of equal weights."""
    M, n = torch.tensor(rows, dtype=torch.float64), len(rows)
    places, weights = torch.arange(float(n)).double(), torch.full((n,), 1 / n, dtype=torch.float64)
    nodes = Nodes(places[:, None], 0 * places, weights, places[:, None], places[:, None, None])
    return eigenfunctions("kernel", lambda x, t, y, u: M[x[:, 0].long()][:, y[:, 0].long()], nodes, weights.sqrt())  # noqa: ARG005


def test_a_kernel_may_vanish_at_a_node_and_has_a_finite_trace() -> None:
    assert modes((2.0, 0.0), (0.0, 0.0))[0].tolist() == pytest.approx([1.0])
    with pytest.raises(InputError, match="a finite trace, got inf"):
        modes((math.inf, 0.0), (0.0, 1.0))


def test_features_that_vanish_without_a_ridge_are_refused() -> None:
    with pytest.raises(InputError, match="ridge: expected one that makes the features' matrix regular, got 0"):
        _inverse(torch.zeros(2, 2).double(), 0.0)


def constant(x: Tensor, t: Tensor, y: Tensor, u: Tensor) -> Tensor:  # noqa: ARG001
    return torch.ones(len(x), len(y), dtype=torch.float64)


def test_a_flow_of_no_time_has_learned_nothing() -> None:
    assert KernelFlow(population(), constant, samples=5, time=0.0).learned == 0.0
    with pytest.raises(InputError, match="time: expected a training time >= 0"):
        KernelFlow(population(), constant, samples=5, time=-5e-324)


@pytest.mark.parametrize(
    ("rounding", "rank", "made"),
    [(0.5, 1.0, True), (0.5, 1 + 1e-9, False), (1.0, 2.0, True), (1 - 1e-9, 2.0, False)],
)
def test_an_eigenvalue_is_blurred_between_rounding_and_what_is_resolved(monkeypatch, rounding, rank, made) -> None:
    """The only eigenvalue of a constant kernel is that share, 1, of the largest."""
    limit(monkeypatch, "variance.kernel_flow", "ROUNDING", rounding)
    limit(monkeypatch, "variance.kernel_flow", "RANK", rank)
    flow = lambda: KernelFlow(population(), constant, samples=5, time=1e3)  # noqa: E731
    assert accepted(flow, "whose eigenvalues reach down to rounding") is made


def test_a_blurred_eigenvalue_may_be_trained_for_exactly_its_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    rho = float(KernelFlow(population(), constant, samples=5, time=0.0).eigenvalues[0])
    near = [1 / rho * (1 + k * 2.0**-52) for k in range(-3, 4)]
    longest = max(time for time in near if rho * time <= 1)
    assert rho * longest == 1
    limit(monkeypatch, "variance.kernel_flow", "RANK", 2.0)
    for time, made in ((longest, True), (longest * ROUNDING, False)):
        call = lambda time=time: KernelFlow(population(), constant, samples=5, time=time)  # noqa: E731
        assert accepted(call, "time: expected at most") is made


def test_the_first_order_is_trusted_at_exactly_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two features and 32 examples: 16 a feature, and 8 effective ones are a quarter."""
    limit(monkeypatch, "variance.linear_features", "LARGEST", 0.25)
    kernel = LinearFeatures.of(population(), Affine(), samples=32)
    for samples, effective, trusted in ((32, 8.0, True), (31, 1.0, False), (32, 8.0 * ROUNDING, False)):
        moments = dataclasses.replace(kernel.moments, effective_features=effective)
        assert dataclasses.replace(kernel, samples=samples, moments=moments).trusted is trusted


def test_weights_without_variance_have_no_error_of_the_quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = LinearFeatures.of(population(), Affine(), samples=5)
    monkeypatch.setattr(LinearFeatures, "weight_covariance", torch.zeros(1, 1, 2, 2).double())
    assert kernel.quadrature_error() == 0.0


@pytest.mark.parametrize(("largest", "made"), [(500, True), (499, False)])
def test_a_grid_may_have_as_many_nodes_as_the_limit(monkeypatch, largest: int, made: bool) -> None:
    limit(monkeypatch, "variance.population", "LARGEST_GRID", largest)
    grid = lambda: _grid(LINE, 1.0, 0.5, double(-9.0), double(9.0), 500)  # noqa: E731
    assert accepted(grid, f"a grid of at most {largest} nodes") is made


def test_a_plane_is_integrated_on_a_grid_whatever_generator_is_given() -> None:
    data = Gaussian.isotropic(double(0.0, 1.0), 1.0)
    grid, given = (
        Population.of(data, VE(), (0.5, 1.0), time_nodes=2, nodes=2, generator=generator)
        for generator in (None, seeded())
    )
    assert torch.equal(grid.nodes.points, given.nodes.points)


def test_a_data_set_of_exactly_few_values_is_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "variance.proxy", "FEW_VALUES", 4)
    assert isinstance(_of_points(double(1.0, 2.0, 3.0, 4.0).reshape(2, 2)), GaussianMixture)
    assert isinstance(_of_points(double(1.0, 2.0, 3.0, 4.0, 5.0)[:, None]), Empirical)

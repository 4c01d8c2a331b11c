"""What is taken for rounding: kernels, masses and matrices just within what is refused and just beyond it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE
from diffuscope.theory.variance import Affine, FeatureKernel, KernelFlow, Population
from diffuscope.theory.variance.eigenfunctions import eigenfunctions
from diffuscope.theory.variance.feature_moments import _inverse
from diffuscope.theory.variance.population import Nodes, _grid
from numbers_in_tests import double


def kernel_of(*rows: tuple[float, ...]) -> Callable[..., Tensor]:
    """The matrix as a kernel of places 0, 1, ..."""
    M = torch.tensor(rows, dtype=torch.float64)
    return lambda x, t, y, u: M[x[:, 0].long()][:, y[:, 0].long()]  # noqa: ARG005


def modes(*rows: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Of the matrix of a kernel on places of equal weights."""
    n = len(rows)
    places, weights = torch.arange(float(n)).double(), torch.full((n,), 1 / n, dtype=torch.float64)
    nodes = Nodes(places[:, None], 0 * places, weights, places[:, None], places[:, None, None])
    return eigenfunctions("kernel", kernel_of(*rows), nodes, weights.sqrt())


def accepted(call: Callable[[], object], message: str) -> bool:
    try:
        call()
    except InputError as error:
        if message not in str(error):
            raise
        return False
    return True


def test_eigenvalues_are_those_of_the_weighted_matrix_without_what_is_zero() -> None:
    rho, U = modes((5.0, 4.0), (4.0, 5.0))  # halves of 9 and 1
    assert rho.tolist() == pytest.approx([4.5, 0.5])
    torch.testing.assert_close((U * rho) @ U.T, double(2.5, 2.0, 2.0, 2.5).reshape(2, 2))
    rho, U = modes((1.0, 1.0), (1.0, 1.0))
    assert (rho.tolist(), U.abs().flatten().tolist()) == ([pytest.approx(1.0)], pytest.approx([0.5**0.5] * 2))


@pytest.mark.parametrize(
    ("entry", "off", "symmetric"),
    [
        (0.5, 0.99 * 0.5e-9, True), (0.5, -0.99 * 0.5e-9, True), (0.5, 1.02 * 0.5e-9, False),
        (0.5, -1.02 * 0.5e-9, False), (0.0, 0.95e-12, True), (0.0, 1.05e-12, False), (0.0, -1.05e-12, False),
    ],
)  # fmt: skip
def test_a_kernel_is_symmetric_to_a_billionth_of_a_value_or_a_trillionth(entry, off, symmetric) -> None:
    assert accepted(lambda: modes((1.0, entry), (entry + off, 1.0)), "expected a symmetric kernel") is symmetric


@pytest.mark.parametrize(("share", "positive"), [(0.95, True), (1.05, False)])
def test_a_variance_may_be_negative_by_a_billionth_of_the_trace(share: float, positive: bool) -> None:
    """1 - b^2 is what a first pivot of 1 leaves of a variance of 1, of a trace of 2."""
    b = math.sqrt(1 + 2 * share * 1e-9)
    assert accepted(lambda: modes((1.0, b), (b, 1.0)), "got a negative variance") is positive
    assert not accepted(lambda: modes((1.0, 0.0), (0.0, -1e-15)), "with a finite trace")
    assert not accepted(lambda: modes((0.0, 0.0), (0.0, 0.0)), "with a finite trace, got 0")


@pytest.mark.parametrize(
    ("t", "trained"),
    [(0.25, True), (0.5, True), (0.25 - 0.49e-9, True), (0.25 - 0.51e-9, False), (0.5 + 0.49e-9, True),
     (0.5 + 0.51e-9, False)],
)  # fmt: skip
def test_a_time_was_trained_to_a_billionth_of_the_last_one(t: float, trained: bool) -> None:
    population = Population.of(Gaussian.isotropic(double(0.0), 1.0), VE(), (0.25, 0.5), time_nodes=2, nodes=2)
    flow = KernelFlow(population, FeatureKernel(Affine()), samples=5, time=1.0)
    assert accepted(lambda: flow.checked(double(1.0)[:, None], t), "t: expected a time of the training") is trained


class Denser(Gaussian):
    """A Gaussian whose density is larger by a share."""

    share: float

    def log_prob(self, x_t: Tensor, alpha: Any, sigma: Any) -> Tensor:
        return super().log_prob(x_t, alpha, sigma) + math.log1p(self.share)


@pytest.mark.parametrize(
    ("share", "all_there"), [(0.95e-6, True), (-0.95e-6, True), (1.05e-6, False), (-1.05e-6, False)]
)
def test_a_box_has_all_of_the_mass_to_a_millionth(share: float, all_there: bool) -> None:
    data = Denser(double(0.0), torch.eye(1, dtype=torch.float64), double(1.0))
    object.__setattr__(data, "share", share)
    ends = double(-9.0), double(9.0)
    assert accepted(lambda: _grid(data, 1.0, 0.5, *ends, 2), "a box with all of its mass") is all_there
    if all_there:
        x, p = _grid(data, 1.0, 0.5, *ends, 2)
        assert float(p.sum()) == pytest.approx(1, rel=1e-12)
        assert float(p @ x[:, 0].square()) == pytest.approx(1.25, rel=1e-9)
        assert float(x.diff(dim=0).max()) <= 0.5 * 2 / 3 + 1e-12  # two thirds of sigma


@pytest.mark.parametrize(("least", "regular"), [(1.05e-13, True), (0.95e-13, False), (-1.0, False)])
def test_a_matrix_is_regular_where_its_least_eigenvalue_is_a_ten_trillionth_of_the_largest(least, regular) -> None:
    given = double(100.0, 100 * least).diag()
    assert accepted(lambda: _inverse(given, 0.0), "expected one that makes the features' matrix regular") is regular
    if regular:
        torch.testing.assert_close(_inverse(given, 0.0), double(0.01, 0.01 / least).diag())
    torch.testing.assert_close(_inverse(given, 0.5).diagonal(), double(1 / 100.5, 1 / (0.5 + max(100 * least, 0.0))))

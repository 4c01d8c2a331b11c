"""Observations and the grid, against direct sums and closed forms."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import Grid, LinearObservation, at_nodes, averages, log_likelihood, observe, where
from diffuscope.physics.observations import misfit


def test_trapezoidal_weights_integrate_linear_functions_exactly() -> None:
    grid = Grid((5, 4), (2.0, 3.0), (False, True), (1.0, 0.0))
    x, y = grid.coordinates.unbind(-1)
    assert float(grid.weights.sum()) == pytest.approx(6, abs=1e-12)
    assert float((grid.weights * x).sum()) == pytest.approx(4 * 3, abs=1e-12)
    assert (float(x.max()), float(y.max())) == (3.0, 2.25)  # a periodic axis leaves its last node out
    assert grid.boundary.sum() == 8


@pytest.mark.parametrize(
    "given", [{"shape": (2,)}, {"shape": (4,), "lengths": (0.0,)}, {"shape": (4,), "origin": (0.0, 0.0)}]
)
def test_a_grid_that_does_not_fit_is_refused(given: dict[str, tuple]) -> None:
    with pytest.raises(InputError):
        Grid(**given)


def test_the_adjoint_satisfies_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    H = LinearObservation(torch.randn(3, 10, dtype=torch.float64, generator=generator), (2, 5))
    x = torch.randn(4, 2, 5, dtype=torch.float64, generator=generator)
    v = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((H(x) * v).sum(1), (x * H.adjoint(v)).sum((1, 2)), rtol=1e-13, atol=1e-13)


def test_points_patches_and_averages_read_what_they_say() -> None:
    x = torch.arange(6, dtype=torch.float64).reshape(1, 2, 3)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    assert at_nodes(torch.tensor([4, 1]), (2, 3))(x).tolist() == [[4.0, 1.0]]
    assert where(mask)(x).tolist() == [[0.0, 2.0, 5.0]]
    assert averages([mask, ~mask])(x)[0].tolist() == pytest.approx([7 / 3, 8 / 3])
    with pytest.raises(InputError, match="from 0 to 5, got 4 to 6"):
        at_nodes(torch.tensor([4, 6]), (2, 3))
    with pytest.raises(InputError, match="masks: expected one shape"):
        averages([mask, ~mask[:, :2]])


def test_the_log_likelihood_is_the_density_of_the_noise() -> None:
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([1.5, 2.0])
    H = at_nodes(torch.tensor([0, 1]), (2,), noise=0.5)
    expected = -0.5 - 2 * math.log(0.5) - math.log(2 * math.pi)
    assert float(log_likelihood(H, x, y)) == pytest.approx(expected, abs=1e-12)
    hard = at_nodes(torch.tensor([0, 1]), (2,))
    assert log_likelihood(hard, torch.tensor([[1.5, 2.0], [1.0, 2.0]]), y).tolist() == [0.0, -math.inf]
    with pytest.raises(InputError, match=r"y: expected shape \(2,\) or \(1, 2\), .* got \(1,\)"):
        log_likelihood(H, x, y[:1])


@pytest.mark.parametrize("shape", [(1,), (2, 1), (3, 2), ()])
def test_a_y_that_would_broadcast_over_the_observation_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"y: expected shape \(2,\) or \(4, 2\)"):
        misfit(torch.zeros(4, 2), torch.zeros(shape))
    for fits in ((2,), (1, 2), (4, 2)):
        assert misfit(torch.zeros(4, 2), torch.ones(fits)).tolist() == [[1.0, 1.0]] * 4


def test_observing_adds_noise_of_the_stated_size() -> None:
    H = at_nodes(torch.arange(2), (2,), noise=0.3)
    y = observe(H, torch.ones(20_000, 2), generator=torch.Generator().manual_seed(0)) - 1
    standard_error = 0.3**2 * math.sqrt(2 / y.numel())
    assert float(y.square().mean()) == pytest.approx(0.09, abs=4 * standard_error)

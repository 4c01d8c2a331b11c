"""Denoisers and observations that are being learned, at points that ask for gradients: what must carry none of them."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from diffuscope.exact import Empirical
from diffuscope.physics import (
    DPS,
    Burgers,
    CovarianceGuided,
    Darcy,
    GaussNewtonProjected,
    Grid,
    Heat,
    NonlinearObservation,
    NormalizedDPS,
    PiGDM,
    Poisson,
    Problem,
    at_nodes,
    posterior,
    sequential_monte_carlo,
    start_at_mean,
)
from diffuscope.physics.conditioning.covariance_guided import _products
from diffuscope.physics.conditioning.dps import misfit_gradient
from diffuscope.physics.conditioning.gauss_newton import jacobian_products
from diffuscope.physics.finite_prior import FiniteTwist, PointSet
from diffuscope.physics.gibbs_denoiser import GibbsDenoiser
from diffuscope.physics.levy import GaussianJumps, LevyProcess
from diffuscope.physics.levy_distribution import LevyDistribution
from diffuscope.physics.prior_chains import prior_chain
from diffuscope.physics.solution import _require_denoised
from diffuscope.physics.twisting import PilotTwist
from diffuscope.samplers.schedule_values import instants
from diffuscope.schedules import VE

GAIN = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)  # what is being learned
X = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.1]], dtype=torch.float64, requires_grad=True)
Y = torch.tensor([1.5], dtype=torch.float64)
LINEAR = at_nodes(torch.tensor([1]), (2,), 0.5)
CURVED = NonlinearObservation(lambda x: (x[:, :1] - x[:, 1:]).square(), (2,), 0.5)
LEARNED = NonlinearObservation(lambda x: GAIN * x[:, :1], (2,), 0.5)
POINTS = Empirical(torch.tensor([[0.0, 1.0], [2.0, -1.0], [3.0, 3.0]], dtype=torch.float64))
WALK = LevyDistribution(LevyProcess(GaussianJumps(), 2))
TIMES = torch.tensor([3.0, 1.0, 0.3], dtype=torch.float64)


class Learned:
    """D(x, t) = gain x."""

    schedule = VE()
    event_shape = (2,)

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002 - the protocol's
        return GAIN * x_t


def particles(proposal: DPS | None) -> tuple[Tensor, ...]:
    found = sequential_monte_carlo(
        Learned(), LINEAR, Y, particles=4, replicas=2, times=TIMES, proposal=proposal, dtype=torch.float64
    )
    return found.x, found.log_weights


def pilot() -> tuple[Tensor, ...]:
    levels = instants(VE(), TIMES)
    like, generator = torch.zeros(1, 2, dtype=torch.float64), torch.Generator().manual_seed(0)
    found = PilotTwist.measured(prior_chain(Learned()), LINEAR, Y, levels, like, generator, draws=8)
    return (*found.bias.values(), *found.cholesky.values())


def posterior_weights() -> Tensor:
    found = posterior(POINTS, LEARNED, Y)
    assert isinstance(found, Empirical)
    return found.weights


WAVES = Grid((3, 4), (1.0, 1.0), (False, True))
START = torch.tensor([[0.0, 1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
COEFFICIENT = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)

FOUND: Mapping[str, Callable[[], Tensor | tuple[Tensor, ...]]] = {
    "DPS": lambda: DPS(Learned(), CURVED, Y)(X, 1.0),
    "DPS, published step": lambda: NormalizedDPS(Learned(), CURVED, Y)(X, 1.0),
    "PiGDM": lambda: PiGDM(Learned(), LINEAR, Y)(X, 1.0),
    "covariance, linear": lambda: CovarianceGuided(Learned(), LINEAR, Y)(X, 1.0),
    "covariance, curved": lambda: CovarianceGuided(Learned(), CURVED, Y)(X, 1.0),
    "predicted": lambda: _products(CURVED, X)[0],
    "Gauss-Newton": lambda: (lambda p: (p.x, p.violation))(GaussNewtonProjected(Learned(), CURVED, Y).project(X)),
    "violation": lambda: GaussNewtonProjected(Learned(), LEARNED, Y).project(X).violation,
    "Jacobian": lambda: jacobian_products(CURVED, X)[0](torch.ones(3, 2, dtype=torch.float64)),
    "start": lambda: start_at_mean(Learned()).mean,
    "weights": posterior_weights,
    "covariance of points": lambda: (lambda C: (C.mean(), C.trace(), C.matvec(X)))(
        PointSet.of(POINTS).posterior_covariance(X, 1.0, 0.7)
    ),
    "twist": lambda: FiniteTwist.of(POINTS, VE(), LEARNED, Y).log_likelihoods,
    "chains": lambda: (lambda found: (found.x, found.means))(
        GibbsDenoiser(WALK.process, VE(), chains=2, burn_in=0, sweeps=4).posterior(X, 1.0)
    ),
    "density of a walk": lambda: WALK.log_prob(X, 1.0, 0.7),
    "covariance of a walk": lambda: (lambda C: (C.mean(), C.diagonal()))(WALK.posterior_covariance(X, 1.0, 0.7)),
    "Poisson": lambda: Poisson(Grid((4,))).solve(START),
    "Darcy": lambda: Darcy(Grid((3,))).solve(COEFFICIENT),
    "heat": lambda: Heat(WAVES).solve(START),
    "Burgers": lambda: Burgers(WAVES, 0.1).solve(START),
    "particles": lambda: particles(None),
    "particles with a proposal": lambda: particles(DPS(Learned(), LINEAR, Y)),
    "pilot": pilot,
}


@pytest.mark.parametrize("find", FOUND.values(), ids=FOUND)
def test_what_is_found_carries_no_gradient(find: Callable[[], Tensor | tuple[Tensor, ...]]) -> None:
    found = find()
    for part in found if isinstance(found, tuple) else (found,):
        assert not part.requires_grad
    assert all(given.grad is None for given in (GAIN, X, START, COEFFICIENT))
    assert X.requires_grad  # left as it was


def test_the_matrix_of_darcy_flow_is_that_of_a_coefficient_that_asks_for_gradients() -> None:
    darcy = Darcy(Grid((3,)))
    (given,) = COEFFICIENT
    matrix = darcy.jacobian(torch.zeros(3, dtype=torch.float64), given).toarray()
    # at faces 2 * 1 * 2 / 3 = 4/3 and 2 * 2 * 3 / 5 = 12/5, over h^2 = 1/4
    assert matrix[1].tolist() == pytest.approx([-16 / 3, 16 / 3 + 48 / 5, -48 / 5], rel=1e-14)


def test_the_values_at_the_points_of_a_prior_are_computed_without_a_graph() -> None:
    """One is recorded of every point otherwise, though the weights carry none."""
    recorded: list[bool] = []

    def value(x: Tensor) -> Tensor:
        recorded.append((GAIN * x).requires_grad)
        return GAIN * x[:, :1]

    posterior(POINTS, NonlinearObservation(value, (2,), 0.5), Y)
    FiniteTwist.of(POINTS, VE(), NonlinearObservation(value, (2,), 0.5), Y)
    assert recorded
    assert not any(recorded)


def test_a_prior_is_tried_without_a_graph() -> None:
    recorded: list[bool] = []

    class Recording(Learned):
        def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
            recorded.append(super().__call__(x_t, t).requires_grad)
            return x_t

    rod = Problem(name="rod", title="A rod", equation=Poisson(Grid((3,))), given="forcing")
    _require_denoised(rod, Recording())
    assert recorded == [False]


def test_the_misfit_of_a_field_is_a_number_and_so_is_the_gradient_of_its_square() -> None:
    """-grad |y - h|^2 / 2 = (y - h) grad h, with h = (x0 - x1)^2."""
    e, gradient = misfit_gradient(DPS(Learned(), CURVED, Y), X)
    assert not e.requires_grad
    assert not gradient.requires_grad
    apart = X.detach() @ torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert torch.equal(e, Y - apart.square())
    assert torch.allclose(gradient, 2 * e * apart * torch.tensor([1.0, -1.0]), rtol=1e-12, atol=0)

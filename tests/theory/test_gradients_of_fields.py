"""Scores that are being learned, at points and times that ask for gradients: what is measured carries none of them."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from diffuscope.exact import Gaussian
from diffuscope.samplers import Heun
from diffuscope.schedules import VE
from diffuscope.theory import agreement, trajectory_gaps
from diffuscope.theory.geometry import follow
from diffuscope.theory.onset_pilots import _PilotRun
from diffuscope.theory.paths import Dynamics, eyring_kramers, fixed_point, fixed_points
from diffuscope.theory.paths.conditioned import euler_maruyama
from diffuscope.theory.variance import (
    Ensemble,
    ProxyScore,
    effective_white_sample,
    member_ends,
    quenched_sample,
    semiclassical_quenched,
    semiclassical_white,
    split_variance,
)
from diffuscope.theory.variance.effective import Steps
from diffuscope.training import new_denoiser, recipe
from numbers_in_tests import seeded

GAIN = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)  # what is being learned
X = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.1]], dtype=torch.float64, requires_grad=True)
TIMES = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
DATA = Gaussian(torch.tensor([0.5, -1.0]), torch.eye(2, dtype=torch.float64), torch.tensor([2.0, 0.3]).double())


class Learned:
    """D(x, t) = gain x / share."""

    schedule = VE()

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002 - the protocol's
        return GAIN * x_t / self.share


class Noisy:
    """White noise of amplitude 2 about a score that is being learned."""

    schedule = VE()

    def score(self, x: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        return -GAIN * x

    def amplitude(self, x: Tensor, t: Tensor | float) -> "Noisy":  # noqa: ARG002
        self.like = x
        return self

    def matvec(self, v: Tensor) -> Tensor:
        return 2 * v

    def trace(self) -> Tensor:
        return 4 * torch.ones(len(self.like), dtype=torch.float64)

    def diagonal(self) -> Tensor:
        return 2 * torch.ones_like(self.like)

    def draw(self, *, generator: torch.Generator) -> Tensor:
        return 2**0.5 * torch.randn(self.like.shape, dtype=torch.float64, generator=generator)


def members() -> Ensemble:
    return Ensemble([Learned(share) for share in (1.0, 1.5, 3.0)])


def saddle_point() -> Tensor:
    drift = Dynamics(lambda x: GAIN * (x - x**3), 0.5)
    found = fixed_point(drift, X[0, 0:1] - 0.2)
    assert not found.jacobian.requires_grad
    return found.state


FOUND: Mapping[str, Callable[[], Tensor | tuple[Tensor, ...]]] = {
    "trajectories": lambda: (lambda found: (found.states, found.denoised))(follow(Learned(), Heun(), X, TIMES)),
    "gaps": lambda: trajectory_gaps(Learned(), {"exact": DATA}, X, TIMES, Heun()).states["exact"],
    "agreement": lambda: agreement(Learned(), {"exact": DATA}, X.detach(), 1.0, mean=DATA.mean).gap,
    "quenched": lambda: quenched_sample(lambda x, t: -GAIN * x, VE(), X[None], TIMES),  # noqa: ARG005
    "white": lambda: effective_white_sample(Noisy(), X, TIMES, generator=seeded()),
    "split": lambda: split_variance(Learned(), Learned(2.0), X, 1.0),
    "steps": lambda: Steps.of(VE(), TIMES).times,
    "covariance": lambda: ProxyScore(DATA, VE()).covariance(X, 1.0).x,
    "ends": lambda: member_ends(members(), X.detach(), TIMES).mean,
    "white ends": lambda: (lambda found: (found.mean, found.covariance, found.propagator))(
        semiclassical_white(Noisy(), X, TIMES)
    ),
    "quenched ends": lambda: (lambda found: (found.mean, found.propagator))(
        semiclassical_quenched(members(), X, TIMES)
    ),
    "fixed point": saddle_point,
    "fixed points": lambda: fixed_points(Dynamics(lambda x: -GAIN * x, 0.5), X)[0].state,
    "simulated": lambda: euler_maruyama(
        Dynamics(lambda x: -GAIN * x, lambda x: GAIN * torch.eye(2, dtype=torch.float64).expand(len(x), 2, 2)),
        X.detach(),
        TIMES.detach().flip(0),
        seeded(),
    )[0],
    "constant diffusion": lambda: Dynamics(lambda x: -x, GAIN).constant_matrix,
}


@pytest.mark.parametrize("find", FOUND.values(), ids=FOUND)
def test_what_is_measured_carries_no_gradient(find: Callable[[], Tensor | tuple[Tensor, ...]]) -> None:
    found = find()
    for part in found if isinstance(found, tuple) else (found,):
        assert not part.requires_grad
    assert GAIN.grad is None
    assert X.grad is None
    assert TIMES.grad is None


def test_a_potential_that_is_being_learned_gives_plain_numbers() -> None:
    """U = c (x^2 - 1)^2 / 4: curvatures 2 c and -c, so that k = c / (2 pi) sqrt(2) D exp(-c / 4), at c = 0.3."""
    found = eyring_kramers(lambda x: GAIN * ((x[:, 0] ** 2 - 1) ** 2) / 4, 0.5, X[0, :1] * 0 - 1, X[0, :1] * 0)
    assert isinstance(found.barrier, float)
    assert found.barrier == pytest.approx(0.3 / 4, rel=1e-12)
    assert found.prefactor == pytest.approx(0.5 * 0.3 / (2 * torch.pi) * 2**0.5, rel=1e-12)


def test_the_error_of_a_pilot_is_a_number_and_one_where_the_heldout_examples_are_those_trained_on(tmp_path) -> None:
    rows = torch.randn(70, 2, generator=seeded())
    denoiser = new_denoiser(rows, (-3.0, 3.0), 0)
    settings = recipe(denoiser.sigma_data, steps=50, batch_size=8, seed=0)
    assert _PilotRun(denoiser, rows, settings, rows, tmp_path / "pilot")._relative_error(denoiser) == 1.0

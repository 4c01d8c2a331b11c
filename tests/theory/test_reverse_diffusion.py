"""The reverse diffusion of a denoiser as dynamics: for every exact one the most likely path is a Brownian bridge."""

import math

import pytest
import torch

from diffuscope import VE, VP, Empirical, ExactDenoiser, Gaussian, GaussianMixture, InputError, RectifiedFlow
from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.exact import Ring
from diffuscope.theory.paths import Dynamics, least_action, most_likely_path, reverse_diffusion

START, END = torch.tensor([-2.0, 3.0]).double(), torch.tensor([0.9, 0.3]).double()
POINTS = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -2.0], [9.0, 9.0]], dtype=torch.float64)
DATA = {
    "Gaussian": Gaussian.isotropic(torch.tensor([0.5, -0.5]), 0.4),
    "mixture": GaussianMixture.isotropic(
        torch.tensor([0.3, 0.7]), torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), torch.tensor([0.1, 0.3])
    ),
    "points": Empirical(POINTS, torch.tensor([0.2, 0.3, 0.5, 0.0])),
    "ring": Ring(1.5),
}


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "flow"])
@pytest.mark.parametrize("name", DATA)
def test_of_an_exact_denoiser_the_most_likely_path_is_straight_and_its_action_is_that_of_the_bridge(
    name: str, schedule: VE | VP | RectifiedFlow
) -> None:
    reverse = reverse_diffusion(ExactDenoiser(DATA[name], schedule), 2.0, 0.6)
    u = reverse.times(101)
    found = least_action(reverse.dynamics, START, END, u, "OM")
    line = START + (u / u[-1])[:, None] * (END - START)
    assert float((found.states[0] - line).abs().max()) < 3e-4  # second order
    log_p = DATA[name].log_prob(torch.stack([START, END]), torch.ones(2), torch.tensor([2.0, 0.6]))
    exact = float((END - START).square().sum() / (4 * u[-1]) + log_p[0] - log_p[1])
    assert float(found.certificate.extrapolated) == pytest.approx(exact, abs=1e-5)
    assert reverse.level(u[[0, -1]]).tolist() == pytest.approx([2.0, 0.6])


def test_a_network_in_float32_is_one_too_and_its_path_bends_and_is_stationary_to_rounding() -> None:
    with seeded(0):
        network = MLP((2,), width=16, depth=2)
        with torch.no_grad():  # away from its first weights, of which the last are zero
            for each in network.parameters():
                each.add_(0.3 * torch.randn_like(each))
    denoiser = Preconditioned(network, VE(), 1.0, event_shape=(2,), data_range=(-3.0, 3.0))
    reverse = reverse_diffusion(denoiser, 2.0, 0.6)
    found = least_action(reverse.dynamics, START, END, reverse.times(41), "OM")
    assert float(found.certificate.residual) <= 1e-10
    line = START + (found.times / found.times[-1])[:, None] * (END - START)
    assert float((found.states[0] - line).abs().max()) > 1e-3
    assert {each.dtype for each in network.parameters()} == {torch.float32}


def test_images_are_rows() -> None:
    data = Gaussian.isotropic(torch.zeros(1, 2, 3), 1.0)
    reverse = reverse_diffusion(ExactDenoiser(data, VP()), 2.0, 1.0)
    y = torch.arange(6.0).double()[None]
    torch.testing.assert_close(reverse.dynamics.drift_at(y, torch.zeros(1).double()), -2 * y / 5)


def test_it_answers_as_any_dynamics_does() -> None:
    reverse = reverse_diffusion(ExactDenoiser(DATA["Gaussian"], VE()), 2.0, 1.0)
    found = most_likely_path(reverse.dynamics, START, END, 1.5, 41, "OM")
    assert found.minimum
    assert found.resolved


@pytest.mark.parametrize(("highest", "lowest"), [(1.0, 1.0), (1.0, 2.0), (1.0, 0.0), (math.inf, 1.0), (math.nan, 1.0)])
def test_levels_that_do_not_fall_are_refused(highest: float, lowest: float) -> None:
    with pytest.raises(InputError, match=r"^lowest, highest: expected noise levels 0 < lowest < highest"):
        reverse_diffusion(ExactDenoiser(DATA["Gaussian"], VE()), highest, lowest)


class KnownOnce(torch.autograd.Function):
    """x / 2, of which only the first derivative is known."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return 0.5 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004  # pyright: ignore
        return 0.5 * gradients[0]


def test_a_denoiser_without_second_derivatives_is_refused_in_one_line(monkeypatch) -> None:
    """Autograd would take them for zero."""
    monkeypatch.setattr(Gaussian, "denoise", lambda _, x, alpha, sigma: KnownOnce.apply(x))  # noqa: ARG005
    reverse = reverse_diffusion(ExactDenoiser(DATA["Gaussian"], VE()), 2.0, 1.0)
    with pytest.raises(InputError, match=r"^drift: expected a function that autograd can differentiate twice") as told:
        least_action(reverse.dynamics, START, END, reverse.times(5), "OM")
    assert "\n" not in str(told.value)


def test_the_score_of_a_data_set_as_a_drift_is_refused_rather_than_wrong() -> None:
    score = lambda x: DATA["points"].score(x, 1.0, 0.6)  # noqa: E731
    with pytest.raises(InputError, match=r"^drift: expected a function that autograd can differentiate twice"):
        least_action(Dynamics(score, 1.0), START, END, torch.linspace(0, 1, 5), "OM")

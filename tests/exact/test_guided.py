"""The guided flow of two Gaussians: closed forms where there are any, a fine integration of the denoiser elsewhere."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from diffuscope.denoisers import ExactDenoiser, Guided, denoised_to_velocity
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GuidedGaussian, with_equal_tails
from diffuscope.samplers import DDIM, Teleported, sample, teleport
from diffuscope.schedules import VE, VP, RectifiedFlow

EVENT, D = (2, 5), 10
ENDS = {"VE": (VE(), 80.0, 0.01), "VP": (VP(), 1.0, 1e-3), "flow matching": (RectifiedFlow(), 1.0, 0.01)}
# flow matching, which begins at alpha = 0, by default; all schedules are one path in the angle
every_schedule = pytest.mark.parametrize(
    ("schedule", "t", "s"),
    [pytest.param(*ends, id=name, marks=[pytest.mark.slow] * (name != "flow matching")) for name, ends in ENDS.items()],
)


def gaussian(seed: int, eigenvalues: list[float], tail: float = 0.2) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, len(eigenvalues), dtype=torch.float64, generator=generator))[0]
    mean = torch.randn(EVENT, dtype=torch.float64, generator=generator)
    return Gaussian(mean, basis, torch.tensor(eigenvalues), tail)


CONDITIONAL, FREE = gaussian(1, [4.0, 1.0, 0.3]), gaussian(2, [5.0, 2.0, 0.4, 0.25])


def starts(schedule, t, n: int = 2) -> torch.Tensor:
    noise = torch.randn(n, *EVENT, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return float(schedule.alpha(t)) * FREE.mean + float(schedule.sigma(t)) * noise


@every_schedule
@pytest.mark.parametrize("scale", [3.0, pytest.param(-0.5, marks=pytest.mark.slow)])
def test_with_two_covariances_it_is_the_fine_integration_of_the_guided_denoiser(schedule, t, s, scale):
    guided = Guided(ExactDenoiser(CONDITIONAL, schedule), ExactDenoiser(FREE, schedule), scale)
    x = starts(schedule, t)

    def velocity(time: float, flat: np.ndarray) -> np.ndarray:
        x_t = torch.from_numpy(flat).reshape(x.shape)
        return denoised_to_velocity(x_t, guided(x_t, time), schedule, time).numpy().ravel()

    fine = solve_ivp(velocity, (t, s), x.numpy().ravel(), method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    found = GuidedGaussian(CONDITIONAL, FREE, scale).flow(x, schedule, t, s)
    assert float((found.flatten() - torch.from_numpy(fine)).abs().max()) < 1e-8 * float(found.abs().max())


@every_schedule
def test_with_one_covariance_it_is_the_flow_of_the_extrapolated_gaussian(schedule, t, s):
    """Once as the same tensors, which is recognized, and once through the equation, with the eigenvectors' signs
    changed."""
    conditional = replace(FREE, mean=CONDITIONAL.mean)
    extrapolated = replace(FREE, mean=FREE.mean + 3 * (CONDITIONAL.mean - FREE.mean))
    x, truth = starts(schedule, t), extrapolated.flow(starts(schedule, t), schedule, t, s)
    known = GuidedGaussian(conditional, FREE, 3.0)
    integrated = GuidedGaussian(replace(conditional, eigenvectors=-FREE.eigenvectors), FREE, 3.0)
    assert known.closed_form is not None
    assert integrated.closed_form is None
    torch.testing.assert_close(known.flow(x, schedule, t, s), truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(integrated.flow(x, schedule, t, s), truth, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        known.denoise(x, float(schedule.alpha(t)), float(schedule.sigma(t))),
        extrapolated.denoise(x, float(schedule.alpha(t)), float(schedule.sigma(t))),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_commuting_covariances_have_a_closed_form(scale):
    """Centered, alpha = 1: every coordinate is multiplied by (v_c/(v_c + T^2))^(w/2) (v_u/(v_u + T^2))^((1-w)/2)."""
    zero, axes = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    v_c, v_u = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 0.3, 2.0], [2.0, 0.5, 0.4]))
    x = torch.tensor([[3.0, -20.0, 40.0]], dtype=torch.float64)
    found = GuidedGaussian(Gaussian(zero, axes, v_c), Gaussian(zero, axes, v_u), scale).flow(x, VE(), 40.0, 0.0)
    ends = [(v / (v + 1600.0)).sqrt() for v in (v_c, v_u)]
    torch.testing.assert_close(found, x * ends[0] ** scale * ends[1] ** (1 - scale), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("scale", "one"), [(0, FREE), (1, CONDITIONAL)])
def test_scales_zero_and_one_are_the_two_gaussians(scale, one):
    x = starts(VP(), 1.0)
    guided = GuidedGaussian(CONDITIONAL, FREE, scale)
    assert torch.equal(guided.flow(x, VP(), 1.0, 0.1), one.flow(x, VP(), 1.0, 0.1))
    at = float(VP().alpha(0.1)), float(VP().sigma(0.1))
    torch.testing.assert_close(guided.denoise(x, *at), one.denoise(x, *at), rtol=0, atol=1e-13)


@every_schedule
def test_the_flow_is_a_semigroup_and_runs_backward(schedule, t, s):
    guided, x = GuidedGaussian(CONDITIONAL, FREE, 2.0), starts(schedule, t)
    middle = 0.3 * t + 0.7 * s
    at_once = guided.flow(x, schedule, t, s)
    in_two = guided.flow(guided.flow(x, schedule, t, middle), schedule, middle, s)
    torch.testing.assert_close(in_two, at_once, rtol=0, atol=1e-8)
    torch.testing.assert_close(guided.flow(at_once, schedule, s, t), x, rtol=0, atol=1e-5)


def test_the_end_without_noise_is_the_limit_of_little_noise():
    """The trajectory arrives at rate sigma, so that the difference of the ends is of that order."""
    guided, x = GuidedGaussian(CONDITIONAL, FREE, 3.0), starts(RectifiedFlow(), 1.0)
    end = guided.flow(x, RectifiedFlow(), 1.0, 0.0)
    gaps = [float((guided.flow(x, RectifiedFlow(), 1.0, s) - end).abs().max()) for s in (1e-3, 1e-4)]
    assert gaps[1] < 0.11 * gaps[0]


def test_a_flow_that_cannot_be_integrated_is_refused(monkeypatch):
    failed = SimpleNamespace(success=False, message="the step is too small")
    monkeypatch.setattr("scipy.integrate.solve_ivp", lambda *_, **__: failed)
    with pytest.raises(InputError, match=r"^s: the guided flow cannot be integrated to there \(the step is too small"):
        GuidedGaussian(CONDITIONAL, FREE, 3.0).flow(starts(VP(), 1.0), VP(), 1.0, 0.1)


def test_float32_states_come_back_as_float32_to_rounding():
    guided, x = GuidedGaussian(CONDITIONAL, FREE, 2.0), starts(VP(), 1.0)
    found = guided.flow(x.float(), VP(), 1.0, 0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), guided.flow(x, VP(), 1.0, 0.1), rtol=1e-5, atol=1e-5)


def test_a_guided_teleport_is_exact_for_guided_gaussians():
    guided, schedule = GuidedGaussian(CONDITIONAL, FREE, 2.0), VE()
    x, times = starts(schedule, 40.0), torch.tensor([40.0, 20.0, 10.0, 5.0], dtype=torch.float64)
    model = Guided(ExactDenoiser(CONDITIONAL, schedule), ExactDenoiser(FREE, schedule), 2.0)
    at_end = teleport(guided, schedule, x, 40.0, 5.0)
    torch.testing.assert_close(sample(Teleported(DDIM(), guided, 5.0), model, x, times), at_end, rtol=0, atol=1e-8)
    denoised = guided.flow_denoised(x, schedule, 40.0, 5.0)
    torch.testing.assert_close(model(at_end, 5.0), denoised, rtol=0, atol=1e-10)


def test_equal_tails_are_the_mean_of_both_and_change_nothing_along_the_eigenvectors():
    first, second = with_equal_tails(CONDITIONAL, replace(FREE, tail_variance=0.4))
    assert first.tail_variance == second.tail_variance == pytest.approx(0.3)
    assert torch.equal(first.eigenvalues, CONDITIONAL.eigenvalues)
    GuidedGaussian(first, second, 2.0)


def test_what_cannot_be_guided_is_refused_in_one_line():
    with pytest.raises(
        InputError, match=r"conditional: expected the tail variance .* 0\.3, got 0\.2; with_equal_tails"
    ):
        GuidedGaussian(CONDITIONAL, replace(FREE, tail_variance=0.3), 2.0)
    with pytest.raises(InputError, match=r"conditional: expected the shape .* \(2, 5\), got \(3,\)"):
        GuidedGaussian(Gaussian.isotropic(torch.zeros(3), 1.0), FREE, 2.0)
    with pytest.raises(InputError, match="scale: expected a finite number"):
        GuidedGaussian(CONDITIONAL, FREE, float("inf"))
    point = replace(FREE, eigenvalues=torch.tensor([5.0, 2.0, 0.4, 0.0]))
    with pytest.raises(InputError, match="s: expected sigma > 0"):
        GuidedGaussian(CONDITIONAL, point, 2.0).flow(starts(VE(), 1.0), VE(), 1.0, 0.0)
    first, second = (Gaussian(torch.zeros(600), torch.eye(600)[:, k : k + 300], torch.ones(300)) for k in (0, 300))
    with pytest.raises(InputError, match=r"at most 512 eigenvectors together, got 600; truncate"):
        GuidedGaussian(first, second, 2.0)

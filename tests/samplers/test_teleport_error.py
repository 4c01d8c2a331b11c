"""The estimated displacement of a jump: zero for Gaussian data, right to first order, measured on real digits."""

import numpy as np
import pytest
import torch
from conftest import tensors_of
from scipy.integrate import solve_ivp
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser, denoised_to_velocity
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import suggest_skip, teleport, teleport_error
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times

ROTATION = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
GAUSSIAN = Gaussian(
    torch.tensor([0.3, -0.4], dtype=torch.float64), ROTATION, torch.tensor([2.25, 0.16], dtype=torch.float64)
)
# the same distribution with its small direction as the tail: low rank without approximation
LOW_RANK = Gaussian(GAUSSIAN.mean, ROTATION[:, :1], GAUSSIAN.eigenvalues[:1], 0.16)


def contaminated(share: float) -> GaussianMixture:
    """GAUSSIAN with a `share` of another Gaussian mixed in: its non-Gaussianity is proportional to the share."""
    covariance = ROTATION @ GAUSSIAN.eigenvalues.diag() @ ROTATION.T
    other = torch.tensor([[0.9, 0.2], [0.2, 0.6]], dtype=torch.float64)
    return GaussianMixture.from_covariances(
        torch.tensor([1 - share, share], dtype=torch.float64),
        torch.stack([GAUSSIAN.mean, torch.tensor([1.1, 0.8], dtype=torch.float64)]),
        torch.stack([covariance, other]),
    )


def start(schedule: Schedule, t: float, rows: int = 4) -> Tensor:
    return schedule.sigma(t) * torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def integrated(distribution: GaussianMixture, schedule: Schedule, x_t: Tensor, t: float, s: float) -> Tensor:
    """The model's own probability flow by DOP853 at tolerance 1e-7: a hundred-thousandth of a displacement."""
    denoiser = ExactDenoiser(distribution, schedule)

    def velocity(time: float, flat: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(flat, dtype=torch.float64).reshape(x_t.shape)
        return denoised_to_velocity(x, denoiser(x, time), schedule, time).flatten().numpy()

    solution = solve_ivp(velocity, (t, s), x_t.flatten().numpy(), method="DOP853", rtol=1e-7, atol=1e-7)
    return torch.as_tensor(solution.y[:, -1]).reshape(x_t.shape)


def times_down(schedule: Schedule, t_start: float, t_end: float, levels: int) -> Tensor:
    """Equal ratios of sigma/alpha, below a start where alpha may be zero."""
    if float(schedule.alpha(t_start)) > 0:
        return log_snr_times(schedule, t_start, t_end, levels)
    below = log_snr_times(schedule, float(schedule.time_of_noise_to_signal(1e2)), t_end, levels)
    return torch.cat([torch.tensor([t_start], dtype=torch.float64), below])


def test_the_estimate_carries_no_graph_of_the_model_nor_of_the_starts():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    class Learning:
        schedule = VE()

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
            return weight * ExactDenoiser(GAUSSIAN, VE())(x_t, t)

    error = teleport_error(Learning(), GAUSSIAN, start(VE(), 80.0).requires_grad_(), times_down(VE(), 80.0, 0.5, 4))
    assert not any(tensor.requires_grad for tensor in tensors_of(error))
    assert isinstance(suggest_skip(Learning(), GAUSSIAN, start(VE(), 80.0), error.times, tolerance=1.0).estimate, float)


@pytest.mark.parametrize("gaussian", [GAUSSIAN, LOW_RANK], ids=["dense", "low rank"])
@pytest.mark.parametrize(
    ("schedule", "t_start", "t_end"),
    [(VE(), 80.0, 0.5), (VP(), 1.0, 0.2), (RectifiedFlow(), 1.0, 0.3)],
    ids=["VE", "VP", "RectifiedFlow"],
)
def test_gaussian_data_is_not_displaced_at_all(gaussian: Gaussian, schedule: Schedule, t_start: float, t_end: float):
    times = times_down(schedule, t_start, t_end, 30)
    error = teleport_error(ExactDenoiser(GAUSSIAN, schedule), gaussian, start(schedule, t_start), times)
    assert float(error.at_level.max()) < 1e-12
    assert float(error.at_end.max()) < 1e-12
    assert float(error.relative.max()) < 1e-12


@pytest.mark.parametrize(
    ("gaussian", "schedule", "t_start", "t_end"),
    [
        (GAUSSIAN, VE(), 20.0, 0.6),
        (LOW_RANK, VE(), 20.0, 0.6),
        (GAUSSIAN, VP(), 1.0, 0.25),
        (GAUSSIAN, RectifiedFlow(), 1.0, 0.4),
    ],
    ids=["VE", "VE low rank", "VP", "RectifiedFlow"],
)
def test_the_estimate_is_the_displacement_up_to_second_order_in_the_non_gaussianity(
    gaussian: Gaussian, schedule: Schedule, t_start: float, t_end: float
):
    """Halving the non-Gaussianity halves the displacement and quarters the discrepancy of its estimate."""
    x_start = start(schedule, t_start)
    teleported = teleport(GAUSSIAN, schedule, x_start, t_start, t_end)
    times = times_down(schedule, t_start, t_end, 90)

    def measured_and_estimated(share: float) -> tuple[Tensor, Tensor]:
        distribution = contaminated(share)
        apart = (integrated(distribution, schedule, x_start, t_start, t_end) - teleported) / schedule.alpha(t_end)
        error = teleport_error(ExactDenoiser(distribution, schedule), gaussian, x_start, times)
        return apart.square().mean(1).sqrt(), error.at_level[-1]

    (measured, estimated), (measured_half, estimated_half) = measured_and_estimated(0.04), measured_and_estimated(0.02)
    discrepancy, discrepancy_half = (measured - estimated).abs(), (measured_half - estimated_half).abs()
    assert float((discrepancy / measured).max()) < 0.1
    assert float(estimated.norm() / estimated_half.norm()) == pytest.approx(2, abs=0.1)
    assert float(discrepancy.norm() / discrepancy_half.norm()) == pytest.approx(4, abs=0.4)


def test_the_displacement_at_the_end_is_the_one_at_the_level_carried_by_the_gaussian_flow():
    schedule, x_start = VE(), start(VE(), 20.0)
    distribution, times = contaminated(0.01), log_snr_times(VE(), 20.0, 1e-3, 60)
    error = teleport_error(ExactDenoiser(distribution, schedule), GAUSSIAN, x_start, times)
    # near clean data the two are the same coordinates: sqrt(lambda + sigma^2) against sqrt(lambda)
    assert torch.allclose(error.at_level[-1], error.at_end[-1], rtol=1e-4, atol=0)
    # along an eigenvector alone the carried displacement shrinks by sqrt(lambda / (lambda + sigma^2)) or more
    least, most = (float((value / (value + times[30] ** 2)).sqrt()) for value in (0.16, 2.25))
    ratio = error.at_end[30] / error.at_level[30]
    assert bool(((ratio >= least - 1e-12) & (ratio <= most + 1e-12)).all())


def test_each_level_costs_one_evaluation_and_its_estimate_does_not_depend_on_later_levels():
    calls = []
    exact = ExactDenoiser(contaminated(0.1), VE())

    class Counting:
        schedule = VE()

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
            calls.append(float(t))
            return exact(x_t, t)

    times = log_snr_times(VE(), 20.0, 0.5, 12)
    whole = teleport_error(Counting(), GAUSSIAN, start(VE(), 20.0), times)
    assert calls == times.tolist()
    part = teleport_error(exact, GAUSSIAN, start(VE(), 20.0), times[:6])
    assert torch.equal(part.at_end, whole.at_end[:6])


def test_the_trapezoidal_rule_is_within_its_stated_error():
    """(log q)^2 / 6 relatively, for levels in the ratio q."""
    denoiser, x_start = ExactDenoiser(contaminated(0.1), VE()), start(VE(), 20.0)
    fine = teleport_error(denoiser, GAUSSIAN, x_start, log_snr_times(VE(), 20.0, 0.5, 80)).relative[-1]
    for levels in (10, 20):
        log_ratio = torch.tensor(40.0).log() / levels
        coarse = teleport_error(denoiser, GAUSSIAN, x_start, log_snr_times(VE(), 20.0, 0.5, levels)).relative[-1]
        assert abs(float(coarse / fine) - 1) < float(log_ratio) ** 2 / 6


def test_the_suggested_level_is_the_lowest_whose_estimate_meets_the_tolerance():
    denoiser, x_start = ExactDenoiser(contaminated(0.1), VE()), start(VE(), 20.0, rows=64)
    times = log_snr_times(VE(), 20.0, 0.3, 30)
    error = teleport_error(denoiser, GAUSSIAN, x_start, times)
    for tolerance in (1e-3, 1e-2):
        suggestion = suggest_skip(denoiser, GAUSSIAN, x_start, times, tolerance=tolerance)
        assert 0 < suggestion.index < 30
        assert suggestion.estimate <= tolerance < float(error.relative[suggestion.index + 1])
        assert suggestion.noise_to_signal == float(times[suggestion.index])
        assert 0 < suggestion.standard_error < suggestion.estimate
    assert suggest_skip(denoiser, GAUSSIAN, x_start, times, tolerance=1e-12).index == 0
    assert suggest_skip(denoiser, GAUSSIAN, x_start, times, tolerance=1e3).index == 30


def test_relative_units_do_not_change_with_the_units_of_the_data():
    """Data, noise levels and start scaled by 7: the same relative displacement."""
    distribution = contaminated(0.1)
    scaled = GaussianMixture(
        distribution.weights,
        7 * distribution.means,
        distribution.eigenvectors,
        49 * distribution.eigenvalues,
        49 * distribution.tail_variances,
    )
    times, x_start = log_snr_times(VE(), 20.0, 0.5, 20), start(VE(), 20.0)
    one = teleport_error(ExactDenoiser(distribution, VE()), GAUSSIAN, x_start, times)
    other = teleport_error(ExactDenoiser(scaled, VE()), GAUSSIAN.rescale(7.0, 0.0), 7 * x_start, 7 * times)
    assert torch.allclose(one.relative, other.relative, rtol=1e-12, atol=0)


def test_bad_arguments_of_the_estimate_raise_with_the_reason():
    denoiser = ExactDenoiser(GAUSSIAN, VE())
    with pytest.raises(InputError, match="tolerance: expected a positive share"):
        suggest_skip(denoiser, GAUSSIAN, start(VE(), 9.0), torch.tensor([9.0, 1.0]), tolerance=0.0)
    with pytest.raises(InputError, match="times: expected at least two strictly decreasing"):
        teleport_error(denoiser, GAUSSIAN, start(VE(), 9.0), torch.tensor([1.0, 9.0]))

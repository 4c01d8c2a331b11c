"""The probability-flow map and its log-determinant: closed forms, quantiles, conservation laws, both directions."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor

from diffuscope.certify import mixture
from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.densities.divergence import ExactDivergence, HutchinsonDivergence, JacobianDivergence
from diffuscope.densities.flow_map import Transported, transport
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule, Sigmoid

WIDE = VE(1e-4, 1e6)
SCHEDULES = [VE(), VP(), DiscreteVP.linear(), Cosine(), RectifiedFlow(), Sigmoid()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)


def unequal_gaussian() -> Gaussian:
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    return Gaussian(
        torch.tensor([1.3, -0.4], dtype=torch.float64), rotation, torch.tensor([2.25, 0.16], dtype=torch.float64)
    )


def three_on_the_line() -> GaussianMixture:
    return GaussianMixture.isotropic(
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([[-1.2], [0.4], [1.6]], dtype=torch.float64),
        torch.tensor([0.3, 0.2, 0.05], dtype=torch.float64),
    )


def points(distribution: Distribution, schedule: Schedule, t: float, count: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    x_0 = distribution.sample(count, generator=draw)
    return schedule.alpha(t) * x_0 + schedule.sigma(t) * torch.randn(x_0.shape, dtype=torch.float64, generator=draw)


def exactly(distribution: Distribution, schedule: Schedule, x_t: Tensor, t: float, s: float, **options) -> Transported:
    return transport(ExactDenoiser(distribution, schedule), x_t, t, s, divergence=ExactDivergence(), **options)


@every_schedule
def test_a_gaussians_map_and_determinant_are_the_closed_form_in_both_directions(schedule: Schedule):
    distribution, ends = unequal_gaussian(), (float(schedule.time_of_noise_to_signal(0.02)), schedule.t_max)
    t, s = there_and_back(*ends)
    x_t = torch.cat([points(distribution, schedule, end, 2) for end in ends])
    moved = transport(ExactDenoiser(distribution, schedule), x_t, t, s, divergence=ExactDivergence())
    assert torch.allclose(moved.x_s, distribution.flow(x_t, schedule, t, s), rtol=1e-8, atol=1e-8)
    log_det = distribution.flow_log_det(schedule, *ends)
    assert torch.allclose(moved.log_det[:, 0], log_det * torch.tensor([1.0, 1, -1, -1]).double(), rtol=0, atol=1e-8)


def there_and_back(t: float, s: float) -> tuple[Tensor, Tensor]:
    """Two samples from t to s, two from s to t."""
    return torch.tensor([t, t, s, s], dtype=torch.float64), torch.tensor([s, s, t, t], dtype=torch.float64)


def test_from_a_thousandth_to_a_hundred_thousand_times_the_signal_in_a_few_hundred_evaluations():
    distribution = unequal_gaussian()
    t, s = there_and_back(1e-3, 1e5)
    x_t = torch.cat([points(distribution, WIDE, end, 2) for end in (1e-3, 1e5)])
    moved = transport(ExactDenoiser(distribution, WIDE), x_t, t, s, divergence=ExactDivergence())
    assert torch.allclose(moved.x_s, distribution.flow(x_t, WIDE, t, s), rtol=2e-8, atol=0)
    assert float((moved.log_det[:, 0].abs() - distribution.flow_log_det(WIDE, 1e-3, 1e5)).abs().max()) < 1e-8
    assert moved.evaluations < 350
    wells = three_on_the_line()
    assert exactly(wells, WIDE, points(wells, WIDE, 1e-3), 1e-3, 1e5).evaluations < 550


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Sigmoid()], ids=lambda s: type(s).__name__)
def test_the_map_starts_at_alpha_zero_exactly(schedule: Schedule):
    """There x_t is noise: the standard normal's image has the data's quantiles."""
    distribution, near = three_on_the_line(), float(schedule.time_of_noise_to_signal(0.02))
    x_t = torch.linspace(-2.5, 2.5, 7, dtype=torch.float64)[:, None]
    moved = exactly(distribution, schedule, x_t, schedule.t_max, near)
    reached = distribution_function(distribution, moved.x_s, schedule, near)
    assert torch.allclose(reached, torch.special.ndtr(x_t), rtol=0, atol=1e-8)


@pytest.mark.parametrize("schedule", [VP(), DiscreteVP.linear()], ids=lambda s: type(s).__name__)
def test_in_one_dimension_the_map_keeps_the_quantile(schedule: Schedule):
    distribution, ends = three_on_the_line(), [float(schedule.time_of_noise_to_signal(ratio)) for ratio in (0.02, 20.0)]
    t, s = there_and_back(*ends)
    x_t = torch.cat([points(distribution, schedule, end, 2) for end in ends])
    moved = transport(ExactDenoiser(distribution, schedule), x_t, t, s, divergence=ExactDivergence())
    before, after = (
        distribution_function(distribution, x, schedule, at[:, None]) for x, at in ((x_t, t), (moved.x_s, s))
    )
    assert torch.allclose(after, before, rtol=0, atol=1e-8)


def distribution_function(distribution: GaussianMixture, x: Tensor, schedule: Schedule, t: Tensor | float) -> Tensor:
    """F_t, the noised mixture's."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    deviations = (alpha**2 * distribution.tail_variances + sigma**2).sqrt()
    return (torch.special.ndtr((x - alpha * distribution.means[:, 0]) / deviations) * distribution.weights).sum(
        -1, keepdim=True
    )


def test_any_density_carried_keeps_its_ratio_to_the_exact_one_along_trajectories():
    """log(q / rho) is constant where q starts from N(0, 1) in place of rho_T (eta = 0)."""
    distribution, schedule = (
        mixture(2).distribution,
        VP(beta_min=2.0, beta_max=2.0 + 1e-9),
    )  # Ornstein-Uhlenbeck, alpha = e^-t
    t = schedule.t_max
    x_t = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_q = torch.distributions.Normal(0.0, 1.0).log_prob(x_t).sum(1)
    ratio = log_q - distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
    assert float(ratio.abs().max()) > 0.1
    for s in (0.5, 0.02):
        moved = exactly(distribution, schedule, x_t, t, s)
        carried = log_q - moved.log_det[:, 0] - distribution.log_prob(moved.x_s, schedule.alpha(s), schedule.sigma(s))
        assert torch.allclose(carried, ratio, rtol=0, atol=2e-8)


def test_the_way_back_undoes_the_way_there_in_64_dimensions():
    distribution, schedule = mixture(64).distribution, RectifiedFlow()
    t = float(schedule.time_of_noise_to_signal(0.1))
    x_t = points(distribution, schedule, t)
    there = exactly(distribution, schedule, x_t, t, 1.0)
    back = exactly(distribution, schedule, there.x_s, 1.0, t)
    assert torch.allclose(back.x_s, x_t, rtol=0, atol=1e-7)
    assert torch.allclose(back.log_det, -there.log_det, rtol=0, atol=1e-6)


def test_the_determinant_is_that_of_the_maps_own_differences():
    """Central differences of x_s with step h: exact to h^2."""
    distribution, schedule, h = mixture(2).distribution, VP(), 1e-4
    t = float(schedule.time_of_noise_to_signal(0.3))
    x_t, steps = points(distribution, schedule, t, 3), h * torch.eye(2, dtype=torch.float64)
    around = torch.cat([x_t[:, None] + steps, x_t[:, None] - steps]).reshape(-1, 2)
    moved = exactly(distribution, schedule, around, t, 0.9).x_s.reshape(2, 3, 2, 2)
    jacobians = ((moved[0] - moved[1]) / (2 * h)).mT
    found = exactly(distribution, schedule, x_t, t, 0.9).log_det[:, 0]
    assert torch.allclose(found, torch.linalg.slogdet(jacobians).logabsdet, rtol=0, atol=2e-6)


def test_all_schedules_have_the_same_map_at_equal_noise():
    """In x / sqrt(alpha^2 + sigma^2), between equal noise-to-signal ratios; the table's kinks leave no trace."""
    distribution, found = mixture(2).distribution, []
    for schedule in (VE(), DiscreteVP.linear(), RectifiedFlow()):
        t, s = (float(schedule.time_of_noise_to_signal(ratio)) for ratio in (0.1, 10.0))
        scales = [torch.hypot(schedule.alpha(at), schedule.sigma(at)) for at in (t, s)]
        moved = exactly(
            distribution, schedule, scales[0] * points(distribution, VE(), 0.1) / 1.01**0.5, t, s, tolerance=1e-7
        )
        log_det = moved.log_det[:, 0] - 2 * (scales[1] / scales[0]).log()
        found.append((moved.x_s / scales[1], log_det, moved.evaluations))
    for x, log_det, evaluations in found[1:]:
        assert torch.allclose(x, found[0][0], rtol=1e-9, atol=1e-10)
        assert torch.allclose(log_det, found[0][1], rtol=1e-8, atol=1e-9)
        assert evaluations == found[0][2]


def test_the_error_follows_the_tolerance():
    """Within a hundred times the error allowed per step."""
    distribution, schedule = three_on_the_line(), VP()
    t = float(schedule.time_of_noise_to_signal(0.05))
    x_t = points(distribution, schedule, t)
    exact = distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
    for digits in (5, 7, 9):
        moved = exactly(distribution, schedule, x_t, t, 1.0, tolerance=10.0**-digits)
        at_end = distribution.log_prob(moved.x_s, schedule.alpha(1.0), schedule.sigma(1.0))
        assert float((at_end + moved.log_det[:, 0] - exact).abs().max()) < 100 * 10.0**-digits


def test_every_sample_has_times_of_its_own_and_does_not_feel_its_batch():
    distribution, schedule = mixture(2).distribution, VP()
    x_t = points(distribution, schedule, 0.3, 4)
    t = torch.tensor([0.1, 0.3, 0.9, 0.5], dtype=torch.float64)
    s = torch.tensor([0.8, 0.1, 0.2, 0.5], dtype=torch.float64)  # later, earlier, earlier, not at all
    denoiser = ExactDenoiser(distribution, schedule)
    together = transport(denoiser, x_t, t, s, divergence=ExactDivergence(), tolerance=1e-5)
    for i in range(4):
        alone = exactly(distribution, schedule, x_t[i : i + 1], float(t[i]), float(s[i]), tolerance=1e-5)
        assert torch.allclose(together.x_s[i], alone.x_s[0], rtol=1e-11, atol=0)
        assert torch.allclose(together.log_det[i], alone.log_det[0], rtol=1e-10, atol=1e-12)
    assert torch.allclose(together.x_s[3], x_t[3], rtol=1e-15, atol=0)
    assert float(together.log_det[3]) == 0


def test_every_probe_carries_an_unbiased_determinant(generator: torch.Generator):
    distribution, schedule = unequal_gaussian(), VP()
    x_t = points(distribution, schedule, 0.1)[:1].expand(300, 2)
    divergence = HutchinsonDivergence.rademacher(x_t, 6, generator=generator)
    moved = transport(ExactDenoiser(distribution, schedule), x_t, 0.1, 1.0, divergence=divergence, tolerance=1e-6)
    assert moved.log_det.shape == (300, 6)
    assert monte_carlo(moved.log_det).agrees_with(distribution.flow_log_det(schedule, 0.1, 1.0))
    assert torch.allclose(moved.x_s, distribution.flow(x_t, schedule, 0.1, 1.0), rtol=1e-5, atol=1e-5)


def test_float32_answers_in_float32_with_a_determinant_in_float64():
    distribution, schedule = mixture(2).distribution, VP()
    x_t = points(distribution, schedule, 0.1)
    fine = exactly(distribution, schedule, x_t, 0.1, 1.0, tolerance=1e-6)
    for divergence in (ExactDivergence(), JacobianDivergence()):
        coarse = transport(ExactDenoiser(distribution, schedule), x_t.float(), 0.1, 1.0, divergence=divergence)
        assert coarse.x_s.dtype == torch.float32
        assert coarse.log_det.dtype == torch.float64
        assert torch.allclose(coarse.x_s.double(), fine.x_s, rtol=0, atol=1e-4)
        assert torch.allclose(coarse.log_det, fine.log_det, rtol=0, atol=1e-4)


def test_bad_input_is_one_clear_line():
    distribution, schedule, good = unequal_gaussian(), VP(), torch.zeros(2, 2, dtype=torch.float64)
    refusals: list[tuple[str, Tensor, float, float, dict[str, Any]]] = [
        ("x_t: expected finite", good / 0, 0.1, 1.0, {}),
        ("x_t: expected floats of shape", good[:0], 0.1, 1.0, {}),
        ("x_t: expected floats of shape", good[0], 0.1, 1.0, {}),
        ("t: expected times of the schedule, up to 1", good, 0.0, 1.0, {}),
        ("t: expected times of the schedule, up to 1", good, float("nan"), 1.0, {}),
        ("s: expected times of the schedule, up to 1", good, 0.1, 1.1, {}),
        ("s: expected times of the schedule, up to 1", good, 0.1, -0.1, {}),
        ("tolerance: expected a value > 0", good, 0.1, 1.0, {"tolerance": 0.0}),
        ("tolerance: expected a value > 0", good, 0.1, 1.0, {"tolerance": float("nan")}),
        ("max_evaluations: expected enough to go from t = 0.1 to 1", good, 0.1, 1.0, {"max_evaluations": 20}),
    ]
    for line, x, t, s, options in refusals:
        with pytest.raises(InputError, match=line):
            transport(ExactDenoiser(distribution, schedule), x, t, s, divergence=ExactDivergence(), **options)
    flow = ExactDenoiser(distribution, RectifiedFlow())
    with pytest.raises(InputError, match="spent at sigma/alpha = inf"):  # before the first step from pure noise
        transport(flow, good, 1.0, 0.1, divergence=ExactDivergence(), max_evaluations=3)

    @dataclass(frozen=True)
    class Broken:
        schedule: Schedule

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
            return x_t * float("nan")

    with pytest.raises(InputError, match="denoiser: expected finite answers"):
        transport(Broken(schedule), good, 0.1, 1.0, divergence=JacobianDivergence())


@pytest.mark.parametrize(("near", "far"), [(2.0, 50.0), (0.5, 0.01)])
def test_of_several_samples_the_one_that_is_farthest_from_its_end_is_named(near: float, far: float):
    one, ends = torch.ones(2, dtype=torch.float64), torch.tensor([near, far], dtype=torch.float64)
    denoiser, x = ExactDenoiser(unequal_gaussian(), VE()), torch.zeros(2, 2, dtype=torch.float64)
    for t, s, said in ((one, ends, f"from t = 1 to {far:g} at"), (ends, one, f"from t = {far:g} to 1 at")):
        with pytest.raises(InputError, match=said):
            transport(denoiser, x, t, s, divergence=ExactDivergence(), max_evaluations=10)

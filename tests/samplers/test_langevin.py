"""Langevin correctors: the known bias of the unadjusted, none of the adjusted, and what they cost."""

import pytest
import torch
from affine import GaussianOnTheLine, affine_step
from conftest import monte_carlo
from exact_flows import mixture_on_the_line, unequal_gaussian

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    Heun,
    Instant,
    Langevin,
    MetropolisLangevin,
    Noise,
    State,
    instant,
    sample,
    trajectory,
)
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times
from numbers_in_tests import seeded

MIXTURE = mixture_on_the_line().distribution
every_schedule = pytest.mark.parametrize("schedule", [VE(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)


class Stay:
    """A predictor that stays where it is, to see the corrector alone."""

    order, stochastic, nfe_per_step = 1, False, 0

    def step(self, denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        return State(s, state.x_t)


@every_schedule
@pytest.mark.parametrize("r", [0.1, 1.0, 1.9])
def test_the_unadjusted_corrector_has_its_known_stationary_distribution(schedule: Schedule, r: float):
    """Mean alpha m, variance v / (1 - eps / 4v) with eps = r sigma^2: the fixed point of the step's own recursion."""
    denoiser, at = GaussianOnTheLine(schedule), instant(schedule, 0.5)
    a, b, c_squared = affine_step(Langevin(Stay(), step_size=r), denoiser, at, at)
    mean, v = denoiser.marginal(0.5)
    assert b / (1 - a) == pytest.approx(mean, rel=1e-12)
    assert c_squared / (1 - a**2) == pytest.approx(v / (1 - r * at.sigma**2 / (4 * v)), rel=1e-12)
    # several corrections are one applied as many times
    a_3, _, c_3 = affine_step(Langevin(Stay(), corrections=3, step_size=r), denoiser, at, at)
    assert a_3 == pytest.approx(a**3, rel=1e-12)
    assert c_3 == pytest.approx(c_squared * (1 + a**2 + a**4), rel=1e-12)


def test_the_figures_of_a_unit_gaussian():
    """v = 1, eps = 0.1: 1.025641."""
    denoiser, at = GaussianOnTheLine(VE(), variance=0.0), instant(VE(), 1.0)
    a, _, c_squared = affine_step(Langevin(Stay(), step_size=0.1), denoiser, at, at)
    assert c_squared / (1 - a**2) == pytest.approx(1 / 0.975, rel=1e-12)


def detailed_balance_gap(sampler: MetropolisLangevin, count: int) -> list:
    """x ~ p, x' one corrected step: E[f(x) g(x') - g(x) f(x')] for pairs (f, g), zero for a reversible chain."""
    at = instant(VE(), 1.5)
    x = MIXTURE.sample(count, generator=seeded(1)) + 1.5 * torch.randn(
        count, 1, dtype=torch.float64, generator=seeded(2)
    )
    after = sampler.step(ExactDenoiser(MIXTURE, VE()), State(at, x), at, Noise(seeded(3))).x_t
    assert 0.1 < float((after == x).double().mean()) < 0.9  # some proposals are refused, some accepted
    pairs = [(torch.tanh, torch.square), (torch.sin, torch.abs), (torch.cos, torch.exp)]
    gaps = [monte_carlo(f(x) * g(after) - g(x) * f(after)) for f, g in pairs]
    kept = [monte_carlo(f(after) - f(x)) for pair in pairs for f in pair]
    return [*gaps, *kept]


def test_the_adjusted_corrector_keeps_the_distribution_and_is_reversible_at_a_step_size_that_biases_the_unadjusted():
    sampler = MetropolisLangevin(Stay(), MIXTURE, step_size=2.5)
    assert all(estimate.agrees_with(0.0) for estimate in detailed_balance_gap(sampler, 60_000))

    at = instant(VE(), 1.5)
    x = MIXTURE.sample(60_000, generator=seeded(1))
    x = x + 1.5 * torch.randn(60_000, 1, dtype=torch.float64, generator=seeded(2))
    unadjusted = Langevin(Stay(), step_size=2.5)
    after = unadjusted.step(ExactDenoiser(MIXTURE, VE()), State(at, x), at, Noise(seeded(3))).x_t
    assert not monte_carlo(after.square() - x.square()).agrees_with(0.0)


def test_the_adjusted_corrector_keeps_the_distribution_for_any_drift():
    """A denoiser that is wrong makes a worse proposal, not a wrong distribution."""

    class Wrong:
        schedule = VE()

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
            return 0.3 * x_t + 0.2

    at = instant(VE(), 0.5)
    distribution = unequal_gaussian()
    x = distribution.sample(40_000, generator=seeded(1)) + 0.5 * torch.randn(
        40_000, 2, dtype=torch.float64, generator=seeded(2)
    )
    sampler = MetropolisLangevin(Stay(), distribution, corrections=4, step_size=1.0)
    after = sampler.step(Wrong(), State(at, x), at, Noise(seeded(3))).x_t
    for moment in (after - x, after.square() - x.square(), after[:, :1] * after[:, 1:] - x[:, :1] * x[:, 1:]):
        for column in moment.T:
            assert monte_carlo(column).agrees_with(0.0)


def test_the_adjusted_corrector_reaches_the_distribution_from_another_start():
    """From one wrong point, 60 corrections later: mean and variance of the noised distribution."""
    at, distribution = instant(VP(), 0.5), GaussianOnTheLine(VP())
    gaussian = Gaussian.isotropic(torch.tensor([distribution.mean], dtype=torch.float64), distribution.variance)
    x = torch.full((8000, 1), 3.0, dtype=torch.float64)
    sampler = MetropolisLangevin(Stay(), gaussian, corrections=60, step_size=0.8)
    after = sampler.step(distribution, State(at, x), at, Noise(seeded(4))).x_t
    mean, variance = distribution.marginal(0.5)
    assert monte_carlo(after).agrees_with(mean)
    assert monte_carlo((after - mean).square()).agrees_with(variance)


@pytest.mark.parametrize("predictor", [DDIM(), DDPM(), Heun(), DPMSolverPP2M()], ids=lambda s: type(s).__name__)
def test_any_predictor_is_corrected_from_pure_noise_to_clean_data(predictor):
    schedule, distribution = RectifiedFlow(), unequal_gaussian()
    x_start = torch.randn(6, 2, dtype=torch.float32, generator=seeded())
    times = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0], dtype=torch.float64)
    for sampler in (Langevin(predictor, 2), MetropolisLangevin(predictor, distribution, 2)):
        *_, before, last = trajectory(sampler, ExactDenoiser(distribution, schedule), x_start, times, noise=seeded(1))
        assert last.x_t.dtype == torch.float32
        assert torch.allclose(
            last.x_t, distribution.denoise(before.x_t, 0.8, 0.2), atol=1e-5
        )  # the last step is uncorrected


def test_nfe_per_step_is_the_number_of_calls():
    calls = []

    class Counting:
        schedule = VP()

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
            calls.append(float(t))
            return ExactDenoiser(MIXTURE, VP())(x_t, t)

    x_start = torch.randn(3, 1, dtype=torch.float64, generator=seeded())
    for sampler in (Langevin(Heun(), 3), MetropolisLangevin(Heun(), MIXTURE, 3)):
        calls.clear()
        sample(sampler, Counting(), x_start, log_snr_times(VP(), 0.9, 0.1, 4), noise=seeded())
        assert sampler.nfe_per_step is not None
        assert len(calls) == 4 * sampler.nfe_per_step
    assert (Langevin(DDIM()).order, MetropolisLangevin(Heun(), MIXTURE).order) == (0, 2)


def test_parameters_out_of_range_raise():
    with pytest.raises(InputError, match="corrections: expected"):
        Langevin(DDIM(), 0)
    with pytest.raises(InputError, match="step_size: expected"):
        MetropolisLangevin(DDIM(), MIXTURE, step_size=4.0)

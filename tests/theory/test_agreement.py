"""A network against analytic denoisers: fractions in closed form where all are Gaussian, zero where they are one."""

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, Rescheduled, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import DDPM, Euler, Heun
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.theory import (
    agreement,
    analytic_candidates,
    compared,
    mixture_map,
    mixtures_of,
    moment_batch,
    trajectory_gaps,
)
from diffuscope.times import karras_times, log_snr_times

DRAW = torch.Generator().manual_seed(3)
BASIS = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=DRAW)).Q
VALUES = torch.tensor([4.0, 2.0, 1.0, 0.3, 0.05, 0.01], dtype=torch.float64)
DATA = Gaussian(torch.randn(6, dtype=torch.float64, generator=DRAW), BASIS, VALUES)
ISOTROPIC = Gaussian.isotropic(DATA.mean, DATA.trace / 6)
CONSTANT = Gaussian.isotropic(DATA.mean, 0.0)
CANDIDATES = {"mean": CONSTANT, "isotropic": ISOTROPIC, "Gaussian": DATA}


def examples(n=400):
    """A three-mode mixture in six dimensions."""
    draw = torch.Generator().manual_seed(5)
    means = 2 * torch.randn(3, 6, dtype=torch.float64, generator=draw)
    which = torch.randint(3, (n,), generator=draw)
    return means[which] + DATA.sample(n, generator=draw) / 3


def at(schedule, t, denoiser=None, **options):
    x_0, noise = moment_batch(DATA)
    x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * noise
    denoiser = ExactDenoiser(DATA, schedule) if denoiser is None else denoiser
    return agreement(denoiser, CANDIDATES, x_t, t, mean=DATA.mean, basis=BASIS, **options)


@pytest.mark.parametrize(("schedule", "t"), [(VE(), 0.7), (VP(), 0.4), (RectifiedFlow(), 0.6)])
def test_fractions_between_gaussians_are_those_of_the_eigenvalues(schedule, t):
    """The batch has the exact second moments, so that pooled fractions are closed forms; rounding: 1e-12."""
    a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
    spread, v = a**2 * VALUES + s**2, DATA.trace / 6
    own, other = a * VALUES / spread, torch.full((6,), a * v / (a**2 * v + s**2), dtype=torch.float64)
    found = at(schedule, t)
    centered = ((own - other).square() * spread).sum() / (own.square() * spread).sum()
    score = ((a / s**2 * (own - other)).square() * spread).sum() / (1 / spread).sum()
    energy = DATA.mean.square().sum() + (own.square() * spread).sum()
    assert torch.allclose(found.pooled("centered"), torch.stack([centered * 0 + 1, centered, centered * 0]), atol=1e-12)
    assert abs(float(found.pooled("score")[1] / score) - 1) < 1e-12
    assert (
        abs(float(found.pooled("denoised")[1] / (centered * (energy - DATA.mean.square().sum()) / energy)) - 1) < 1e-12
    )
    assert torch.allclose(found.by_band[1], (1 - other / own).square(), rtol=1e-10, atol=0)
    assert torch.allclose(found.by_band[0], torch.ones(6, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_cosine_of_a_multiple_is_one_and_that_of_the_constant_zero():
    """An isotropic candidate of isotropic data is a multiple of it; rounding."""
    twice = Gaussian.isotropic(DATA.mean, 2.0)
    x_t = 3 * torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = agreement(ExactDenoiser(twice, VE()), CANDIDATES, x_t, 1.0, mean=DATA.mean)
    assert abs(float(found.cosine[1]) - 1) < 1e-12
    assert float(found.cosine[0]) == 0
    assert float(found.cosine[2]) < 1 - 1e-3


def test_score_residuals_are_those_of_scores_formed_one_by_one():
    x_t = 3 * torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    schedule, t = VP(), 0.5
    own = denoised_to_score(x_t, DATA.denoise(x_t, schedule.alpha(t), schedule.sigma(t)), schedule, t)
    other = ISOTROPIC.score(x_t, schedule.alpha(t), schedule.sigma(t))
    found = agreement(ExactDenoiser(DATA, schedule), CANDIDATES, x_t, t, mean=DATA.mean)
    each = (own - other).square().sum(1) / own.square().sum(1)
    assert torch.allclose(found.per_sample("score")[:, 1], each, rtol=1e-10, atol=0)


def test_nothing_depends_on_the_schedule_in_which_a_level_is_read():
    """The same sigma/alpha in another schedule: states and scores scale, fractions do not."""
    one = at(VE(), 0.7)
    t = float(RectifiedFlow().time_of_noise_to_signal(0.7))
    other = at(RectifiedFlow(), t, Rescheduled(ExactDenoiser(DATA, VE()), RectifiedFlow()))
    for of in ("denoised", "centered", "score"):
        assert torch.allclose(one.pooled(of), other.pooled(of), atol=1e-12)
        assert torch.allclose(one.per_sample(of), other.per_sample(of), atol=1e-10)
    assert torch.allclose(one.cosine, other.cosine, atol=1e-12)


def test_bands_add_up_to_the_whole_and_a_basis_is_optional():
    found = at(VE(), 0.7, bands=torch.tensor([0, 0, 1, 1, 1, 2]))
    assert found.bands.shape[1] == 3
    assert torch.allclose(found.gap_bands.sum(2), found.gap, rtol=1e-10, atol=1e-14)
    without = agreement(ExactDenoiser(DATA, VE()), CANDIDATES, DATA.mean[None] + 1, 1.0, mean=DATA.mean)
    assert without.by_band.numel() == 0


def test_no_candidate_is_refused():
    with pytest.raises(InputError, match="candidates: expected at least one"):
        agreement(ExactDenoiser(DATA, VE()), {}, DATA.mean[None], 1.0, mean=DATA.mean)


# candidates


def test_the_candidates_know_more_and_more_of_the_data(generator):
    data = examples()
    found = analytic_candidates(data, (3,), generator=generator)
    assert list(found) == ["mean", "isotropic", "Gaussian", "3 Gaussians", "empirical"]
    x = data[:7] + 0.5
    assert torch.allclose(found["mean"].score(x, 0.5, 2.0), (0.5 * data.mean(0) - x) / 4, rtol=1e-12, atol=0)
    variance = data.var(0, correction=0).mean()
    expected = (0.5 * data.mean(0) - x) / (0.25 * variance + 4)
    assert torch.allclose(found["isotropic"].score(x, 0.5, 2.0), expected, rtol=1e-12, atol=0)
    # the log-likelihood of the examples under noise that is small: every candidate fits better than the one before
    likelihood = [float(model.log_prob(data, 1.0, 0.1).mean()) for name, model in found.items() if name != "mean"]
    assert sorted(likelihood) == likelihood


def test_a_truncated_mixture_is_the_fit_of_that_rank(generator):
    data = examples()
    state = generator.get_state()
    (_, _, full), (_, _, two) = mixtures_of(data, (3,), (6, 2), generator=generator)
    direct = GaussianMixture.fit_kmeans(data, 3, rank=2, generator=generator.set_state(state))
    x = data[:9] + 0.3
    assert torch.allclose(two.denoise(x, 1.0, 0.3), direct.denoise(x, 1.0, 0.3), rtol=1e-9, atol=0)
    assert not torch.allclose(two.denoise(x, 1.0, 0.3), full.denoise(x, 1.0, 0.3), rtol=1e-3, atol=1e-8)
    low = full.truncate(4).truncate(2)
    assert torch.allclose(low.tail_variances, two.tail_variances, rtol=1e-10, atol=0)
    assert torch.allclose(
        two.as_gaussian().trace * torch.ones(()), torch.tensor(full.as_gaussian().trace), rtol=1e-10, atol=0
    )


def test_one_gaussian_of_full_rank_in_the_map_is_the_gaussian_with_its_ridge(generator):
    data, ridge = examples(), 1e-5
    gaussian = Gaussian.fit([data])
    ridged = Gaussian(gaussian.mean, gaussian.eigenvectors, gaussian.eigenvalues + ridge)
    mixture = GaussianMixture.fit_kmeans(data, 3, generator=torch.Generator().manual_seed(9))
    x_t = data[:60] + 0.4
    D = mixture.denoise(x_t, 1.0, 0.4)
    found = mixture_map(mixtures_of(data, (1, 3), (0, 6), generator=generator), {(1.0, 0.4): (x_t, D)}, gaussian.mean)
    assert list(found) == [(1, 0), (1, 6), (3, 0), (3, 6)]
    alone = compared(x_t, D, [ridged.denoise(x_t, 1.0, 0.4)], gaussian.mean, None, 1.0, 0.4)
    assert torch.allclose(found[1, 6][0].per_sample("score"), alone.per_sample("score"), rtol=1e-8, atol=0)
    assert float(found[3, 6][0].pooled("score")) < float(found[1, 6][0].pooled("score"))


@pytest.mark.parametrize("rank", [-1, 7])
def test_a_rank_that_there_is_not_is_refused(rank, generator):
    with pytest.raises(InputError, match=rf"rank: expected 0 \.\. 6, got {rank}"):
        GaussianMixture.fit_kmeans(examples(), 2, generator=generator).truncate(rank)
    with pytest.raises(InputError, match=r"ranks: expected numbers 0 \.\. 6 \(the coordinates\), got"):
        next(mixtures_of(examples(), (2,), (rank,), generator=generator))


# trajectories

START = 20.0


def gaps(network, candidates, steps, schedule=None, sampler=None):
    schedule = VE() if schedule is None else schedule
    t = float(schedule.time_of_noise_to_signal(START))
    times = log_snr_times(schedule, t, float(schedule.time_of_noise_to_signal(0.1)), steps)
    noise = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x_start = schedule.sigma(t) * noise
    sampler = Heun() if sampler is None else sampler
    return x_start, trajectory_gaps(ExactDenoiser(network, schedule), candidates, x_start, times, sampler)


@pytest.mark.parametrize("schedule", [VE(), VP()], ids=["VE", "VP"])
def test_the_gap_to_its_own_closed_form_is_the_square_of_heuns_error(schedule):
    """Order 2 of the states is order 4 of squared distances: halving the steps gives a factor of 16, here 12 to 20."""
    (_, coarse), (_, fine) = (gaps(DATA, {"own": DATA}, steps, schedule) for steps in (40, 80))
    assert 12 < float((coarse.states["own"][-1] / fine.states["own"][-1]).median()) < 20


def test_gaps_between_gaussians_are_those_of_the_two_flows_at_the_same_time():
    """Closed forms on both sides, up to the error of 160 Heun steps in the network's: 1e-2."""
    other = Gaussian(DATA.mean + 0.3, BASIS, VALUES.flip(0))
    x_start, found = gaps(DATA, {"other": other}, 160)
    for place in (0, 40, 159, 160):
        t, T = float(found.times[place]), float(found.times[0])
        states = (DATA.flow(x_start, VE(), T, t) - other.flow(x_start, VE(), T, t)).square().mean(1)
        outputs = (DATA.flow_denoised(x_start, VE(), T, t) - other.flow_denoised(x_start, VE(), T, t)).square().mean(1)
        assert torch.allclose(found.states["other"][place], states, rtol=1e-2, atol=1e-8)
        assert torch.allclose(found.denoised["other"][place], outputs, rtol=1e-2, atol=1e-8)
    low, median, high = found.state_quartiles("other")[:, -1].tolist()
    last = found.states["other"][-1].sort().values
    assert last[0] < low < median < high < last[-1]
    assert abs(median - float((last[5] + last[6]) / 2)) < 1e-12


def test_a_mixture_against_itself_has_no_gap_and_against_its_gaussian_has():
    mixture = GaussianMixture.fit_kmeans(examples(), 3, generator=torch.Generator().manual_seed(4))
    _, found = gaps(mixture, {"own": mixture, "Gaussian": mixture.as_gaussian()}, 30)
    assert float(found.states["own"].max()) == float(found.denoised["own"].max()) == 0
    # far out both are Gaussian, near the data they are not
    assert float(found.denoised_quartiles("Gaussian")[1, 2]) < 0.01 * float(found.denoised_quartiles("Gaussian")[1, -1])
    assert float(found.denoised_quartiles("Gaussian")[1, -1]) > 1e-3


def test_trajectories_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match="sampler: expected a deterministic one, got DDPM"):
        gaps(DATA, {"own": DATA}, 4, sampler=DDPM())
    with pytest.raises(InputError, match="candidates: expected at least one"):
        gaps(DATA, {}, 4)
    to_zero = torch.cat([karras_times(VE(), 9.0, 0.1, 3), torch.zeros(1, dtype=torch.float64)])
    with pytest.raises(InputError, match="times: expected at least three, the last with sigma > 0"):
        trajectory_gaps(ExactDenoiser(DATA, VE()), {"own": DATA}, torch.ones(2, 6).double(), to_zero, Euler())

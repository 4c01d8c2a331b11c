"""Finite data: every claim holds for another seed, and a planted fault makes the claim about it fail."""

from dataclasses import dataclass

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.experiments import four_points
from diffuscope.experiments.finite_data import FINITE_DATA, digits, landing, loss
from diffuscope.experiments.four_points import FourPoints
from diffuscope.samplers import DDIM, DDPM, RungeKutta4, instant, posterior_variance, sample
from diffuscope.times import log_snr_times

HERE = "diffuscope.experiments.finite_data"
EXACT = Empirical(four_points.POINTS[:, None])
sde_law, ode_law, weights, trained = landing.sde_law, landing.ode_law, four_points.weights, digits.trained


def trained_once():
    """One training per seed for all tests: no fault is planted in it."""
    kept = {}

    def networks(data, seed):
        if seed not in kept:
            kept[seed] = trained(data, seed)
        return kept[seed]

    return networks


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer paths and a shorter training: the standard errors in the claims follow."""
    with (
        planted(f"{HERE}.landing.PATHS", 40_000),
        planted(f"{HERE}.landing.STARTS", 4_000),
        planted(f"{HERE}.landing.WATCHED", 4_000),
        planted(f"{HERE}.distance.PATHS", 4_000),
        planted(f"{HERE}.distance.STARTS", 400),
        planted(f"{HERE}.distance.STEPS", 80),
        planted(f"{HERE}.loss.DRAWS", 30_000),
        planted(f"{HERE}.overfitting.TRAINING", (1, 800)),
        planted(f"{HERE}.digits.TRAINING", (1, 800)),
        planted(f"{HERE}.overfitting.trained", trained_once()),
        planted(f"{HERE}.digits.SAMPLES", 40),
        planted(f"{HERE}.digits.STEPS", 30),
        planted(f"{HERE}.overfitting.SAMPLES", 40),
    ):
        yield


@pytest.mark.parametrize("part", [part.name for part in FINITE_DATA.parts])
def test_every_claim_holds(part):
    answer = answered(FINITE_DATA, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_the_four_points_are_the_empirical_law():
    """Denoiser, posterior variance and distribution function against `Empirical` and a derivative of the latter."""
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)
    for t in (0.01, 0.2, 0.7):
        at = instant(four_points.OU, t)
        assert torch.allclose(FourPoints()(x[:, None], t), EXACT.denoise(x[:, None], at.alpha, at.sigma), atol=1e-13)
        step = 1e-5
        slope = (four_points.distribution_function(x + step, at) - four_points.distribution_function(x - step, at)) / (
            2 * step
        )
        assert torch.allclose(slope, EXACT.log_prob(x[:, None], at.alpha, at.sigma).exp(), atol=1e-8)


def test_both_landing_laws_are_probabilities_and_even_from_the_right_start():
    """Started from rho_T, F_nu(b_i) = i/N and E[w_i] = 1/N."""
    assert float(sde_law().sum()) == pytest.approx(1.0, rel=1e-14)
    assert float(ode_law().sum()) == pytest.approx(1.0, rel=1e-14)
    T = instant(four_points.OU, four_points.HORIZON)
    y = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    rho = EXACT.log_prob(y[:, None], T.alpha, T.sigma).exp() * float(y[1] - y[0])
    assert torch.allclose(rho @ weights(y, T), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-13)


def test_the_blurred_denoiser_is_that_of_the_mixture():
    rows = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    even, variances = torch.full((7,), 1 / 7, dtype=torch.float64), torch.full((7,), 0.3**2, dtype=torch.float64)
    mixture = ExactDenoiser(GaussianMixture.isotropic(even, rows, variances), digits.VE_SCHEDULE)
    for sigma in (0.02, 0.5, 3.0):
        assert torch.allclose(digits.Blurred(Empirical(rows), 0.3)(x, sigma), mixture(x, sigma), atol=1e-12)


def test_an_unseen_digit_is_at_distance_one_in_the_median():
    data = digits.Digits.load()
    assert float(data.distances(data.unseen).median()) == 1.0
    assert float(data.distances(data.train).max()) == 0.0


@dataclass(frozen=True)
class Shifted:
    exact: ExactDenoiser
    off: float

    @property
    def schedule(self):
        return self.exact.schedule

    def __call__(self, x_t, t):
        return self.exact(x_t, t) + self.off


def test_the_error_of_a_denoiser_is_what_is_added_to_it():
    data = digits.Digits.load()
    exact = ExactDenoiser(Empirical(data.train), digits.VE_SCHEDULE)
    off = 0.3 * float(data.train.std())
    assert data.error(exact, torch.Generator().manual_seed(0)) == 0.0
    found = data.error(Shifted(exact, off), torch.Generator().manual_seed(0))
    assert found == pytest.approx(0.3, rel=1e-12)


def deterministic(*_):
    return DDIM()


def with_more_noise(*_):
    return DDPM(lambda x_t, t, s: 1.5 * posterior_variance(x_t, t, s))


def heated(x, at):
    """Posterior weights at half the temperature."""
    w = weights(x, at) ** 2
    return w / w.sum(1, keepdim=True)


class OffByABit(FourPoints):
    def __call__(self, x_t, t):
        return super().__call__(x_t, t) + 1e-15


class Undecided(FourPoints):
    """Half of the way from the state: distances then fall like the root of sigma."""

    def __call__(self, x_t, t):
        return (super().__call__(x_t, t) + x_t / float(self.schedule.alpha(float(t)))) / 2


class Toward(FourPoints):
    """A tenth of the way to the mean."""

    def __call__(self, x_t, t):
        return 0.9 * super().__call__(x_t, t) + 0.1 * loss.MEAN


def memorizer(data, _):
    """A network that has learned its training set by heart."""
    return [digits.Blurred(Empirical(data.train), delta) for delta in (3.0, 1e-3)]


def slightly_blurred(law, schedule):
    return digits.Blurred(law, 1e-3, schedule) if isinstance(law, Empirical) else ExactDenoiser(law, schedule)


class Flat(Empirical):
    """Densities that do not collapse: read at ten times the blur."""

    def log_prob(self, x_t, alpha, sigma):
        return super().log_prob(x_t, alpha, 10 * sigma)


FAULTS = [
    ("landing", f"{HERE}.landing.sde_law", ode_law, {"sde-digits", "sde-landing", "martingale"}),
    ("landing", f"{HERE}.landing.ode_law", sde_law, {"ode-digits", "ode-landing", "apart"}),
    ("landing", f"{HERE}.landing.MixtureTransition", deterministic, {"sde-landing", "apart", "martingale"}),
    ("distance", f"{HERE}.distance.MixtureTransition", with_more_noise, {"sde-distance"}),
    ("distance", f"{HERE}.distance.RungeKutta4", DDIM, {"ode-constant"}),
    ("distance", f"{HERE}.distance.FourPoints", OffByABit, {"after-denoising"}),
    ("distance", f"{HERE}.distance.FourPoints", Undecided, {"ode-slope", "ode-constant"}),
    ("loss", f"{HERE}.loss.weights", heated, {"floor-identity", "denoiser-slope"}),
    ("loss", f"{HERE}.loss.FourPoints", Toward, {"noise-loss", "excess-loss"}),
    ("overfitting", f"{HERE}.overfitting.ExactDenoiser", slightly_blurred, {"recites"}),
    ("overfitting", f"{HERE}.overfitting.trained", memorizer, {"network-new", "network-distance"}),
    ("unseen", f"{HERE}.unseen.Empirical", Flat, {"collapse", "gain"}),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claims"), FAULTS, ids=[f"{f[0]}-{min(f[3])}" for f in FAULTS])
def test_a_planted_fault_makes_its_claims_fail(part, target, mutant, claims):
    with planted(target, mutant):
        assert claims <= failures(FINITE_DATA, part)


def test_the_middle_of_a_basin_ends_on_its_point():
    """Where F = (i + 1/2)/4 the constant is zero: a path from there keeps no distance at all."""
    T = instant(four_points.OU, four_points.HORIZON)
    low, high = torch.full((4,), -10.0, dtype=torch.float64), torch.full((4,), 10.0, dtype=torch.float64)
    levels = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    for _ in range(60):
        middle = (low + high) / 2
        below = four_points.distribution_function(middle, T) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    times = log_snr_times(four_points.OU, four_points.HORIZON, 1e-4, 300)
    ended = sample(RungeKutta4(), FourPoints(), low[:, None], times)[:, 0]
    off, point = four_points.nearest(ended, instant(four_points.OU, 1e-4))
    assert point.tolist() == [0, 1, 2, 3]
    assert float(off.max()) < 1e-5 * float(four_points.OU.sigma(1e-4))

"""Finite data: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math
from dataclasses import dataclass

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Blurred, Empirical, nearest_neighbors
from diffuscope.experiments import finite_data, four_points
from diffuscope.experiments.finite_data import EXPERIMENT, digits, ode_probabilities, sde_probabilities
from diffuscope.experiments.four_points import FourPoints
from diffuscope.samplers import DDIM, instant

HERE = "diffuscope.experiments.finite_data"
EXACT = Empirical(four_points.POINTS[:, None])
weights, trained = four_points.weights, digits.trained
# five digits of an independent computation
SDE_DIGITS = (0.26078, 0.25877, 0.25371, 0.22674)
ODE_DIGITS = (0.25793, 0.27317, 0.26196, 0.20695)


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
        planted(f"{HERE}.PATHS", 40_000),
        planted(f"{HERE}.STARTS", 4_000),
        planted(f"{HERE}.ODE_STEPS", 400),
        planted(f"{HERE}.WATCHED", 4_000),
        planted(f"{HERE}.NEAR_PATHS", 4_000),
        planted(f"{HERE}.NEAR_STARTS", 400),
        planted(f"{HERE}.NEAR_STEPS", 8),
        planted(f"{HERE}.DRAWS", 30_000),
        planted(f"{HERE}.BLURS", (0.05,)),
        planted(f"{HERE}.WIDTHS", (0.02, 0.05, 0.1, 0.35)),
        planted(f"{HERE}.digits.LEVELS", (0.3,)),
        planted(f"{HERE}.digits.TRAINING", (1, 100)),
        planted(f"{HERE}.digits.SAMPLES", 10),
        planted(f"{HERE}.digits.STEPS", 15),
        planted(f"{HERE}.digits.trained", trained_once()),
    ):
        yield


@pytest.mark.parametrize("part", [part.name for part in EXPERIMENT.parts])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_the_four_points_are_their_empirical_distribution():
    """Denoiser, posterior variance and distribution function against `Empirical` and a derivative of the latter."""
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)
    for t in (0.01, 0.2, 0.7):
        at = instant(four_points.OU, t)
        assert torch.allclose(FourPoints()(x[:, None], t), EXACT.denoise(x[:, None], at.alpha, at.sigma), atol=1e-13)
        step = 1e-5
        above, below = (four_points.distribution_function(x + h, at) for h in (step, -step))
        assert torch.allclose(
            (above - below) / (2 * step), EXACT.log_prob(x[:, None], at.alpha, at.sigma).exp(), atol=1e-8
        )


def test_the_landing_probabilities_are_the_digits_of_an_independent_computation():
    """To one in the fifth digit; probabilities."""
    for found, printed in ((sde_probabilities(), SDE_DIGITS), (ode_probabilities(), ODE_DIGITS)):
        assert float(found.sum()) == pytest.approx(1.0, rel=1e-14)
        assert torch.allclose(found, torch.tensor(printed, dtype=torch.float64), rtol=0, atol=1e-5)


def test_from_the_right_start_every_point_has_its_share():
    """Started from rho_T, E[w_i] = 1/N."""
    T = instant(four_points.OU, four_points.HORIZON)
    y = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    rho = EXACT.log_prob(y[:, None], T.alpha, T.sigma).exp() * float(y[1] - y[0])
    assert torch.allclose(rho @ weights(y, T), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-13)


def test_with_the_score_of_blurred_digits_samples_are_off_by_the_blur():
    """Per pixel delta / (1 + sigma^2 / delta^2)^(1/2), as the last denoising takes the rest; 4 standard errors."""
    data, delta = digits.Digits.load(), 0.05
    denoiser = ExactDenoiser(Blurred(Empirical(data.train), delta), digits.SCHEDULE)
    made = digits.generated(denoiser, torch.Generator().manual_seed(1))
    off = nearest_neighbors(made, data.train, 1)[0].square().mean().sqrt() / math.sqrt(digits.PIXELS)
    expected = 1 / math.sqrt(1 + (digits.SCHEDULE.t_min / delta) ** 2)
    assert float(off) / delta == pytest.approx(expected, abs=4 / math.sqrt(2 * digits.PIXELS * len(made)))


def test_a_held_out_digit_is_at_distance_one_in_the_median():
    data = digits.Digits.load()
    assert float(data.distances(data.heldout).median()) == 1.0
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
    exact = ExactDenoiser(Empirical(data.train), digits.SCHEDULE)
    off = 0.3 * float(data.train.std())
    assert data.error(exact, torch.Generator().manual_seed(0)) == 0.0
    assert data.error(Shifted(exact, off), torch.Generator().manual_seed(0)) == pytest.approx(0.3, rel=1e-12)


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
        return 0.9 * super().__call__(x_t, t) + 0.1 * finite_data.MEAN


def memorizer(data, seed):
    """A network that has learned its training set by heart."""
    del seed
    blurs = {1: 3.0, 100: 1e-3}
    return {step: ExactDenoiser(Blurred(Empirical(data.train), blur), digits.SCHEDULE) for step, blur in blurs.items()}


def slightly_blurred(distribution, schedule):
    blurred = Blurred(distribution, 1e-3) if isinstance(distribution, Empirical) else distribution
    return ExactDenoiser(blurred, schedule)


class Flat(Empirical):
    """Densities that do not collapse: read at ten times the blur."""

    def log_prob(self, x_t, alpha, sigma):
        return super().log_prob(x_t, alpha, 10 * sigma)


FAULTS = [
    ("landing", f"{HERE}.sde_probabilities", ode_probabilities, "sde-landing"),
    ("landing", f"{HERE}.ode_probabilities", sde_probabilities, "ode-landing"),
    ("landing", f"{HERE}.ORACLE", DDIM(), "sde-landing"),
    ("distance", f"{HERE}.FourPoints", OffByABit, "after-denoising"),
    ("distance", f"{HERE}.FourPoints", Undecided, "ode-slope"),
    ("loss", f"{HERE}.weights", heated, "noise-loss"),
    ("loss", f"{HERE}.FourPoints", Toward, "noise-loss"),
    ("overfitting", f"{HERE}.ExactDenoiser", slightly_blurred, "recites"),
    ("overfitting", f"{HERE}.digits.trained", memorizer, "network-new"),
    ("unseen", f"{HERE}.Empirical", Flat, "best-blur"),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claim"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_a_planted_fault_makes_its_claim_fail(part, target, mutant, claim):
    with planted(target, mutant), planted(f"{HERE}.show_weights", lambda part: None):  # noqa: ARG005
        assert claim in failures(EXPERIMENT, part)

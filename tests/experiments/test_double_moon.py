"""The double moon: its measures against closed forms, its claims, and faults that make the right ones fail.

The trainings of the default run are too short for the bar; the full ones are slow.
"""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser, score_to_denoised
from diffuscope.exact import Empirical, Gaussian
from diffuscope.experiments import double_moon, find
from diffuscope.experiments.double_moon import EXPERIMENT, bumps, setting
from diffuscope.experiments.double_moon.measures import (
    Plane,
    agreement,
    by_density,
    error_of_n_draws,
    relative_error,
)
from diffuscope.training import LogUniformNoise, NoiseWeight

HERE = "diffuscope.experiments.double_moon"
LEVEL = 0.3
FULL = {name: getattr(double_moon, name) for name in ("plane", "DRAWS", "REPEATS")}  # before they are made smaller


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Small grids and few levels; the bars stay. One thread suits a small network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        planted(f"{HERE}.plane", coarse),
        planted(f"{HERE}.SHOWN", [0.3, 0.5]),
        planted(f"{HERE}.SIZES", (500,)),
        planted(f"{HERE}.DRAWS", 50_000),
        planted(f"{HERE}.REPEATS", 1),
    ):
        yield
    torch.set_num_threads(threads)


def coarse(sigma, points=None):
    del points
    return setting.plane(sigma, 30)


def turned(score, angle):
    c, s = math.cos(angle), math.sin(angle)
    return score @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def test_it_is_found_by_its_name():
    assert find("double-moon") is EXPERIMENT


# the measures


@pytest.mark.parametrize("excess", [0.05, -0.2, 3.0])
def test_a_score_off_by_a_factor_has_that_centered_error_and_the_cosine_one(excess):
    plane = coarse(LEVEL)
    seen = agreement(plane, (1 + excess) * plane.score)
    assert seen.error == pytest.approx(abs(excess), rel=1e-9)
    assert seen.cosine == pytest.approx(1, abs=1e-12)
    assert seen.weighted_cosine == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("angle", [0.1, 1.0, math.pi])
def test_a_turned_score_has_the_cosine_of_its_angle(angle):
    plane = coarse(LEVEL)
    seen = agreement(plane, turned(plane.score, angle))
    assert seen.error == pytest.approx(2 * math.sin(angle / 2), rel=1e-9)
    assert seen.cosine == pytest.approx(math.cos(angle), abs=1e-12)
    assert seen.weighted_cosine == pytest.approx(math.cos(angle), abs=1e-12)


def test_the_exact_score_has_no_mean_and_the_fisher_information_of_its_distribution():
    """E s = 0, and E|s|^2 = E tr(-grad s) = d/s^2 - E tr C / s^4: two ways to the denominator, by one quadrature."""
    plane = coarse(0.5)
    assert float((plane.w @ plane.score).abs().max()) < 1e-8
    information = float(plane.w @ plane.score.square().sum(1))
    spread = setting.MOONS.posterior_covariance(plane.points, 1.0, 0.5).trace()
    assert information == pytest.approx(2 / 0.25 - float(plane.w @ spread) / 0.5**4, rel=1e-6)


def test_a_constant_added_to_both_fields_changes_no_error():
    """The mean of the exact field is taken off: what the quadrature leaves of it is not measured against."""
    share = torch.tensor([0.25, 0.75], dtype=torch.float64)
    exact = torch.tensor([[3.0], [-1.0]], dtype=torch.float64)  # mean 0, mean square 3
    for shift in (0.0, 100.0):
        assert relative_error(exact + shift + 0.3, exact + shift, share) == pytest.approx(0.3 / 3**0.5)


def test_quadrature_on_the_grid_agrees_with_draws_from_the_noised_distribution(generator):
    p, n = setting.MOONS, 4000
    x = p.sample(n, generator=generator) + LEVEL * torch.randn(n, 2, dtype=torch.float64, generator=generator)
    wrong = x.new_tensor([[0.2, -0.1]]) * x
    plane = coarse(LEVEL)
    squares = (wrong.square().sum(1), p.score(x, 1.0, LEVEL).square().sum(1))
    by_draws = (squares[0].mean() / squares[1].mean()).sqrt()
    field = plane.score + plane.points * plane.points.new_tensor([[0.2, -0.1]])
    # 4 standard errors of the ratio, to first order
    spread = (squares[0] / squares[0].mean() - squares[1] / squares[1].mean()).std() / 2 / n**0.5
    assert agreement(plane, field).error == pytest.approx(float(by_draws), rel=4 * float(spread))


def test_directions_count_where_the_density_is_visible_only():
    plane = coarse(LEVEL)
    hidden = torch.where(plane.visible[:, None], plane.score, -plane.score)
    assert agreement(plane, hidden).cosine == pytest.approx(1, abs=1e-12)
    half = torch.where(plane.density[:, None] > 0.2, -plane.score, plane.score)
    seen = agreement(plane, half)
    flipped = float((plane.density > 0.2).double().sum() / plane.visible.double().sum())
    assert seen.cosine == pytest.approx(1 - 2 * flipped, abs=1e-12)
    assert seen.weighted_cosine < seen.cosine  # the same fault weighs more where the mass is


def test_regions_part_the_plane_by_density():
    plane = coarse(LEVEL)
    edges = torch.tensor([1e-4, 1e-2, 1.0], dtype=torch.float64)
    shifted = plane.score + torch.where(plane.density > 1e-2, 3.0, 4.0)[:, None] * torch.tensor([[0.6, 0.8]])
    assert by_density(plane, shifted, LEVEL, edges).tolist() == pytest.approx([4 * LEVEL, 3 * LEVEL])
    assert by_density(plane, plane.score + 0.1, LEVEL, edges).diff().item() == pytest.approx(0, abs=1e-12)


# the floor


def squared_errors(p, plane, sigma, n, repeats, generator):
    """Of the exact score of n draws, set by set."""
    sets = (p.sample(n, generator=generator) for _ in range(repeats))
    return torch.tensor([double_moon.of_draws(data, plane, sigma).error ** 2 for data in sets], dtype=torch.float64)


def test_the_error_of_the_exact_score_of_n_draws_is_two_over_root_n_for_a_normal_distribution(generator):
    """N(0, I) in the plane at sigma = 1: the integral is 16 pi and E|s|^2 is 1, so that e^2 = 4/n; and draws say so."""
    p, sigma, n, repeats = Gaussian(torch.zeros(2), torch.eye(2).double(), torch.ones(2).double()), 1.0, 1000, 40
    wide = Plane.of(p, sigma, 2.5, 60)  # the integrand decays as exp(-r^2 / 12)
    assert error_of_n_draws(p, wide, sigma, n) == pytest.approx(2 / n**0.5, rel=1e-6)
    found = squared_errors(p, Plane.of(p, sigma, 0.05, 24), sigma, n, repeats, generator)
    second_order = 0.1 * 4 / n
    assert float(found.mean()) == pytest.approx(4 / n, abs=4 * float(found.std()) / repeats**0.5 + second_order)


class Wider(Empirical):
    """A kernel of another width."""

    def score(self, x_t, alpha, sigma):
        return super().score(x_t, alpha, 1.2 * sigma)


def test_the_error_of_5000_draws_of_the_moons_is_that_of_first_order_and_below_the_bar(generator):
    """4 standard errors over 12 sets; 5% for higher orders, measured at less than 4% over 800 sets."""
    plane, n = setting.plane(LEVEL, 24), 5000
    predicted = error_of_n_draws(setting.MOONS, plane, LEVEL, n) ** 2

    def is_first_order():
        found = squared_errors(setting.MOONS, plane, LEVEL, n, 12, generator)
        return abs(float(found.mean()) / predicted - 1) <= 4 * float(found.std()) / 12**0.5 / predicted + 0.05

    assert predicted**0.5 < double_moon.LARGEST_ERROR
    assert is_first_order()
    with planted(f"{HERE}.Empirical", Wider):
        assert not is_first_order()


def test_a_training_too_short_fails_its_own_claim_and_a_kernel_too_wide_that_of_the_floor():
    with planted(f"{HERE}.STEPS", 20), planted(f"{HERE}.setting.BATCH", 256):
        assert failures(EXPERIMENT, "few-draws") == {"few-error"}
    with planted(f"{HERE}.STEPS", 2), planted(f"{HERE}.Empirical", Wider):
        assert "floor-error" in failures(EXPERIMENT, "few-draws")


# what is learned


class Field:
    """A denoiser whose score is any function of the exact one."""

    schedule = setting.SCHEDULE

    def __init__(self, changed, sigma=None):
        self.changed, self.sigma = changed, sigma

    def __call__(self, x_t, t):
        score = self.changed(setting.MOONS.score(x_t.double(), 1.0, self.sigma or t))
        return score_to_denoised(x_t.double(), score, self.schedule, t)


def of(field):
    """A training that ends in `field`."""
    return planted(f"{HERE}.trained", lambda *_, **__: field)


def test_a_short_training_improves_on_none_and_misses_the_bar(generator):
    data = setting.drawn(20_000, generator)
    errors = []
    for steps in (1, 100):
        with planted(f"{HERE}.setting.BATCH", 256):
            model = setting.trained(data, generator, steps=steps, noise=LogUniformNoise(0.1, 2.0))
        plane = coarse(LEVEL)
        errors.append(agreement(plane, setting.score_of(model, plane.points, LEVEL)).error)
    assert errors[1] < errors[0] / 2
    assert errors[1] > double_moon.LARGEST_ERROR


def test_a_network_is_what_its_seed_makes_it_and_draws_nothing_from_the_global_generator():
    def one():
        generator = torch.Generator().manual_seed(3)
        data = setting.drawn(100, generator)
        return setting.trained(data, generator, steps=2, noise=LogUniformNoise(0.1, 2.0))

    state = torch.random.get_rng_state()
    with planted(f"{HERE}.setting.BATCH", 16):
        first, second = one().state_dict(), one().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_exact_score_reaches_the_bar_wherever_it_is_measured():
    with of(ExactDenoiser(setting.MOONS, setting.SCHEDULE)):
        claims = {claim.name: claim for claim in answered(EXPERIMENT, "learned").claims}
    assert claims["error"].value < 1e-4  # float32 in and out
    assert claims["cosine"].value > 0.9999


@pytest.mark.parametrize(
    ("field", "failing"),
    [
        (Field(lambda score: 1.06 * score), {"error"}),
        (Field(lambda score: turned(score, math.radians(9))), {"error", "cosine"}),
        (Field(lambda score: score, sigma=0.05), {"error", "cosine"}),
        (Field(lambda score: score + 0.5), {"error", "cosine"}),
    ],
    ids=["6% too long", "turned by 9 degrees", "of a distribution with less noise", "shifted"],
)
def test_a_wrong_field_misses_the_bar_at_every_level(field, failing):
    """But at noise 1 the directions are those of less noise."""
    for level in double_moon.LEVELS:
        plane = coarse(level)
        seen = agreement(plane, setting.score_of(field, plane.points, level))
        missed = {"error"} if seen.error > double_moon.LARGEST_ERROR else set()
        missed |= {"cosine"} if seen.cosine < double_moon.LEAST_COSINE else set()
        assert missed == failing or (level == 1 and field.sigma and missed == {"error"})


def test_a_turned_field_fails_its_claims():
    with of(Field(lambda score: turned(score, math.radians(9)))):
        assert failures(EXPERIMENT, "learned") == {"error", "cosine"}


# what goes wrong


def test_the_claims_about_the_clean_reference_hold():
    answer = answered(EXPERIMENT, "clean-distribution")
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_slopes_and_gap_are_those_of_the_closed_form():
    """s' = -1/v + (m/v)^2 / cosh^2(m x / v) at x = m, and far from the other mode the gap tends to 1 - 0.25/0.41."""
    x = torch.linspace(-4.8, 4.8, 1921, dtype=torch.float64)[:, None]
    for sigma, variance in ((bumps.SIGMA, 0.41), (double_moon.NO_NOISE, 0.25)):
        m = bumps.MODE
        exact = -1 / variance + (m / variance) ** 2 / math.cosh(m * m / variance) ** 2
        measured = bumps.slope(bumps.exact_score(x, sigma), x, m)
        assert measured == pytest.approx(exact, abs=1e-4)  # the difference's second order in a spacing of 0.005
    value = {claim.name: claim.value for claim in answered(EXPERIMENT, "clean-distribution").claims}["perfect-gap"]
    assert value == pytest.approx(1 - 0.25 / 0.41, abs=0.011)  # the valley adds a little


def test_a_comparison_with_the_noised_distribution_shows_no_gap():
    """The corrected figure: then the claims about the wrong one fail."""
    sound = bumps.exact_score
    with planted(f"{HERE}.exact_score", lambda x, sigma=0.4: sound(x, max(sigma, 0.4))):
        assert failures(EXPERIMENT, "clean-distribution") == {"perfect-gap", "slope-clean"}


def test_the_learner_has_the_error_that_bumps_and_ridge_leave_of_endless_draws(generator):
    """The minimizer of E|s - s*|^2 plus the ridge, by quadrature; 8,000 draws change its error by less than 1%.

    Compared with the clean score the same learner shows the gap of perfect learning, less what bumps and draws change.
    A learner of the wrong target, eps / sigma^2 in place of eps / sigma, is caught.
    """
    x = torch.linspace(-4.8, 4.8, 1921, dtype=torch.float64)[:, None]
    phi, noised, density = bumps.features(x), bumps.exact_score(x), bumps.MIXTURE.log_prob(x, 1.0, bumps.SIGMA).exp()
    w = (density / density.sum())[:, None]
    ridge = bumps.RIDGE * torch.eye(bumps.BUMPS, dtype=torch.float64)
    best = phi @ torch.linalg.solve(phi.T @ (w * phi) + ridge, phi.T @ (w * noised))
    learned = phi @ bumps.fitted(generator)
    required = relative_error(best, noised, w[:, 0])
    assert relative_error(learned, noised, w[:, 0]) == pytest.approx(required, abs=0.01)
    assert relative_error(learned / bumps.SIGMA, noised, w[:, 0]) > required + 0.01
    clean = bumps.exact_score(x, 1e-9)
    bare = bumps.MIXTURE.log_prob(x, 1.0, 1e-9).exp()
    assert relative_error(learned, clean, bare / bare.sum()) >= 0.35


def test_for_the_moons_the_gap_of_perfect_learning_is_nearly_everything():
    """Across an arc the slope falls from 1/0.05^2 to about 1/(0.05^2 + 0.3^2): a gap of 97% were they lines."""
    bare = coarse(double_moon.NO_NOISE)
    assert relative_error(setting.MOONS.score(bare.points, 1.0, LEVEL), bare.score, bare.w) >= 0.9


def test_the_weight_is_worth_its_claim_and_without_it_nothing_is_claimed():
    with planted(f"{HERE}.SHORT", 120), planted(f"{HERE}.setting.BATCH", 256):
        assert failures(EXPERIMENT, "weights") == set()
    with (
        planted(f"{HERE}.SHORT", 5),
        planted(f"{HERE}.setting.BATCH", 64),
        planted(f"{HERE}.WEIGHTS", {"weight σ²": NoiseWeight(), "no weight": NoiseWeight()}),
    ):
        assert failures(EXPERIMENT, "weights") == {"cost"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("part", ["learned", "few-draws", "weights"])
def test_every_claim_holds_after_the_full_training(part, seed, monkeypatch):
    for name, value in FULL.items():
        monkeypatch.setattr(double_moon, name, value)
    answer = answered(EXPERIMENT, part, seed)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}

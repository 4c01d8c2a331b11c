"""Geometry of generation: closed forms against the flow, finite differences, and what is known by symmetry."""

import math

import pytest
import torch
from conftest import monte_carlo

from diffuscope.denoisers import ExactDenoiser, Guided, OfClass
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import DDIM, DormandPrince, Heun, RungeKutta4, finish
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow
from diffuscope.theory.geometry import (
    Trajectories,
    along,
    components_for,
    crossing_levels,
    denoised_gain,
    displacements,
    distances,
    emerged_share,
    emergence_level,
    fastest_level,
    feature_coordinates,
    follow,
    gaussian_trajectories,
    gaussian_variation,
    in_plane,
    measured_share,
    noise_relative_gain,
    outside,
    principal_directions,
    principal_shares,
    random_directions,
    rotated,
    rotation_error,
    rotation_residual,
    sample_gain,
    state_gain,
    variations,
)
from diffuscope.theory.geometry.pushes import require_like
from diffuscope.times import log_snr_times

SCHEDULES = [VE(1e-3, 50.0), VP(), RectifiedFlow(), DiscreteVP.linear()]
VARIANCES = torch.tensor([9.0, 2.0, 0.5, 0.04], dtype=torch.float64)
TIGHT = DormandPrince(rtol=1e-9, atol=1e-10)  # of differences of a linear flow: these too


def names(schedule):
    return type(schedule).__name__


def gaussian(*, mean=0.0, tail=0.0, dimension=6):
    turn = torch.linalg.qr(torch.randn(dimension, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return Gaussian(torch.full((dimension,), mean, dtype=torch.float64), turn[0], VARIANCES, tail)


def times_of(schedule, steps, start=None, end=None):
    return log_snr_times(schedule, start or 0.95 * schedule.t_max, end or schedule.t_min, steps)


def starts(schedule, t, n=5, dimension=6, seed=0):
    drawn = torch.randn(n, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return float(schedule.sigma(t)) * drawn


# trajectories


@pytest.mark.parametrize(
    ("schedule", "sampler", "order"),
    [(DiscreteVP.linear(), DDIM(), 1), (VE(1e-2, 50.0), Heun(), 2), (RectifiedFlow(), Heun(), 2)],
    ids=["DDPM", "VE", "flow"],
)
def test_the_trajectories_of_a_sampler_approach_the_closed_form_at_its_order(schedule, sampler, order):
    """Three times as many steps: an error 3^order smaller, within a third."""
    data, errors = gaussian(mean=0.3, tail=0.1), []
    for steps in (40, 120):
        times = times_of(schedule, steps)
        x = starts(schedule, times[0])
        exact, run = (
            gaussian_trajectories(data, schedule, x, times),
            follow(ExactDenoiser(data, schedule), sampler, x, times),
        )
        errors.append(float((run.samples - exact.samples).norm()))
        assert torch.equal(run.samples, run.path[-1])
    assert errors[0] / errors[1] == pytest.approx(3**order, rel=1 / 3)


def test_noise_and_estimate_make_the_state():
    times = times_of(VP(), 10)
    run = follow(ExactDenoiser(gaussian(), VP()), DDIM(), starts(VP(), times[0]), times)
    made = run.alphas[:, None, None] * run.denoised + run.sigmas[:, None, None] * run.noise
    assert torch.allclose(made, run.states, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_normalized_states_do_not_depend_on_schedule_and_units(scale):
    """Gaussian data times `scale` in a VE schedule, and unscaled in a VP schedule at the same levels."""
    one, other = gaussian(), gaussian().rescale(scale, 0.0)
    vp, ve = VP(), VE(1e-4, 1e4)
    times = times_of(vp, 20)
    x = starts(vp, times[0])
    in_ve = ve.time_of_noise_to_signal(scale * vp.noise_to_signal(times))
    first = gaussian_trajectories(one, vp, x, times).normalized(0.7)
    second = gaussian_trajectories(other, ve, scale * x / vp.alpha(times[0]), in_ve).normalized(0.7 * scale)
    assert torch.allclose(first, second, rtol=0, atol=1e-10)


def test_trajectories_need_three_levels_with_noise():
    with pytest.raises(InputError, match=r"times: expected at least three, the last with sigma > 0, got 2 times"):
        follow(ExactDenoiser(gaussian(), VP()), DDIM(), torch.zeros(1, 6), torch.tensor([0.9, 0.1]))
    with pytest.raises(InputError, match="the last with sigma = 0"):
        gaussian_trajectories(gaussian(), VP(), torch.zeros(1, 6), torch.tensor([0.9, 0.1, 0.0]))


# dimension


def test_shares_are_those_of_the_covariance_of_the_points():
    """Against the singular values of the centered points; a chunk of every size."""
    points = torch.randn(7, 3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shares = principal_shares(points)
    for b in range(3):
        rows = points[:, b].flatten(1)
        squares = torch.linalg.svdvals(rows - rows.mean(0)) ** 2
        assert torch.allclose(shares[b], squares / squares.sum(), rtol=0, atol=1e-14)


def test_a_line_has_one_component_an_arc_two_and_a_standstill_none():
    t = torch.linspace(0, math.pi / 2, 30, dtype=torch.float64)[:, None]
    frame = torch.linalg.qr(torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    line, arc = t * frame[:, 0], t.cos() * frame[:, 0] + t.sin() * frame[:, 1]
    shares = principal_shares(torch.stack([line, arc], 1))
    assert components_for(shares).tolist() == [1, 2]
    assert torch.allclose(shares[:, :2].sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-14)
    assert bool(principal_shares(torch.ones(4, 1, 3)).isnan().all())


def test_a_single_point_of_data_gives_plane_trajectories():
    """Data of one point mu: x_t = alpha mu + sigma epsilon is an arc in the plane of both."""
    schedule, data = VP(), Gaussian.isotropic(torch.ones(6, dtype=torch.float64), 0.0)
    times = times_of(schedule, 30)
    run = gaussian_trajectories(data, schedule, starts(schedule, times[0]), times)
    assert float(outside(run).max()) < 1e-14
    shares = principal_shares(run.normalized(1.0))
    assert torch.allclose(shares[:, :2].sum(1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-14)


# the plane


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_the_residual_of_the_rotation_is_its_closed_form(schedule):
    """Along every eigenvector, for centered Gaussian data, and its square is the error."""
    data, times = gaussian(), times_of(schedule, 12, end=schedule.t_min)
    x = starts(schedule, times[0])
    run = gaussian_trajectories(data, schedule, x, times)
    ends = Trajectories(
        run.times, run.alphas, run.sigmas, run.states,
        torch.cat([run.denoised[:-1], data.flow(x, schedule, times[0], 0.0)[None]]),
    )  # fmt: skip
    coordinates = (ends.path - rotated(ends)) @ data.eigenvectors
    closed = rotation_residual(VARIANCES, ends.path_alphas, ends.path_sigmas)[:, None] * (x @ data.eigenvectors)
    assert torch.allclose(coordinates, closed, rtol=0, atol=1e-10)
    rest = (ends.path - rotated(ends)).square().sum(2) / ends.path.square().sum(2)
    assert torch.allclose(rotation_error(ends), rest, rtol=0, atol=1e-14)


def test_from_a_start_without_signal_the_residual_is_bounded_by_the_smaller_of_signal_and_noise():
    alphas = torch.linspace(0, 1, 50, dtype=torch.float64)
    sigmas = 1 - alphas
    residual = rotation_residual(VARIANCES, alphas, sigmas)
    smaller = torch.minimum(alphas[:, None] * VARIANCES.sqrt(), sigmas[:, None])
    assert bool((residual <= 1e-15).all())
    assert bool((residual >= -smaller - 1e-15).all())
    assert torch.allclose(residual[[0, -1]], torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-15)
    share = -residual / (alphas[:, None] ** 2 * VARIANCES + sigmas[:, None] ** 2).sqrt()
    equal = 1 / (1 + VARIANCES.sqrt())  # alpha sqrt(lambda) = 1 - alpha
    there = rotation_residual(
        VARIANCES, torch.cat([equal.new_zeros(1), equal]), torch.cat([equal.new_ones(1), 1 - equal])
    )
    largest = -there[1:].diagonal() / ((1 - equal) * math.sqrt(2))
    assert torch.allclose(largest, torch.full((4,), math.sqrt(2) - 1, dtype=torch.float64), rtol=0, atol=1e-14)
    assert bool((share <= math.sqrt(2) - 1 + 1e-14).all())


def test_the_rotation_with_alpha_squared_in_the_place_of_alpha_has_another_error():
    """The check that was published: smaller where the component is smaller than the noise, and wrong."""
    schedule, data = DiscreteVP.linear(), gaussian()
    times = times_of(schedule, 40)
    run = gaussian_trajectories(data, schedule, starts(schedule, times[0]), times)
    wrong = Trajectories(run.times, run.alphas**2, run.sigmas, run.states, run.denoised)
    assert float((rotation_error(run) - rotation_error(wrong)).abs().mean()) > 0.01


def test_the_combination_of_both_ends_holds_what_is_not_outside():
    """a x_0 + b x_T / sigma_T leaves the share `outside`; at the ends it is (1, 0) and (0, sigma_T)."""
    schedule, data = VP(), gaussian()
    times = times_of(schedule, 20)
    run = gaussian_trajectories(data, schedule, starts(schedule, times[0]), times)
    a, b = in_plane(run)[..., None].unbind(2)
    nearest = a * run.samples + b * run.states[0] / run.sigmas[0]
    left = (run.path - nearest).square().sum(2) / run.path.square().sum(2)
    assert torch.allclose(left, outside(run), rtol=0, atol=1e-13)
    assert torch.allclose(a[-1], torch.ones(5, 1, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(b[0], run.sigmas[0].expand(5, 1), rtol=0, atol=1e-12)
    assert max(float(each.abs().max()) for each in (a[0], b[-1], outside(run)[[0, -1]])) < 1e-12
    assert float(outside(run).max()) > 1e-4


# emergence


def test_the_level_of_fastest_emergence_is_the_maximum_of_the_derivative():
    """df/dlog(sigma) by autograd on a grid of step 1e-4 in log sigma."""
    for variance in (0.01, 1.0, 50.0):
        log_ratio = torch.arange(-6, 6, 1e-4, dtype=torch.float64, requires_grad=True)
        share = emerged_share(torch.tensor([variance], dtype=torch.float64), log_ratio.exp())
        (slope,) = torch.autograd.grad(share.sum(), log_ratio)
        found = log_ratio.detach()[slope.argmin()].exp()
        expected = fastest_level(torch.tensor([variance], dtype=torch.float64))
        assert float((found / expected).log().abs()) <= 1e-4
        half = emergence_level(torch.tensor([variance], dtype=torch.float64))
        assert emerged_share(torch.tensor([variance]), half).item() == pytest.approx(math.sqrt(0.5), abs=1e-7)
        assert emerged_share(torch.tensor([variance]), math.sqrt(3) * half).item() == pytest.approx(0.5, abs=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_components_of_a_gaussian_model_emerge_as_the_closed_form_says(schedule):
    data, times = gaussian(mean=0.2), times_of(schedule, 60)
    run = gaussian_trajectories(data, schedule, starts(schedule, times[0]), times)
    measured = measured_share(feature_coordinates(run, data, 4))
    assert torch.allclose(
        measured, emerged_share(VARIANCES, run.ratios, last=float(run.ratios[-1])), rtol=0, atol=1e-10
    )
    inside = VARIANCES.sqrt() < float(run.ratios[0])
    last = float(run.ratios[-1])
    relative = crossing_levels(run.ratios, emerged_share(VARIANCES, run.ratios, last=last))
    assert torch.allclose(relative[inside], emergence_level(VARIANCES, last=last)[inside], rtol=1e-2, atol=0)
    for every in (1, 7):  # on coarse levels too
        crossing = crossing_levels(run.ratios[::every], emerged_share(VARIANCES, run.ratios[::every]))
        assert torch.allclose(crossing[inside], emergence_level(VARIANCES)[inside], rtol=1e-12, atol=0)


def test_guided_and_conditional_models_are_plain_denoisers():
    """Classes of one covariance: guided trajectories are those of a Gaussian with the extrapolated mean."""
    schedule, free = VP(), gaussian()
    means = torch.stack([free.mean, free.mean + 1.0])

    class OfTwo:
        classes = 2
        schedule = VP()

        def __call__(self, x_t, t, y=None):
            mean = means.mean(0) if y is None else means[y].reshape(-1, 6)
            alpha = schedule.alpha(t)
            return mean + free.denoise(x_t - alpha * mean, alpha, schedule.sigma(t))

    model, w = OfTwo(), 3.0
    guided = Guided(OfClass(model, 1), model, w)
    times = times_of(schedule, 100)
    x = starts(schedule, times[0])
    run = follow(guided, Heun(), x, times)
    shifted = Gaussian(means.mean(0) + w * (means[1] - means.mean(0)), free.eigenvectors, VARIANCES)
    exact = gaussian_trajectories(shifted, schedule, x, times)
    assert float((run.samples - exact.samples).abs().max()) < 1e-2  # Heun, 100 steps
    shares = measured_share(feature_coordinates(run, shifted, 4))
    assert torch.allclose(shares, emerged_share(VARIANCES, run.ratios, last=float(run.ratios[-1])), rtol=0, atol=1e-2)


def test_no_data_emerge_later_than_gaussian_data_of_their_covariance():
    """A mixture at nine levels: E c^2 / lambda >= f^2 within 4 standard errors, and more at some."""
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.6]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    mixture = GaussianMixture.isotropic(weights, means, torch.tensor([0.02, 0.1, 0.05], dtype=torch.float64))
    linear, ratios = mixture.as_gaussian(), torch.logspace(1, -1, 9, dtype=torch.float64)
    strict = 0
    for ratio in ratios.tolist():
        x = mixture.sample(4000, generator=generator)
        x = x + ratio * torch.randn(x.shape, dtype=torch.float64, generator=generator)
        squares = ((mixture.denoise(x, 1.0, ratio) - linear.mean) @ linear.eigenvectors).square() / linear.eigenvalues
        bound = emerged_share(linear.eigenvalues, torch.tensor([ratio], dtype=torch.float64))[0] ** 2
        for k in range(2):
            estimate = monte_carlo(squares[:, k])
            assert estimate.mean >= float(bound[k]) - 4 * estimate.standard_error
            strict += estimate.mean > float(bound[k]) + 4 * estimate.standard_error
    assert strict >= 4  # and the bound is not attained by a mixture


def test_a_crossing_is_the_last_from_below():
    """Once; twice, of which the last counts; never below; ends below."""
    ratios = torch.tensor([100.0, 10.0, 1.0, 0.1])
    shares = torch.tensor([[0.9, 0.1, 0.8, 0.0], [0.2, 0.5, 0.9, 0.1], [0.6, 0.9, 0.9, 0.2], [1.0, 1.0, 1.0, 0.3]])
    found = crossing_levels(ratios, shares, 0.7)
    assert 0.1 < float(found[0]) < 1
    assert 1 < float(found[1]) < 10
    assert found[2:].isnan().all()


def test_bad_components_variances_and_shares_are_refused_in_one_line():
    times = times_of(VP(), 5)
    run = gaussian_trajectories(gaussian(), VP(), starts(VP(), times[0]), times)
    for call, message in (
        (lambda: feature_coordinates(run, gaussian(), 5), r"components: expected 1 \.\. 4, got 5"),
        (lambda: emerged_share(torch.tensor([0.0]), torch.tensor([1.0])), "variances: expected values > 0"),
        (lambda: components_for(torch.ones(1, 3), 1.0), "share: expected a number between 0 and 1, got 1"),
        (lambda: principal_shares(torch.ones(2, 1, 3)), "points: expected at least three along each trajectory, got 2"),
        (lambda: run.normalized(0), "scale: expected the standard deviation of the data, > 0, got 0"),
        (lambda: principal_directions(torch.ones(4, 6), 4), r"count: expected 1 \.\. 3 directions of 4 points, got 4"),
        (lambda: vary(run, 5, 0), r"step: expected 0 \.\. 4 of the 5 steps of the trajectory, got 5"),
        (lambda: vary(run, 0, 5), r"which: expected 0 \.\. 4 of 5 trajectories, got 5"),
        (lambda: pushed(0.0), "size: expected the size of a push, > 0, got 0.0"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_directions_of_another_shape_do_not_broadcast():
    require_like(torch.ones(2, 6), torch.ones(3, 6))
    with pytest.raises(ValueError, match=r"directions: expected the shape \(6,\) of a state, got \(1,\)"):
        require_like(torch.ones(2, 1), torch.ones(3, 6))


def vary(run, step, which):
    return variations(ExactDenoiser(gaussian(), VP()), DDIM(), run, torch.eye(6), size=1, step=step, which=which)


def pushed(size):
    times = times_of(VP(), 3)
    return displacements(ExactDenoiser(gaussian(), VP()), DDIM(), torch.zeros(1, 6), times, torch.eye(6), size=size)


# perturbations and variations


@pytest.mark.parametrize(
    "schedule", [VP(), *(pytest.param(s, marks=pytest.mark.slow) for s in SCHEDULES[::2])], ids=names
)
def test_gains_are_finite_differences_of_the_flow(schedule):
    """In the state, the estimate and the sample, by Runge-Kutta 4 in 200 steps; 0 off the subspace."""
    data = gaussian(mean=0.4)
    denoiser, t = ExactDenoiser(data, schedule), 0.7 * schedule.t_max
    times = log_snr_times(schedule, t, schedule.t_min, 200)
    x, directions = starts(schedule, t, n=2), data.eigenvectors.T
    moved = displacements(denoiser, RungeKutta4(), x, times, directions, size=0.5)
    xi = denoised_gain(VARIANCES, schedule, t, schedule.t_min)
    assert torch.allclose(along(moved, directions), xi[:, None].expand(4, 2), rtol=0, atol=1e-8)
    off = torch.linalg.qr(torch.cat([directions, torch.eye(6, dtype=torch.float64)]).T)[0][:, 4:].T
    assert float(displacements(denoiser, DDIM(), x, times, off, size=0.5).abs().max()) < 1e-12
    s = times[90]
    ends = [data.flow(x[:1] + sign * directions, schedule, t, s) for sign in (0.5, -0.5)]
    psi = state_gain(VARIANCES, schedule, t, s)
    assert torch.allclose(((ends[0] - ends[1]) * directions).sum(1), psi, rtol=0, atol=1e-12)
    clean = [data.flow(x[:1] + sign * directions, schedule, t, 0.0) for sign in (0.5, -0.5)]
    gain = ((clean[0] - clean[1]) * directions).sum(1)
    assert torch.allclose(gain, sample_gain(VARIANCES, schedule, t), rtol=0, atol=1e-10)


def test_early_perturbations_matter_more_only_for_variances_above_one():
    """VP: sqrt(lambda / (1 + (lambda - 1) alphabar)), which is monotone, and constant at lambda = 1."""
    schedule, times = VP(), torch.linspace(1.0, 0.01, 50, dtype=torch.float64)
    variances = torch.tensor([4.0, 1.0, 0.3], dtype=torch.float64)
    gains = torch.stack([sample_gain(variances, schedule, t) for t in times])
    closed = (variances / (1 + (variances - 1) * schedule.alpha(times)[:, None] ** 2)).sqrt()
    assert torch.allclose(gains, closed, rtol=0, atol=1e-14)
    assert bool((gains[:, 0].diff() < 0).all())
    assert bool((gains[:, 2].diff() > 0).all())
    assert float((gains[:, 1] - 1).abs().max()) < 1e-14


def test_noise_relative_gains_are_the_larger_the_earlier_for_every_variance():
    """And are the gain of the sample times the noise, at alpha = 1; sqrt(lambda) from pure noise."""
    ratios = torch.logspace(3, -3, 50, dtype=torch.float64)
    gains = noise_relative_gain(VARIANCES, ratios)
    assert bool((gains.diff(dim=0) < 0).all())
    product = torch.stack([ratio * sample_gain(VARIANCES, VE(1e-4, 1e4), ratio) for ratio in ratios])
    assert torch.allclose(gains, product, rtol=1e-12, atol=0)
    assert torch.allclose(noise_relative_gain(VARIANCES, torch.tensor([math.inf])), VARIANCES.sqrt()[None])


def test_principal_directions_of_an_arc_are_its_plane():
    t = torch.linspace(0, 2 * math.pi, 60, dtype=torch.float64)[:-1, None]
    frame = torch.linalg.qr(torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    points = (2 * t.cos() * frame[:, 0] + t.sin() * frame[:, 1]).reshape(-1, 3, 4)
    found = principal_directions(points, 2).flatten(1)
    assert torch.allclose((found @ frame).abs(), torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_random_directions_are_unit_vectors_without_a_preferred_axis():
    drawn = random_directions(2000, (3, 2), generator=torch.Generator().manual_seed(0)).flatten(1)
    assert torch.allclose(drawn.norm(dim=1), torch.ones(2000, dtype=torch.float64), rtol=0, atol=1e-14)
    for k in range(6):
        assert monte_carlo(drawn[:, k] ** 2).agrees_with(1 / 6)


@pytest.mark.parametrize("schedule", [VE(1e-2, 5.0), pytest.param(VP(), marks=pytest.mark.slow)], ids=names)
def test_a_variation_of_gaussian_data_moves_the_sample_as_the_gains_say(schedule):
    """The model's own flow, also off the eigenvectors and with a tail; the last level of noise is 1e-3."""
    data = gaussian(mean=0.1, tail=0.3)
    denoiser, times = ExactDenoiser(data, schedule), times_of(schedule, 6)
    run = follow(denoiser, TIGHT, starts(schedule, times[0], n=2), times)
    directions = random_directions(3, (6,), generator=torch.Generator().manual_seed(1))
    for step in (1, 3):
        varied = variations(denoiser, TIGHT, run, directions, size=2.0, step=step, which=1)
        expected = gaussian_variation(data, schedule, times[step], directions, 2.0)
        final = float(run.ratios[-1])
        # xi and the gain of the sample differ by sigma^2 / (2 lambda) at the last level
        room = 1e-8 + 2 * float(expected.abs().max()) * final**2 / 0.04
        assert float((varied - run.samples[1] - expected).abs().max()) < room
        lengths = (varied - run.samples[1]).square().mean(1).sqrt()
        assert torch.allclose(distances(varied, run.samples[1]), lengths, rtol=0, atol=1e-15)


def test_a_variation_of_size_zero_is_the_sample_itself():
    schedule, denoiser = VP(), ExactDenoiser(gaussian(), VP())
    times = times_of(schedule, 8)
    run = follow(denoiser, DDIM(), starts(schedule, times[0]), times)
    same = variations(denoiser, DDIM(), run, torch.eye(6, dtype=torch.float64), size=0, step=3, which=2)
    assert torch.equal(same, run.samples[2].expand(6, 6))
    assert torch.equal(finish(denoiser, DDIM(), run.states[0], times), run.samples)

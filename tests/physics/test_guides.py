"""Conditioned denoisers, against exact posteriors and closed forms."""

import math
from dataclasses import dataclass

import pytest
import torch
from conftest import measured_order
from small_posteriors import KINDS, SHAPE, D, dense, finite_set, observed, prior_of, random
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.physics import (
    DPS,
    CovarianceGuided,
    GaussianGuide,
    GaussNewtonProjected,
    LinearObservation,
    NonlinearObservation,
    NormalizedDPS,
    Observation,
    PiGDM,
    Projected,
    at_nodes,
    log_likelihood,
    observe,
    posterior,
    start_at_mean,
)
from diffuscope.physics.conditioning.covariance_guided import conjugate_gradients
from diffuscope.samplers import Heun, generate, sample
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule


@dataclass(frozen=True)
class Hidden:
    """A denoiser whose distribution is not known to those who use it."""

    inner: ExactDenoiser

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        return self.inner(x_t, t)


@dataclass(frozen=True)
class Wavy:
    """A denoiser of no distribution: its Jacobian is not symmetric."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        W = random(D, D, seed=9) / 6 + torch.eye(D, dtype=torch.float64) / 2
        return (0.7 * x_t.flatten(1) + 0.3 * (x_t.flatten(1) @ W.T).sin()).reshape(x_t.shape)


def jacobian(denoiser: Denoiser, x: Tensor, t: float) -> Tensor:
    def flat(row: Tensor) -> Tensor:
        return denoiser(row.reshape(1, *SHAPE), t).flatten()

    matrix = torch.autograd.functional.jacobian(flat, x.flatten())
    assert isinstance(matrix, Tensor)
    return matrix


def crooked(x: Tensor) -> Tensor:
    return torch.stack([x.flatten(1).sin().sum(1), x[:, 0].square().sum(1), x[:, 1, 0] * x[:, 0, 2]], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.3, 0.0])
@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()])
def test_the_guided_gaussian_is_the_exact_denoiser_of_the_posterior(
    kind: str, noise: float, schedule: Schedule
) -> None:
    prior, H = prior_of(kind), LinearObservation(random(3, D, seed=3), SHAPE, noise)
    x = prior.sample(6, generator=torch.Generator().manual_seed(4))
    y = observe(H, x, generator=torch.Generator().manual_seed(5))
    t = torch.linspace(schedule.t_min, schedule.t_max, 6, dtype=torch.float64).clamp_min(1e-4)
    x_t = random(6, *SHAPE, seed=6) * schedule.sigma(t).reshape(-1, 1, 1) + schedule.alpha(t).reshape(-1, 1, 1) * x
    denoiser = ExactDenoiser(prior, schedule)
    guided = GaussianGuide(denoiser, H, y)(x_t, t)
    for i in range(6):
        exact = ExactDenoiser(posterior(prior, H, y[i]), schedule)(x_t[i : i + 1], t[i])
        torch.testing.assert_close(guided[i : i + 1], exact, rtol=0, atol=1e-10)
    by_cg = CovarianceGuided(denoiser, H, y, iterations=9, tolerance=1e-12)(x_t, t)
    torch.testing.assert_close(by_cg, guided, rtol=0, atol=1e-9)
    one = GaussianGuide(denoiser, H, y[2])
    for _ in range(2):  # the second time from the factorization that is kept
        torch.testing.assert_close(one(x_t[2:3].float(), t[2]), guided[2:3].float(), rtol=1e-6, atol=1e-6)
    assert (one.event_shape, one.data_range, one.schedule) == (SHAPE, (-3.0, 3.0), schedule)


def test_the_factorizations_that_are_kept_are_of_the_levels_called_last(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, H, y = observed("dense", 0.3)
    monkeypatch.setattr("diffuscope.physics.conditioning.gaussian_guide.KEPT", 600)
    guide = GaussianGuide(ExactDenoiser(prior, VE()), H, y)
    x = random(1, *SHAPE)
    answers = [guide(x, t) for t in (1.0, 2.0, 3.0, 1.0)]
    assert len(guide._kept) == 2
    assert torch.equal(answers[0], answers[3])


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("as_function", [False, True])
def test_products_by_autograd_are_those_of_the_exact_covariance(hidden: bool, as_function: bool) -> None:
    """A mixture, by its covariance or by the Jacobian of its denoiser; a matrix, or a function with that derivative."""
    weights, means = torch.tensor([0.4, 0.6], dtype=torch.float64), random(2, *SHAPE, seed=1)
    prior = GaussianMixture.isotropic(weights, means, torch.tensor([0.5, 1.5], dtype=torch.float64))
    exact = ExactDenoiser(prior, VP())
    denoiser = Hidden(exact) if hidden else exact
    _, H, _ = observed("dense", 0.3)
    observation: Observation = NonlinearObservation(H, SHAPE, 0.3) if as_function else H
    x_t, y, t = random(5, *SHAPE, seed=2), random(5, 3, seed=3), 0.4
    alpha, sigma = float(VP().alpha(t)), float(VP().sigma(t))
    D_t = exact(x_t, t)
    expected, dps = [], []
    for x, row, denoised in zip(x_t, y, D_t.flatten(1), strict=True):
        C = sigma**2 / alpha * jacobian(exact, x, t)
        e = row - H.matrix @ denoised
        system = H.matrix @ C @ H.matrix.T + 0.09 * torch.eye(3, dtype=torch.float64)
        expected.append(denoised + C @ H.matrix.T @ torch.linalg.solve(system, e))
        dps.append(denoised + 0.7 * C @ H.matrix.T @ e / 0.09)
    guided = CovarianceGuided(denoiser, observation, y, iterations=20, tolerance=1e-13)(x_t, t)
    torch.testing.assert_close(guided.flatten(1), torch.stack(expected), rtol=0, atol=1e-10)
    with torch.no_grad():  # as samplers call it
        guided = DPS(denoiser, observation, y, weight=0.7)(x_t, t)
    torch.testing.assert_close(guided.flatten(1), torch.stack(dps), rtol=0, atol=1e-10)
    assert not guided.requires_grad


def test_a_denoiser_of_no_distribution_and_a_curved_observation_are_linearized_and_symmetrized() -> None:
    denoiser, t = Wavy(VP()), 0.4
    scale = float(VP().sigma(t)) ** 2 / float(VP().alpha(t))
    x_t, y = random(4, *SHAPE, seed=2), random(4, 3, seed=3)
    h = NonlinearObservation(crooked, SHAPE, 0.8)
    guided = CovarianceGuided(denoiser, h, y, iterations=20, tolerance=1e-13)(x_t, t)
    for x, row, answer in zip(x_t, y, guided, strict=True):
        D_x = denoiser(x[None], t)
        J = scale * jacobian(denoiser, x, t)
        C = (J + J.T) / 2
        H = torch.autograd.functional.jacobian(lambda d: crooked(d.reshape(1, *SHAPE))[0], D_x.flatten())
        system = H @ C @ H.T + 0.64 * torch.eye(3, dtype=torch.float64)
        assert float(torch.linalg.eigvalsh(system).min()) > 0
        expected = D_x.flatten() + C @ H.T @ torch.linalg.solve(system, row - crooked(D_x)[0])
        torch.testing.assert_close(answer.flatten(), expected, rtol=0, atol=1e-10)


def test_every_sample_has_conjugate_gradients_of_its_own() -> None:
    """Samples that are done first (y = h(D) at once; one eigenvalue) are those they would be alone."""
    prior, H, _ = observed("dense", 0.3)
    denoiser, x_t = ExactDenoiser(prior, VE()), random(3, *SHAPE)
    y = torch.stack([H(denoiser(x_t[:1], 1.0))[0], torch.zeros(3, dtype=torch.float64), 100 * torch.ones(3)])
    for iterations in (1, 2, 5):
        together = CovarianceGuided(denoiser, H, y, iterations=iterations)(x_t, 1.0)
        for i in range(3):
            alone = CovarianceGuided(denoiser, H, y[i], iterations=iterations)(x_t[i : i + 1], 1.0)
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(together[0], denoiser(x_t, 1.0)[0], rtol=0, atol=1e-12)


def test_conjugate_gradients_stop_at_the_tolerance() -> None:
    """Two eigenvalues: two iterations, whatever is allowed; and one where one is enough for the tolerance."""
    scales, calls = torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64), []

    def system(u: Tensor) -> Tensor:
        calls.append(1)
        return scales * u

    right = torch.ones(1, 3, dtype=torch.float64)
    torch.testing.assert_close(conjugate_gradients(system, right, 10, 1e-12), right / scales, rtol=0, atol=1e-12)
    assert len(calls) == 2
    conjugate_gradients(system, right, 10, 0.6)
    assert len(calls) == 3


def test_curvature_that_is_not_positive_ends_the_iteration() -> None:
    @dataclass(frozen=True)
    class Reflected:
        schedule: Schedule

        def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
            return -x_t

    x_t, H = random(3, 1), at_nodes(torch.tensor([0]), (1,), noise=0.1)
    denoiser = Reflected(VE())
    torch.testing.assert_close(CovarianceGuided(denoiser, H, torch.ones(1))(x_t, 1.0), -x_t, rtol=0, atol=0)


@pytest.mark.parametrize("noise", [0.3, 0.0])
@pytest.mark.parametrize("variance", [1.0, 2.5])
def test_pseudoinverse_guidance_is_exact_for_white_data(noise: float, variance: float) -> None:
    prior = Gaussian.isotropic(random(*SHAPE), variance)
    rows = random(3, D, seed=3)
    H = LinearObservation(torch.cat([rows, rows[:1] + rows[1:2]]), SHAPE, noise)
    y = observe(H, prior.sample(1, generator=torch.Generator().manual_seed(4)), generator=torch.Generator())[0]
    for schedule, t in ((VE(), 2.0), (VP(), 0.3)):
        exact, x_t = ExactDenoiser(posterior(prior, H, y), schedule), random(4, *SHAPE, seed=5)
        for denoiser in (ExactDenoiser(prior, schedule), Hidden(ExactDenoiser(prior, schedule))):
            guided = PiGDM(denoiser, H, y, variance=variance)(x_t, t)
            torch.testing.assert_close(guided, exact(x_t, t), rtol=0, atol=1e-11)


def test_dps_changes_the_score_by_the_gradient_of_the_likelihood() -> None:
    """By autograd through network and h, and by differences; the published step divides by |e| instead of 2 r^2."""
    network = Wavy(VP())
    h, t = NonlinearObservation(crooked, SHAPE, 0.4), 0.3
    x_t, y = random(3, *SHAPE, seed=2), random(3, 3, seed=3)

    def log_likelihood_of(x: Tensor) -> Tensor:
        return log_likelihood(h, network(x, t), y)

    x = x_t.clone().requires_grad_()
    gradient = torch.autograd.grad(log_likelihood_of(x).sum(), x)[0]
    direction = random(3, *SHAPE, seed=4)
    differences = (log_likelihood_of(x_t + 1e-6 * direction) - log_likelihood_of(x_t - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum((1, 2)), differences, rtol=1e-6, atol=1e-6)

    def change(guided: Denoiser) -> Tensor:
        scores = [denoised_to_score(x_t, one(x_t, t), VP(), t) for one in (guided, network)]
        return scores[0] - scores[1]

    torch.testing.assert_close(change(DPS(network, h, y, weight=1.7)), 1.7 * gradient, rtol=1e-9, atol=1e-9)
    size = (y - crooked(network(x_t, t))).norm(dim=1).reshape(-1, 1, 1)
    expected = 0.6 * 2 * 0.4**2 * gradient / size  # -(zeta / |e|) grad |e|^2
    torch.testing.assert_close(change(NormalizedDPS(network, h, y, zeta=0.6)), expected, rtol=1e-9, atol=1e-9)


V, R, Y = 1.0, 0.3, 1.0


def scalar_dps() -> DPS:
    prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), V), VE(1e-4, 1e4))
    return DPS(prior, at_nodes(torch.tensor([0]), (1,), noise=R), torch.tensor([Y], dtype=torch.float64))


def moments_of_dps(n: int) -> tuple[float, float]:
    """Mean and variance after n steps of the reverse SDE from sigma = 1e4 to 1e-4 with the denoiser frozen in each."""
    sigmas, mean, variance = torch.logspace(4, -4, n + 1, dtype=torch.float64), 0.0, 1e8
    ends = torch.cat([torch.zeros(n, 1), torch.ones(n, 1)]).double()
    offsets, at_one = scalar_dps()(ends, sigmas[:-1].repeat(2))[:, 0].reshape(2, n)
    kept = (sigmas[1:] / sigmas[:-1]) ** 2
    factors = at_one - offsets + kept * (1 - at_one + offsets)
    pushes, noises = (1 - kept) * offsets, sigmas[1:] ** 2 * (1 - kept)
    for factor, push, noise in zip(factors.tolist(), pushes.tolist(), noises.tolist(), strict=True):
        mean, variance = factor * mean + push, factor**2 * variance + noise
    return mean, variance


def test_dps_ends_at_half_the_variance_of_the_noise_not_at_the_posterior() -> None:
    """The closed forms of `conditioning.dps` for eta = 1, at order 1; the posterior has mean 0.917, variance 0.0826."""
    mean, variance = Y * -math.expm1(-V / R**2), R**2 / 2 * -math.expm1(-2 * V / R**2)
    found = {n: moments_of_dps(n) for n in (8000, 16000, 32000)}
    assert measured_order(lambda n: abs(found[n][0] - mean), [*found]).order == pytest.approx(1, abs=0.05)
    assert measured_order(lambda n: abs(found[n][1] - variance), [*found]).order == pytest.approx(1, abs=0.05)
    assert (mean, variance) == (pytest.approx(1.000, abs=1e-4), pytest.approx(0.045, abs=1e-9))
    exact = posterior(Gaussian.isotropic(torch.zeros(1), V), scalar_dps().linear, torch.tensor([Y]))
    assert (float(exact.mean), exact.trace) == (pytest.approx(0.917, abs=5e-4), pytest.approx(0.0826, abs=5e-5))


def test_the_flow_of_dps_follows_its_closed_form_at_order_two() -> None:
    """eta = 0: x(s)/x(T) = sqrt((v + s^2)/(v + T^2)) exp(-(v^2/2r^2) (1/(v + s^2) - 1/(v + T^2)))."""
    low, high = 0.2, 5.0
    exponent = V**2 / (2 * R**2) * (1 / (V + low**2) - 1 / (V + high**2))
    exact = math.sqrt((V + low**2) / (V + high**2)) * math.exp(-exponent)

    def error(n: int) -> float:
        times = torch.logspace(math.log10(high), math.log10(low), n + 1, dtype=torch.float64)
        ends = sample(Heun(), scalar_dps(), torch.tensor([[1.0], [0.0]], dtype=torch.float64), times)
        return abs(float(ends[0] - ends[1]) - exact)

    assert measured_order(error, [50, 100, 200]).order == pytest.approx(2, abs=0.1)

    s = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000  # q = s^2
    mean = V * Y / R**2 * float((-V / (2 * R**2) * (1 - s**2)).exp().mean())
    ends = sample(Heun(), scalar_dps(), torch.zeros(1, 1).double(), torch.logspace(4, -3.9, 151, dtype=torch.float64))
    assert (float(ends), mean) == (pytest.approx(mean, abs=5e-3), pytest.approx(1.136, abs=5e-4))


@pytest.mark.parametrize("metric", [None, "dense", "tail"])
def test_a_projected_denoiser_meets_the_constraint_and_is_the_nearest_that_does(metric: str | None) -> None:
    gaussian = None if metric is None else prior_of(metric)
    M = torch.eye(D, dtype=torch.float64) if gaussian is None else dense(gaussian)
    rows = random(3, D, seed=3)
    H = LinearObservation(torch.cat([rows, 1e3 * rows[:1] - rows[1:2]]), SHAPE)
    denoiser, x_t = ExactDenoiser(prior_of("low rank"), VE()), 100 * random(5, *SHAPE, seed=6)
    y = H(random(5, *SHAPE, seed=7))
    for t in (1e-2, 1.0, 100.0):
        denoised = denoiser(x_t, t)
        projected = Projected(denoiser, H, y, metric=gaussian)(x_t, t)
        # each of D products is rounded, and the fourth observation is 1000 times the first: what cancels is larger
        rounding = 4 * D * torch.finfo(torch.float64).eps * 1e3 * float(rows.norm(dim=1).max() * projected.norm())
        torch.testing.assert_close(H(projected), y, rtol=0, atol=rounding)
        assert rounding < 1e-8
        shift = (projected - denoised).flatten(1)
        gain = M @ rows.T @ torch.linalg.inv(rows @ M @ rows.T)
        torch.testing.assert_close(shift, (y[:, :3] - H(denoised)[:, :3]) @ gain.T, rtol=0, atol=1e-9)
        twice = Projected(Projected(denoiser, H, y, metric=gaussian), H, y, metric=gaussian)(x_t, t)
        torch.testing.assert_close(twice, projected, rtol=0, atol=1e-11)


def test_projection_in_the_covariance_is_the_posterior_only_where_noise_hides_the_field() -> None:
    prior, H, y = observed("dense", 0.0)
    denoiser, x_t = ExactDenoiser(prior, VE(1e-3, 1e9)), random(4, *SHAPE)
    projected, guided = Projected(denoiser, H, y, metric=prior), GaussianGuide(denoiser, H, y)
    torch.testing.assert_close(projected(1e8 * x_t, 1e8), guided(1e8 * x_t, 1e8), rtol=0, atol=1e-6)
    assert float((projected(x_t, 0.5) - guided(x_t, 0.5)).abs().max()) > 0.1


def test_conditioned_denoisers_are_sampled_in_single_precision_with_an_observation_per_sample() -> None:
    prior, H, _ = observed("dense", 0.2)
    y = observe(H, prior.sample(6, generator=torch.Generator().manual_seed(1)), generator=torch.Generator()).float()
    exact = ExactDenoiser(prior, VE())
    for guide in (
        GaussianGuide(exact, H, y),
        Projected(exact, H, y),
        PiGDM(exact, H, y),
        CovarianceGuided(exact, H, y),
    ):
        samples = generate(guide, 6, steps=8)
        assert (samples.shape, samples.dtype) == ((6, *SHAPE), torch.float32)
    torch.testing.assert_close(H(generate(Projected(exact, H, y), 6, steps=8)), y, rtol=0, atol=2e-5)
    with pytest.raises(InputError, match=r"one per sample of a batch \(3\), got 6"):
        generate(GaussianGuide(exact, H, y), 6, batch_size=3)


def test_the_start_is_the_mean_up_to_what_is_seen_of_the_field_at_all_noise() -> None:
    """Three evaluations leave (alpha^2 lambda / (alpha^2 lambda + sigma^2))^3 of the mean along every mode."""
    prior = prior_of("dense")
    schedule = VP(beta_min=0.1, beta_max=2.0)  # ends at alpha 0.6
    start = start_at_mean(ExactDenoiser(prior, schedule), SHAPE)
    alpha, sigma = float(schedule.alpha(1.0)), float(schedule.sigma(1.0))
    left = (alpha**2 * prior.eigenvalues / (alpha**2 * prior.eigenvalues + sigma**2)) ** 3
    mean = prior.mean.flatten()
    expected = mean - prior.eigenvectors @ (left * (prior.eigenvectors.T @ mean))
    torch.testing.assert_close(start.mean.flatten(), expected, rtol=0, atol=1e-12)
    assert start.trace == 0
    with pytest.raises(InputError, match="event_shape: expected the shape of one field"):
        start_at_mean(Wavy(schedule))


EXACT = ExactDenoiser(prior_of("dense"), VE())
ALL_NOISE = ExactDenoiser(prior_of("dense"), RectifiedFlow())
THREE = NonlinearObservation(lambda x: x.flatten(1)[:, :3].square(), SHAPE, 0.2)  # one number would broadcast


@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_where_alpha_is_zero_the_exact_guides_give_the_mean_of_the_posterior(noise: float) -> None:
    prior, H, y = observed("dense", noise)
    denoiser, x_t = ExactDenoiser(prior, RectifiedFlow()), random(2, *SHAPE).float()
    expected = posterior(prior, H, y).mean.float().expand(2, *SHAPE)
    guides = [GaussianGuide(denoiser, H, y), CovarianceGuided(denoiser, H, y)]
    for guide in guides + [Projected(denoiser, H, y, prior)] * (noise == 0):
        torch.testing.assert_close(guide(x_t, torch.tensor([1.0, 1.0])), expected, rtol=0, atol=2e-5)


def test_hard_constraints_on_a_prior_without_variance_in_most_directions() -> None:
    """Three variances nine orders apart, four rows of rank three on them: at every level the guide is the posterior."""
    basis = torch.linalg.qr(random(D, D, seed=1))[0][:, :3]
    prior = Gaussian(random(*SHAPE, seed=2), basis, torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64))
    truth = prior.sample(1, generator=torch.Generator().manual_seed(0)).double()
    for m in (1, 2, 4):
        H = LinearObservation(random(m, D, seed=3), SHAPE)
        y = H(truth)[0]
        guide, exact = GaussianGuide(ExactDenoiser(prior, VE()), H, y), posterior(prior, H, y)
        for t in (1e-4, 1e-2, 1.0, 80.0):
            x_t = truth + t * random(5, *SHAPE, seed=4)
            torch.testing.assert_close(guide(x_t, t), exact.denoise(x_t, 1.0, t), rtol=0, atol=1e-12)
            torch.testing.assert_close(H(guide(x_t, t)), y.expand(5, m), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda H, y: GaussianGuide(ExactDenoiser(finite_set(), VE()), H, y), "the ExactDenoiser of a Gaussian"),
        (lambda H, y: GaussianGuide(Hidden(EXACT), H, y), "the ExactDenoiser of a Gaussian"),  # pyright: ignore
        (lambda _, y: GaussianGuide(EXACT, at_nodes(torch.tensor([0, 1, 2]), (9,)), y), r"of fields \(2, 4\), got"),
        (lambda H, y: GaussianGuide(EXACT, NonlinearObservation(H, SHAPE), y), "expected a LinearObservation"),
        (lambda H, y: Projected(EXACT, NonlinearObservation(H, SHAPE), y), "expected a LinearObservation"),
        (lambda H, y: PiGDM(EXACT, NonlinearObservation(H, SHAPE), y), "expected a LinearObservation"),
        (lambda H, y: PiGDM(EXACT, H, y, variance=0.0), "variance: expected a finite number > 0"),
        (lambda H, y: DPS(EXACT, H, y), "observation: expected noise > 0"),
        (lambda H, y: DPS(EXACT, H, y, weight=-1.0), "weight: expected a finite number >= 0"),
        (lambda H, y: NormalizedDPS(EXACT, H, y, zeta=math.nan), "zeta: expected a finite number >= 0"),
        (lambda H, y: CovarianceGuided(EXACT, H, y, iterations=0), "iterations: expected at least 1"),
        (lambda H, y: CovarianceGuided(EXACT, H, y, tolerance=0.0), "tolerance: expected a number > 0"),
        (lambda H, y: Projected(EXACT, H, y[:2]), r"y: expected shape \(3,\) or \(batch, 3\), got \(2,\)"),
        (lambda H, y: Projected(EXACT, H, y / 0), "y: expected finite values"),
        (
            lambda H, y: Projected(EXACT, LinearObservation(torch.cat([H.matrix, 2 * H.matrix]), SHAPE), y.repeat(2)),
            r"y: expected values that the rows of the observation can take exactly \(noise 0\), got some that miss",
        ),
        (
            lambda H, y: Projected(EXACT, H, y, Gaussian(torch.zeros(SHAPE), torch.eye(D)[:, :2], torch.ones(2))),
            "metric: expected variance in all 3 directions that the constraint fixes, got 2",
        ),
        (
            lambda H, y: GaussianGuide(ExactDenoiser(posterior(EXACT.distribution, H, y), VE()), H, y + 1e-3),
            "y: expected values that the prior can take exactly",
        ),
        (lambda _, y: DPS(EXACT, THREE, y[:1])(random(1, *SHAPE), 1.0), r"y: expected shape \(3,\) or \(1, 3\)"),
        (lambda _, y: CovarianceGuided(EXACT, THREE, y[:1])(random(1, *SHAPE), 1.0), r"y: expected shape \(3,\)"),
        (lambda _, y: GaussNewtonProjected(EXACT, THREE, y[:1])(random(1, *SHAPE), 1.0), r"y: expected shape \(3,\)"),
        (lambda _, y: posterior(finite_set(), THREE, y[:1]), "y: expected 3 values, as the observation gives, got 1"),
        (lambda H, y: PiGDM(Hidden(ALL_NOISE), H, y)(random(1, *SHAPE), 1.0), "t: expected alpha > 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(make: object, message: str) -> None:
    _, H, y = observed("dense", 0.0)
    with pytest.raises(InputError, match=message) as refused:
        make(H, y)  # pyright: ignore
    assert "\n" not in str(refused.value)

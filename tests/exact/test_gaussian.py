"""The Gaussian diffusion against integration, linear algebra, autograd and Monte Carlo."""

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from scipy.integrate import solve_ivp

from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian, PosteriorCovariance
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

EVENT, D = (2, 3), 6
SCHEDULES = {"VE": (VE(), 80.0, 0.002), "VP": (VP(), 1.0, 1e-3), "flow matching": (RectifiedFlow(), 1.0, 0.002)}


def random_basis(D: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=generator))[0]


def mean_of(event: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(event, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def dense() -> Gaussian:
    """Six variances over four decades, one of them zero."""
    return Gaussian(mean_of(EVENT), random_basis(D), torch.tensor([9.0, 2.0, 0.5, 0.04, 1e-3, 0.0]))


def low_rank() -> Gaussian:
    return Gaussian(mean_of(EVENT), random_basis(D)[:, :2], torch.tensor([9.0, 2.0]), 0.3)


def isotropic() -> Gaussian:
    return Gaussian.isotropic(mean_of(EVENT), 0.7)


LAWS = {"dense": dense, "low rank": low_rank, "isotropic": isotropic}
every_distribution = pytest.mark.parametrize("distribution", LAWS.values(), ids=LAWS.keys())
every_schedule = pytest.mark.parametrize(("schedule", "start", "end"), SCHEDULES.values(), ids=SCHEDULES.keys())


def covariance(gaussian: Gaussian) -> torch.Tensor:
    U = gaussian.eigenvectors
    identity = torch.eye(gaussian.dimension, dtype=torch.float64)
    return (U * gaussian.eigenvalues) @ U.T + gaussian.tail_variance * (identity - U @ U.T)


def noised(gaussian: Gaussian, alpha: float, sigma: float, n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x_0 = gaussian.sample(n, generator=generator)
    return alpha * x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    return ((value - truth).norm() / truth.norm()).item()


# --- the denoiser, the score and the density --------------------------------------------------------------------------


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 80.0), (0.6, 0.8), (1e-3, 1.0)])
def test_denoiser_score_and_density_equal_dense_linear_algebra(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma)
    e = (x_t - alpha * gaussian.mean).flatten(1)
    sigma_0 = covariance(gaussian)
    sigma_t = alpha**2 * sigma_0 + sigma**2 * torch.eye(D, dtype=torch.float64)
    precision_e = torch.linalg.solve(sigma_t, e.T).T
    D_t = gaussian.mean.flatten() + alpha * precision_e @ sigma_0
    log_p = -0.5 * ((e * precision_e).sum(1) + torch.linalg.slogdet(2 * torch.pi * sigma_t)[1])
    # the reference solves with condition number up to 9 / 0.002^2 = 2e6: digits beyond 1e-9 are its own error
    assert relative_error(gaussian.denoise(x_t, alpha, sigma).flatten(1), D_t) < 1e-9
    assert relative_error(gaussian.score(x_t, alpha, sigma).flatten(1), -precision_e) < 1e-9
    assert relative_error(gaussian.log_prob(x_t, alpha, sigma), log_p) < 1e-9


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 80.0), (0.6, 0.8)])
def test_score_is_the_gradient_of_log_prob_and_gives_the_denoiser_by_tweedie(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma).requires_grad_()
    score = gaussian.score(x_t, alpha, sigma)
    (gradient,) = torch.autograd.grad(gaussian.log_prob(x_t, alpha, sigma).sum(), x_t)
    assert relative_error(score, gradient) < 1e-9
    tweedie = (x_t + sigma**2 * score) / alpha
    assert relative_error(gaussian.denoise(x_t, alpha, sigma), tweedie) < 1e-12


@every_distribution
def test_at_alpha_zero_the_denoiser_is_the_mean_and_the_noised_distribution_is_the_noise(distribution):
    gaussian, sigma = distribution(), 1.7
    x_t = noised(gaussian, 0.0, sigma)
    assert torch.equal(gaussian.denoise(x_t, 0.0, sigma), gaussian.mean.expand_as(x_t))
    torch.testing.assert_close(gaussian.score(x_t, 0.0, sigma), -x_t / sigma**2, rtol=1e-14, atol=1e-14)
    noise = torch.distributions.Normal(torch.zeros(EVENT, dtype=torch.float64), sigma).log_prob(x_t).sum((1, 2))
    torch.testing.assert_close(gaussian.log_prob(x_t, 0.0, sigma), noise, rtol=1e-13, atol=1e-13)
    prior = gaussian.posterior_covariance(x_t, 0.0, sigma).trace()
    torch.testing.assert_close(prior, torch.full_like(prior, gaussian.trace), rtol=1e-14, atol=0)


@every_distribution
def test_levels_per_sample_equal_the_samples_one_by_one(distribution):
    gaussian = distribution()
    x_t = noised(gaussian, 1.0, 1.0)
    alphas = torch.tensor([1.0, 0.5, 0.0, 0.999], dtype=torch.float64)
    sigmas = torch.tensor([0.01, 0.7, 1.0, 40.0], dtype=torch.float64)
    together = [
        gaussian.denoise(x_t, alphas, sigmas),
        gaussian.score(x_t, alphas, sigmas),
        gaussian.log_prob(x_t, alphas, sigmas),
        gaussian.posterior_covariance(x_t, alphas, sigmas).matvec(x_t),
        gaussian.posterior_covariance(x_t, alphas, sigmas).trace(),
        gaussian.posterior_covariance(x_t, alphas, sigmas).diagonal(),
    ]
    for i in range(len(x_t)):
        x, level = x_t[i : i + 1], (float(alphas[i]), float(sigmas[i]))
        alone = [
            gaussian.denoise(x, *level),
            gaussian.score(x, *level),
            gaussian.log_prob(x, *level),
            gaussian.posterior_covariance(x, *level).matvec(x),
            gaussian.posterior_covariance(x, *level).trace(),
            gaussian.posterior_covariance(x, *level).diagonal(),
        ]
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[i : i + 1], one, rtol=1e-12, atol=1e-13)


@every_distribution
def test_float32_input_is_answered_in_float32_with_float64_inside(distribution):
    gaussian = distribution()
    x_t = noised(gaussian, 1.0, 0.002).float()
    exact = x_t.double()
    schedule = VE()
    for narrow, wide in [
        (gaussian.denoise(x_t, 1.0, 0.002), gaussian.denoise(exact, 1.0, 0.002)),
        (gaussian.score(x_t, 1.0, 0.002), gaussian.score(exact, 1.0, 0.002)),
        (gaussian.log_prob(x_t, 1.0, 0.002), gaussian.log_prob(exact, 1.0, 0.002)),
        (gaussian.flow(x_t, schedule, 0.002, 80.0), gaussian.flow(exact, schedule, 0.002, 80.0)),
        (
            gaussian.posterior_covariance(x_t, 1.0, 0.002).matvec(x_t),
            gaussian.posterior_covariance(exact, 1.0, 0.002).matvec(exact),
        ),
    ]:
        assert narrow.dtype == torch.float32
        assert torch.equal(narrow, wide.float())


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 10.0), (0.3, 0.9)])
def test_low_rank_with_tail_equals_the_dense_distribution_with_equal_tail_eigenvalues(alpha, sigma):
    low = low_rank()
    full = Gaussian(
        low.mean, random_basis(D), torch.cat([low.eigenvalues, torch.full((D - 2,), 0.3, dtype=torch.float64)])
    )
    x_t = noised(low, alpha, sigma)
    for name in ("denoise", "score", "log_prob"):
        assert relative_error(getattr(low, name)(x_t, alpha, sigma), getattr(full, name)(x_t, alpha, sigma)) < 1e-12
    thin, wide = low.posterior_covariance(x_t, alpha, sigma), full.posterior_covariance(x_t, alpha, sigma)
    assert relative_error(thin.matvec(x_t), wide.matvec(x_t)) < 1e-12
    assert relative_error(thin.diagonal(), wide.diagonal()) < 1e-12
    assert relative_error(thin.trace(), wide.trace()) < 1e-12
    schedule = VE()
    for s in (0.002, 80.0):
        assert relative_error(low.flow(x_t, schedule, sigma, s), full.flow(x_t, schedule, sigma, s)) < 1e-12


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.05), (1.0, 30.0), (0.6, 0.8)])
def test_posterior_covariance_is_the_scaled_jacobian_of_the_denoiser(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma, n=2)
    operator = gaussian.posterior_covariance(x_t, alpha, sigma)
    v = torch.randn(x_t.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for i in range(len(x_t)):
        jacobian = torch.autograd.functional.jacobian(lambda x: gaussian.denoise(x, alpha, sigma), x_t[i : i + 1])
        truth = torch.as_tensor(jacobian).reshape(D, D) * sigma**2 / alpha
        torch.testing.assert_close(operator.matvec(v)[i].flatten(), truth @ v[i].flatten(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(operator.trace()[i], truth.trace(), rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(operator.diagonal()[i].flatten(), truth.diagonal(), rtol=1e-9, atol=1e-12)


# --- the probability flow ---------------------------------------------------------------------------------------------


def integrated(gaussian: Gaussian, schedule: Schedule, x: np.ndarray, start: float, end: float) -> np.ndarray:
    """The probability-flow ODE x' = alpha' D + sigma' (x - alpha D)/sigma by DOP853, D from a dense solve."""
    mean, sigma_0 = gaussian.mean.flatten().numpy(), covariance(gaussian).numpy()

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        kernel = alpha**2 * sigma_0 + sigma**2 * np.eye(len(x))
        D_t = mean + alpha * sigma_0 @ np.linalg.solve(kernel, x - alpha * mean)
        return float(schedule.alpha_dot(t)) * D_t + float(schedule.sigma_dot(t)) * (x - alpha * D_t) / sigma

    return solve_ivp(velocity, (start, end), x, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


@every_schedule
@pytest.mark.parametrize("distribution", [dense, low_rank], ids=["dense", "low rank"])
def test_flow_map_equals_the_integrated_probability_flow_ode(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)), n=1)
    truth = integrated(gaussian, schedule, x_t.flatten().numpy(), start, end)
    moved = gaussian.flow(x_t, schedule, start, end).flatten().numpy()
    # coordinates are of order 1; the integration's own error is below 1e-9
    assert np.abs(moved - truth).max() < 1e-8


@every_distribution
@every_schedule
def test_flow_is_a_semigroup_with_inverse(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)))
    middle = (start * end) ** 0.5
    direct = gaussian.flow(x_t, schedule, start, end)
    halfway = gaussian.flow(x_t, schedule, start, middle)
    assert relative_error(gaussian.flow(halfway, schedule, middle, end), direct) < 1e-13
    assert relative_error(gaussian.flow(x_t, schedule, start, start), x_t) < 1e-14
    # back from sigma ~ 0.002 rounding of 1e-16 in a direction without data grows by up to 1/0.002 (x is of order 1)
    assert relative_error(gaussian.flow(direct, schedule, end, start), x_t) < 1e-12


@every_distribution
@every_schedule
def test_flow_pushes_the_noised_distribution_forward_to_the_noised_distribution(distribution, schedule, start, end):
    gaussian = distribution()
    levels = [(float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (start, end)]
    identity = torch.eye(D, dtype=torch.float64)
    before, after = (a**2 * covariance(gaussian) + s**2 * identity for a, s in levels)
    (alpha, _), (alpha_end, _) = levels
    columns = gaussian.flow(alpha * gaussian.mean + identity.reshape(D, *EVENT), schedule, start, end)
    M = (columns - alpha_end * gaussian.mean).reshape(D, D).T
    assert relative_error(M @ before @ M.T, after) < 1e-11
    log_det = gaussian.flow_log_det(schedule, start, end)
    assert abs(log_det - float(torch.linalg.slogdet(M)[1])) < 1e-9 * max(1.0, abs(log_det))


@every_distribution
def test_log_density_moves_along_the_flow_by_its_log_determinant(distribution):
    gaussian, schedule = distribution(), VP()
    t, s = 0.7, 0.2
    x_t = noised(gaussian, float(schedule.alpha(t)), float(schedule.sigma(t)))
    x_s = gaussian.flow(x_t, schedule, t, s)
    before = gaussian.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
    after = gaussian.log_prob(x_s, schedule.alpha(s), schedule.sigma(s))
    torch.testing.assert_close(before - after, torch.full_like(before, gaussian.flow_log_det(schedule, t, s)))


@every_distribution
@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_velocity_of_the_flow_is_x_minus_denoised_over_sigma(distribution, sigma):
    gaussian, schedule = distribution(), VE()
    x_T = noised(gaussian, 1.0, 80.0, n=1)
    s = torch.tensor(sigma, dtype=torch.float64)
    x_s = gaussian.flow(x_T, schedule, 80.0, s)
    velocity = torch.autograd.functional.jacobian(lambda s: gaussian.flow(x_T, schedule, 80.0, s), s)
    truth = (x_s - gaussian.denoise(x_s, 1.0, sigma)) / sigma
    torch.testing.assert_close(torch.as_tensor(velocity), truth, rtol=1e-10, atol=1e-10)


@every_distribution
@every_schedule
def test_denoiser_on_the_trajectory_is_the_denoiser_after_the_flow(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)))
    for s in (end, (start * end) ** 0.5, start):
        x_s = gaussian.flow(x_t, schedule, start, s)
        truth = gaussian.denoise(x_s, schedule.alpha(s), schedule.sigma(s))
        assert relative_error(gaussian.flow_denoised(x_t, schedule, start, s), truth) < 1e-12


@pytest.mark.parametrize(
    "distribution",
    [dense, low_rank, lambda: Gaussian(mean_of(EVENT), random_basis(D)[:, :2], torch.tensor([9.0, 2.0]))],
    ids=["dense with a null direction", "low rank", "low rank without tail"],
)
def test_where_the_noise_ends_the_denoiser_is_the_sample_itself(distribution):
    gaussian, schedule = distribution(), RectifiedFlow()
    x_1 = noised(gaussian, 0.0, 1.0)
    x_0 = gaussian.flow(x_1, schedule, 1.0, 0.0)
    assert relative_error(gaussian.flow_denoised(x_1, schedule, 1.0, 0.0), x_0) < 1e-14


@every_distribution
def test_flow_with_times_per_sample_equals_the_samples_one_by_one(distribution):
    gaussian, schedule = distribution(), VP()
    x_t = noised(gaussian, 0.5, 0.9)
    t, s = torch.tensor([0.9, 0.5, 0.2, 1.0]), torch.tensor([0.1, 0.8, 0.2, 0.0])
    for many in (gaussian.flow, gaussian.flow_denoised):
        alone = torch.cat([many(x_t[i : i + 1], schedule, float(t[i]), float(s[i])) for i in range(4)])
        torch.testing.assert_close(many(x_t, schedule, t, s), alone, rtol=1e-13, atol=1e-13)


# --- fitting, reducing, keeping ---------------------------------------------------------------------------------------


def pixels(n: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return (
        torch.rand(n, *EVENT, dtype=torch.float64, generator=generator)
        @ torch.diag(torch.tensor([1.0, 3, 0.1])).double()
    )


def in_sizes(data: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    return list(data.split(sizes))


@pytest.mark.parametrize(
    "sizes",
    [[60], [1] * 60, [7] * 8 + [4], [1, 0, 40, 19], [59, 1]],
    ids=["one", "singles", "sevens", "uneven", "last"],
)
def test_streaming_fit_equals_the_mean_and_covariance_of_the_whole(sizes):
    data = pixels()
    gaussian = Gaussian.fit(in_sizes(data, sizes))
    flat = data.flatten(1).numpy()
    assert gaussian.count == 60
    assert gaussian.event_shape == EVENT
    np.testing.assert_allclose(gaussian.mean.flatten().numpy(), flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance(gaussian).numpy(), np.cov(flat.T, bias=True), atol=1e-12)


@pytest.mark.parametrize("batch_size", [60, 9, 1])
def test_streaming_fit_does_not_cancel_under_a_huge_offset(batch_size):
    # multiples of 2^-20 added to 1e8 are exact in float64, so the covariance has not changed by a bit
    data = (pixels() * 2**20).round() / 2**20
    gaussian = Gaussian.fit((data + 1e8).split(batch_size))
    np.testing.assert_allclose(covariance(gaussian).numpy(), np.cov(data.flatten(1).numpy().T, bias=True), atol=1e-12)
    # the mean itself is only representable to 1.5e-8
    np.testing.assert_allclose(gaussian.mean.numpy() - 1e8, data.mean(0).numpy(), atol=1.6e-8)


def test_streaming_fit_follows_data_that_drift_far_from_the_first_batch():
    data = pixels()
    drifting = torch.cat([data[:1] - 1e3, data])
    gaussian = Gaussian.fit(drifting.split(1))
    truth = np.cov(drifting.flatten(1).numpy().T, bias=True)
    np.testing.assert_allclose(covariance(gaussian).numpy(), truth, atol=1e-12 * np.abs(truth).max())


def test_low_rank_fit_equals_the_truncated_full_fit_and_keeps_the_trace():
    data = pixels()
    full, low = Gaussian.fit([data]), Gaussian.fit(iter([data]), rank=2)
    truncated = full.truncate(2)
    assert low.eigenvectors.shape == (D, 2)
    np.testing.assert_allclose(covariance(low), covariance(truncated), atol=1e-13)
    variance = float(data.flatten(1).var(0, correction=0).sum())
    for gaussian in (full, low, truncated, full.truncate(0), low.truncate(1)):
        assert abs(gaussian.trace - variance) < 1e-12 * variance
    assert low.truncate(5) is low


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_fit_refuses_values_that_are_not_finite(bad):
    data = pixels()
    data[33, 0, 1] = bad
    with pytest.raises(InputError, match="batches: expected finite values"):
        Gaussian.fit(data.split(10))


@pytest.mark.parametrize("batches", [[], [pixels(1)], [pixels(1), pixels(0)]], ids=["none", "one", "one and none"])
def test_fit_refuses_fewer_than_two_examples(batches):
    with pytest.raises(InputError, match=r"at least two examples .* got [01]"):
        Gaussian.fit(batches)


@pytest.mark.parametrize("other", [(2, 4), (3, 2), (1,), (6,)])
def test_fit_refuses_examples_of_different_shapes(other):
    with pytest.raises(InputError, match=r"batches: expected examples of shape \(2, 3\)"):
        Gaussian.fit([pixels(), torch.zeros(4, *other)])


def test_a_scale_that_is_not_invertible_is_refused():
    for scale in (0.0, float("inf")):
        with pytest.raises(InputError, match=r"scale, shift: expected finite numbers, scale other than 0, got"):
            dense().rescale(scale, 1.0)


def test_rescale_is_the_distribution_of_the_rescaled_data():
    data = pixels()
    for rank in (None, 2):
        rescaled, fitted = Gaussian.fit([data], rank).rescale(2.0, -1.0), Gaussian.fit([2 * data - 1], rank)
        torch.testing.assert_close(rescaled.mean, fitted.mean, rtol=0, atol=1e-13)
        torch.testing.assert_close(covariance(rescaled), covariance(fitted), rtol=0, atol=1e-13)
        assert rescaled.count == 60


@pytest.mark.parametrize("distribution", [dense, low_rank, isotropic, lambda: Gaussian.fit([pixels()], rank=3)])
def test_a_saved_gaussian_loads_to_the_last_bit(distribution, tmp_path):
    gaussian = distribution()
    gaussian.save(tmp_path / "distribution.safetensors")
    loaded = Gaussian.load(tmp_path / "distribution.safetensors")
    for name in ("mean", "eigenvectors", "eigenvalues"):
        assert torch.equal(getattr(loaded, name), getattr(gaussian, name))
        assert getattr(loaded, name).dtype == torch.float64
    assert (loaded.tail_variance, loaded.count) == (gaussian.tail_variance, gaussian.count)


def test_loading_anything_else_is_one_clear_line(tmp_path):
    from safetensors.torch import save_file

    good, path = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    dense().save(good)
    whole = good.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"path: cannot read bad\.safetensors"):
            Gaussian.load(path)
    save_file({"mean": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="path: expected a saved Gaussian"):
        Gaussian.load(path)
    save_file({"mean": torch.zeros(3)}, path, metadata={"diffuscope": '{"kind": "Gaussian"}'})
    with pytest.raises(InputError, match="path: cannot read"):
        Gaussian.load(path)
    for absent in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"path: no file .*; expected a saved Gaussian"):
            Gaussian.load(absent)


def test_wrong_arguments_are_named():
    gaussian = dense()
    x_t = noised(gaussian, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(batch, 2, 3\)"):
        gaussian.denoise(x_t.flatten(1), 1.0, 1.0)
    with pytest.raises(ValueError, match="sigma: expected values > 0"):
        gaussian.score(x_t, 1.0, 0.0)
    with pytest.raises(ValueError, match="alpha: expected finite values"):
        gaussian.score(x_t, -1.0, 1.0)
    with pytest.raises(InputError, match="eigenvectors: expected 6 rows"):
        Gaussian(gaussian.mean, torch.eye(5), torch.ones(5))
    with pytest.raises(InputError, match="expected values >= 0"):
        Gaussian.isotropic(gaussian.mean, -1.0)
    with pytest.raises(InputError, match="expected values >= 0"):
        Gaussian(gaussian.mean, torch.eye(6)[:, :1], torch.tensor([float("nan")]))
    with pytest.raises(InputError, match="rank: expected 0"):
        gaussian.truncate(7)
    with pytest.raises(InputError, match="rank: expected at least 0"):
        Gaussian.fit([pixels()], rank=-1)


def test_gaussian_fits_the_contracts():
    gaussian = dense()
    assert isinstance(gaussian, Distribution)
    assert isinstance(gaussian.posterior_covariance(noised(gaussian, 1, 1), 1, 1), PosteriorCovariance)


def test_scalar_events_are_one_dimensional_events():
    scalar, vector = (Gaussian.isotropic(torch.full(event, 0.4), 2.0) for event in ((), (1,)))
    x_t = torch.linspace(-2, 2, 5, dtype=torch.float64)
    assert torch.equal(scalar.denoise(x_t, 0.8, 0.6), vector.denoise(x_t[:, None], 0.8, 0.6)[:, 0])
    assert torch.equal(scalar.log_prob(x_t, 0.8, 0.6), vector.log_prob(x_t[:, None], 0.8, 0.6))
    fitted = Gaussian.fit([x_t])
    assert fitted.event_shape == ()
    assert abs(fitted.trace - float(x_t.var(correction=0))) < 1e-14


# --- Monte Carlo ------------------------------------------------------------------------------------------------------


@every_distribution
def test_samples_have_the_mean_and_covariance_of_the_distribution(distribution, generator):
    gaussian, n = distribution(), 20_000
    e = (gaussian.sample(n, generator=generator) - gaussian.mean).flatten(1)
    truth = covariance(gaussian)
    # 1e-12: in a direction without variance the standard error is zero
    assert bool((e.mean(0).abs() <= 4 * (truth.diagonal() / n).sqrt() + 1e-12).all())
    variance_of_product = truth**2 + torch.outer(truth.diagonal(), truth.diagonal())
    assert bool(((e.T @ e / n - truth).abs() <= 4 * (variance_of_product / n).sqrt() + 1e-12).all())


@every_distribution
@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_mean_square_of_denoiser_score_and_error_are_their_spectral_sums(distribution, sigma, generator):
    gaussian, n = distribution(), 20_000
    values = torch.linalg.eigvalsh(covariance(gaussian)).clamp(min=0)
    x_0 = gaussian.sample(n, generator=generator)
    x_t = x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    D_t = gaussian.denoise(x_t, 1.0, sigma)
    square = float((gaussian.mean**2).sum() + (values**2 / (values + sigma**2)).sum())
    assert monte_carlo((D_t**2).sum((1, 2))).agrees_with(square)
    assert monte_carlo((gaussian.score(x_t, 1.0, sigma) ** 2).sum((1, 2))).agrees_with(
        float((1 / (values + sigma**2)).sum())
    )
    irreducible = float(gaussian.posterior_covariance(x_t[:1], 1.0, sigma).trace())
    assert monte_carlo(((x_0 - D_t) ** 2).sum((1, 2))).agrees_with(irreducible)


@pytest.mark.slow
def test_cifar10_moments_are_the_published_ones(cifar_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    images = load_data("cifar10").train
    gaussian = Gaussian.fit(part.double() / 127.5 - 1 for part in images.split(1000))
    values = gaussian.eigenvalues
    assert gaussian.count == 50_000
    # the published table's |mu|^2; our specification's trace and leading eigenvalues
    assert abs(float((gaussian.mean**2).sum()) - 24.784126) < 1e-4
    assert abs(gaussian.trace - 761.604) < 1e-2
    torch.testing.assert_close(
        values[:5], torch.tensor([221.45, 85.70, 50.98, 28.00, 27.49], dtype=torch.float64), rtol=0, atol=0.006
    )
    for sigma, square in [(1.0, 2947.0), (5.0, 122.3), (20.0, 7.68), (40.0, 1.92)]:
        assert abs(float((1 / (values + sigma**2)).sum()) / square - 1) < 3e-3
    for sigma, square in [(5.0, 417.8), (10.0, 264.0), (20.0, 133.6)]:
        denoised = float((gaussian.mean**2).sum() + (values**2 / (values + sigma**2)).sum())
        assert abs(denoised / square - 1) < 2e-2

"""FLD's generalization gap: the likelihood of a mixture, a stationary fit, and copies against fresh samples."""

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from diffuscope.audit import feature_likelihood
from diffuscope.audit.feature_likelihood import fitted_variances, generalization_gap, log_likelihood


def squares(rows, samples):
    return (rows[:, None] - samples).square().sum(2)


def test_the_likelihood_is_that_of_a_mixture_of_gaussians():
    generator = torch.Generator().manual_seed(0)
    rows, samples = (torch.randn(n, 3, generator=generator).double() for n in (6, 4))
    variance = torch.tensor([0.1, 1.0, 2.0, 0.5]).double()
    densities = [
        norm.logpdf(rows.numpy(), s.numpy(), float(v) ** 0.5).sum(1) for s, v in zip(samples, variance, strict=True)
    ]
    expected = logsumexp(np.stack(densities, 1), axis=1) - np.log(4)
    np.testing.assert_allclose(log_likelihood(squares(rows, samples), variance, 3), expected, rtol=1e-12)


def test_one_sample_far_from_the_mean_of_all_rows_has_their_mean_square_distance_as_variance():
    """Two rows are at distance 1 from the sample. The 200 around an origin that is 100 away are the broad one's."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.full((1, 4), 50.0).double()
    near = sample + torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, -1.0]]).double()
    rows = torch.cat([near, torch.randn(200, 4, generator=generator).double()])
    torch.testing.assert_close(fitted_variances(squares(rows, sample), rows), torch.tensor([1 / 4]).double())


def test_the_fit_is_stationary_in_the_likelihood(monkeypatch):
    monkeypatch.setattr(feature_likelihood, "STEPS", 3000)
    generator = torch.Generator().manual_seed(1)
    rows, samples = (torch.randn(n, 2, generator=generator).double() for n in (40, 5))
    square = squares(rows, samples)
    log_variance = fitted_variances(square, rows).log().requires_grad_()
    broad_square = feature_likelihood.BROAD**2 * (rows - rows.mean(0)).square().sum(1, keepdim=True)

    def likelihood(broad):
        parts = [log_likelihood(square, log_variance.exp(), 2), log_likelihood(broad_square, broad.exp(), 2)]
        return torch.stack(parts, 1).logsumexp(1).mean()

    # the variance of the broad Gaussian at its own optimum, by bisection of its derivative
    low, high = torch.tensor([-5.0]).double(), torch.tensor([5.0]).double()
    for _ in range(80):
        middle = ((low + high) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(likelihood(middle), middle)
        low, high = (middle.detach(), high) if slope > 0 else (low, middle.detach())
    (slope,) = torch.autograd.grad(likelihood(low), log_variance)
    assert float(slope.abs().max()) < 1e-6


def test_copies_with_noise_have_a_negative_gap_beyond_its_null_and_fresh_samples_have_not():
    """Every third sample is a training row with a little noise. The p-value of fresh samples is uniform over draws."""
    rng = np.random.default_rng(0)
    samples, train, heldout = (torch.from_numpy(rng.normal(size=(120, 8))) for _ in range(3))
    fresh = generalization_gap(samples, train, heldout, rng)
    assert (fresh.p_value or 0) > 0.05
    assert fresh.low <= fresh.value <= fresh.high
    assert fresh.null < 0  # the fit is to the training rows
    samples[::3] = train[::3] + 0.05 * torch.from_numpy(rng.normal(size=(40, 8)))
    copied = generalization_gap(samples, train, heldout, rng)
    assert copied.p_value == 0.01
    assert copied.value < copied.low


def test_a_constant_feature_and_identical_rows_do_no_harm():
    rng = np.random.default_rng(0)
    rows = torch.ones(10, 3)
    assert generalization_gap(rows, rows, rows, rng).p_value == 1

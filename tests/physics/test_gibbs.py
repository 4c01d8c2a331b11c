"""Gibbs sampling against closed forms, quadrature and enumeration; Geweke's test of every law; R-hat and ESS."""

import itertools
import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import LinearObservation, at_nodes
from diffuscope.physics.gibbs import gibbs, jumps_given, variances_given
from diffuscope.physics.indicators import log_evidence, sweep
from diffuscope.physics.levy import BernoulliGaussJumps, GaussianJumps, LaplaceJumps, LevyProcess, StudentJumps
from diffuscope.physics.mixing import effective_sample_size, split_r_hat, standard_error

H = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.0, 0.2, 0.3, 0.5], [1.0, 0.0, 0.0, -1.0]], dtype=torch.float64)
LAWS = [GaussianJumps(0.8), LaplaceJumps(0.6), StudentJumps(4.0, 0.8), BernoulliGaussJumps(0.4, 1.5)]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)


def test_gaussian_jumps_give_the_posterior_in_closed_form():
    process, observation = LevyProcess(GaussianJumps(0.8), 4), LinearObservation(H, (4,), 0.5)
    y = torch.tensor([[1.0, -0.5, 2.0], [0.0, 0.3, 0.1]], dtype=torch.float64)
    posterior = gibbs(process, observation, y, sweeps=250, burn_in=0, chains=16)
    C = process.covariance()
    gain = C @ H.T @ torch.linalg.inv(H @ C @ H.T + 0.25 * torch.eye(3))
    covariance = C - gain @ H @ C
    torch.testing.assert_close(posterior.mean, y @ gain.T)
    torch.testing.assert_close(posterior.covariance, covariance.expand(2, 4, 4))
    torch.testing.assert_close(posterior.variance, covariance.diag().expand(2, 4))
    draws = posterior.draws(4000).transpose(0, 1) - posterior.mean[:, None]
    assert draws.shape[1] == 4000
    relative = draws.mT @ draws / 4000 / (covariance.diag()[:, None] * covariance.diag()).sqrt()
    expected = covariance / (covariance.diag()[:, None] * covariance.diag()).sqrt()
    assert float((relative - expected).abs().max()) < 4 * math.sqrt(2 / 4000)
    quantile = posterior.quantiles((0.05, 0.95))
    assert float((quantile[1] - quantile[0] - 3.2897 * covariance.diag().sqrt()).abs().max()) < 0.15


@pytest.mark.parametrize("law", LAWS[1:3], ids=lambda law: type(law).__name__)
def test_two_jumps_agree_with_quadrature(law):
    process, noise, y = LevyProcess(law, 2), 0.5, torch.tensor([1.5])
    observation = LinearObservation(torch.tensor([[0.3, 0.9]]), (2,), noise)
    posterior = gibbs(process, observation, y, sweeps=300, burn_in=50, chains=40, seed=1).require_mixed()

    grid = torch.linspace(-12, 12, 601, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1)
    log_p = process.log_density(x) - 0.5 * ((1.5 - x @ torch.tensor([0.3, 0.9]).double()) / noise) ** 2
    w = log_p.softmax(0)
    mean = w @ x
    variance = w @ (x - mean).square()
    assert float(((posterior.mean[0] - mean) / posterior.mean_error[0]).abs().max()) < 4
    assert float(((posterior.variance[0] - variance) / posterior.variance_error[0]).abs().max()) < 4
    assert float((posterior.mean_error[0] / variance.sqrt()).max()) < 0.05
    tilted = w @ ((x - mean)[:, :1] * (x - mean))
    assert float((posterior.covariance[0, 0] - tilted).abs().max()) < 0.05 * float(variance.max())


def test_spike_and_slab_agrees_with_enumeration_of_its_indicators():
    law, noise, n = BernoulliGaussJumps(0.3, 1.5), 0.4, 4
    y = torch.tensor([[1.2, -0.3, 1.5]], dtype=torch.float64)
    G = H.flip(1).cumsum(1).flip(1)
    Z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    w = log_evidence(Z, y, G, noise, law).softmax(0)
    z = torch.zeros(6000, n, dtype=torch.float64)
    for _ in range(12):
        z = sweep(z, y.expand(6000, -1), G, noise, law, generator=torch.Generator().manual_seed(3 + _))
    code = (z @ torch.tensor([8.0, 4, 2, 1]).double()).long().bincount(minlength=16)
    chi_square = float(((code - 6000 * w).square() / (6000 * w)).sum())
    assert chi_square < 15 + 3 * math.sqrt(30)  # 15 degrees of freedom
    means, covariances = [], []
    L = torch.ones(n, n, dtype=torch.float64).tril()
    for row in Z:
        V = torch.diag(law.scale**2 * row)
        gain = V @ G.T @ torch.linalg.inv(G @ V @ G.T + noise**2 * torch.eye(3))
        means.append(L @ gain @ y[0])
        covariances.append(L @ (V - gain @ G @ V) @ L.T)
    m = torch.stack(means)
    mean = w @ m
    covariance = torch.einsum("k,kij->ij", w, torch.stack(covariances)) + (m - mean).T @ (w[:, None] * (m - mean))
    posterior = gibbs(LevyProcess(law, n), LinearObservation(H, (n,), noise), y, sweeps=100, burn_in=20, chains=60)
    assert float(((posterior.mean[0] - mean) / posterior.mean_error[0]).abs().max()) < 4
    assert float(((posterior.variance[0] - covariance.diag()) / posterior.variance_error[0]).abs().max()) < 4
    assert float((posterior.covariance[0] - covariance).abs().max()) < 0.05 * float(covariance.diag().max())


@each_law
def test_transitions_leave_the_joint_law_of_path_scales_and_data_unchanged(law):
    """Geweke 2004, from 8,000 exact draws of the joint law: the standard errors are those of independent draws."""
    count, noise, g = 8000, 0.5, torch.Generator().manual_seed(7)
    process, G = LevyProcess(law, 4), H.flip(1).cumsum(1).flip(1)

    def data(u: torch.Tensor) -> torch.Tensor:
        return u @ G.T + noise * torch.randn(len(u), 3, dtype=torch.float64, generator=g)

    def statistics(v: torch.Tensor, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        squashed, size = torch.tanh(u), v.log1p()
        pairs = [squashed * squashed.roll(1, 1), size * size.roll(1, 1), size * torch.tanh(u.abs())]
        return torch.cat([squashed, squashed.square(), size, (v > 0.1).double(), *pairs, y.tanh(), y.abs().log1p(),
                          y.tanh() * squashed[:, :3], y.abs().log1p() * size[:, 1:]], 1)  # fmt: skip

    v = law.draw_variances((count, 4), generator=g)
    u = v.sqrt() * torch.randn(v.shape, dtype=torch.float64, generator=g)
    y = data(u)
    marginal = statistics(v, u, y)
    for _ in range(4):
        u = jumps_given(v, y, G, noise, generator=g).draw
        v = variances_given(process, v, u, y, G, noise, generator=g)
        u = jumps_given(v, y, G, noise, generator=g).draw
        y = data(u)
    # a function that does not change (the variance of Gaussian jumps) has no error
    successive = statistics(v, u, y)
    error = ((marginal.var(0) + successive.var(0)) / count).sqrt().clamp(min=1e-12)
    z = (marginal.mean(0) - successive.mean(0)) / error
    assert float(z.abs().max()) < 4


def test_effective_sample_size_of_an_autoregression_is_known():
    g, phi, chains, sweeps = torch.Generator().manual_seed(8), 0.8, 8, 4000
    x = torch.zeros(20, chains, sweeps, dtype=torch.float64)
    x[..., 0] = torch.randn(20, chains, dtype=torch.float64, generator=g) / math.sqrt(1 - phi**2)
    for k in range(1, sweeps):
        x[..., k] = phi * x[..., k - 1] + torch.randn(20, chains, dtype=torch.float64, generator=g)
    expected = chains * sweeps * (1 - phi) / (1 + phi)
    assert float(effective_sample_size(x).mean()) == pytest.approx(expected, rel=0.05)
    assert float((x.mean((-2, -1)) / standard_error(x)).square().mean()) == pytest.approx(1, abs=3 * math.sqrt(2 / 20))
    assert float(split_r_hat(x).max()) < 1.01


def test_r_hat_is_the_ratio_of_total_to_within_variance():
    g = torch.Generator().manual_seed(9)
    noise = torch.randn(2, 4000, dtype=torch.float64, generator=g)
    apart = noise + torch.tensor([[0.0], [2.0]])
    # halves have means 0, 0, 2, 2: variance 4/3 beside 1
    assert float(split_r_hat(apart)) == pytest.approx(math.sqrt(1 + 4 / 3), rel=0.02)
    drift = noise + torch.linspace(0, 4, 4000)  # halves differ where whole chains do not
    assert float(split_r_hat(drift)) > 1.3
    assert float(split_r_hat(torch.ones(2, 100).double())) == 1.0
    assert float(effective_sample_size(noise)) == pytest.approx(8000, rel=0.1)
    assert float(effective_sample_size(apart)) < 20


def test_chains_that_have_not_mixed_are_refused():
    process, observation = LevyProcess(StudentJumps(1.5, 0.3), 16), at_nodes(torch.tensor([7, 15]), (16,), 0.1)
    posterior = gibbs(process, observation, torch.tensor([0.0, 6.0]), sweeps=30, burn_in=0)
    assert not posterior.mixed
    with pytest.raises(InputError, match="cannot tell"):
        posterior.require_mixed()


def test_a_seed_determines_the_chains():
    process, observation = LevyProcess(LaplaceJumps(), 3), at_nodes(torch.tensor([2]), (3,), 0.1)
    runs = [gibbs(process, observation, torch.ones(1), sweeps=4, burn_in=2, seed=seed).x for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation": at_nodes(torch.tensor([0]), (5,), 0.1)}, "fields of shape"),
        ({"y": torch.ones(2)}, "values per problem"),
        ({"chains": 1}, "chains"),
        ({"observation": at_nodes(torch.tensor([0]), (3,)), "process": LevyProcess(BernoulliGaussJumps(), 3)}, "noise"),
    ],
)
def test_problems_that_do_not_fit_are_input_errors(change, message: str):
    given = {"process": LevyProcess(LaplaceJumps(), 3), "observation": at_nodes(torch.tensor([0]), (3,), 0.1),
             "y": torch.ones(1), **change}  # fmt: skip
    with pytest.raises(InputError, match=message):
        gibbs(**given)

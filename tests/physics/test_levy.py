"""Jump laws against SciPy's distributions, their conditional laws of the variance, and the process they add up to."""

import math

import pytest
import torch
from scipy import integrate, stats

from diffuscope.errors import InputError
from diffuscope.physics.levy import (
    BernoulliGaussJumps,
    GaussianJumps,
    JumpLaw,
    LaplaceJumps,
    LevyProcess,
    StudentJumps,
    reciprocal_inverse_gaussian,
)

LAWS = {
    "gaussian": (GaussianJumps(1.3), stats.norm(scale=1.3), 1.0),
    "laplace": (LaplaceJumps(0.6), stats.laplace(scale=0.6), 1.0),
    "student": (StudentJumps(2.5, 0.8), stats.t(2.5, scale=0.8), 1.0),
    "bernoulli-gauss": (BernoulliGaussJumps(0.2, 1.7), stats.norm(scale=1.7), 0.2),
}
laws = pytest.mark.parametrize(("law", "reference", "mass"), LAWS.values(), ids=LAWS.keys())


@laws
def test_density_distribution_function_and_tail_are_those_of_the_named_law(law: JumpLaw, reference, mass: float):
    u = torch.linspace(-5, 5, 41, dtype=torch.float64)
    torch.testing.assert_close(law.density(u), mass * torch.from_numpy(reference.pdf(u.numpy())), rtol=1e-12, atol=0)
    torch.testing.assert_close(law.cdf(u), mass * torch.from_numpy(reference.cdf(u.numpy())), rtol=1e-10, atol=0)
    assert law.atom == pytest.approx(1 - mass)
    assert 2 * mass * reference.sf(law.tail(1e-3)) == pytest.approx(1e-3, rel=1e-9)
    assert law.variance == pytest.approx(mass * reference.var())


@laws
def test_a_scale_mixture_has_the_law_it_is_named_after(law: JumpLaw, reference, mass: float):
    u = LevyProcess(law, 1).draw(20_000, generator=torch.Generator().manual_seed(1))[:, 0]
    moved = u[u != 0]
    assert stats.kstest(moved.numpy(), reference.cdf).pvalue > 0.01
    assert abs(len(moved) / len(u) - mass) <= 3 * math.sqrt(mass * (1 - mass) / len(u))


@pytest.mark.parametrize("law", [law for law, _, _ in LAWS.values()], ids=LAWS.keys())
def test_variances_given_the_jumps_leave_the_joint_law_of_both_unchanged(law: JumpLaw):
    g = torch.Generator().manual_seed(2)
    v = law.draw_variances((20_000,), generator=g)
    u = v.sqrt() * torch.randn(v.shape, dtype=torch.float64, generator=g)
    again = law.variances_given(u, generator=g)
    assert float(stats.ks_2samp(v.numpy(), again.numpy())[1]) > 0.01  # pyright: ignore
    for small in (u.abs() < u.abs().median(), u.abs() >= u.abs().median()):  # the pair, not the marginal alone
        if small.any():
            assert float(stats.ks_2samp(v[small].numpy(), again[small].numpy())[1]) > 0.01  # pyright: ignore


@pytest.mark.parametrize("c", [1e-3, 0.4, 30.0])
def test_the_reciprocal_of_an_inverse_gaussian_is_exact(c: float):
    d = 0.7
    v = reciprocal_inverse_gaussian(torch.full((20_000,), c).double(), d, generator=torch.Generator().manual_seed(3))
    # SciPy's invgauss(mu, scale) has mean mu * scale and shape `scale`
    assert stats.kstest((1 / v).numpy(), stats.invgauss(d / c, scale=1 / d).cdf).pvalue > 0.01


def test_variances_given_a_jump_of_zero_are_finite_and_chi_square():
    v = reciprocal_inverse_gaussian(torch.zeros(20_000).double(), 0.7, generator=torch.Generator().manual_seed(4))
    assert stats.kstest((v / 0.7).numpy(), stats.chi2(1).cdf).pvalue > 0.01
    tiny = reciprocal_inverse_gaussian(torch.full((1000,), 1e-200).double(), 0.7, generator=torch.Generator())
    assert bool(tiny.isfinite().all())


def test_student_variances_given_a_jump_are_inverse_gamma():
    law, u = StudentJumps(3.0, 0.5), 1.2
    v = law.variances_given(torch.full((20_000,), u).double(), generator=torch.Generator().manual_seed(5))
    assert stats.kstest(v.numpy(), stats.invgamma(2.0, scale=(3 * 0.25 + u**2) / 2).cdf).pvalue > 0.01


def test_log_density_of_a_path_is_the_sum_over_its_jumps():
    process = LevyProcess(LaplaceJumps(0.6), 3)
    x = torch.tensor([[0.5, 0.2, 2.0]], dtype=torch.float64)
    expected = stats.laplace.logpdf([0.5, -0.3, 1.8], scale=0.6).sum()
    assert float(process.log_density(x)) == pytest.approx(expected)
    resting = LevyProcess(BernoulliGaussJumps(0.2, 1.7), 3)
    expected = 2 * math.log(0.2) + stats.norm.logpdf([0.5, 1.8], scale=1.7).sum() + math.log(0.8)
    assert float(resting.log_density(torch.tensor([[0.5, 0.5, 2.3]]).double())) == pytest.approx(expected)


def test_the_density_of_a_path_of_one_jump_integrates_to_one():
    process = LevyProcess(StudentJumps(3.0, 0.5), 1)
    total, _ = integrate.quad(lambda u: float(process.log_density(torch.tensor([[u]])).exp()), -400, 400, points=[0])
    assert total == pytest.approx(1, abs=1e-6)


def test_the_covariance_of_a_process_is_that_of_its_draws():
    process = LevyProcess(LaplaceJumps(0.6), 4)
    x = process.draw(40_000, generator=torch.Generator().manual_seed(6))
    L = torch.ones(4, 4, dtype=torch.float64).tril()
    torch.testing.assert_close(process.covariance(), 0.72 * L @ L.T)
    torch.testing.assert_close(process.jumps(x), torch.linalg.solve(L, x.T).T)
    off = (x.T @ x / len(x) - process.covariance()) / process.covariance().diag().amax()
    assert float(off.abs().max()) < 4 * math.sqrt(3 / len(x))  # Laplace: fourth moment at most 6 variances squared


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianJumps(0.0), "scale"),
        (lambda: LaplaceJumps(-1.0), "scale"),
        (lambda: StudentJumps(0.0), "dof"),
        (lambda: BernoulliGaussJumps(1.0), "rate"),
        (lambda: LevyProcess(GaussianJumps(), 0), "length"),
        (lambda: LevyProcess(StudentJumps(2.0)).covariance(), "finite variance"),
    ],
)
def test_impossible_laws_are_input_errors(make, message: str):
    with pytest.raises(InputError, match=message):
        make()

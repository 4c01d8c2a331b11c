"""The closure report: cumulants and total variation of known distributions, and verdicts that are not given lightly."""

import math

import pytest
import torch
from scipy.stats import kurtosis as scipy_kurtosis
from scipy.stats import skew

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from diffuscope.theory.variance import (
    Affine,
    FieldRuns,
    LinearEnsemble,
    closure_report,
    matched_gaussian,
    run_fields,
)
from diffuscope.theory.variance.closure import cumulants, distance, shares
from numbers_in_tests import seeded


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


def exponential(*shape: int, seed: int = 0) -> torch.Tensor:
    return -torch.rand(shape, dtype=torch.float64, generator=seeded(seed)).log()


def runs(denoised: torch.Tensor, samples: torch.Tensor) -> FieldRuns:
    return FieldRuns(denoised, samples[..., None])


def test_skewness_and_kurtosis_of_known_distributions():
    """Exponential: 2 and 6. Uniform: 0 and -1.2. 4,000 draws; the bootstrap's interval has its own error."""
    n = 4000
    uniform = torch.rand(n, 1, dtype=torch.float64, generator=seeded(1))
    values = torch.cat([exponential(n, 1), uniform, torch.ones(n, 1).double()], 1)
    skewness, kurtosis = cumulants(values, generator=seeded(2))
    assert len(skewness.values) == 2  # the constant is left out
    for cumulant, expected in ((skewness, (2.0, 0.0)), (kurtosis, (6.0, -1.2))):
        error = (cumulant.high - cumulant.low) / 4
        assert bool((error > 0).all())
        assert float(((cumulant.values - torch.tensor(expected)) / error).abs().max()) < 4


def test_the_kurtosis_of_a_few_normal_runs_is_zero_on_average():
    """Fisher's estimate is unbiased: at 10 runs the plain one would be at -6/11."""
    values = normal(10, 2000)
    _, kurtosis = cumulants(values, generator=seeded())
    assert abs(float(kurtosis.values.mean())) < 4 * float(kurtosis.values.std()) / math.sqrt(2000)


def test_skewness_and_kurtosis_of_a_few_runs_are_fishers():
    values = exponential(7, 5)
    skewness, kurtosis = cumulants(values, generator=seeded())
    assert skewness.values.tolist() == pytest.approx(skew(values.numpy(), bias=False).tolist(), rel=1e-10)
    assert kurtosis.values.tolist() == pytest.approx(scipy_kurtosis(values.numpy(), bias=False).tolist(), rel=1e-10)


def test_the_error_of_a_difference_of_two_shares_is_that_of_two_means():
    """Of two cells T = |mean h - mean g|, where the jackknife is exact; a split has the same variance, on average."""
    h, g = (torch.rand(n, 1, dtype=torch.float64, generator=seeded(n)) for n in (40, 60))
    h = h / 4
    found = distance(*(torch.cat([rows, 1 - rows], 1) for rows in (h, g)), generator=seeded())
    error = math.sqrt(float(h.var()) / 40 + float(g.var()) / 60)
    assert found.plug_in_error == pytest.approx(error, rel=1e-9)
    assert found.witness_error == pytest.approx(error, rel=0.05)


def test_a_kurtosis_that_may_be_large_cannot_be_judged_even_if_samples_agree():
    """Logistic fields, of excess kurtosis 1.2, at one point: 400 runs do not tell it from 1."""
    u = torch.rand(400, 1, dtype=torch.float64, generator=seeded(5))
    samples = normal(400, 200, seed=4)
    report = closure_report(runs(u.logit(), samples), runs(normal(400, 1), samples), generator=seeded())
    assert report.distance.at_most < report.tolerance
    assert report.kurtosis.median_low < 1 < report.kurtosis.median_high
    assert report.verdict == "cannot tell"


def test_total_variation_of_two_normals_lies_between_witness_and_plug_in():
    """TV(N(0, 1), N(m, 1)) = 2 Phi(m / 2) - 1; 100 runs of 100 draws, three standard errors on each side."""
    m = 0.5
    exact = 2 * float(torch.special.ndtr(torch.tensor(m / 2))) - 1
    edges = torch.linspace(-3, 3.5, 53, dtype=torch.float64)
    h, g = (shares(normal(100, 100, seed=seed) + shift, edges) for seed, shift in ((0, 0.0), (1, m)))
    found = distance(h, g, generator=seeded())
    assert found.witness - 3 * found.witness_error < exact < found.plug_in + 3 * found.plug_in_error
    assert found.at_most - found.at_least < 0.1


def test_bounds_on_total_variation_cover_it_although_samples_of_a_run_are_alike():
    """Every run has a share of its own in the left of two cells: TV is the difference of the mean shares.

    120 repetitions. One-sided bounds at 95% miss 6 times; more than 16 has a probability below 1e-4.
    """
    missed = {True: [0, 0], False: [0, 0]}
    for differ in missed:
        exact = 0.1 if differ else 0.0
        for repetition in range(120):
            g = seeded(1000 * differ + repetition)
            left = torch.rand(2, 60, 1, dtype=torch.float64, generator=g) * 0.8
            left[1] += exact
            found = distance(
                *(torch.cat([rows, 1 - rows], 1) for rows in left),
                generator=g,
            )
            missed[differ][0] += found.at_least > exact
            missed[differ][1] += found.at_most < exact
    assert max(missed[True] + missed[False]) <= 16


def test_equal_distributions_hold_with_many_runs_and_cannot_be_judged_with_few():
    def report(count: int):
        one, other = (runs(normal(count, 3, seed=k), normal(count, 200, seed=k + 10)) for k in (0, 1))
        return closure_report(one, other, samples_per_feature=16.0, generator=seeded())

    many = report(400)
    assert many.verdict == "holds"
    assert "holds at P/F = 16" in many.statement
    assert many.distance.at_least == pytest.approx(0, abs=0.02)
    assert many.distance.plug_in == pytest.approx(many.distance.null / math.sqrt(2), rel=0.2)
    assert report(10).verdict == "cannot tell"


def test_heavy_tails_of_the_fields_fail_the_closure_even_if_samples_agree():
    heavy = exponential(400, 5) * normal(400, 5, seed=3)  # Laplace-like: excess kurtosis 9
    samples = normal(400, 200, seed=4)
    report = closure_report(runs(heavy, samples), runs(normal(400, 5), samples), generator=seeded())
    assert report.verdict == "fails"
    assert report.kurtosis.median > 2


def test_two_kinds_of_fields_fail_the_closure_even_if_samples_agree():
    """Every field answers -1 or 1, with a little noise: excess kurtosis -2 + O(0.1)."""
    two = torch.sign(normal(400, 5)) + 0.1 * normal(400, 5, seed=3)
    samples = normal(400, 200, seed=4)
    report = closure_report(runs(two, samples), runs(normal(400, 5), samples), generator=seeded())
    assert report.verdict == "fails"
    assert report.kurtosis.median == pytest.approx(-2, abs=0.1)


def test_other_samples_fail_the_closure_even_if_the_fields_are_gaussian():
    """Two modes against one normal of the same variance, in the second of two coordinates."""
    fields = normal(100, 5)
    signs = torch.sign(normal(100, 300, seed=5))
    bimodal = torch.stack([normal(100, 300, seed=6), 0.95 * signs + math.sqrt(1 - 0.95**2) * normal(100, 300)], 2)
    gaussian = torch.stack([normal(100, 300, seed=k) for k in (7, 8)], 2)
    report = closure_report(FieldRuns(fields, bimodal), FieldRuns(fields, gaussian), generator=seeded())
    assert report.verdict == "fails"
    assert report.distances[0].at_least < 0.05 < 0.3 < report.distances[1].at_least
    along = closure_report(
        FieldRuns(fields, bimodal),
        FieldRuns(fields, gaussian),
        directions=torch.tensor([[1.0, 0.0]]),
        generator=seeded(),
    )
    assert along.distance.at_least < 0.05


def test_matched_gaussian_fields_have_the_ensembles_mean_and_covariance_and_no_fourth_cumulant():
    R, n = 5, 4000
    ensemble = LinearEnsemble(Affine(2), VE(), exponential(R, 2, 3))
    drawn = matched_gaussian(ensemble, n, generator=seeded(1)).weights.flatten(1)
    rows = ensemble.weights.flatten(1)
    sizes = rows.std(0)
    assert float(((drawn.mean(0) - rows.mean(0)) / sizes).abs().max()) < 4 / math.sqrt(n)
    difference = (torch.cov(drawn.mT) - torch.cov(rows.mT)) / (sizes[:, None] * sizes)
    assert float(difference.abs().max()) < 4 * math.sqrt(2 / n)
    _, kurtosis = cumulants(drawn, generator=seeded(2))
    assert float(kurtosis.values.abs().max()) < 4 * math.sqrt(24 / n)


def test_runs_of_an_exact_score_give_the_exact_denoiser_and_samples_of_the_data():
    """N(1, v) under VP: the ODE is linear; 40,000 samples, four standard errors, and Euler's error of 1/steps."""
    v, schedule = 0.25, VP(0.2, 39.8)
    data = Gaussian.isotropic(torch.ones(1, dtype=torch.float64), v)

    def exact(x: torch.Tensor, t) -> torch.Tensor:
        return data.score(x.flatten(0, 1), float(schedule.alpha(t)), float(schedule.sigma(t))).reshape(x.shape)

    x, t = torch.tensor([[0.3], [2.0]], dtype=torch.float64), 0.2
    times = torch.linspace(1, 1e-3, 401, dtype=torch.float64)
    found = run_fields(exact, 4, schedule, times, trajectories=10_000, probes=[(x, t)], generator=seeded())
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    expected = 1 + alpha * v / (alpha**2 * v + sigma**2) * (x[:, 0] - alpha)
    assert torch.allclose(found.denoised, expected.expand(4, 2), atol=1e-12)
    mean, deviation = found.samples.mean(), found.samples.std()
    assert abs(float(mean) - 1) < 4 * math.sqrt(v / 40_000) + 2 / 400
    assert abs(float(deviation) - math.sqrt(v)) < 4 * math.sqrt(v / 80_000) + 2 / 400


def test_trajectories_start_with_the_noise_of_the_first_time():
    """A field of score 0 moves nothing under VE: 40,000 draws of N(0, 3^2), within four standard errors."""
    fields, times = (lambda x, t: 0 * x), torch.tensor([3.0, 1.0], dtype=torch.float64)  # noqa: ARG005
    probes = [(torch.zeros(1, 1, dtype=torch.float64), 1.0)]
    found = run_fields(fields, 4, VE(), times, trajectories=10_000, probes=probes, generator=seeded())
    assert float(found.samples.std()) == pytest.approx(3, rel=4 / math.sqrt(2 * 40_000))


OK = runs(normal(30, 2), normal(30, 20))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: runs(normal(3, 2) * math.nan, normal(3, 2)), "denoised"),
        (lambda: runs(normal(3, 2), normal(4, 2)), "samples"),
        (lambda: closure_report(runs(normal(3, 2), normal(3, 2)), OK, generator=seeded()), "trained, gaussian"),
        (lambda: closure_report(OK, OK, tolerance=0, generator=seeded()), "tolerance"),
        (lambda: closure_report(OK, OK, tolerance=math.nan, generator=seeded()), "tolerance"),
        (lambda: closure_report(OK, OK, directions=torch.ones(1, 2), generator=seeded()), "directions"),
        (lambda: closure_report(OK, OK, edges=torch.tensor([1.0, 0.0]), generator=seeded()), "edges"),
        (lambda: closure_report(OK, FieldRuns(normal(30, 2), normal(30, 9, 2)), generator=seeded()), "gaussian"),
        (lambda: cumulants(normal(3, 2), generator=seeded()), "values"),
        (lambda: cumulants(torch.ones(9, 2).double(), generator=seeded()), "values"),
        (
            lambda: matched_gaussian(LinearEnsemble(Affine(1), VE(), normal(1, 1, 2)), 3, generator=seeded()),
            "models of",
        ),
        (
            lambda: run_fields(
                lambda x, t: -t * x, 1, VE(), torch.tensor([2.0, 1.0]), trajectories=5, probes=[], generator=seeded()
            ),
            "probes: expected at least 1, got 0",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()

"""The grading of posterior samplers: right ones pass, planted faults are found."""

import pytest
import scipy
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import GaussianGuide, at_nodes, log_likelihood, posterior
from diffuscope.physics.conditioning import DPS
from diffuscope.physics.finite_prior import PointSet
from diffuscope.physics.grading import METHODS, Case, Entry, Grader, Score, Settings, grade, pooled, resampled
from diffuscope.physics.grading import gaussian as grading_gaussian
from diffuscope.physics.grading import run as grading_run
from diffuscope.physics.grading.finite_set import DarcySet, finite_case
from diffuscope.physics.grading.gaussian import gaussian_case, moment_matched
from diffuscope.physics.grading.metrics import multinomial_test
from diffuscope.samplers import DDPM, generate
from diffuscope.schedules import VE, VP


@pytest.fixture(autouse=True)
def few_reference_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 in place of 4,096, with the exact mean and covariance too; scores are compared with those of exact draws."""
    monkeypatch.setattr(grading_gaussian, "REFERENCE", 512)


def scalar_case(y: float = 1.0) -> Case:
    """Prior N(0, 1), noise 0.3: posterior N(0.917, 0.0826)."""
    prior = Gaussian(torch.zeros(1), torch.ones(1, 1), torch.ones(1))
    return gaussian_case("scalar", prior, at_nodes(torch.tensor([0]), (1,), 0.3), torch.tensor([y]))


def plane_case() -> Case:
    prior = Gaussian.from_covariance(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([[2.0, 1, 0], [1, 2, 1], [0, 1, 1]]))
    return gaussian_case("plane", prior, at_nodes(torch.tensor([0]), (3,), 0.5), torch.tensor([2.0]))


@pytest.fixture(scope="module")
def darcy() -> DarcySet:
    return DarcySet.generated(16, 1000, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def darcy_case(darcy: DarcySet) -> Case:
    shape, nodes = tuple(darcy.points.shape[1:]), torch.tensor([50, 120, 200])
    return finite_case("darcy-0", PointSet(darcy.points), at_nodes(256 + nodes, shape, 0.7))


def p_values(grader: Grader, exact: dict[str, Score], draws: Tensor) -> dict[str, float]:
    return {name: pooled([score]).p_value for name, score in grader.grade(draws, exact).items()}


def test_reference_points_have_the_mean_and_covariance_of_the_posterior():
    exact = posterior(Gaussian.from_covariance(torch.ones(2), torch.tensor([[2.0, 1], [1, 2]])),
                      at_nodes(torch.tensor([0]), (2,), 0.5), torch.tensor([2.0]))  # fmt: skip
    assert isinstance(exact, Gaussian)
    x = moment_matched(exact, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), exact.mean, rtol=0, atol=1e-13)
    covariance = exact.eigenvectors @ exact.eigenvalues.diag() @ exact.eigenvectors.T
    torch.testing.assert_close((x - exact.mean).T @ (x - exact.mean) / 64, covariance, rtol=0, atol=1e-13)


def test_scores_of_hand_made_draws_are_the_formulas():
    """Prior N(0, 1), y = 1, r = 0.3: m = 1/1.09, v = 0.09/1.09."""
    grader, draws = Grader(scalar_case()), torch.tensor([[0.5], [1.5], [1.3]], dtype=torch.float64)
    m, v = 1 / 1.09, 0.09 / 1.09
    found = grader.values(draws)
    assert found["mean"] == pytest.approx(3 * (1.1 - m) ** 2 / v, rel=1e-9)
    assert found["spread"] == pytest.approx(0.28 / v, rel=1e-9)
    assert found["covariance"] == pytest.approx((0.28 / v - 1) ** 2, rel=1e-9)
    misfit = v + (m - 1) ** 2  # of the posterior; draws are at -0.5, 0.5, 0.3 from y
    assert found["misfit"] == pytest.approx((0.25 + 0.25 + 0.09) / 3 / misfit, rel=1e-9)
    assert found["crps"] == pytest.approx(found["energy"], rel=1e-6)  # one number


def test_a_chi_square_and_a_normal_score_have_their_p_values():
    chi = [Score(name="a", value=v, expected=4.0, error=8**0.5, sides="upper") for v in (9.0, 12.0)]
    assert pooled(chi).p_value == pytest.approx(scipy.stats.chi2.sf(21, 8))
    both = [Score(name="a", value=v, expected=1000.0, error=1.0, sides="both") for v in (997.0, 1003.0, 1002.0)]
    assert pooled(both).p_value == pytest.approx(2 * scipy.stats.norm.sf(2 / 3**0.5), rel=0.01)
    assert pooled(both).error == pytest.approx(3**0.5 / 3)
    below = [Score(name="a", value=990.0, expected=1000.0, error=1.0, sides="both")]
    assert pooled(below).p_value < 1e-20


def test_a_score_above_that_of_exact_draws_is_positive_in_their_deviations():
    assert Score(name="a", value=9.0, expected=4.0, error=2.0, sides="upper").z == 2.5
    assert Score(name="a", value=1.0, expected=4.0, error=2.0, sides="both").z == -1.5


def test_the_set_of_points_denoises_as_the_finite_data_set_does(darcy: DarcySet):
    points, generator = darcy.points[:50].double(), torch.Generator().manual_seed(0)
    weights = torch.rand(50, generator=generator, dtype=torch.float64)
    weights[3] = 0
    fast, sure = PointSet(points, weights), Empirical(points, weights)
    x = points[:4] + 2 * torch.randn(4, 2, 16, 16, generator=generator, dtype=torch.float64)
    for alpha, sigma in ((1.0, 5.0), (0.5, 1.0), (1.0, 0.01)):
        torch.testing.assert_close(fast.denoise(x, alpha, sigma), sure.denoise(x, alpha, sigma), rtol=0, atol=1e-9)
        a, b = fast.posterior_covariance(x, alpha, sigma), sure.posterior_covariance(x, alpha, sigma)
        torch.testing.assert_close(a.matvec(x), b.matvec(x), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(a.trace(), b.trace(), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(a.diagonal(), b.diagonal(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_denoiser_passes_the_multinomial_test_over_a_thousand_darcy_fields(seed: int, darcy_case: Case):
    """p > 0.01, with cells pooled to an expected 5."""
    method = METHODS["exact-denoiser"].method
    assert method is not None
    found = method(darcy_case.denoiser, darcy_case.observation, darcy_case.y, 256, seed=seed, steps=40)
    assert isinstance(found, Tensor)
    counts = Grader(darcy_case).counts(found)
    assert int(counts[-1]) == 0
    test = multinomial_test(counts, torch.cat([darcy_case.masses, torch.zeros(1).double()]))
    assert test.degrees > 5
    assert test.p_value > 0.01


def test_a_draw_between_two_points_is_none_of_them(darcy_case: Case):
    x = darcy_case.reference
    counts = Grader(darcy_case).counts(torch.stack([x[0], x[5], x[5] + 1e-3, (x[1] + x[2]) / 2]))
    assert (int(counts[0]), int(counts[5]), int(counts[-1])) == (1, 2, 1)


def test_draws_that_are_points_up_to_rounding_score_as_the_points(darcy_case: Case):
    """Intervals end at draws: moved inward by 1e-6, they would lose the very points that they end at."""
    grader = Grader(darcy_case)
    exact = grader.exact(128, 30)
    draws = darcy_case.exact(128, torch.Generator().manual_seed(1))
    moved = draws + 1e-6 * torch.randn(draws.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert grader.grade(moved, exact) == grader.grade(draws, exact)
    assert grader.values(moved)["coverage"] < grader.values(draws)["coverage"] - 1e-3


@pytest.mark.parametrize("made", ["plane", "darcy"])
def test_exact_draws_pass_and_planted_faults_are_found(made: str, darcy_case: Case):
    """Exact draws: every p-value above 1e-4 in 10 sets. Likelihood squared, or variance doubled: found in all."""
    case = darcy_case if made == "darcy" else plane_case()
    grader = Grader(case)
    exact = grader.exact(128, 60)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        assert min(p_values(grader, exact, case.exact(128, generator)).values()) > 1e-4
        found = p_values(grader, exact, grading_run.planted(case, 1.0, 128, generator))
        assert min(found.values()) < 1e-4


def test_faults_are_found_by_the_scores_that_are_meant_for_them():
    case, generator = plane_case(), torch.Generator().manual_seed(0)
    grader = Grader(case)
    exact = grader.exact(128, 60)
    draws = case.exact(128, generator)
    mean = grader.mean
    shifted = p_values(grader, exact, draws + 0.5 * (draws - mean).std(0))
    assert shifted["mean"] < 1e-6 < shifted["spread"]
    narrow = p_values(grader, exact, mean + 0.6 * (draws - mean))
    assert max(narrow["spread"], narrow["coverage"], narrow["energy"]) < 1e-4 < narrow["mean"]
    turned = mean + (draws - mean) * torch.tensor([1.0, 1.0, -1.0])  # the correlation of the last number reversed
    assert p_values(grader, exact, turned)["covariance"] < 1e-6


def test_dps_is_wrong_and_the_gaussian_guide_is_right():
    """The example of `DPS`: variance 0.045 where the posterior has 0.0826, by the reverse SDE."""
    case = scalar_case()
    denoiser = ExactDenoiser(case.denoiser.distribution, VE())  # pyright: ignore
    grader = Grader(case)
    exact = grader.exact(512, 60)
    dps = generate(DPS(denoiser, case.observation, case.y), 512, sampler=DDPM(), steps=200, seed=0)
    guide = generate(GaussianGuide(denoiser, case.observation, case.y), 512, steps=50, seed=0)  # pyright: ignore
    assert grader.grade(dps, exact)["spread"].value == pytest.approx(0.045 / 0.0826, abs=0.12)  # 4 standard errors
    assert min(p_values(grader, exact, dps).values()) < 1e-9
    assert min(p_values(grader, exact, guide).values()) > 1e-4


def test_the_settings_of_a_family_are_its_share():
    assert Settings().within("gaussian") == Settings(problems=8, steps=50)
    assert Settings().within("levy") == Settings(problems=2, steps=25)
    assert Settings(problems=1, steps=2).within("levy") == Settings(problems=1, steps=2)


def of_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    case = plane_case()
    monkeypatch.setitem(grading_run.FAMILIES, "plane", lambda problems, seed: [case] * problems)  # noqa: ARG005


def narrow(denoiser, observation, y, n, *, seed, steps):
    del steps
    exact = posterior(denoiser.distribution, observation, y)
    draws = exact.sample(n, generator=torch.Generator().manual_seed(seed))
    return exact.mean + 0.8 * (draws - exact.mean)


def test_rows_say_right_wrong_or_why_not(monkeypatch: pytest.MonkeyPatch):
    of_plane(monkeypatch)

    def broken(*_: object, **__: object) -> Tensor:
        raise ZeroDivisionError("no luck")

    def infinite(denoiser, observation, y, n, **_):  # noqa: ARG001
        return torch.full((n, 3), torch.nan)

    def misshapen(denoiser, observation, y, n, **_):  # noqa: ARG001
        return torch.zeros(n, 2)

    def weighted(denoiser, observation, y, n, *, seed, steps):
        del steps  # importance sampling from the prior
        x = denoiser.distribution.sample(200 * n, generator=torch.Generator().manual_seed(seed))
        return x, log_likelihood(observation, x, y)

    def weightless(denoiser, observation, y, n, *, seed, steps):  # noqa: ARG001
        return denoiser.distribution.sample(n, generator=torch.Generator().manual_seed(seed)), torch.zeros(n, 1)

    def careless(denoiser, observation, y, n, *, seed, steps):
        del steps
        draws = posterior(denoiser.distribution, observation, y).sample(
            n, generator=torch.Generator().manual_seed(seed)
        )
        y.zero_()  # of no consequence for the problems of others
        return draws.requires_grad_()

    methods = (narrow, broken, infinite, misshapen, careless, weighted, weightless)
    entries = [*(Entry(f.__name__, f.__name__, f) for f in methods), METHODS["exact"]]  # pyright: ignore
    rows = {row.method: row for row in grade(entries, ["plane"], Settings(problems=8, draws=256))}
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == {
        "exact": "right", "narrow": "wrong", "broken": "cannot tell", "infinite": "wrong", "misshapen": "cannot tell",
        "careless": "right", "weighted": "right", "weightless": "cannot tell",
    }  # fmt: skip
    assert rows["broken"].reason == "ZeroDivisionError: no luck"
    assert "finite" in rows["infinite"].reason
    assert "(256, 3)" in rows["misshapen"].reason
    assert "one log weight per draw" in rows["weightless"].reason
    assert rows["narrow"].scores["spread"].value == pytest.approx(0.64, abs=0.1)


def test_too_few_draws_cannot_tell(monkeypatch: pytest.MonkeyPatch):
    of_plane(monkeypatch)
    (row,) = grade([METHODS["exact"]], ["plane"], Settings(problems=1, draws=8))
    assert row.verdict == "cannot tell"


def test_what_is_kept_is_not_done_again_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path):
    of_plane(monkeypatch)
    calls = []

    def counted(denoiser, observation, y, n, *, seed, steps):
        calls.append(seed)
        return narrow(denoiser, observation, y, n, seed=seed, steps=steps)

    entry, settings = Entry("counted", "counted", counted), Settings(problems=2, draws=32)
    first = grade([entry], ["plane"], settings, folder=tmp_path)
    assert len(calls) == len(set(calls)) == 2  # every problem has a seed of its own
    assert grade([entry], ["plane"], settings, folder=tmp_path) == first
    assert len(calls) == 2
    fresh = grade([entry], ["plane"], settings)
    assert fresh[0].scores == first[0].scores
    grade([entry], ["plane"], Settings(problems=2, draws=33), folder=tmp_path)
    assert len(calls) == 6


def test_cases_and_draws_that_do_not_fit_are_refused():
    case = scalar_case()
    fields = {"name": "a", "family": "a", "denoiser": case.denoiser, "observation": case.observation, "y": case.y,
              "exact": case.exact}  # fmt: skip
    with pytest.raises(InputError, match="reference"):
        Case(**fields, reference=torch.zeros(3, 2))
    with pytest.raises(InputError, match="weights"):
        Case(**fields, reference=torch.zeros(3, 1), weights=torch.zeros(3))
    with pytest.raises(InputError, match="draws: expected \\(n"):
        Grader(case).values(torch.zeros(5, 2))
    with pytest.raises(InputError, match="finite"):
        Grader(case).values(torch.full((5, 1), torch.nan))
    with pytest.raises(InputError, match="cases"):
        grade([METHODS["exact"]], ["nothing"], Settings())
    with pytest.raises(InputError, match="entries: expected at least one method, got none"):
        grade([], ["gaussian"], Settings())


def test_the_schedule_and_weights_of_a_case_are_those_given():
    case = scalar_case()
    assert isinstance(case.denoiser.schedule, VP)
    drawn = resampled(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 3.0]))(4000, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(1.75, abs=4 * 0.433 / 4000**0.5)

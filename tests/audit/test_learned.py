"""What a model learned: exact models are recognized for what they are."""

import dataclasses

import numpy as np
import pytest
import torch

from audit_subjects import QUICK, digits, exact_subject, measured
from diffuscope.audit.level_measures import measure_level
from diffuscope.audit.questions.learned import findings
from diffuscope.audit.references import band_names, component_bands, fit_references
from diffuscope.audit.subject import Subject
from diffuscope.audit.unexplained_variance import LARGEST, best_ranges, explained, explained_range
from diffuscope.denoisers import NoisePredictor
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, DiscreteVP


@pytest.fixture(scope="module")
def setting():
    x = digits()
    train, heldout = x[:500], x[500:900]
    references = fit_references(train, heldout, 4, torch.Generator().manual_seed(0))
    return train, heldout, references


@pytest.fixture(scope="module")
def result(setting):
    """What the exact denoiser of the Gaussian learned."""
    return result_for(setting[2].gaussian, setting)


def result_for(distribution, setting):
    train, heldout, references = setting
    subject = exact_subject(distribution, train, heldout)
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    states = train[200:240] + 0.5 * noise[:40]
    measures = measured(subject, references, QUICK.levels, train[:200], heldout[:200], noise, states)
    return explained(measures, np.random.default_rng(0))


def test_the_gaussian_denoiser_is_explained_by_the_gaussian_and_by_nothing_else(result):
    column = result.models.index("Gaussian")
    for name in ("training", "heldout", "trajectory"):
        # float32 answers against float32 answers of the same distribution: the same bits
        assert result.unexplained[name].value[:, column].max() == 0
        assert result.unexplained_score[name].value[:, column].max() == 0
        assert np.abs(result.cosine[name].value[:, column] - 1).max() < 1e-6
    others = [c for c in range(len(result.models)) if c != column]
    assert (result.sharp.value[:, others] > 1e-5).all()
    assert set(result.best) == {column}
    assert [run[0] for run in best_ranges(result)] == ["Gaussian"]
    assert np.allclose(result.gaussian_range[0], [result.ratios[-1], result.ratios[0]])


def test_the_memorizer_is_recognized_at_heldout_points(setting):
    result = result_for(setting[2].train, setting)
    assert {result.models[i] for i in result.best} == {"empirical"}
    # at low noise it is far from every smooth model: the score tells, although the denoiser cannot
    low = len(result.ratios) - 1
    assert result.sharp.value[low, result.models.index("Gaussian")] > 0.5


def test_unexplained_fraction_of_a_scaled_answer_is_the_square_of_the_missing_share(setting):
    """D = mu + (D_G - mu)/2 leaves |a - b|^2/|a|^2 = 1 unexplained by D_G, in every band and with cosine 1."""
    train, heldout, references = setting

    class Half:
        schedule = exact_subject(references.gaussian, train, heldout).denoiser.schedule

        def __call__(self, x_t, t):
            exact = references.gaussian.denoise(x_t, 1.0, float(t))
            return (references.mean + exact) / 2

    subject = exact_subject(references.gaussian, train, heldout)
    object.__setattr__(subject, "denoiser", Half())
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    sums = measure_level(subject, references, 0.7, train[:200], heldout[:200], noise, train[:20])
    column = list(references.models).index("Gaussian")
    # float32 answers: relative rounding of about 1e-6 in each square
    assert np.allclose(sums["heldout.gap"][:, column] / sums["heldout.norm"], 1, atol=1e-4)
    bands = sums["heldout.gap_bands"][:, column].sum(0) / sums["heldout.norm_bands"].sum(0)
    assert np.allclose(bands[:-1], 1, atol=1e-3)
    cosine = sums["heldout.dot"][:, column] / np.sqrt(sums["heldout.norm"] * sums["heldout.exact_norm"][:, column])
    assert np.allclose(cosine, 1, atol=1e-5)


def test_bands_partition_the_squared_answer(setting):
    train, heldout, references = setting
    subject = exact_subject(references.models["mixture"], train, heldout)
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    sums = measure_level(subject, references, 0.7, train[:200], heldout[:200], noise, train[:20])
    assert np.allclose(sums["heldout.norm_bands"].sum(1), sums["heldout.norm"], rtol=1e-4, atol=0)
    assert component_bands(9).tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3]
    assert band_names(9) == ["1", "2-3", "4-7", "8-9"]


def test_explained_range_interpolates_the_crossing_of_a_power_law():
    ratios = np.logspace(2, -2, 9)
    low, high = explained_range(ratios, 0.1 * (0.3 / ratios))  # crosses 0.1 at 0.3
    assert low == pytest.approx(0.3, rel=1e-9)
    assert high == 100
    assert np.isnan(explained_range(ratios, np.ones(9))).all()


def test_findings_name_the_numbers_of_the_result(result):
    found = {f.name: f for f in findings(result)}
    assert found["learned.gaussian_range"].value == pytest.approx(result.ratios[-1])
    assert found["learned.best_at_lowest"].value == 0


def test_the_mixture_of_one_component_is_the_gaussian_for_the_audit(setting):
    train = setting[0]
    single = GaussianMixture.fit_kmeans(train, 1, ridge=0.0, generator=torch.Generator().manual_seed(0))
    gaussian = Gaussian.fit([train])
    x = train[:50] + 0.4
    assert torch.allclose(single.denoise(x, 1.0, 0.5), gaussian.denoise(x, 1.0, 0.5), atol=1e-6)


def zero_network(setting):
    """A noise predictor whose network always answers 0: D = x_t / alpha, whose score is 0."""
    train, heldout, references = setting
    kind = {"event_shape": (1, 8, 8), "data_range": (-1.0, 1.0)}
    subject = Subject(NoisePredictor(lambda x, t: 0 * x, DiscreteVP.linear(), **kind), train, heldout)  # noqa: ARG005
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return explained(
        measured(subject, references, 8, train[:200], heldout[:200], noise, train[:40]), np.random.default_rng(0)
    )


def test_a_network_of_zeros_is_worse_than_the_mean_and_unexplained_by_at_most_all(setting):
    """README's own example printed 9808482908063874%. Its loss is ratio^2 D against the variance of the data."""
    result = zero_network(setting)
    first, second, *_ = findings(result)
    assert (first.name, first.tone) == ("learned.worse_than_mean", "alarm")
    worst = result.ratios[result.matter][0]
    variance = float((setting[1][:200] - setting[2].mean).square().mean())
    # 200 x 64 squares of the noise: their mean is known to sqrt(2 / 12800) = 1.3%, and 4 of these
    assert first.value == pytest.approx(worst**2 / variance, rel=0.05)
    assert first.interval is not None
    assert first.interval[0] > 1
    assert (second.name, second.value) == ("learned.gaussian_range", 100)
    assert "all of the variance" in second.verdict
    assert max(curve.value.max() for curve in result.unexplained_score.values()) <= LARGEST


def test_the_exact_gaussian_is_at_no_level_worse_than_the_mean(result):
    first, worse, *_ = findings(result)
    assert first.name == "learned.gaussian_range"
    assert (worse.name, worse.tone) == ("learned.worse_than_mean", "neutral")
    assert worse.verdict.startswith("At no noise level")


def test_a_network_slightly_worse_than_the_mean_where_it_matters_gets_attention_and_the_first_place(result):
    of_mean = result.of_mean.copy()
    of_mean[np.flatnonzero(result.matter)[0]] = (1.2, 1.1, 1.3)
    worse = findings(dataclasses.replace(result, of_mean=of_mean))[0]
    assert (worse.name, worse.tone, worse.interval) == ("learned.worse_than_mean", "attention", (1.1, 1.3))


def test_a_network_that_is_bad_only_where_nobody_samples_is_told_so_without_an_alarm(result):
    of_mean = result.of_mean.copy()
    of_mean[0] = (3.0, 2.9, 3.1)
    assert not result.matter[0]
    worse = findings(dataclasses.replace(result, of_mean=of_mean))[1]
    assert (worse.tone, worse.value) == ("neutral", 3.0)
    assert "but at none of the levels that matter" in worse.verdict


class OnlyTheMean:
    """D = mu, to the bit."""

    schedule = VE(0.01, 20.0)

    def __init__(self, mean):
        self.mean = mean

    def __call__(self, x_t, t):
        del t
        return self.mean.expand_as(x_t).to(x_t)


def test_of_a_model_that_answers_the_mean_no_fraction_overflows_and_no_interval_is_lost(setting):
    train, heldout, references = setting
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    states = train[200:240] + 0.5 * noise[:40]
    subject = Subject(OnlyTheMean(references.mean), train, heldout)
    measures = measured(subject, references, QUICK.levels, train[:200], heldout[:200], noise, states)
    assert not any(sums["heldout.norm"].any() for sums in measures.sums)
    curve = explained(measures, np.random.default_rng(0)).unexplained_per_sample["heldout"]
    for values in (curve.value, curve.low, curve.high):
        assert values == pytest.approx(np.full_like(values, LARGEST))

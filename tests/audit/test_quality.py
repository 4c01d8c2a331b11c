"""The quality of samples: the classifier's features, distances at equal sizes, and what an audit makes of them."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import monte_carlo

from diffuscope.audit import Settings, Subject
from diffuscope.audit.classifier import RIDGE, fit_classifier
from diffuscope.audit.fidelity import distance_at_size, fidelity
from diffuscope.audit.label_balance import label_balance
from diffuscope.audit.quality import judge
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import chi_squared_permutation
from diffuscope.schedules import VE


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", seed=3).in_range(-1.0, 1.0)


@pytest.fixture(scope="module")
def features(digits):
    return fit_classifier(digits.train, digits.train_labels, digits.heldout, digits.heldout_labels)


@pytest.fixture(scope="module")
def subject(digits):
    law = Gaussian.fit([digits.train])
    labels = {"train_labels": digits.train_labels, "heldout_labels": digits.heldout_labels}
    return Subject(ExactDenoiser(law, VE()), digits.train, digits.heldout, **labels)


@pytest.fixture(autouse=True)
def _fitted_once(monkeypatch, features):
    monkeypatch.setattr("diffuscope.audit.quality.fit_classifier", lambda *_: features)


def ratio(samples, subject):
    finding, _ = judge(samples.float(), subject, Settings()).findings
    return finding.value, finding.tone


# the classifier


def test_the_classifier_names_unseen_digits(features, digits):
    assert features.accuracy >= 0.95
    assert features.accuracy == float((features.label(digits.heldout) == digits.heldout_labels).double().mean())
    assert features.unseen == len(digits.heldout)


def test_features_are_white_on_the_data_they_were_fitted_to(features, digits):
    """Variances lam / (lam + ridge): 1 but for directions that carry next to nothing."""
    found = features(digits.train)
    assert found.dtype == torch.float64
    assert float(found.mean(0).abs().max()) < 1e-9
    covariance = torch.cov(found.mT)
    lam = torch.linalg.eigvalsh(torch.cov(features.hidden(digits.train).mT))
    expected = (lam / (lam + RIDGE * lam.mean())).diag()
    assert torch.allclose(covariance, expected, atol=1e-9)


def test_the_units_of_the_data_do_not_matter(features, digits):
    """Doubling is exact in binary, and so the whole fit is the same."""
    doubled = fit_classifier(2 * digits.train, digits.train_labels, 2 * digits.heldout, digits.heldout_labels)
    assert torch.allclose(doubled(2 * digits.heldout), features(digits.heldout), rtol=0, atol=1e-9)


@pytest.mark.parametrize("names", [(7, 3), (2, 0, 5)], ids=["two", "three"])
def test_labels_may_have_any_names(names, generator):
    which = torch.randint(len(names), (400,), generator=generator)
    x = torch.randn(400, 2, generator=generator) + 8.0 * torch.stack([which == 1, which == 2], 1)
    labels = torch.tensor(names)[which]
    found = fit_classifier(x[:200], labels[:200], x[200:], labels[200:])
    assert found.accuracy == 1
    assert set(found.label(x).tolist()) == set(names)


def test_a_single_label_is_refused():
    x, labels = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(30, dtype=torch.int64)
    with pytest.raises(InputError, match="train_labels: expected at least two different labels"):
        fit_classifier(x, labels, x, labels)


def test_labels_that_take_turns_are_all_seen_where_only_a_part_is_fitted(generator):
    """50,000 examples 0, 1, ..., 9, 0, 1, ...: every fifth of them are 0 and 5 only."""
    labels = torch.arange(50_000) % 10
    x = torch.nn.functional.one_hot(labels, 10) + 0.2 * torch.randn(50_000, 10, generator=generator)
    found = fit_classifier(x, labels, x[:1000], labels[:1000])
    assert found.classes.tolist() == list(range(10))
    assert found.accuracy > 0.95


@pytest.mark.parametrize(("value", "told"), [(3.0, "values that differ, got 3 everywhere"), (math.nan, "got NaN")])
def test_data_that_nothing_can_be_learned_from_are_refused_in_one_line(value, told):
    x, labels = torch.full((30, 2), value), torch.arange(30) % 2
    with pytest.raises(InputError, match=rf"^train: expected [^\n]*{told}[^\n]*$"):
        fit_classifier(x, labels, x, labels)


# distances


def test_reciting_has_the_ratio_that_is_derived(generator, monkeypatch):
    """Gaussian data, N = 300 of training and unseen each, so n = 150: new draws 1, reciting 1.25."""
    monkeypatch.setattr("diffuscope.audit.fidelity.DRAWS", 8)
    recited, new, real = [], [], []
    for seed in range(40):
        samples, train, unseen = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        found = fidelity(samples, train, unseen, seed)
        recited.append(found.recited.value)
        new.append(found.samples.value)
        real.append(found.real)
    # a ratio of means, because a mean of ratios is larger; v - r u has mean 0 where r is the ratio of the means
    unit = torch.tensor(real)
    assert monte_carlo((torch.tensor(recited) - 1.25 * unit) / unit.mean()).agrees_with(0)
    assert monte_carlo((torch.tensor(new) - unit) / unit.mean()).agrees_with(0)


@pytest.mark.parametrize(("shift", "skew"), [(0.4, 0.0), (2.0, 0.0), (2.0, 0.3)], ids=["near", "far", "skewed"])
def test_the_interval_of_the_ratio_allows_for_an_uncertain_ruler(shift, skew, generator, monkeypatch):
    """Ratios of 4 to 80, also of features that are not Gaussian; 95% less 3 standard errors."""
    monkeypatch.setattr("diffuscope.audit.fidelity.DRAWS", 16)
    repeats, found = 100, []
    for _ in range(repeats):
        x = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        samples, train, unseen = x + skew * (x.square() - 1)
        found.append(fidelity(1.3 * samples + shift, train, unseen, 0))
    truth = sum(f.samples.value for f in found) / sum(f.real for f in found)

    def coverage(results):
        return sum(f.interval[0] <= truth <= f.interval[1] for f in results) / repeats

    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / repeats)
    assert coverage(found) >= least
    if shift > 1:  # with the ruler taken as exact
        assert coverage([replace(f, real_error=0.0) for f in found]) < least


def test_the_standard_error_of_the_ruler_is_its_spread_over_independent_data(generator, monkeypatch):
    """Four standard errors of a deviation from so many replicates, and 10 % for what is of order 1/m."""
    monkeypatch.setattr("diffuscope.audit.fidelity.DRAWS", 16)
    found = []
    for _ in range(150):
        x = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        samples, train, unseen = x + 0.2 * (x.square() - 1)
        found.append(fidelity(samples, train, unseen, 0))
    stated = torch.tensor([f.real_error for f in found]).square().mean().sqrt()
    assert float(torch.tensor([f.real for f in found]).std() / stated) == pytest.approx(
        1, abs=4 / math.sqrt(2 * 150) + 0.1
    )


def test_what_is_stated_as_detectable_is_called_far_as_often_as_stated(generator):
    """Ratios drawn as the interval assumes, at the one that is stated: above the bar with probability .95."""
    samples, train, unseen = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
    found = fidelity(1.2 * samples, train, unseen, 0)
    drawn = found.detectable + found.ratio_error * torch.randn(10_000, dtype=torch.float64, generator=generator)
    assert monte_carlo((drawn > 2).double()).agrees_with(0.95)


def test_no_distance_where_a_covariance_would_be_singular(generator):
    """n centered rows have rank n - 1."""
    for size, full in ((5, False), (6, True)):
        rows = torch.randn(3, 2 * size, 5, dtype=torch.float64, generator=generator)
        if full:
            assert fidelity(rows[0], rows[1], rows[2], 0).size == size
        else:
            with pytest.raises(InputError, match="expected 6 samples, 6 training and 12 unseen examples, got 10, 10"):
                fidelity(rows[0], rows[1], rows[2], 0)


def test_the_standard_error_is_the_spread_over_independent_data(generator, monkeypatch):
    """Laws that differ; 4 standard errors of a deviation from so many replicates, and 4 % for the draws."""
    monkeypatch.setattr("diffuscope.audit.fidelity.DRAWS", 16)
    found = []
    for _ in range(120):
        x = 1.3 * torch.randn(200, 4, dtype=torch.float64, generator=generator) + 0.4
        y = torch.randn(200, 4, dtype=torch.float64, generator=generator)
        found.append(distance_at_size(x, y, 100, generator))
    stated = torch.tensor([f.standard_error for f in found]).square().mean().sqrt()
    spread = torch.tensor([f.value for f in found]).std()
    assert float(spread / stated) == pytest.approx(1, abs=4 / math.sqrt(2 * 120) + 0.04)


# the audit's verdict


def test_real_digits_are_close_and_copies_are_as_close(subject):
    for samples in (subject.train[:800], subject.train[:400].repeat(2, 1, 1, 1)):
        found, tone = ratio(samples, subject)
        assert tone == "good"
        assert found < 1.6


@pytest.mark.parametrize("fault", ["gaussian", "noise", "washed-out", "half-the-digits", "one-digit-only"])
def test_samples_that_are_not_like_the_data_are_told(fault, subject, digits, generator):
    train = subject.train
    samples = {
        "gaussian": lambda: subject.denoiser.distribution.sample(800, generator=generator),
        "noise": lambda: train + 0.4 * torch.randn(train.shape, generator=generator),
        "washed-out": lambda: 0.7 * train,
        "half-the-digits": lambda: train[digits.train_labels < 5],
        "one-digit-only": lambda: train[digits.train_labels == 4].repeat(3, 1, 1, 1),
    }[fault]()
    found, tone = ratio(samples, subject)
    assert tone == "attention"
    assert found > 2


def test_a_missing_label_passes_the_distance_and_is_found_by_the_shares(subject, digits):
    distance, labels = judge(subject.train[digits.train_labels != 4], subject, Settings()).findings
    assert distance.value < 2
    assert labels.tone == "attention"
    assert "are of label 4, and" in labels.verdict
    assert labels.p_value is not None
    assert labels.p_value <= 1e-3
    assert labels.value == pytest.approx(10, abs=4)


@pytest.fixture
def _fewer_permutations(monkeypatch):
    fewer = partial(chi_squared_permutation, permutations=499)
    monkeypatch.setattr("diffuscope.audit.label_balance.chi_squared_permutation", fewer)


def drawn_labels(law, n, generator):
    return torch.multinomial(law, n, True, generator=generator)


def balances(law, known, n, m, repeats, generator, short=0.0):
    """A model that learned the shares of `known` training examples; label 0 `short`, the others in proportion."""
    rng, classes, found = np.random.default_rng(0), len(law), []
    for _ in range(repeats):
        learned = drawn_labels(law, known, generator).bincount(minlength=classes).double() / known
        first = max(0.0, float(learned[0]) - short)
        learned = torch.cat([learned.new_tensor([first]), learned[1:] * (1 - first) / learned[1:].sum()])
        pair = drawn_labels(learned, n, generator), drawn_labels(law, m, generator)
        found.append(label_balance(torch.arange(classes), *pair, known, rng))
    return found


@pytest.mark.usefixtures("_fewer_permutations")
@pytest.mark.parametrize("sizes", [(899, 898, 1000), (1000, 9000, 10_000), (100, 50, 30)], ids=str)
def test_a_model_that_recites_is_blamed_for_its_labels_no_more_often_than_the_level(sizes, generator):
    """Sizes of training, unseen and samples; ten labels. Without the share of the training, 92 % of the second."""
    known, m, n = sizes
    found = balances(torch.full((10,), 0.1), known, n, m, 400, generator)
    level = 0.05
    blamed = np.mean([f.p_value <= level for f in found])
    assert blamed <= level + 4 * math.sqrt(level * (1 - level) / 400)


@pytest.mark.usefixtures("_fewer_permutations")
def test_the_level_holds_where_counts_are_small(generator):
    """Sixty labels, most of them rare, and 20 samples: the limit law of chi-squared would blame 20 % of them."""
    law = 0.9 ** torch.arange(60.0)
    found = balances(law / law.sum(), 10**4, 20, 2000, 400, generator)
    level = 0.05
    blamed = monte_carlo(torch.tensor([f.p_value <= level for f in found]).double())
    assert blamed.agrees_with(level)


@pytest.mark.usefixtures("_fewer_permutations")
def test_the_test_of_labels_has_the_power_that_it_states(generator):
    """Ten labels, 900 of everything; one short by what is stated, the others more frequent in proportion."""
    even, level = torch.full((10,), 0.1), 0.05
    short = balances(even, 900, 900, 900, 1, generator)[0].detectable(level)
    found = balances(even, 900, 900, 900, 400, generator, short)
    beyond = monte_carlo(torch.tensor([f.p_value <= level for f in found]).double())
    assert abs(beyond.mean - 0.95) < 4 * beyond.standard_error + 0.01  # the law of chi-squared is that of large counts


def test_labels_that_nobody_has_are_no_evidence():
    labels, rng = torch.tensor([0, 0, 1, 1]), np.random.default_rng(0)
    assert label_balance(torch.arange(3), labels, labels, 4, rng).p_value == 1
    assert label_balance(torch.arange(3), labels[:2], labels[:2], 4, rng).p_value == 1
    assert label_balance(torch.arange(3), labels[:2], labels[:2], 4, rng).detectable(0.01) == math.inf
    many = torch.arange(2).repeat(500)
    two, padded = (label_balance(torch.arange(k), many, many, 1000, rng) for k in (2, 9))
    assert padded.detectable(0.01) == two.detectable(0.01)


def test_data_without_labels_or_too_few_get_a_reason_in_place_of_a_verdict(subject):
    plain = Subject(subject.denoiser, subject.train, subject.heldout)
    assert judge(subject.train, plain, Settings()).findings == ()
    assert "the training and unseen data have no labels" in judge(subject.train, plain, Settings()).refusal
    half = replace(plain, train_labels=subject.train_labels)
    assert "the unseen data have no labels" in judge(subject.train, half, Settings()).refusal
    few = Subject(
        subject.denoiser,
        subject.train,
        subject.heldout[:40],
        train_labels=subject.train_labels,
        heldout_labels=subject.heldout_labels[:40],
    )
    assert "expected 33 samples, 33 training and 66 unseen" in judge(subject.train, few, Settings()).refusal
    with pytest.raises(InputError, match="heldout_labels: expected one label per example"):
        Subject(subject.denoiser, subject.train, subject.heldout, heldout_labels=subject.heldout_labels[:5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_that_are_no_integers_are_refused(subject, dtype):
    with pytest.raises(InputError, match="train_labels: expected integers, got torch"):
        Subject(subject.denoiser, subject.train, subject.heldout, train_labels=subject.train_labels.to(dtype))


@pytest.mark.parametrize("which", ["random", "one-each"])
def test_a_classifier_that_knows_nothing_is_no_judge(which, subject, generator, monkeypatch):
    """Real digits whose labels say nothing of them: otherwise 'close', in features that mean nothing."""
    monkeypatch.setattr("diffuscope.audit.quality.fit_classifier", fit_classifier)
    train, heldout = subject.train[:200], subject.heldout[:200]
    labels = torch.randint(10, (400,), generator=generator) if which == "random" else torch.arange(400)
    guessing = Subject(subject.denoiser, train, heldout, train_labels=labels[:200], heldout_labels=labels[200:])
    told = judge(subject.train[200:], guessing, Settings())
    assert told.findings == ()
    assert "labels: expected some that a classifier can tell" in told.refusal
    assert "\n" not in told.refusal

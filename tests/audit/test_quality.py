"""The quality of samples: the classifier's features, distances at equal sizes, and what an audit makes of them."""

import math

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


# distances


def test_reciting_has_the_ratio_that_is_derived(generator, monkeypatch):
    """Gaussian data, N = 300 of training and unseen each, so n = 150: new draws 1, reciting 1.25."""
    monkeypatch.setattr("diffuscope.audit.fidelity.DRAWS", 8)
    recited, new = [], []
    for seed in range(40):
        samples, train, unseen = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        found = fidelity(samples, train, unseen, seed)
        recited.append(found.recited_ratio)
        new.append(found.ratio)
    # a mean of ratios is above the ratio of means, by about the variance of the ruler: 1 %
    assert monte_carlo(torch.tensor(recited) - 0.01).agrees_with(1.25)
    assert monte_carlo(torch.tensor(new) - 0.01).agrees_with(1.0)


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
    assert labels.p_value < 1e-6
    assert labels.value == pytest.approx(10, abs=4)


def test_the_test_of_labels_has_the_level_and_the_power_that_it_states(generator):
    """Ten labels, 900 against 900; one short by what is stated, the others more frequent in proportion."""

    def found(samples_law, unseen_law, repeats=400):
        drawn = (torch.multinomial(p, 900 * repeats, True, generator=generator) for p in (samples_law, unseen_law))
        pairs = zip(*(x.reshape(repeats, 900) for x in drawn), strict=True)
        return [label_balance(torch.arange(10), *pair) for pair in pairs]

    even = torch.full((10,), 0.1, dtype=torch.float64)
    level, null = 0.05, found(even, even)
    assert monte_carlo(torch.tensor([f.p_value < level for f in null]).double()).agrees_with(level)
    short = null[0].detectable(level)
    law = torch.tensor([0.1 - short, *[0.1 + short / 9] * 9], dtype=torch.float64)
    beyond = monte_carlo(torch.tensor([f.p_value < level for f in found(law, even)]).double())
    assert abs(beyond.mean - 0.95) < 4 * beyond.standard_error + 0.01  # the law of chi-squared is that of large counts


def test_labels_that_nobody_has_are_no_evidence():
    labels = torch.tensor([0, 0, 1, 1])
    assert label_balance(torch.arange(3), labels, labels).p_value == 1
    assert label_balance(torch.arange(3), labels[:2], labels[:2]).p_value == 1


def test_data_without_labels_or_too_few_get_a_reason_in_place_of_a_verdict(subject):
    plain = Subject(subject.denoiser, subject.train, subject.heldout)
    assert judge(subject.train, plain, Settings()).findings == ()
    assert "no labels" in judge(subject.train, plain, Settings()).refusal
    few = Subject(
        subject.denoiser,
        subject.train,
        subject.heldout[:40],
        train_labels=subject.train_labels,
        heldout_labels=subject.heldout_labels[:40],
    )
    assert "needs 32 samples, 32 training and 64 unseen" in judge(subject.train, few, Settings()).refusal
    with pytest.raises(InputError, match="heldout_labels: expected one label per example"):
        Subject(subject.denoiser, subject.train, subject.heldout, heldout_labels=subject.heldout_labels[:5])

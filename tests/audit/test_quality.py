"""The quality of samples: the classifier's features, distances at equal sizes, and what an audit makes of them."""

import math
from dataclasses import replace

import pytest
import torch

from diffuscope.audit import Subject
from diffuscope.audit.classifier import RIDGE, fit_classifier
from diffuscope.audit.frechet_ratio import fidelity
from diffuscope.audit.questions.quality import answer, judge
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
    gaussian = Gaussian.fit([digits.train])
    labels = {"train_labels": digits.train_labels, "heldout_labels": digits.heldout_labels}
    return Subject(ExactDenoiser(gaussian, VE()), digits.train, digits.heldout, **labels)


@pytest.fixture(autouse=True)
def fitted_to(monkeypatch, features):
    """The classifier is fitted once; what later fits were asked for is kept here."""
    asked = []
    monkeypatch.setattr(
        "diffuscope.audit.questions.quality.fit_classifier", lambda *given: asked.append(given) or features
    )
    return asked


def findings(samples, subject):
    return answer(judge(samples.float(), subject, 0), 0.01).findings


def ratio(samples, subject):
    finding, _ = findings(samples, subject)
    return finding.value, finding.tone


# the classifier


def test_the_classifier_names_unseen_digits(features, digits):
    assert features.accuracy >= 0.95
    assert features.accuracy == float((features.label(digits.heldout) == digits.heldout_labels).double().mean())
    assert features.heldout == len(digits.heldout)


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


def test_cycling_labels_are_all_fitted_on_a_part_of_the_data(generator):
    """50,000 examples 0, 1, ..., 9, 0, 1, ...: every fifth of them are 0 and 5 only."""
    labels = torch.arange(50_000) % 10
    x = torch.nn.functional.one_hot(labels, 10) + 0.2 * torch.randn(50_000, 10, generator=generator)
    found = fit_classifier(x, labels, x[:1000], labels[:1000])
    assert found.classes.tolist() == list(range(10))
    assert found.accuracy > 0.95


@pytest.mark.parametrize(("value", "reason"), [(3.0, "values that differ, got 3 everywhere"), (math.nan, "got NaN")])
def test_data_that_nothing_can_be_learned_from_are_refused_in_one_line(value, reason):
    x, labels = torch.full((30, 2), value), torch.arange(30) % 2
    with pytest.raises(InputError, match=rf"^train: expected [^\n]*{reason}[^\n]*$"):
        fit_classifier(x, labels, x, labels)


def test_real_digits_are_close_and_copies_are_as_close(subject):
    for samples in (subject.train[:800], subject.train[:400].repeat(2, 1, 1, 1)):
        found, tone = ratio(samples, subject)
        assert tone == "good"
        assert found < 1.6


def test_the_classifier_is_fitted_to_the_training_data_and_replayed_data_are_drawn_from_them(
    subject, features, fitted_to
):
    result = judge(subject.heldout[:300], subject, 5)
    expected = (subject.train, subject.train_labels, subject.heldout, subject.heldout_labels)
    assert len(fitted_to) == 1
    assert all(torch.equal(given, wanted) for given, wanted in zip(fitted_to[0], expected, strict=True))
    samples, train, heldout = (features(x) for x in (subject.heldout[:300], subject.train, subject.heldout))
    assert result.fidelity == fidelity(samples, train, heldout, 5)
    assert result.balance.known == len(subject.train)


@pytest.mark.parametrize("fault", ["gaussian", "noise", "washed-out", "half-the-digits", "one-digit-only"])
def test_samples_unlike_the_data_are_detected(fault, subject, digits, generator):
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


def test_a_missing_label_passes_the_distance_and_is_found_by_the_shares(subject, digits, features):
    samples = subject.train[digits.train_labels != 4]
    distance, labels = findings(samples, subject)
    assert distance.value < 2
    assert labels.tone == "attention"
    assert "have label 4, against" in labels.verdict
    assert labels.p_value is not None
    assert labels.p_value <= 1e-3
    counted = [features.label(x).bincount(minlength=10).double() / len(x) for x in (samples, subject.heldout)]
    assert labels.value == pytest.approx(50 * float((counted[0] - counted[1]).abs().sum()))
    assert labels.value > 100 * float(counted[1][4] - counted[0][4]) > 5  # one tenth of the digits are fours


def test_data_without_labels_or_too_few_get_a_reason_in_place_of_a_verdict(subject):
    plain = Subject(subject.denoiser, subject.train, subject.heldout)
    with pytest.raises(InputError, match="the training and held-out data have no labels"):
        judge(subject.train, plain, 0)
    with pytest.raises(InputError, match="the held-out data have no labels"):
        judge(subject.train, replace(plain, train_labels=subject.train_labels), 0)
    few = Subject(
        subject.denoiser,
        subject.train,
        subject.heldout[:40],
        train_labels=subject.train_labels,
        heldout_labels=subject.heldout_labels[:40],
    )
    with pytest.raises(InputError, match="expected 33 samples, 33 training and 66 held-out"):
        judge(subject.train, few, 0)
    with pytest.raises(InputError, match="heldout_labels: expected one label per example"):
        Subject(subject.denoiser, subject.train, subject.heldout, heldout_labels=subject.heldout_labels[:5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_that_are_no_integers_are_refused(subject, dtype):
    with pytest.raises(InputError, match="train_labels: expected integers, got torch"):
        Subject(subject.denoiser, subject.train, subject.heldout, train_labels=subject.train_labels.to(dtype))


@pytest.mark.parametrize("which", ["random", "one-each"])
def test_a_classifier_that_knows_nothing_is_no_judge(which, subject, generator, monkeypatch):
    """Real digits whose labels say nothing of them: otherwise 'close', in features that mean nothing."""
    monkeypatch.setattr("diffuscope.audit.questions.quality.fit_classifier", fit_classifier)
    train, heldout = subject.train[:200], subject.heldout[:200]
    labels = torch.randint(10, (400,), generator=generator) if which == "random" else torch.arange(400)
    guessing = Subject(subject.denoiser, train, heldout, train_labels=labels[:200], heldout_labels=labels[200:])
    with pytest.raises(InputError, match=r"^labels: expected labels that a classifier can learn[^\n]*$"):
        judge(subject.train[200:], guessing, 0)

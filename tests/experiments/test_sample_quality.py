"""Sample quality: planted faults make the claim about them fail. The network's own training is the slow test."""

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.experiments import find
from diffuscope.experiments.sample_quality import SAMPLE_QUALITY, setting

HERE = "diffuscope.experiments.sample_quality"


@contextmanager
def samples_are(made):
    """What `made` makes of the two halves of the digits, in place of the network's samples."""

    def samples(seed, steps):
        del steps
        data = setting.ruler(seed).data
        return made(data.train, data.heldout)

    with ExitStack() as stack:
        for part in ("distances", "copying"):
            stack.enter_context(planted(f"{HERE}.{part}.samples", samples))
        yield


@contextmanager
def another(name, mutant):
    """A fault in what the ruler is made of: it is made again, and forgotten afterwards."""
    setting.ruler.cache_clear()
    with planted(f"{HERE}.setting.{name}", mutant):
        yield
    setting.ruler.cache_clear()


def noisy(x, deviation):
    return x + deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def real(train, unseen):
    """New draws from the law of the digits, as far as the distance can tell."""
    return train[: len(unseen)]


def test_it_is_found_by_its_name():
    assert find("sample-quality") is SAMPLE_QUALITY


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_of_the_trained_network(seed):
    outcome = SAMPLE_QUALITY.run(seed)
    assert {claim.name: claim.measured for claim in outcome.failures} == {}


@pytest.mark.parametrize("part", ["features", "trained", "controls"])
def test_every_claim_holds_of_real_digits_in_place_of_samples(part):
    with samples_are(real), planted(f"{HERE}.setting.EVALUATIONS", 5):  # of the untrained network
        assert {claim.name: claim.measured for claim in answered(SAMPLE_QUALITY, part).claims if not claim.holds} == {}


def test_unseen_digits_in_place_of_samples_are_no_copies():
    with samples_are(lambda train, unseen: noisy(unseen, 1e-3)):  # noqa: ARG005
        assert failures(SAMPLE_QUALITY, "copies") == set()


# faults


def test_a_classifier_of_wrong_labels_is_caught():
    fit = setting.fit_classifier

    def misled(train, labels, unseen, unseen_labels):
        return fit(train, labels.roll(1), unseen, unseen_labels)

    with another("fit_classifier", misled):
        assert "accuracy" in failures(SAMPLE_QUALITY, "features")


def test_features_that_are_blind_to_noise_are_caught():
    """The classifier's features as they are, without whitening."""
    fit = setting.fit_classifier

    def plain(*data):
        return replace(fit(*data), whitening=torch.eye(32, dtype=torch.float64))

    with another("fit_classifier", plain):
        assert failures(SAMPLE_QUALITY, "features") == {"noise"}


def test_halves_that_are_not_drawn_alike_are_caught():
    """A split by digit: the training half has the small ones."""
    load = setting.load_data

    def sorted_by_digit(name, *, seed):
        data = load(name, seed=seed)
        assert data.train_labels is not None
        assert data.heldout_labels is not None
        x, labels = torch.cat([data.train, data.heldout]), torch.cat([data.train_labels, data.heldout_labels])
        order = labels.argsort(stable=True)
        (a, b), (k, m) = x[order].split(899), labels[order].split(899)
        return replace(data, train=a, heldout=b, train_labels=k, heldout_labels=m)

    with another("load_data", sorted_by_digit):
        assert {"real", "accuracy"} <= failures(SAMPLE_QUALITY, "features")


@pytest.mark.parametrize(
    ("made", "caught"),
    [
        (lambda train, unseen: noisy(train[: len(unseen)], 0.4), {"bar"}),  # a last denoising that is left out
        (lambda train, unseen: 0.6 * train[: len(unseen)], {"bar"}),  # contrast: a wrong range of the data
        (lambda train, unseen: train[:12].repeat(75, 1, 1, 1)[: len(unseen)], {"bar", "every-digit"}),  # mode collapse
        (lambda train, unseen: train[: len(unseen)].flip(-1), {"bar"}),  # mirrored
    ],
    ids=["noise", "contrast", "collapse", "mirrored"],
)
def test_samples_that_are_not_like_digits_are_caught(made, caught):
    with samples_are(made):
        assert caught <= failures(SAMPLE_QUALITY, "trained")


def test_a_digit_that_is_never_drawn_is_caught_by_its_share_alone():
    def no_fours(train, unseen):
        return train[setting.ruler(1).features.label(train) != 4][: len(unseen)]

    with samples_are(no_fours):
        assert failures(SAMPLE_QUALITY, "trained") == {"every-digit"}


def test_a_training_that_changes_nothing_is_caught():
    def untouched(train, unseen):
        del train
        return setting.generated(setting.untrained(1), len(unseen), torch.Generator().manual_seed(2))

    with planted(f"{HERE}.setting.EVALUATIONS", 5), samples_are(untouched):
        assert failures(SAMPLE_QUALITY, "trained") >= {"bar"}
        assert failures(SAMPLE_QUALITY, "controls") == {"untrained"}


def test_a_network_that_recites_a_few_digits_is_caught():
    def reciting(train, unseen):
        return noisy(torch.cat([train[:50], unseen])[: len(unseen)], 1e-3)

    with samples_are(reciting):
        assert failures(SAMPLE_QUALITY, "copies") == {"copies"}


def test_a_search_that_lists_nothing_is_caught():
    search = "diffuscope.audit.copies.false_discovery"
    with samples_are(real), planted(search, lambda p_values, rate: p_values < 0):  # noqa: ARG005
        assert failures(SAMPLE_QUALITY, "copies") == {"recited-found"}

"""Sample quality: planted faults make the claim about them fail. The network's own training is the slow test."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.audit.frechet_ratio import BAR
from diffuscope.experiments import find, sample_quality
from diffuscope.experiments.sample_quality import EXPERIMENT, blurred, digits

HERE = "diffuscope.experiments.sample_quality"


@contextmanager
def samples_are(made):
    """`made(training half, held-out half)` in place of the network's samples."""

    def samples(seed):
        data = digits(seed).data
        return made(data.train, data.heldout)

    with planted(f"{HERE}.samples", samples):
        yield


@contextmanager
def another(name, mutant):
    """A fault in what the distances are made of: they are made again, and forgotten afterwards."""
    with planted(f"{HERE}.{name}", mutant), planted(f"{HERE}.digits", cache(digits.__wrapped__)):
        yield


def noisy(x, deviation):
    return x + deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def real(train, heldout):
    """New draws from the distribution of the digits, as far as the distance can tell."""
    return train[: len(heldout)]


def test_it_is_found_by_its_name():
    assert find("sample-quality") is EXPERIMENT


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_of_the_trained_network(seed):
    outcome = EXPERIMENT.run(seed)
    assert {claim.name: claim.measured for claim in outcome.failures} == {}


@pytest.mark.parametrize("part", ["features", "trained", "controls"])
def test_every_claim_holds_of_real_digits_in_place_of_samples(part):
    with samples_are(real), planted(f"{HERE}.NFE", 5):  # of the untrained network
        assert {claim.name: claim.measured for claim in answered(EXPERIMENT, part).claims if not claim.holds} == {}


def test_held_out_digits_in_place_of_samples_are_no_copies():
    with samples_are(lambda train, heldout: noisy(heldout, 1e-3)):  # noqa: ARG005
        assert failures(EXPERIMENT, "copies") == set()


def test_blurred_digits_are_far_and_replayed_ones_pass_the_bar(generator):
    """The distance sees what a classifier sees; copies it cannot see (1.25 in expectation)."""
    found = digits(1)
    train = found.data.train
    assert found.fidelity(blurred(train), generator).ratio >= BAR
    replayed = train[torch.randint(len(train), (len(train),), generator=generator)]
    assert found.fidelity(replayed, generator).ratio <= BAR


# faults


def test_a_classifier_of_wrong_labels_is_seen_by_its_accuracy():
    fit = sample_quality.fit_classifier

    def misled(train, labels, heldout, heldout_labels):
        return fit(train, labels.roll(1), heldout, heldout_labels)

    assert digits(1).features.accuracy >= 0.95
    with another("fit_classifier", misled):
        assert sample_quality.digits(1).features.accuracy < 0.95


def test_features_that_are_blind_to_noise_are_caught():
    """The classifier's features as they are, without whitening."""
    fit = sample_quality.fit_classifier

    def plain(*data):
        return replace(fit(*data), whitening=torch.eye(32, dtype=torch.float64))

    with another("fit_classifier", plain):
        assert failures(EXPERIMENT, "features") == {"noise"}


def test_halves_that_are_not_drawn_alike_are_caught():
    """A split by digit: the training half has the small ones."""
    load = sample_quality.load_data

    def sorted_by_digit(name, *, seed):
        data = load(name, seed=seed)
        assert data.train_labels is not None
        assert data.heldout_labels is not None
        x, labels = torch.cat([data.train, data.heldout]), torch.cat([data.train_labels, data.heldout_labels])
        order = labels.argsort(stable=True)
        (a, b), (k, m) = x[order].split(899), labels[order].split(899)
        return replace(data, train=a, heldout=b, train_labels=k, heldout_labels=m)

    with another("load_data", sorted_by_digit):
        assert "real" in failures(EXPERIMENT, "features")
        assert sample_quality.digits(1).features.accuracy < 0.95


@pytest.mark.parametrize(
    ("made", "caught"),
    [
        (lambda train, heldout: noisy(train[: len(heldout)], 0.4), {"bar"}),  # a last denoising that is left out
        (lambda train, heldout: 0.6 * train[: len(heldout)], {"bar"}),  # contrast: a wrong range of the data
        (
            lambda train, heldout: train[:12].repeat(75, 1, 1, 1)[: len(heldout)],
            {"bar", "every-digit"},
        ),  # mode collapse
        (lambda train, heldout: train[: len(heldout)].flip(-1), {"bar"}),  # mirrored
    ],
    ids=["noise", "contrast", "collapse", "mirrored"],
)
def test_samples_that_are_not_like_digits_are_caught(made, caught):
    with samples_are(made):
        assert caught <= failures(EXPERIMENT, "trained")


def test_a_digit_that_is_never_drawn_is_caught_by_its_share_alone():
    def no_fours(train, heldout):
        return train[digits(1).features.label(train) != 4][: len(heldout)]

    with samples_are(no_fours):
        assert failures(EXPERIMENT, "trained") == {"every-digit"}


def test_a_training_that_changes_nothing_is_caught():
    def untouched(train, heldout):
        del train
        return sample_quality.generated(sample_quality.untrained(1), len(heldout), torch.Generator().manual_seed(2))

    with planted(f"{HERE}.NFE", 5), samples_are(untouched):
        assert failures(EXPERIMENT, "trained") >= {"bar"}
        assert failures(EXPERIMENT, "controls") == {"untrained"}


def test_a_network_that_replays_a_few_digits_is_caught():
    def replaying(train, heldout):
        return noisy(torch.cat([train[:50], heldout])[: len(heldout)], 1e-3)

    with samples_are(replaying):
        assert failures(EXPERIMENT, "copies") == {"copies"}


def test_a_search_that_lists_nothing_is_caught():
    search = "diffuscope.audit.copy_search.false_discovery"
    with samples_are(real), planted(search, lambda p_values, rate: p_values < 0):  # noqa: ARG005
        assert failures(EXPERIMENT, "copies") == {"recited-found"}

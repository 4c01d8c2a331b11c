"""Verdicts on samples whose share of copies is known: false stops, detection, power, and when nothing is told."""

import numpy as np
import pytest
import torch
from copying_models import drawn, gaussian_data, search_of

from diffuscope.monitor.judged_copies import judged_copies
from diffuscope.monitor.repeated_looks import level_of_look

RATE, SAMPLES = 0.05, 120


def judged(data, searches, share, seed, level, samples=SAMPLES):
    return judged_copies(drawn(data, share, samples, seed)[0], searches, rate=RATE, level=level, seed=0)


@pytest.fixture
def quick_power(monkeypatch):
    """The power of a look, which a verdict of copies does not depend on, takes most of its time."""
    monkeypatch.setattr("diffuscope.monitor.judged_copies.smallest_share_found", lambda *_, **__: 0.01)
    monkeypatch.setattr("diffuscope.audit.copy_search.smallest_share_found", lambda *_: 0.01)
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 2)


@pytest.mark.usefixtures("quick_power")
def test_a_model_that_is_the_distribution_of_the_data_is_asked_100_times_and_not_stopped():
    """The chance of a false stop in all of these 3 runs of 100 looks is 3% at most; the same data are looked at."""
    for run in range(3):
        data = gaussian_data(seed=run)
        searches = search_of(data)
        words = [judged(data, searches, 0.0, 1000 * run + k, level_of_look(k, 0.01)).word for k in range(1, 101)]
        assert "copies" not in words
        # the audit's list alone, at 5% per look, is not made for so many looks
        assert words.count("suspected") <= 15


@pytest.mark.usefixtures("quick_power")
def test_a_p_value_that_underflows_is_said_to_be_below_the_smallest(monkeypatch):
    monkeypatch.setattr("diffuscope.monitor.judged_copies.rank_p_value", lambda *_: 0.0)
    data = gaussian_data()
    said = judged(data, search_of(data), 1.0, 1, 0.005)
    assert (said.word, said.p_value) == ("copies", 0.0)
    assert "(p < 10⁻³⁰⁰; the level of this look is 5.0e-03)" in said.sentence


@pytest.mark.usefixtures("quick_power")
@pytest.mark.parametrize("kinds", [150, 2000])
def test_data_that_repeat_themselves_are_no_reason_to_stop(kinds):
    """Training examples, held-out ones and samples drawn from so many values: many are equal, and none is a copy."""
    generator = torch.Generator().manual_seed(kinds)
    values = gaussian_data(train=kinds).train
    data = gaussian_data()

    def some(n: int) -> torch.Tensor:
        return values[torch.randint(kinds, (n,), generator=generator)]

    data.train[:], data.heldout[:] = some(len(data.train)), some(len(data.heldout))
    searches, words, equal = search_of(data), [], 0
    for k in range(1, 41):
        samples = some(SAMPLES)
        equal += int((torch.cdist(samples, data.train).amin(1) == 0).sum())
        words.append(judged_copies(samples, searches, rate=RATE, level=level_of_look(k, 0.01), seed=0).word)
    assert equal > 40
    assert "copies" not in words


@pytest.mark.usefixtures("quick_power")
def test_the_p_values_of_models_that_do_not_copy_are_no_smaller_than_uniform():
    """100 data sets, one look at each: P(p <= a) <= a, up to 3 standard errors."""
    p_values = []
    for seed in range(100):
        data = gaussian_data(train=40, heldout=60, seed=100 + seed)
        p_values.append(judged(data, search_of(data), 0.0, seed, 0.01, samples=50).p_value)
    for level in (0.05, 0.2):
        allowed = level + 3 * (level * (1 - level) / len(p_values)) ** 0.5
        assert (np.array(p_values) <= level).mean() <= allowed


def test_the_share_that_is_stated_is_found_with_the_stated_probability(monkeypatch):
    """60 looks at a model that copies so often as the look says it would find with probability 0.95."""
    data, level = gaussian_data(), level_of_look(10, 0.01)
    searches = search_of(data)
    share = judged(data, searches, 0.0, 0, level).detectable["exact"]
    assert 0.02 < share < 0.2
    # the level of the look is part of the statement: at a far smaller one the same copies are not enough
    assert judged(data, searches, 0.0, 0, 1e-25).detectable["exact"] > 1.5 * share
    monkeypatch.setattr("diffuscope.monitor.judged_copies.smallest_share_found", lambda *_, **__: share)
    monkeypatch.setattr("diffuscope.audit.copy_search.smallest_share_found", lambda *_: share)
    words = [judged(data, searches, share, seed, level).word for seed in range(60)]
    found = words.count("copies")
    assert found / 60 >= 0.95 - 3 * (0.95 * 0.05 / 60) ** 0.5
    # half of that share is found less often: the statement is no empty bound
    halved = [judged(data, searches, share / 2, seed, level).word for seed in range(60)].count("copies")
    assert halved < found


def test_a_growing_share_of_copies_is_detected_where_the_power_says_it_should_be():
    """The share grows by 0.5% a look; the first detection is at most a few looks after the share that is found."""
    data = gaussian_data(seed=3)
    searches = search_of(data)
    looks = (
        (0.005 * (k - 1), judged(data, searches, 0.005 * (k - 1), k, level_of_look(k, 0.01))) for k in range(1, 60)
    )
    share, found = next((share, found) for share, found in looks if found.word == "copies")
    assert 0.01 < share <= found.detectable["exact"] + 2 * 0.005
    assert found.copied_interval[0] <= share <= found.copied_interval[1] + 0.02


def test_few_heldout_examples_tell_nothing_and_say_so():
    data = gaussian_data(train=150, heldout=20)
    found = judged(data, search_of(data), 0.0, 0, level_of_look(1, 0.01))
    assert found.word == "cannot-tell"
    assert found.sentence.startswith("Cannot tell whether it copies: 20 held-out examples are too few for 120 samples")


def test_where_heldout_examples_are_near_copies_there_is_no_all_clear():
    data = gaussian_data(train=300, heldout=200)
    data.heldout[:] = data.train[:200] + 0.01 * data.heldout  # near-copies, as scans of one patient
    found = judged(data, search_of(data), 0.0, 0, level_of_look(1, 0.01))
    assert found.word == "cannot-tell"
    assert "near-copies of training examples" in found.sentence


def test_samples_biased_toward_training_examples_are_suspected_though_none_is_listed():
    """Every sample is moved a quarter of the way to a training example: not enough for the list, no chance."""
    data = gaussian_data()
    x, _ = drawn(data, 0.0, SAMPLES, 7)
    nearest = torch.cdist(x, data.train).argmin(1)
    found = judged_copies(
        x + 0.25 * (data.train[nearest] - x), search_of(data), rate=RATE, level=level_of_look(2, 0.01), seed=0
    )
    assert found.word == "suspected"
    assert found.copied == 0
    assert found.p_value <= found.level
    assert "none so much as to be listed" in found.sentence


def test_equal_samples_are_copies_where_no_rank_is_small():
    """Half of the samples equal training examples, and 20 held-out examples do not: no list, but an exact test."""
    data = gaussian_data(train=150, heldout=22)
    found = judged(data, search_of(data), 0.5, 0, level_of_look(1, 0.01))
    assert found.word == "copies"
    assert found.p_value <= 0.005

"""The verdict of a look on searches whose finds are made by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from diffuscope.audit.copy_search import Copies, CopySearch
from diffuscope.audit.frechet_ratio import Fidelity
from diffuscope.audit.repeats import Repeats
from diffuscope.findings import FrechetDistance
from diffuscope.monitor.judged_copies import JudgedCopies, Word, _sentence, _word, judged_copies, with_distance
from diffuscope.monitor.repeated_looks import rank_bounds, rank_p_value


class Planted(CopySearch):
    """A search that finds the same, with planted copies of two kinds."""

    def __init__(self, found, planted):
        self.found, self.planted, self.rates = found, planted, []

    def __call__(self, samples, rate):
        assert len(samples) == len(self.found.p_values)
        self.rates.append(rate)
        return self.found


def found_by_hand(p_values, listed=()):
    n = len(p_values)
    return Copies(
        p_values=np.array(p_values), listed=np.isin(np.arange(n), listed), nearest_training=np.arange(n),
        nearest_heldout=np.arange(n), distance=np.ones(n), next_distance=np.full(n, 2.0), transformation=[""] * n,
        null_distance=np.ones(40), null_next_distance=np.full(40, 2.0), heldout=np.arange(40), leaked={},
        repeats=Repeats(first=np.arange(n)), radius=0.0, rate=0.025, detectable={"exact": 0.1},
    )  # fmt: skip


def test_of_two_feature_spaces_each_has_half_the_rate_and_the_better_one_its_power(monkeypatch):
    """Three tests in each of two spaces; a kind of copy counts where it is found best."""
    asked = []

    def share(p_values, samples, rate, rng, *, also):
        asked.append((samples, rate, also.tolist(), float(rng.random())))
        return float(p_values[0])

    monkeypatch.setattr("diffuscope.monitor.judged_copies.smallest_share_found", share)
    one, other = found_by_hand([0.5, 0.3, 1 / 41]), found_by_hand([0.2, 0.9, 0.7])
    searches = {
        "pixels": Planted(one, {"exact": np.array([0.02]), "noisy": np.array([0.5])}),
        "mine": Planted(other, {"exact": np.array([0.07]), "noisy": np.array([0.3])}),
    }
    found = judged_copies(torch.zeros(3, 2), searches, rate=0.05, level=0.004, seed=7)
    assert found.detectable == {"exact": 0.02, "noisy": 0.3}
    assert [search.rates for search in searches.values()] == [[0.025], [0.025]]
    bounds = rank_bounds(3, 40, 0.004 / 6).tolist()
    assert [call[:3] for call in asked] == [(3, 0.025, bounds)] * 4
    assert len({call[3] for call in asked}) == 4  # streams of their own
    assert found.p_value == pytest.approx(min(1.0, 6 * rank_p_value(one.p_values, 40)))
    assert (found.samples, found.heldout, found.level, found.copied) == (3, 40, 0.004, 0.0)
    assert found.word == "not-detected"
    assert found.sentence == (
        "No copying detected; copies of 2.0% of the samples or more would be found with probability 0.95."
    )


def test_an_entry_of_the_list_is_copying_at_the_level_and_suspected_above_it(monkeypatch):
    monkeypatch.setattr("diffuscope.monitor.judged_copies.smallest_share_found", lambda *_, **__: 0.01)
    copied = found_by_hand([1 / 41] * 4 + [0.5], listed=range(4))
    p = 3 * rank_p_value(copied.p_values, 40)
    at, above = (
        judged_copies(torch.zeros(5, 2), {"pixels": Planted(copied, {"exact": np.zeros(1)})}, rate=0.05, level=level,
                      seed=0)
        for level in (p, 0.999 * p)
    )  # fmt: skip
    assert (at.word, above.word) == ("copies", "suspected")
    assert at.p_value == p
    assert "4 of 5 samples resemble one training example" in at.sentence
    assert above.copied == 0.8
    assert above.copied_interval[0] < 0.8 < above.copied_interval[1]


def judged_as(word: Word) -> JudgedCopies:
    return JudgedCopies(
        word=word, sentence="Said.", copied=0.0, copied_interval=(0.0, 0.1), samples=9, heldout=40, p_value=1.0,
        level=0.005, detectable={"exact": 0.1},
    )  # fmt: skip


def far(ratio: float, error: float = 0.0) -> Fidelity:
    """So many times as far from the data as other data are, with that standard error."""
    distance = FrechetDistance(ratio, error)
    return Fidelity(size=9, samples=distance, recited=distance, real=1.0, real_error=0.0, real_deviation=0.0)


def test_samples_that_are_far_from_the_data_are_said_to_be_and_as_far_as_half_of_noise_tell_nothing():
    clean = judged_as("not-detected")
    for near in (None, far(2.0), far(2.1, 0.1)):  # the interval begins at 2 at most
        assert with_distance(clean, near, far(10.0)) is clean
    for word in ("copies", "suspected", "cannot-tell"):
        assert with_distance(found := judged_as(word), far(9.0), far(10.0)) is found
    said = "Said. The samples are 4.99 times as far from held-out data as other held-out data are."
    for noise in (None, far(2.0), far(2.1, 0.1), far(10.0)):
        found = with_distance(clean, far(4.99), noise)
        assert (found.word, found.sentence) == ("not-detected", said)
    assert with_distance(clean, far(5.0), far(10.001)).word == "not-detected"
    unknown = with_distance(clean, far(5.0), far(10.0))
    assert unknown.word == "cannot-tell"
    assert unknown.sentence.startswith("Cannot tell whether it copies: its samples are 5 times as far from held-out")
    assert "as other held-out data are, white noise 10 times. It has not learned the data yet" in unknown.sentence
    assert with_distance(clean, far(4.9, 0.1), far(10.0)).word == "cannot-tell"  # 5 is in their interval


NOTHING, LISTED = found_by_hand([0.5] * 9), found_by_hand([0.5] * 9, listed=(2, 5))
LEAKED = dataclasses.replace(NOTHING, leaked=dict.fromkeys(range(20), 0))  # a third of the held-out examples


@pytest.mark.parametrize(
    ("found", "p_value", "of_copies", "exact", "word"),
    [
        (NOTHING, 1.0, 0.01, 0.1, "copies"),
        (NOTHING, 1.0, 0.011, 0.1, "not-detected"),
        (NOTHING, 0.01, 1.0, 0.1, "suspected"),
        (NOTHING, 0.011, 1.0, 0.25, "not-detected"),
        (NOTHING, 0.011, 1.0, 0.26, "cannot-tell"),
        (LISTED, 1.0, 1.0, 0.1, "suspected"),
        (LISTED, 1.0, 1.0, 1.0, "suspected"),
        (LEAKED, 1.0, 1.0, 0.1, "cannot-tell"),
        (dataclasses.replace(NOTHING, heldout_copied=True), 1.0, 1.0, 0.1, "cannot-tell"),
    ],
)
def test_the_word_follows_from_the_two_p_values_the_list_and_the_power(found, p_value, of_copies, exact, word):
    both = {"pixels": NOTHING, "mine": found}
    assert _word(both, p_value, of_copies, 0.01, {"exact": exact, "noisy": 0.9}) == word


@pytest.mark.parametrize(
    ("word", "found", "exact", "sentence"),
    [
        (
            "copies",
            LISTED,
            0.1,
            "Copies training examples: 2 of 9 samples resemble one training example more than held-out examples do "
            "(p = 0.020; the level of this look is 3.3e-03).",
        ),
        (
            "copies",
            NOTHING,
            0.1,
            "Copies training examples: samples repeat training examples more often than held-out examples do (p = "
            "0.020; the level of this look is 3.3e-03).",
        ),
        (
            "suspected",
            LISTED,
            0.1,
            "Suspected of copying: 2 of 9 samples resemble one training example more than held-out examples do, which "
            "repeated looks may find by chance (p = 0.020; the level of this look is 3.3e-03).",
        ),
        (
            "not-detected",
            NOTHING,
            1.0,
            "No copying detected; copies of 100.0% of the samples or more would be found with probability 0.95.",
        ),
        (
            "cannot-tell",
            NOTHING,
            math.inf,
            "Cannot tell whether it copies: 40 held-out examples are too few for 9 samples; not even copies alone "
            "would be found.",
        ),
        (
            "cannot-tell",
            LEAKED,
            0.1,
            "Cannot tell whether it copies: 20 of 60 held-out examples repeat training ones; copies of 10.0% of the "
            "samples or more would be found with probability 0.95.",
        ),
    ],
)
def test_what_is_said_of_a_look(word, found, exact, sentence):
    assert _sentence(word, found, {"mine": found}, 0.02, 1 / 300, {"exact": exact}) == sentence


def test_of_two_feature_spaces_the_one_with_the_larger_list_is_told(monkeypatch):
    monkeypatch.setattr("diffuscope.monitor.judged_copies.smallest_share_found", lambda *_, **__: 0.3)
    spaces = {"pixels": Planted(NOTHING, {"exact": np.zeros(1)}), "mine": Planted(LISTED, {"exact": np.zeros(1)})}
    found = judged_copies(torch.zeros(9, 2), spaces, rate=0.05, level=0.004, seed=0)
    assert (found.copied, found.word, found.p_value) == (2 / 9, "suspected", 1.0)
    assert "2 of 9 samples resemble" in found.sentence

"""The verdict of a look on searches whose finds are made by hand."""

import numpy as np
import pytest
import torch

from diffuscope.audit.copy_search import Copies, CopySearch
from diffuscope.audit.repeats import Repeats
from diffuscope.monitor.judged_copies import judged_copies
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

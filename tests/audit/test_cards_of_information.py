"""The cards on information in nats: each has the numbers of its own path, in the words of its own question."""

import pytest
from results_at_levels import FOUND

from diffuscope.audit.entropy_budget import information_findings


def test_every_card_has_its_own_value_and_the_interval_of_both_of_its_errors():
    beyond, away, fisher = information_findings(FOUND, 0.01)
    assert (beyond.value, away.value, fisher.value) == (2.0, 7.0, 25.0)
    assert beyond.interval == pytest.approx((2 - 1.959964 * 0.5 - 0.03, 2 + 1.959964 * 0.5 + 0.03), abs=1e-6)
    assert away.interval == pytest.approx((7 - 1.959964 - 0.04, 7 + 1.959964 + 0.04), abs=1e-6)
    assert fisher.interval == (12.5, 50.0)


def test_the_words_of_the_cards_have_their_numbers():
    beyond, away, fisher = information_findings(FOUND, 0.01)
    assert "at least 2 nats per held-out example more than a Gaussian" in beyond.verdict
    assert "both at noise σ/α = 0.12; the integral over noise levels is accurate to 0.03." in beyond.null
    assert "At noise σ/α = 0.12" in away.verdict
    assert "is at most 7 nats per example" in away.verdict
    assert "from σ/α = 16 down to 0.12" in away.null
    assert away.null.endswith("is accurate to 0.04.")
    assert "lies 25% of the way" in fisher.verdict
    assert all("48" in each.power for each in (beyond, away, fisher))

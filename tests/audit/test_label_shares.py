"""The shares of labels: the level of the test, its power, and labels that nobody has."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from scipy import stats

from diffuscope.audit.label_shares import LabelBalance, label_balance, label_block, label_finding
from diffuscope.findings import Chart, Groups, chi_squared_permutation


@pytest.fixture
def _fewer_permutations(monkeypatch):
    fewer = partial(chi_squared_permutation, permutations=499)
    monkeypatch.setattr("diffuscope.audit.label_shares.chi_squared_permutation", fewer)


def drawn_labels(shares, n, generator):
    return torch.multinomial(shares, n, True, generator=generator)


def balances(shares, known, n, m, repeats, generator, short=0.0):
    """A model that learned the shares of `known` training examples; label 0 `short`, the others in proportion."""
    rng, classes, found = np.random.default_rng(0), len(shares), []
    for _ in range(repeats):
        learned = drawn_labels(shares, known, generator).bincount(minlength=classes).double() / known
        first = max(0.0, float(learned[0]) - short)
        learned = torch.cat([learned.new_tensor([first]), learned[1:] * (1 - first) / learned[1:].sum()])
        pair = drawn_labels(learned, n, generator), drawn_labels(shares, m, generator)
        found.append(label_balance(torch.arange(classes), *pair, known, rng))
    return found


@pytest.mark.usefixtures("_fewer_permutations")
@pytest.mark.parametrize("sizes", [(899, 898, 1000), (1000, 9000, 10_000), (100, 50, 30)], ids=str)
def test_replayed_training_data_are_rejected_no_more_often_than_the_level(sizes, generator):
    """Sizes of training, heldout and samples; ten labels. Without the share of the training, 92 % of the second."""
    known, m, n = sizes
    found = balances(torch.full((10,), 0.1), known, n, m, 400, generator)
    level = 0.05
    blamed = np.mean([f.p_value <= level for f in found])
    assert blamed <= level + 4 * math.sqrt(level * (1 - level) / 400)


@pytest.mark.usefixtures("_fewer_permutations")
def test_the_level_holds_where_counts_are_small(generator):
    """Sixty labels, most of them rare, and 20 samples: the limit of large counts would reject 20% of them."""
    shares = 0.9 ** torch.arange(60.0)
    found = balances(shares / shares.sum(), 10**4, 20, 2000, 400, generator)
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
    assert abs(beyond.mean - 0.95) < 4 * beyond.standard_error + 0.01  # chi-squared is the limit of large counts


def test_labels_that_do_not_occur_are_no_evidence():
    labels, rng = torch.tensor([0, 0, 1, 1]), np.random.default_rng(0)
    assert label_balance(torch.arange(3), labels, labels, 4, rng).p_value == 1
    assert label_balance(torch.arange(3), labels[:2], labels[:2], 4, rng).p_value == 1
    assert label_balance(torch.arange(3), labels[:2], labels[:2], 4, rng).detectable(0.01) == math.inf
    many = torch.arange(2).repeat(500)
    two, padded = (label_balance(torch.arange(k), many, many, 1000, rng) for k in (2, 9))
    assert padded.detectable(0.01) == two.detectable(0.01)


def test_the_stated_shortage_satisfies_its_own_equation_with_twenty_samples():
    """Two labels of share 1/2: noncentral by delta^2 / pbar (1 - pbar) (1/n + 1/m + 1/N), found with 95%."""
    even, (n, m, known), level = torch.full((2,), 0.5, dtype=torch.float64), (20, 30, 10**6), 0.05
    sizes = {"samples": n, "others": m, "known": known}
    balance = LabelBalance(classes=torch.arange(2), of_samples=even, of_heldout=even, **sizes, p_value=1.0)
    delta = balance.detectable(level)
    shared = 0.5 - n / (n + m) * delta
    shift = delta**2 / (shared * (1 - shared) * (1 / n + 1 / m + 1 / known))
    assert 0.4 < delta < 0.5  # where the change of the shared share matters
    assert stats.ncx2.sf(stats.chi2.isf(level, 1), 1, shift) == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("classes", [3, 25])
def test_too_many_labels_for_bars_are_described_in_words(classes):
    labels = torch.arange(500) % classes
    shown = label_block(label_balance(torch.arange(classes), labels, labels, 500, np.random.default_rng(0)))
    if classes == 25:
        assert isinstance(shown, str)
        assert "25 labels are not drawn" in shown
    else:
        assert isinstance(shown, Chart)
        (bars,) = shown.panels[0].marks
        assert isinstance(bars, Groups)
        assert bars.names == ("0", "1", "2")
        assert sum(bars.heights[0]) == pytest.approx(100)


def test_a_label_that_no_sample_has_is_named_and_found_among_a_hundred_others():
    """1% of the data, 2000 samples: missing by chance with probability 2e-9, to which chi-squared is blind."""
    labels = torch.arange(100).repeat(100)
    found = label_balance(torch.arange(100), labels[labels != 7][:2000], labels, 10_000, np.random.default_rng(0))
    finding = label_finding(found, 0.01)
    assert found.p_value > 0.01
    assert finding.tone == "attention"
    assert finding.verdict.endswith("No sample at all has label 7.")


def test_a_rare_label_may_be_missing_by_chance():
    labels = torch.cat([torch.zeros(2000), torch.ones(2)]).long()
    found = label_balance(torch.arange(2), torch.zeros(200).long(), labels, 2002, np.random.default_rng(0))
    finding = label_finding(found, 0.01)
    assert not found.surely_missing(0.01)
    assert finding.tone == "good"
    assert "No sample at all has label 1." in finding.verdict


def test_shares_that_no_test_could_tell_apart_are_not_called_equal():
    few = torch.tensor([0, 1] * 3)
    finding = label_finding(label_balance(torch.arange(2), few, few, 6, np.random.default_rng(0)), 0.01)
    assert finding.tone == "unknown"
    assert finding.verdict.startswith("Cannot tell")

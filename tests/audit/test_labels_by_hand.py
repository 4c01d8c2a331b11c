"""Shares of labels: what is counted, the shortage that is found, and labels that are surely missing."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from diffuscope.audit import label_shares
from diffuscope.audit.label_shares import LabelBalance, label_balance, label_block, label_finding
from diffuscope.findings import Chart


def balance(ours, theirs, samples=500, others=300, known=2000, p_value=0.5):
    return LabelBalance(
        classes=torch.arange(len(ours)),
        of_samples=torch.tensor(ours).double(),
        of_heldout=torch.tensor(theirs).double(),
        samples=samples,
        others=others,
        known=known,
        p_value=p_value,
    )


@pytest.mark.parametrize(("samples", "others", "known"), [(500, 300, 2000), (90, 700, 60), (4000, 900, 9000)])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_shortage_that_is_found_has_the_noncentrality_of_the_power(samples, others, known, classes):
    """delta^2 over its variance is the noncentrality; the variance is that of the pooled share of the label."""
    made = balance([1 / classes] * classes + [0.0], [1 / classes] * classes + [0.0], samples, others, known)
    level, freedom, p = 0.01, classes - 1, 1 / classes
    critical = stats.chi2.isf(level, freedom)
    needed = optimize.brentq(lambda x: stats.ncx2.sf(critical, freedom, x) - 0.95, 0.1, 200)
    assert isinstance(needed, float)
    scale = 1 / samples + 1 / others + 1 / known

    def beyond(delta):
        pooled = p - samples / (samples + others) * delta
        return delta**2 / (pooled * (1 - pooled) * scale) - needed

    found = made.detectable(level)
    assert made.scale == pytest.approx(scale)
    if found < math.inf:
        assert beyond(found) == pytest.approx(0, abs=1e-6 * needed)
        assert found <= p
    else:
        assert beyond(p) < 0
    assert (found == math.inf) == (samples == 90 and classes == 4)


def test_a_single_label_has_no_shares_that_could_differ():
    assert balance([1.0, 0.0], [1.0, 0.0]).detectable(0.01) == math.inf
    assert balance([1.0, 0.0], [0.0, 1.0]).detectable(0.01) < math.inf  # each occurs on one side


@pytest.mark.parametrize("fewer", ["samples", "known"])
def test_a_label_is_surely_missing_of_as_many_as_would_have_it(fewer):
    """Of three labels at 1%: a sixth of it for the lower end of the share, 30 of 300, and for its absence."""
    level = 0.01 / 3 / 2
    share = stats.beta.ppf(level, 30, 271)
    least = math.floor(math.log(level) / math.log1p(-share)) + 1
    for count, sure in ((least, True), (least - 1, False)):
        sizes = {"samples": 9999, "known": 9999} | {fewer: count}
        assert balance([0.5, 0.5, 0.0], [0.4, 0.5, 0.1], **sizes).surely_missing(0.01) == sure
    assert not balance([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], 10**6, 300, 10**6).surely_missing(0.01)
    assert not balance([0.5, 0.4, 0.1], [0.4, 0.5, 0.1], 10**6, 300, 10**6).surely_missing(0.01)


def test_labels_are_counted_by_class_and_the_training_set_takes_its_share_of_the_variance(monkeypatch):
    asked = []

    def permutation(counts, share, _):
        asked.append((counts.tolist(), share))
        return 0.25

    monkeypatch.setattr(label_shares, "chi_squared_permutation", permutation)
    ours, theirs = torch.tensor([7, 7, 3, 7]), torch.tensor([3, 5, 5, 5, 3])
    made = label_balance(torch.tensor([3, 5, 7]), ours, theirs, 10, np.random.default_rng(0))
    assert asked == [([[1, 0, 3], [2, 3, 0]], pytest.approx((1 / 4 + 1 / 5) / (1 / 4 + 1 / 5 + 1 / 10)))]
    assert made.of_samples.tolist() == [0.25, 0.0, 0.75]
    assert made.of_heldout.tolist() == pytest.approx([0.4, 0.6, 0.0])
    assert (made.samples, made.others, made.known, made.p_value) == (4, 5, 10, 0.25)
    assert made.variation == pytest.approx((0.15 + 0.6 + 0.75) / 2)
    assert (made.missing, made.farthest) == ([5], 2)
    finding = label_finding(made, 0.01)
    assert (finding.value, finding.p_value) == (pytest.approx(75), 0.25)


@pytest.mark.parametrize("classes", [20, 21])
def test_up_to_twenty_labels_are_drawn_with_room_above_the_largest(classes):
    ours, theirs = np.full(classes, 0.5 / (classes - 1)), np.full(classes, 0.6 / (classes - 1))
    ours[3], theirs[5] = 0.5, 0.4
    block = label_block(balance(ours.tolist(), theirs.tolist(), samples=400))
    assert isinstance(block, Chart) == (classes == 20)
    if isinstance(block, Chart):
        (panel,) = block.panels
        assert panel.y_range == (0.0, pytest.approx(1.25 * 50))
        # (k - 1)^(1/2) / (k n^(1/2)): 19^(1/2) / 400
        assert "vary by about 1.1 percentage points" in block.how_to_read
        assert "The bars of 400 samples" in block.how_to_read

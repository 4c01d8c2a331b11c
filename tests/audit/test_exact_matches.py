"""Exact copies are told where the list of copies has no power, and innocent repeats are not."""

import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401
from scipy import stats

from audit_subjects import asked
from diffuscope.audit import audit_samples
from diffuscope.audit.exact_matches import ExactMatches
from diffuscope.data import data_from_arrays


def test_the_p_value_is_fishers():
    found = ExactMatches(samples=(6, 100), heldout=(1, 120))
    expected = stats.fisher_exact([[6, 94], [1, 119]], alternative="greater")[1]
    assert found.p_value == pytest.approx(expected, rel=1e-10)
    assert ExactMatches(samples=(0, 100), heldout=(0, 120)).p_value == 1.0
    assert ExactMatches(samples=(9, 9), heldout=(0, 0)).p_value == 1.0  # nothing to compare with


def test_ten_copies_are_told_with_sixty_held_out_examples(generator):
    train, heldout, samples = torch.randn(460, 6, generator=generator).split([300, 60, 100])
    data = data_from_arrays(train, heldout)
    copied = torch.cat([train[:10], samples[10:]])
    result = audit_samples(copied, data)
    assert not result["memorized"].result.copies["pixels"].listed.any()  # no p-value is below 1 in 61
    assert result.verdict.word == "copies"
    assert "10 of 100 samples equal one, and 0 of 60 held-out examples do" in result.verdict.sentence
    assert result["memorized"].findings[0].p_value == pytest.approx(stats.hypergeom.sf(9, 160, 10, 100))
    assert audit_samples(samples, data).verdict.word != "copies"


def test_one_exact_copy_is_told_and_deserves_attention(generator):
    train, heldout, samples = torch.randn(700, 6, generator=generator).split([300, 300, 100])
    with asked("memorized"):
        result = audit_samples(torch.cat([train[:1], samples[1:]]), data_from_arrays(train, heldout))
    finding = result["memorized"].findings[0]
    assert finding.tone == "attention"
    assert finding.verdict.startswith("1 of 100 samples equals a training example exactly, and none of 300 held-out")
    assert finding.p_value == pytest.approx(100 / 400)
    assert ExactMatches(samples=(1, 100), heldout=(0, 300)).alone
    assert not ExactMatches(samples=(1, 100), heldout=(1, 300)).alone
    assert not ExactMatches(samples=(1, 100), heldout=(0, 0)).alone


def test_rows_that_repeat_by_chance_are_no_copies(generator):
    """Every row is one of 256: samples equal training rows as held-out ones do."""
    rows = torch.randint(0, 2, (500, 8), generator=generator).float()
    result = audit_samples(rows[400:], data_from_arrays(rows[:300], rows[300:400]))
    assert result.verdict.word != "copies"

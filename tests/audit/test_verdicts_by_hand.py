"""Verdicts on memorization and on membership from made-up tests: which decides, at which level, with which numbers."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
from results_at_levels import gap
from results_of_samples import copies

from diffuscope.audit import membership as membership_module
from diffuscope.audit.attack_scores import ATTACKS, PairedLosses
from diffuscope.audit.copy_search import Copies
from diffuscope.audit.denoising_gap import Gap
from diffuscope.audit.exact_matches import exact_matches, near_matches
from diffuscope.audit.membership import _loss_area, membership
from diffuscope.audit.memorization import Memorization, verdict
from diffuscope.audit.nearness import Nearness
from diffuscope.findings import exact_share_interval

# memorization

EXACT, NEAR = np.array([0.0, 0.0, 4.0, 6.0, 1.0, 7.0]), (4, 0)
P_EXACT = math.comb(6, 2) / math.comb(9, 2)  # two of six samples, none of three held-out examples
P_NEAR = math.comb(6, 4) / math.comb(9, 4)
NO_GAP = gap(p_value=0.5)


def unlisted(**changes) -> Copies:
    return copies(listed=np.zeros(6, dtype=bool), **changes)


def near(share, p_value):
    return Nearness(
        nearer=round(100 * share), decided=100, references=50, interval=(share - 0.1, share + 0.2), p_value=p_value,
        binomial_p_value=p_value, planted=0.9, detectable=0.1,
    )  # fmt: skip


def judged(significance, *found, gap: Gap | None = NO_GAP, nearness=()):
    names = "pixels", "pca", "own"
    return verdict(
        Memorization(
            gap=gap,
            nearness=dict(zip(names, nearness, strict=False)),
            copies=dict(zip(names, found, strict=False)),
        ),
        significance,
    )


def test_a_list_of_copies_decides_before_all_else():
    found = judged(0.01, unlisted(), copies(distance=EXACT), gap=gap(p_value=1e-9), nearness=(near(0.8, 1e-9),))
    assert (found.tone, found.value) == ("alarm", pytest.approx(100 / 3))
    assert found.interval == pytest.approx(tuple(100 * end for end in exact_share_interval(2, 6)))
    assert found.p_value == pytest.approx(2 * 6 * 0.01)  # Simes' of six, and two spaces
    assert found.verdict.startswith("Copies training examples: 33.3% of its samples are copies (at most 5%")


def test_equal_examples_below_the_level_of_one_space_are_copies():
    for spaces in (1, 2):
        found = [unlisted(distance=EXACT), unlisted()][:spaces]
        one = judged(spaces * P_EXACT * 1.001, *found)
        assert (one.tone, one.value, one.p_value) == ("alarm", pytest.approx(100 / 3), pytest.approx(spaces * P_EXACT))
        assert one.interval == pytest.approx(tuple(100 * end for end in exact_share_interval(2, 6)))
        assert "2 of 6 samples equal one, and 0 of 3 held-out examples do." in one.verdict
        assert judged(spaces * exact_matches(found[0]).p_value, *found).tone == "attention"


def test_nearly_equal_examples_below_the_level_are_copies():
    found = unlisted(near=NEAR)
    p_value = near_matches(found).p_value
    assert p_value == pytest.approx(P_NEAR)
    one = judged(p_value * 1.001, found)
    assert (one.tone, one.value, one.p_value) == ("alarm", pytest.approx(400 / 6), pytest.approx(P_NEAR))
    assert "4 of 6 samples nearly repeat one, and 0 of 3 held-out examples do." in one.verdict
    assert one.interval == pytest.approx(tuple(100 * end for end in exact_share_interval(4, 6)))
    assert judged(p_value, found).tone == "good"


def test_few_equal_examples_deserve_a_look_and_biases_are_added():
    two = judged(0.01, unlisted(distance=EXACT))
    assert (two.tone, two.value, two.p_value) == ("attention", pytest.approx(100 / 3), pytest.approx(P_EXACT))
    assert two.verdict == (
        "2 of 6 samples equal a training example exactly, and none of 3 held-out examples does: too few to exclude "
        "chance."
    )
    one = judged(0.01, unlisted(distance=np.array([0.0, 1.0, 4.0, 6.0, 1.0, 7.0])), gap=gap(p_value=0.001))
    assert one.verdict.startswith("1 of 6 samples equals a training example exactly")
    assert one.verdict.endswith(" Besides, its loss is 5.5% lower on training than on held-out data.")


def test_a_bias_counts_below_the_level_and_the_largest_share_is_named_first():
    biased = judged(0.02, unlisted(), unlisted(), nearness=(near(0.6, 0.009), near(0.7, 0.0099), near(0.8, 0.01)))
    assert (biased.tone, biased.value) == ("attention", pytest.approx(70))
    assert biased.interval == pytest.approx((60, 90))
    assert biased.p_value == pytest.approx(2 * 0.0099)
    assert "70.0% of its samples are nearer to training than to held-out data; no sample is a copy" in biased.verdict
    loss = judged(0.0021 * 1.01, unlisted(), gap=gap())
    assert (loss.tone, loss.value, loss.p_value) == ("attention", pytest.approx(5.47), 0.0021)
    assert loss.interval == pytest.approx((3.1, 8.2))
    assert judged(0.0021, unlisted(), gap=gap()).tone == "good"
    both = judged(0.02, unlisted(), gap=gap(), nearness=(near(0.7, 0.01),))
    assert both.value == pytest.approx(70)
    assert both.verdict.index("70.0%") < both.verdict.index("5.5%")
    open_ = judged(0.02, unlisted(detectable={"exact": 0.9}), gap=gap())
    assert "whether samples are copies is open: 3 held-out examples do not tell 6 samples" in open_.verdict


def test_nothing_is_good_only_where_the_weakest_space_can_tell():
    good = judged(0.01, unlisted(), unlisted(detectable={"exact": 0.05}))
    assert good.interval is not None
    assert (good.tone, good.value, good.interval[0]) == ("good", 0.0, 0.0)
    assert good.interval[1] == pytest.approx(100 * exact_share_interval(0, 6)[1])
    assert good.power.endswith("exact 0.40%, noisy 3.10%. Not found at any share: blurred.")  # of the first space
    assert "treated like held-out data" in good.verdict
    alone = judged(0.01, unlisted(), gap=None)
    assert (alone.tone, "in these samples" in alone.verdict) == ("good", True)
    copied = judged(0.01, unlisted(), unlisted(heldout_copied=True))
    assert copied.tone == "unknown"
    assert copied.power.startswith("None")
    blind = judged(0.01, unlisted(detectable={"exact": math.inf}))
    assert (blind.tone, blind.power[:5]) == ("unknown", "None:")
    known = unlisted(leaked={0: 1, 1: 2, 2: 3})
    assert judged(0.01, known).tone == "unknown"
    assert "3 of 6 held-out examples repeat training ones" in judged(0.01, known).verdict
    assert judged(0.01, known, gap=None).tone == "good"


# membership


def attacked(monkeypatch, p_area, rare, pairs=200, significance=0.01):
    """What `membership` makes of areas and true positives of these p-values."""
    asked = []

    def measures(attack, _, confidence):
        asked.append((attack, confidence))
        p_value = dict(zip(ATTACKS, rare, strict=True))[attack]
        return SimpleNamespace(
            true_positives={0.01: SimpleNamespace(p_value=p_value), 0.001: SimpleNamespace(p_value=0)}
        )

    monkeypatch.setattr(membership_module, "attacks", lambda *_: ({name: name for name in ATTACKS}, p_area))
    monkeypatch.setattr(membership_module, "measures", measures)
    monkeypatch.setattr(membership_module, "Membership", lambda **given: SimpleNamespace(**given))
    losses = [np.zeros((2, pairs, 3)) for _ in range(3)]
    losses[1][1] = 1.0  # members have the lower loss for a memorizer
    losses[2][0] = 1.0
    model, memorizer, control = (PairedLosses(each, each[..., None]) for each in losses)
    return inspect.unwrap(membership)(
        model, memorizer, control, significance, np.random.default_rng(0), "groups"
    ), asked


def test_areas_and_true_positives_share_the_level_and_the_attacks_theirs(monkeypatch):
    found, asked = attacked(monkeypatch, 0.04, (0.03, 0.02, 0.5))
    assert found.p_value == pytest.approx(2 * 0.04)  # three times 0.02 is more
    assert [confidence for _, confidence in asked] == pytest.approx([0.95] * 3 + [1 - 0.05 / 3] * 3)
    assert [attack for attack, _ in asked] == [*ATTACKS, *ATTACKS]
    deviation = math.sqrt(401 / (12 * 200 * 200))
    # half of the level among three attacks: a sixth of 1%
    assert found.detectable == pytest.approx(0.5 + (2.9352 + 1.6449) * deviation, abs=1e-4)
    assert (found.memorizer, found.control, found.pairs, found.unit) == (1.0, 0.0, 200, "groups")
    assert attacked(monkeypatch, 0.2, (0.03, 0.02, 0.5))[0].p_value == pytest.approx(2 * 3 * 0.02)
    assert attacked(monkeypatch, 0.6, (0.5, 0.4, 0.5))[0].p_value == 1.0
    unresolved = attacked(monkeypatch, 0.3, (math.nan,) * 3)[0]
    assert unresolved.p_value == pytest.approx(0.6)
    assert attacked(monkeypatch, 0.3, (0.5, 0.4, 0.5), pairs=20)[0].detectable == pytest.approx(
        0.5 + 4.5801 * math.sqrt(41 / (12 * 20 * 20)), abs=1e-4
    )
    assert attacked(monkeypatch, 0.3, (0.5, 0.4, 0.5), pairs=13)[0].detectable == math.inf


def test_the_area_of_the_loss_is_that_of_its_mean_over_levels():
    """Of four pairs of one training and one held-out example, three have the lower mean loss in training."""
    model = np.array([[[0.0, 2.0], [5.0, 1.0]], [[2.0, 2.0], [4.0, 4.0]]])  # means 1, 3 and 2, 4
    assert _loss_area(PairedLosses(model, model[..., None])) == 3 / 4

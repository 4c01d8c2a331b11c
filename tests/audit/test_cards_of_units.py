"""Cards and tables on memorization in one sentence, units of samples and readings, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from dataclasses import replace

import numpy as np
import pytest
import torch
from results_at_levels import gap
from results_of_samples import copies, units_by_hand

from diffuscope.audit.consistency import AGREES, IDENTITY, Consistency, consistency_finding
from diffuscope.audit.measure import at_least
from diffuscope.audit.memorization import Memorization, verdict
from diffuscope.audit.nearness import Nearness
from diffuscope.audit.reading_search import error_ratio, formula_error
from diffuscope.audit.repeats import Repeats
from diffuscope.audit.sample_units import heldout_finding, units_of_samples, units_table
from diffuscope.audit.units import Affine, moments, rearrangements, usual_maps
from numbers_in_tests import rng

# memorization in one sentence


def near(**changes):
    made = Nearness(nearer=63, decided=90, references=250, interval=(0.61, 0.78), p_value=0.5, binomial_p_value=0.5,
                    planted=0.93, detectable=0.083)  # fmt: skip
    return replace(made, **changes)


EMPTY = np.zeros(6, dtype=bool)


NO_GAP = gap(p_value=0.5)


def memorized(found=None, gap=NO_GAP, nearness=None, **others):
    spaces = {"pixels": copies(listed=EMPTY) if found is None else found, **others}
    return verdict(Memorization(gap, {"pixels": near() if nearness is None else nearness}, spaces), 0.01)


def test_the_verdict_says_that_training_examples_repeat_one_another_from_a_tenth_on():
    """Whatever it is; of two feature spaces the one where more of them do."""
    few, tenth, most = (Repeats(first=np.arange(1000) * (np.arange(1000) >= k)) for k in (100, 101, 901))
    assert (few.count, tenth.count, most.count) == (99, 100, 900)
    told = " {} of 1,000 training examples repeat an earlier one, exactly or nearly."
    plain = memorized(copies(repeats=few, listed=EMPTY))
    assert "repeat" not in plain.verdict
    for tone, listed in (("alarm", copies().listed), ("good", EMPTY)):
        found = memorized(copies(repeats=tenth, listed=listed), other=copies(repeats=few, listed=EMPTY))
        assert (found.tone, found.verdict) == (tone, memorized(copies(listed=listed)).verdict + told.format(100))
    assert memorized(copies(repeats=most, listed=EMPTY)).verdict == plain.verdict + told.format(900)


def test_the_verdict_has_the_number_that_decides():
    copied = memorized(copies())
    assert (copied.value, copied.tone, copied.p_value) == (pytest.approx(100 / 3), "alarm", pytest.approx(0.06))
    assert copied.verdict.startswith("Copies training examples: 33.3% of its samples are copies (at most 5% of")
    twice = memorized(copies(), other=copies(listed=EMPTY))
    assert twice.p_value == pytest.approx(0.12)  # of two spaces
    others = {f"space {k}": copies(listed=EMPTY) for k in range(19)}
    many = memorized(copies(), **others)  # pyright: ignore[reportArgumentType]
    assert many.p_value == 1.0
    biased = memorized(gap=gap())
    assert (biased.value, biased.tone, biased.p_value) == (pytest.approx(5.47), "attention", 0.0021)
    assert biased.interval == pytest.approx((3.1, 8.2))
    assert "its loss is 5.5% lower on training than on held-out data; no sample is a copy." in biased.verdict
    nearer = memorized(gap=gap(), nearness=near(p_value=0.004))
    assert (nearer.value, nearer.p_value) == (pytest.approx(70), 0.004)
    assert nearer.interval == pytest.approx((61, 78))
    assert (
        "70.0% of its samples are nearer to training than to held-out data and its loss is 5.5% lower" in nearer.verdict
    )
    assert memorized(nearness=near(p_value=0.01)).tone == "good"  # at the level
    assert memorized(nearness=near(p_value=0.004), other=copies(listed=EMPTY)).tone == "attention"
    assert memorized(nearness=near(p_value=0.005), other=copies(listed=EMPTY)).tone == "good"  # half of it
    assert memorized(gap=None).verdict.startswith("No sign of memorization in these samples")  # pyright: ignore[reportArgumentType]
    assert memorized(copies(listed=EMPTY, detectable={"exact": 0.9})).tone == "unknown"


def test_samples_that_equal_training_examples_are_counted_against_heldout_ones():
    n, m = 60, 80
    zeros = np.zeros(n, dtype=bool)

    def found(equal, fresh, close=None):
        """Of n samples and m held-out examples; `close` are near repeats of either."""
        distance, null = np.ones(n), np.ones(m)
        distance[:equal], null[:fresh] = 0.0, 0.0
        return copies(
            p_values=np.full(n, 0.5), listed=zeros, nearest_training=np.arange(n), nearest_heldout=np.arange(n),
            distance=distance, next_distance=np.ones(n), transformation=[""] * n, null_distance=null,
            null_next_distance=np.ones(m), heldout=np.arange(m), leaked={}, near=close,
        )  # fmt: skip

    many = memorized(found(20, 3))
    assert (many.tone, many.value) == ("alarm", pytest.approx(100 / 3))
    assert many.verdict == "Copies training examples: 20 of 60 samples equal one, and 3 of 80 held-out examples do."
    assert many.p_value == pytest.approx(at_least(20, 3, n, m))
    few = memorized(found(2, 0))
    assert (few.tone, few.value) == ("attention", pytest.approx(200 / 60))
    assert few.verdict.startswith(
        "2 of 60 samples equal a training example exactly, and none of 80 held-out examples does"
    )
    assert few.interval is not None
    assert few.interval[0] < few.value < few.interval[1]
    assert memorized(found(1, 0)).verdict.startswith("1 of 60 samples equals a")
    close = memorized(found(0, 0, (25, 4)))
    assert (close.tone, close.value) == ("alarm", pytest.approx(2500 / 60))
    assert "25 of 60 samples nearly repeat one, and 4 of 80 held-out examples do." in close.verdict
    assert close.p_value == pytest.approx(at_least(25, 4, n, m))
    assert memorized(found(0, 0)).tone == "good"


# units of samples


@pytest.mark.parametrize(
    ("changes", "own", "tone", "value"),
    [
        ({}, False, "good", 1.1),
        ({"deviation": 1.6}, False, "alarm", 1.6),
        ({"deviation": 1.6}, True, "neutral", 1.6),
        ({"deviation": 1.59}, False, "good", 1.59),
        ({"deviation": 1 / 1.6}, False, "alarm", 0.625),
        ({"shift": -1.0}, False, "alarm", -1.0),
        ({"shift": 0.99}, False, "good", 1.1),
        ({"name": "[0, 1]", "nearer": 0.9, "before": 3.0, "after": 2.0}, True, "alarm", 1.5),
        ({"name": "[0, 1]", "nearer": 0.89, "before": 3.0, "after": 2.0}, True, "good", 1.1),
        ({"name": "[0, 1]", "nearer": 0.9, "before": 3.0, "after": 2.1}, True, "good", 1.1),
    ],
)
def test_units_of_samples_are_a_fault_at_the_stated_bars(changes, own, tone, value):
    found = units_of_samples(units_by_hand(**changes), "samples", own=own)
    assert (found.tone, found.value) == (tone, pytest.approx(value))
    assert f"is {units_by_hand(**changes).before:.3g} times that of held-out" in found.null


def test_the_words_of_units_have_their_numbers():
    fault = units_by_hand(name="values in [0, 1]", written="data = 2 × value − 1", nearer=0.97, before=3.0, after=1.0)
    text = units_of_samples(fault, "wiring", own=True).verdict
    assert text.endswith("97% of them are nearer to the data if read as values in [0, 1] (data = 2 × value − 1).")
    shifted = units_of_samples(units_by_hand(shift=-1.5), "samples", own=False)
    assert shifted.unit == "standard deviations"
    assert shifted.verdict.endswith("their mean is off by -1.5 standard deviations.")
    assert "spread 1.7 times as wide" in units_of_samples(units_by_hand(deviation=1.7), "samples", own=False).verdict


@pytest.mark.parametrize(
    ("count", "chance", "tone"), [(2, 0.0, "good"), (9, 0.0, "alarm"), (9, 0.02, "good"), (0, 0.0, "good")]
)
def test_samples_are_heldout_examples_if_the_whole_interval_says_so(count, chance, tone):
    """Of 200: the lower end is 2.1% for 9 and 0.12% for 2."""
    found = heldout_finding(units_by_hand(heldout=(count, 200), chance=chance), "samples")
    assert (found.tone, found.value) == (tone, count / 2)
    assert found.null.startswith(f"{100 * chance:.2g}%:")
    assert found.power.startswith("200 samples; from 1% beyond chance")
    if tone == "alarm":
        assert found.verdict.startswith("9 of 200 samples are held-out examples")


def test_affine_maps_go_there_and_back_and_are_written():
    units = Affine("x", 0.5, -2.0)
    x = torch.tensor([1.0, 3.0])
    assert units.to_data(x).tolist() == [-1.5, -0.5]
    assert units.from_data(units.to_data(x)).tolist() == [1.0, 3.0]
    assert units.written() == "data = 0.5 × value − 2"
    assert Affine("x", 0.5, 2.0).written() == "data = 0.5 × value + 2"


def test_the_usual_maps_bring_the_ends_of_a_range_to_those_of_the_data():
    maps = {m.name: m for m in usual_maps((-2.0, 6.0), 1.5, 0.7)}
    ends = torch.tensor([0.0, 255.0])
    assert maps["[0, 255]"].to_data(ends).tolist() == pytest.approx([-2.0, 6.0], abs=1e-5)
    assert maps["[0, 255], light and dark exchanged"].to_data(ends).tolist() == pytest.approx([6.0, -2.0], abs=1e-5)
    assert maps["[-1, 1]"].to_data(torch.tensor([-1.0, 1.0])).tolist() == [-2.0, 6.0]
    standard = maps["mean 0 and variance 1"]
    assert (standard.scale, standard.offset) == (0.7, 1.5)
    assert len(maps) == 13
    assert "[-1, 1]" not in {m.name for m in usual_maps((-1.0, 1.0), 0.2, 0.5)}  # the identity is none


def test_moments_are_medians_over_samples():
    x = torch.tensor([[1.0, 3.0], [2.0, 2.0], [40.0, 80.0]])
    center = torch.tensor([1.0, 1.0])
    mean, distance = moments(x, center)
    assert mean == 2.0
    assert distance == pytest.approx(2**0.5)  # of sqrt(2), 1 and 62: the root mean square per coordinate


def test_images_alone_are_rearranged_and_keep_their_shape():
    assert rearrangements((4, 4)) == {}
    assert set(rearrangements((1, 2, 3))) == {"turned upside down"}
    maps = rearrangements((3, 2, 2))
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert maps["exchanged height and width"](x)[0, 0].tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert maps["turned upside down"](x)[0, 1].tolist() == [[6.0, 7.0], [4.0, 5.0]]
    assert maps["channels in reversed order"](x)[0, :, 0, 0].tolist() == [8.0, 4.0, 0.0]


def test_the_table_of_units_has_every_channel():
    x = torch.tensor([[[[1.0, 5.0]], [[2.0, 8.0]]], [[[3.0, 7.0]], [[-4.0, 6.0]]]])
    first, second = units_table({"data": x}).rows
    assert first == ["data, channel 0", 4.0, pytest.approx((20 / 3) ** 0.5), 1.0, 7.0]
    assert second == ["data, channel 1", 3.0, pytest.approx((84 / 3) ** 0.5), -4.0, 8.0]
    (row,) = units_table({"points": torch.tensor([[1.0, 5.0], [3.0, 7.0]])}).rows
    assert row == ["points", 4.0, pytest.approx((20 / 3) ** 0.5), 1.0, 7.0]


# readings and one-step maps


def test_the_error_ratio_is_a_geometric_mean_over_levels():
    given, best = np.array([[2.0, 6.0], [1.0, 3.0]]), np.array([[1.0, 1.0], [4.0, 4.0]])
    assert error_ratio(given, best) == pytest.approx((4 * 0.5) ** 0.5)


def test_the_error_of_the_formula_is_relative_to_the_gaussians():
    variances = torch.tensor([9.0, 1.0], dtype=torch.float64)
    # at rho = 2: s^2 = 5, 10 * 4 / 9 against 36 / 13 + 4 / 5
    assert formula_error(variances, np.array([2.0])) == pytest.approx([(40 / 9) / (36 / 13 + 4 / 5)])


@pytest.mark.parametrize(
    ("moved", "error", "calls", "tone"),
    [(IDENTITY, 1.0, 2, "good"), (IDENTITY, 1.0, 1, "neutral"), (1.01 * IDENTITY, 1.0, 2, "attention"),
     (1.01 * IDENTITY, 1.0, 1, "neutral"), (IDENTITY, AGREES, 2, "good"), (IDENTITY, 1.01 * AGREES, 2, "attention"),
     (IDENTITY, 1.01 * AGREES, 1, "neutral")],
)  # fmt: skip
def test_a_consistency_model_is_the_identity_at_its_lowest_level(moved, error, calls, tone):
    found = consistency_finding(
        Consistency(
            moved=np.full(50, 0.999999 * moved**2), lowest=0.013, levels=np.array([0.5, 0.2]),
            errors=np.array([0.4, error]),
        ),
        calls,
        rng(),
    )  # fmt: skip
    assert (found.tone, found.unit) == (tone, "standard deviations")
    assert found.value == pytest.approx(moved, rel=1e-5)
    assert found.interval == pytest.approx((moved, moved), rel=1e-5)
    assert found.power.startswith("50 held-out examples at the lowest level, 0.0130 standard deviations")
    if error > AGREES and moved == IDENTITY:
        assert "under noise of 0.200 standard deviations end 1.52 times as far" in found.verdict

"""No sentence of a finding has a number that is none, and no share beyond what is possible, whatever was measured."""

import dataclasses
import math
import re

import numpy as np
import pytest
from made_by_hand import finding
from results_at_levels import (
    FOUND,
    compared_by_hand,
    decided,
    equation,
    gap,
    hand_made,
    learned_by_hand,
    position,
    reading,
    skill,
    split,
    units,
)  # fmt: skip
from results_of_samples import balance, columns, copies, covered, distance, fit, judged, pairs, units_by_hand
from test_cards_of_membership import attacked, bound
from test_cards_of_standing import outlook

from diffuscope.audit import Answer
from diffuscope.audit.class_fit import fit_finding
from diffuscope.audit.column_pairs import pairs_finding
from diffuscope.audit.column_shares import columns_finding
from diffuscope.audit.consistency import Consistency, consistency_finding
from diffuscope.audit.copy_search import copies_finding
from diffuscope.audit.coverage import coverage_finding
from diffuscope.audit.denoising_gap import gap_finding
from diffuscope.audit.ends import Start
from diffuscope.audit.entropy_budget import information_findings
from diffuscope.audit.epsilon_finding import epsilon_finding
from diffuscope.audit.heldout_units import HeldoutUnits, heldout_units_finding
from diffuscope.audit.judged_quality import Quality
from diffuscope.audit.label_shares import label_finding
from diffuscope.audit.membership import findings as membership_findings
from diffuscope.audit.memorization import Memorization
from diffuscope.audit.memorization import verdict as memorized
from diffuscope.audit.modes import Modes, modes_finding
from diffuscope.audit.nearness import Nearness, nearness_finding
from diffuscope.audit.owner_findings import owners_finding
from diffuscope.audit.owner_sets import OwnerTest
from diffuscope.audit.questions import agreement, generalizes, learned, loss, order, quality, steps, wiring
from diffuscope.audit.sample_units import heldout_finding, units_of_samples
from diffuscope.audit.score_consistency import consistency_findings
from diffuscope.audit.skill import drift_finding, skill_finding
from diffuscope.audit.unmeasured import answer_in_words, in_words
from diffuscope.errors import InputError
from numbers_in_tests import rng

NONE = re.compile(r"\b(nan|inf)\b|not available\s*(%|x|to|\))|∞\s*%", re.IGNORECASE)
SHARE = re.compile(r"([-−+]?[\d,]+(?:\.\d+)?)% (?:of|exact copies)")
BAD = (math.nan, math.inf, -math.inf)
NEAR = Nearness(nearer=63, decided=90, references=250, interval=(0.6, 0.8), p_value=0.5, binomial_p_value=0.5,
                planted=0.93, detectable=0.083)  # fmt: skip

RENDERED = {
    "gap": (gap(), lambda x: [gap_finding(x, 0.01)]),
    "memorization": (Memorization(gap(), {"pixels": NEAR}, {"pixels": copies()}), lambda x: [memorized(x, 0.01)]),
    "copies": (copies(), lambda x: [copies_finding(x, "pixels")]),
    "nearness": (NEAR, lambda x: [nearness_finding(x, "pixels", "", 0.01)]),
    "membership": (attacked(), lambda x: membership_findings(x, 0.01)),
    "epsilon": (bound(), lambda x: [epsilon_finding(x)]),
    "owners": (
        OwnerTest(owner=1, published=9, unpublished=9, p_value=0.2, corrected=0.2),
        lambda x: [owners_finding([x], 0.01)],
    ),
    "learned": (learned_by_hand(), learned.findings),
    "loss": (split(), loss.findings),
    "generalizes": (outlook(), lambda x: generalizes.findings(x, significance=0.01, memorized=None, doubt="")),
    "agreement": (compared_by_hand(), agreement.findings),
    "steps": (hand_made(), lambda x: steps.findings(x, rng())),
    "order": (decided(np.array([9.0, 1.0, 0.1]), np.ones((20, 3, 3))), lambda x: order.findings(x, rng())),
    "quality": (
        Quality(judged=(judged(distance(1.2)),), classifier=None, balance=None, reasons=()),
        lambda x: [quality.quality_finding(x, copying=False)],
    ),
    "coverage": (covered(), lambda x: [coverage_finding(x, 0.01)]),
    "labels": (balance([0.5, 0.5], [0.4, 0.6]), lambda x: [label_finding(x, 0.01)]),
    "modes": (
        Modes(balance=balance([0.5, 0.5], [0.4, 0.6]), of_heldout=np.zeros(4, int)),
        lambda x: [modes_finding(x, 0.01)],
    ),
    "columns": (columns(), lambda x: [columns_finding(x, 0.01)]),
    "pairs": (pairs(), lambda x: [pairs_finding(x, 0.01)]),
    "information": (FOUND, lambda x: information_findings(x, 0.01)),
    "equation": (equation(), consistency_findings),
    "class": (fit(1.2, spread=0.1), lambda x: [fit_finding(x, 0.01, rng())]),
    "consistency": (
        Consistency(moved=np.full(50, 0.01), lowest=0.013, levels=np.array([0.5, 0.2]), errors=np.array([0.4, 0.3])),
        lambda x: [consistency_finding(x, 1, rng())],
    ),
    "samples": (units_by_hand(), lambda x: [units_of_samples(x, "samples", own=False), heldout_finding(x, "samples")]),
    "held-out": (
        HeldoutUnits(units=units_by_hand(), shifted=(1, 20), spread=(1, 20)),
        lambda x: [heldout_units_finding(x, "samples")],
    ),
    "start": (Start(ratio=23.0, displacement=0.31, shift=0.1, shift_error=0.05), lambda x: [wiring.start_finding(x)]),
    "skill": (skill(), lambda x: [skill_finding(x), drift_finding(x)]),
    "units": (units(), lambda x: [wiring.units_finding(x)]),
    "reading": (reading(), lambda x: [wiring.reading_finding(x)]),
}


def variants(x):
    """The made result with one number, interval or array of each part and its parts replaced by numbers that are none.

    Names of what is replaced are given with it.
    """
    for field in (each for each in dataclasses.fields(x) if each.name != "confidence"):  # which is set
        for name, value in changed(getattr(x, field.name)):
            try:
                yield f"{field.name}{name}", dataclasses.replace(x, **{field.name: value})
            except InputError:
                continue  # what is refused is never told


def changed(value):
    if dataclasses.is_dataclass(value):
        for name, part in variants(value):
            yield f".{name}", part
    elif isinstance(value, dict):
        for key, part in value.items():
            for name, new in changed(part):
                yield f"[{key}]{name}", value | {key: new}
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for name, part in variants(value[0]):
            yield f"[0].{name}", (part, *value[1:])
    elif isinstance(value, float):
        yield from ((f" = {bad}", bad) for bad in BAD)
    elif isinstance(value, tuple) and value and all(isinstance(part, float) for part in value):
        for bad in BAD:
            yield f" = all {bad}", (bad,) * len(value)
            yield f" = ends {bad}", (*value[:-2], bad, bad)
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        yield from ((f" = {bad}", np.full_like(value, bad)) for bad in BAD)


def shown(found):
    """All that is printed of it."""
    return found.verdict, found.measured, found.power, found.null


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", RENDERED)
def test_no_sentence_has_a_number_that_is_none_whatever_was_not_measured(name):
    made, render = RENDERED[name]
    told = 0
    for what, result in (("as it is", made), *variants(made)):
        try:
            found = render(result)
        except (ValueError, IndexError, ArithmeticError, InputError):
            continue  # what is refused is never told
        for one in map(in_words, found):
            told += 1
            for text in shown(one):
                assert not NONE.search(text), (what, one.name, text)
                assert all(0 <= float(x.replace("−", "-").replace(",", "")) <= 100 for x in SHARE.findall(text)), text
    assert told > 3


def test_an_audit_says_so_in_words():
    """Also of a question of one's own."""
    unmeasured = finding(value=math.inf, interval=(math.nan, 1.0), verdict=f"It is {math.inf:.0%}.", p_value=math.nan)
    answer = answer_in_words(Answer(findings=[unmeasured, finding(power=f"{math.nan:.2g} would."), finding()]))
    first, second, third = answer.findings
    assert (first.tone, first.interval, first.p_value, first.measured) == ("unknown", None, None, "not available")
    assert first.verdict == "Cannot tell: a number that this rests on could not be measured."
    assert (second.tone, second.power[:5]) == ("unknown", "None:")
    assert second.verdict.endswith("measured. So.")
    assert third == finding()
    alarm = in_words(finding(tone="alarm", verdict=f"Off by {math.nan:+.2g}."))
    assert (alarm.tone, alarm.verdict) == ("alarm", first.verdict)
    named = finding(verdict="Column 'nan' and column \"inf\" are infinite, of nanometers.")
    assert in_words(named) == named


@pytest.mark.parametrize(
    ("place", "text"),
    [(0.25, "lies 25% of the way"), (-0.3, "is less than the Gaussian's"), (1.2, "is more than that of the training")],
)
def test_a_place_that_is_not_between_its_ends_is_not_a_share(place, text):
    result = dataclasses.replace(FOUND, place=(place, place - 0.1, place + 0.1))
    assert text in information_findings(result, 0.01)[2].verdict


def test_a_residual_beyond_what_is_possible_is_no_power():
    (first, _) = consistency_findings(equation(detectable=np.full(2, 1.3)))
    assert first.power.startswith("None: at a typical noise level not even terms that all add up")


def where_it_stands(**changes):
    return generalizes.findings(outlook(**changes), significance=0.01, memorized=None, doubt="")[0]


def spread_gap(mean, spread):
    """Sums over two levels: Delta is 3, and the gap twice `mean`, with twice `spread` from pair to pair."""
    sign = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]
    return dataclasses.replace(position(), gap=np.tile(mean + spread * sign, (1, 3)))


def test_a_position_without_an_interval_or_outside_of_its_ends_is_told_in_words():
    for interval in ((-1.12, math.nan, math.nan), (0.4, -0.2, math.inf)):
        found = where_it_stands(standing=interval)
        assert found.tone == "unknown"
        assert found.verdict == (
            "Cannot tell: 40 pairs of examples would not tell the optimum from a model that treats both alike."
        )
    below = where_it_stands(standing=(-0.73, -0.9, -0.5))
    assert below.tone == "unknown"
    assert "lower on held-out examples than on training examples" in below.verdict
    chance = where_it_stands(standing=(-0.06, -0.2, 0.08))
    assert (chance.tone, chance.value, chance.interval) == ("neutral", 0.0, (0.0, 8.0))
    assert chance.verdict.startswith("Its denoising loss stands 0% of the way")


def test_ends_that_cannot_be_told_apart_give_no_position():
    """A standard error of 2 * 9 / sqrt(40) = 2.8 and ends that are 3 + 0.2 apart."""
    assert where_it_stands(position=spread_gap(0.1, 9.0)).tone == "unknown"
    assert where_it_stands(position=spread_gap(0.1, 0.5)).tone == "neutral"

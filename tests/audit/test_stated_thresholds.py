"""The numbers by which an audit judges are those that its pages state."""

import re
from pathlib import Path

import pytest

from diffuscope.audit import entropy_budget, unexplained_variance
from diffuscope.audit.agreement_doubts import SHARED
from diffuscope.audit.component_levels import COMPONENTS, FEWEST_LEVELS
from diffuscope.audit.copy_search import LARGEST_SHARE, OTHERS
from diffuscope.audit.coverage import PARTS
from diffuscope.audit.frechet_ratio import BAR
from diffuscope.audit.leaked import NEAR_CHANCE, REPEAT_QUANTILE
from diffuscope.audit.level_measures import TRIVIAL
from diffuscope.audit.measure import TAIL
from diffuscope.audit.modes import NEAREST
from diffuscope.audit.planted_faults import BLUR, NOISE
from diffuscope.audit.questions import order, steps
from diffuscope.audit.questions.agreement import HALF
from diffuscope.audit.reading_search import DOUBT, FAULT
from diffuscope.audit.roc import FALSE_POSITIVES
from diffuscope.audit.score_consistency import SMALL
from diffuscope.audit.skill import MATTERS
from diffuscope.audit.standing import DRAWS
from diffuscope.audit.transformations import ANGLES, LARGEST, LARGEST_SHIFT, SIDE
from diffuscope.findings.statistics import POWER

CONFIDENCES = [*(each.CONFIDENCE for each in (entropy_budget, unexplained_variance, order, steps)), 1 - 2 * TAIL]
DOCS = Path(__file__).parents[2] / "docs"
NUMBERS = {"a quarter": 1 / 4, "fifth": 1 / 5, "eight": 8, "one in twenty": 1 / 20, "three": 3, "1/2": 1 / 2}
N = "(" + "|".join(NUMBERS) + r"|[\d.,]*\d)"


@pytest.mark.parametrize(
    ("page", "sentence", "numbers"),
    [
        ("reading_a_report.md", "loss is between N% and N% of the data's variance", [100 * share for share in TRIVIAL]),
        ("reading_a_report.md", "Power is N where it is a probability", [POWER]),
        *(("reading_a_report.md", "**Intervals** hold N%", [100 * confidence]) for confidence in CONFIDENCES),
        ("reading_a_report.md", "true positives at N% and N% false positives", [100 * x for x in FALSE_POSITIVES]),
        ("reading_a_report.md", "Errors N times as large are a fault, N times are reported", [FAULT, DOUBT]),
        ("reading_a_report.md", "From N to N standard deviations of the data, a model must be better", MATTERS),
        ("reading_a_report.md", "shifts by up to N pixels", [LARGEST_SHIFT]),
        ("reading_a_report.md", "rotations by up to N degrees", [max(ANGLES)]),
        ("reading_a_report.md", "of more than N values are compared as averages of at most N x", [LARGEST, SIDE]),
        ("reading_a_report.md", "nearer to each other than N% of held-out", [100 * (1 - REPEAT_QUANTILE)]),
        ("reading_a_report.md", "up to N training examples repeat the other half", [OTHERS]),
        ("reading_a_report.md", "as often, by an exact test at N%", [100 * NEAR_CHANCE]),
        ("reading_a_report.md", "exact copies of N of the samples would not have been found", [LARGEST_SHARE]),
        ("reading_a_report.md", "with the mean of N or N draws as the target", DRAWS[1:]),
        ("reading_a_report.md", "the upper end of the interval of its error is at most N standard", [steps.ENOUGH]),
        ("reading_a_report.md", "level and variance over the N leading components", [COMPONENTS]),
        ("reading_a_report.md", "and fewer than N levels", [FEWEST_LEVELS]),
        ("reading_a_report.md", "that the whole interval is at most Nx", [BAR]),
        ("reading_a_report.md", "a blur of N pixel", [BLUR]),
        ("reading_a_report.md", "and noise of N standard deviations", [NOISE]),
        ("reading_a_report.md", "as near to another sample as only N held-out examples", [NEAREST]),
        ("reading_a_report.md", "Where not even a missing N of the data would be found", [max(PARTS)]),
        ("reading_a_report.md", "Below N% counts as good", [100 * SMALL]),
        ("audit.md", "whole interval above N", [HALF]),
        ("audit.md", "the second one and the held-out examples, share more than N%", [100 * SHARED]),
    ],
)
def test_a_page_states_the_number_that_judges(page, sentence, numbers):
    text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
    found = re.findall(re.escape(sentence).replace("N", N).replace(r"\ ", " "), text)
    assert len(found) == 1
    words = [found[0]] if isinstance(found[0], str) else found[0]
    stated = [NUMBERS[word] if word in NUMBERS else float(word.replace(",", "")) for word in words]
    assert stated == pytest.approx(list(numbers))

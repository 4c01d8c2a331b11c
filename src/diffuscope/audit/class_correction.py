r"""One accusation among many classes: p-values of copies by class, corrected for their number.

The list of copies of one class bounds the share of false entries on it; but of K lists some are not empty by chance.
For each class the number of samples that come before the held-out examples in the order of the statistic s is a test of
all its samples together (Rosenbaum 1954). Under the null hypothesis the n samples and m held-out examples are
exchangeable; with N_j the number of samples before the (j + 1)-th held-out example,

.. math::  P(N_j \ge k) = P(\text{at most } j \text{ held-out examples among the first } k + j
           \text{ of } n + m), \qquad p = \min_j\, 2^{j+1}\, P(N_j \ge k_j) .

It needs no larger m for more classes, as the least conformal p-value 1/(m + 1) of a sample does. With the tests of
equal and nearly equal examples, and those for other classes' examples, a class has several p-values, of which it takes
the least times their number; the classes are corrected after Holm.
"""

from collections.abc import Mapping

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings.statistics import bonferroni

from .copy_search import Copies
from .exact_matches import exact_matches, near_matches
from .owner_sets import holm
from .result import AuditResult

DEEPEST = 12  # held-out examples that may come before a copy


def exceedance_p_value(p_values: Float[ndarray, " samples"], calibration: int) -> float:
    """Of as many samples before the first held-out examples, from the conformal p-values of samples.

    Of the two samples, both come before the only held-out example: twice C(2, 2) / C(3, 2), for j = 0.

    >>> round(exceedance_p_value(np.array([0.5, 0.5]), 1), 3)
    0.667
    """
    n, m = len(p_values), calibration
    before = np.sort(np.round(p_values * (m + 1)).astype(int) - 1)  # held-out examples with as small an s
    j = np.arange(min(m, DEEPEST))
    k = np.searchsorted(before, j, side="right")
    j, k = j[k > 0], k[k > 0]
    return min([1.0, *(2.0 ** (j + 1) * scipy.stats.hypergeom.cdf(j, n + m, m, k + j)).tolist()])


def copies_p_value(result: AuditResult) -> float | None:
    """The p-value of one class, over all tests for copies; None where they were not made."""
    tests: list[float] = []
    for name in ("memorized", "other-classes"):
        answer = next((answer for question, answer in result.answers.items() if question.name == name), None)
        if answer is None or answer.result is None:
            continue
        searches: dict[str, Copies] = answer.result if isinstance(answer.result, dict) else answer.result.copies
        for found in searches.values():
            tests += [
                exceedance_p_value(found.p_values, found.calibration),
                exact_matches(found).p_value,
                near_matches(found).p_value,
            ]
    return bonferroni(min(tests), len(tests)) if tests else None


def corrected_copies(results: Mapping[int, AuditResult]) -> dict[int, float]:
    """Holm's corrected p-values of copies, by class, of the classes that have one."""
    return holm({y: p for y, result in results.items() if (p := copies_p_value(result)) is not None})


def chance_findings(results: Mapping[int, AuditResult], significance: float) -> dict[int, list[str]]:
    """By class, the first findings that deserve attention by a test alone, and no longer after Holm's correction.

    By question, over the classes. A finding that deserves it without significance stays.
    """
    by_question: dict[str, dict[int, float]] = {}
    for y, result in results.items():
        for question, answer in result.answers.items():
            if answer.findings and (p := answer.findings[0].p_value) is not None:
                by_question.setdefault(question.name, {})[y] = p
    chance: dict[int, list[str]] = {}
    for name, p_values in by_question.items():
        for y, corrected in holm(p_values).items():
            first = results[y][name].findings[0]
            if first.tone == "attention" and p_values[y] < significance <= corrected:
                chance.setdefault(y, []).append(first.name)
    return chance

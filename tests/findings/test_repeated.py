"""A mean over few repetitions: Student's interval by the quantile in closed form of two degrees of freedom."""

import math

import pytest
import torch

from diffuscope.findings import Repeated, jackknife
from diffuscope.findings.repeated import DIFFERS
from immutable import long_positional

THREE = Repeated.of(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64))  # mean 3, s^2 = 7


def student(tail: float) -> float:
    """The quantile of Student's distribution of two degrees of freedom: t = p sqrt(2 / (1 - p^2)), p = 1 - tail."""
    return (1 - tail) * math.sqrt(2 / (1 - (1 - tail) ** 2))


def test_the_mean_of_three_and_its_error():
    assert THREE.mean == pytest.approx(3.0)
    assert THREE.error == pytest.approx(math.sqrt(7 / 3))
    assert THREE.repetitions == 3
    assert THREE.significance == pytest.approx(3 / math.sqrt(7 / 3))
    assert Repeated(-3.0, 2.0, 3).significance == -1.5
    assert str(THREE) == "3.000 ± 1.528"


@pytest.mark.parametrize("tail", [0.3, 0.05, 1e-4])
def test_the_interval_has_students_quantile_in_standard_errors_on_either_side(tail):
    assert THREE.room(tail) == pytest.approx(student(tail) * math.sqrt(7 / 3), rel=1e-9)


def test_low_and_high_are_as_far_from_the_mean_as_a_difference_that_is_seen():
    assert THREE.seen == pytest.approx(student(DIFFERS), rel=1e-9)
    assert THREE.low == pytest.approx(3 - student(DIFFERS) * THREE.error)
    assert THREE.high == pytest.approx(3 + student(DIFFERS) * THREE.error)


def test_the_jackknife_of_a_product_of_means_is_its_value_without_bias():
    """Of the square of a mean the pseudo-values' mean is mean^2 - s^2/n, free of the bias of order 1/n."""
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    found = jackknife(lambda kept: values[kept].mean() ** 2, 3)
    assert found.mean == pytest.approx(9 - 7 / 3)


def test_long_records_of_findings_are_made_by_names():
    assert long_positional("findings") == {"Arrows", "Claim", "Line", "Panel", "TurningPoint"}

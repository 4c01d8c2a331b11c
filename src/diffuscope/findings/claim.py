r"""One claim of a published experiment: a measured number, the required one, and the tolerance between them.

A claim compares a value v with a required number r in one of three ways. The share of the tolerance that it uses is

.. math::
    \text{equals:}\ \frac{|v - r|}{\tau}, \qquad \text{at most:}\ \frac{v}{r}, \qquad \text{at least:}\ \frac{r}{v} .

A claim holds if this is at most 1. Every tolerance tau or bound r has a stated reason: rounding, the order of a scheme,
a number of standard errors, or the digits that a source prints. A value that is not a number fails.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from diffuscope.errors import InputError

from .finding import Finding, cards
from .numbers import typeset

Relation = Literal["equals", "at most", "at least"]
Number = float | int


@dataclass(frozen=True)
class Claim:
    """`value` must be equal to, at most or at least `required`; `because` is the reason for the tolerance or bound.

    Made by `equals`, `at_most` and `at_least`. Raises InputError for a negative or infinite tolerance and for a
    required number that is not finite.

    >>> from diffuscope.findings import equals
    >>> claim = equals("pi", "22/7 is pi", 22 / 7, 3.1416, within=0.005, because="two decimals", source="derived")
    >>> claim.holds, round(claim.used, 4)  # 0.001257 / 0.005
    (True, 0.2514)
    >>> claim.requirement
    '3.1416 ± 0.005'
    """

    name: str  # for machines: one word or two with a hyphen, unique in its experiment
    title: str  # the claim as a sentence in plain words
    value: float
    relation: Relation
    required: float
    tolerance: float  # of `equals`; 0 for the two bounds
    because: str
    source: str  # paper and equation, or "derived"
    unit: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise InputError(f"tolerance: expected a finite number >= 0 in claim {self.name!r}, got {self.tolerance}")
        if not math.isfinite(self.required):
            raise InputError(f"required: expected a finite number in claim {self.name!r}, got {self.required}")

    @property
    def used(self) -> float:
        """The share of the tolerance that is used: 0 is exact, the claim holds up to 1, NaN values use infinity."""
        if math.isnan(self.value):
            return math.inf
        if self.relation == "equals":
            distance = abs(self.value - self.required)
            return distance / self.tolerance if self.tolerance > 0 else 0.0 if distance == 0 else math.inf
        larger, smaller = (self.value, self.required) if self.relation == "at most" else (self.required, self.value)
        if smaller > 0:
            return max(larger, 0.0) / smaller
        return 0.0 if larger <= smaller else math.inf  # no ratio for a bound of zero or for other signs

    @property
    def holds(self) -> bool:
        """Whether the value meets the requirement."""
        return self.used <= 1

    @property
    def measured(self) -> str:
        """The value, in the digits that its tolerance warrants, with its unit."""
        return self._written(self.value)

    @property
    def requirement(self) -> str:
        """The requirement in words.

        >>> at_most("error", "The error is small", 0.1, 0.25, because="rounding", source="derived").requirement
        'at most 0.25'
        """
        if self.relation == "equals":
            return f"{_in_digits(self.required, self.tolerance)} ± {self.tolerance:.2g} {self.unit}".strip()
        return f"{self.relation} {self._written(self.required)}"

    def as_finding(self) -> Finding:
        """The claim as a finding, for a page or a notebook."""
        verdict = f"Measured {self.measured}; required: {self.requirement} ({self.because})."
        power = f"Any value that is not {self.requirement} would have failed. Source: {self.source}."
        return Finding(
            name=self.name,
            title=typeset(self.title),
            value=self.value,
            unit=self.unit,
            verdict=typeset(verdict),
            tone="good" if self.holds else "alarm",
            power=typeset(power),
        )

    def _repr_html_(self) -> str:
        return cards([self.as_finding()])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types, the verdict included."""
        return asdict(self) | {"holds": self.holds, "used": self.used}

    def _written(self, number: float) -> str:
        text = _in_digits(number, self.tolerance) if self.relation == "equals" else f"{number:.3g}"
        return f"{text} {self.unit}".strip()


def equals(
    name: str,
    title: str,
    value: Number,
    required: Number,
    *,
    within: Number,
    because: str,
    source: str,
    unit: str = "",
) -> Claim:
    """The claim |value - required| <= within.

    >>> from diffuscope.findings import equals
    >>> claim = equals("mass", "Mass is conserved", 2.3, 2.0, within=0.2, because="rounding", source="derived")
    >>> claim.holds, round(claim.used, 6)  # 0.3 / 0.2
    (False, 1.5)
    """
    return Claim(name, title, float(value), "equals", float(required), float(within), because, source, unit)


def at_most(name: str, title: str, value: Number, bound: Number, *, because: str, source: str, unit: str = "") -> Claim:
    """The claim value <= bound.

    >>> from diffuscope.findings import at_most
    >>> claim = at_most("error", "The error is small", 0.1, 0.25, because="order 2", source="derived")
    >>> claim.holds, claim.used  # 0.1 / 0.25
    (True, 0.4)
    """
    return Claim(name, title, float(value), "at most", float(bound), 0.0, because, source, unit)


def at_least(
    name: str, title: str, value: Number, bound: Number, *, because: str, source: str, unit: str = ""
) -> Claim:
    """The claim value >= bound.

    >>> from diffuscope.findings import at_least
    >>> claim = at_least("share", "Most are found", 0.5, 0.8, because="power", source="derived")
    >>> claim.holds, claim.used  # 0.8 / 0.5
    (False, 1.6)
    """
    return Claim(name, title, float(value), "at least", float(bound), 0.0, because, source, unit)


def largest(values: Iterable[Number]) -> float:
    """The largest of the numbers, NaN if any is: Python's `max` ignores a NaN that does not come first.

    >>> import math
    >>> from diffuscope.findings import largest
    >>> largest([2, -5, 3]), largest([2, math.nan, 3]), max([2, math.nan, 3])
    (3.0, nan, 3)
    """
    numbers = [float(value) for value in values]
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)


def farthest(values: Iterable[Number], target: Number) -> float:
    """The number that is farthest from `target`, NaN if any is.

    >>> import math
    >>> from diffuscope.findings import farthest
    >>> farthest([2, -4, 5], 1), farthest([2, math.nan], 1)
    (-4.0, nan)
    """
    numbers = [float(value) for value in values]
    return math.nan if any(map(math.isnan, numbers)) else max(numbers, key=lambda number: abs(number - target))


def _in_digits(number: float, tolerance: float) -> str:
    """One digit beyond the leading one of the tolerance; a small number as 5.42e-08."""
    if not math.isfinite(number) or tolerance == 0 or not 1e-14 <= tolerance < 1e6:
        return f"{number:.3g}"
    if tolerance < abs(number) < 1e-4:
        return f"{number:.{math.floor(math.log10(abs(number))) - math.floor(math.log10(tolerance)) + 1}e}"
    return f"{number:.{max(0, 1 - math.floor(math.log10(tolerance)))}f}"

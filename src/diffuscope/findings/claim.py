r"""One claim of a published experiment: what was measured, the number it must reach, and what that leaves open.

A claim compares a value v with a required number r in one of three ways, and reads off how much of the room is used:

.. math::
    \text{equals:}\ \frac{|v - r|}{\tau}, \qquad \text{at most:}\ \frac{v}{r}, \qquad \text{at least:}\ \frac{r}{v} .

It holds when that is at most 1. The tolerance tau, or the bound r itself, says where it comes from: rounding, the order
of a scheme, so many standard errors, or the digits that a source prints. A value that is not a number fails.
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
    """`value` must be, as `relation` says, `required`; `because` tells where tolerance or bound comes from.

    Made by `equals`, `at_most`, `at_least`. Raises InputError for a tolerance that is negative or not finite, and for a
    required number that is not finite.
    """

    name: str  # one word or two with a hyphen, for machines; unique in its experiment
    title: str  # a sentence in plain words: what is claimed
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
        """The share of the room that the value uses: 0 is exact, up to 1 holds, infinity is beyond any measure."""
        if math.isnan(self.value):
            return math.inf
        if self.relation == "equals":
            return _share(abs(self.value - self.required), self.tolerance)
        larger, smaller = (self.value, self.required) if self.relation == "at most" else (self.required, self.value)
        if smaller > 0:
            return max(larger, 0.0) / smaller
        return 0.0 if larger <= smaller else math.inf  # a bound of zero, or signs: no share, only a side

    @property
    def holds(self) -> bool:
        """Whether the value is where it must be."""
        return self.used <= 1

    @property
    def measured(self) -> str:
        """The value in as many digits as its requirement bears."""
        return self._written(self.value)

    @property
    def requirement(self) -> str:
        """What the value must be, in words."""
        if self.relation == "equals":
            return f"{_in_digits(self.required, self.tolerance)} ± {self.tolerance:.2g} {self.unit}".strip()
        return f"{self.relation} {self._written(self.required)}"

    def as_finding(self) -> Finding:
        """The claim as an audit's finding: its verdict says the requirement, its power what would have failed."""
        verdict = f"Measured {self.measured}; it must be {self.requirement} ({self.because})."
        tone = "good" if self.holds else "alarm"
        power = f"It fails unless it is {self.requirement}. Source: {self.source}."
        return Finding(
            name=self.name,
            title=typeset(self.title),
            value=self.value,
            unit=self.unit,
            verdict=typeset(verdict),
            tone=tone,
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
    """The value is `required`, up to `within` on either side."""
    return Claim(name, title, float(value), "equals", float(required), float(within), because, source, unit)


def at_most(name: str, title: str, value: Number, bound: Number, *, because: str, source: str, unit: str = "") -> Claim:
    """value <= bound."""
    return Claim(name, title, float(value), "at most", float(bound), 0.0, because, source, unit)


def at_least(
    name: str, title: str, value: Number, bound: Number, *, because: str, source: str, unit: str = ""
) -> Claim:
    """value >= bound."""
    return Claim(name, title, float(value), "at least", float(bound), 0.0, because, source, unit)


def largest(values: Iterable[Number]) -> float:
    """The largest of the numbers, NaN if any is: Python's `max` passes over a NaN that does not come first."""
    found = [float(value) for value in values]
    return math.nan if any(map(math.isnan, found)) else max(found)


def farthest(values: Iterable[Number], target: Number) -> float:
    """The number that is farthest from `target`, NaN if any is."""
    found = [float(value) for value in values]
    return math.nan if any(map(math.isnan, found)) else max(found, key=lambda value: abs(value - target))


def _share(distance: float, room: float) -> float:
    if room > 0:
        return distance / room
    return 0.0 if distance == 0 else math.inf


def _in_digits(number: float, tolerance: float) -> str:
    """One digit beyond the leading one of the tolerance; a small number as 5.42e-08."""
    if not math.isfinite(number) or tolerance == 0 or not 1e-14 <= tolerance < 1e6:
        return f"{number:.3g}"
    if tolerance < abs(number) < 1e-4:
        return f"{number:.{math.floor(math.log10(abs(number))) - math.floor(math.log10(tolerance)) + 1}e}"
    return f"{number:.{max(0, 1 - math.floor(math.log10(tolerance)))}f}"

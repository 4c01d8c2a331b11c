"""Counts and durations as the functions of paths take them: a text or a fraction of a node is one line, not a trace."""

import math
from numbers import Integral, Real

from diffuscope.errors import InputError


def check_count(name: str, given: object, least: int) -> None:
    """InputError unless `given` is a whole number of at least `least`."""
    if not isinstance(given, Integral):
        raise InputError(f"{name}: expected a whole number, got {given!r}")
    if int(given) < least:
        raise InputError(f"{name}: expected at least {least}, got {given}")


def check_positive(name: str, given: object) -> None:
    """InputError unless `given` is a finite number above 0."""
    if not isinstance(given, Real) or not 0 < given < math.inf:  # pyright: ignore[reportOperatorIssue]
        raise InputError(f"{name}: expected a positive number, got {given!r}")

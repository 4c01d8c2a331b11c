"""Counts and positive numbers as functions take them: a text or a fraction of a node is one line, not a trace."""

import math
from numbers import Integral, Real

from .errors import InputError


def require_count(name: str, given: object, least: int) -> None:
    """InputError unless `given` is a whole number of at least `least`.

    >>> require_count("nodes", 41.0, 3)
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: nodes: expected a whole number, got 41.0
    """
    if not isinstance(given, Integral):
        raise InputError(f"{name}: expected a whole number, got {given!r}")
    if int(given) < least:
        raise InputError(f"{name}: expected at least {least}, got {given}")


def require_positive(**values: object) -> None:
    """InputError, naming the first of `values` that is not a positive and finite number.

    >>> require_positive(length=0.5)
    >>> require_positive(length=0.0)
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: length: expected a positive number, got 0.0
    """
    for name, value in values.items():
        if not isinstance(value, Real):
            raise InputError(f"{name}: expected a positive number, got {value!r}")
        if not 0 < float(value) < math.inf:
            raise InputError(f"{name}: expected a positive number, got {value}")

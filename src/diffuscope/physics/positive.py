"""Parameters that must be positive numbers."""

import math

from diffuscope.errors import InputError


def require_positive(**values: float | int) -> None:
    """InputError, naming the first of `values` that is not positive and finite.

    >>> require_positive(length=0.5)
    >>> require_positive(length=0.0)
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: length: expected a positive number, got 0.0
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name}: expected a positive number, got {value}")

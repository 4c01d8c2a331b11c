"""Numbers for readers: no more digits than their uncertainty warrants.

A value with an interval [a, b] is written to the decimal place of the second leading digit of (b - a) / 2, and so are
both ends; a value alone has three leading digits. Minus signs and superscripts are Unicode.
"""

import math
import re
from collections.abc import Sequence

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_LARGEST_PLAIN = 1e7
_SMALLEST_PLAIN = 1e-4
_MINUS = "−"
_SIGNS = ("%", "x")  # units without a space before them
_SMALLEST_P = 1e-300  # below it a p-value has lost its digits, or is 0, which no p-value is


def _order(value: float | int) -> int:
    """floor(log10 |value|)."""
    return math.floor(math.log10(abs(value)))


def _fixed(value: float | int, decimals: int) -> str:
    written = f"{value:,.{decimals}f}"
    if not any(digit in written for digit in "123456789"):
        written = written.removeprefix("-")  # no minus zero
    return written.replace("-", _MINUS)


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def scientific(value: float | int, digits: int = 2) -> str:
    """The number in scientific notation.

    >>> scientific(1.234e-7)
    '1.2 × 10⁻⁷'
    """
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.replace('-', _MINUS)} × {_power(int(exponent))}"


def number(value: float | int) -> str:
    """Three leading digits, whole numbers in full.

    >>> number(0.012345), number(1234)
    ('0.0123', '1,234')
    """
    if math.isnan(value):
        return "not available"
    if value == math.inf:
        return "∞"
    if value == -math.inf:
        return _MINUS + "∞"
    if value == 0 or (float(value).is_integer() and abs(value) < _LARGEST_PLAIN):
        return _fixed(value, 0)
    if not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return scientific(value, 3)
    return _fixed(value, max(0, 2 - _order(value)))


def typeset(text: str) -> str:
    """The text with every number like 4.9e-14 written as 4.9 × 10⁻¹⁴, and 1e-10 as 10⁻¹⁰."""
    return re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]?\d+)\b", _typeset_match, text)


def _typeset_match(match: re.Match[str]) -> str:
    power = _power(int(match[2]))
    return power if match[1] == "1" else f"{match[1]}\u00a0×\u00a0{power}"


def measurement(value: float, interval: tuple[float, float] | None, unit: str) -> tuple[str, str]:
    """The value with its unit, and its interval in words with as many decimals (empty without an interval).

    What is not a number has no unit, and an interval with such an end is none.

    >>> measurement(12.345, (11.1, 13.6), "%")
    ('12.3%', '11.1% to 13.6%')
    """
    sign = unit if unit in _SIGNS else ""
    behind = sign or (f"\u00a0{unit}" if unit else "")
    if math.isnan(value):
        return number(value), ""
    if interval is None or any(map(math.isnan, interval)):
        return number(value) + behind, ""
    low, high = interval
    half_width, size = (high - low) / 2, max(abs(value), -low, high)
    whole = all(math.isfinite(v) and float(v).is_integer() for v in (value, low, high))
    if half_width == 0 or whole or not math.isfinite(value + half_width):
        texts = [number(v) for v in (value, low, high)]
    elif size >= _LARGEST_PLAIN or half_width < _SMALLEST_PLAIN * 0.1:
        digits = 2 + _order(size) - _order(half_width)
        texts = [scientific(v, digits) for v in (value, low, high)]
    else:
        texts = [_fixed(v, max(0, 1 - _order(half_width))) for v in (value, low, high)]
    return texts[0] + behind, f"{texts[1]}{sign} to {texts[2]}{sign}"


def p_value(p: float) -> str:
    """Two leading digits; below 0.001 in scientific notation; one that underflows is below the smallest.

    >>> p_value(0.0499), p_value(0.0)
    ('0.050', '< 10⁻³⁰⁰')
    """
    if math.isnan(p):
        return "not available"
    if p < _SMALLEST_P:
        return f"< {_power(round(math.log10(_SMALLEST_P)))}"
    return scientific(p) if p < 1e-3 else _fixed(p, 2 if p >= 0.095 else 1 - _order(p))


def p_relation(p: float) -> str:
    """What is written behind the symbol p.

    >>> f"p {p_relation(0.0499)}, p {p_relation(0.0)}"
    'p = 0.050, p < 10⁻³⁰⁰'
    """
    written = p_value(p)
    return written if written.startswith("<") else f"= {written}"


def column(values: Sequence[float]) -> list[str]:
    """A column of numbers with the same number of decimals, so that the decimal points are aligned.

    The largest has at least three leading digits, the smallest at least two; in a column that spans more than five
    decades every number is written by itself.
    """
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not sizes or all(float(v).is_integer() for v in values if math.isfinite(v)):
        return [number(v) for v in values]
    smallest, largest = _order(min(sizes)), _order(max(sizes))
    if largest - smallest > 5 or largest >= 7 or smallest < -6:
        return [number(v) for v in values]
    decimals = max(0, 2 - largest, 1 - smallest)
    return [_fixed(v, decimals) if math.isfinite(v) else number(v) for v in values]

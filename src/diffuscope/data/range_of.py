"""The range of the values of a data set, and how it is known.

It is the first of these that applies: the one stated by the user; the one implied by the format (8-bit images:
[0, 255]); for floating-point images [0, 1], [-0.5, 0.5] or [-1, 1], whichever their values fit; for other
floating-point data their own minimum and maximum, which are no units: a model trained on such data may take them as
they are or mapped from other ends. In all other cases the user must state it.
"""

from diffuscope.errors import InputError

from .examples import Examples, extremes
from .value_range import Range, checked_range, in_words

ROUNDING = 1e-5  # float32 arithmetic may leave values this far outside their range, in units of its width
BY_VALUES = "by its values"
UNIT_RATIO = 50  # two sets of images are in different units if the widths of their values differ by more


def range_of(parts: list[Examples], data_range: Range | None) -> tuple[Range, str]:
    """The range of all parts together, and how it is known; InputError for values outside, or in other units."""
    ends = [extremes(part.values) for part in parts]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if data_range is not None:
        stated, how = checked_range(data_range, "data_range"), "as stated"
    elif all(part.data_range is not None for part in parts):
        stated, how = _range_of_format(parts), "by format"
    else:
        stated, how = _range_of_values(parts, low, high), BY_VALUES
    _require_one_unit(parts, ends)
    slack = ROUNDING * (stated[1] - stated[0])
    for part, end in zip(parts, ends, strict=True):
        if end[0] < stated[0] - slack or end[1] > stated[1] + slack:
            raise InputError(
                f"{part.argument}: {part.origin} has values in {in_words(end)}; expected them in {in_words(stated)}"
            )
    return stated, how


def _require_one_unit(parts: list[Examples], ends: list[Range]) -> None:
    """Images in [0, 1] held against images in [0, 255] fit one range, and every distance would be wrong."""
    widths = [end[1] - end[0] for end in ends]
    if parts[0].kind == "images" and 0 < min(widths) < max(widths) / UNIT_RATIO:
        ranges = " and ".join(f"{in_words(end)} ({part.origin})" for part, end in zip(parts, ends, strict=True))
        raise InputError(f"{parts[-1].argument}: the values lie in {ranges}; expected both in the same units")


def _range_of_format(parts: list[Examples]) -> Range:
    known = {part.origin: part.data_range for part in parts if part.data_range is not None}
    if len(set(known.values())) > 1:
        ranges = " and ".join(f"{in_words(stated)} ({origin})" for origin, stated in known.items())
        raise InputError(f"heldout: the ranges are {ranges}; expected one range, or state one with --data-range")
    return next(iter(known.values()))


def _range_of_values(parts: list[Examples], low: float, high: float) -> Range:
    for part in parts:
        if part.data_range is not None:
            raise InputError(
                f"{part.argument}: the range of {part.origin} is {in_words(part.data_range)} by its format, and of the "
                "other examples not known; expected --data-range for both"
            )
        if part.values.dtype.kind != "f":
            raise InputError(
                f"{part.argument}: {part.origin} has integer values ({part.values.dtype}) in {in_words((low, high))} "
                "of a range not stated; expected --data-range, for 8-bit pixels --data-range 0 255"
            )
    if parts[0].kind != "images":
        return low, high
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return 0.0, 1.0
    # data that reach exactly these two ends are centered pixels, hardly a half-used [-1, 1]
    if (low, high) == (-0.5, 0.5):
        return -0.5, 0.5
    if low >= -1 - ROUNDING and high <= 1 + ROUNDING:
        return -1.0, 1.0
    part = parts[0]
    raise InputError(
        f"{part.argument}: {part.origin} has values in {in_words((low, high))}, of a range not stated; "
        "expected [0, 1] or [-1, 1], or --data-range"
    )

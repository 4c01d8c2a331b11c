"""Tables of a few points as they are typed."""

import torch

from diffuscope.exact._screening import PointTable
from numbers_in_tests import double


def table_of(points: list[list[float]], log_weights: list[float] | None = None, **known: float) -> PointTable:
    """Points with equal weights unless given, and with a radius as stated."""
    y = double(*points)
    table = PointTable(y, torch.zeros(len(y)).double() if log_weights is None else double(*log_weights), 2**20)
    table.__dict__.update(known)
    return table

"""Mean, deviation and extremes of examples, part by part: of data of any size, held as bytes or as floats.

A mean and a variance take two passes, the second of squared differences from the mean, all in float64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import float_parts


def mean_and_variance(x: Float[Tensor, "n *event"]) -> tuple[float, float]:
    r"""The mean of all values, and the variance of a coordinate, :math:`\operatorname{tr}\Sigma / D`; by parts.

    >>> import torch
    >>> from diffuscope.by_parts import mean_and_variance
    >>> mean_and_variance(torch.tensor([[0.0, 10.0], [2.0, 10.0]]))
    (5.5, 0.5)
    """
    center = coordinate_mean(x)
    squares = sum(float((part.double() - center).square_().sum()) for part in float_parts(x))
    return float(center.mean()), squares / x.numel()


def mean_and_deviation(x: Float[Tensor, "n *event"]) -> tuple[float, float]:
    """The mean and the standard deviation of all values together, over n - 1, by parts, in float64.

    >>> import torch
    >>> from diffuscope.by_parts import mean_and_deviation
    >>> mean, deviation = mean_and_deviation(torch.tensor([[1.0, 4.0], [4.0, 7.0]]))
    >>> mean, round(deviation**2, 9)  # 18 / 3
    (4.0, 6.0)
    """
    mean = float(coordinate_mean(x).mean())
    squares = sum(float((part.double() - mean).square_().sum()) for part in float_parts(x))
    return mean, math.sqrt(squares / max(1, x.numel() - 1))


def coordinate_mean(x: Float[Tensor, "n *event"]) -> Float[Tensor, "*event"]:
    """The mean of the examples, in float64, by parts.

    >>> import torch
    >>> from diffuscope.by_parts import coordinate_mean
    >>> coordinate_mean(torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 0.0]])).tolist()
    [3.0, 10.0]
    """
    total = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
    for part in float_parts(x):
        total += part.sum(0, dtype=torch.float64)
    return total / len(x)


def extremes(x: Float[Tensor, "n *event"]) -> tuple[float, float]:
    """The least and the greatest value, by parts.

    >>> import torch
    >>> from diffuscope.by_parts import extremes
    >>> extremes(torch.tensor([[1.0, -10.0], [2.0, 20.0]]))
    (-10.0, 20.0)
    """
    ends = [part.aminmax() for part in float_parts(x)]
    return min(float(end.min) for end in ends), max(float(end.max) for end in ends)

"""Means and deviations by parts at the least number of values."""

import torch

from diffuscope.by_parts import extremes, mean_and_deviation, mean_and_variance


def test_one_value_has_no_deviation():
    one = torch.tensor([[3.0]])
    assert mean_and_deviation(one) == (3.0, 0.0)
    assert mean_and_variance(one) == (3.0, 0.0)
    assert extremes(one) == (3.0, 3.0)


def test_two_values_deviate_by_their_difference_over_the_root_of_two():
    mean, deviation = mean_and_deviation(torch.tensor([[1.0], [5.0]]))
    assert mean == 3.0
    assert abs(deviation**2 - 8.0) < 1e-12

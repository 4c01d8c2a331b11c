"""In other units, points, states and noise c times as large, all lengths are c times as large and shares the same.

With c a power of two this holds to the last bit of the numbers, and nearly so for the errors that are stated.
"""

import pytest
import torch

from diffuscope.exact import Empirical
from immutable import mutable_dataclasses

pytestmark = pytest.mark.usefixtures("one_thread")

C = 1024.0


@pytest.mark.parametrize("way", ["part", "posterior_part"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.5, 5.0])
def test_means_and_errors_of_a_posterior_are_lengths_and_masses_are_shares(way, precision, sigma, generator):
    y = 3.0 + torch.randn(50, 8, generator=generator)
    x = (y[:4] + sigma * torch.randn(4, 8, generator=generator)).to(precision)
    one, level = torch.ones(4, dtype=torch.float64), torch.full((4,), sigma, dtype=torch.float64)
    here = getattr(Empirical(y.to(precision)), way)(x, one, level)
    there = getattr(Empirical(C * y.to(precision)), way)(C * x, one, C * level)
    torch.testing.assert_close(there.mean, C * here.mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(there.log_mass, here.log_mass, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(there.error, C * here.error, rtol=1e-6, atol=0)
    torch.testing.assert_close(there.log_error, here.log_error, rtol=1e-6, atol=0)
    assert bool((here.error > 0).all())


def test_dataclasses_of_exact_are_frozen_but_for_a_few():
    assert mutable_dataclasses("exact") == {"TrackedScores", "Work", "_Block"}  # which count or are filled

"""Moments for the comparison of units: medians over samples, of an argument that stays as it was."""

import pytest
import torch

from diffuscope.audit.units import moments


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_moments_are_medians_over_samples_and_leave_their_argument_as_it_was(kind):
    """Means -1, 2, 8. Mean squares about (1, 3): (4 + 16) / 2 = 10, (0 + 0) / 2 = 0, (49 + 25) / 2 = 37."""
    x = torch.tensor([[-1.0, -1.0], [1.0, 3.0], [8.0, 8.0]], dtype=kind).reshape(3, 1, 2)
    given, center = x.clone(), torch.tensor([[1.0, 3.0]]).double()
    mean, distance = moments(x, center)
    assert mean == 2.0
    assert distance == pytest.approx(10**0.5, rel=1e-12)
    assert torch.equal(x, given)
    assert torch.equal(center, torch.tensor([[1.0, 3.0]]).double())

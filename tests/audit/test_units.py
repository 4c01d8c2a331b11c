"""The comparison of units: moments, and what units are tried."""

import math

import numpy as np
import pytest
import torch

from diffuscope.audit import units
from diffuscope.audit.units import moments
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE


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


class AskedError(Exception):
    """What the search is asked."""


def test_the_usual_units_are_sought_about_the_mean_and_the_deviation_of_the_training_examples(monkeypatch):
    """Of columns 0, 2 and 1, 5: means 1 and 3, variances 1 and 4."""

    def asked(ends, mean, deviation):
        raise AskedError(*ends, mean, deviation)

    monkeypatch.setattr(units, "usual_maps", asked)
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    points, train = torch.zeros(4, 2), torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    with pytest.raises(AskedError) as found:
        units.best_units(model, torch.ones(2), np.ones(3), points, points, train, None, np.random.default_rng(0))
    assert found.value.args == pytest.approx((0.0, 5.0, 2.0, math.sqrt(2.5)), rel=1e-6)


@pytest.mark.parametrize("count", [20, 200])
def test_a_map_into_the_densest_part_of_skewed_data_is_no_fault_of_honest_samples(count):
    """Two lognormal columns: shrunk samples are nearer to the data, but were not too far before."""
    rng = np.random.default_rng(4)
    x = torch.from_numpy(np.exp(2 * rng.standard_normal((20, 500 + count, 2)))).float()
    found = [units.sample_units(part[500:], part[:300], part[300:500], units.extremes(part), rng) for part in x]
    mapped = [f for f in found if f.name and f.nearer >= units.ALL and f.after < units.NEARER * f.before]
    assert len(mapped) > 5
    assert not any(f.fault for f in found)

"""The boundary maps: every claim holds for another seed, and a planted fault makes its claim fail."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.experiments import boundary_map, find
from diffuscope.experiments.boundary_map import DATA_SETS, EXPERIMENT, boundary, shape_of
from diffuscope.theory.variance import ProxyScore

HERE = "diffuscope.experiments.boundary_map"
COVARIANCE = "diffuscope.theory.variance.proxy.ProxyScore.covariance"
sound = ProxyScore.covariance


def test_it_is_found_by_its_name():
    assert find("boundary-map") is EXPERIMENT


@pytest.mark.parametrize("part", ["identities", "maps"])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_a_covariance_that_is_off_by_a_billionth_is_caught():
    def larger(proxy, x, t):
        return sound(proxy, x, t).scaled(torch.tensor(1 + 1e-9))

    with planted(COVARIANCE, larger):
        assert failures(EXPERIMENT, "identities") == {"hessian"}


def test_a_covariance_without_alpha_is_caught_in_every_map():
    def without_alpha(proxy, x, t):
        return sound(proxy, x, t).scaled(1 / proxy.schedule.alpha(t))

    with planted(COVARIANCE, without_alpha):
        assert {f"means-{name.lower()}" for name in DATA_SETS} <= failures(EXPERIMENT, "maps")


def test_the_map_of_the_hexagon_has_its_symmetry():
    """Mirrored in both axes; rounding."""
    share = boundary(DATA_SETS["hexagon"], 0.1).reshape(boundary_map.CELLS, boundary_map.CELLS)
    assert torch.allclose(share, share.flip(0), rtol=1e-9, atol=1e-12)
    assert torch.allclose(share, share.flip(1), rtol=1e-9, atol=1e-12)


def test_a_single_example_has_no_boundary():
    share = boundary(torch.zeros(1, 2, dtype=torch.float64), 0.2)
    assert bool((share == 0).all())
    assert all(math.isnan(number) for number in shape_of(share, torch.zeros(1, 2, dtype=torch.float64), 0.2))

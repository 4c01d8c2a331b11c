"""The spacing and the windows of the lattice on which the posterior of a random walk is summed, by hand."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics.levy import BernoulliGaussJumps, GaussianJumps, LevyProcess
from diffuscope.physics.walk_posterior import _fast_length, _prior_reach, walk_posterior
from numbers_in_tests import double


def of_one_jump(precision: float, law=GaussianJumps(2.0), center: float = 0.0, resolution: float = 4.0):  # noqa: B008
    return walk_posterior(LevyProcess(law, 1), double(precision), double(center)[None], resolution=resolution).law


@pytest.mark.parametrize(
    ("width", "h"),
    [(0.3, 0.3), (2.0, 2.0), (5.0, 2.0), (6.0, 2.0), (9.0, 3.0), (12.0, 4.0), (30.0, 4.0)],
    ids=["narrow", "a scale", "wide", "three scales", "one and a half", "twice", "at most twice"],
)
def test_the_spacing_is_that_of_factor_or_jumps_and_up_to_twice_that_of_jumps_under_wide_factors(width, h) -> None:
    for resolution in (4.0, 2.0):
        assert of_one_jump(width**-2, resolution=resolution).h == pytest.approx(h / resolution, rel=1e-12)


def test_a_path_that_rests_narrows_the_spacing_to_that_of_all_its_factors_together() -> None:
    """Sixteen factors of width 1 leave 1/4 where no jump is made: 2.5 / 4 over the resolution, below a scale of 2."""
    precision, center = torch.ones(16).double(), torch.zeros(1, 16).double()
    for law, h in ((BernoulliGaussJumps(0.1, 2.0), 2.5 / 4), (GaussianJumps(2.0), 1.0)):
        assert walk_posterior(LevyProcess(law, 16), precision, center).law.h == pytest.approx(h / 4, rel=1e-12)


def test_a_window_holds_eight_and_a_half_widths_of_a_factor_or_what_the_prior_reaches() -> None:
    """17 widths of 1/2 at a spacing of 1/8, with a node more at either end: 68 + 2, of which 72 = 2^3 3^2 is fast."""
    assert of_one_jump(4.0).K == 72
    # 8 deviations and a jump of probability 1e-9 in one jump: 28.2 at a spacing of 1/2
    reach = 8 + GaussianJumps().tail(1e-9)
    found = of_one_jump(0.01, GaussianJumps())
    assert (found.h, found.K) == (0.5, _fast_length(math.ceil(2 * reach / 0.5) + 2))
    assert _prior_reach(LevyProcess(GaussianJumps(), 4)).tolist() == pytest.approx(
        [8 * math.sqrt(i) + GaussianJumps().tail(2.5e-10) for i in (1, 2, 3, 4)]
    )


def test_the_windows_of_a_bridge_are_eight_deviations_and_one_jump_wide() -> None:
    """Held at both ends: in the middle of n steps a deviation of root n / 2, more than the largest jump's sixth."""
    n = 64
    precision = torch.zeros(n).double()
    precision[[0, -1]] = 100.0
    found = walk_posterior(LevyProcess(GaussianJumps(), n), precision, torch.zeros(1, n).double())
    assert found.law.h == pytest.approx(0.1 / 4)
    half = 8 * math.sqrt(n) / 2 + GaussianJumps().tail(1e-9)
    assert 2 * half < found.law.K * found.law.h < 1.1 * 2 * half  # 2 h of the coarse lattice, and a fast length
    assert float(found.variance.sqrt().max()) == pytest.approx(math.sqrt(n) / 2, rel=0.02)


def test_lengths_that_are_fast_have_no_factor_above_five() -> None:
    assert [_fast_length(n) for n in (1, 7, 11, 17, 31, 61, 64, 121, 251)] == [1, 8, 12, 18, 32, 64, 64, 125, 256]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_center_is_within_two_to_the_52_spacings(side: int) -> None:
    with pytest.raises(InputError, match=r"^center: expected values within 1e\+15, got 1\.13e\+15$"):
        of_one_jump(1.0, center=side * 0.25 * 2.0**52)  # at a spacing of 1/4
    beyond = of_one_jump(1.0, center=side * 40.0)  # whatever the prior reaches, a factor has its interval of 17 widths
    assert beyond.K == 72  # 17 at a spacing of 1/4, and two
    unseen = walk_posterior(LevyProcess(GaussianJumps(), 2), double(1.0, 0.0), double(side * 3.0, 0.0)[None])
    assert unseen.mean[0].tolist() == pytest.approx([side * 1.5, side * 1.5])
    nothing = walk_posterior(LevyProcess(GaussianJumps(), 2), double(0.0, 0.0), double(0.0, 0.0)[None])
    assert (nothing.law.h, nothing.variance[0].tolist()) == (0.5, pytest.approx([1.0, 2.0], rel=1e-6))


def test_a_window_may_have_sixteen_thousand_and_so_many_nodes() -> None:
    """17 widths at a resolution of r are 17 r nodes and two more: 2^14 = 16,384, after which 16,875 is the next."""
    fits, beyond = (2**14 - 2 - 0.5) / 17, (2**14 - 1 - 0.5) / 17
    assert of_one_jump(1e4, resolution=fits).K == 2**14
    with pytest.raises(InputError, match=r"a posterior that 16,384 nodes resolve, got one that is 16,875 spacings"):
        of_one_jump(1e4, resolution=beyond)

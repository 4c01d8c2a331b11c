"""Equations that have no unique solution are refused on either side of what makes them so."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import Darcy, Grid, Helmholtz, Poisson


@pytest.mark.parametrize("mean", [0.25, -0.25])
def test_sources_without_a_held_boundary_value_have_mean_zero_whatever_the_sign(mean: float) -> None:
    with pytest.raises(InputError, match=f"mean of {mean}"):
        Darcy(Grid((5,)), forcing=mean, boundary="neumann")
    with pytest.raises(InputError, match=f"mean of {mean} in field 0"):
        Poisson(Grid((5,)), boundary="neumann").solve(torch.full((1, 5), mean, dtype=torch.float64))


@pytest.mark.parametrize("off", [1 - 1e-2, 1 + 1e-2])
def test_a_wave_number_is_resonant_on_either_side_of_an_eigenvalue(off: float) -> None:
    assert Helmholtz(Grid((65,)), math.pi * off).wavenumber == math.pi * off
    for close in (1 - 1e-13, 1 + 1e-13):
        with pytest.raises(InputError, match="off the eigenvalues"):
            Helmholtz(Grid((65,)), math.pi * close)

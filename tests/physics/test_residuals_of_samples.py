"""The residual of samples over |A| |u|, and how far they are from the readings, by hand."""

import math

import pytest
import torch

from diffuscope.exact import Gaussian
from diffuscope.physics import PROBLEMS, Sensors
from diffuscope.physics.solution import _misfit, _residuals
from diffuscope.physics.solution_moments import gaussian_calibration
from numbers_in_tests import double

LINE = PROBLEMS["poisson-1d"](nodes=5)  # rows of 16 (-1, 2, -1): |A| = 64
DARCY = PROBLEMS["darcy"](nodes=5)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_residual_of_a_peak_is_that_of_either_sign(side: float) -> None:
    """u = (0, 0, 3, 0, 0): F = (0, -48, 96, -48, 0) without a source, and half of it at most with one of 96."""
    peak, source = side * double(0, 0, 3, 0, 0), side * double(0, 0, 96, 0, 0)
    found = _residuals(LINE, torch.stack([torch.stack([0 * peak, peak]), torch.stack([source, peak])]))
    assert found.tolist() == pytest.approx([96 / (64 * 3), 48 / (64 * 3)])


def test_a_field_of_zeros_solves_the_equation() -> None:
    assert _residuals(LINE, torch.zeros(1, 2, 5).double()).tolist() == [0.0]


@pytest.mark.parametrize("value", [0.0, -0.5, -1.0, math.nan])
def test_where_a_coefficient_is_not_positive_there_is_no_residual(value: float) -> None:
    """Although fluxes have their harmonic means there, but for a value that is the negative of its neighbor's."""
    fields = torch.ones(2, *DARCY.event_shape, dtype=torch.float64)
    fields[0, 0, 2, 2] = value
    assert _residuals(DARCY, fields).isnan().tolist() == [True, False]


def test_a_source_or_an_initial_condition_may_be_negative() -> None:
    assert bool(_residuals(LINE, -torch.ones(1, 2, 5).double()).isfinite().all())


def test_the_misfit_is_the_root_mean_square_over_the_noise_of_every_sample() -> None:
    at = double(0.25, 0.5)[:, None]
    sensors = Sensors(points=at, channels=torch.tensor([1, 1]), values=double(3.0, 1.0), noise=double(0.5, 2.0))
    samples = torch.stack([double(0, 3, 1, 0, 0), double(0, 0, 9, 0, 0)])
    samples = torch.stack([torch.zeros_like(samples), samples], 1)
    # off by 0 and 0; by 6 and 4 of their noise
    assert _misfit(LINE, sensors, samples).tolist() == pytest.approx([0.0, math.sqrt((36 + 16) / 2)])
    exact = Sensors(points=at, channels=torch.tensor([1, 1]), values=double(3.0, 1.0), noise=double(0.0, 0.0))
    assert _misfit(LINE, exact, samples).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("share", "judged"), [(0.95e-6, False), (1.05e-6, True)])
def test_a_value_is_known_where_a_millionth_of_the_priors_spread_is_left(share: float, judged: bool) -> None:
    """Of two values the one read has an honest interval, and the other, if it is judged, one that never holds."""
    prior = Gaussian.isotropic(double(0.0, 0.0)[None], 4.0)
    fields = 2 * torch.randn(400, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sd = double((4 * 1 / (4 + 1)) ** 0.5, 2 * share)[None]  # of the one read with noise 1, and of the other
    found = gaussian_calibration(
        prior, sd, fields, double(1.0, 0.0)[None], double(1.0), generator=torch.Generator().manual_seed(1)
    )
    coverage, _ = found.at(0)
    assert coverage == pytest.approx(0.45 if judged else 0.9, abs=4 * (0.09 / 400) ** 0.5)

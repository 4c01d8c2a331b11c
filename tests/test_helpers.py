"""The helpers that later tests stand on, tested on cases with known answers."""

import torch
from conftest import measured_order, monte_carlo


def test_measured_order_of_an_exact_power_law_is_its_exponent():
    measured = measured_order(lambda n: 3.0 * n**-2.5, [10, 20, 40, 80])
    assert abs(measured.order - 2.5) < 1e-12
    assert measured.standard_error < 1e-12


def test_standard_error_of_gaussian_draws_is_one_over_root_n():
    estimate = monte_carlo(torch.randn(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert estimate.agrees_with(0.0)
    # the sample deviation of n normals is 1 within 1/sqrt(2n): four of these
    assert abs(estimate.standard_error * 100 - 1) < 4 / (2 * 10_000) ** 0.5

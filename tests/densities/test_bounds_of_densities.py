"""Grids, kernels and reversals: refused just beyond their bounds, accepted just at them."""

import math
from typing import Any

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import (
    BackwardEuler,
    Density,
    GaussianReverse,
    Grid,
    anti_diffuse,
    bits_per_dimension,
    dequantize,
    equal_steps,
    expectations,
    gaussian_expectation,
    heat_flows,
    heat_kernel,
    histogram,
    ito_equation,
    ornstein_uhlenbeck,
    periodic_heat_kernel,
    relaxation_rates,
    transition,
)
from diffuscope.densities.entropy import gaussian_entropy
from diffuscope.densities.evidence_bound import variational_bound
from diffuscope.densities.resolution import leaving_probability, mass_outside
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VP, Cosine
from numbers_in_tests import seeded

LINE, PLANE = Grid.line(-1, 1, 4), Grid.square(-1, 1, 4)
FLAT = Density(LINE, torch.full((4,), 0.5, dtype=torch.float64))
POINTS = torch.zeros(3, 1, dtype=torch.float64)
STANDARD = Gaussian.isotropic(torch.zeros(1), 1.0)
EXACT = ExactDenoiser(STANDARD, VP())
LEVELS = torch.tensor([[0, 255]])
TINY = 1e-12


def reverse(**change):
    given = {"mean": 0.0, "variance": 0.0, "start": 1.0, "start_mean": 0.0, "start_variance": 1.0, "eta": 0.0}
    return GaussianReverse(VP(), **(given | change))


def backward(payoff):
    equation = ito_equation(LINE, lambda x, t: 0 * x, 1.0)  # noqa: ARG005
    return list(expectations(equation, payoff, equal_steps(0.0, 1.0, 1), BackwardEuler()))


def square(x):
    return x.square().sum(1)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Grid.line(1, 1, 4), "grid"),
        (lambda: Grid.line(-math.inf, 1, 4), "grid"),
        (lambda: Grid.square(0, 1, 2, dimensions=4), "grid"),
        (lambda: Grid((0.0,), (1.0, 1.0), (4,)), "grid"),
        (lambda: Grid.line(0, 1, 1), "cells"),
        (lambda: Grid((0.0, 0.0), (1.0, 1.0), (2**14, 2**13 + 1)), "cells"),
        (lambda: mass_outside(FLAT, PLANE), "box"),
        (lambda: leaving_probability(PLANE, LINE), "box"),
        (lambda: leaving_probability(LINE, LINE, variance=-TINY), "variance"),
        (lambda: leaving_probability(LINE, LINE, variance=math.nan), "variance"),
        (lambda: histogram(POINTS[:0], LINE), "points"),
        (lambda: histogram(POINTS, PLANE), "points"),
        (lambda: histogram(POINTS / 0, LINE), "points"),
        (lambda: FLAT.l1_distance(Density(Grid.line(-1, 2, 4), FLAT.values)), "other"),
        (lambda: FLAT.relative_entropy(Density(Grid.line(-1, 2, 4), FLAT.values)), "other"),
        (lambda: Density(LINE, torch.zeros(4)).sample(1, generator=seeded()), "density"),
        (lambda: Density(LINE, torch.zeros(4)).mean(), "density"),
        (lambda: Density(LINE, torch.tensor([1.0, 1.0, 1.0, -1e-11])).entropy(), "density"),
        (lambda: anti_diffuse(FLAT, -TINY, 1.0), "exponent, cutoff"),
        (lambda: anti_diffuse(FLAT, 1.0, -TINY), "exponent, cutoff"),
        (lambda: anti_diffuse(FLAT, 700.0, 1.0), "cutoff"),
        (lambda: heat_flows(FLAT.values[:3], LINE, torch.zeros(1)), "values"),
        (lambda: heat_flows(FLAT.values, LINE, torch.tensor([-TINY])), "t"),
        (lambda: heat_flows(FLAT.values, LINE, torch.zeros(1), diffusivity=-TINY), "diffusivity"),
        (lambda: heat_flows(FLAT.values, LINE, torch.zeros(1), diffusivity=torch.ones(2)), "diffusivity"),
        (lambda: heat_kernel(POINTS, 0.0), "t"),
        (lambda: heat_kernel(POINTS, 1.0, diffusivity=0.0), "t"),
        (lambda: periodic_heat_kernel(POINTS, 1.0, length=0.0), "length"),
        (lambda: periodic_heat_kernel(POINTS, 1.0, length=math.inf), "length"),
        (lambda: ornstein_uhlenbeck(-TINY, LINE), "t"),
        (lambda: ornstein_uhlenbeck(1.0, LINE, diffusivity=-TINY), "t"),
        (lambda: transition(VP(), 0.5, 0.5 - TINY, LINE), "t"),
        (lambda: transition(Cosine(), 1.0, 1.0, LINE), "s"),
        (lambda: gaussian_expectation(VP(), square, POINTS, 0.5, 0.5), "t"),
        (lambda: gaussian_expectation(Cosine(), square, POINTS, 1.0, 1.1), "s"),
        (lambda: backward(FLAT.values[:3]), "payoff"),
        (lambda: backward(FLAT.values / 0), "payoff"),
        (lambda: reverse(mean=math.inf), "mean"),
        (lambda: reverse(start_mean=math.nan), "mean"),
        (lambda: reverse(variance=-TINY), "variance"),
        (lambda: reverse(variance=math.inf), "variance"),
        (lambda: reverse(start_variance=0.0), "variance"),
        (lambda: reverse(eta=-TINY), "eta"),
        (lambda: reverse(eta=math.inf), "eta"),
        (lambda: GaussianReverse(Cosine(), 0.0, 1.0, 1.0, 0.0, 1.0, 1.0), "start"),
        (lambda: gaussian_entropy(STANDARD, -TINY, 1.0), "alpha, sigma"),
        (lambda: gaussian_entropy(STANDARD, 1.0, 0.0), "alpha, sigma"),
        (lambda: variational_bound(EXACT, POINTS, levels=0, repeats=2, generator=seeded()), "levels, repeats"),
        (lambda: variational_bound(EXACT, POINTS, levels=1, repeats=1, generator=seeded()), "levels, repeats"),
        (lambda: equal_steps(-math.inf, 0.0, 1), "times"),
        (lambda: dequantize(LEVELS, 255, generator=seeded()), "levels"),
        (lambda: dequantize(LEVELS - 1, generator=seeded()), "levels"),
        (lambda: dequantize(LEVELS, 1, generator=seeded()), "count, data_range"),
        (lambda: dequantize(LEVELS, data_range=(1.0, 1.0), generator=seeded()), "count, data_range"),
        (lambda: bits_per_dimension(POINTS[:, 0], 0, 1.0), "dimension, bin_width"),
        (lambda: bits_per_dimension(POINTS[:, 0], 1, 0.0), "dimension, bin_width"),
        (lambda: bits_per_dimension(POINTS[:, 0], 1, math.inf), "dimension, bin_width"),
        (lambda: equal_steps(1.0, 1.0, 1), "times"),
        (lambda: equal_steps(0.0, math.inf, 1), "times"),
        (lambda: equal_steps(0.0, 1.0, 0), "times"),
    ],
)
def test_what_is_just_beyond_is_refused_with_the_argument(make, argument: str):
    with pytest.raises(InputError, match=f"^{argument}: "):
        make()


def test_what_is_just_at_the_bound_is_accepted():
    assert Grid.square(0, 1, 2, dimensions=3).dimensions == 3
    assert Grid((0.0, 0.0), (1.0, 1.0), (2**14, 2**13)).cells == (2**14, 2**13)
    assert float(leaving_probability(LINE, LINE, variance=0.0).max()) == 0
    # negative by rounding counts as empty, and empty cells add nothing
    rounding = torch.tensor([1.0, 1.0, 0.0, -0.9e-12], dtype=torch.float64)
    assert Density(LINE, rounding).entropy() == 0
    assert anti_diffuse(FLAT, 0.0, 0.0).amplification == 1
    assert anti_diffuse(FLAT, 699.0, 1.0).density.mass() == pytest.approx(1, rel=1e-12)
    assert torch.equal(heat_flows(FLAT.values, LINE, torch.zeros(1))[0], FLAT.values)
    assert float(transition(VP(), 0.5, 0.5, LINE).scale) == pytest.approx(1, rel=1e-15)
    assert float(ornstein_uhlenbeck(0.0, LINE).variance) == 0
    assert reverse(variance=0.0, eta=0.0).exact(1.0)[0] == 0
    assert gaussian_entropy(STANDARD, 0.0, 1.0) == pytest.approx(math.log(2 * math.pi * math.e) / 2, rel=1e-12)
    assert dequantize(LEVELS, generator=seeded()).shape == (1, 2)
    fewest = variational_bound(EXACT, POINTS, levels=1, repeats=2, generator=seeded())
    assert bool(fewest.standard_error.isfinite().all())
    assert float(bits_per_dimension(POINTS[:, 0], 1, 1.0).abs().max()) == 0
    assert equal_steps(0.0, 1.0, 1).tolist() == [0, 1]


def test_rates_are_asked_of_equations_that_conserve_mass():
    def equation(**change: Any):
        given: dict[str, Any] = {"steady": True} | change
        return ito_equation(LINE, lambda x, t: 0 * x, 1.0, **given)  # noqa: ARG005

    assert len(relaxation_rates(equation(), 1)) == 1
    for given, count, shift, said in (
        (equation(), 1, 0.0, "shift: expected a number > 0, got 0.0"),
        (equation(steady=False), 1, 1.0, "equation: expected one that is steady, got one that may depend on time"),
        (equation(boundary="absorbing"), 1, 1.0, "equation: expected one that conserves mass, got absorption or"),
        (equation(), 0, 1.0, "count: expected 1 to 1 rates on 4 cells, got 0"),
        (equation(), 2, 1.0, "count: expected 1 to 1 rates on 4 cells, got 2"),
    ):
        with pytest.raises(InputError, match=f"^{said}"):
            relaxation_rates(given, count, shift=shift)
    for wrong in ("boundary", "noiseless"):
        with pytest.raises(InputError, match=f"^{wrong}: expected one of .*, got 'none'$"):
            equation(**{wrong: "none"})

"""What is not given: no noise, units of one, the seed 0, and the sizes that the pages state."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest

import diffuscope.physics
from diffuscope.physics import (
    PROBLEMS,
    AdvectionDiffusion,
    Helmholtz,
    LinearObservation,
    Matern,
    NonlinearObservation,
    Poisson,
    SquaredExponential,
    at_nodes,
    averages,
    joint_sine_prior,
    sequential_monte_carlo,
    sine_forcing,
    sine_prior,
    two_phase,
    where,
)
from diffuscope.physics.conditioning import DPS, NormalizedDPS, PiGDM
from diffuscope.physics.conditioning.residual import ResidualGuided, residual_observation
from diffuscope.physics.grading import Settings
from diffuscope.physics.grading.metrics import coverage
from diffuscope.physics.levy import LevyProcess
from diffuscope.physics.operators import Heat
from stated_numbers import default


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Every function and class of the subpackage."""
    for part in pkgutil.walk_packages(diffuscope.physics.__path__, "diffuscope.physics."):
        for name, found in vars(import_module(part.name)).items():
            own = callable(found) and getattr(found, "__module__", "").startswith("diffuscope.physics")
            if own and not (isinstance(found, type) and issubclass(found, Exception)):
                yield f"{part.name}.{name}", found


def test_every_seed_is_zero_where_none_is_given() -> None:
    seeds = {name: default(f, "seed") for name, f in functions() if "seed" in inspect.signature(f).parameters}
    given = {name: seed for name, seed in seeds.items() if seed is not inspect.Parameter.empty}
    assert len(given) > 8
    assert set(given.values()) == {0}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (LinearObservation, "noise"), (NonlinearObservation, "noise"), (at_nodes, "noise"), (where, "noise"),
        (averages, "noise"), (residual_observation, "noise"), (two_phase, "threshold"), (Poisson, "screening"),
    ],
)  # fmt: skip
def test_what_would_be_added_is_zero(function: Callable[..., object], name: str) -> None:
    assert default(function, name) == 0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (SquaredExponential, "variance"), (Matern, "variance"), (sine_prior, "boundary_variance"),
        (joint_sine_prior, "boundary_variance"), (sine_forcing, "boundary_variance"), (DPS, "weight"),
        (NormalizedDPS, "zeta"), (PiGDM, "variance"), (ResidualGuided, "weight"), (Helmholtz, "wavenumber"),
        (Heat, "diffusivity"), (AdvectionDiffusion, "diffusivity"),
    ],
)  # fmt: skip
def test_what_would_be_multiplied_by_is_one(function: Callable[..., object], name: str) -> None:
    assert default(function, name) == 1


def test_sizes_are_those_of_the_pages() -> None:
    """docs/grading.md and docs/physics.md; of the public data 16 x 16 nodes, and 17 times."""
    assert Settings() == Settings(problems=8, draws=128, steps=50, seed=0)
    assert PROBLEMS["poisson-2d"]().equation.grid.shape == (33, 33)
    assert PROBLEMS["poisson-1d"]().equation.grid.shape == (65,)
    assert PROBLEMS["darcy"]().equation.grid.shape == (16, 16)
    assert PROBLEMS["burgers"]().equation.grid.shape == (17, 16)
    assert PROBLEMS["helmholtz"]().equation.grid.shape == (33, 33)
    assert [default(prior, "modes") for prior in (sine_prior, joint_sine_prior, sine_forcing)] == [8, 8, 8]
    assert default(LevyProcess, "length") == 64
    assert default(coverage, "level") == 0.9
    assert [default(sequential_monte_carlo, name) for name in ("particles", "replicas", "steps")] == [256, 8, 50]

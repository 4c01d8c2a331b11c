"""What is not given: exact readings, units of one, the likelihood itself, the seed 0, and the sizes of the pages."""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import diffuscope.physics
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.physics import (
    PROBLEMS,
    Grid,
    LinearObservation,
    Matern,
    NonlinearObservation,
    SquaredExponential,
    at_nodes,
    averages,
    joint_sine_prior,
    observe,
    sine_forcing,
    sine_prior,
    two_phase,
    where,
)
from diffuscope.physics.conditioning import DPS
from diffuscope.physics.conditioning.residual import residual_observation
from diffuscope.physics.grading import Settings
from diffuscope.schedules import RectifiedFlow
from stated_numbers import default

DOCS = Path(__file__).parents[2] / "docs"


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
    "observation",
    [
        LinearObservation(torch.ones(1, 2), (2,)), NonlinearObservation(torch.square, (2,)),
        at_nodes(torch.tensor([1]), (2,)), where(torch.tensor([True, False])), averages([torch.ones(2)]),
    ],
)  # fmt: skip
def test_readings_are_exact_where_no_noise_is_given(observation: LinearObservation | NonlinearObservation) -> None:
    x = torch.tensor([[3.0, 5.0]], dtype=torch.float64)
    assert torch.equal(observe(observation, x, generator=torch.Generator().manual_seed(0)), observation(x))


def test_residuals_are_observed_exactly_where_no_noise_is_given() -> None:
    h = residual_observation(PROBLEMS["poisson-1d"](nodes=5))
    x = torch.ones(1, *h.event_shape, dtype=torch.float64)
    assert torch.equal(observe(h, x, generator=torch.Generator().manual_seed(0)), h(x))


def test_the_second_phase_begins_at_zero() -> None:
    assert two_phase(torch.tensor([-0.1, 0.0, 0.1]), low=3.0, high=8.0).tolist() == [3, 8, 8]


def test_fields_and_boundary_values_have_the_variance_one() -> None:
    """Of two nodes at the ends of five, beside sine modes of the variances 2 and 1/2; u is linear between the ends."""
    assert [float(kernel(torch.tensor(0.0))) for kernel in (SquaredExponential(0.5), Matern(0.5))] == [1, 1]
    grid = Grid((5,))
    assert sine_forcing(grid, 2).eigenvalues.tolist() == pytest.approx([2, 1, 1, 0.5])
    ends = 2 * (1 + 9 / 16 + 4 / 16 + 1 / 16)  # the sum of (1 - x)^2 + x^2
    for prior, more in ((sine_prior, ends), (joint_sine_prior, ends + 2)):
        assert prior(grid, 2).trace - prior(grid, 2, boundary_variance=0).trace == pytest.approx(more)


def test_a_likelihood_counts_once() -> None:
    """At t = 0.5 of the variance 3: D = 1.5 x_t and C = 3/4, and 3 + 3/4 (7 - 3) / 4."""
    prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow())
    guided = DPS(prior, at_nodes(torch.tensor([0]), (1,), noise=2.0), torch.tensor([7.0]))
    assert float(guided(torch.tensor([[2.0]]), 0.5)) == pytest.approx(3.75)


def test_nodes_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| ([\d xtimes]+) \|$", (DOCS / "physics.md").read_text(), re.MULTILINE)
    stated = {name: tuple(map(int, re.findall(r"\d+", nodes))) for name, nodes in rows}
    assert stated == {name: PROBLEMS[name]().equation.grid.shape for name in stated}
    assert set(stated) == set(PROBLEMS)


def test_sizes_of_a_grading_are_those_of_its_page() -> None:
    page, settings = " ".join((DOCS / "grading.md").read_text().split()), Settings()
    assert f"are {settings.problems} problems in a family, {settings.draws} draws and {settings.steps} noise" in page

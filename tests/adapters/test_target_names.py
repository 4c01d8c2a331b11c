"""Names of targets: those that load, and the errors of the others."""

import sys

import pytest
import torch
from conftest import monte_carlo

from diffuscope.adapters import k_diffusion, known_targets, load_target
from diffuscope.adapters.libraries import BrownianNoise, read_options, seed_from
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE
from diffuscope.times import uniform_times

MODULE = """
from diffuscope.certify import Target

def halve(denoiser, x_start, times, generator):
    return x_start / 2

class Declared:
    order = 2
    stochastic = True
    nfe_per_step = 3

    def __call__(self, denoiser, x_start, times, generator):
        return x_start

class Overstated(Declared):
    order = "two"

def too_few(denoiser, x_start):
    return x_start

whole = Target("mine", halve, 1, False, 1)
number = 3
"""


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A folder with one module of the user's, under a name that no other test imports."""
    (tmp_path / "a_users_samplers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "a_users_samplers"
    sys.modules.pop("a_users_samplers", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("azula:REABSampler", "azula is not installed; pip install azula"),
        ("diffusers:DDIMScheduler", "diffusers is not installed; pip install diffusers"),
        ("k_diffusion:sample_euler", "k-diffusion is not installed; pip install --no-deps k-diffusion"),
        ("smalldiffusion:samples", "smalldiffusion is not installed; pip install smalldiffusion"),
        ("deepinv:EulerSolver", "deepinv is not installed; pip install deepinv"),
        ("flow_matching:ODESolver", "flow_matching is not installed; pip install flow_matching"),
        ("torchebm:FlowSampler", "torchebm is not installed; pip install torchebm"),
    ],
)
def test_the_error_for_an_absent_library_says_how_to_install_it(name, said, monkeypatch):
    module = name.split(":")[0]
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    k_diffusion.sampling.cache_clear()
    with pytest.raises(InputError) as caught:
        load_target(name)
    assert str(caught.value) == f"target: {said}"
    assert module not in known_targets()


def test_options_are_read_as_plain_values():
    read = read_options("solver_order=3&eta=.5&thresholding=False&algorithm_type=sde-dpmsolver++&s_tmax=inf&seed=none")
    assert read == {
        "solver_order": 3,
        "eta": 0.5,
        "thresholding": False,
        "algorithm_type": "sde-dpmsolver++",
        "s_tmax": float("inf"),
        "seed": None,
    }
    assert isinstance(read["solver_order"], int)
    assert read_options("") == {}


@pytest.mark.parametrize("text", ["order", "order=2&", "=3", "a b=1", "order=1&order=2"])
def test_options_of_another_form_raise(text):
    with pytest.raises(InputError, match=r"^target: "):
        read_options(text)


@pytest.mark.parametrize("name", ["REABSampler", "azula:", ":halve", ""])
def test_a_name_without_a_library_or_a_sampler_raises(name):
    with pytest.raises(InputError, match="expected library:sampler or module:callable"):
        load_target(name)


def test_a_users_function_is_a_target_whose_name_says_what_it_does_not_declare(named):
    target = load_target(f"{named}:halve")
    assert (target.order, target.stochastic, target.nfe_per_step) == (None, False, None)
    assert target.name == f"{named}:halve (stochastic undeclared, taken as deterministic)"
    data = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    x = torch.ones(3, 2, dtype=torch.float64)
    ended = target.run(ExactDenoiser(data, VE()), x, uniform_times(1.0, 0.5, 4), None)
    assert torch.equal(ended, x / 2)


def test_a_users_class_declares_by_its_attributes(named):
    target = load_target(f"{named}:Declared")
    assert (target.name, target.order, target.stochastic, target.nfe_per_step) == (f"{named}:Declared", 2, True, 3)


def test_a_users_target_is_taken_as_it_is(named):
    assert load_target(f"{named}:whole").name == "mine"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("number", r"is a int; expected callable\(denoiser, x_start, times, generator\)"),
        ("too_few", r"expected callable\(denoiser, x_start, times, generator\)"),
        ("Overstated", "order: expected a positive integer or None, got 'two'"),
        ("absent", "has no 'absent'"),
        ("halve?order=2", "options belong to the samplers of"),
    ],
)
def test_a_users_object_that_is_not_a_sampler_raises_a_one_line_error(named, found, said):
    with pytest.raises(InputError, match=said):
        load_target(f"{named}:{found}")


def test_a_seed_is_drawn_from_the_generator_and_advances_it():
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    seeds = [seed_from(first), seed_from(first)]
    assert seeds == [seed_from(second), seed_from(second)]
    assert seeds[0] != seeds[1]


def test_a_step_that_queries_its_middle_gets_one_brownian_path():
    # W(4) - W(1) holds W(4) - W(2); the rest, and the next step, are independent of it
    noise = BrownianNoise(torch.zeros(20_000, dtype=torch.float64), torch.Generator().manual_seed(0))
    half, whole, following = noise(4.0, 2.0), noise(4.0, 1.0), noise(1.0, 0.5)
    rest = 3**0.5 * whole - 2**0.5 * half
    for drawn, variance in ((half, 1.0), (whole, 1.0), (rest, 1.0), (following, 1.0)):
        assert monte_carlo(drawn).agrees_with(0.0)
        assert monte_carlo(drawn**2).agrees_with(variance)
    assert monte_carlo(half * rest).agrees_with(0.0)
    assert monte_carlo(whole * following).agrees_with(0.0)

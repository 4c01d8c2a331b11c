"""k-diffusion's samplers, driven on exact diffusions."""

import importlib.util
import sys

import pytest
import torch
from peer_runs import (
    UNEQUAL,
    assert_noise_is_the_generators,
    assert_reaches_the_marginal,
    assert_single_precision_stays,
    between,
    end_on_a_point,
    miss_of_a_point,
    noised,
    order_on_a_gaussian,
)

from diffuscope.adapters import k_diffusion, known_targets, load_target
from diffuscope.certify import unequal_gaussian, weak_order
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VE, VP

if importlib.util.find_spec("k_diffusion") is None:
    # importing it whole would need more than its samplers do
    pytest.skip("could not import 'k_diffusion'", allow_module_level=True)

DETERMINISTIC = [
    "k_diffusion:sample_euler",
    "k_diffusion:sample_heun",
    "k_diffusion:sample_dpm_2",
    "k_diffusion:sample_lms?order=2",
    "k_diffusion:sample_dpmpp_2m",
    "k_diffusion:sample_dpmpp_2s_ancestral?eta=0",
    "k_diffusion:sample_dpmpp_sde?eta=0",
    "k_diffusion:sample_dpmpp_2m_sde?eta=0",
]
STOCHASTIC = [
    "k_diffusion:sample_euler_ancestral",
    "k_diffusion:sample_dpm_2_ancestral",
    "k_diffusion:sample_dpmpp_2s_ancestral",
    "k_diffusion:sample_dpmpp_sde",
    "k_diffusion:sample_dpmpp_2m_sde",
    "k_diffusion:sample_dpmpp_3m_sde",
    "k_diffusion:sample_heun?s_churn=40.0",
]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_k_diffusion_sampler_has_the_order_of_its_name(name):
    assert order_on_a_gaussian(name).order == pytest.approx(load_target(name).order, abs=0.15)


def test_lms_has_its_fourth_order_where_its_first_steps_do_not_show():
    assert order_on_a_gaussian("k_diffusion:sample_lms", 200.0, (64, 96, 144, 216)).order == pytest.approx(4.0, abs=0.3)


def test_dpmpp_3m_converges_at_order_two():
    # its second difference is half the second derivative, and phi_3 multiplies it as if it were the whole
    name = "k_diffusion:sample_dpmpp_3m_sde?eta=0"
    assert load_target(name).order == 3
    assert order_on_a_gaussian(name, 200.0, (96, 150, 240)).order == pytest.approx(2.0, abs=0.15)


def test_euler_is_our_ddim_in_its_own_states_and_in_ours():
    for schedule in (VE(), VP()):
        times = between(schedule, 20.0, 0.05, 10)
        denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
        theirs = load_target("k_diffusion:sample_euler").run(denoiser, x, times, None)
        torch.testing.assert_close(theirs, sample(DDIM(), denoiser, x, times), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*DETERMINISTIC, "k_diffusion:sample_lms"])
def test_a_single_point_is_followed_exactly(name):
    assert miss_of_a_point(name) < 1e-9


@pytest.mark.parametrize("name", [*DETERMINISTIC, *STOCHASTIC])
def test_a_last_step_to_zero_noise_ends_on_the_point(name):
    assert end_on_a_point(name) < 1e-9


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_k_diffusion_sampler_reaches_the_marginal_by_our_generator(name):
    assert load_target(name).stochastic
    assert load_target(name).order is None
    assert_noise_is_the_generators(load_target(name))
    assert_reaches_the_marginal(name)


@pytest.mark.parametrize("name", ["sample_dpmpp_sde", "sample_dpmpp_2m_sde"])
def test_second_order_sde_steps_have_weak_order_two(name):
    # dpmpp_sde asks for the noise of its half step too: drawn apart from the whole step's, the order would be 1
    found = weak_order(load_target(f"k_diffusion:{name}"), unequal_gaussian(), VE(), (12, 18, 27, 40))
    assert found.order is not None
    assert found.order.order == pytest.approx(2.0, abs=0.25)


def test_float32_states_stay_float32():
    assert_single_precision_stays(load_target("k_diffusion:sample_dpmpp_2m"))


def test_the_stand_ins_leave_no_trace():
    k_diffusion.sampling.cache_clear()
    before = set(sys.modules)
    load_target("k_diffusion:sample_euler")
    assert not [name for name in set(sys.modules) - before if name.split(".")[0] in ("k_diffusion", "torchvision")]


def test_samplers_that_choose_their_own_levels_are_not_offered():
    names = known_targets()["k_diffusion"]
    assert "k_diffusion:sample_dpmpp_2m" in names
    assert [load_target(name).name for name in names] == list(names)
    for name in ("sample_dpm_fast", "sample_dpm_adaptive", "log_likelihood"):
        with pytest.raises(InputError, match=f"k_diffusion has no sampler '{name}'"):
            load_target(f"k_diffusion:{name}")


def test_an_unknown_option_is_named_in_one_line():
    with pytest.raises(InputError, match="k_diffusion:sample_lms has no option 'eta'; expected order"):
        load_target("k_diffusion:sample_lms?eta=1")

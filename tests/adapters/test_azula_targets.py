"""azula's samplers, driven on exact diffusions."""

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

from diffuscope.adapters import known_targets, load_target
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow

pytest.importorskip("azula")

DETERMINISTIC = [
    "azula:DDIMSampler",
    "azula:EulerSampler",
    "azula:HeunSampler",
    "azula:zABSampler",
    "azula:vABSampler",
    "azula:zEABSampler",
    "azula:xEABSampler",
]
STOCHASTIC = ["azula:DDPMSampler", "azula:DDIMSampler?eta=1.0", "azula:ItoSampler", "azula:PCSampler"]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_an_azula_sampler_has_the_order_that_azula_states(name):
    assert order_on_a_gaussian(name).order == pytest.approx(load_target(name).order, abs=0.15)


@pytest.mark.parametrize("name", ["azula:vABSampler?order=3", "azula:xEABSampler?order=3"])
def test_third_order_shows_where_the_first_steps_lose_none(name):
    # one step of order 1 begins a multistep run; at sigma/alpha = 200 its error does not show
    assert order_on_a_gaussian(name, high=200.0, steps=(64, 96, 144, 216)).order == pytest.approx(3.0, abs=0.3)


def test_reab_converges_at_order_one():
    # azula 0.11.1 multiplies by sqrt(alpha_s^2 + sigma_t^2), where its own formula has sigma_s
    assert load_target("azula:REABSampler").order == 2
    assert order_on_a_gaussian("azula:REABSampler").order == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_azula_ddim_is_our_ddim_in_every_schedule(schedule):
    times = between(schedule, 20.0, 0.05, 10)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    theirs = load_target("azula:DDIMSampler").run(denoiser, x, times, None)
    torch.testing.assert_close(theirs, sample(DDIM(), denoiser, x, times), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_single_point_is_followed_exactly(name):
    assert miss_of_a_point(name) < 1e-9


@pytest.mark.parametrize("name", ["azula:DDIMSampler", "azula:zABSampler", "azula:DDPMSampler"])
def test_a_last_step_to_zero_noise_ends_on_the_point(name):
    assert end_on_a_point(name) < 1e-9


@pytest.mark.parametrize("name", ["azula:HeunSampler", "azula:ItoSampler", "azula:zEABSampler"])
def test_a_sampler_without_a_last_step_says_so(name):
    with pytest.raises(InputError, match=r"expected sigma\(times\[-1\]\) > 0"):
        end_on_a_point(name)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_azula_sampler_reaches_the_marginal_by_our_generator(name):
    assert load_target(name).stochastic
    assert_noise_is_the_generators(load_target(name))
    assert_reaches_the_marginal(name)


def test_float32_states_stay_float32():
    assert_single_precision_stays(load_target("azula:zEABSampler"))


def test_every_sampler_of_azula_is_known_and_loads():
    names = known_targets()["azula"]
    assert set(DETERMINISTIC) < set(names)
    assert [load_target(name).name for name in names] == list(names)


def test_an_unknown_sampler_or_option_is_named_in_one_line():
    with pytest.raises(InputError, match="azula has no sampler 'Sampler'"):
        load_target("azula:Sampler")
    with pytest.raises(InputError, match="azula:REABSampler has no option 'orders'; expected order"):
        load_target("azula:REABSampler?orders=2")

"""diffusers' schedulers, driven on exact diffusions."""

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
from diffuscope.certify import unequal_gaussian, weak_order
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VP, Cosine, RectifiedFlow

pytest.importorskip("diffusers")
pytest.importorskip("torchsde")  # without which diffusers hides one scheduler

DETERMINISTIC = [
    "diffusers:DDIMScheduler",
    "diffusers:EulerDiscreteScheduler",
    "diffusers:HeunDiscreteScheduler",
    "diffusers:KDPM2DiscreteScheduler",
    "diffusers:DPMSolverMultistepScheduler",
    "diffusers:DPMSolverMultistepScheduler?use_flow_sigmas=true",
    "diffusers:DPMSolverSinglestepScheduler",
    "diffusers:DEISMultistepScheduler",
    "diffusers:FlowMatchEulerDiscreteScheduler",
    "diffusers:FlowMatchHeunDiscreteScheduler",
    "diffusers:EDMEulerScheduler",
    "diffusers:EDMDPMSolverMultistepScheduler",
]
HIGH_ORDER = [
    "diffusers:UniPCMultistepScheduler?lower_order_final=false",
    "diffusers:DPMSolverSinglestepScheduler?solver_order=3",
    "diffusers:LMSDiscreteScheduler",
]
STOCHASTIC = [
    "diffusers:DDPMScheduler",
    "diffusers:DDIMScheduler?eta=1.0",
    "diffusers:EulerAncestralDiscreteScheduler",
    "diffusers:KDPM2AncestralDiscreteScheduler",
    "diffusers:DPMSolverSDEScheduler",
    "diffusers:DPMSolverMultistepScheduler?algorithm_type=sde-dpmsolver++",
    "diffusers:DPMSolverSinglestepScheduler?algorithm_type=sde-dpmsolver++",
    "diffusers:SASolverScheduler",
    "diffusers:EDMDPMSolverMultistepScheduler?algorithm_type=sde-dpmsolver++",
]
ENDS_ABOVE_ZERO = ["diffusers:DEISMultistepScheduler", "diffusers:SASolverScheduler"]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_diffusers_scheduler_has_the_order_that_diffusers_states(name):
    assert order_on_a_gaussian(name).order == pytest.approx(load_target(name).order, abs=0.15)


@pytest.mark.parametrize("name", HIGH_ORDER)
def test_higher_orders_show_where_the_first_steps_do_not(name):
    found = order_on_a_gaussian(name, 200.0, (48, 72, 108, 162)).order
    assert found == pytest.approx(load_target(name).order, abs=0.3)


def test_deis_is_azulas_exponential_adams_bashforth():
    pytest.importorskip("azula")
    times = between(VP(), 4.0, 0.1, 20)
    denoiser, x = ExactDenoiser(UNEQUAL, VP()), noised(UNEQUAL, VP(), times[0])
    deis, azula = (
        load_target(name).run(denoiser, x, times, None)
        for name in ("diffusers:DEISMultistepScheduler?solver_order=3", "azula:zEABSampler?order=3")
    )
    torch.testing.assert_close(deis, azula, rtol=1e-9, atol=1e-9)


def test_unipc_loses_an_order_to_its_last_step():
    name = "diffusers:UniPCMultistepScheduler"
    assert load_target(name).order == 3
    assert order_on_a_gaussian(name, 200.0, (96, 150, 240)).order == pytest.approx(2.0, abs=0.2)


def test_dpmpp_3m_converges_at_order_two():
    name = "diffusers:DPMSolverMultistepScheduler?solver_order=3"
    assert load_target(name).order == 3
    assert order_on_a_gaussian(name, 200.0, (96, 150, 240)).order == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_diffusers_ddim_is_our_ddim_for_any_prediction_type(schedule, prediction):
    times = between(schedule, 20.0, 0.05, 10)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    theirs = load_target(f"diffusers:DDIMScheduler?prediction_type={prediction}").run(denoiser, x, times, None)
    torch.testing.assert_close(theirs, sample(DDIM(), denoiser, x, times), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_grids_work_too(steps):
    schedule = VP()
    times = between(schedule, 4.0, 0.1, steps)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    ours = sample(DDIM(), denoiser, x, times)
    for name in (
        "DDIMScheduler",
        "DPMSolverMultistepScheduler?solver_order=1",
        "DEISMultistepScheduler?solver_order=1",
    ):
        theirs = load_target(f"diffusers:{name}").run(denoiser, x, times, None)
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*DETERMINISTIC, *HIGH_ORDER])
def test_a_single_point_is_followed_exactly(name):
    assert miss_of_a_point(name) < 1e-5  # single precision in some


@pytest.mark.parametrize("name", [*DETERMINISTIC, *STOCHASTIC, "diffusers:UniPCMultistepScheduler"])
def test_a_last_step_to_zero_noise_ends_on_the_point_or_raises(name):
    if name.split("?")[0] in ENDS_ABOVE_ZERO:
        with pytest.raises(InputError, match="ends at its lowest level"):
            end_on_a_point(name)
    else:
        assert end_on_a_point(name) < 1e-6


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_scheduler_reaches_the_marginal_by_our_generator(name):
    assert load_target(name).stochastic
    assert load_target(name).order is None
    assert_noise_is_the_generators(load_target(name))
    assert_reaches_the_marginal(name)


def test_third_order_single_steps_with_noise_do_not_converge():
    # diffusers 0.42.1 subtracts 1/2 where (1 - e^(-2h) - 2h) / (2h)^2 tends to -1/2: the bracket tends to -1, not to 0
    name = "diffusers:DPMSolverSinglestepScheduler?algorithm_type=sde-dpmsolver++&solver_order=3&solver_type=heun"
    found = weak_order(load_target(name), unequal_gaussian(), VP(), (12, 18, 27, 42))
    assert found.order.order < 0.2


def test_a_flow_begins_at_pure_noise():
    # RectifiedFlow has alpha(1) = 0, where epsilon would not tell the denoiser
    schedule = RectifiedFlow()
    times = torch.linspace(1.0, 0.0, 11, dtype=torch.float64)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    ours = sample(DDIM(), denoiser, x, times)  # Euler on straight lines
    theirs = load_target("diffusers:FlowMatchEulerDiscreteScheduler").run(denoiser, x, times, None)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["diffusers:UniPCMultistepScheduler", "diffusers:HeunDiscreteScheduler"])
def test_float32_states_stay_float32(name):
    assert_single_precision_stays(load_target(name))


def test_every_scheduler_that_can_be_used_loads():
    names = known_targets()["diffusers"]
    assert len(names) >= 18
    assert [load_target(name).name for name in names] == list(names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("diffusers:LCMScheduler", "diffusers has no scheduler 'LCMScheduler' to drive"),
        ("diffusers:DDIMScheduler?beta_start=0.1", "diffusers:DDIMScheduler has no option 'beta_start'; expected"),
        ("diffusers:DDIMScheduler?solver_order=2", "diffusers:DDIMScheduler has no option 'solver_order'; expected"),
    ],
)
def test_unknown_schedulers_and_options_raise_a_one_line_error(name, said):
    with pytest.raises(InputError, match=said):
        load_target(name)

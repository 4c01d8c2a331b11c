"""diffusers' schedulers by their formulas, driven on exact diffusions: also where the library is not installed."""

import math
from typing import Any

import diffusers_in_small
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

from diffuscope.adapters import diffusers, known_targets, load_target
from diffuscope.adapters.diffusers_schedulers import SCHEDULERS
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, Heun, sample
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow

DETERMINISTIC = [
    "DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler",
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "EDMEulerScheduler",
]  # fmt: skip
STOCHASTIC = ["DDPMScheduler", "DDIMScheduler?eta=1.0"]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    return diffusers_in_small.stand_in(monkeypatch)


def ends(name: str, schedule: Any, steps: int, high: float = 20.0) -> tuple[torch.Tensor, torch.Tensor]:
    """By the scheduler and by our DDIM."""
    times = between(schedule, high, 0.05, steps)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    return load_target(f"diffusers:{name}").run(denoiser, x, times, None), sample(DDIM(), denoiser, x, times)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_scheduler_has_the_order_that_is_declared(name):
    target = load_target(f"diffusers:{name}")
    assert target.order == (2 if "Heun" in name or "DPMSolver" in name else 1)
    found = order_on_a_gaussian(f"diffusers:{name}", steps=(24, 34, 48))
    assert found.order == pytest.approx(target.order, abs=0.15)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_its_ddim_is_our_ddim_for_any_prediction_type(schedule, prediction):
    theirs, ours = ends(f"DDIMScheduler?prediction_type={prediction}", schedule, 10)
    torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("EulerDiscreteScheduler", VE()),
        ("EulerDiscreteScheduler?prediction_type=v_prediction", VP()),
        ("FlowMatchEulerDiscreteScheduler", RectifiedFlow()),
        ("EDMEulerScheduler", VP()),
        ("EDMEulerScheduler?prediction_type=v_prediction", VE()),
    ],
)
def test_eulers_method_in_the_states_of_a_scheduler_is_our_ddim(name, schedule):
    """From sigma/alpha to the next on straight lines; of flows in their own schedule."""
    theirs, ours = ends(name, schedule, 10)
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_the_shortest_grids_work_too(name, steps):
    torch.testing.assert_close(*ends(name, VP(), steps, 4.0), rtol=1e-9, atol=1e-9)


def test_heun_of_ve_states_is_our_heun():
    times = between(VE(), 20.0, 0.05, 6)
    denoiser, x = ExactDenoiser(UNEQUAL, VE()), noised(UNEQUAL, VE(), times[0])
    for grid in (times, torch.cat([times, times.new_zeros(1)])):
        theirs = load_target("diffusers:HeunDiscreteScheduler").run(denoiser, x, grid, None)
        torch.testing.assert_close(theirs, sample(Heun(), denoiser, x, grid), rtol=1e-9, atol=1e-9)


def test_a_flow_begins_at_pure_noise():
    times = torch.linspace(1.0, 0.0, 11, dtype=torch.float64)
    denoiser, x = ExactDenoiser(UNEQUAL, RectifiedFlow()), noised(UNEQUAL, RectifiedFlow(), times[0])
    theirs = load_target("diffusers:FlowMatchEulerDiscreteScheduler").run(denoiser, x, times, None)
    torch.testing.assert_close(theirs, sample(DDIM(), denoiser, x, times), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_single_point_is_followed_exactly_and_reached(name):
    assert miss_of_a_point(f"diffusers:{name}") < 1e-9
    assert end_on_a_point(f"diffusers:{name}") < 1e-9


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_scheduler_reaches_the_marginal_by_our_generator(name):
    target = load_target(f"diffusers:{name}")
    assert (target.stochastic, target.order) == (True, None)
    assert_noise_is_the_generators(target)
    assert_reaches_the_marginal(f"diffusers:{name}")
    assert end_on_a_point(f"diffusers:{name}") < 1e-9


def test_float32_states_stay_float32():
    assert_single_precision_stays(load_target("diffusers:HeunDiscreteScheduler"))


def test_a_target_says_what_its_scheduler_is():
    names = [f"diffusers:{name}" for name in SCHEDULERS if name in vars(diffusers_in_small)]
    assert known_targets()["diffusers"] == tuple(names)
    said = {name: load_target(name) for name in names}
    assert [target.name for target in said.values()] == names
    of = {name.removeprefix("diffusers:"): target for name, target in said.items()}
    single = {"EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
    for name, target in of.items():
        twice = "Heun" in name
        assert target.nfe_per_step == (2 if twice else 1)
        assert target.coarsest == (2 if twice or "DPMSolver" in name else 1)
        assert target.floor == (
            1e-6 if name in single | {"EDMEulerScheduler", "DPMSolverMultistepScheduler"} else 1e-12
        )
        schedule = RectifiedFlow if "Flow" in name else VE if "EDM" in name else VP
        assert [type(each) for each in target.schedules] == [schedule]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LCMScheduler", "diffusers has no scheduler 'LCMScheduler' to drive; expected one of DDIMScheduler, DDPM"),
        ("LMSDiscreteScheduler", "diffusers has no scheduler 'LMSDiscreteScheduler' to drive"),
        ("DPMSolverSDEScheduler", "diffusers:DPMSolverSDEScheduler needs torchsde; pip install torchsde"),
        (
            "DDIMScheduler?beta_start=0.1",
            "diffusers:DDIMScheduler has no option 'beta_start'; expected clip_sample, eta",
        ),
        ("DDIMScheduler?solver_order=2", "diffusers:DDIMScheduler has no option 'solver_order'; expected"),
    ],
)
def test_unknown_schedulers_and_options_are_one_line(name, said):
    with pytest.raises(InputError, match=said):
        load_target(f"diffusers:{name}")


def test_a_class_that_says_what_is_missing_is_no_scheduler(library):
    class Dummy: ...

    Dummy.__module__ = "diffusers.utils.dummy_torch_and_torchsde_objects"
    library.DPMSolverSDEScheduler = Dummy
    assert diffusers.scheduler_class("DPMSolverSDEScheduler") is None
    assert diffusers.scheduler_class("DDIMScheduler") is diffusers_in_small.DDIMScheduler


def test_a_scheduler_that_ends_at_its_lowest_level_is_given_no_end_at_zero(library):
    class DEISMultistepScheduler(diffusers_in_small.DDIMScheduler): ...

    library.DEISMultistepScheduler = DEISMultistepScheduler
    with pytest.raises(InputError, match="times: diffusers:DEISMultistepScheduler ends at its lowest level"):
        end_on_a_point("diffusers:DEISMultistepScheduler")


def test_levels_are_refined_to_the_grids_and_others_are_refused():
    """float32 has 2^-24 of a level; a level that differs by more than 1e-5 is another."""
    levels = torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64)
    given = torch.tensor([3.0, 0.7, 0.1, 0.0])
    assert torch.equal(diffusers._refined(given, levels), torch.tensor([3.0, 0.7, 0.1, 0.0], dtype=torch.float64))
    assert torch.equal(diffusers._refined(given * (1 + 9e-6), levels), diffusers._refined(given, levels))
    for wrong in (3.0 * (1 + 1.2e-5), 0.1 * (1 - 1.2e-5), 0.4):
        with pytest.raises(RuntimeError, match="lays out other noise levels than the grid's"):
            diffusers._refined(torch.tensor([3.0, wrong, 0.0]), levels)


def test_between_training_steps_the_logarithm_of_the_level_is_linear():
    table = diffusers._Table.of(VE(), torch.tensor([8.0, 2.0, 0.5, 0.0], dtype=torch.float64))
    assert (table.steps, table.to_zero, table.times.tolist()) == (3, True, [0.5, 2.0, 8.0])
    found = table.times_of(torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], dtype=torch.float64))
    torch.testing.assert_close(found.tolist(), [0.5, 1.0, 2.0, 4.0, 8.0, 8.0], rtol=1e-12, atol=0)
    above = diffusers._Table.of(VE(), table.times.flip(0))
    assert (above.steps, above.to_zero) == (2, False)
    assert above.descending(above.ratios).tolist() == [8.0, 2.0, 0.5]
    assert table.descending(table.ratios).tolist() == [8.0, 2.0, 0.5, 0.0]
    assert math.isclose(float(table.ratios[0]), 0.5)

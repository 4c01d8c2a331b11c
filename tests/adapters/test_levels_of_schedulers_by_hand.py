"""The levels that networks, schedulers and jumps take from a table of three steps, and where they lie between them."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers_in_small import Config

from diffuscope.adapters.diffusers import _laid_out, _Table
from diffuscope.adapters.diffusers_as_shipped import _Walk
from diffuscope.adapters.diffusers_network import POINT, TrainedNetwork
from diffuscope.adapters.libraries import BrownianNoise
from diffuscope.adapters.teleport_grid import TeleportGrid, require_within
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE
from numbers_in_tests import double

# sigma/alpha = 1/10, 1 and 10; and infinity behind them
TABLE = 1 / (1 + torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64) ** 2)
TO_INFINITY = torch.cat([TABLE, TABLE.new_zeros(1)])


def network(kind: str, table: Any = TABLE, **config: Any) -> TrainedNetwork:
    return TrainedNetwork(SimpleNamespace(config=Config(config), alphas_cumprod=table), kind)


def told(of: TrainedNetwork, *timesteps: float) -> list[float]:
    return of.told(double(*timesteps)).tolist()


def off(of: TrainedNetwork, ratio: float, timestep: float) -> float:
    return float(of.off(double(ratio), double(timestep)))


# what a network is told, and how far a state is from it


def test_a_network_of_a_table_is_told_the_level_of_its_step_and_between_two_the_geometric_mean():
    of_table = network("vp")
    assert told(of_table, 0, 1, 2) == pytest.approx([0.1, 1, 10], rel=1e-12)
    assert told(of_table, 0.5, 1.25) == pytest.approx([10**-0.5, 10**0.25], rel=1e-12)
    assert told(of_table, -1, 5) == pytest.approx([0.01, 10], rel=1e-12)  # on as it begins; and not beyond its end
    assert told(network("ve", TO_INFINITY), 2, 2.5, 3) == pytest.approx([10, math.inf, math.inf])


def test_a_network_without_a_table_is_told_its_timestep_by_its_formula():
    assert told(network("flow", num_train_timesteps=1000), 200, 500) == pytest.approx([0.25, 1])  # s / (1 - s)
    assert told(network("angle"), 0.5, 1 / 3) == pytest.approx([1, math.sqrt(1 / 3)])
    assert told(network("edm"), 0.0, 0.25) == pytest.approx([1, math.e])
    continuous = {"timestep_type": "continuous", "prediction_type": "v_prediction"}
    assert told(network("ve", **continuous), 0.0, 0.25) == pytest.approx([1, math.e])
    for name in continuous:  # both are needed
        of_table = {key: value for key, value in continuous.items() if key != name}
        assert told(network("ve", **of_table), 1) == pytest.approx([1])


def test_the_cosine_solver_of_edm_states_counts_angles():
    solver = type("CosineDPMSolverMultistepScheduler", (), {})()
    assert told(TrainedNetwork(solver, "edm"), 0.5, -1 / 3) == pytest.approx([1, math.sqrt(1 / 3)])


def test_how_far_a_state_is_above_its_timestep_is_counted_in_training_steps():
    of_table = network("vp")
    assert [off(of_table, ratio, 1) for ratio in (0.1, 1, 10)] == [-1, 0, 1]
    assert off(of_table, 10**0.25, 1) == pytest.approx(0.25)
    assert off(of_table, 10**-0.25, 0) == pytest.approx(0.75)
    assert off(of_table, 100, 2) == pytest.approx(1)  # the table goes on as it ends, and as it begins
    assert off(of_table, 0.001, 0) == pytest.approx(-2)
    assert [off(of_table, 1, step) for step in (-0.5, 2.5)] == [math.inf, math.inf]
    assert [off(of_table, ratio, step) for ratio, step in ((0.1, 0), (10, 2))] == [0, 0]


def test_a_millionth_of_a_level_is_none():
    of_table = network("vp")
    assert off(of_table, math.exp(0.95e-6), 1) == 0
    assert off(of_table, math.exp(1.05e-6), 1) == pytest.approx(1.05e-6 / math.log(10), rel=1e-3)


def test_infinite_noise_is_the_last_step_of_a_table_that_ends_there():
    to_infinity = network("vp", TO_INFINITY)
    assert [off(to_infinity, ratio, 3) for ratio in (math.inf, 10, 1)] == [0, -1, -2]
    assert off(to_infinity, 0.0, 3) == -math.inf
    assert off(network("vp"), math.inf, 2) == math.inf


def test_without_a_table_a_training_step_is_a_thousandth_of_the_range():
    flow, angle = network("flow", num_train_timesteps=1000), network("angle", num_train_timesteps=500)
    assert off(flow, 0.25, 199) == pytest.approx(1)  # s = 0.2
    assert off(angle, 1.0, 0.4) == pytest.approx(50)  # half of 500 less four tenths of them
    assert off(network("angle"), 1.0, 0.4) == pytest.approx(100)  # of 1000 where nothing is said
    ends = SimpleNamespace(sigma_max=80.0, sigma_min=0.002, get=lambda *_: 1000)
    edm = TrainedNetwork(SimpleNamespace(config=ends), "edm")
    assert off(edm, 40_000**0.003 * math.e, 0.25) == pytest.approx(3)
    continuous = network("ve", timestep_type="continuous", prediction_type="v_prediction", num_train_timesteps=100)
    assert off(continuous, 100**0.02 * math.e, 0.25) == pytest.approx(2)  # the table spans a factor of 100


# where a step has led


def landing(alpha_bar: float, table: Any = TABLE, **scheduler: Any) -> float:
    made = SimpleNamespace(alphas_cumprod=table, **scheduler)
    state = torch.full((1, 2), POINT * math.sqrt(alpha_bar), dtype=torch.float64)
    return TrainedNetwork(made, "chain").landing(state, torch.tensor(2))


def test_a_step_has_led_to_the_level_of_its_point_or_to_the_clean_one():
    assert [landing(float(level)) for level in TABLE] == pytest.approx([0.1, 1, 10])
    assert landing(1.0) == 0


def test_nearest_is_relative_to_the_room_on_either_side_of_a_level():
    """0.8 is farther from 0.5 than from 0.99, but by 1.2 of 0.5 (1 - 0.5), and by 19.2 of 0.99 (1 - 0.99)."""
    assert landing(0.8, double(0.99, 0.5)) == pytest.approx(1)
    assert landing(0.0012, double(0.01, 0.001)) == pytest.approx(math.sqrt(999))
    # the clean level has the room of a hundred thousandth, 0.999 that of 0.000999: the border is at 0.99 of the first
    assert [landing(1 - distance, double(0.999)) > 0 for distance in (0.95e-5, 1.03e-5)] == [False, True]


def test_a_scheduler_that_states_where_its_step_leads_is_believed():
    assert landing(1.0, previous_timestep=lambda t: t - 2) == pytest.approx(0.1)
    assert landing(1.0, previous_timestep=lambda t: t - 3) == 0  # before the first training step


# EDM's preconditioning


def preconditioned() -> TrainedNetwork:
    """c_in = 1/(1 + r), D = x/(1 + r) + 2 r F: made up, and all that is asked of a scheduler."""
    scheduler = SimpleNamespace(
        precondition_inputs=lambda x, r: x / (1 + r),
        precondition_outputs=lambda x, output, r: x / (1 + r) + 2 * r * output,
        config={},
    )
    return TrainedNetwork(scheduler, "edm")


def test_a_network_of_edm_answers_by_the_preconditioning_of_its_scheduler():
    """N(0, I) has D = x/(1 + r^2); at r = 1/2, F = (0.8 - 2/3) x, and the input is 2/3 x."""
    edm, x, ratio = preconditioned(), double(3.0, -1.5)[None], double(0.5)[0]
    answer = edm(Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0), x / 1.5, ratio)
    torch.testing.assert_close(answer, (0.8 - 2 / 3) * x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(edm.clean(x, answer, ratio), 0.8 * x, rtol=1e-12, atol=1e-12)
    assert [float(scale) for scale in edm.scales(ratio)] == [1, 0.5]


def test_without_noise_a_network_is_asked_for_its_input_itself():
    x, nothing = double(3.0, -1.5)[None], double(0.0)[0]
    data = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    assert network("vp", prediction_type="v_prediction")(data, x, nothing).tolist() == [[0.0, 0.0]]
    assert network("vp", prediction_type="sample")(data, x, nothing).tolist() == x.tolist()
    assert network("flow")(data, x, nothing).tolist() == (-x).tolist()


@pytest.mark.parametrize(
    ("kind", "index", "ratio"),
    [
        ("vp", 0, 4.0),
        ("edm", 1, 0.5),
        ("flow", 1, 1.0),
        ("flow", 2, math.inf),
        ("flow", 0, math.inf),
        ("angle", 1, 0.75),
    ],
)
def test_the_level_of_an_index_is_that_of_the_kind(kind, index, ratio):
    levels = {"sigmas": double(4.0, 0.5, 1.0), "betas": double(0.0, 0.6), "alphas": double(1.0, 0.8)}
    made = SimpleNamespace(**levels, step_index=index, index_for_timestep=lambda t: 2 - int(t))
    walk = _Walk(made_by=None, kind=kind, options={}, of_step={}, draws_noise=False)
    assert walk._ratio_at(made, index) == pytest.approx(ratio)
    assert walk._ratio_now(made, torch.tensor(7)) == pytest.approx(ratio)
    made.step_index = None  # before the first step it is that of the timestep
    assert walk._ratio_now(made, torch.tensor(2 - index)) == pytest.approx(ratio)


def test_the_level_of_a_scaled_state_is_read_off_its_scaling():
    """1/(1 + r^2)^(1/2) = 0.8 at r = 3/4."""
    walk = _Walk(made_by=None, kind="ve", options={}, of_step={}, draws_noise=False)
    made = SimpleNamespace(scale_model_input=lambda x, t: 0.8 * x * float(t))
    assert walk._ratio_now(made, torch.tensor(1.0)) == pytest.approx(0.75)


# grids that begin with a jump


class Laid:
    """A scheduler whose n steps begin at 16 (n - i)/n; it makes a step more where it cannot make n."""

    def __init__(self, *unable: int, train: int = 1000, **config: Any) -> None:
        self.config, self.unable = Config(num_train_timesteps=train, **config), unable
        self.alphas_cumprod = double(0.8, 0.5, 0.36, 0.2)  # sigma/alpha = 1/2, 1, 4/3 and 2
        self.begin, self.num_inference_steps = None, 0

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        del device
        self.num_inference_steps = n = num_inference_steps + (num_inference_steps in self.unable)
        self.sigmas = torch.cat([16 * torch.arange(n, 0, -1).double() / n, torch.zeros(1)])
        self.timesteps = torch.arange(n - 1, -1, -1)

    def set_begin_index(self, index: int) -> None:
        self.begin = index


class EulerDiscreteScheduler(Laid):
    pass


class HeunDiscreteScheduler(Laid):
    pass


class UniPCMultistepScheduler(Laid):
    pass


class DDIMScheduler(Laid):
    pass


def grid(kind: type[Laid], level: float = 1.0, *unable: int, **config: Any) -> TeleportGrid:
    made = TeleportGrid(kind(*unable, **config), level)
    made.scheduler.set_timesteps(4)
    return made


def test_a_level_is_one_of_the_table_ends_included_and_of_a_flow_any():
    for level in (0.5, 2.0):
        assert grid(DDIMScheduler, level).noise_to_signal == level
        require_within(level, 0.5, 2.0, "a list")
    for level in (0.49, 2.1):
        with pytest.raises(InputError, match=r"a level of DDIMScheduler's table, sigma/alpha in 0\.5 \.\. 2, got"):
            grid(DDIMScheduler, level)
    for level in (1e-9, 1e9):
        assert grid(UniPCMultistepScheduler, level, use_flow_sigmas=True).noise_to_signal == level
    for level in (0.0, math.inf):
        with pytest.raises(InputError, match="noise_to_signal"):
            require_within(level, 0.0, math.inf, "a list")


def test_levels_are_those_at_the_starts_of_steps_and_zero():
    ddim, euler, heun = (grid(kind) for kind in (DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler))
    ddim.scheduler.timesteps = torch.tensor([3, 2, 0])
    assert ddim.levels().tolist() == pytest.approx([2, 4 / 3, 0.5, 0])
    assert euler.levels().tolist() == [16, 12, 8, 4, 0]
    heun.scheduler.sigmas = torch.tensor([16.0, 12.0, 12.0, 8.0, 8.0, 0.0])
    assert heun.levels().tolist() == [16, 12, 8, 0]
    flow = grid(UniPCMultistepScheduler, use_flow_sigmas=True)
    flow.scheduler.sigmas = torch.tensor([0.8, 0.5, 0.0])
    assert flow.levels().tolist() == pytest.approx([4, 1, 0], rel=1e-6)


def test_states_have_the_scales_of_their_kind():
    for kind, config, scales in (
        (EulerDiscreteScheduler, {}, (1, 0.75)),
        (DDIMScheduler, {}, (0.8, 0.6)),
        (UniPCMultistepScheduler, {}, (0.8, 0.6)),
        (UniPCMultistepScheduler, {"use_flow_sigmas": True}, (4 / 7, 3 / 7)),
    ):
        assert grid(kind, **config).scales(0.75) == pytest.approx(scales)


def test_steps_above_a_level_are_cut_from_every_list():
    euler, heun, ddim = (grid(kind) for kind in (EulerDiscreteScheduler, HeunDiscreteScheduler, DDIMScheduler))
    assert (grid(EulerDiscreteScheduler, 2.0).above(), grid(DDIMScheduler).above()) == (3, 2)
    for cut, first in ((euler, 2), (heun, 4)):
        cut.scheduler.timesteps, cut.scheduler.sigmas = torch.arange(6), torch.arange(7)
        cut.cut(2)
        assert cut.scheduler.timesteps.tolist() == list(range(first, 6))
        assert cut.scheduler.sigmas.tolist() == list(range(first, 7))
        assert (cut.scheduler.num_inference_steps, cut.scheduler.begin) == (2, 0)
    ddim.cut(1)
    assert ddim.scheduler.timesteps.tolist() == [2, 1, 0]
    assert (ddim.scheduler.num_inference_steps, ddim.scheduler.begin, len(ddim.scheduler.sigmas)) == (4, None, 5)


@pytest.mark.parametrize(
    ("level", "unable", "train", "steps"),
    [
        (1.0, (), 1000, 64),  # the last 4 of n steps begin at 64/n
        (1.5, (), 1000, 43),  # 64/43 = 1.488 is nearer than 64/42 = 1.524
        (2.0, (), 1000, 32),
        (1.9, (), 1000, 34),
        (1.0, (64,), 1000, 65),  # 64/65 is nearer to 1 than 64/63
        (1.0, (64, 65), 1000, 66),
        (1.0, tuple(range(64, 81)), 1000, 4),  # none of the two on either side can be made
        (1.0, (), 50, 50),  # no more than there are training steps
        (1.0, (), 64, 64),
    ],
)
def test_a_grid_is_as_long_as_brings_the_start_of_its_tail_nearest_to_the_level(level, unable, train, steps):
    made = grid(EulerDiscreteScheduler, level, *unable, train=train)
    assert made.lay_out_with_tail(4, {"device": None}) == steps - 4
    assert made.scheduler.num_inference_steps == steps


def test_a_level_at_the_start_of_the_shortest_grid_leaves_nothing_before_the_tail():
    scheduler = EulerDiscreteScheduler()
    scheduler.alphas_cumprod = double(0.8, 0.001)
    for level in (16.0, 20.0):
        assert TeleportGrid(scheduler, level).lay_out_with_tail(4, {}) == 0


def test_a_longer_grid_of_ddim_has_the_stride_of_its_number_of_steps():
    """10 training steps in 4 steps have the stride 2; the last timestep is below it, the first is the pipeline's."""
    made = grid(DDIMScheduler, train=10)
    assert made._lay_out(4, 4, {})
    assert made.scheduler.timesteps.tolist() == [3, 2, 1, 0]
    made.scheduler.alphas_cumprod = torch.linspace(0.9, 0.1, 10).double()

    def trailing(num_inference_steps: int) -> None:
        made.scheduler.timesteps = torch.tensor([9, 7, 4, 2][:num_inference_steps])

    made.scheduler.set_timesteps = trailing
    assert made._lay_out(4, 3, {})
    assert made.scheduler.timesteps.tolist() == [9, 5, 3, 1]
    assert not made._lay_out(5, 3, {})


class SASolverScheduler:
    """It keeps what it is made with."""

    def __init__(self, num_train_timesteps=1, trained_betas=None, tau_func=None, final_sigmas_type=None):
        self.given = num_train_timesteps, trained_betas, final_sigmas_type
        self.tau_func = tau_func

    def set_timesteps(self, num_inference_steps):
        self.steps = num_inference_steps


def test_a_table_of_ten_levels_is_laid_out_with_its_window_of_noise_from_the_second_to_the_eighth():
    """alpha^2 = 1/(1 + r^2) is the product of 1 - beta; the solver ends at the lowest level, after nine steps."""
    levels = torch.arange(10, 0, -1).double()
    made = _laid_out(SASolverScheduler, {}, _Table.of(VE(), levels))
    count, betas, last = made.given
    assert (count, last, made.steps) == (10, "sigma_min", 9)
    assert (1 - double(*betas)).cumprod(0).tolist() == pytest.approx((1 / (1 + levels.flip(0) ** 2)).tolist())
    assert [made.tau_func(step) for step in (1, 2, 8, 9)] == [0, 1, 1, 0]


# noise


def test_one_brownian_motion_is_asked_for_its_increments_over_a_level():
    """From 9 to 8 and to 5: the second increment contains the first, and one from 5 is another."""
    x = torch.zeros(3, dtype=torch.float64)
    noise = BrownianNoise(x, torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(0)
    one, two, three = (torch.randn(3, generator=draws, dtype=torch.float64) for _ in range(3))
    assert torch.allclose(noise(9.0, 8.0), one)
    assert torch.allclose(noise(torch.tensor(9.0), 5.0), (one + math.sqrt(3) * two) / 2)
    assert torch.allclose(noise(5.0, 1.0), three)

"""What every sampler promises besides accuracy: dtype, independence of rows, explicit randomness, honest costs."""

from dataclasses import dataclass, field

import pytest
import torch
from conftest import tensors_of

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    Euler,
    Evaluation,
    Heun,
    Noise,
    RungeKutta4,
    Sampler,
    State,
    instants,
    sample,
    trajectory,
)
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times, uniform_times
from numbers_in_tests import seeded

SAMPLERS = [Euler(), Heun(), RungeKutta4(), DDIM(), DDPM(), DPMSolverPP2M()]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
DATA = GaussianMixture.isotropic(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.0, 0.2]], dtype=torch.float64),
    torch.tensor([0.1, 0.3], dtype=torch.float64),
)
TIMES = log_snr_times(VP(), 1.0, 1e-3, 8)


def x_start(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, 2, dtype=torch.float64, generator=seeded(1))


@dataclass(frozen=True)
class Counting:
    """A denoiser that counts its calls and can require gradients."""

    schedule: Schedule
    calls: list[float] = field(default_factory=list)
    weight: torch.Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64, requires_grad=True))

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls.append(float(t))
        return self.weight * DATA.denoise(x_t, self.schedule.alpha(t), self.schedule.sigma(t))


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_keep_the_dtype_of_the_start(sampler: Sampler, dtype: torch.dtype):
    denoiser = ExactDenoiser(DATA, VP())
    for state in trajectory(sampler, denoiser, x_start().to(dtype), TIMES, noise=seeded()):
        assert state.x_t.dtype == dtype


@pytest.mark.parametrize("sampler", [Euler(), Heun(), DDIM(), DPMSolverPP2M()], ids=lambda s: type(s).__name__)
def test_float32_differs_from_float64_by_rounding_only(sampler: Sampler):
    denoiser = ExactDenoiser(DATA, VP())
    double = sample(sampler, denoiser, x_start().float().double(), TIMES)
    single = sample(sampler, denoiser, x_start().float(), TIMES)
    # 8 steps, each rounding at 6e-8, grown by the flow
    assert float((single.double() - double).abs().max()) < 2e-5


@pytest.mark.parametrize("sampler", [Euler(), Heun(), DDIM(), DPMSolverPP2M()], ids=lambda s: type(s).__name__)
def test_a_batch_is_its_rows_one_by_one(sampler: Sampler):
    denoiser = ExactDenoiser(DATA, VP())
    together = sample(sampler, denoiser, x_start(), TIMES)
    apart = torch.cat([sample(sampler, denoiser, row[None], TIMES) for row in x_start()])
    assert torch.allclose(together, apart, rtol=1e-13, atol=1e-14)


def test_ddpm_treats_a_batch_as_its_rows_with_their_noise():
    denoiser = ExactDenoiser(DATA, VP())
    t, s = instants(VP(), TIMES[:2])
    together = DDPM().step(denoiser, State(t, x_start(1).repeat(3, 1)), s, Noise(seeded())).x_t
    # equal rows differ by their noise alone, which the seed makes known
    noise = torch.randn(3, 2, dtype=torch.float64, generator=seeded())
    scale = (together[0] - together[1]) / (noise[0] - noise[1])
    assert torch.allclose(together - scale * noise, (together - scale * noise)[:1].expand(3, 2), atol=1e-14)


@every_sampler
def test_the_same_seed_gives_the_same_samples_and_the_global_generator_is_not_touched(sampler: Sampler):
    denoiser = ExactDenoiser(DATA, VP())
    before = torch.get_rng_state()
    first = sample(sampler, denoiser, x_start(), TIMES, noise=seeded(4))
    second = sample(sampler, denoiser, x_start(), TIMES, noise=seeded(4))
    other = sample(sampler, denoiser, x_start(), TIMES, noise=seeded(5))
    assert torch.equal(first, second)
    assert torch.equal(first, other) == (not sampler.stochastic)
    assert torch.equal(before, torch.get_rng_state())


@every_sampler
def test_the_start_is_not_changed(sampler: Sampler):
    start = x_start()
    kept = start.clone()
    sample(sampler, ExactDenoiser(DATA, VP()), start, TIMES, noise=seeded())
    assert torch.equal(start, kept)


@every_sampler
def test_a_step_costs_the_evaluations_it_declares(sampler: Sampler):
    counting = Counting(VP())
    sample(sampler, counting, x_start(), TIMES, noise=seeded())
    assert len(counting.calls) == (sampler.nfe_per_step or 0) * (len(TIMES) - 1)


def test_heun_to_clean_data_costs_two_evaluations_a_step_less_one():
    counting = Counting(RectifiedFlow())
    sample(Heun(), counting, x_start(), uniform_times(1.0, 0.0, 18))
    assert len(counting.calls) == 2 * 18 - 1


@every_sampler
def test_a_trajectory_is_every_state_and_remembers_no_more_than_its_order(sampler: Sampler):
    states = list(trajectory(sampler, ExactDenoiser(DATA, VP()), x_start(), TIMES, noise=seeded()))
    assert [state.t for state in states] == TIMES.tolist()
    assert torch.equal(states[0].x_t, x_start())
    assert all(len(state.history) <= sampler.order for state in states)
    ended = sample(sampler, ExactDenoiser(DATA, VP()), x_start(), TIMES, noise=seeded())
    assert torch.equal(states[-1].x_t, ended)


@every_sampler
def test_stopping_and_resuming_a_trajectory_changes_nothing(sampler: Sampler):
    denoiser, draw = ExactDenoiser(DATA, VP()), seeded()
    whole = sample(sampler, denoiser, x_start(), TIMES, noise=seeded())
    *_, middle = trajectory(sampler, denoiser, x_start(), TIMES[:5], noise=draw)
    resumed = sample(sampler, denoiser, middle.x_t, TIMES[4:], noise=draw, history=middle.history)
    assert torch.equal(whole, resumed)


def test_the_history_of_a_multistep_sampler_holds_the_denoisers_outputs_and_their_states():
    counting = Counting(VP())
    t, s = instants(VP(), TIMES[:2])
    (latest,) = DPMSolverPP2M().step(counting, State(t, x_start()), s).history
    assert [latest.at.t] == counting.calls
    assert torch.equal(latest.x_t, x_start())
    assert torch.equal(latest.denoised, counting(x_start(), t.t))


@every_sampler
def test_a_trajectory_runs_without_gradients_and_a_step_with_them(sampler: Sampler):
    counting = Counting(VP())
    for start in (x_start(), x_start().requires_grad_()):
        _, *states = trajectory(sampler, counting, start, TIMES, noise=seeded())
        # but for the start itself, which the first evaluation may remember
        made = [tensor for state in states for tensor in tensors_of(state) if tensor is not start]
        assert len(made) >= len(states)
        assert not any(tensor.requires_grad for tensor in made)
        assert not sample(sampler, counting, start, TIMES, noise=seeded()).requires_grad
    assert torch.is_grad_enabled()
    t, s = instants(VP(), TIMES[:2])
    assert sampler.step(counting, State(t, x_start()), s, Noise(seeded())).x_t.requires_grad


def test_bad_arguments_of_sample_raise_with_the_reason():
    denoiser = ExactDenoiser(DATA, VP())
    with pytest.raises(InputError, match="strictly decreasing"):
        sample(DDIM(), denoiser, x_start(), TIMES.flip(0))
    with pytest.raises(InputError, match=r"DDPM draws noise and needs a torch\.Generator"):
        sample(DDPM(), denoiser, x_start(), TIMES)
    t, s, late = instants(VP(), TIMES[[0, 1, 3]])
    with pytest.raises(InputError, match="DDPM draws noise and needs a Noise, got None"):
        DDPM().step(denoiser, State(t, x_start()), s)
    with pytest.raises(InputError, match="history: expected decreasing times above the start"):
        sample(DPMSolverPP2M(), denoiser, x_start(), TIMES, history=(Evaluation(late, x_start(), x_start()),))


def test_a_single_time_is_the_start():
    (state,) = trajectory(DDIM(), ExactDenoiser(DATA, VP()), x_start(), TIMES[:1])
    assert state.t == 1.0
    assert torch.equal(state.x_t, x_start())


@pytest.mark.parametrize("times", [torch.tensor([]), torch.tensor([0.5, 0.5])], ids=["none", "twice the same"])
def test_an_empty_grid_and_a_repeated_time_raise(times: torch.Tensor):
    with pytest.raises(InputError, match="strictly decreasing"):
        sample(DDIM(), ExactDenoiser(DATA, VP()), x_start(), times.double())


def test_a_history_ends_before_the_start_and_decreases():
    denoiser = ExactDenoiser(DATA, VP())
    early, later, start = (Evaluation(at, x_start(), x_start()) for at in instants(VP(), TIMES[:3]))
    sample(DPMSolverPP2M(), denoiser, x_start(), TIMES[2:], history=(early, later))
    for history in ((early, start), (later, early), (later, later)):
        with pytest.raises(InputError, match="history: expected decreasing times above the start"):
            sample(DPMSolverPP2M(), denoiser, x_start(), TIMES[2:], history=history)


def test_times_in_single_precision_are_accepted():
    single = torch.tensor([3.0, 1.0, 0.1])
    denoiser = ExactDenoiser(DATA, VE())
    assert torch.equal(
        sample(DDIM(), denoiser, x_start(), single), sample(DDIM(), denoiser, x_start(), single.double())
    )

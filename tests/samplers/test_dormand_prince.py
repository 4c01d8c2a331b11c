"""Dormand-Prince: its order at fixed steps, what its tolerance means, and samples that do not depend on their batch."""

from dataclasses import dataclass, field

import pytest
import torch
from conftest import measured_order
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line, unequal_gaussian

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, DormandPrince, Instant, Noise, State, instant, sample
from diffuscope.samplers.dormand_prince import _velocity_field
from diffuscope.samplers.error_control import ERROR, NODES, STAGES, Slope, _first_size, _growth, pair_step
from diffuscope.samplers.ode import velocity
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import log_snr_times, uniform_times
from numbers_in_tests import double

DIFFUSIONS = {"gaussian": gaussian_in_the_plane(), "mixture": mixture_on_the_line()}
every_diffusion = pytest.mark.parametrize("diffusion", DIFFUSIONS.values(), ids=DIFFUSIONS.keys())


@dataclass(frozen=True)
class Counting:
    """A denoiser that records the times of its calls."""

    inner: Denoiser
    times: list = field(default_factory=list)

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.times.append(t)
        return self.inner(x_t, t)


@dataclass(frozen=True)
class FixedSteps:
    """One pair step for each step of the grid; `embedded` keeps the solution of order 4 instead."""

    embedded: bool = False

    order, stochastic, nfe_per_step = 5, False, 7

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        x = state.x_t
        v = velocity(x, denoiser(x, state.t), state.at)
        t, end = (torch.full((len(x),), time, dtype=torch.float64) for time in (state.t, s.t))
        done = pair_step(_velocity_field(denoiser), x, Slope(v), t, end)
        return State(s, done.y - done.error if self.embedded else done.y)


@pytest.mark.parametrize(
    ("name", "embedded", "schedule", "start", "end", "steps"),
    [
        ("gaussian", False, VP(), 0.6, 0.05, [24, 48]),
        ("mixture", False, VP(), 0.6, 0.05, [24, 48]),
        ("mixture", False, RectifiedFlow(), 0.9, 0.05, [20, 63]),
        ("gaussian", True, VP(), 0.6, 0.05, [16, 32]),
    ],
)
def test_the_two_solutions_have_orders_five_and_four(
    name: str, embedded: bool, schedule: Schedule, start: float, end: float, steps: list[int]
):
    diffusion = DIFFUSIONS[name]
    exact = diffusion.exact_end(schedule, start, end)

    def error(count: int) -> float:
        times = log_snr_times(schedule, start, end, count)
        return diffusion.endpoint_error(FixedSteps(embedded), schedule, times, exact)

    measured = measured_order(error, steps)
    assert abs(measured.order - (4 if embedded else 5)) < 0.15, measured


def test_the_tableau_is_consistent():
    """Each row sums to its node, the weights to one, the error's to zero; quadrature of t^k to order 5."""
    for node, row in zip(NODES, STAGES, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-14)
    nodes = (0.0, *NODES)
    for k in range(5):
        assert sum(b * c**k for b, c in zip(STAGES[-1], nodes, strict=False)) == pytest.approx(1 / (k + 1), abs=1e-14)
    for k in range(4):
        assert sum(e * c**k for e, c in zip(ERROR, nodes, strict=True)) == pytest.approx(0, abs=1e-15)


@every_diffusion
@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [(VE(), 10.0, 0.02), (VP(), 0.95, 1e-3), (Cosine(), 0.999, 2e-3), (RectifiedFlow(), 0.999, 2e-3)],
    ids=["VE", "VP", "Cosine", "RectifiedFlow"],
)
def test_the_error_follows_the_tolerance(diffusion: ExactDiffusion, schedule: Schedule, start: float, end: float):
    """Within a hundred times the error allowed per step; one step of the grid, integrated in as many as it takes."""
    exact = diffusion.exact_end(schedule, start, end)
    times = torch.tensor([start, end], dtype=torch.float64)

    def error(digits: int) -> float:
        sampler = DormandPrince(10.0**-digits, 10.0**-digits)
        return diffusion.endpoint_error(sampler, schedule, times, exact)

    for digits in (4, 7, 9):
        assert error(digits) < 100 * 10.0**-digits


def test_its_cost_grows_with_the_fifth_root_of_the_accuracy():
    diffusion, schedule = DIFFUSIONS["mixture"], VP()
    times = torch.tensor([0.95, 1e-3], dtype=torch.float64)

    def cost(digits: int) -> float:
        counting = Counting(ExactDenoiser(diffusion.distribution, schedule))
        sample(DormandPrince(10.0**-digits, 10.0**-digits), counting, diffusion.start(schedule, 0.95, 1), times)
        return len(counting.times)

    assert cost(12) / cost(10) == pytest.approx(100 ** (1 / 5), rel=0.15)


def test_the_last_stage_of_a_step_is_the_first_of_the_next():
    """No evaluation is repeated between steps of the grid; a state changed in between is evaluated afresh."""
    counting = Counting(ExactDenoiser(unequal_gaussian(), VP()))
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    middle = DormandPrince().step(counting, State(instant(VP(), 0.6), x), instant(VP(), 0.4))
    assert torch.equal(middle.history[-1].denoised, counting.inner(middle.x_t, 0.4))
    for state, evaluated_again in ((middle, 0), (State(middle.at, middle.x_t + 1, middle.history), 1)):
        counting.times.clear()
        ended = DormandPrince().step(counting, state, instant(VP(), 0.2))
        assert len(counting.times) % 6 == 1 + evaluated_again
        fresh = DormandPrince().step(counting, State(state.at, state.x_t), instant(VP(), 0.2))
        assert torch.equal(ended.x_t, fresh.x_t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_do_not_depend_on_their_batch(dtype: torch.dtype):
    diffusion = DIFFUSIONS["mixture"]
    denoiser = ExactDenoiser(diffusion.distribution, VP())
    x_start = diffusion.start(VP(), 0.95, 6).to(dtype)
    times = torch.tensor([0.95, 0.3, 1e-3], dtype=torch.float64)
    together = sample(DormandPrince(), denoiser, x_start, times)
    assert together.dtype == dtype
    apart = torch.cat([sample(DormandPrince(), denoiser, row[None], times) for row in x_start])
    assert torch.allclose(together, apart, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=0)


def test_each_sample_has_its_own_step_size():
    """The denoiser is called with one time per sample, and the times differ once the errors do."""
    diffusion = DIFFUSIONS["mixture"]
    counting = Counting(ExactDenoiser(diffusion.distribution, VP()))
    sample(DormandPrince(), counting, diffusion.start(VP(), 0.95, 6), torch.tensor([0.95, 1e-3], dtype=torch.float64))
    assert any(t.ndim == 1 and len(t.unique()) == 6 for t in counting.times if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("schedule", [VE(), Cosine(), RectifiedFlow(), Sigmoid()], ids=lambda s: type(s).__name__)
def test_from_pure_noise_to_clean_data_it_ends_at_the_denoised_signal(schedule: Schedule):
    denoiser = ExactDenoiser(unequal_gaussian(), schedule)
    start = schedule.t_max
    x_start = float(schedule.sigma(start)) * torch.randn(
        4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    ended = sample(DormandPrince(), denoiser, x_start, uniform_times(start, 0.0, 8))
    assert bool(torch.isfinite(ended).all())
    t, s = instant(schedule, 0.3 * start), instant(schedule, 0.0)
    last = DormandPrince().step(denoiser, State(t, x_start), s).x_t
    assert torch.allclose(last, s.alpha * denoiser(x_start, t.t), rtol=1e-12, atol=0)
    assert torch.equal(last, DDIM().step(denoiser, State(t, x_start), s).x_t)


def test_too_few_evaluations_and_a_model_of_nan_raise_a_one_line_error():
    diffusion = DIFFUSIONS["mixture"]
    x_start = diffusion.start(VP(), 0.95, 3)
    times = torch.tensor([0.95, 1e-3], dtype=torch.float64)
    with pytest.raises(InputError, match=r"max_evaluations: expected enough to go from t = 0.95 to 0.001"):
        sample(
            DormandPrince(1e-10, 1e-10, max_evaluations=50),
            ExactDenoiser(diffusion.distribution, VP()),
            x_start,
            times,
        )

    @dataclass(frozen=True)
    class Broken:
        schedule: Schedule

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
            return torch.full_like(x_t, float("nan"))

    with pytest.raises(InputError, match="max_evaluations"):
        sample(DormandPrince(max_evaluations=300), Broken(VP()), x_start, times)
    with pytest.raises(InputError, match="rtol, atol: expected"):
        DormandPrince(0.0)


def test_the_next_step_size_is_that_of_the_stated_control():
    """min(10, max(0.2, 0.9 E^-0.17 E'^0.04)); no growth at a refusal, which has no E', nor right after one."""
    errors = double(0.5, 0.02, 1e-9, 0.0, 0.3, 2.0, 32.0, 1e9)
    before = double(0.3, 0.9, 0.7, 0.5, 0.4, 0.2, 0.6, 0.8)
    refused = torch.tensor([False, False, False, False, True, False, True, False])
    plain = 0.9 * errors.clamp_min(1e-10) ** -0.17
    expected = plain * torch.where(errors <= 1, before**0.04, 1.0)
    assert bool((expected[2:4] > 10).all())  # so that the bounds are reached, below by the last
    assert float(expected[4]) > 1 > float(expected[5])
    assert float(expected[-1]) < 0.2
    expected = torch.cat([expected[:2], double(10.0, 10.0, 1.0), expected[5:7], double(0.2)])
    found = _growth(errors, before, errors <= 1, refused)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_the_first_step_size_is_that_of_hairer_norsett_and_wanner():
    """y' = -2 y, errors in units of 1e-3: h_0 = 0.01 |y| / |y'| = 0.005 and d_2 = |y''| = 12,000 at the trial."""
    y, start, end = double(3.0)[:, None], double(0.0), double(7.0)

    def size(change, y, y_end):  # noqa: ARG001
        return change.abs().flatten(1).amax(1) / 1e-3

    found = _first_size(lambda y, t: Slope(-2 * y), y, -2 * y, start, end, size)  # noqa: ARG005
    assert float(found) == pytest.approx((0.01 / 12_000) ** 0.2, rel=1e-12)
    # backward in time, where y grows, alike
    back = _first_size(lambda y, t: Slope(-2 * y), y, -2 * y, start, -end, size)  # noqa: ARG005
    assert float(back) == pytest.approx((0.01 / 12_000) ** 0.2, rel=1e-12)
    # a slope that hardly changes may not make the step more than a hundred times as long as the trial
    slow = _first_size(lambda y, t: Slope(0 * y + 0.1), 0.002 * y, 0 * y + 0.1, start, end, size)  # noqa: ARG005
    assert float(slow) == pytest.approx(100 * 0.01 * 0.006 / 0.1, rel=1e-12)
    # the trial ends within the interval
    short = _first_size(lambda y, t: Slope(-2 * y), y, -2 * y, start, double(1e-3), size)  # noqa: ARG005
    assert float(short) == pytest.approx((0.01 / 12_000) ** 0.2, rel=1e-12)
    # at rest the trial has a millionth: y and its slope of 1e-6 tolerances are small, of 1e-4 they are not
    for tiny, expected in ((1e-9, 100 * 1e-6), (1e-7, 100 * 0.01 / 2)):
        rest = double(tiny)[:, None]
        at_rest = _first_size(lambda y, t: Slope(-2 * y), rest, -2 * rest, start, end, size)  # noqa: ARG005
        assert float(at_rest) == pytest.approx(expected, rel=1e-12)

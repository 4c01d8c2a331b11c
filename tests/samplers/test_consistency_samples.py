"""Samples of a consistency model: a call at every time, from states whose noise is made up to the level of the time."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.samplers import consistency_samples, consistency_times
from diffuscope.schedules import VE, VP


class Third:
    """f = x / 3 at any level, which remembers its times."""

    def __init__(self, schedule):
        self.schedule, self.times = schedule, []

    def __call__(self, x_t, t):
        self.times.append(float(t))
        return x_t / 3


@pytest.mark.parametrize("schedule", [VE(0.5, 80.0), VP()])
def test_between_two_calls_the_state_is_noised_to_the_next_time(schedule):
    model, times = Third(schedule), torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64)
    draws = (torch.Generator().manual_seed(4) for _ in range(2))
    found = consistency_samples(model, torch.tensor([[9.0, -3.0]], dtype=torch.float64), times, next(draws))
    again, x = next(draws), torch.tensor([[3.0, -1.0]], dtype=torch.float64)
    low = schedule.t_min
    for t in (0.8, 0.6):
        kept = float(schedule.alpha(t)) / float(schedule.alpha(low))
        spread = math.sqrt(float(schedule.sigma(t)) ** 2 - (kept * float(schedule.sigma(low))) ** 2)
        x = (kept * x + spread * torch.randn(1, 2, dtype=torch.float64, generator=again)) / 3
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-12)
    assert model.times == times.tolist()


def test_at_the_lowest_level_and_just_below_no_noise_is_added():
    x = torch.tensor([[9.0]], dtype=torch.float64)
    for low in (0.5, math.nextafter(0.5, 0)):
        times = torch.tensor([1.0, low], dtype=torch.float64)
        assert float(consistency_samples(Third(VE(0.5, 80.0)), x, times, torch.Generator())) == 1


def test_as_many_times_as_calls_from_the_highest_on_and_none_is_the_lowest():
    model = Third(VE(1.0, 128.0))
    for calls in (1, 2, 5):
        ends = torch.linspace(2, 1, calls + 1, dtype=torch.float64)[:-1] ** 7
        torch.testing.assert_close(consistency_times(model, calls).double(), ends, rtol=1e-6, atol=0)
    with pytest.raises(InputError, match=r"^calls: expected at least 1, got 0$"):
        consistency_times(model, 0)


def test_samples_that_are_not_finite_are_refused():
    class Infinite(Third):
        def __call__(self, x_t, t):
            return super().__call__(x_t, t) * math.inf

    with pytest.raises(InputError, match=r"^model: expected finite"):
        consistency_samples(Infinite(VE()), torch.ones(1, 1), torch.tensor([1.0]), torch.Generator())

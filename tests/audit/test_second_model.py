"""A second model is read in the units of the first, and what cannot be one is refused in one line."""

import dataclasses
from typing import Any

import pytest
import torch

from audit_subjects import digits
from diffuscope.audit import Subject, audit_model
from diffuscope.audit.second_model import (
    SecondModel,
    named_second,
    require_second,
    shared_examples,
    shared_levels,
    translated,
)
from diffuscope.audit.subject import Levels
from diffuscope.denoisers import ExactDenoiser, Guided, OfClass
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow

DATA = Gaussian.fit([torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double() * 0.3 + 0.1])


class Ranged(ExactDenoiser):
    """An exact denoiser that states the range of its data."""

    data_range = (-1.0, 1.0)


class Bytes(ExactDenoiser):
    """The same of data from 0 to 255."""

    data_range = (0.0, 255.0)


def in_bytes(gaussian: Gaussian) -> Gaussian:
    """The distribution of y = 127.5 (x + 1)."""
    scale = 127.5
    return Gaussian(scale * (gaussian.mean + 1), gaussian.eigenvectors, scale**2 * gaussian.eigenvalues)


@pytest.mark.parametrize("schedule", [VE(1e-3, 1e5), VP(), RectifiedFlow()], ids=["VE", "VP", "flow"])
def test_a_model_of_another_range_and_schedule_is_the_same_function(schedule):
    """Of y = 127.5 (x + 1) under three schedules, asked as a model of x under VE."""
    first, second = Ranged(DATA, VE()), Bytes(in_bytes(DATA), schedule)
    asked = translated(second, first)
    x_t = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)).double()
    for t in (0.1, 1.0, 10.0):
        assert torch.allclose(asked(x_t * (1 + t), t), first(x_t * (1 + t), t), rtol=1e-8, atol=1e-8)
        assert float(asked.mismatch(t)) == pytest.approx(1, abs=1e-9)


def test_where_the_signal_is_gone_the_answer_is_finite():
    """alpha = 0 at t = 1 of flow matching: any state is pure noise, and the answer is the mean."""
    first, second = Ranged(DATA, RectifiedFlow()), Bytes(in_bytes(DATA), RectifiedFlow())
    x_t = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(translated(second, first)(x_t, 1.0), DATA.mean.expand(5, 3), atol=1e-6)


def test_the_same_schedule_and_range_change_no_bit():
    first = Ranged(DATA, VP())
    x_t = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.equal(translated(first, first)(x_t, 0.37), first(x_t, 0.37))


def test_a_table_of_steps_is_asked_at_one_of_its_steps_and_is_off_by_less_than_a_step():
    schedule = DiscreteVP.linear(1e-4, 0.2, steps=50)  # sigma/alpha from 0.01 to 12

    class Table:
        clock = None

        def __init__(self):
            self.schedule, self.times = schedule, []

        def __call__(self, x_t, t):
            self.times.append(float(t))
            return 0 * x_t

    table = Table()
    asked = translated(table, ExactDenoiser(DATA, VE()))
    ratios = schedule.noise_to_signal(torch.arange(1.0, 51.0))
    for t in (0.3, 1.0, 3.0):
        asked(torch.zeros(1, 3), t)
        assert table.times[-1] == round(table.times[-1])
        widest = float((ratios[1:] / ratios[:-1])[(ratios[1:] > t / 2) & (ratios[:-1] < 2 * t)].max())
        assert 1 <= float(asked.mismatch(t)) < widest


def test_examples_that_two_sets_share_are_counted():
    x = digits(1)
    assert shared_examples(x[:100], torch.cat([x[90:130], x[95:97]])) == 12


class Constant:
    """A model that always gives one answer."""

    schedule, event_shape, data_range = VE(), (1, 8, 8), (-1.0, 1.0)

    def __init__(self, answer=lambda x: 0 * x, **attributes):
        self.answer = answer
        for name, value in attributes.items():
            setattr(self, name, value)

    def __call__(self, x_t, t):
        del t
        return self.answer(x_t)


TEN: Any = Constant(classes=10)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            Constant(event_shape=(3, 8, 8)),
            "second_model: expected a model of examples of shape (1, 8, 8), got one of (3, ",
        ),
        (Constant(one_step=True), "second_model: expected a denoiser, got a one-step map"),
        (
            Guided(OfClass(TEN, 1), OfClass(TEN, None), 2),
            "second_model: expected a model without guidance, the denoiser of data, got one of scale 2",
        ),
        (
            OfClass(TEN, 1),
            "second_model: expected both models asked of a class or neither, got one that is and one with 10 classes",
        ),
        (Constant(classes=7), "second_model: expected 10 classes as the first model has, got 7"),
        (Constant(schedule="VE"), "second_model: expected a denoiser with a schedule, got Constant"),
        (Constant(lambda x: x / 0), "second_model: expected finite values, got NaN or infinity at time"),
        (Constant(lambda x: x[:, :, :4]), "second_model: expected an output of its input's shape (4, 1, 8, 8), got"),
        (SecondModel(Constant(), torch.zeros(30, 3)), "second_data: expected examples that vary"),
        (SecondModel(Constant(), torch.randn(30, 3)), "second_data: expected examples of shape (1, 8, 8) as in train"),
        (SecondModel(Constant(), digits()[:5]), "second_data: expected at least 20 examples, got 5"),
    ],
)
def test_what_cannot_be_a_second_model_is_refused_before_any_work(second, message):
    x = digits()
    subject = Subject(Constant(classes=10), x[:100], x[100:200])
    with pytest.raises(InputError) as refused:
        audit_model(subject, second_model=second)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_one_step_map_has_no_second_model():
    x = digits()
    subject = Subject(Constant(one_step=True), x[:100], x[100:200])
    with pytest.raises(InputError, match="second_model: expected a denoiser as the first model"):
        require_second(SecondModel(Constant()), subject)


def test_only_what_is_said_of_a_model_is_said_of_the_second():
    with pytest.raises(InputError, match=r"^data: x"), named_second():
        raise InputError("data: x")
    with pytest.raises(InputError, match=r"^second_model: x"), named_second():
        raise InputError("model: x")


def test_levels_outside_the_second_models_range_are_not_shared():
    asked = translated(ExactDenoiser(DATA, VE(0.1, 2.0)), ExactDenoiser(DATA, VE()))
    ratios = torch.tensor([3.0, 2.0, 1.0, 0.1, 0.05], dtype=torch.float64)
    assert shared_levels(asked, Levels(ratios, ratios)).tolist() == [False, True, True, True, False]
    wider = dataclasses.replace(asked, scale=0.5)  # data half as large: half the noise is the same level
    assert shared_levels(wider, Levels(ratios, ratios)).tolist() == [True, True, True, False, False]

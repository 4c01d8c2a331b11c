"""A one-step model is sampled by one call, and its samples are audited; what is asked of denoisers is not asked."""

import html
from dataclasses import replace

import pytest
import torch
from torch import nn

from audit_subjects import asked
from diffuscope.audit import Settings, Subject, audit_model
from diffuscope.audit.consistency import measured
from diffuscope.audit.one_step import with_samples
from diffuscope.denoisers import ExactDenoiser, OfClass
from diffuscope.errors import InputError
from diffuscope.exact import two_moons
from diffuscope.samplers import consistency_samples, consistency_times, generate, is_one_step
from diffuscope.schedules import VE, VP, Schedule

SETTINGS = Settings(generated=150, features=("pixels",), transformations=("none",), examples=False)


class Rescaled(nn.Module):
    """From noise of standard deviation 80 to the Gaussian of mean 1 and standard deviation 2, in one call."""

    schedule, event_shape, data_range, one_step = VE(), (3,), (-9.0, 11.0), True

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x_t, t):
        self.calls.append((len(x_t), float(torch.as_tensor(t).max())))
        return 1 + 2 * x_t / 80


def normal(n: int, seed: int):
    return 1 + 2 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def subject():
    return Subject(Rescaled(), normal(300, 1), normal(300, 2), "one step")


def test_a_sample_of_a_one_step_model_is_one_call_at_the_highest_noise():
    model = Rescaled()
    samples = generate(model, 5, steps=50, seed=3)
    assert model.calls == [(5, 80.0)]
    noise = 80 * torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(samples, 1 + 2 * noise / 80)
    assert not is_one_step(ExactDenoiser(two_moons(), VE()))


def test_a_class_of_a_one_step_model_is_a_one_step_model():
    class Conditional(Rescaled):
        classes = 2

        def forward(self, x_t, t, y=None):
            return super().forward(x_t, t) + torch.as_tensor(y).reshape(-1, 1)

    assert is_one_step(OfClass(Conditional(), 1))
    one, zero = (generate(Conditional(), 4, classes=(y,)) for y in (1, 0))
    assert torch.allclose(one - zero, torch.ones(4, 3), atol=1e-6)


@pytest.mark.slow
def test_its_audit_is_of_its_samples_and_says_what_was_not_asked(subject, tmp_path):
    result = audit_model(subject, SETTINGS, out=tmp_path)
    calls = subject.denoiser.calls[1:]  # the first identifies the model
    assert sum(n for n, t in calls if t == 80.0) == SETTINGS.generated
    assert [n for n, t in calls if t < 80.0] == 4 * [256]  # is it the identity without noise?
    assert result.verdict.word != "broken"
    asked = {question.name for question in result.answers}
    assert {"samples", "memorized", "quality", "diversity"} <= asked
    assert not asked & {"wiring", "learned", "loss", "membership", "steps"}
    card, page = html.unescape(result.model_card()), str(result.page())
    for text in (card, page):
        assert "one-step map (one_step = True): 150 samples, of one call each" in text
        assert "the number of its steps were not asked" in text
    assert "How few steps" in card.split("Not asked, or not answered:")[1].splitlines()[0]
    assert "audit_model(subject, Settings(" in card


def test_an_interrupted_run_draws_no_sample_twice(subject, tmp_path):
    _, first = with_samples(subject, SETTINGS, tmp_path, None)
    subject.denoiser.calls.clear()
    _, again = with_samples(subject, SETTINGS, tmp_path, None)
    assert len(subject.denoiser.calls) == 1  # to know the model again
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
    _, other = with_samples(subject, replace(SETTINGS, seed=1), tmp_path, None)
    assert other is not None
    assert not torch.equal(first, other)


def test_what_needs_a_denoiser_is_refused_in_one_line(subject):
    owned = replace(subject, train_owners=torch.zeros(300, dtype=torch.long))
    with pytest.raises(InputError, match=r"^train_owners: expected a denoiser"):
        audit_model(owned, SETTINGS)
    with pytest.raises(InputError, match=r"^sampler: expected none"):
        audit_model(subject, replace(SETTINGS, sampler="module:function"))


def test_given_samples_are_audited_in_place_of_its_own(subject):
    given = normal(100, 4)
    without, samples = with_samples(subject, SETTINGS, None, given)
    assert not subject.denoiser.calls
    assert samples is given
    assert not without.has_model
    assert "the given samples were audited" in without.notes[-1]


class OfGaussian:
    """The exact consistency map of N(0, v): from any state to t_min, where the trajectory through it ends."""

    event_shape, data_range, one_step = (3,), (-9.0, 11.0), True

    def __init__(self, schedule: Schedule, variance: float):
        self.schedule, self.variance = schedule, variance

    def total(self, t):
        return self.schedule.alpha(t) ** 2 * self.variance + self.schedule.sigma(t) ** 2

    def __call__(self, x_t, t):
        return x_t * float((self.total(self.schedule.t_min) / self.total(t)) ** 0.5)


@pytest.mark.parametrize("schedule", [VE(0.01, 5.0), VP()])
@pytest.mark.parametrize("calls", [1, 2, 4])
def test_the_variance_of_samples_of_several_calls_is_that_of_the_recursion(schedule, calls):
    """One call multiplies the variance; noise in between adds that of the forward process from t_min."""
    model, n = OfGaussian(schedule, 2.0), 40_000
    times = consistency_times(model, calls)
    assert len(times) == calls
    assert float(times[0]) == schedule.t_max
    assert times[-1] > schedule.t_min
    chance = torch.Generator().manual_seed(0)
    start = float(schedule.sigma(times[0])) * torch.randn(n, 3, generator=chance)
    samples = consistency_samples(model, start, times, chance)
    end = float(model.total(schedule.t_min))
    variance = float(schedule.sigma(times[0])) ** 2 * end / float(model.total(times[0]))
    for t in times[1:]:
        kept = float(schedule.alpha(t)) / float(schedule.alpha(schedule.t_min))
        noised = kept**2 * (variance - float(schedule.sigma(schedule.t_min)) ** 2) + float(schedule.sigma(t)) ** 2
        variance = noised * end / float(model.total(t))
    assert float(samples.var()) == pytest.approx(variance, rel=4 * (2 / (3 * n)) ** 0.5)
    if calls > 1:  # from pure noise of finite size the first call alone falls short, by v / (v + T^2)
        assert abs(variance - end) < abs(
            float(schedule.sigma(times[0])) ** 2 * end / float(model.total(times[0])) - end
        )


@pytest.fixture
def consistent():
    model = OfGaussian(VE(), 4.0)
    return Subject(model, 2 * normal(300, 1) - 2, 2 * normal(300, 2) - 2, "consistent")


def test_an_exact_consistency_map_is_the_identity_without_noise_and_errs_by_the_noise_under_little(consistent):
    """|f - x_0| at noise s: s sqrt(c^2 + (1 - c)^2 v / s^2) with c = sqrt((v + e^2) / (v + s^2))."""
    variance = float(consistent.train.var())
    exact = OfGaussian(VE(), variance)
    found = measured(replace(consistent, denoiser=exact, sampled=exact), torch.Generator().manual_seed(0))
    assert found.is_identity
    assert found.distance < 1e-6
    for level, error in zip(found.levels * consistent.scale, found.errors, strict=True):
        c = float((exact.total(exact.schedule.t_min) / (variance + level**2)) ** 0.5)
        about = float(consistent.heldout.square().mean())
        assert error == pytest.approx((c**2 + (1 - c) ** 2 * about / level**2) ** 0.5, rel=0.1)  # 768 numbers


@pytest.mark.parametrize(("steps", "tone"), [(1, "neutral"), (3, "attention")])
def test_a_map_for_one_call_is_told_from_a_consistency_model(subject, steps, tone):
    """At its lowest level x -> 1 + 2 x / 80 maps all to 1."""
    with asked("samples"):
        result = audit_model(subject, replace(SETTINGS, consistency_steps=steps))
    found = result["consistency"].findings[0]
    assert found.tone == tone
    assert "no consistency model, but a map for one call" in found.verdict
    assert found.value == pytest.approx(float((subject.heldout - 1).var()) ** 0.5 / subject.scale, rel=0.1)


def test_several_calls_of_a_consistency_model_are_audited_and_said(consistent):
    with asked("samples"):
        result = audit_model(consistent, replace(SETTINGS, consistency_steps=3))
    assert result["consistency"].findings[0].tone == "good"
    assert "150 samples, of 3 calls each, with noise added anew in between" in str(result.page())
    assert result.samples is not None
    assert float(result.samples.var()) == pytest.approx(4, rel=0.27)  # 4 standard errors of 450 numbers
    with pytest.raises(InputError, match=r"^consistency_steps: expected a one-step model"):
        audit_model(
            replace(consistent, denoiser=ExactDenoiser(two_moons(), VE())), replace(SETTINGS, consistency_steps=2)
        )

"""A one-step model is sampled by one call, and its samples are audited; what is asked of denoisers is not asked."""

import html
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffuscope.audit import Settings, Subject, audit_model
from diffuscope.audit.one_step import with_samples
from diffuscope.denoisers import ExactDenoiser, OfClass
from diffuscope.errors import InputError
from diffuscope.exact import two_moons
from diffuscope.samplers import generate, is_one_step
from diffuscope.schedules import VE

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
    assert sum(n for n, _ in subject.denoiser.calls[1:]) == SETTINGS.generated  # the first identifies the model
    assert {t for _, t in subject.denoiser.calls} == {80.0}
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

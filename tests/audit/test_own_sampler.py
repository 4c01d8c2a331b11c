"""The owner's own sampler makes the audited samples and is a row of the table of steps; a wrong one is one line."""

import dataclasses

import numpy as np
import pytest
import torch

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Session
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.audit.generation import refined, starting_noise
from diffuscope.audit.own_sampler import own_sampler
from diffuscope.audit.questions.steps import QUESTION as STEPS
from diffuscope.audit.subject import noise_levels
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Heun, finish
from diffuscope.schedules import VE

MODULE = """
import torch
from diffuscope.samplers import Heun, finish

heun = Heun()
kind = Heun
number = 3


def function(denoiser, x_start, times, generator):
    return finish(denoiser, Heun(), x_start, times)


def random(denoiser, x_start, times, generator):
    return function(denoiser, x_start, times, generator) + 1e-3 * torch.randn(x_start.shape, generator=generator)


def one_call(denoiser, x_start, times, generator):
    return denoiser(x_start, times[0])


def three(denoiser, x_start, times):
    return x_start


def short(denoiser, x_start, times, generator):
    return x_start[:1]


def infinite(denoiser, x_start, times, generator):
    return x_start / 0


def nothing(denoiser, x_start, times, generator):
    return None
"""


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "owners_sampler.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture(scope="module")
def subject():
    x = digits(3)
    return exact_subject(Gaussian.fit([x[900:]]), x[:200], x[200:500])


@pytest.fixture(scope="module")
def settings():
    return dataclasses.replace(QUICK, levels=6, points=40, generated=60)


@pytest.mark.parametrize("name", ["heun", "kind", "function"])
def test_a_sampler_its_class_and_a_function_are_the_same_samples(name, subject):
    gaussian = Gaussian.fit([subject.train])
    levels = noise_levels(subject.denoiser, subject.scale, 6)
    times = refined(subject.denoiser, levels)
    start = starting_noise(gaussian, subject.denoiser.schedule, float(times[0]), 20, torch.Generator().manual_seed(0))
    made = own_sampler(f"owners_sampler:{name}")(subject.denoiser, start, times, torch.Generator())
    assert torch.equal(made, finish(subject.denoiser, Heun(), start, times))


def test_the_audited_samples_are_the_owners_and_its_row_is_that_of_the_same_method(subject, settings):
    """Heun by another name: Heun's samples and Heun's errors, cell by cell; only the row's NFE are measured."""
    plain = Session(subject, settings)
    own = Session(subject, dataclasses.replace(settings, sampler="owners_sampler:function"))
    assert torch.allclose(own.samples, plain.samples, atol=1e-5)
    assert np.array_equal(own.generated["states"], plain.generated["states"])
    answer = STEPS.ask(own)
    assert answer is not None
    steps = answer.result
    assert steps.samplers[-1] == "owners_sampler:function"
    heun = steps.samplers.index("Heun")
    assert (steps.plain[:, -1] == steps.plain[:, heun]).all()
    assert (steps.teleported[:, -1] == steps.teleported[:, heun]).all()
    assert steps.own_steps.tolist() == [(budget - 1) // 2 for budget in steps.budgets]
    assert "owners_sampler:function" in answer.method


@pytest.mark.parametrize("name", ["random", "one_call"])
def test_a_random_sampler_and_one_without_a_grid_have_no_row(name, subject, settings):
    answer = STEPS.ask(Session(subject, dataclasses.replace(settings, sampler=f"owners_sampler:{name}")))
    assert answer is not None
    assert len(answer.result.samplers) == 4
    assert "has no row" in answer.method


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("heun", "sampler: expected module:object, got 'heun'"),
        ("owners_sampler:absent", "has no 'absent'"),
        ("owners_sampler:number", "is a int, expected a sampler or a function"),
        ("owners_sampler:three", r"sampler: expected owners_sampler:three\(denoiser, x_start, times, generator\)"),
        (
            "owners_sampler:short",
            r"sampler: expected samples of shape \(20, 2\) from owners_sampler:short, got \(1, 2\)",
        ),
        ("owners_sampler:infinite", "sampler: expected finite samples"),
        ("owners_sampler:nothing", r"sampler: expected samples of shape \(20, 2\) from [^\n]* got NoneType"),
    ],
)
def test_a_sampler_that_cannot_be_used_is_refused_in_one_line(name, reason):
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    with pytest.raises(InputError, match=reason) as refused:
        own_sampler(name)(denoiser, torch.ones(20, 2), torch.tensor([1.0, 0.5]).double(), torch.Generator())
    assert "\n" not in str(refused.value)


def test_samples_of_an_edited_sampler_are_not_read_from_the_store(subject, settings, tmp_path):
    path, named = tmp_path / "edited_sampler.py", dataclasses.replace(settings, sampler="edited_sampler:function")
    path.write_text(MODULE)
    before = fingerprint(subject, named, None)
    assert fingerprint(subject, named, None) == before
    path.write_text(MODULE.replace("Heun(), x_start", "Euler(), x_start"))
    assert fingerprint(subject, named, None) != before

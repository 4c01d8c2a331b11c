"""The page "Extending": its files are what it says they are, and each of their tests can fail.

`tests/test_pages.py` runs the page as printed; here a fault is planted in each of its files.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import measured_order

from diffuscope.audit import Session, Settings, Subject
from diffuscope.audit.no_model import NoModel
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Distribution, Gaussian, PosteriorCovariance
from diffuscope.samplers import Sampler, sample
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {name: text for text, name in re.findall(r"```python\n(# (\w+)\.py\n.*?)```", PAGE, re.DOTALL)}


def module(folder: Path, name: str, old: str = "", new: str = "") -> ModuleType:
    """A file of the page as a module, with a fault in place of a part that it has."""
    assert old in FILES[name]
    path = (
        folder / ("wrong" if old else "right") / f"{name}.py"
    )  # a folder each: a compiled file is known by its second
    path.parent.mkdir(exist_ok=True)
    path.write_text(FILES[name].replace(old, new) if old else FILES[name])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_file_of_the_page_is_found():
    assert sorted(FILES) == [
        "ddim_on_a_gaussian", "exponential_heun", "mean", "spins", "test_exponential_heun", "test_spins",
    ]  # fmt: skip


def order_on_a_gaussian(sampler: Sampler, schedule: Schedule) -> float:
    """Measured against the closed-form flow of N(0.3, 0.5^2)."""
    data = Gaussian.isotropic(torch.full((1,), 0.3, dtype=torch.float64), 0.25)
    denoiser, high, low = ExactDenoiser(data, schedule), schedule.time_of_lambda(-2.0), schedule.time_of_lambda(3.0)
    high, low = float(high), float(low)
    x_start = torch.tensor([[0.7], [-1.1]], dtype=torch.float64)
    exact = data.flow(x_start, schedule, high, low)

    def error(steps: int) -> float:
        return float((sample(sampler, denoiser, x_start, log_snr_times(schedule, high, low, steps)) - exact).norm())

    return measured_order(error, [40, 80, 160]).order


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_the_sampler_of_the_page_has_its_order_and_without_its_correction_order_one(tmp_path, schedule):
    sampler = module(tmp_path, "exponential_heun").ExponentialHeun()
    assert isinstance(sampler, Sampler)
    assert order_on_a_gaussian(sampler, schedule) == pytest.approx(sampler.order, abs=0.1)
    wrong = module(tmp_path, "exponential_heun", "(first + denoiser(predicted, s.t)) / 2", "first").ExponentialHeun()
    assert order_on_a_gaussian(wrong, schedule) == pytest.approx(1, abs=0.1)


LEVELS = [(1.0, 0.3), (0.6, 0.8), (1.0, 5.0)]
FAULTS = {
    "": "",
    "return (a * torch.tanh(u) - x_t) / s**2": "return (a * torch.tanh(u) + x_t) / s**2",
    "return torch.tanh(self._field": "return torch.tanh(2 * self._field",
    "** -2)": "** -1)",
    "- math.log(2)": "",  # the density no longer integrates to 1
    "return 2 * torch.randint": "return torch.randint",
}


@pytest.mark.parametrize("old", FAULTS)
def test_the_tests_of_a_distribution_on_the_page_find_each_fault(tmp_path, monkeypatch, old):
    spins = module(tmp_path, "spins", old, FAULTS[old])
    data = spins.Spins(3)
    assert isinstance(data, Distribution)
    assert isinstance(data.posterior_covariance(torch.zeros(1, 3), 1.0, 1.0), PosteriorCovariance)
    monkeypatch.setitem(sys.modules, "spins", spins)
    tests = [value for name, value in vars(module(tmp_path, "test_spins")).items() if name.startswith("test_")]
    assert len(tests) == 3
    failed = False
    for test in tests:
        for level in LEVELS:
            try:
                test(*level)
            except AssertionError:
                failed = True
    assert failed == bool(old)


def asked(question, samples: torch.Tensor, heldout: torch.Tensor, seed: int):
    subject = Subject(NoModel(), heldout[: len(heldout) // 2], heldout, "samples", "normal")
    return question.ask(Session(subject, Settings(seed=seed), given=samples)).findings[0]


def test_the_question_of_the_page_finds_a_shift_and_accuses_a_perfect_generator_as_rarely_as_it_says(tmp_path):
    question = module(tmp_path, "mean").QUESTION
    generator = torch.Generator().manual_seed(0)
    tones = []
    for seed in range(60):
        samples, heldout = (torch.randn(n, 3, generator=generator) for n in (100, 150))
        tones.append(asked(question, samples, heldout, seed).tone)
    # 60 tests at 0.01: more than 4 alarms come about by chance once in 2,500
    assert tones.count("attention") <= 4
    assert tones.count("good") == 60 - tones.count("attention")
    samples, heldout = (torch.randn(n, 3, generator=generator) for n in (100, 150))
    shifted = asked(question, samples + 0.5, heldout, 0)
    assert shifted.tone == "attention"
    assert shifted.value == pytest.approx(0.5, abs=4 * (1 / 100 + 1 / 150) ** 0.5)
    assert asked(question, samples[:20], heldout[:40], 0).tone == "unknown"  # a shift of 0.5 is not found


def test_the_experiment_of_the_page_is_short_and_a_sampler_of_another_order_fails_it(tmp_path):
    experiment = module(tmp_path, "ddim_on_a_gaussian").EXPERIMENT
    assert FILES["ddim_on_a_gaussian"].count("\n") <= 80
    outcome = experiment.run()
    assert (len(outcome.claims), len(outcome.answers["order"].charts), outcome.failures) == (3, 1, ())
    assert outcome.save(tmp_path / "saved").is_file()  # of an experiment that is not in the package, too
    wrong = module(tmp_path, "ddim_on_a_gaussian", "sample(DDIM(), ", "sample(Heun(), ").EXPERIMENT.run()
    assert {claim.name for claim in wrong.failures} == {"product", "order", "heun"}

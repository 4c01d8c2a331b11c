"""Planting a fault in a sampler's source, and asking the certifier about the result.

A fault is a replacement in the source of one module. That module is executed afresh with the fault in it, and so is the
module of the sampler that is asked: nothing else sees the fault.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import getsource
from types import ModuleType
from unittest.mock import patch

import torch

from diffuscope.certify import Question, Target, mixture, questions
from diffuscope.certify.target import Event
from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.findings import Finding
from diffuscope.samplers import Sampler, contract
from diffuscope.schedules import VE

# fewer than `diffuscope certify` takes, for speed; sound samplers are asked the very same
STEPS = (20, 32, 50, 80)
FINEST = 125
SAMPLES = 4000

FOUNDATIONS = ("contract", "schedule_values", "noise")  # what `contract.sample` stands on
CHECKED = ("State", "Evaluation", "Instant")  # classes that unplanted modules check for, so they stay the library's


@dataclass(frozen=True)
class Walk:
    """What a sampler may be built for: its number of steps, and the denoiser."""

    steps: int
    denoiser: Denoiser

    @property
    def distribution(self) -> Distribution:
        """The data distribution of the exact denoiser, also where its calls are counted."""
        exact = self.denoiser
        while not isinstance(exact, ExactDenoiser):
            exact = exact.denoiser  # pyright: ignore[reportAttributeAccessIssue]
        return exact.distribution


@dataclass(frozen=True)
class Subject:
    """A sampler to ask: its module, how it is built from it, and the shape of its samples."""

    home: str
    build: Callable[[ModuleType, Walk], Sampler]
    event: Event = "any"


@dataclass(frozen=True)
class Fault:
    """In `module` the text `find`, which occurs once, becomes `plant`; `subject` names the sampler that is asked."""

    about: str
    subject: str
    module: str
    find: str
    plant: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.about}"

    def source(self) -> str:
        """The module's source with the fault in it."""
        source = getsource(import_module(qualified(self.module)))
        if source.count(self.find) != 1:
            raise AssertionError(f"{self}: {self.find!r} occurs {source.count(self.find)} times in {self.module}.py")
        return source.replace(self.find, self.plant)


def planted(subject: str, module: str, replacements: Mapping[str, tuple[str, str]]) -> tuple[Fault, ...]:
    """Faults in one module, asked of one subject: what they are, what is found, what is put there."""
    return tuple(Fault(about, subject, module, find, plant) for about, (find, plant) in replacements.items())


def qualified(module: str) -> str:
    return f"diffuscope.samplers.{module}"


def executed(module: str, source: str, fresh: Mapping[str, ModuleType]) -> ModuleType:
    """`source` as the module of that name, which imports from the `fresh` ones where there are any."""
    made = ModuleType(qualified(module))
    seen = {qualified(name): other for name, other in fresh.items()} | {made.__name__: made}
    with patch.dict(sys.modules, seen):
        exec(compile(source, f"{module} with a fault", "exec"), made.__dict__)
    for name in CHECKED:
        if hasattr(made, name):
            setattr(made, name, getattr(contract, name))
    return made


def modules_with(fault: Fault, home: str) -> dict[str, ModuleType]:
    """Everything executed afresh: the faulty module, the contract if it stands on it, the sampler's own."""
    fresh = {fault.module: executed(fault.module, fault.source(), {})}
    for module in ("contract", home):
        if module not in fresh and (module == home or fault.module in FOUNDATIONS):
            fresh[module] = executed(module, getsource(import_module(qualified(module))), fresh)
    return fresh


def target_of(name: str, subject: Subject, fresh: Mapping[str, ModuleType]) -> Target:
    """The subject built from the `fresh` modules, and from the library's own where there are none."""

    def module(name: str) -> ModuleType:
        return fresh[name] if name in fresh else import_module(qualified(name))

    def run(denoiser, x, times, generator):
        sampler = subject.build(module(subject.home), Walk(len(times) - 1, denoiser))
        return module("contract").sample(sampler, denoiser, x, times, noise=generator)

    declared = subject.build(module(subject.home), Walk(10, mixture(2).denoiser(VE())))
    finest = FINEST if declared.order <= 2 else 400  # high orders show on refined grids only
    return Target(
        name,
        run,
        declared.order,
        declared.stochastic,
        declared.nfe_per_step,
        finest=finest,
        event=subject.event,
        reaches_zero=True,
    )


LATE = ("order", "weak_order", "extremes", "zero_snr", "distribution")  # questions that cost more than the others


def in_order_of_cost(target: Target) -> list[Question]:
    """The certifier's questions: whether it runs and the first order, which most faults fail, then all but orders and
    distributions, then these.
    """
    unrefined = target.stochastic and target.order == 2
    steps = (*STEPS, FINEST) if unrefined else STEPS
    runs, first, *rest = questions(target, steps, SAMPLES)
    return [runs, first, *sorted(rest, key=lambda question: question.name.startswith(LATE))]


def findings(target: Target) -> Iterator[Finding]:
    """What the certifier says to each question in turn; an exception is an alarm, a stated limit is not."""
    for question in in_order_of_cost(target):
        try:
            yield question.answer()
        except InputError:
            continue
        except Exception as error:
            verdict = f"Raised: {error}"
            yield Finding(
                name=question.name, title=question.title, value=float("nan"), unit="", verdict=verdict, tone="alarm"
            )


def first_alarm(target: Target) -> Finding | None:
    """The first finding that says that the target is wrong; None if it passes."""
    return next((finding for finding in findings(target) if finding.tone == "alarm"), None)


def report(sound: Mapping[str, Subject], faults: Sequence[Fault], subjects: Mapping[str, Subject]) -> None:
    """One line of JSON for every sound sampler, then for every fault: what the certifier first says against it."""
    torch.set_num_threads(1)  # small tensors
    for name, subject in sound.items():
        _print(name, None, first_alarm(target_of(name, subject, {})))
    for fault in faults:
        subject = subjects[fault.subject]
        _print(str(fault), fault.module, first_alarm(target_of(str(fault), subject, modules_with(fault, subject.home))))


def _print(name: str, planted_in: str | None, alarm: Finding | None) -> None:
    said = None if alarm is None else alarm.verdict
    print(json.dumps({"name": name, "planted_in": planted_in, "alarm": said}), flush=True)

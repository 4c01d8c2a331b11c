r"""Is it the class that was asked for? The model's classes, compared on the examples of one label.

On noised training examples of label y the exact conditional denoiser D(x, t, y) has the least error of all functions,
so that no other class of the model may denoise them better: where class z does, the numbers of the classes are
exchanged, or off by one. Errors are compared at noise levels from half to ten standard deviations of the data, where
the answer depends on what is drawn and no longer on the input alone. The class that denoises best is found on some
examples (all classes of the model are tried, and none, where the model has that) and compared on others, pair by pair,

.. math::  d_i = \frac1L \sum_\ell \frac{|D_y - x_i|^2 - |D_z - x_i|^2}{\langle |D_z - x|^2 \rangle_\ell} ,

with signs permuted. Training examples, so that a memorizer passes: it knows its own. A class is called another's only
where that denoises at all, with errors near those of a formula that knows mean and deviation of the label: a model that
is read wrongly has no right class.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.byte_examples import floats_at
from diffuscope.denoisers import Batch, ConditionalDenoiser, OfClass, classes_of
from diffuscope.findings import Finding, Tone, bootstrap_sums, paired_permutation, percentile_interval
from diffuscope.findings.numbers import number
from diffuscope.samplers import times_at
from diffuscope.store import Arrays

from .question import Answer, Question, not_answered
from .session import Session
from .subject import Subject, evaluate, levels_within

TITLE = "Is it the class that was asked for?"
SPAN, LEVELS = (0.5, 10.0), 5  # standard deviations of the data
EXAMPLES, SEARCHED = 272, 16
WRONG = 1.05  # errors as large, and significantly so: another class was meant
DENOISES = 1.25  # errors of the other class, over those of a formula that knows mean and deviation
SAME = 1e-3  # of the data's deviation: answers that differ by less do not depend on the class
POWER = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFit:
    """Errors at the tested examples, of the class that was asked for and of the best other one."""

    label: int
    other: int  # the number of classes stands for none
    classes: int
    own: Float[ndarray, "levels n"]
    best: Float[ndarray, "levels n"]
    formula: Float[ndarray, " levels"]  # the error of N(mean, s^2 I)
    differs: float  # root mean square difference of the two answers, in deviations of the data
    tried: int

    @property
    def name(self) -> str:
        """The other class in words."""
        return "no class" if self.other == self.classes else f"class {self.other}"

    @property
    def differences(self) -> Float[ndarray, "n 1"]:
        """d of every example: positive where the other class denoises better."""
        return ((self.own - self.best) / self.best.mean(1, keepdims=True)).mean(0)[:, None]

    @property
    def ratio(self) -> float:
        """Errors of the class asked for over those of the best other, in the geometric mean over levels."""
        return float(np.exp(np.log(self.own.mean(1) / self.best.mean(1)).mean()))

    @property
    def denoises(self) -> bool:
        """Whether the best other class is a denoiser of these examples."""
        return float(np.exp(np.log(self.best.mean(1) / self.formula).mean())) < DENOISES

    def interval(self, rng: np.random.Generator) -> tuple[float, float]:
        """The 95% interval of `ratio`, by resampling examples."""
        sums = bootstrap_sums(np.concatenate([self.own, self.best]).T, rng)
        ratios = np.exp(np.log(sums[:, : len(self.own)] / sums[:, len(self.own) :]).mean(1, keepdims=True))
        low, high = percentile_interval(ratios)
        return float(low[0]), float(high[0])

    def p_values(self, rng: np.random.Generator) -> tuple[float, float]:
        """Of the other class denoising better, and of the one asked for: signs of `differences` permuted."""
        worse, better = (paired_permutation(d, rng)[1] for d in (self.differences, -self.differences))
        return worse, better

    def power(self, level: float, examples: str) -> str:
        """What was compared, and the smallest difference that would have been told."""
        return (
            f"{len(self.differences)} {examples} at {len(self.own)} noise levels; a difference of "
            f"{100 * self.detectable(level):.2g}% would be found with probability {POWER}."
        )

    def detectable(self, level: float) -> float:
        """The smallest mean of d that the test finds with probability POWER, by its deviation."""
        wanted = scipy.stats.norm.isf(level) + scipy.stats.norm.isf(1 - POWER)
        return float(wanted * self.differences.std() / math.sqrt(len(self.differences)))


def class_levels(subject: Subject) -> Float[torch.Tensor, " levels"]:
    """Decreasing times at LEVELS noise levels in SPAN, as far as the schedule reaches."""
    span = SPAN[0] * subject.scale, SPAN[1] * subject.scale
    return times_at(subject.denoiser, torch.from_numpy(levels_within(subject.denoiser.schedule, span, LEVELS)).flip(0))


def answers(
    denoiser: ConditionalDenoiser, y: int, clean: Batch, noise: Batch, times: Float[torch.Tensor, " levels"]
) -> list[Batch]:
    """D(x_t, t, y) at every time; y may be the number of classes, for none."""
    model, schedule = OfClass(denoiser, y if y < classes_of(denoiser) else None), denoiser.schedule
    return [evaluate(model, (schedule.alpha(t) * clean + schedule.sigma(t) * noise).to(clean.dtype), float(t))
            for t in times]  # fmt: skip


def errors(found: list[Batch], clean: Batch) -> Float[ndarray, "levels n"]:
    """|D - x_0|^2 of every example."""
    return np.stack([(d - clean).flatten(1).double().square().sum(1).numpy() for d in found])


def candidates(denoiser: ConditionalDenoiser, label: int, x: Batch, t: float) -> list[int]:
    """All other classes, and none (the number of classes) where the model answers at x without a class."""
    classes = classes_of(denoiser)
    others = [y for y in range(classes) if y != label]
    if label == classes:
        return others
    try:
        with torch.no_grad():  # by every process itself
            OfClass(denoiser, None)(x, torch.tensor(t, dtype=torch.float64))
    except Exception:
        return others
    return [*others, classes]


def compared(denoiser: ConditionalDenoiser, label: int, subject: Subject, generator: torch.Generator) -> Arrays:
    """The fields of `ClassFit` that depend on the model, on training examples of `subject`; `label` may be none.

    Without errors if there is no other class to compare with.
    """
    clean = floats_at(subject.train, torch.randperm(len(subject.train), generator=generator)[:EXAMPLES])
    noise, times = torch.randn(clean.shape, generator=generator), class_levels(subject)
    searched = min(SEARCHED, len(clean) // 3)
    few, rest = (clean[:searched], noise[:searched]), (clean[searched:], noise[searched:])
    tried = candidates(denoiser, label, clean[:1], float(times[0]))
    if not tried:
        return {"tried": np.array(0)}
    scores = [np.log(errors(answers(denoiser, y, *few, times), few[0]).mean(1)).mean() for y in tried]
    other = tried[int(np.argmin(scores))]
    own, best = (answers(denoiser, y, *rest, times) for y in (label, other))
    ratios, scale = subject.denoiser.schedule.noise_to_signal(times).numpy(), subject.scale
    squares = torch.stack([(a - b).double().square().mean() for a, b in zip(own, best, strict=True)])
    return {
        "label": np.array(label),
        "classes": np.array(classes_of(denoiser)),
        "own": errors(own, rest[0]),
        "best": errors(best, rest[0]),
        "other": np.array(other),
        "tried": np.array(len(tried)),
        "formula": clean[0].numel() * scale**2 * ratios**2 / (ratios**2 + scale**2),
        "differs": (squares.mean().sqrt() / scale).numpy(),
    }


def fitted(arrays: Arrays) -> ClassFit:
    """The stored arrays of `compared` under their names."""
    numbers: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in arrays.items()}
    return ClassFit(**numbers)


def fit_finding(fit: ClassFit, level: float, rng: np.random.Generator) -> Finding:
    """The class asked for against the best other one, at the level of significance that one class has."""
    ratio, label, (worse, better) = fit.ratio, fit.label, fit.p_values(rng)
    has = f"of the {fit.tried} others" if fit.tried > 1 else "of the others"
    tone: Tone = "good"
    text = (
        f"Class {label} of the model denoises the examples with label {label} better than any {has}: the errors of "
        f"the next best, {fit.name}, are {number(1 / ratio)} times as large."
    )
    if worse < level and ratio >= 1 and not fit.denoises:
        tone = "unknown"
        text = f"Cannot tell: no class of the model denoises the examples with label {label}; {fit.name} does it best."
    elif worse < level and ratio >= 1:
        tone = "alarm" if ratio >= WRONG else "attention"
        text = (
            f"Class {label} of the model is not the data's: {fit.name} denoises the examples with label {label} "
            f"better; the errors of class {label} are {number(ratio)} times as large. Are classes exchanged, or off by "
            "one?"
        )
    elif fit.differs < SAME:
        tone = "unknown"
        text = (
            f"Cannot tell: the answers of class {label} and of {fit.name} are the same, so that the model does not "
            "tell these classes apart."
        )
    elif better >= level:
        tone = "unknown"
        text = (
            f"Cannot tell: class {label} and {fit.name} denoise the examples with label {label} equally well; the "
            f"ratio of their errors is {number(ratio)}."
        )
    return Finding(
        name="class.verdict",
        title=TITLE,
        value=ratio,
        unit="x",
        verdict=text,
        tone=tone,
        interval=fit.interval(rng),
        null="1x: no other class denoises better. Signs of paired errors permuted, on examples not used to choose.",
        p_value=worse,
        power=f"{fit.power(level, 'training examples')} {fit.tried} other classes were tried.",
    )


def _ask(session: Session) -> Answer:
    of_class, wiring = session.subject.of_class, session.answers.get("wiring")
    assert of_class is not None
    if wiring is not None and wiring.result.reading is None:  # it cannot be called as a denoiser
        session.advance()
        return not_answered(replace(QUESTION, needs=frozenset({"model"})), session.broken)
    denoiser, label = of_class.data.denoiser, of_class.label
    measure = partial(compared, denoiser, label, session.subject, session.torch_stream("class"))
    arrays = session.shared_stage("class", "comparing classes", measure)
    if not int(arrays["tried"]):
        return Answer(method="The model has one class alone: there is none to compare it with.")
    fit = fitted(arrays)
    level = session.settings.significance * of_class.level
    found = fit_finding(fit, level, session.numpy_stream("class"))
    wrong = found.tone == "alarm"
    broken = ("model",) if session.given is not None else ("model", "samples")
    return Answer(
        findings=[found],
        facts={"best_other_class": None if fit.other == fit.classes else fit.other},
        result=fit,
        broken=frozenset(broken if wrong else ()),
    )


QUESTION = Question("class", TITLE, _ask, stages=lambda _: 1, needs=frozenset())

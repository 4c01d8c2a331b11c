r"""Is this the model you think it is? Manners, units, time, prediction, skill and ends, before any other question.

Each check names what would fit: the contract of a denoiser (`manners`), the units of model, samples and data (`units`),
the time and the prediction that its wrapper declares (`reading_search`), the ends and the bias (`ends`), and its error
at every level against formulas that know only mean and deviation,

.. math::  E|D - x_0|^2 / \mathrm{tr}\,\Sigma \quad\text{against}\quad 1 \quad\text{and}\quad \rho^2/(\rho^2 + s^2) .

All on training examples, so that a memorizer passes: it is what it claims to be.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from diffuscope.by_parts import extremes
from diffuscope.byte_examples import floats_at
from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.findings import Finding, Tone, bootstrap_sums, percentile_interval
from diffuscope.shared_work import told_by_process_0
from diffuscope.store import Arrays

from ..conventions import DECLARED, gaussian_error
from ..ends import STARTS, Start, level_errors, start_from_noise
from ..heldout_units import heldout_units, heldout_units_finding
from ..manners import POINTS, Fault, manners
from ..question import HELDOUT_BROKEN, Answer, Question
from ..reading_search import DATA, DOUBT, FAULT, SIGNIFICANT, BestReading, best_reading, decisive_levels
from ..sample_units import exploded_finding, heldout_finding, units_of_samples, units_table
from ..session import Session
from ..skill import DRIFT, Skill, drift_chart, drift_finding, error_chart, skill_finding
from ..subject import evaluate, noised
from ..units import ModelUnits, SampleUnits, best_units, sample_units

TITLE = "Is this the model you think it is?"
SHARP = 2.0  # the factor of a wrong noise level that must be noticed before times are said to fit
METHOD = (
    "How the model is read: the network is asked at noised training examples with other times, input scales and units, "
    "and its output is read as data, noise, score, v and velocity, of both signs. The reading with the least error on "
    "a few examples is compared with the declared one on others, pair by pair. A wrapper whose network cannot be "
    "reached is asked at other times, and its answers are converted back."
)
EXAMPLES = 272


@dataclass(frozen=True, kw_only=True, eq=False)
class Wiring:
    """Everything measured."""

    manners: list[Fault]
    reading: BestReading | None = None
    units: ModelUnits | None = None
    skill: Skill | None = None
    start: Start | None = None
    samples: SampleUnits | None = None


def examples(session: Session) -> tuple[Batch, Batch, torch.Generator]:
    """Random training examples, noise for them, and the stream that they come from."""
    train, stream = session.subject.train, session.torch_stream("wiring")
    clean = floats_at(train, torch.randperm(len(train), generator=stream)[:EXAMPLES])
    return clean, torch.randn(clean.shape, generator=stream), stream


def own_samples(session: Session) -> Batch | None:
    """The model's own samples; None if they are not finite, as of a network that is read in the wrong way."""
    try:
        return torch.from_numpy(session.generated["samples"])
    except InputError:
        return None


def measure(session: Session, own: Batch | None) -> Arrays:
    """What depends on the model, as arrays for the store."""
    subject, gaussian = session.subject, session.references.gaussian
    denoiser, scale, variances = subject.denoiser, subject.scale, gaussian.variances
    (clean, noise, stream), rng = examples(session), session.numpy_stream("wiring")
    levels = decisive_levels(denoiser, scale)
    reading = best_reading(denoiser, variances, levels, clean, noise, rng)
    units = best_units(denoiser, variances, levels, clean, noise, subject.train, own, rng)
    start = start_from_noise(denoiser, gaussian, scale, stream) if own is not None else Start.unknown()
    parts = {"reading": reading, "units": units, "start": start}
    packed = {f"{name}.{key}": np.asarray(value) for name, part in parts.items() for key, value in vars(part).items()}
    return packed | level_errors(denoiser, session.levels, clean, noise)


def reduced(session: Session, arrays: Arrays) -> tuple[BestReading, ModelUnits, Start, Skill]:
    """The stored arrays under their names, and the errors by level with intervals."""

    def part(name: str) -> dict[str, Any]:
        own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
        return {key: value if value.ndim else value.item() for key, value in own.items()}

    ratios, scale = session.levels.ratios.numpy(), session.subject.scale
    total = session.subject.train[0].numel() * scale**2
    squares = arrays["squares"].T / total
    low, high = percentile_interval(bootstrap_sums(squares, session.numpy_stream("wiring skill")))
    variances = session.references.gaussian.variances
    skill = Skill(
        examples=len(squares),
        ratios=ratios,
        scale=scale,
        error=squares.mean(0),
        low=low,
        high=high,
        gaussian=np.array([gaussian_error(variances, r) for r in ratios]) / total,
        isotropic=ratios**2 / (ratios**2 + scale**2),
        drift=arrays["means"].mean(1) / scale,
        drift_error=arrays["means"].std(1) / scale / math.sqrt(arrays["means"].shape[1]),
    )
    return BestReading(**part("reading")), ModelUnits(**part("units")), Start(**part("start")), skill


def manners_finding(faults: list[Fault]) -> Finding:
    """The contract of a denoiser."""
    tone: Tone = "alarm" if any(fault.grave for fault in faults) else "attention" if faults else "good"
    told = "; ".join(f"{fault.what} ({fault.mend})" for fault in sorted(faults, key=lambda fault: not fault.grave))
    return Finding(
        name="wiring.manners",
        title="Does it keep the contract of a denoiser?",
        value=float(len(faults)),
        unit="faults",
        verdict=f"The model does not keep the contract of a denoiser: {told}."
        if faults
        else "It is deterministic, leaves its input unchanged, and denoises each sample independently of its batch.",
        tone=tone,
        power=f"{POINTS} noised examples: called twice, in another order, in parts, with one time and with one each.",
    )


def units_finding(result: ModelUnits) -> Finding:
    """Units of the model and of the data."""
    better = result.cost >= DOUBT and result.p_value < SIGNIFICANT
    values = f"values in {result.name}, where {result.written}"
    text, tone = f"In no other units that were tried are its errors smaller by more than a factor of {DOUBT:g}.", "good"
    if better and not result.denoises:
        text, tone = "In none of the units that were tried is it a denoiser of these data.", "neutral"
    elif better and result.cost >= FAULT:
        tone = "alarm"
        text = (
            f"The data are not in the model's units: its errors are {result.cost:.3g} times those it has on data with "
            f"{values}. State data_range on the model, or convert the data."
        )
    elif better:
        tone = "attention"
        text = (
            f"The data may not be in the model's units: its errors are {result.cost - 1:.0%} larger than on data with "
            f"{values}."
        )
    return Finding(
        name="wiring.units",
        title="Are the data in the model's units?",
        value=result.cost,
        unit="x",
        verdict=text,
        tone=tone,
        null="1x: no other units are better. Signs of paired errors permuted, on examples not used to choose.",
        p_value=result.p_value,
        power=f"{result.tried} affine maps; a map that lowers the error by a factor of {FAULT:g} would be a fault.",
    )


def reading_finding(result: BestReading) -> Finding:
    """Time and prediction, as declared or read otherwise."""
    better = result.cost >= DOUBT and result.p_value < SIGNIFICANT
    other = f"with {result.convention} as its time and its output read as {result.reading}"
    if result.convention == DECLARED:
        other = f"with its output read as {result.reading}"
    elif result.reading == DATA and not result.network:
        other = f"at {result.convention}"
    text, tone = "No other reading of its time or its output denoises better than the declared one.", "good"
    if result.noticed > SHARP:
        tone = "neutral"
        text = f"{text[:-1]}, but a wrong noise level would hardly show in its errors on these data."
    if better and not result.denoises:
        text, tone = "No reading of its time or its output that was tried makes it a denoiser of these data.", "neutral"
    elif better and result.cost >= FAULT:
        tone = "alarm"
        text = f"The model is not read as it was trained. Read {other}, its errors are {result.cost:.3g} times smaller."
    elif better:
        tone = "attention"
        text = f"Its errors are {result.cost - 1:.0%} larger than they would be if it were read {other}."
    seen = f"A noise level wrong by a factor of {result.noticed:g} would have been noticed, "
    seen += f"by {result.seen:g} as a fault." if np.isfinite(result.seen) else "and by up to 5 not be a fault."
    if not np.isfinite(result.noticed):
        seen = "A noise level wrong by a factor of up to 5 would not be noticed: the model hardly uses its time."
    asked = "of the network itself" if result.network else "of the wrapper; the network inside could not be reached"
    return Finding(
        name="wiring.reading",
        title="Do its time and its prediction mean what its wrapper says?",
        value=result.cost,
        unit="x",
        verdict=text,
        tone=tone,
        null="1x: errors as declared over those of the best reading. Signs of paired errors permuted, on examples not "
        "used to choose.",
        p_value=result.p_value,
        power=f"{seen} {result.tried} readings were tried, {asked}.",
    )


def start_finding(result: Start) -> Finding:
    """The cost of starting from pure noise."""
    off = abs(result.shift) - 3 * result.shift_error > DRIFT
    return Finding(
        name="wiring.start",
        title="Shift of the samples' mean by a start from pure noise",
        value=result.shift,
        unit="standard deviations",
        verdict="A start from pure noise at its highest noise level, "
        f"{result.ratio:.3g} standard deviations of the data, moves samples by {result.displacement:.2g} standard "
        f"deviations (root mean square) and their mean by {result.shift:+.2g}"
        + (": start from noised data, or train at higher noise." if off else "."),
        tone="attention" if off else "good",
        interval=(result.shift - 1.96 * result.shift_error, result.shift + 1.96 * result.shift_error),
        null="0: as from the Gaussian with the first two moments of the noised data, by the same noise.",
        power=f"{STARTS} samples; a shift of {DRIFT + 3 * result.shift_error:.2g} standard deviations would be "
        "reported.",
    )


def verdict(found: list[Finding]) -> Finding:
    """The gravest finding in the place of all."""
    gravest = next((f for tone in ("alarm", "attention") for f in found if f.tone == tone), None)
    if gravest is None:
        reading = next(f for f in found if f.name == "wiring.reading")
        skill = next(f for f in found if f.name == "wiring.skill")
        text = "It is read as it was trained: units, time and prediction fit."
        if reading.tone != "good":
            text = reading.verdict
        text = f"{text} {skill.verdict}"
        return replace(reading, name="wiring.verdict", title=TITLE, verdict=text)
    return replace(gravest, name="wiring.verdict", title=TITLE)


def answers_at_low_noise(session: Session) -> Batch:
    """The model's answers at the lowest audited noise level."""
    t = float(session.levels.times[-1])
    clean, noise, _ = examples(session)
    denoiser = session.subject.denoiser
    return evaluate(denoiser, noised(denoiser.schedule, clean, noise, t), t)


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("checking how the model is read")
    clean, noise, _ = examples(session)
    denoiser, levels = session.subject.denoiser, session.levels
    t = levels.times[len(levels) // 2]
    x = noised(denoiser.schedule, clean[:POINTS], noise[:POINTS], float(t))
    times = torch.stack([t, levels.times[0], levels.times[-1]])
    faults = [Fault(**fault) for fault in told_by_process_0(lambda: list(map(asdict, manners(denoiser, x, times))))]
    first = manners_finding(faults)
    if first.tone == "alarm":
        session.advance()
        broken = frozenset({"model", "samples"} if session.given is None else {"model"})
        found = [verdict([first]), first]
        return Answer(findings=found, method=METHOD, result=Wiring(manners=faults), broken=broken)
    own = own_samples(session)
    reading, units, start, skill = reduced(
        session, session.stage("wiring", "reading the model", partial(measure, session, own))
    )
    train, limits = session.subject.train, extremes(session.subject.train)
    rng = session.numpy_stream("wiring samples")
    audited = own if session.given is None else session.samples
    samples = None if audited is None else sample_units(audited, train, session.subject.heldout, limits, rng)
    of_model = [units_finding(units), reading_finding(reading), skill_finding(skill)]
    if units.cost < reading.cost:  # the larger fault is named first; mending it may mend the other
        of_model[:2] = of_model[1::-1]
    of_samples = [exploded_finding()]
    if samples is not None:
        of_samples = [
            units_of_samples(samples, "wiring", own=session.given is None),
            heldout_finding(samples, "wiring"),
        ]
    ends = [start_finding(start)] if own is not None else []
    compared = heldout_units(session.subject, limits, session.numpy_stream("heldout units"))
    unseen = heldout_units_finding(compared, "wiring")
    found = [first, *of_model, unseen, *of_samples, *ends, drift_finding(skill)]
    sets = {"training data": train, "held-out data": session.subject.heldout}
    sets |= {"answers at the lowest noise": answers_at_low_noise(session)}
    sets |= {} if own is None else {"samples of the model": own}
    sets |= {} if session.given is None else {"given samples": session.samples}
    model = any(f.tone == "alarm" for f in of_model)
    broken = {"model"} if model else set()
    if any(f.tone == "alarm" for f in of_samples) or (model and session.given is None):
        broken.add("samples")
    return Answer(
        findings=[verdict(found), *found],
        blocks=[units_table(sets), error_chart(skill), drift_chart(skill)],
        method=METHOD,
        result=Wiring(manners=faults, reading=reading, units=units, skill=skill, start=start, samples=samples),
        broken=HELDOUT_BROKEN if unseen.tone == "alarm" else frozenset(broken),
    )


QUESTION = Question("wiring", TITLE, _ask, stages=lambda _: 1, needs=frozenset())

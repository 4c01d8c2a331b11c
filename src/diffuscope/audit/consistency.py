r"""Is a one-step map the identity at its lowest level, and what does it do to data under little noise?

A consistency model has f(x, t_min) = x by its boundary condition, which several calls need (`samplers.consistency`);
a generator distilled for one call need not have it. Under little noise the exact f moves x_0 + sigma z to the end of
its trajectory, which keeps the position of z: its error is about sigma for data that fill the space, and less for data
on a surface; far more than sigma contradicts the data. Nothing else is asked of f between noise and data: where the
trajectories end is known of no trained model, and the posterior mean is not what f estimates.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.byte_examples import floats_at
from diffuscope.denoisers import nearest_trained_time
from diffuscope.findings import Finding, Tone, bootstrap_sums, percentile_interval
from diffuscope.findings.numbers import number
from diffuscope.report import Table
from diffuscope.samplers import times_at

from .question import Answer, Question
from .session import Session
from .subject import Subject, evaluate, noised

TITLE = "Is it the identity without noise?"
EXAMPLES = 256
LEVELS = (0.5, 0.2, 0.1)  # standard deviations of the data
IDENTITY = 0.05  # ... that it may move its input at the lowest level
AGREES = 1.5  # errors under little noise, in units of the noise


@dataclass(frozen=True, kw_only=True, eq=False)
class Consistency:
    """What the map does at its lowest level, and to held-out examples under little noise."""

    moved: Float[ndarray, " n"]  # mean square at the lowest level, in units of the data's variance
    lowest: float  # that level, in deviations of the data
    levels: Float[ndarray, " levels"]  # noise, in deviations of the data
    errors: Float[ndarray, " levels"]  # root mean square, in units of the noise

    @property
    def distance(self) -> float:
        """Root mean square."""
        return math.sqrt(self.moved.mean())

    @property
    def is_identity(self) -> bool:
        """Whether it moves its input by at most IDENTITY deviations."""
        return self.distance <= IDENTITY


def measured(subject: Subject, generator: torch.Generator) -> Consistency:
    """The map `subject.sampled` on held-out examples."""
    assert subject.sampled is not None
    model, scale = subject.sampled, subject.scale
    schedule = model.schedule
    clean = floats_at(subject.heldout, torch.randperm(len(subject.heldout), generator=generator)[:EXAMPLES])
    noise = torch.randn(clean.shape, generator=generator)

    def square(x: torch.Tensor) -> Float[ndarray, " n"]:
        return x.flatten(1).double().square().mean(1).numpy()

    t = float(nearest_trained_time(model, schedule.t_min))
    x = noised(schedule, clean, noise, t)
    reach = float(schedule.noise_to_signal(t)), float(schedule.noise_to_signal(schedule.t_max))
    wanted = [level * scale for level in LEVELS if reach[0] < level * scale < reach[1]]
    times = times_at(model, torch.tensor(wanted, dtype=torch.float64)) if wanted else torch.zeros(0)
    levels, errors = [], []
    for time in times.tolist():
        ratio = float(schedule.noise_to_signal(time))
        x_t = noised(schedule, clean, noise, time)
        levels.append(ratio / scale)
        errors.append(math.sqrt(square(evaluate(model, x_t, time) - clean).mean()) / ratio)
    return Consistency(
        moved=square(evaluate(model, x, t) - x) / scale**2,
        lowest=reach[0] / scale,
        levels=np.array(levels),
        errors=np.array(errors),
    )


def consistency_finding(found: Consistency, calls: int, rng: np.random.Generator) -> Finding:
    """The boundary condition; attention where several calls rest on it and it does not hold."""
    low, high = percentile_interval(bootstrap_sums(found.moved[:, None], rng))
    agrees = bool((found.errors <= AGREES).all())
    tone: Tone = "neutral"
    text = (
        f"At its lowest level it moves examples by {number(found.distance)} standard deviations of the data: it is the "
        "identity there, as a consistency model is, and may be called several times with noise added in between."
    )
    if not found.is_identity:
        tone = "attention" if calls > 1 else "neutral"
        text = (
            f"At its lowest level it moves examples by {number(found.distance)} standard deviations of the data: it "
            "is no consistency model, but a map for one call, and more calls mean nothing."
        )
    elif not agrees:
        tone = "attention" if calls > 1 else "neutral"
        text += (
            f" Yet examples under noise of {number(float(found.levels[found.errors.argmax()]))} standard "
            f"deviations end {number(float(found.errors.max()))} times as far from where they were as the noise had "
            "moved them."
        )
    elif calls > 1:
        tone = "good"
    return Finding(
        name="consistency.verdict",
        title=TITLE,
        value=found.distance,
        unit="standard deviations",
        verdict=text,
        tone=tone,
        interval=(math.sqrt(float(low[0])), math.sqrt(float(high[0]))),
        null=f"0: f(x, t_min) = x; up to {IDENTITY} counts as that.",
        power=f"{len(found.moved)} held-out examples at the lowest level, {number(found.lowest)} standard "
        "deviations of the data. Whether other states end where their trajectories end is not tested: it is known of "
        "no trained model.",
    )


def _ask(session: Session) -> Answer:
    result = measured(session.subject, session.torch_stream("consistency"))
    found = consistency_finding(result, session.settings.consistency_steps, session.numpy_stream("consistency"))
    rows = [[level, error] for level, error in zip(result.levels.tolist(), result.errors.tolist(), strict=True)]
    table = Table(
        "Distance of the answer from the held-out example under little noise",
        ["noise, deviations of the data", "distance, in units of the noise"],
        rows,
        "About 1 for data that fill the space, less for data on a surface.",
    )
    return Answer(findings=[found], blocks=[table] if rows else [], result=result)


QUESTION = Question("consistency", TITLE, _ask, needs=frozenset(), of="samples")

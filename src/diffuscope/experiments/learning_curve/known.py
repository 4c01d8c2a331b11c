r"""The detector on curves that are known exactly: found where there is a turning point, and only there.

At noised held-out digits, with :math:`u = D_{iso} - D_G` and :math:`v = D_{emp} - D_G` at every point, and w the part
of v that is uncorrelated with u, stretched to its size, made denoisers

.. math::
    D_\tau = D_G + f(\tau)(\cos\theta_\tau\, u + \sin\theta_\tau\, w), \qquad
    \langle u, w\rangle = 0,\ \langle|w|^2\rangle = \langle|u|^2\rangle
    \quad\Rightarrow\quad R(\tau) = f(\tau)^2 \langle|u|^2\rangle

turn from the side of the isotropic model to that of the examples, at a distance f from the Gaussian that is chosen:
:math:`f = 1 + 2e^{-\tau/\tau_1} + \tau/\tau_2` falls and rises; without its last term it falls to a plateau, where the
residuals of the points change and their mean does not, the hardest curve to keep quiet on. Nor does the residual rise
for a linear denoiser under gradient flow, whose distance to the Gaussian shrinks along every component
(`theory.AffineLearning`). Averages are over a pool of points, and every repetition sees a random few of them, so that
the pool's curve is the exact truth.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.audit import fit_references
from diffuscope.findings import Chart, Panel, TurningPoint, at_least, at_most, line, turning_point
from diffuscope.schedules import VE
from diffuscope.theory import AffineLearning, AffineMap

from ..experiment import Answer
from .curves import interval_mark
from .digits import COMPONENTS, vectors
from .residuals import Probe

POOL, POINTS, REPEATS, RESAMPLES = 4096, 128, 150, 399
STEPS = np.geomspace(1, 1000, 16)
PLATEAU = 1 + 2 * np.exp(-STEPS / 15)  # f without a rise
TURNING = PLATEAU + STEPS / 20_000
LEVEL = 0.05  # of the test here: one in twenty shows in REPEATS, one in a hundred would not
SHOWN = {"it turns": (0.25, 3.0), "a plateau": (0.25, 3.0), "linear": (0.005, 3.0)}  # ranges of the panels
Pool = Float[ndarray, "pool steps"]


@dataclass(frozen=True, eq=False)
class Made:
    """|u|^2, <u, w> and |w|^2 at the points of the pool, in units of the probe; the residuals of linear learning."""

    uu: Float[ndarray, " pool"]
    uw: Float[ndarray, " pool"]
    ww: Float[ndarray, " pool"]
    linear: Pool

    @classmethod
    def of_digits(cls, generator: torch.Generator) -> "Made":
        """At the noise of one deviation of the data."""
        train, heldout = vectors()
        references = fit_references(train, heldout, COMPONENTS, generator)
        scale = float(train.var(0, correction=0).mean().sqrt())
        x_0 = heldout[torch.randint(len(heldout), (POOL,), generator=generator)]
        noise = torch.randn(x_0.shape, generator=generator)
        probe = Probe.at(VE(0.01 * scale, 40 * scale), references, scale, x_0, noise)
        answers = dict(zip(references.models, probe.exact.double(), strict=True))
        u, v = (answers[name] - answers["Gaussian"] for name in ("isotropic", "empirical"))
        w = v - (u * v).sum() / u.square().sum() * u
        w *= (u.square().sum() / w.square().sum()).sqrt()
        uu, uw, ww = ((a * b).sum(1).numpy() / probe.unit for a, b in ((u, u), (u, w), (w, w)))
        theory, x_t = AffineLearning(references.gaussian, 1, scale), probe.x_t.double()
        start = AffineMap(torch.zeros(x_t.shape[1], x_t.shape[1]).double(), torch.zeros(x_t.shape[1]).double())
        learned = (theory.flow(start, time) for time in (STEPS / 100).tolist())
        errors = [x_t @ linear.weight.T + linear.bias - answers["Gaussian"] for linear in learned]
        return cls(uu, uw, ww, torch.stack([error.square().sum(1) for error in errors], 1).numpy() / probe.unit)

    def at_distance(self, f: Float[ndarray, " steps"]) -> Pool:
        """The residuals of the made denoisers at the distances `f` from the Gaussian."""
        theta = np.linspace(0, math.pi / 2, len(STEPS))
        c, s = np.cos(theta), np.sin(theta)
        return f**2 * (self.uu[:, None] * c**2 + 2 * self.uw[:, None] * c * s + self.ww[:, None] * s**2)


def detected(pool: Pool, rng: np.random.Generator, repeats: int) -> list[TurningPoint]:
    """What is found in `repeats` draws of POINTS points of the pool."""
    draws = (pool[rng.integers(len(pool), size=POINTS)] for _ in range(repeats))
    return [turning_point(draw, STEPS, rng, significance=LEVEL, resamples=RESAMPLES) for draw in draws]


def share(hits: Iterable[bool]) -> float:
    """The share of hits."""
    return float(np.mean(list(hits)))


def known(generator: torch.Generator) -> Answer:
    """Coverage of the interval, false alarms, and the power that is promised."""
    made, rng = Made.of_digits(generator), np.random.default_rng(generator.initial_seed())
    found = detected(made.at_distance(TURNING), rng, REPEATS)
    truth = float(STEPS[TURNING.argmin()])
    covered = share(truth in seen.kept for seen in found)  # not the interval: widened by a look, it cannot miss
    quiet = detected(made.at_distance(PLATEAU), rng, REPEATS)
    linear = detected(made.linear, rng, REPEATS)
    alarms, linear_alarms = (share(seen.p_rise <= LEVEL for seen in runs) for runs in (quiet, linear))
    promised = float(np.median([seen.smallest_rise for seen in quiet]))
    higher = np.r_[np.ones(len(STEPS) - 1), math.sqrt(1 + promised)]
    raised = detected(made.at_distance(PLATEAU * higher), rng, REPEATS)
    kept = share(seen.p_rise <= LEVEL for seen in raised)
    error = 4 * math.sqrt(LEVEL * (1 - LEVEL) / REPEATS)
    because = f"4 standard errors of {REPEATS} repetitions with {POINTS} points"
    claims = (
        at_least(
            "covers",
            f"Made denoisers turn at {truth:.0f}: the share of repetitions that keep this step at 95% confidence, "
            "before the interval is widened by a look on either side",
            covered,
            0.95 - error,
            because=because,
            source="derived",
        ),
        at_most(
            "false-alarms",
            f"Where the residual falls to a plateau, a rise is found at level {LEVEL:g} no more often than that",
            alarms,
            LEVEL + error,
            because=because,
            source="derived",
        ),
        at_most(
            "linear-alarms",
            "And in linear denoisers under gradient flow, in closed form: they only come nearer",
            linear_alarms,
            LEVEL + error,
            because=f"{because}; their residual only falls, so that an alarm is the detector's fault",
            source="derived",
        ),
        at_least(
            "power",
            f"A rise as large as the report says it would find ({promised:.0%} of the plateau) is found in 95%",
            kept,
            0.95 - error,
            because=because,
            source="derived",
        ),
    )
    return Answer(
        f"Yes. The true step is {truth:.0f}, and is among those kept in {covered:.0%} of {REPEATS} repetitions. On "
        f"curves that do not rise an alarm comes in {alarms:.0%} (plateau) and {linear_alarms:.0%} (linear) at level "
        f"{LEVEL:.0%}.",
        claims,
        (_chart(made, rng),),
    )


def _chart(made: Made, rng: np.random.Generator) -> Chart:
    shown = {
        "it turns": made.at_distance(TURNING),
        "a plateau": made.at_distance(PLATEAU),
        "linear": made.linear,
    }
    panels = []
    for title, pool in shown.items():
        few = pool[rng.integers(len(pool), size=POINTS)]
        marks = [
            line(STEPS.tolist(), pool.mean(0).tolist(), "exact"),
            line(STEPS.tolist(), few.mean(0).tolist(), f"{POINTS} points", style="dashed"),
        ]
        seen = turning_point(few, STEPS, rng, significance=LEVEL, resamples=RESAMPLES)
        if seen.found:
            marks.append(interval_mark(seen, SHOWN[title]))
        panels.append(Panel(title, "time", "residual", tuple(marks), x_log=True, y_log=True, y_range=SHOWN[title]))
    return Chart(
        "Curves that are known exactly",
        tuple(panels),
        f"Residual against the Gaussian. Dashed: what {POINTS} points show of it. Shaded: the interval that they give.",
    )

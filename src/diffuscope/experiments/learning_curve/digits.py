r"""A small network on real digits, watched from its first step: what it learns first.

The network begins as the exact denoiser of an isotropic Gaussian (EDM preconditioning with a last layer of zeros). The
network in training itself is watched, not the average of its weights, which lags behind.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from diffuscope.audit import fit_references
from diffuscope.data import load_data
from diffuscope.findings import at_most
from diffuscope.training import new_denoiser, recipe, show_progress, train

from ..experiment import Answer
from . import residuals
from .curves import lead_claim, multiples, turning_claim, turnings_claim
from .residuals import SETS, Curves

RATIOS = (0.1, 0.3, 1.0, 3.0)  # noise, in deviations of the data
TURNING = {"low": 0.3, "middle": 1.0, "high": 3.0}  # where turning points are claimed
FAVORED = 0.3  # where training points and held-out ones are compared
STEPS, BATCH, LOOKS, POINTS, COMPONENTS = 1500, 128, 24, 512, 10


def logged_steps() -> list[int]:
    """The first step, then LOOKS equally spaced in logarithm, to the last."""
    return sorted({1, *(round(step) for step in torch.logspace(1, math.log10(STEPS), LOOKS).tolist())})


@cache
def vectors() -> tuple[Tensor, Tensor]:
    """Training and held-out digits as vectors in [-1, 1]."""
    data = load_data("digits").in_range(-1.0, 1.0)
    return data.train.flatten(1), data.heldout.flatten(1)


def watched(generator: torch.Generator) -> dict[str, list[Curves]]:
    """Train, and look at the logged steps; per set the curves of every level."""
    train_digits, heldout = vectors()
    references = fit_references(train_digits, heldout, COMPONENTS, generator)
    seed, scale = generator.initial_seed(), float(train_digits.var(0, correction=0).mean().sqrt())
    model = new_denoiser(train_digits, (-1.0, 1.0), seed)
    noise = torch.randn(POINTS, train_digits.shape[1], generator=generator)
    halves = zip(SETS, (heldout, train_digits), strict=True)
    sets = {name: residuals.chosen(rows, POINTS, generator) for name, rows in halves}
    settings = recipe(float(train_digits.std()), steps=STEPS, batch_size=BATCH, seed=seed)
    training, logged = train(model, train_digits, settings, checkpoint=None), logged_steps()
    networks = ((seen.step, model) for seen in show_progress(training, "digits") if seen.step in logged)
    times = {ratio: ratio * scale for ratio in RATIOS}
    return residuals.watched(networks, model.schedule, references, times, sets, noise)


def digits(generator: torch.Generator) -> Answer:
    """Turning points of the Gaussian residual at middle noise, on unseen and on training digits."""
    found, rng = watched(generator), np.random.default_rng(generator.initial_seed())
    seen = {name: [curve.turning(rng) for curve in curves] for name, curves in found.items()}
    places = {name: RATIOS.index(ratio) for name, ratio in TURNING.items()}
    heldout, listed = found["held-out"], ", ".join(f"{ratio:g}" for ratio in TURNING.values())
    curve, turn, levels = heldout[places["middle"]], seen["held-out"][places["middle"]], len(RATIOS)
    at_end = [found[name][RATIOS.index(FAVORED)].of_model("empirical")[:, -1].mean() for name in SETS]
    high, column = heldout[-1], heldout[-1].models.index("Gaussian")
    vacuous, centered = high.published[:, 0, column].mean(), high.centered[0, column]
    claims = (
        *(
            turning_claim(f"digits-{name}", f"Digits, noise {RATIOS[place]:g}", seen["held-out"][place], levels, "step")
            for name, place in places.items()
        ),
        turnings_claim(
            "digits-training",
            f"Digits, the same at training points (noise {listed})",
            [seen["training"][place] for place in places.values()],
            levels,
        ),
        turnings_claim(
            "digits-published",
            f"Digits, the same in the published form, over the network's own score (noise {listed})",
            [heldout[place].published_turning(rng) for place in places.values()],
            levels,
        ),
        lead_claim(
            "digits-linear-first",
            f"Digits, noise {curve.ratio:g}, where it turns: by how much the Gaussian is nearer than the mixture",
            curve.lead("Gaussian", "mixture", turn.step),
        ),
        lead_claim(
            "digits-mixture-later",
            f"Digits, noise {curve.ratio:g}, step {STEPS}, the end: by how much the mixture is nearer",
            curve.lead("mixture", "Gaussian", STEPS),
        ),
        at_most(
            "training-points",
            f"Digits, noise {FAVORED:g}, the end: the empirical residual at training points over that at held-out ones",
            at_end[1] / at_end[0],
            0.5,
            because="half; the empirical model knows the training points, and is near anything there: 1 is no favor",
            source="asked for",
        ),
        at_most(
            "vacuous",
            f"Digits, noise {RATIOS[-1]:g}, the first step: the published residual of the score over that of D - μ",
            vacuous / centered,
            0.3,
            because="before anything is learned, the score of an untrained network seems explained; D is not",
            source="asked for",
        ),
    )
    told = "; ".join(f"noise {RATIOS[place]:g}: {seen['held-out'][place].verdict}" for place in range(len(RATIOS)))
    return Answer(
        f"Yes, linear first. The Gaussian residual at held-out points: {told}. In the end the mixture is "
        f"nearer at noise {curve.ratio:g}. One training was watched: the intervals are about the points, not about "
        "another training.",
        claims,
        tuple(
            multiples(
                f"Digits, {name} points",
                found[name],
                seen[name],
                x_label="training step",
                x_range=(10.0, float(STEPS)),
                y_range=(0.03, 12.0),
                how_to_read="Distance from each exact model against the training step; noise in deviations of the "
                "data. Bands: 95% over the points. Shaded: the interval of the step where the Gaussian residual is "
                "least. What is off the scale is farther away: the empirical model at low noise.",
            )
            for name in SETS
        ),
    )

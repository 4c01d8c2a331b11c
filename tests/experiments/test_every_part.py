"""Parts that only a slow test runs whole, at a small size: what they compute, what they claim and what they show.

A claim that a small size cannot meet is named; every other must hold. The fields are real where they are published.
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from answering import answered

from diffuscope.experiments import find
from diffuscope.theory.variance import Fourier, GaussianBumps, Products


def bumps(side: int, axes: int, first: float = 0.01) -> Products:
    return Products((GaussianBumps(-1.5, 1.5, side),) * axes, GaussianBumps(first, 1.0, side))


def waves(period: float) -> Products:
    return Products((Fourier(3.0, 2),) * 2, Fourier(period, 2))


@dataclass(frozen=True)
class Small:
    """A part, the sizes it is run with, and the claims that need more."""

    experiment: str
    part: str
    sizes: Mapping[str, object] = field(default_factory=dict)
    need_more: frozenset[str] = frozenset()

    @property
    def module(self) -> str:
        return f"diffuscope.experiments.{self.experiment.replace('-', '_')}"

    def __str__(self) -> str:
        return f"{self.experiment}-{self.part}"


def small(experiment: str, part: str, *need_more: str, **sizes: object) -> Small:
    return Small(experiment, part, sizes, frozenset(need_more))


SPARSE = {"OWN_TRAIN": 40, "OWN_VALIDATION": 6, "OWN_TEST": 5}
POINTS = {"SAMPLES": 400, "STEPS": 60, "PROBLEMS": 300}
PARTS = [
    small("drift-diffusion", "most-likely"),
    small("drift-diffusion", "typical", BATCHES=1),
    small("maier-stein", "barrier", BETAS=(2.0, 5.0, 10.0)),
    small("maier-stein", "durations", PER_UNIT=20),
    small("two-unit-network", "memories"),
    small("two-unit-network", "short", "refined", DESCENT=3000, REFINED=(100, 200)),
    small("two-unit-network", "slow", PIECES=200, STEPS=400),
    small("ring-diffusion", "through"),
    small("ring-diffusion", "functionals", REFINED=101),
    small("reverse-diffusion-is-a-bridge", "straight-paths", INTERVALS=100, DIGIT_INTERVALS=12),
    small("reverse-diffusion-is-a-bridge", "ring-charges", INTERVALS=100),
    small("trained-denoiser", "charges", INTERVALS=50),
    small("rates", "maier-stein", BETAS=(1.0, 2.0)),
    small("rates", "kinetic", CELLS=40),
    small("dps-is-biased", "intervals", PROBLEMS=1000, STEPS=60),
    small("dps-is-biased", "equal-cost", BUDGETS=(25, 50, 100, 200, 400)),
    small("dps-is-biased", "two-modes", SAMPLES=500, STEPS=60),
    small("constraint-is-not-posterior", "burgers", FIELDS=150, SAMPLES=48, STEPS={"posterior": 100, "projected": 20}),
    small("poisson", "moments", **POINTS),
    small("poisson", "residual", **POINTS),
    small("poisson", "intervals", **POINTS),
    small("poisson", "plane", SQUARE=11, SQUARE_SAMPLES=60, STEPS=60),
    small("darcy-sparse", "own", **SPARSE),
    small("burgers-sparse", "own", OWN_TRAIN=60, VALIDATION=16, TEST=12),
    small("feature-kernel", "trained-models", MODELS={16: (60,) * 3, 64: (60,) * 3, 256: (20, 20, 20)}, RESAMPLES=20),
    small("feature-kernel", "geometry", PLANE_MODELS=12, PLANE_NODES=8, RESAMPLES=20, GRID=9,
          FEATURES={"bumps": bumps(5, 2), "Fourier": waves(0.99)}),
    small("closure", "closure", RUNS=24, TRAJECTORIES=40, STEPS=30, FEATURES=bumps(8, 1)),
    small("gap-filling", "panels", MODELS=8, STARTS=40, EPSILONS=(1e-2,)),
    small("gap-filling", "decomposition", MANY_MODELS=(12,) * 5, FINE=20),
    small("cross", "filled", MODELS=8, STARTS=80, FINE=10, STEPS=10),
    small("cross", "why", MODELS=8, STARTS=80, FINE=10, STEPS=10),
    small("kernel-flow", "covariance", RUNS=40),
    small("kernel-flow", "samples", RUNS=40),
    small("variance-on-digits", "spread", STEPS=60, STARTS=40, RESAMPLES=99),
    small("variance-on-digits", "novelty", STEPS=60, STARTS=40, RESAMPLES=99),
    small("variance-on-digits", "halves", STEPS=60, STARTS=40, SIZES=(4, 16)),
    small("teleport", "levels", STARTS=40, FINE=20, CLUSTERINGS=2),
    small("perturbation", "closed-form", STEPS=120),
    small("reverse-family", "same-distribution"),
    small("reverse-family", "particles", PARTICLES=20_000),
]  # fmt: skip

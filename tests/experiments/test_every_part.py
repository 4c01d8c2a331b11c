"""Parts that only a slow test runs whole, at a small size: what they compute, what they claim and what they show.

A claim that a small size cannot meet is named; every other must hold.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import pytest
from answering import answered
from figure_checks import misdrawn
from swirling_score import swirling

from diffuscope.experiments import find
from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.sparse_fields import compare
from diffuscope.experiments.two_unit_network import network, slowed
from diffuscope.theory.variance import Fourier, GaussianBumps, Products


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


def few_tuned(data, seed, generator, *, tuned_on):  # noqa: ARG001
    return compare(data, seed, generator, tuned_on=2)


def two_cases(part):  # noqa: ARG001
    return {"ring": bridge.ring_case(), "mixture": bridge.mixture_case()}


BUMPS = Products((GaussianBumps(-1.5, 1.5, 8),), GaussianBumps(0.01, 1.0, 8))
SQUARES = Products((GaussianBumps(-1.5, 1.5, 5),) * 2, GaussianBumps(0.01, 1.0, 5))
WAVES = Products((Fourier(3.0, 2),) * 2, Fourier(0.99, 2))
SPARSE = {"compare": partial(compare, tuned_on=2), "OWN_TRAIN": 24, "OWN_VALIDATION": 6, "OWN_TEST": 5}
POINTS = {"SAMPLES": 400, "STEPS": 60, "PROBLEMS": 300}
MODELS = {"MODELS": 10, "STARTS": 40, "FINE": 10, "STEPS": 10}
NETWORKS = {"STEPS": 30, "STARTS": 40, "RESAMPLES": 99}
PARTS = [
    small("drift-diffusion", "most-likely"),
    small("drift-diffusion", "typical", BATCHES=1),
    small("maier-stein", "barrier", BETAS=(2.0, 5.0, 10.0)),
    small("maier-stein", "durations", PER_UNIT=20),
    small("two-unit-network", "memories"),
    small("two-unit-network", "short", "refined", REFINED=(100, 200)),
    small("two-unit-network", "slow", "long", "direct", "limit", PIECES=20, STEPS=100, SOFTENED=(0.02, 0.01),
          network=lambda n=0.01: network(0.2), slowed=lambda n, energies=(): slowed(n, (1e-3, 2e-4, 2e-5))),  # noqa: ARG005
    small("ring-diffusion", "through"),
    small("ring-diffusion", "functionals", REFINED=101),
    small("reverse-diffusion-is-a-bridge", "straight-paths", cases=two_cases),
    small("reverse-diffusion-is-a-bridge", "ring-charges"),
    small("trained-denoiser", "charges", INTERVALS=100, STEPS=(200, 200), trained=lambda steps, seed: swirling),  # noqa: ARG005
    small("rates", "maier-stein", BETAS=(1.0, 2.0)),
    small("rates", "kinetic"),
    small("dps-is-biased", "intervals", PROBLEMS=1000, STEPS=60),
    small("dps-is-biased", "equal-cost", BUDGETS=(25, 50, 100, 200)),
    small("dps-is-biased", "two-modes", SAMPLES=8000, STEPS=40),
    small("constraint-is-not-posterior", "burgers", FIELDS=150, SAMPLES=24, STEPS={"posterior": 100, "projected": 20}),
    small("poisson", "moments", **POINTS),
    small("poisson", "residual", **POINTS),
    small("poisson", "intervals", **POINTS),
    small("poisson", "plane", SQUARE=11, SQUARE_SAMPLES=60, STEPS=60),
    small("darcy-sparse", "own", "own-coefficient-dps", "own-pressure-dps", **SPARSE),
    small("burgers-sparse", "own", OWN_TRAIN=40, VALIDATION=6, TEST=8, compare=few_tuned),
    small("feature-kernel", "trained-models", MODELS={16: (60,) * 3, 64: (60,) * 3, 256: (4,) * 3}, RESAMPLES=20),
    small("feature-kernel", "geometry", "edges", "center", PLANE_MODELS=4, PLANE_NODES=8, RESAMPLES=20, GRID=9,
          FEATURES={"bumps": SQUARES, "Fourier": WAVES}),
    small("closure", "closure", "fails", "holds", "heavy-tails", RUNS=24, TRAJECTORIES=40, STEPS=30, FEATURES=BUMPS),
    small("gap-filling", "panels", "panels", "features", MODELS=6, STARTS=24, EPSILONS=(1e-2,)),
    small("gap-filling", "decomposition", "variance", "resolved", MANY_MODELS=(20,) * 5, FINE=20),
    small("cross", "filled", "gaussian", "fourier", "masses", **MODELS),
    small("cross", "why", "variance", "resolved", **MODELS),
    small("kernel-flow", "covariance", "median", RUNS=100),
    small("kernel-flow", "samples", RUNS=40),
    small("variance-on-digits", "spread", **NETWORKS),
    small("variance-on-digits", "novelty", **NETWORKS),
    small("variance-on-digits", "halves", "copying-falls", SIZES=(4, 64), **NETWORKS),
    small("teleport", "levels", STARTS=80, FINE=20, CLUSTERINGS=2),
    small("perturbation", "closed-form", STEPS=150),
    small("reverse-family", "same-distribution", ETAS=(0.0, 1.0)),
    small("reverse-family", "particles", PARTICLES=8000),
]  # fmt: skip


# longer than the others by far; tests of their experiments' formulas run by default
HEAVY = {
    "two-unit-network-short", "variance-on-digits-spread", "darcy-sparse-own", "feature-kernel-trained-models",
    "variance-on-digits-novelty", "maier-stein-durations", "two-unit-network-slow", "cross-why",
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if str(case) in HEAVY else ()) for case in PARTS], ids=str
)
def test_the_claims_of_a_part_hold_at_a_small_size(case, monkeypatch):
    module = importlib.import_module(case.module)
    for name, value in case.sizes.items():
        monkeypatch.setattr(module, name, value)
    kept = [each for each in vars(module).values() if hasattr(each, "cache_clear")]
    for each in kept:
        each.cache_clear()
    found = answered(find(case.experiment), case.part)
    for each in kept:
        each.cache_clear()
    assert found.text
    assert [place for chart in found.charts for place in misdrawn(chart)] == []
    assert {claim.name for claim in found.claims} >= case.need_more
    assert {claim.name for claim in found.claims if not claim.holds} - case.need_more == set()

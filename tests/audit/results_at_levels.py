"""What audits measure by noise level and by steps, made by hand: what a test does not name is as here."""

import dataclasses
from dataclasses import replace

import numpy as np

from diffuscope.audit.agreement import Agreement
from diffuscope.audit.agreement_doubts import Compared
from diffuscope.audit.component_levels import ComponentLevels
from diffuscope.audit.denoising_gap import Gap
from diffuscope.audit.entropy_budget import KINDS, RATES, Information
from diffuscope.audit.level_charts import Curve
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.questions import order
from diffuscope.audit.questions.loss import LossSplit
from diffuscope.audit.questions.steps import BUDGETS, SAMPLERS, Steps
from diffuscope.audit.reading_search import BestReading
from diffuscope.audit.score_consistency import Equation
from diffuscope.audit.skill import Skill
from diffuscope.audit.standing import Position
from diffuscope.audit.target_noise import TargetNoise
from diffuscope.audit.unexplained_variance import Learned
from diffuscope.audit.units import ModelUnits
from diffuscope.densities import PathEntropy
from numbers_in_tests import rng


def gap(**changes):
    made = Gap(
        ratios=np.array([20.0, 3.0, 0.4]),
        scale=1.7,
        share=np.array([0.01, 0.124, 0.03]),
        low=np.array([-0.02, 0.08, 0.01]),
        high=np.array([0.03, 0.2, 0.06]),
        p_values=np.array([0.2, 0.001, 0.04]),
        control=np.array([0.005, 0.021, 0.011]),
        mean_share=0.0547,
        mean_interval=(0.031, 0.082),
        p_value=0.0021,
        detectable=0.087,
        pairs=321,
    )
    return replace(made, **changes)


def agreeing(**changes):
    cosines = np.full((4, 4), 0.1) + np.diag([0.8, 0.7, 0.9, 0.6])
    made = Agreement(
        ratios=np.array([9.0, 2.0, 0.3]),
        scale=1.6,
        matter=np.array([False, True, True]),
        cosines=cosines,
        memorizers=np.array([0.2, 0.4, 0.3, 0.5]),
        nearest=np.array([0.5, 0.52, 0.6, 0.54]),
        second_nearest=np.array([0.45, 0.5, 0.55, 0.5]),
        heldout_nearest=np.array([0.5, 0.6, 0.4]),
        path=np.tile(np.array([[0.5, 1.0, 3.0], [0.2, 2.0, 0.8], [0.1, 1.0, 1.5]]), (4, 1, 1)),
        heldout=np.tile(np.array([[0.3, 1.0], [0.4, 2.0], [0.2, 0.0]]), (5, 1, 1)),
    )
    return replace(made, **changes)


def compared_by_hand(**changes):
    made = Compared(
        agreement=agreeing(),
        agree=(0.78, 0.6, 0.9),
        copying=(0.08, -0.1, 0.2),
        averaged=(0.125, 0.1, 0.15),
        p_value=0.003,
        gap=gap(mean_share=0.012, mean_interval=(-0.01, 0.03), p_value=0.3, pairs=222, detectable=0.15),
        loss=(0.4, 0.3, 0.5),
        over_formula=((0.5, 0.4, 0.6), (0.55, 0.45, 0.65)),
        relative_loss=(1.07, 1.0, 1.1),
        repeated=0,
        nearly_repeated=0.0,
        heldout_known=0,
        memorized=1300,
        least=0.001,
        doubt="",
    )
    return replace(made, **changes)


def zero_curve(columns: int) -> Curve:
    return Curve(*(np.zeros((3, columns)) for _ in range(3)))


FOUND = Information(
    ratios=np.array([0.125, 1.0, 16.0]),
    scale=1.0,
    fisher=zero_curve(len(KINDS)),
    rates=zero_curve(len(RATES)),
    beyond_gaussian=PathEntropy(2.0, 0.5, 0.03),
    from_memorizer=PathEntropy(7.0, 1.0, 0.04),
    place=(0.25, 0.125, 0.5),
    points=48,
)


RATIOS = np.array([20.0, 4.0, 0.7, 0.06])


def split(**changes):
    """Irreducible I and distance Delta by level: training (0.5, 0.3, 0.2, 0.1) and (0.4, 0.2, 0.05, 0.01)."""
    parts = {
        "irreducible": np.array([0.5, 0.3, 0.2, 0.1]),
        "distance": np.array([0.4, 0.2, 0.05, 0.01]),
        "total": np.array([0.9, 0.5, 0.25, 0.11]),
        "measured": np.array([0.91, 0.49, 0.26, 0.1]),
        "memorizer": np.array([0.5, 0.31, 0.21, 0.12]),
        "gaussian": np.array([0.8, 0.45, 0.22, 0.09]),
    }
    heldout = {name: 1.5 * x for name, x in parts.items()}
    value = {"training": parts, "heldout": heldout}
    made = LossSplit(
        ratios=RATIOS,
        scale=1.7,
        value=value,
        low={name: {part: 0.9 * x for part, x in of.items()} for name, of in value.items()},
        high={name: {part: 1.2 * x for part, x in of.items()} for name, of in value.items()},
        deviation={"training": np.array([0.1, -2.3, 0.4, 1.0]), "heldout": np.array([0.2, 1.9, 0.0, -1.1])},
        matter=np.array([False, True, True, False]),
        weighting="EDM's weights",
        weights=np.array([7.0, 3.0, 11.0, 100.0]),
        excess=(1.31, 1.12, 1.54),
        weighted_excess=(1.41, 1.22, 1.74),
        points=345,
    )
    return replace(made, **changes)


def curve(value):
    value = np.array(value)
    return Curve(value, 0.9 * value, 1.1 * value)


def learned_by_hand(**changes):
    sharp = curve([[0.9, 0.05], [0.5, 0.02], [0.3, 0.4], [0.2, 0.9]])
    sets = {name: curve(k * sharp.value) for k, name in enumerate(("training", "heldout", "trajectory"), 1)}
    scores = {name: curve(k * sharp.value[::-1]) for k, name in enumerate(("training", "heldout", "trajectory"), 1)}
    made = Learned(
        ratios=RATIOS,
        scale=1.6,
        models=("mixture", "Gaussian"),
        unexplained=sets,
        unexplained_per_sample={"heldout": curve(0.5 * sharp.value)},
        unexplained_score=scores,
        cosine={"heldout": curve([[0.9, 0.99], [0.8, 0.97], [-0.1, 0.7], [0.6, 0.5]])},
        points=210,
        bands=("1", "2-3"),
        unexplained_bands=np.arange(16.0).reshape(4, 2, 2) / 16,
        sharp=sharp,
        best=np.array([1, 1, 0, 0]),
        support=np.array([0.97, 0.81, 0.62, 0.93]),
        gaussian_range=np.array([[1.3, 20.0], [1.2, 20.0], [1.4, 20.0], [np.nan, np.nan], [1.5, 20.0]]),
        matter=np.array([True, True, True, False]),
        of_mean=np.array([[0.99, 0.98, 1.0], [0.6, 0.5, 0.7], [0.3, 0.2, 0.4], [0.1, 0.05, 0.2]]),
    )
    return replace(made, **changes)


def position(pairs=40):
    """Sums over the two levels that matter: I = 3 and 5, Delta = 2 and 1, G = 1 and 1, with spread in G alone."""
    spread = np.where(np.arange(pairs) % 2, 1.0, -1.0)[:, None] * np.array([0.5, 0.25, 9.0])
    return Position(
        ratios=np.array([8.0, 1.5, 0.2]),
        scale=1.7,
        matter=np.array([1.0, 1.0, 0.0]),
        irreducible=np.tile([3.0, 5.0, 70.0], (pairs, 1)),
        distance=np.tile([2.0, 1.0, 90.0], (pairs, 1)),
        gap=np.tile([1.0, 1.0, 80.0], (pairs, 1)) + spread,
    )


def target(**changes):
    made = TargetNoise(
        ratios=np.array([8.0, 1.5, 0.2]), scale=1.7, dimension=3, variance=np.array([[6.0, 3.0, 0.5], [6.0, 3.0, 0.5]]),
        examples=np.array([0.4, 0.5, 0.9]), heldout=np.array([0.75, 0.8, 0.6, 2.0]), samples=np.array([0.2, 0.35, 0.3]),
    )  # fmt: skip
    return replace(made, **changes)


SAMPLER_NAMES = (*SAMPLERS, "module:own")


def hand_made(**changes):
    """Two trajectories: Heun suffices with 20 NFE from the start (0.06), and nothing else does but what changes say."""
    plain = np.full((2, 5, len(BUDGETS)), 0.5)
    plain[:, 2, 4] = 0.06
    made = Steps(
        scale=1.6,
        samplers=SAMPLER_NAMES,
        budgets=BUDGETS,
        plain=plain,
        teleported=np.full((2, 5, len(BUDGETS)), 0.7),
        reference_error=0.00234,
        candidates=np.array([80.0, 7.0, 2.5, 0.3]),
        lowest=0.3,
        own_steps=np.array([3, 6, 7, 12, 17, 31]),
        estimated=np.array([[0.0, 0.01, 0.03, 0.9], [0.0, 0.03, 0.04, 0.7]]),
        suggested=0.9,
        skip=2.5,
        measured=np.array([0.03, 0.05]),
        tolerance=0.08,
    )
    return dataclasses.replace(made, **changes)


def decided(ratios, squares, variances=(9.0, 4.0, 1.0), **changes):
    made = ComponentLevels(
        ratios=ratios,
        scale=1.7,
        variances=np.array(variances),
        squares=squares,
        shares=np.array([[0.97, 0.02, 0.008, 0.002], [0.95, 0.04, 0.0095, 0.0005]]),
        gaussian_shares=np.array([[0.9, 0.0995, 0.0005, 0.0], [0.9, 0.08, 0.015, 0.005]]),
        dimension=5,
        skip=1.5,
        tolerance=0.05,
    )
    return dataclasses.replace(made, **changes)


def curves(levels=(3.0, 2.0, 1.0), sizes=(3.0, 2.0, 1.0), n=20, count=200):
    """Components of squares s^2 / (1 + (rho / level)^2), decided at their levels."""
    ratios = np.geomspace(100, 0.01, count)
    share = 1 / (1 + (ratios[:, None] / np.array(levels)) ** 2)
    return ratios, np.tile(share * np.array(sizes) ** 2, (n, 1, 1))


def of_order(result):
    return {f.name.removeprefix("order."): f for f in order.findings(result, rng())}


def units(**changes):
    made = ModelUnits(
        name="[0, 255]", written="data = 0.1 × value − 1", cost=1.5, p_value=0.0004, tried=17, denoises=True
    )
    return replace(made, **changes)


def reading(cost=1.8, *, denoises=True, **changes):
    """Errors as given `cost` times those of the best reading, which are those of a denoiser or not."""
    best = np.full((2, 5), 0.5 if denoises else 2.0)
    made = BestReading(
        convention="the time t of the schedule VP", reading="noise", network=True, levels=np.array([1.0, 0.5]),
        given=cost * best, best=best, formula=np.ones(2), p_value=0.0003, seen=1.5, noticed=1.25, tried=411,
    )  # fmt: skip
    return replace(made, **changes)


def skill(**changes):
    """Levels 20, 4, 0.7, 0.06 at scale 1.6: those from 0.4 to 4.8 matter, 4 and 0.7."""
    isotropic = RATIOS**2 / (RATIOS**2 + 1.6**2)
    made = Skill(
        examples=272,
        ratios=RATIOS,
        scale=1.6,
        error=0.8 * isotropic,
        low=0.7 * isotropic,
        high=0.9 * isotropic,
        gaussian=0.6 * isotropic,
        isotropic=isotropic,
        drift=np.array([[0.01, -0.02], [0.03, -0.04], [0.0, 0.01], [0.0, 0.0]]),
        drift_error=np.array([[0.01, 0.012], [0.01, 0.01], [0.02, 0.01], [0.01, 0.01]]),
    )
    return replace(made, **changes)


def equation(**changes):
    half = np.full((2, 2), 0.3)
    curve = Curve(half, half - 0.1, half + 0.1)
    made = Equation(
        ratios=np.array([2.0, 1.0]), scale=1.0, residual=curve, curl=curve, mean_residual=(0.3, 0.2, 0.4),
        mean_curl=(0.3, 0.2, 0.4), detectable=np.full(2, 0.1), rate_error=np.full(2, 0.01), points=9,
    )  # fmt: skip
    return replace(made, **changes)


def measures_of(train, heldout, remembered=0.0):
    """The sums that the gap needs, for errors of shape (n, levels)."""
    sums = [
        {
            "training.error": train[:, level],
            "heldout.error": heldout[:, level],
            "training.exact_error": np.full((len(train), 1), remembered),
            "training.control_error": np.ones(len(train)),
            "heldout.control_error": np.ones(len(heldout)),
        }
        for level in range(train.shape[1])
    ]
    ratios = 0.5 ** np.arange(len(sums))
    return LevelMeasures(ratios=ratios, scale=1.0, dimension=1, models=("empirical",), sums=sums)

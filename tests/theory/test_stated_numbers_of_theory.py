"""The numbers that the texts state are those of the code."""

import math
from types import ModuleType

import pytest
from scipy.stats import norm

from diffuscope.theory.variance import Fourier
from stated_numbers import parts_of, said, short

generated_variance, memorization_onset, onset_forecast, onset_pilots = parts_of(
    "theory", ("generated_variance", "memorization_onset", "onset_forecast", "onset_pilots")
)
closure, ensemble, features, population = parts_of(
    "theory", ("variance.closure", "variance.ensemble", "variance.features", "variance.population")
)
(dimension,) = parts_of("theory", ["geometry.dimension"])
fixed_duration, least_action, newton, path_page, symmetry = parts_of(
    "theory", ("paths.fixed_duration", "paths.least_action", "paths.newton", "paths.path_page", "paths.symmetry")
)


M, F, P = memorization_onset, onset_forecast, onset_pilots
STATED = [
    (M, rf"\frac{{d_1}}{{d_2}} < \frac1{round(1 / M.RATIO, 9):g}"),
    (M, f"of their share exceeds {M.SHARE:.0%}"),
    (M, f"upper bound is below {M.CHANCE:.0%}"),
    (M, f"of its m = {M.SAMPLES:,} samples"),
    (M, f"{M.SPACING - 1:.0%} apart from {M.FIRST}"),
    (F, rf"b \sim \mathcal N({F.EXPONENT:g}, {F.EXPONENT_STD:g}^2)"),
    (F, rf"p \in \{{{', '.join(f'{p:g}' for p in F.SHARPNESS)}\}}"),
    (F, f"by a standard deviation of {F.EXPONENT_CHANGE:g}"),
    (F, f"a slope above {F.STEEPEST:g}"),
    (P, f"is below {P.FITTED:g} of that on held-out examples"),
    (P, ", ".join(f"n/{part}" for part in P.PARTS[:2]) + f" and n/{P.PARTS[2]} for n training examples"),
    (P, f"have fewer than {P.FEWEST}"),
    (P, f"InputError for n < {4 * P.FEWEST}"),
    (dimension, f"hold {dimension.SHARE:.1%}"),
    (closure, f"by default {closure.CELLS} cells over 99.8%"),
    (closure, f"fewer than {closure.FEWEST} runs cannot tell"),
    (closure, f"the kurtosis farther than {closure.LARGEST_KURTOSIS:g} from zero"),
    (ensemble, f"for fewer than {ensemble.LEAST} denoisers"),
    (features, f"0 from {features.REACH} s beyond the last bump"),
    (features, f"is a float64 up to n = {features.POLYNOMIAL}"),
    (population, rf":math:`{population.MARGIN:g}\sigma` to spare"),
    (population, rf"At a step of :math:`{3 * population.STEP:g}\sigma/3` or less"),
    (fixed_duration, f"changes the duration by more than {100 * fixed_duration.CERTAIN:g} %"),
    (least_action, f"stationary to {short(newton.TOLERANCE)} of its momenta"),
    (least_action, f"expected {short(newton.TOLERANCE)}; try more times"),
    (path_page, f"to {short(symmetry.HOLDS)} of the terms at random points"),
]


@pytest.mark.parametrize(("part", "words"), STATED, ids=[words for _, words in STATED])
def test_the_text_and_the_code_say_the_same_number(part: ModuleType, words: str) -> None:
    assert words in said(part)


def test_numbers_of_distributions_and_constants_have_their_closed_forms() -> None:
    assert norm.cdf(closure.ONE_SIDED_95) == pytest.approx(0.95, abs=1e-4)
    assert math.lgamma(1 + 1e-6) == pytest.approx(-generated_variance.EULER_GAMMA * 1e-6, rel=1e-5)
    steps = onset_forecast.CHECKPOINTS**2  # the variance of a uniform number within a step of log 1.1
    assert steps == pytest.approx(math.log(memorization_onset.SPACING) ** 2 / 12, rel=1e-12)
    assert (closure.TOLERANCE, onset_pilots.REPEATS) == (0.1, 3)  # "a tenth of the samples", "three of each"
    assert "ten functions" in said(features)
    assert Fourier(1.0).number == 10
    # the largest exponent of the polynomial is below that of a float64, and that of one bump more is not
    n, reach = features.POLYNOMIAL, features.REACH
    assert 2 * (n - 1) * (n - 1 + reach) < math.log(1.7e308) < 2 * n * (n + reach)

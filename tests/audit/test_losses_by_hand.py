"""The split of the loss, its weights, and the score equation, reduced from sums that were made up by hand."""

import numpy as np
import pytest
import torch
from made_by_hand import by_name
from results_at_levels import equation, split

from diffuscope.audit.level_charts import Curve
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.questions import loss
from diffuscope.audit.score_consistency import consistency_chart, consistency_findings, residuals
from diffuscope.audit.standing import Position
from diffuscope.audit.subject import levels_at
from diffuscope.denoisers import DataPredictor, NoisePredictor, VelocityPredictor
from diffuscope.findings import detectable_shift
from diffuscope.schedules import VP
from numbers_in_tests import rng

# the loss

UNIT = 3 * 2.0**2  # dimension times the variance of a coordinate


def measures(points=4):
    """Two levels, of which the Gaussian's loss makes the second matter; sums are the same at all points, but one."""
    heldout = {
        "irreducible": [1.0, 2.0], "distance": [0.5, 1.0], "error": [1.2, 4.0], "mean_error": [10.0, 10.0],
        "exact_error": [[0.1, 9.9], [8.0, 5.0]],
    }  # fmt: skip
    training = {
        "irreducible": [3.0, 1.5], "distance": [1.0, 0.25], "error": [4.0, 1.0], "mean_error": [9.0, 9.0],
        "exact_error": [[3.0, 7.0], [1.5, 6.0]],
    }  # fmt: skip
    sums = [
        {
            f"{name}.{key}": np.repeat(np.array(value[level])[None], points, 0).astype(float)
            for name, of in (("training", training), ("heldout", heldout))
            for key, value in of.items()
        }
        for level in range(2)
    ]
    sums[1]["training.error"] += np.array([0.3, 0.1, 0.4, 0.8])
    return LevelMeasures(
        ratios=np.array([5.0, 0.5]), scale=2.0, dimension=3, models=("empirical", "Gaussian"), sums=sums
    )


def test_losses_are_in_units_of_the_variance_and_their_ratio_is_summed_where_levels_matter():
    result = loss.loss_split(measures(), ("own", np.array([7.0, 3.0])), rng())
    assert result.matter.tolist() == [False, True]  # 9.9 of 10 is more than 95%, 5 of 10 is not
    expected = {
        "training": {"irreducible": (3.0, 1.5), "distance": (1.0, 0.25), "total": (4.0, 1.75), "measured": (4.0, 1.4),
                     "memorizer": (3.0, 1.5), "gaussian": (7.0, 6.0)},
        "heldout": {"irreducible": (1.0, 2.0), "distance": (0.5, 1.0), "total": (1.5, 3.0), "measured": (1.2, 4.0),
                    "memorizer": (0.1, 8.0), "gaussian": (9.9, 5.0)},
    }  # fmt: skip
    for name, parts in expected.items():
        assert list(result.value[name]) == list(parts) == list(loss.PARTS)
        for part, values in parts.items():
            value = np.array(values) / UNIT
            assert result.value[name][part] == pytest.approx(value)
            if (name, part) != ("training", "measured"):  # all others are the same at all points
                assert result.low[name][part] == pytest.approx(value)
                assert result.high[name][part] == pytest.approx(value)
    assert result.low["training"]["measured"][1] < 1.4 / UNIT < result.high["training"]["measured"][1]
    assert result.excess == pytest.approx((2.0, 2.0, 2.0))  # 8 / 4
    assert result.weighted_excess == pytest.approx((2.0, 2.0, 2.0))
    assert (result.points, result.weighting, result.weights.tolist()) == (4, "own", [7.0, 3.0])


def test_the_identity_is_checked_in_standard_errors():
    result = loss.loss_split(measures(), ("own", np.ones(2)), rng())
    # differences of -0.45, -0.65, -0.35 and 0.05 at the second level, of none at the first
    assert result.deviation["training"][0] == 0.0
    assert result.deviation["training"][1] == pytest.approx(-0.35 / (np.std([0.3, 0.1, 0.4, 0.8]) / 2))
    assert abs(result.deviation["heldout"][1]) > 1e6  # the same at all points: no chance


def test_weights_are_those_of_the_training_loss():
    ratios = np.array([3.0, 0.5])

    def network(x, *_):
        return x

    for kind, name, weights in (
        (NoisePredictor, "error of the noise", [1 / 9, 4.0]),
        (DataPredictor, "error of the data", [1.0, 1.0]),
    ):
        model = kind(network, VP(), event_shape=(1,), data_range=(-1.0, 1.0))
        found = loss.own_weighting(model, levels_at(model, torch.from_numpy(ratios)), 2.0)
        assert found[0] == name
        assert found[1] == pytest.approx(np.array(weights))
    model = VelocityPredictor(network, VP(), event_shape=(1,), data_range=(-1.0, 1.0))
    levels = levels_at(model, torch.from_numpy(ratios))
    name, weights = loss.own_weighting(model, levels, 2.0)
    step = 1e-6
    early, late = (torch.log(VP().noise_to_signal(levels.times + s)) for s in (-step, step))
    rate = ((late - early) / (2 * step)).numpy()  # alpha' - sigma' / rho = -alpha d(log rho)/dt
    assert name == "error of the velocity"
    assert weights == pytest.approx((VP().alpha(levels.times).numpy() * rate) ** 2, rel=1e-6)
    assert loss.edm_weights(ratios, 2.0) == pytest.approx([13 / 36, 4.25])


def test_the_figure_of_the_loss_ends_at_a_fifth_above_the_variance_or_the_largest_loss():
    result = split()
    assert loss.split_chart(result).panels[0].y_range == pytest.approx((0.0, 1.2 * 1.5 * 0.91))
    result.value["heldout"]["measured"] = np.array([0.9, 0.2, 0.1, 0.1])
    assert loss.split_chart(result).panels[0].y_range == pytest.approx((0.0, 1.2))


def test_an_optimum_within_rounding_of_a_lookup_is_no_better_than_one():
    assert loss.findings(split(excess=(0.9, 0.8, 1 + 9e-10)))[0].tone == "attention"
    assert loss.findings(split(excess=(0.9, 0.8, 1 + 1e-9)))[0].tone == "attention"
    assert loss.findings(split(excess=(0.9, 0.8, 1 + 1.05e-9)))[0].tone == "unknown"


@pytest.mark.parametrize(("copying", "tone"), [(False, "good"), (True, "attention")])
def test_more_than_a_lookup_is_no_praise_of_copies(copying, tone):
    assert loss.findings(split(excess=(1.3, 1.001, 1.5)), copying=copying)[0].tone == tone
    assert loss.findings(split(excess=(1.3, 1.0, 1.5)), copying=copying)[0].tone == "unknown"
    assert loss.findings(split(excess=(0.7, 0.6, 0.9)), copying=copying)[0].tone == "attention"


def test_without_levels_that_matter_only_the_identity_is_told():
    found = by_name(loss.findings(split(matter=np.zeros(4, dtype=bool))), "loss")
    assert list(found) == ["memorizer_on_heldout", "identity"]
    assert found["memorizer_on_heldout"].tone == "unknown"


def test_a_position_is_of_the_chosen_pairs():
    made = measures()
    made.sums[1]["heldout.error"] = np.array([4.0, 5.0, 6.0, 7.0])
    position = Position.of(made, (np.array([3, 0]), np.array([1, 2])))
    assert position.gap.tolist() == [pytest.approx([1.2 - 4.0, 5.0 - 1.8]), pytest.approx([1.2 - 4.0, 6.0 - 1.3])]
    assert position.irreducible.tolist() == [[3.0, 1.5]] * 2
    assert position.distance.tolist() == [[1.0, 0.25]] * 2
    assert position.matter.tolist() == [0.0, 1.0]
    assert (position.scale, position.ratios.tolist()) == (2.0, [5.0, 0.5])


# the equation of the score


def level(equation=(1.0, 4.0, 1.0, 1.0), curl=(0.09, 4.0, 1.0), error=0.4, noise: float | list[float] = 0.0):
    """Five points with the same squares."""
    each = {"equation": np.tile(equation, (5, 1)), "curl": np.tile(curl, (5, 1)), "rate_error": np.full(5, error)}
    each |= {"probe_noise": np.broadcast_to(noise, 5).astype(float)}
    return {f"{name}.{key}": x for name in ("this model", "an exact mixture") for key, x in each.items()}


def test_a_residual_is_relative_to_its_terms_and_widened_by_the_error_of_the_rate():
    result = residuals(
        [level(noise=[3.0, 0.0, 4.0, 0.0, 0.0]), level((9.0, 9.0, 4.0, 1.0), (1.0, 1.0, 16.0), 0.6)],
        np.array([2.0, 1.0]), 1.5, 0.01, rng(),
    )  # fmt: skip
    # 1 of 2 + 1 + 1, and 3 of 3 + 2 + 1; errors of 0.4 of 4 and of 0.6 of 6
    assert result.residual.value.tolist() == [[0.25, 0.25], [0.5, 0.5]]
    assert result.rate_error == pytest.approx([0.1, 0.1])
    assert result.residual.low == pytest.approx(np.array([[0.15, 0.25], [0.4, 0.5]]))
    assert result.residual.high == pytest.approx(np.array([[0.35, 0.25], [0.6, 0.5]]))
    assert result.mean_residual == pytest.approx((0.375, 0.275, 0.475))
    assert result.curl.value == pytest.approx(np.array([[0.3, 0.3], [1.0, 1.0]]))
    assert result.mean_curl == pytest.approx((0.65, 0.65, 0.65))
    # one standard deviation: sqrt(2 / (4 * 3)) times sqrt(9 + 16) / 5
    shift = detectable_shift((2 / 12) ** 0.5, 0.01)
    assert result.detectable == pytest.approx([shift**0.5 / 4 + 0.1, 1e-3 + 0.1])
    assert (result.points, result.scale) == (5, 1.5)


def test_terms_whose_squares_are_negative_by_noise_count_as_nothing():
    result = residuals([level((1.0, 4.0, -1.0, 0.0)), level((0.0, -1.0, 0.0, 0.0), error=0.0)],
                       np.array([2.0, 1.0]), 1.0, 0.01, rng())  # fmt: skip
    assert result.residual.value[0, 0] == 0.5
    assert result.rate_error.tolist() == [0.2, 0.0]
    assert result.detectable == pytest.approx([1e-3 + 0.2, 1e-3])


def test_shares_with_their_errors_are_between_nothing_and_all():
    result = residuals(
        [level(error=1.2), level((1.0, 1.0, 0.0, 0.0), error=0.5)], np.array([2.0, 1.0]), 1.0, 0.01, rng()
    )
    assert result.residual.value[:, 0].tolist() == [0.25, 1.0]
    assert result.residual.low[:, 0] == pytest.approx([0.0, 0.5])
    assert result.residual.high[:, 0] == pytest.approx([0.55, 1.0])
    assert result.mean_residual == pytest.approx((0.625, 0.225, 1.0))  # 0.625 + 0.4
    all_wrong = residuals([level(error=1.2)], np.array([2.0]), 1.0, 0.01, rng())
    assert all_wrong.mean_residual == pytest.approx((0.25, 0.0, 0.55))


def test_the_cards_of_the_equation_name_the_worst_level_and_what_the_mixture_gives():
    rows = np.array([[0.2, 0.01], [0.4, 0.03]])
    first, second = consistency_findings(
        equation(
            residual=Curve(rows, rows, rows), curl=Curve(rows[::-1], rows, rows), rate_error=np.array([0.01, 0.03])
        )
    )
    assert (first.value, first.interval) == (pytest.approx(30.0), pytest.approx((20.0, 40.0)))
    assert "30% of the terms of the score equation do not cancel; at worst 40%, at σ/α = 1. " in first.verdict
    assert "gives 2.0%. The derivative in the noise level is accurate to 0.02 of the terms" in first.null
    assert first.power.startswith("At a typical noise level 10.0% would have been found")
    assert "(9 held-out examples at each noise level, 4 probes each)" in first.power
    assert "is 30% of the whole; at worst 40%, at σ/α = 2. " in second.verdict
    assert "gives 0.03, which is rounding." in second.null


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.0, 0.0999, "consistent."), (0.0, 0.1, "undecided"), (0.01, 0.1, "inconsistent"), (0.01, 0.0999, "consistent.")],
)
def test_consistency_is_told_by_the_whole_interval(low, high, text):
    assert text in consistency_findings(equation(mean_residual=(0.05, low, high)))[0].verdict


def test_the_figure_of_the_equation_is_in_percent_of_model_and_mixture():
    value = np.array([[0.2, 0.01], [0.4, 0.03]])
    curve = Curve(value, value - 0.005, value + 0.005)
    left, right = consistency_chart(equation(residual=curve, curl=curve)).panels
    for panel in (left, right):
        model, mixture = panel.marks[:2]
        assert (model.label, mixture.label) == ("this model", "an exact mixture")  # pyright: ignore
        assert model.y == pytest.approx((20.0, 40.0))  # pyright: ignore
        assert mixture.high == pytest.approx((1.5, 3.5))  # pyright: ignore
        assert panel.y_range == pytest.approx((0.0, 1.1 * 40.5))

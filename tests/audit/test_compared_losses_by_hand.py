"""The losses that attacks compare, and the table of diagnostics, of points and sums that were made up."""

import numpy as np
import pytest
import torch
from made_by_hand import plane
from results_at_levels import FOUND, equation

from diffuscope.audit import Session, Settings, Subject
from diffuscope.audit.entropy_budget import KINDS, RATES
from diffuscope.audit.level_charts import Curve
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.questions import diagnostics, membership
from diffuscope.audit.subject import Levels
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

N = 24
SIGMAS = torch.tensor([9.0, 2.0, 0.5], dtype=torch.float64)


def sums(level):
    """Of point i: the loss of the model is i + 1, or i + 7 held out, at the first level, and tenfold at the next."""
    i = np.arange(float(N))
    made = {"heldout.mean_error": np.full(N, 100.0)}
    for name, more in (("training", 1), ("heldout", 7)):
        made[f"{name}.error"] = (i + more) * 10**level
        made[f"{name}.control_error"] = (i + more) * 2 * 10**level
        made[f"{name}.exact_error"] = np.stack([np.full(N, [99.0, 50.0, 20.0][level]), (i + more) * 3 * 10**level], 1)
    return made


def session_of(points, **changes):
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    settings = Settings(points=points)
    session = Session(Subject(model, plane(30), plane(28, 1) + 0.5, **changes), settings)
    measures = LevelMeasures(
        ratios=SIGMAS.numpy(), scale=3.0, dimension=2, models=("Gaussian", "empirical"),
        sums=[{key: rows[:points] for key, rows in sums(level).items()} for level in range(3)],
    )  # fmt: skip
    session.__dict__ |= {"measures": measures, "levels": Levels(SIGMAS, SIGMAS)}
    return session


def test_losses_are_compared_at_levels_that_matter_on_a_logarithmic_scale():
    """The Gaussian's loss is 99, 50 and 20 of 100: the first level does not matter. 1e-6 of 2 * 3^2 is added."""
    session = session_of(N)
    found = membership.paired_losses(session)
    assert found is not None
    losses, unit = found
    assert (unit, list(losses)) == ("examples", ["model", "memorizer", "control"])
    i, floor = np.arange(float(N)), 1.8e-5
    for name, factor in (("model", 1), ("memorizer", 3), ("control", 2)):
        for row, more in ((0, 1), (1, 7)):
            expected = np.stack([np.log((i + more) * factor * 10**level + floor) for level in (1, 2)], 1)
            assert losses[name].model[row] == pytest.approx(expected)
        assert losses[name].references.shape == (2, N, 2, 2)


def test_the_easy_reference_is_a_gaussian_of_all_points_of_both_sets():
    session = session_of(N)
    found = membership.paired_losses(session)
    assert found is not None
    train, heldout, noise = (part.double() for part in session.points)
    both = torch.cat([train, heldout])
    mean, variance = both.mean(0), float(both.var(0, correction=0).mean())
    for row, clean in ((0, train), (1, heldout)):
        for level, sigma in enumerate((2.0, 0.5)):
            denoised = mean + variance / (variance + sigma**2) * (clean + sigma * noise - mean)
            expected = ((denoised - clean) ** 2).sum(1) + 1.8e-5
            isotropic = found[0]["model"].references[row, :, level, 0]
            assert isotropic == pytest.approx(expected.log().numpy(), abs=1e-3)


@pytest.mark.parametrize(("points", "enough"), [(20, True), (19, False)])
def test_twenty_pairs_are_enough_for_an_attack(points, enough):
    session = session_of(points)
    assert (membership.paired_losses(session) is not None) == enough
    if not enough:
        result, (finding,), _ = membership.attacked(session)
        assert result is None
        assert "at least 20 different examples of either set are needed, of 19 points" in finding.verdict


def test_groups_are_averaged_and_too_few_of_them_are_told():
    groups = {"train_groups": torch.arange(30) // 2, "heldout_groups": 100 + torch.arange(28) // 2}
    session = session_of(N, **groups)
    assert membership.paired_losses(session) is None
    _, (finding,), _ = membership.attacked(session)
    assert "at least 20 groups that are in one set only are needed, of either set" in finding.verdict


# diagnostics


def curve(columns):
    value = np.arange(2.0 * columns).reshape(2, columns)
    return Curve(value, value - 1, value + 1)


def diagnosed(**changes):
    information = FOUND.__class__(
        **vars(FOUND) | {"ratios": np.array([2.0, 1.0]), "fisher": curve(len(KINDS)), "rates": curve(len(RATES))}
    )
    made = {"equation": equation(curl=curve(2), residual=curve(2)), "refusal": "", "information": information}
    return diagnostics.Diagnostics(**made | changes)


def test_the_table_of_diagnostics_has_percents_of_the_model_and_of_the_mixture():
    table = diagnostics._numbers(diagnosed())
    assert [list(row) for row in table.rows] == [
        [2.0, 0.0, 100.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0], [1.0, 200.0, 300.0, 200.0, 4.0, 5.0, 6.0, 7.0, 2.0, 3.0],
    ]  # fmt: skip
    assert len(table.header) == 10
    assert [row[1:4] for row in diagnostics._numbers(diagnosed(equation=None)).rows] == [[None] * 3] * 2


def test_the_method_says_how_many_examples_and_signs_were_used_or_would_be():
    assert "curl: 9 held-out examples at each noise level, 4 random sign vectors each" in diagnostics._method(
        diagnosed()
    )
    without = diagnostics._method(diagnosed(equation=None))
    assert "need a model that torch can differentiate (64 examples at each level)." in without

"""The split of the loss is exact, and its parts are what closed forms say."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from audit_subjects import digits, exact_subject, measured
from diffuscope.audit.level_measures import measure_level
from diffuscope.audit.questions.loss import findings, loss_split, split_chart
from diffuscope.audit.references import fit_references
from diffuscope.findings import Area


def split_for(name, n_train=400):
    x = digits()
    train, heldout = x[:n_train], x[900:1300]
    references = fit_references(train, heldout, 4, torch.Generator().manual_seed(0))
    subject = exact_subject(references.models[name], train, heldout)
    noise = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    measures = measured(subject, references, 8, train[:400], heldout[:400], noise, train[:20])
    return loss_split(measures, np.random.default_rng(0))


def test_the_memorizer_has_only_irreducible_loss_on_its_training_data():
    result = split_for("empirical")
    assert result.value["training"]["distance"].max() == 0
    assert np.allclose(result.value["training"]["total"], result.value["training"]["irreducible"])
    by_name = {f.name: f for f in findings(result)}
    assert by_name["loss.irreducible_share"].value == pytest.approx(100)
    assert by_name["loss.memorizer_on_heldout"].value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("model", ["isotropic", "Gaussian", "mixture", "empirical"])
def test_measured_loss_equals_the_sum_of_its_parts_within_monte_carlo_error(model):
    result = split_for(model)
    for name in ("training", "heldout"):
        # 8 levels, 2 sets: 4 standard errors fail once in a thousand runs
        assert np.abs(result.deviation[name]).max() < 4


def test_irreducible_loss_of_two_points_is_the_integral_of_sech_squared():
    """Data -1, +1 with equal weight, alpha = 1: Var(x0|x) = sech^2(x/sigma^2)."""
    train = torch.cat([torch.ones(2000, 1), -torch.ones(2000, 1)])
    references = fit_references(train, train, 2, torch.Generator().manual_seed(0))
    subject = exact_subject(references.train, train, train)
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    for sigma in (0.5, 1.0, 2.0):
        sums = measure_level(subject, references, sigma, train, train, noise, train[:20])
        exact, _ = integrate.quad(
            lambda x, s=sigma: np.cosh(x / s**2) ** -2 * stats.norm.pdf(x, 1, s), -10 * sigma, 1 + 10 * sigma
        )
        values = sums["training.irreducible"]
        assert abs(values.mean() - exact) < 4 * values.std() / 4000**0.5


@pytest.fixture(scope="module")
def of_gaussian():
    return split_for("Gaussian")


def test_on_heldout_data_the_memorizer_has_more_loss_than_the_gaussian_at_low_noise(of_gaussian):
    result = of_gaussian
    low = len(result.ratios) - 1
    assert result.value["heldout"]["memorizer"][low] > 5 * result.value["heldout"]["gaussian"][low]
    assert next(f for f in findings(result) if f.name == "loss.memorizer_on_heldout").value > 1
    assert findings(result)[0].name == "loss.memorizer_on_heldout"  # the verdict


def test_every_interval_contains_its_value(of_gaussian):
    intervals = {f.name: (f.value, *f.interval) for f in findings(of_gaussian) if f.interval is not None}
    assert set(intervals) == {"loss.memorizer_on_heldout", "loss.irreducible_share"}
    for value, low, high in intervals.values():
        assert low < value < high


def test_the_areas_of_the_figure_are_stacked_to_the_total(of_gaussian):
    for panel, name in zip(split_chart(of_gaussian).panels, ("training", "heldout"), strict=True):
        lower, upper, *_ = panel.marks
        assert isinstance(lower, Area)
        assert isinstance(upper, Area)
        value = of_gaussian.value[name]
        assert lower.low == (0.0,) * len(value["total"])
        assert lower.high == upper.low == tuple(value["irreducible"])
        assert upper.high == tuple(value["total"])

"""The split of the loss is exact, and its parts are what closed forms say."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from audit_subjects import digits, exact_subject
from diffuscope.audit.loss import findings, loss_split
from diffuscope.audit.measure import measure_level
from diffuscope.audit.references import fit_references
from diffuscope.audit.subject import noise_levels


def split_for(law_name, n_train=400):
    x = digits()
    train, heldout = x[:n_train], x[900:1300]
    references = fit_references(train, heldout, 4, torch.Generator().manual_seed(0))
    subject = exact_subject(references.models[law_name], train, heldout)
    levels = noise_levels(subject.denoiser, subject.scale, 8)
    noise = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    measures = [measure_level(subject, references, t, train[:400], heldout[:400], noise, train[:20]) for t, _ in levels]
    models = tuple(references.models)
    return loss_split(measures, levels.ratios.numpy(), subject.scale, 64, models, np.random.default_rng(0))


def test_the_memorizer_has_only_irreducible_loss_on_its_training_data():
    result = split_for("empirical")
    assert result.value["training"]["distance"].max() == 0
    assert np.allclose(result.value["training"]["total"], result.value["training"]["irreducible"])
    by_name = {f.name: f for f in findings(result)}
    assert by_name["loss.irreducible_share"].value == pytest.approx(100)
    assert by_name["loss.memorizer_on_heldout"].value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("law", ["isotropic", "Gaussian", "mixture", "empirical"])
def test_measured_loss_equals_the_sum_of_its_parts_within_monte_carlo_error(law):
    result = split_for(law)
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


def test_on_unseen_data_the_memorizer_pays_more_than_the_gaussian_at_low_noise():
    result = split_for("Gaussian")
    low = len(result.ratios) - 1
    assert result.value["heldout"]["memorizer"][low] > 5 * result.value["heldout"]["gaussian"][low]
    assert next(f for f in findings(result) if f.name == "loss.memorizer_on_heldout").value > 1

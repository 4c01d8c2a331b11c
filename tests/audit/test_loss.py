"""The split of the loss is exact, and its parts are what closed forms say."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from audit_subjects import digits, exact_subject, measured
from diffuscope.audit.level_measures import measure_level
from diffuscope.audit.questions.loss import edm_weights, findings, loss_split, own_weighting, split_chart
from diffuscope.audit.references import fit_references
from diffuscope.audit.subject import Levels
from diffuscope.denoisers import (
    DataPredictor,
    ExactDenoiser,
    NoisePredictor,
    Rescheduled,
    VelocityPredictor,
    denoised_to_noise,
    denoised_to_velocity,
)
from diffuscope.exact import Gaussian
from diffuscope.findings import Area
from diffuscope.schedules import VE, VP

TRAIN, HELDOUT = digits()[:400], digits()[900:1300]


@cache
def references():
    return fit_references(TRAIN, HELDOUT, 4, torch.Generator().manual_seed(0))


def split_by(denoiser):
    """The loss of `denoiser` on digits, split."""
    subject = dataclasses.replace(exact_subject(references().gaussian, TRAIN, HELDOUT), denoiser=denoiser)
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    measures = measured(subject, references(), 8, TRAIN[:200], HELDOUT[:200], noise, TRAIN[:20])
    weighting = ("EDM's weights", edm_weights(measures.ratios, measures.scale))
    return loss_split(measures, weighting, np.random.default_rng(0))


@cache
def split_for(name):
    """That of the exact denoiser of a reference."""
    return split_by(ExactDenoiser(references().models[name], VE()))


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
    train = torch.cat([torch.ones(500, 1), -torch.ones(500, 1)])
    fitted = fit_references(train, train, 2, torch.Generator().manual_seed(0))
    subject = exact_subject(fitted.train, train, train)
    noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
    for sigma in (0.5, 1.0, 2.0):
        sums = measure_level(subject, fitted, sigma, train, train[:20], noise, train[:20])
        exact, _ = integrate.quad(
            lambda x, s=sigma: np.cosh(x / s**2) ** -2 * stats.norm.pdf(x, 1, s), -10 * sigma, 1 + 10 * sigma
        )
        values = sums["training.irreducible"]
        assert abs(values.mean() - exact) < 4 * values.std() / 1000**0.5  # at most 5% of the largest variance, 1


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
    assert set(intervals) == {"loss.memorizer_on_heldout", "loss.memorizer_weighted", "loss.irreducible_share"}
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


# the verdict, its levels and its weighting


@pytest.mark.parametrize(
    ("interval", "copying", "tone"),
    [((1.01, 1.3), False, "good"), ((1.01, 1.3), True, "attention"), ((0.99, 1.3), False, "unknown"),
     ((0.99, 1.3), True, "unknown"), ((0.5, 0.9), False, "attention")],
)  # fmt: skip
def test_only_a_whole_interval_decides_and_copies_are_not_called_generalization(of_gaussian, interval, copying, tone):
    result = dataclasses.replace(of_gaussian, excess=(1.1 if tone != "attention" or copying else 0.7, *interval))
    found = findings(result, copying=copying)[0]
    assert found.tone == tone
    assert found.interval == interval
    assert ("the model generalizes." in found.verdict) == (tone == "good")
    assert ("does no better" in found.verdict) == (interval[1] < 1)
    assert found.verdict.startswith("Cannot tell") == (tone == "unknown")


def test_a_model_that_covers_no_level_that_matters_gets_no_verdict(of_gaussian):
    found = findings(dataclasses.replace(of_gaussian, matter=np.zeros(8, dtype=bool), excess=(np.nan,) * 3))
    assert found[0].tone == "unknown"
    assert "covers none" in found[0].verdict
    assert [f.name for f in found] == ["loss.memorizer_on_heldout", "loss.identity"]


def test_the_levels_that_matter_are_those_of_the_closed_form():
    """Of N(0, diag(lam)): mean loss lam sigma^2 / (lam + sigma^2) between 0.25% and 95% of the mean of lam.

    Levels near an end may fall on either side: the loss of 600 examples is known to 7%, its rest to 16% of 5%.
    """
    lam = torch.tensor([9.0, 1.0, 0.04])
    x = lam.sqrt() * torch.randn(1000, 3, generator=torch.Generator().manual_seed(2))
    train, heldout = x[:400], x[400:]
    fitted = fit_references(train, heldout[:400], 2, torch.Generator().manual_seed(0))
    subject = exact_subject(fitted.gaussian, train, heldout)
    noise = torch.randn(600, 3, generator=torch.Generator().manual_seed(1))
    measures = measured(subject, fitted, 10, train[:20], heldout, noise, train[:20])  # held-out examples decide
    sigma2 = measures.ratios[:, None] ** 2
    loss = (lam.numpy() * sigma2 / (lam.numpy() + sigma2)).sum(1) / float(lam.sum())
    clear = np.minimum(np.abs(np.log(loss / 0.0025)), np.abs(np.log((1 - loss) / 0.05))) > 0.5
    assert clear.sum() >= 7
    assert (measures.matter == ((loss > 0.0025) & (loss < 0.95)))[clear].all()


def test_an_error_at_levels_that_nobody_samples_at_does_not_decide(of_gaussian):
    """What a noise-predicting network does at 100 standard deviations of the data: the verdict is the same bits."""
    exact = ExactDenoiser(references().gaussian, VE())

    class Amplified:
        schedule = exact.schedule

        def __call__(self, x_t, t):
            denoised = exact(x_t, t)
            return denoised + 0.1 * t * torch.sign(x_t) if float(t) > 10 else denoised

    result = split_by(Amplified())
    assert result.value["heldout"]["measured"][0] > 10 * of_gaussian.value["heldout"]["measured"][0]
    assert result.excess[0] == of_gaussian.excess[0]
    assert findings(result)[0].tone == "good"


def test_the_models_own_weighting_is_the_squared_derivative_of_its_output_by_the_denoiser():
    """Finite differences of each prediction by D; wrapped models are seen through, others have EDM's weights."""
    schedule, shape = VP(), {"event_shape": (1,), "data_range": (-1.0, 1.0)}
    levels = Levels(
        torch.tensor([0.9, 0.5, 0.1]).double(), schedule.noise_to_signal(torch.tensor([0.9, 0.5, 0.1])).double()
    )
    x, d, shift = torch.ones(1, 1).double(), torch.zeros(1, 1).double(), 1e-3
    outputs = {NoisePredictor: denoised_to_noise, VelocityPredictor: denoised_to_velocity}
    for predictor, output in outputs.items():
        name, weights = own_weighting(predictor(torch.nn.Identity(), schedule, **shape), levels, 0.5)
        for t, weight in zip(levels.times, weights, strict=True):
            change = (output(x, d + shift, schedule, t) - output(x, d, schedule, t)) / shift
            assert float(change) ** 2 == pytest.approx(weight, rel=1e-6)
        assert name.startswith("error of the")
    data = DataPredictor(torch.nn.Identity(), schedule, **shape)
    assert own_weighting(data, levels, 0.5)[1].tolist() == [1, 1, 1]
    assert own_weighting(Rescheduled(data, VE()), levels, 0.5)[0] == "error of the data"
    name, weights = own_weighting(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), schedule), levels, 0.5)
    ratios = levels.ratios.numpy()
    assert name == "EDM's weights"
    assert np.allclose(weights, (ratios**2 + 0.25) / (0.5 * ratios) ** 2)

"""Planted faults of likelihoods are caught, each by the question that it should be caught by."""

import pytest
from likelihood_targets import (
    OdeLikelihood,
    Remembering,
    below_a_tenth,
    coupled_rows,
    far_and_noisy,
    from_the_global_generator,
    in_bits,
    in_eight_bits,
    in_place,
    nan_at_high_noise,
    per_dimension,
    scaled_variable,
    small_probes,
    variance_preserving_everywhere,
    vp_only,
)

from diffuscope.certify import LikelihoodCertificate, certify_likelihood, likelihood, likelihood_problems
from diffuscope.schedules import VE

SCHEDULES = {"likelihood.VP", "likelihood.VE", "likelihood.RectifiedFlow"}
DENSITIES = {f"likelihood.{name}" for name in ("gaussian-1", "gaussian", "gaussian-16")} | {
    f"likelihood.mixture-{d}" for d in (1, 2, 64)
}

CLOSED_FORMS = {  # the questions that must fail, exactly
    below_a_tenth: {*SCHEDULES, "likelihood.dtype"},
    in_bits: {*SCHEDULES, *DENSITIES, "likelihood.mass", "likelihood.dtype"},
    variance_preserving_everywhere: {"likelihood.RectifiedFlow"},
    coupled_rows: {"likelihood.batch"},
    Remembering(): {"likelihood.deterministic"},
    in_place: {"likelihood.dtype"},
    in_eight_bits: {"likelihood.dtype"},
    nan_at_high_noise: SCHEDULES,
    vp_only: {"likelihood.VE", "likelihood.RectifiedFlow"},
}


def failing(target, **options) -> set[str]:
    return {finding.name for finding in certify_likelihood(target, **options) if finding.tone == "alarm"}


@pytest.mark.parametrize("target", CLOSED_FORMS, ids=lambda t: getattr(t, "__name__", type(t).__name__))
def test_a_fault_fails_where_it_shows_and_nowhere_else(target):
    assert failing(target) == CLOSED_FORMS[target]


def test_a_log_density_per_dimension_is_right_in_one_dimension_only():
    failed = failing(per_dimension, schedules=[VE()])
    assert failed == {"likelihood.VE", "likelihood.dtype", *DENSITIES} - {
        "likelihood.gaussian-1",
        "likelihood.mixture-1",
    }


def test_a_density_of_the_rescaled_variable_fails_where_alpha_is_not_one():
    assert failing(scaled_variable) == {*DENSITIES, "likelihood.mass", "likelihood.VP", "likelihood.RectifiedFlow"}


def test_draws_from_the_global_generator_fail():
    assert failing(from_the_global_generator, schedules=[VE()]) == {"likelihood.deterministic"}


def test_a_biased_random_estimate_fails(monkeypatch: pytest.MonkeyPatch):
    """1.6 nats below the truth in 16 dimensions, with a standard error of 0.9 sqrt(32 / 8 / 192) = 0.13 at first."""
    monkeypatch.setattr(likelihood, "likelihood_problems", lambda: likelihood_problems()[2:3])
    assert "likelihood.gaussian-16" in failing(small_probes, schedules=[VE(0.25, 0.35)])


def test_a_bias_of_56_nats_with_a_standard_error_of_87_never_passes():
    """Whether or not the noise is shared by the rows of a call, it is undecided or fails at every level."""
    found = certify_likelihood(far_and_noisy, schedules=[VE()], budget=1.0)
    compared = [finding for finding in found if finding.unit == "nats" and "Log-density" in finding.title]
    assert {finding.tone for finding in compared} <= {"unknown", "alarm"}
    assert LikelihoodCertificate("mine", found).verdict in ("fails", "undecided")


STEPS = 40  # errors of a few hundredths of a nat, far below those of the faults
ODE_FAULTS = {
    "the base N(0, 1) of VP under VE": (OdeLikelihood(STEPS, base="unit"), {"likelihood.VE"}),
    "a base of standard deviation sigma squared": (OdeLikelihood(STEPS, base="squared"), SCHEDULES | DENSITIES),
    "the sign of the divergence": (OdeLikelihood(STEPS, divergence_sign=-1.0), SCHEDULES | DENSITIES),
    "the score without its factor 1/2": (OdeLikelihood(STEPS, drift=2.0), SCHEDULES | DENSITIES),
    "no log-determinant of the scale alpha": (OdeLikelihood(STEPS, log_alpha=False), {"likelihood.RectifiedFlow"}),
    "finite differences in float32": (OdeLikelihood(STEPS, divergence="differences"), SCHEDULES),
    "one divergence for the whole batch": (OdeLikelihood(STEPS, batch_mean=True), SCHEDULES),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODE_FAULTS)
def test_a_fault_of_an_ode_likelihood_fails(name: str):
    target, expected = ODE_FAULTS[name]
    assert expected <= failing(target)

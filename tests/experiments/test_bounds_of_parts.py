"""Parts of experiments at their bounds: ties, values on either side, and what is beyond a limit."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import (
    Part,
    affine_steps,
    boundary_map,
    constraint_is_not_posterior,
    dps_is_biased,
    drift_diffusion,
    emergence,
    entropy,
    learning_curve,
    naive_variance,
    perturbation,
    poisson,
)
from diffuscope.experiments.analytic_denoisers import methods
from diffuscope.experiments.analytic_denoisers.peers import PerBatch
from diffuscope.experiments.analytic_denoisers.protocol import Subject
from diffuscope.experiments.naive_variance import Runs, Solved
from diffuscope.findings import Line, Rule
from diffuscope.physics.priors import sine_prior
from diffuscope.schedules import VE
from numbers_in_tests import double

DOUBLE = torch.float64


# choices and counts


def sizes() -> methods.Sizes:
    return methods.Sizes((3, 5, 7), (3, 5), (0.8,), (0.3,), 2, nearest=4, batch=3, costly_images=6, costly_queries=2)


def test_equivariant_scores_have_windows_that_fit_and_shortcuts_whole_batches(monkeypatch):
    """The largest crop is 5, so that the largest window is that too; of ten images three batches of three are whole."""
    network = ExactDenoiser(Gaussian.isotropic(torch.zeros(64, dtype=DOUBLE), 1.0), VE())
    seen: dict[str, list[tuple[int, int]]] = {"equivariant": [], "boundary": []}
    for name, target in (("equivariant", "equivariant_score"), ("boundary", "boundary_equivariant_score")):

        def known(data, schedule, size, found=seen[name]):  # noqa: ARG001
            found.append((len(data), size))
            return network

        monkeypatch.setattr(methods, target, known)
    of = Subject("n", network, torch.zeros(10, 8, 8, dtype=DOUBLE), 1.0, [], [])
    made = {method.name: method for method in methods.all_methods(sizes())}
    for name in seen:
        assert [made[name].build(of, size) for size in (3, 5, 7)] == [network] * 3
    batches = made["empirical, per batch"].build(of, 0)
    assert isinstance(batches, PerBatch)
    assert len(batches.parts) == 3
    assert seen["equivariant"] == [(6, 3), (6, 5), (6, 5)]
    assert seen["boundary"] == [(6, 3), (6, 5), (6, 7)]
    assert (made["boundary"].images, made["equivariant"].images, made["local"].images) == (2, 2, None)
    assert made["local"].choices == (3, 5, 7)
    assert made["composition"].choices == (3, 5)


def test_ties_are_in_no_order(monkeypatch):
    levels = double(3.0, 2.0, 2.0, 1.0)
    monkeypatch.setattr(emergence, "levels_of", lambda *_: (levels, levels * double(1, 1, 1, math.exp(-0.5))))
    part = Part("emergence", "gaussian", "s", 1)
    emergence.gaussian(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["order"] == 3  # one in each of three schedules
    assert claims["levels"] == pytest.approx(0.5)
    assert claims["fastest"] < 1e-3


def test_gains_that_do_not_change_neither_fall_nor_rise(monkeypatch):
    monkeypatch.setattr(perturbation, "sample_gain", lambda variances, *_: torch.full_like(variances, 1.25))
    monkeypatch.setattr(perturbation, "noise_relative_gain", lambda variances, ratios: ratios[:, None] * 0 + variances)
    part = Part("perturbation", "when", "s", 1)
    perturbation.when(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["early-or-late"] == 200 * 4  # all steps of all variances but one
    assert claims["relative"] == 200 * 5
    assert claims["constant"] == pytest.approx(0.25)


def test_an_alarm_at_its_level_counts_and_the_true_step_must_be_kept(monkeypatch):
    truth = float(learning_curve.MADE_STEPS[learning_curve.TURNING.argmin()])
    curve = np.stack([learning_curve.TURNING] * 3)
    monkeypatch.setattr(
        learning_curve, "MadeDenoisers", lambda *_: SimpleNamespace(residuals=lambda values: curve * 0 + values)
    )
    monkeypatch.setattr(learning_curve, "REPETITIONS", 4)

    def turn(kept, p_rise):
        return learning_curve.TurningPoint(truth, kept, (truth, truth), 1.0, 1.0, 0.001, p_rise, 0.1, 0.05)

    level = learning_curve.LEVEL
    turning = [turn((truth,), 0.001)] * 3 + [turn((truth + 1,), 0.001)]
    plateau = [turn((truth,), p) for p in (level, level + 1e-9, 0.5, 0.5)]
    answers = iter([turning, plateau])
    monkeypatch.setattr(learning_curve, "detect", lambda *_: next(answers))
    part = Part("learning-curve", "known", "s", 1)
    text = learning_curve.known(part)
    covers, alarms = part.claims
    error = 4 * math.sqrt(level * (1 - level) / 4)
    assert (covers.value, covers.required) == pytest.approx((0.75, 0.95 - error))
    assert (alarms.value, alarms.required) == pytest.approx((0.25, level + error))
    assert "in 75% of 4 repetitions" in text
    assert "a rise is found in 25%, at level 5%" in text


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_truth_that_is_an_extreme_of_its_samples_is_not_covered(side, monkeypatch):
    monkeypatch.setattr(poisson, "PROBLEMS", 6)
    truth = sine_prior(poisson.interval(), poisson.MODES).sample(
        6, generator=Part("poisson", "intervals", "s", 1).generator
    )
    draws = truth.repeat_interleave(poisson.DRAWS, 0)
    draws[:: poisson.DRAWS] += side  # one of every 19 is apart
    seen = {}

    def run(guide, n, generator, low, steps):  # noqa: ARG001
        seen.update(n=n, low=low, steps=steps)
        return poisson.Runs(draws, draws.clone())

    monkeypatch.setattr(poisson, "run", run)
    part = Part("poisson", "intervals", "s", 1)
    poisson.intervals(part)
    assert [claim.value for claim in part.claims] == [0.0, 0.0]
    assert seen == {"n": 6 * 19, "low": 1e-5, "steps": poisson.STEPS // 2}
    draws[1 :: poisson.DRAWS, 32] -= side  # at 1/2 alone both extremes are apart
    part = Part("poisson", "intervals", "s", 1)
    poisson.intervals(part)
    assert {claim.name: claim.value for claim in part.claims} == {"cover-2": 1.0, "cover-4": 0.0}
    draws[1 :: poisson.DRAWS, 16] -= side
    part = Part("poisson", "intervals", "s", 1)
    text = poisson.intervals(part)
    assert [claim.value for claim in part.claims] == [1.0, 1.0]
    assert "cover in 100.0% and 100.0% of 6 problems" in text


# the largest of several, on either side


def test_the_largest_deviation_of_all_data_sets_and_levels_is_claimed(monkeypatch):
    made = iter([{"hessian": h, "mean": m} for h, m in [(3e-14, 1e-14), (1e-14, 5e-14), *[(0.0, 0.0)] * 18]])
    monkeypatch.setattr(boundary_map, "deviations", lambda *_: next(made))
    part = Part("boundary-map", "identities", "s", 1)
    assert boundary_map.identities(part) == "Yes, to rounding."
    assert [claim.value for claim in part.claims] == [3e-14, 5e-14]
    assert "4,000 random points" in part.claims[0].because


@pytest.mark.parametrize("sign", [1, -1])
def test_ends_of_guides_are_compared_on_either_side_in_units_of_their_bounds(sign, monkeypatch):
    """Half a unit off in the mean, or a quarter in the variance, where the last doubling changed almost one."""
    unit = 1 - dps_is_biased.LEFT
    made = iter(
        [
            (mean + sign * off, variance + sign * more)
            for known in (
                [dps_is_biased.limit(0.3, eta) for eta in dps_is_biased.ETAS],
                [dps_is_biased.exact_moments(0.3)] * 3,
            )
            for (mean, variance), (off, more) in zip(known, ((0.5, 0.1), (0.2, 0.25), (0.3, 0.0)), strict=True)
        ]
    )

    def extrapolated(*_):
        mean, variance = next(made)
        return affine_steps.Moments(double(mean), double((variance,))), affine_steps.Moments(
            double(unit), double((unit,))
        )

    monkeypatch.setattr(dps_is_biased, "extrapolated", extrapolated)
    part = Part("dps-is-biased", "one-number", "s", 1)
    dps_is_biased.one_number(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["family-dps"] == pytest.approx(0.5)
    assert claims["family-guide"] == pytest.approx(0.5)
    panel = part.charts[0].panels[0]
    lines = marks_of(panel, Line)
    assert [line.label for line in lines] == ["posterior", "DPS, η = 0.5", "DPS, η = 1"]
    for line, (mean, variance) in zip(
        lines, (dps_is_biased.exact_moments(0.3), *(dps_is_biased.limit(0.3, eta) for eta in (0.5, 1.0))), strict=True
    ):
        top = max(range(len(line.x)), key=lambda k, line=line: line.y[k])
        assert line.x[top] == pytest.approx(mean, abs=0.005)
        assert line.y[top] == pytest.approx(1 / math.sqrt(2 * math.pi * variance), rel=1e-3)
    assert [rule.at for rule in marks_of(panel, Rule)] == [dps_is_biased.limit(0.3, 0.0)[0]]


@pytest.mark.parametrize("sign", [1, -1])
def test_projected_samplers_are_compared_on_either_side_in_units_of_their_bounds(sign, monkeypatch):
    here, made = constraint_is_not_posterior, []
    unit = 1 - here.LEFT
    for rho in here.CORRELATIONS:
        for mean, variance in (here.projected_limit(rho), (rho * here.Y, 1 - rho**2)):
            made.append((mean + sign * 0.25, variance + sign * (0.5 if rho == here.CORRELATIONS[0] else 0.0)))
    answers = iter(made)

    def extrapolated(*_):
        mean, variance = next(answers)
        end = affine_steps.Moments(double(here.Y + sign * 1e-12, mean), double((0.0, 0.0), (0.0, variance)))
        return end, affine_steps.Moments(double(9.0, unit), double((9.0, 9.0), (9.0, unit)))

    monkeypatch.setattr(here, "extrapolated", extrapolated)
    part = Part("constraint-is-not-posterior", "plane", "s", 1)
    here.plane(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["constraint"] == pytest.approx(1e-12, rel=1e-3)
    assert claims["limit"] == pytest.approx(0.5)
    assert claims["guide"] == pytest.approx(0.5)
    means, variances = (lines_of(panel) for panel in part.charts[0].panels)
    assert means["posterior"].y == means["posterior"].x == means["projected"].x
    assert variances["posterior"].y == pytest.approx([1 - x**2 for x in means["posterior"].x])
    for k in (0, 24, 48):
        expected = here.projected_limit(means["projected"].x[k])
        assert (means["projected"].y[k], variances["projected"].y[k]) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1.001, 0.999])
def test_a_score_too_large_or_too_small_breaks_both_identities(scale, monkeypatch):
    exact = entropy.PAIR
    scaled = type(exact)(exact.weights, exact.means, exact.eigenvectors, exact.eigenvalues, exact.tail_variances)
    object.__setattr__(scaled, "score", lambda x, alpha, sigma: scale * exact.score(x, alpha, sigma))
    monkeypatch.setattr(entropy, "PAIR", scaled)
    position, square = entropy.score_moments(0.7)
    assert position == pytest.approx(0.001, rel=1e-6)
    assert square > 1e-4


# the naive model


def test_the_gap_is_compared_kappa_by_kappa_with_what_was_solved(monkeypatch):
    """Of 100 samples 20 and 10 are in the gap, where 0.2 and 0.5 are solved; at the clean level 3 and 1."""
    monkeypatch.setattr(naive_variance, "KAPPAS", (0.0, 1.0, 2.0))
    x = torch.linspace(-3.9, 3.9, 40, dtype=DOUBLE)
    height = {0.0: 0.8, 1.0: 0.2, 2.0: 0.5}  # of a density, and so of the gap, whose width is one
    monkeypatch.setattr(
        naive_variance,
        "solved",
        lambda kappa: {t: Solved(x, torch.full_like(x, height[kappa])) for t in naive_variance.SHOWN_LEVELS},
    )
    asked = []

    def runs(kappa, generator):  # noqa: ARG001
        asked.append(kappa)
        inside = {1.0: (20, 3), 2.0: (10, 1)}[kappa]
        noisy, clean = (torch.where(torch.arange(100) < k, 0.1, 2.0).double() for k in inside)
        drawn = torch.where(torch.arange(100) < 50, 0.1, 2.0).double() if kappa == 2.0 else noisy
        return Runs(noisy, clean, drawn)

    monkeypatch.setattr(naive_variance, "runs", runs)
    monkeypatch.setattr(naive_variance, "two_examples", lambda _, t: double(0.8) / (1.1 if t == 0.5 else 1.0))
    part = Part("naive-variance", "gap", "s", 1)
    text = naive_variance.gap(part)
    assert asked == [1.0, 2.0]
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["solver"] == pytest.approx(0.1)
    assert claims["expelled"] == pytest.approx(2.5)  # from 0.2 to 0.5
    assert claims["gap-samples"] == pytest.approx(0.4 / (4 * 0.03 + 0.03 * 0.5))
    squares = [torch.where(torch.arange(100) < k, 0.01, 4.0).double() for k in (10, 50)]
    expected = float(squares[0].mean() - squares[1].mean()) / math.sqrt(sum(float(s.var()) for s in squares) / 100)
    assert claims["draws"] == pytest.approx(expected)
    assert claims["empty"] == pytest.approx(0.03)
    assert "falls from 0.800 to 0.500 at ε = 0.8; 0.800 to 0.500 at ε = 0.5" in text
    assert "with |x| < 1/2 is 0.03 at every κ" in text


# decisions


@pytest.mark.parametrize("sign", [1, -1])
def test_runs_are_compared_with_the_series_on_either_side_and_the_series_with_the_straight_path(sign, monkeypatch):
    """Two runs 0.1 apart: an error of 0.05. Off the series by 0.1, 0.3 and 0.2 at the three steps that are checked."""
    steps = drift_diffusion.STEPS
    t = np.arange(steps + 1) * drift_diffusion.STEP
    straight = 0.5 - 1.5 * t
    series = straight + 0.25 * sign * np.sin(np.pi * t)
    mean = series.copy()
    for k, off in zip((10, 20, 30, 5), (0.1, 0.3, 0.2, 9.0), strict=True):
        mean[k] += sign * off
    runs = drift_diffusion.Passages(np.stack([mean - 0.05, mean + 0.05]))

    def exact_mean(times, first=None):
        return np.array([-0.03]) if first == 1.0 else np.interp(times, t, series)

    known = {"published": lambda: runs, "with_bridges": lambda _: runs, "unabsorbed": lambda _: 1.25}
    for name, value in (known | {"exact_mean": exact_mean}).items():
        monkeypatch.setattr(drift_diffusion, name, value)
    part = Part("drift-diffusion", "typical", "s", 1)
    text = drift_diffusion.typical(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims["count"] == 2
    assert claims["series"] == pytest.approx(0.3 / 0.05)
    assert claims["bends"] == pytest.approx(0.25)
    assert (claims["free"], claims["half-way"]) == (1.25, -0.03)
    assert "is up to 0.25 away from it" in text
    lines = lines_of(part.charts[0].panels[0])
    assert lines["most likely"].y == pytest.approx(straight.tolist())
    assert lines["series"].x == pytest.approx(t[1 : steps - 2].tolist())
    assert lines["series"].y == pytest.approx(series[1 : steps - 2].tolist())
    assert lines["2 with bridges"].y == pytest.approx(mean.tolist())

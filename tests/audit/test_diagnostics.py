"""The diagnostics of an audit: exact models pass, planted faults are found, and what has no derivatives says so."""

import dataclasses
import json
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401
from scipy import stats
from torch import nn

from audit_subjects import QUICK, asked, exact_subject, measured
from diffuscope import cli
from diffuscope.audit import Session, Subject, audit_model
from diffuscope.audit.level_charts import Curve
from diffuscope.audit.questions.diagnostics import QUESTION as DIAGNOSTICS
from diffuscope.audit.references import fit_references
from diffuscope.audit.score_consistency import (
    MEASURED,
    PROBES,
    Equation,
    consistency_findings,
    measure_equation,
    residuals,
)
from diffuscope.cli import audit as audit_command
from diffuscope.denoisers import MLP, DataPredictor, ExactDenoiser, Preconditioned, save_denoiser
from diffuscope.densities.grid import Grid
from diffuscope.densities.grid_integrals import relative_entropy
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.report import render
from diffuscope.schedules import VE, DiscreteVP

DATA = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.3, 0.2]),
    torch.tensor([[-1.0, 0.4], [0.9, -0.6], [0.5, 1.2]]),
    torch.tensor([0.08, 0.05, 0.1]),
)
TINY = dataclasses.replace(QUICK, levels=4, points=60, generated=40, trajectories=8)
ASKED = dataclasses.replace(TINY, diagnostics=True)


def draws(n, seed):
    return DATA.sample(n, generator=torch.Generator().manual_seed(seed)).float()


TRAIN, HELDOUT = draws(400, 0), draws(400, 1)


def diagnosed(denoiser, levels=4, train=TRAIN) -> Any:
    """The diagnostics alone, without the rest of an audit: result, findings by name, noise levels."""
    settings = dataclasses.replace(QUICK, levels=levels, diagnostics=True)
    session = Session(Subject(denoiser, train, HELDOUT), settings)
    n = min(len(train), len(HELDOUT))
    points = (train[:n], HELDOUT[:n], torch.randn(n, 2, generator=torch.Generator().manual_seed(1)))
    references = fit_references(train, HELDOUT, 3, torch.Generator().manual_seed(0))
    measures = measured(session.subject, references, levels, *points, train[:8])
    vars(session).update(references=references, points=points, measures=measures)
    answer = DIAGNOSTICS.ask(session)
    assert answer is not None
    return answer.result, {f.name.removeprefix("diagnostics."): f for f in answer.findings}, session.levels.ratios


def lost(one, other, ratios, fine):
    """KL(one||other) at the lowest noise less that at the highest, by quadrature; `fine` resolves the lowest."""
    low, high = float(ratios[-1]), float(ratios[0])
    wide = Grid.square(-9 * high, 9 * high, 80)
    return relative_entropy(one, other, 1.0, low, fine) - relative_entropy(one, other, 1.0, high, wide)


def test_the_exact_distribution_passes_and_knows_its_relative_entropy_from_the_gaussian():
    """No loss is lower than the exact one's, so that its bound is the relative entropy itself."""
    result, found, ratios = diagnosed(ExactDenoiser(DATA, VE()), levels=12)
    assert found["score_equation"].tone == found["curl"].tone == "good"
    assert found["score_equation"].value < 1
    assert found["curl"].value < 1e-3
    truth = lost(DATA, Gaussian.fit([TRAIN]), ratios, Grid.square(-4, 4, 300))
    low, high = found["beyond_gaussian"].interval
    assert low < truth < high
    assert high - low < 0.5 * truth
    # its own Fisher information and the one certain from its loss estimate the same, and none is below the Gaussian's
    fisher = result.information.fisher
    assert (np.abs(fisher.value[:, 0] - fisher.value[:, 1]) < fisher.high[:, 1] - fisher.low[:, 1] + 1e-3).all()
    assert (fisher.high[:, 0] > fisher.value[:, 3]).all()


def test_the_gaussian_knows_nothing_more_and_is_as_far_from_the_training_set_as_girsanov_says():
    few = TRAIN[:40]
    gaussian = Gaussian.fit([few])
    _, found, ratios = diagnosed(ExactDenoiser(gaussian, VE()), levels=12, train=few)
    assert found["beyond_gaussian"].value == 0
    assert found["beyond_gaussian"].tone == "attention"
    assert abs(found["fisher"].value) < 1e-3  # float32 answers
    # two distributions under one diffusion: the bound of Girsanov is the relative entropy itself
    # the points as normal distributions of deviation 1e-6: next to the noise as good as points, in a tenth of the time
    points = GaussianMixture.isotropic(torch.ones(40) / 40, few, torch.full((40,), 1e-12))
    truth = lost(points, gaussian, ratios, Grid.square(-2.01, 2.01, 216))
    low, high = found["from_memorizer"].interval
    assert low < truth < high
    assert high - low < truth


class Planted:
    """The exact denoiser D changed by `fault(x_t, t, D)`."""

    schedule = VE()

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, x_t, t):
        t = torch.as_tensor(t)
        return self.fault(x_t, t, DATA.denoise(x_t, 1.0, t))


def clean_score(x, t, _):
    """The score of the data at every noise level."""
    return x + t**2 * DATA.score(x, 1.0, 1e-2)


def turned(_x, _t, exact):
    """Every answer turned by 0.3 radians."""
    return exact @ torch.tensor([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]], dtype=exact.dtype)


def test_the_clean_score_at_all_times_is_found():
    _, found, _ = diagnosed(Planted(clean_score))
    assert found["score_equation"].interval[0] > 20
    assert "generate different distributions" in found["score_equation"].verdict
    assert found["curl"].value < 0.1


def test_answers_that_are_turned_are_found():
    """K = R K_exact: |K - K^T| is near 2 sin(.3) |K| at high noise, 2 cos(.15) |K - I| at low, where K is near R."""
    result, found, _ = diagnosed(Planted(turned))
    curl = result.equation.curl.value[:, 0]
    assert 1.5 * np.sin(0.3) < curl[0] < 2 * np.sin(0.3)
    assert curl[-1] == pytest.approx(2 * np.cos(0.15), rel=0.01)
    assert found["curl"].tone == "attention"
    assert "No density" in found["curl"].verdict


@pytest.mark.parametrize(
    ("interval", "phrase"),
    [((0.0, 0.05), "are consistent."), ((0.0, 0.4), "is undecided"), ((0.3, 0.6), "different distributions")],
)
def test_the_verdict_claims_no_more_than_its_interval(interval, phrase):
    ratios, ones = np.array([0.1, 1.0]), np.ones((2, 2))
    curve = Curve(0.2 * ones, interval[0] * ones, interval[1] * ones)
    residual, curl = (0.2, *interval), (0.01, 0.0, 0.02)
    result = Equation(
        ratios=ratios, scale=1.0, residual=curve, curl=curve, mean_residual=residual, mean_curl=curl,
        detectable=0.01 * ones[0], rate_error=0.1 * ones[0], points=64,
    )  # fmt: skip
    assert phrase in consistency_findings(result)[0].verdict


def test_the_detectable_residual_follows_the_spread_of_its_estimate_over_repetitions():
    """Probes that spread along one direction, where the stated bound is reached: s^2 at every point, no residual."""
    rng, points, repetitions, spread = np.random.default_rng(0), 20, 4000, 2.0
    probes = spread * rng.normal(size=(repetitions, points, PROBES))
    # |mean|^2 without bias: the mean of the products of different probes
    squares = (probes.sum(2) ** 2 - (probes**2).sum(2)) / (PROBES * (PROBES - 1))
    rows = {"equation": np.ones((points, 4)), "curl": np.ones((points, 3)), "rate_error": np.zeros(points)}
    level = {f"{name}.{key}": value for name in MEASURED for key, value in rows.items()}
    level[f"{MEASURED[0]}.probe_noise"] = np.full(points, spread**2)
    significance = 0.01
    result = residuals([level], np.ones(1), 1.0, significance, rng)
    stated = (3 * result.detectable[0]) ** 2  # three terms of size 1
    shift = stats.norm.isf(significance) + stats.norm.isf(0.05)
    # the deviation of 4,000 means is known to 1.2%
    assert stated == pytest.approx(shift * squares.mean(1).std(), rel=4 * 0.012)


def test_a_residual_of_the_stated_size_is_distinguished_from_zero():
    """The exact distribution stays below what is detectable; a slight drift beyond it has an interval without zero."""
    clean = diagnosed(Planted(lambda *given: given[2]))[0].equation
    assert (clean.residual.value[:, 0] < clean.detectable).all()
    drifting = diagnosed(Planted(lambda _x, t, exact: exact * (1 + 0.02 * torch.log(t))))[0].equation
    beyond = drifting.residual.value[:, 0] > drifting.detectable
    assert beyond.any()
    assert (drifting.residual.low[beyond, 0] > 0).all()


def test_a_table_of_steps_is_measured_by_differences():
    """A network that is exact at steps 1..1000 only: a small residual, and the error of the rate is reported."""
    schedule = DiscreteVP.linear()

    class Table(nn.Module):
        def forward(self, x, index):
            t = (index[0] + 1).double()
            return DATA.denoise(x, schedule.alpha(t), schedule.sigma(t))

    result, found, _ = diagnosed(DataPredictor(Table(), schedule, event_shape=(2,), data_range=(-3.0, 3.0)))
    # the model is exact: what is left over is the error of the differences, and the interval says so
    assert found["score_equation"].value < 5
    assert found["score_equation"].interval[0] == 0
    assert (result.equation.residual.value[:, 0] < result.equation.detectable).all()
    assert 1e-9 < result.equation.rate_error.mean() < 0.2


@pytest.mark.parametrize(
    ("denoiser", "reason"),
    [
        (Planted(lambda *given: given[2].detach()), "depends on x_t through torch"),
        (Planted(lambda x, t, _: torch.from_numpy(DATA.denoise(x, 1.0, t).numpy())), "numpy"),
        (ExactDenoiser(Empirical(TRAIN), VE()), "differentiate in x_t twice"),
    ],
    ids=["no gradient", "numpy", "one derivative"],
)
def test_a_model_without_derivatives_is_reported_in_one_line(denoiser, reason):
    result, found, _ = diagnosed(denoiser)
    assert result.equation is None
    assert reason in result.refusal
    assert "\n" not in result.refusal
    assert list(found) == ["beyond_gaussian", "from_memorizer", "fisher"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished audit without diagnostics, and the folder with its stages."""
    folder = tmp_path_factory.mktemp("audit")
    return audit_model(exact_subject(DATA, TRAIN, HELDOUT), TINY, out=folder), folder


@pytest.fixture(scope="module")
def added(finished):
    """The same audit rerun with diagnostics, interrupted after two noise levels, and resumed."""
    without, folder = finished

    def again(*_):
        raise AssertionError("measured twice")

    def interrupted(session, index):
        if index == 2:
            raise KeyboardInterrupt
        return measure_equation(session, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.session.measure_level", again)
        with pytest.MonkeyPatch.context() as stop:
            stop.setattr("diffuscope.audit.questions.diagnostics.measure_equation", interrupted)
            with asked("diagnostics"), pytest.raises(KeyboardInterrupt):
                audit_model(without.subject, ASKED, out=folder)
        stored = {path: path.stat().st_mtime_ns for path in folder.glob("state/*/equation-*.npz")}
        assert len(stored) == 2
        resumed = audit_model(without.subject, ASKED, out=folder)
        assert {path: path.stat().st_mtime_ns for path in stored} == stored
    return resumed


def test_diagnostics_are_added_to_a_finished_audit_and_resumed_with_the_rest_untouched(finished, added):
    without, _ = finished
    named = ["wiring", "memorized", "membership", "learned", "loss", "generalizes", "steps", "order"]
    named += ["quality", "diversity"]
    assert list(without.findings) == named
    # as text, where NaN is itself
    assert repr({key: added.findings[key] for key in without.findings}) == repr(without.findings)
    assert torch.equal(added.samples, without.samples)
    assert len(added.findings["diagnostics"]) == 5


def test_a_refusal_leaves_the_rest_of_the_audit_untouched(finished, monkeypatch, tmp_path):
    without, folder = finished
    shutil.copytree(folder, tmp_path / "out")
    for path in (tmp_path / "out").glob("state/*/equation-*.npz"):
        path.unlink()

    def refuse(*_):
        raise InputError("denoiser: expected an answer that torch can differentiate in x_t twice, got only once")

    monkeypatch.setattr("diffuscope.audit.questions.diagnostics.measure_equation", refuse)
    result = audit_model(without.subject, ASKED, out=tmp_path / "out")
    assert repr({key: result.findings[key] for key in without.findings}) == repr(without.findings)
    assert len(result.findings["diagnostics"]) == 3
    section = result.page().sections[-1]
    assert section.answer.startswith("Curl and score equation were not measured (denoiser: expected")


@pytest.fixture(scope="module")
def page(added):
    return added.page()


def test_the_page_has_the_section_only_with_the_setting(finished, added, page):
    assert [section.anchor for section in page.sections] == [
        "wiring",
        "memorized",
        "membership",
        "learned",
        "loss",
        "generalizes",
        "steps",
        "order",
        "quality",
        "diversity",
        "diagnostics",
    ]
    assert len(page.verdicts) == 11
    html = render(dataclasses.replace(page, sections=page.sections[-1:]))
    for finding in added.findings["diagnostics"]:
        assert finding.title in html
        assert finding.null
        assert finding.power
    plain = finished[0].page()
    assert [section.anchor for section in plain.sections] == [
        "wiring",
        "memorized",
        "membership",
        "learned",
        "loss",
        "generalizes",
        "steps",
        "order",
        "quality",
        "diversity",
    ]


@pytest.mark.usefixtures("blank_figures")
def test_data_that_are_not_images_get_a_report_without_pictures(finished, tmp_path):
    html = finished[0].save(tmp_path).read_text()
    assert "data:image/png" not in html


@pytest.mark.slow
def test_the_command_line_switches_it_on(added, monkeypatch, tmp_path):
    network = MLP((8,), width=16, depth=1)
    denoiser = Preconditioned(network, VE(0.01, 40.0), 1.0, event_shape=(8,), data_range=(-5.0, 5.0))
    save_denoiser(denoiser, tmp_path / "model.safetensors")
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(200, 8)).clip(-5, 5).astype(np.float32))
    asked = []

    def audited(_subject, settings, **_):
        asked.append(settings)
        return added

    monkeypatch.setattr(audit_command, "audit_model", audited)
    sources = ["--data", tmp_path / "rows.npy", "--model", tmp_path / "model.safetensors", "--out", tmp_path / "out"]
    for flag in ([], ["--diagnostics"]):
        arguments = ["diffuscope", "audit", *sources, "--data-range", -5, 5, *flag]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        cli.main()
    assert [settings.diagnostics for settings in asked] == [False, True]
    stored = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [f["name"] for f in stored["findings"]["diagnostics"]] == [f.name for f in added.findings["diagnostics"]]

"""The report of a whole audit, as text and in a real browser."""

import dataclasses
import json
import re

import pytest
import torch
from browser_checks import check_page, chromium

from audit_subjects import QUICK, SMALL, digits, exact_subject
from diffuscope.audit import Subject, audit_model
from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.exact import Empirical, Gaussian
from diffuscope.report import render
from diffuscope.schedules import VE


@pytest.fixture(scope="module")
def copying():
    """The audit of the exact memorizer of 100 digits: listed copies, pairs of pictures, every tone of verdict."""
    x = digits(3)
    return audit_model(exact_subject(Empirical(x[:100]), x[:100], x[100:700]), SMALL)


def test_the_report_passes_every_check_of_a_browser(copying, tmp_path):
    path = copying.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "audit.json").read_text())["model"] == "exact"
    with chromium() as browser:
        check_page(browser, path)


@pytest.mark.slow
def test_the_report_of_labeled_data_has_the_quality_of_the_samples(tmp_path):
    """Three clusters and the Gaussian of all: far from the data, a section with figures and a table."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (400,), generator=generator)
    rows = torch.randn(400, 3, generator=generator) + 6.0 * torch.nn.functional.one_hot(labels, 3)
    model = ExactDenoiser(Gaussian.fit([rows]), VE())
    subject = Subject(model, rows[:200], rows[200:], train_labels=labels[:200], heldout_labels=labels[200:])
    result = audit_model(subject, dataclasses.replace(SMALL, levels=4))
    distance, shares = result.findings["quality"]
    assert distance.tone in ("attention", "alarm")
    page = result.page()
    assert distance.name in [finding.name for finding in page.verdicts]
    assert "quality" in [section.anchor for section in page.sections]
    stored = json.loads(json.dumps(result.as_json()))
    assert [found["name"] for found in stored["findings"]["quality"]] == [distance.name, shares.name]
    assert stored["quality_not_measured"] is None
    path = result.save(tmp_path)
    assert shares.title in path.read_text()
    with chromium() as browser:
        check_page(browser, path)


def test_the_first_screen_carries_the_verdicts_and_the_sections_their_numbers(copying):
    page = copying.page()
    assert page.headline.startswith("Copies training examples")
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
    ]
    assert len(page.verdicts) == 10
    html = render(page)
    assert "Not measured: labels: the training and held-out data have no labels" in html
    assert copying.as_json()["quality_not_measured"] is None
    for group in copying.findings.values():
        for finding in group:
            assert finding.title in html.replace("&#39;", "'").replace("&gt;", ">")
    # figures and a gallery, none of them fetched
    assert html.count("<svg class") + html.count('<svg role="img"') >= 9
    assert html.count("95% interval") == sum(finding.interval is not None for finding in page.verdicts) > 0
    assert not re.search(r'(src|href)="https?:', html)


@pytest.mark.slow
def test_the_report_with_diagnostics_passes_every_check_of_a_browser(tmp_path):
    """A network with random weights on digits: curl, equation, entropies, in their figures and table."""
    x = digits(3)
    denoiser = Preconditioned(
        MLP((1, 8, 8), width=32, depth=1), VE(0.01, 20.0), 0.75, event_shape=(1, 8, 8), data_range=(-1.0, 1.0)
    )
    torch.nn.init.normal_(list(denoiser.parameters())[-2], std=0.05, generator=torch.Generator().manual_seed(2))
    settings = dataclasses.replace(QUICK, levels=5, points=40, generated=40, diagnostics=True)
    result = audit_model(Subject(denoiser.eval(), x[:200], x[200:400]), settings)
    path = result.save(tmp_path)
    with chromium() as browser:
        check_page(browser, path)


def test_names_are_escaped(copying):
    subject = Subject(
        copying.subject.denoiser, copying.subject.train, copying.subject.heldout, "<script>x</script>", "<b>data</b>"
    )
    html = render(dataclasses.replace(copying, subject=subject).page())
    assert "<script>x" not in html
    assert "<b>data" not in html

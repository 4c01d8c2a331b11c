"""The report of a whole audit, as text and in a real browser."""

import dataclasses
import json
import re

import pytest
import torch
from browser_checks import check_page, chromium

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Subject, audit, audit_page
from diffuscope.audit.quality import judge
from diffuscope.audit.quality_section import quality_section
from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.exact import Empirical, Gaussian
from diffuscope.report import render, write_page
from diffuscope.schedules import VE


@pytest.fixture(scope="module")
def copying():
    """The audit of the exact memorizer of 100 digits: listed copies, pairs of pictures, every tone of verdict."""
    x = digits(3)
    return audit(exact_subject(Empirical(x[:100]), x[:100], x[100:700]), QUICK)


def test_the_report_passes_every_check_of_a_browser(copying, tmp_path):
    path = write_page(audit_page(copying), tmp_path / "report.html")
    with chromium() as browser:
        check_page(browser, path)


def test_the_report_of_labeled_data_tells_how_good_the_samples_are(tmp_path):
    """Three clusters and the Gaussian of all: a verdict more, a section with two figures and a table."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (400,), generator=generator)
    rows = torch.randn(400, 3, generator=generator) + 6.0 * torch.nn.functional.one_hot(labels, 3)
    model = ExactDenoiser(Gaussian.fit([rows]), VE())
    subject = Subject(model, rows[:200], rows[200:], train_labels=labels[:200], heldout_labels=labels[200:])
    result = audit(subject, dataclasses.replace(QUICK, levels=4, points=20))
    distance, shares = result.findings["quality"]
    assert distance.tone == "attention"
    page = audit_page(result)
    assert page.verdicts[-1] is distance
    assert page.sections[-1].anchor == "quality"
    stored = json.loads(json.dumps(result.as_json()))
    assert [found["name"] for found in stored["findings"]["quality"]] == [distance.name, shares.name]
    assert stored["quality_not_measured"] is None
    path = write_page(page, tmp_path / "report.html")
    assert shares.title in path.read_text()
    with chromium() as browser:
        check_page(browser, path)


@pytest.fixture(scope="module")
def many_classes():
    """25 labels of one direction each; samples that are the training data."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(500) % 25
    rows = torch.randn(500, 25, generator=generator) + 12.0 * torch.nn.functional.one_hot(labels, 25)
    subject = Subject(
        ExactDenoiser(Gaussian.fit([rows]), VE()),
        rows[:250],
        rows[250:],
        train_labels=labels[:250],
        heldout_labels=labels[250:],
    )
    measured = judge(subject.train, subject, QUICK).measured
    assert measured is not None
    return measured


def test_more_labels_than_bars_can_tell_apart_are_told_in_words(many_classes):
    *_, told = quality_section(many_classes).blocks
    assert isinstance(told, str)
    assert "25 labels are not drawn" in told


def test_the_intervals_of_the_figure_are_inside_it(many_classes, monkeypatch):
    """A recited ratio that is farther than the samples'."""
    found = many_classes.fidelity
    far = dataclasses.replace(found, recited=dataclasses.replace(found.samples, value=5 * found.real))
    drawn = []
    monkeypatch.setattr(
        "diffuscope.audit.quality_section.figure_svg", lambda drawing: drawn.append(drawing) or "<svg/>"
    )
    quality_section(dataclasses.replace(many_classes, fidelity=far))
    low, high = drawn[0].axes[0].get_xlim()
    for interval in (far.interval, far.recited_interval):
        assert low <= interval[0]
        assert interval[1] <= high


def test_the_first_screen_carries_the_four_verdicts_and_the_sections_their_numbers(copying):
    page = audit_page(copying)
    assert page.headline.startswith("Copies training examples")
    assert [section.anchor for section in page.sections] == ["learned", "loss", "memorized", "steps"]
    assert len(page.verdicts) == 4
    html = render(page)
    assert "The quality of the samples was not measured: the training and unseen data have no labels" in html
    assert "no labels" in str(copying.as_json()["quality_not_measured"])
    for group in copying.findings.values():
        for finding in group:
            assert finding.title in html.replace("&#39;", "'").replace("&gt;", ">")
    # nine figures and a gallery, none of them fetched
    assert html.count("<svg class") + html.count('<svg role="img"') >= 9
    assert not re.search(r'(src|href)="https?:', html)


def test_the_report_with_diagnostics_passes_every_check_of_a_browser(tmp_path):
    """A network with random weights on digits: curl, equation, entropies, in their figures and table."""
    x = digits(3)
    denoiser = Preconditioned(
        MLP((1, 8, 8), width=32, depth=1), VE(0.01, 20.0), 0.75, event_shape=(1, 8, 8), data_range=(-1.0, 1.0)
    )
    torch.nn.init.normal_(list(denoiser.parameters())[-2], std=0.05, generator=torch.Generator().manual_seed(2))
    settings = dataclasses.replace(QUICK, levels=5, points=40, generated=40, diagnostics=True)
    result = audit(Subject(denoiser.eval(), x[:200], x[200:400]), settings)
    path = write_page(audit_page(result), tmp_path / "report.html")
    with chromium() as browser:
        check_page(browser, path)


def test_names_are_escaped(copying):
    subject = Subject(
        copying.subject.denoiser, copying.subject.train, copying.subject.heldout, "<script>x</script>", "<b>data</b>"
    )
    renamed = type(copying)(**{**{f: getattr(copying, f) for f in copying.__dataclass_fields__}, "subject": subject})
    html = render(audit_page(renamed))
    assert "<script>x" not in html
    assert "<b>data" not in html


def test_data_that_are_not_images_get_a_report_without_pictures(tmp_path):
    rows = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    result = audit(exact_subject(Gaussian.fit([rows[200:]]), rows[:100], rows[100:200]), QUICK)
    html = write_page(audit_page(result), tmp_path / "report.html").read_text()
    assert "data:image/png" not in html

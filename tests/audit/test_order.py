"""In what order a model decides: exact models have a known order, and what cannot be told is not told."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from audit_subjects import QUICK, asked, digits, exact_subject
from diffuscope.audit import Answer, Session, Subject, audit_model
from diffuscope.audit.component_levels import COMPONENTS, ComponentLevels
from diffuscope.audit.originals import Originals
from diffuscope.audit.questions.order import QUESTION, findings
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import rank_correlation
from diffuscope.schedules import VE, VP

SETTINGS = dataclasses.replace(QUICK, levels=12, trajectories=64, generated=64, components=1)


@pytest.fixture(scope="module")
def images():
    return digits(3)


def answer_for(subject, settings=SETTINGS, **answers):
    session = Session(subject, settings)
    session.answers |= answers
    answer = QUESTION.ask(session)
    assert answer is not None
    return answer


def named(answer):
    return {finding.name: finding for finding in answer.findings}


@pytest.mark.parametrize("schedule", [VE(), VP()], ids=["VE", "VP"])
def test_a_gaussian_model_decides_in_the_order_of_its_variances_at_their_square_roots(images, schedule):
    """Its own Gaussian: the level of every component within Heun's error, as many dimensions as the closed form."""
    train = images[:600]
    gaussian = Gaussian.fit([train])
    subject = Subject(ExactDenoiser(gaussian, schedule), train, images[600:900])
    answer = answer_for(subject)
    found, result = named(answer), answer.result
    assert found["order.components"].value == pytest.approx(1)
    assert found["order.components"].verdict.startswith("Outline first")
    roots = (gaussian.eigenvalues[:COMPONENTS] + 2 * result.ratios[-1] ** 2).sqrt().numpy()
    assert np.allclose(result.gaussian_levels, roots, rtol=1e-12, atol=0)
    # Heun's method on 22 steps of a factor 1.44 in sigma: its error of second order is a few percent of a level
    assert np.allclose(result.levels, roots, rtol=0.06, atol=0)
    assert found["order.late"].tone == "neutral"
    dimension, null = found["order.dimension"].value, found["order.dimension"].null
    assert dimension == pytest.approx(float(null.split()[0]), abs=0.15)
    # the whole of it may be left to the closed form, and everything is decided by then
    assert result.skip == pytest.approx(float(result.ratios[-1]))
    assert f"{COMPONENTS} of {COMPONENTS} components are decided" in found["order.jump"].verdict


def test_a_model_that_says_too_little_at_high_noise_is_late(images):
    """The answers of a Gaussian, halved above sigma = 0.3: F is halved there, and the crossing is at u = F^-2 - 1."""
    train = images[:600]
    gaussian = Gaussian.fit([train])

    class Timid:
        schedule = VE()

        def __call__(self, x_t, t):
            exact, mean = gaussian.denoise(x_t, 1.0, float(t)), gaussian.mean.to(x_t)
            return mean + (exact - mean) * (0.5 if float(t) > 0.3 else 1.0)

    late = named(answer_for(Subject(Timid(), train, images[600:900])))["order.late"]
    assert late.tone == "attention"
    assert late.value < 0.8
    assert late.verdict.startswith("Components 1, ")


def test_components_that_no_audited_level_separates_have_no_order(images):
    """The mean above sigma = 0.8, the answers at sigma = 0.01 below: everything is decided in one step."""
    train = images[:600]
    gaussian = Gaussian.fit([train])

    class AtOnce:
        schedule = VE()

        def __call__(self, x_t, t):
            mean = gaussian.mean.to(x_t).expand_as(x_t)
            return mean if float(t) > 0.8 else gaussian.denoise(x_t, 1.0, 0.01)

    answer = answer_for(Subject(AtOnce(), train, images[600:900]))
    ratios, verdict = answer.result.ratios, named(answer)["order.components"].verdict
    assert verdict.startswith("All at once: its 16 leading principal components are decided between")
    upper, lower = ratios[ratios > 0.8].min(), ratios[ratios <= 0.8].max()
    assert f"{upper:.3g} and {lower:.3g}, so that their order is not seen" in verdict


def test_a_one_step_map_is_no_denoiser(images):
    class OneStep:
        """The same image whatever the level."""

        schedule = VE()

        def __call__(self, x_t, t):
            return 0.5 * x_t / (1 + float(t) ** 2) ** 0.5

    first, *others = answer_for(Subject(OneStep(), images[:600], images[600:900])).findings
    assert first.tone == "unknown"
    found = re.search(r"departs from the mean ([\d.]+) times as far as at the lowest", first.verdict)
    assert found
    assert float(found[1]) > 0.5  # of that of a Gaussian's denoiser a hundredth is left
    assert "magnifies the errors of a predicted noise), or it is a one-step map" in first.verdict
    assert others == []


def test_a_declared_one_step_map_is_asked_nothing_whatever_the_size_of_its_answers(images):
    class Declared(ExactDenoiser):
        """An exact denoiser, which nothing but its word tells from one."""

        one_step = True

    train = images[:600]
    made = Declared(Gaussian.fit([train]), VE())
    (only,) = answer_for(Subject(made, train, images[600:900])).findings
    assert only.tone == "unknown"
    assert only.verdict == "Cannot tell: the model declares that it is a one-step map (one_step = True)."


def test_latents_and_the_plane_have_no_answer(images):
    train, heldout = images[:300], images[300:500]
    gaussian = Gaussian.fit([train])
    subject = exact_subject(gaussian, train, heldout)
    latents = dataclasses.replace(subject, originals=Originals(train=train, heldout=heldout))
    first, *others = answer_for(latents).findings
    assert (first.tone, others) == ("unknown", [])
    assert "latents" in first.verdict
    drawn = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    answer = answer_for(exact_subject(Gaussian.fit([drawn]), drawn[:200], drawn[200:]))
    assert [finding.tone for finding in answer.findings] == ["unknown", "unknown"]
    assert "an order needs 3" in answer.findings[0].verdict
    assert "in 2 dimensions every trajectory lies in a plane" in answer.findings[1].verdict
    few = named(answer_for(subject, dataclasses.replace(SETTINGS, levels=5)))
    assert "5 noise levels are too few, expected 8" in few["order.dimension"].verdict
    assert few["order.dimension"].tone == "unknown"


def test_the_jump_is_that_of_the_question_of_steps(images):
    """No card contradicts another: the level that was measured there is the one that is told here."""
    subject = exact_subject(Gaussian.fit([images[:600]]), images[:600], images[600:900])
    steps = Answer(result=type("Steps", (), {"skip": 1.25})())
    jump = named(answer_for(subject, steps=steps))["order.jump"]
    assert jump.value == 1.25
    assert "Down to σ/α = 1.25" in jump.verdict


@pytest.mark.slow  # the question of steps takes most of the time
def test_the_jump_is_the_one_that_the_question_of_steps_has_measured(images):
    subject = exact_subject(Gaussian.fit([images[:600]]), images[:600], images[600:900])
    with asked("steps", "order"):
        result = audit_model(subject, SETTINGS)
    assert named(result["order"])["order.jump"].value == named(result["steps"])["steps.teleport"].value


def levels_of(squares, ratios, variances, skip=0.0):
    return ComponentLevels(
        ratios=ratios,
        scale=1.0,
        variances=variances,
        squares=squares,
        shares=np.zeros((0, 5)),
        gaussian_shares=np.zeros((0, 5)),
        dimension=3,
        skip=skip,
        tolerance=0.05,
    )


def test_the_interval_of_the_rank_correlation_covers_and_an_order_by_chance_is_not_called_one():
    """Components of one variance and one curve: every order is chance."""
    rng, ratios = np.random.default_rng(0), np.logspace(2, -2, 20)
    share = 1 / (1 + ratios**2)
    sizes = rng.chisquare(1, (40, 1, 6)) * share[None, :, None] * (1 + 0.3 * rng.standard_normal((40, 20, 6))) ** 2
    result = levels_of(sizes, ratios, np.linspace(1.0, 0.9, 6))
    first = findings(result, np.random.default_rng(1))[0]
    assert first.interval is not None
    assert first.interval[0] < 0.5
    assert "Outline first" not in first.verdict
    assert rank_correlation(np.array([3.0, 2.0, 1.0]), np.array([9.0, 4.0, 1.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([9.0, 4.0, 1.0])) == pytest.approx(-1)
    assert math.isnan(float(rank_correlation(np.array([1.0, math.nan, 3.0]), np.array([9.0, 4.0, 1.0]))))


def test_a_jump_that_is_impossible_leaves_nothing_to_the_closed_form():
    ratios = np.logspace(2, -2, 20)
    squares = np.ones((30, 1, 1)) * (1 / (1 + ratios[:, None] ** 2 / np.array([9.0, 4.0, 1.0])))[None]
    found = findings(levels_of(squares, ratios, np.array([9.0, 4.0, 1.0]), skip=100.0), np.random.default_rng(0))
    jump = found[-1]
    assert jump.name == "order.jump"
    assert jump.verdict.startswith("None of these decisions")
    assert levels_of(squares, ratios, np.array([9.0, 4.0, 1.0])).levels == pytest.approx([3.0, 2.0, 1.0], rel=1e-3)

"""Does it reveal who was in its training data? The question, for denoisers whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Session
from diffuscope.audit.attack_scores import PairedLosses
from diffuscope.audit.membership import findings, membership
from diffuscope.audit.nearness import nearness
from diffuscope.audit.questions.membership import QUESTION, paired_losses
from diffuscope.exact import Empirical, Gaussian

SETTINGS = dataclasses.replace(QUICK, points=200, trajectories=8, generated=20)


def asked(distribution, train, heldout, **groups):
    subject = dataclasses.replace(exact_subject(distribution, train, heldout), **groups)
    session = Session(subject, SETTINGS)
    answer = QUESTION.ask(session)
    assert answer is not None
    return session, answer


@pytest.fixture(scope="module")
def data():
    x = digits(3)
    return x[:300], x[300:900], x[900:]


@pytest.fixture(scope="module")
def memorizer(data):
    return asked(Empirical(data[0]), data[0], data[1])


@pytest.fixture(scope="module")
def generalizer(data):
    return asked(Gaussian.fit([data[2]]).truncate(40), data[0], data[1])


def by_name(answer):
    return {found.name: found for found in answer.findings}


def test_the_exact_memorizer_is_found_with_an_area_of_one(memorizer):
    found = by_name(memorizer[1])
    verdict = memorizer[1].findings[0]
    assert verdict.name == "membership.verdict"
    assert verdict.tone == "attention"
    assert verdict.value > 0.99
    assert verdict.interval[0] > 0.95
    assert verdict.p_value < 1e-3
    assert found["membership.true_positives_0_01"].value > 90
    assert found["membership.advantage"].value > 0.9
    assert memorizer[1].result.attacks.memorizer == memorizer[1].result.attacks.each["loss"].area.value


def test_a_model_that_saw_neither_set_gets_no_all_clear(generalizer):
    verdict = generalizer[1].findings[0]
    assert verdict.tone == "good"
    assert "attacks find nothing" in verdict.verdict
    assert "Stronger attacks exist" in verdict.verdict
    assert verdict.interval[0] < 0.5 < verdict.interval[1]
    assert "would have been found with probability 0.95" in verdict.power
    assert "perfect memorizer" in verdict.power


def test_too_few_heldout_examples_for_one_in_a_thousand_are_told(generalizer):
    found = by_name(generalizer[1])["membership.true_positives_0_001"]
    assert found.tone == "unknown"
    assert "at least 1,000 held-out examples" in found.verdict


class NeverCalled:
    def __init__(self, denoiser):
        self.schedule = denoiser.schedule

    def __call__(self, *_):
        raise AssertionError("called")


def asked_again(session, **fields):
    """The question for the same measurements and another subject."""
    again = Session(dataclasses.replace(session.subject, **fields), SETTINGS)
    again.__dict__["measures"] = session.measures
    answer = QUESTION.ask(again)
    assert answer is not None
    return again, answer


def test_the_network_is_not_called_again(generalizer):
    """Its losses are those of the other questions: no stage of its own, no call."""
    session, answer = generalizer
    assert QUESTION.stages(session) == 0
    _, again = asked_again(session, denoiser=NeverCalled(session.subject.denoiser))
    assert str(again.findings) == str(answer.findings)


def test_a_leak_is_found_where_the_share_of_near_samples_passes(data, memorizer):
    """Samples of a Gaussian that knows other digits only pass the DCR share; the memorizer's loss does not."""
    samples = Gaussian.fit([data[2]]).sample(300, generator=torch.Generator().manual_seed(0)).float()
    near = nearness(*(x.flatten(1) for x in (samples, *data[:2])), 0.01, 0)
    assert near.p_value > 0.05
    assert near.interval[0] < 0.5
    assert memorizer[1].findings[0].tone == "attention"


def test_groups_are_the_units_and_those_in_both_sets_are_left_out(memorizer):
    groups = torch.arange(300) // 3, 1000 + torch.arange(600) // 6
    session, answer = asked_again(memorizer[0], train_groups=groups[0], heldout_groups=groups[1])
    result = answer.result.attacks
    drawn = [len(part[index].unique()) for part, index in zip(groups, session.point_indices, strict=True)]
    assert result.unit == "groups"
    assert result.pairs == min(drawn) < 200
    assert result.each["loss"].area.value > 0.99
    assert "training groups" in answer.findings[0].verdict
    _, answer = asked_again(memorizer[0], train_groups=groups[0], heldout_groups=torch.arange(600) // 6)
    assert answer.findings[0].tone == "unknown"
    assert "groups" in answer.findings[0].verdict


def test_points_have_the_groups_of_their_own_places(memorizer):
    session = memorizer[0]
    sets = session.subject.train, session.subject.heldout
    for points, whole, index in zip(session.points[:2], sets, session.point_indices, strict=True):
        assert torch.equal(points, whole[index])


def test_so_few_pairs_that_a_memorizer_would_be_missed_cannot_tell():
    """Two sets alike to the memorizer: the same losses for both, and no area is found."""
    rng = np.random.default_rng(0)
    same = rng.normal(size=(2, 25, 3))
    losses = PairedLosses(same, rng.normal(size=(2, 25, 3, 1)))
    result = membership(losses, losses, losses, 0.01, rng)
    verdict = findings(result, 0.01)[0]
    assert verdict.tone == "unknown"
    assert verdict.verdict.startswith("Cannot tell")


def test_a_difference_between_the_sets_that_the_control_has_too_is_told():
    """Losses lower in one set for every denoiser: attention, and the sentence that the sets differ."""
    rng = np.random.default_rng(1)
    model, easy = rng.normal(size=(2, 300, 3)), rng.normal(size=(2, 300, 3, 1))
    model[0] -= 1
    losses = PairedLosses(model, easy)
    result = membership(losses, losses, losses, 0.01, rng)
    verdict = findings(result, 0.01)[0]
    assert verdict.tone == "attention"
    assert "the two sets differ" in verdict.verdict or result.control < result.joint[result.strongest].area.value


@pytest.mark.slow  # 60 times all attacks
def test_the_smallest_area_found_is_found_in_95_percent_of_runs():
    """Shifted Gaussian losses with that area, the loss attack alone decisive: at least 0.95 less three errors."""
    rng = np.random.default_rng(2)
    none = PairedLosses(rng.normal(size=(2, 100, 1)), rng.normal(size=(2, 100, 1, 1)))
    detectable = membership(none, none, none, 0.05, rng).detectable
    shift = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(detectable)).item() * 2**0.5
    found = 0
    for _ in range(60):
        model = rng.normal(size=(2, 100, 1))
        model[0] -= shift
        losses = PairedLosses(model, rng.normal(size=(2, 100, 1, 1)))
        found += membership(losses, none, none, 0.05, rng).p_value < 0.05
    assert found / 60 >= 0.95 - 3 * (0.95 * 0.05 / 60) ** 0.5


def test_the_points_of_the_audit_are_used_in_pairs(generalizer):
    found = paired_losses(generalizer[0])
    assert found is not None
    losses, unit = found
    assert unit == "examples"
    measures = generalizer[0].measures
    expected = np.log(measures.rows("training.error") + 1e-6 * 64 * measures.scale**2)[:, measures.matter]
    assert np.allclose(losses["model"].model[0], expected)

"""Does it reveal who was in its training data? The question, for denoisers whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401

from audit_subjects import QUICK, digits, exact_subject
from audit_subjects import asked as questions_asked
from diffuscope.audit import Session, audit_model
from diffuscope.audit.attack_scores import PairedLosses
from diffuscope.audit.epsilon import epsilon_lower_bound
from diffuscope.audit.membership import findings, membership
from diffuscope.audit.nearness import nearness
from diffuscope.audit.owner_findings import MOST, audited_owners, chosen, owners_finding
from diffuscope.audit.question import not_answered
from diffuscope.audit.questions.membership import QUESTION, no_canaries, paired_losses
from diffuscope.audit.questions.memorized import QUESTION as MEMORIZED
from diffuscope.data import Canaries, load_data, make_canaries
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.store import Store

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
    near = nearness(samples.flatten(1), data[0].flatten(1), data[1].flatten(1), 0.01, 0)
    assert near.p_value > 0.05
    assert near.interval[0] < 0.5
    assert memorizer[1].findings[0].tone == "attention"


def test_groups_are_the_units_and_none_may_be_in_both_sets(memorizer):
    groups = torch.arange(300) // 3, 1000 + torch.arange(600) // 6
    session, answer = asked_again(memorizer[0], train_groups=groups[0], heldout_groups=groups[1])
    result = answer.result.attacks
    drawn = [len(part[index].unique()) for part, index in zip(groups, session.point_indices, strict=True)]
    assert result.unit == "groups"
    assert result.pairs == min(drawn) < 200
    assert result.each["loss"].area.value > 0.99
    assert "training groups" in answer.findings[0].verdict
    with pytest.raises(InputError, match="heldout_groups"):
        asked_again(memorizer[0], train_groups=groups[0], heldout_groups=torch.arange(600) // 6)


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


def test_canaries_of_the_memorizer_are_in_the_verdict_and_its_scores_are_stored(tmp_path):
    data = load_data("digits").in_range(-1.0, 1.0)
    canaries = make_canaries(data, 200, seed=0)
    train = torch.cat([data.train[:200], canaries.examples[canaries.included]])
    subject = dataclasses.replace(exact_subject(Empirical(train), train, data.heldout[:200]), canaries=canaries)
    settings = dataclasses.replace(SETTINGS, levels=6, points=40)
    store = Store(tmp_path, {})
    answer = QUESTION.ask(Session(subject, settings, store=store))
    assert answer is not None
    assert answer.findings[-1].name == "membership.epsilon"
    assert answer.findings[-1].value > 2
    assert answer.findings[0].verdict.startswith("With probability 95% over the coins")
    assert answer.result.epsilon.canaries == 200
    stored = np.load(next((tmp_path / "state").glob("*/canaries-*.npz")))["scores"]
    assert epsilon_lower_bound(stored, canaries.included.numpy(), delta=1e-5) == answer.result.epsilon


def test_canaries_among_the_training_examples_are_left_out_of_the_attacks(memorizer, generalizer):
    """They look like no held-out example, for every model; 50 of the 300 training examples stand for canaries."""
    for session, answer in (memorizer, generalizer):
        train = session.subject.train
        canaries = Canaries(train[:50].clone(), torch.arange(50) >= 0, (-1.0, 1.0))
        again = Session(dataclasses.replace(session.subject, canaries=canaries), SETTINGS)
        again.__dict__["measures"] = session.measures
        kept = no_canaries(again)
        assert (kept == (again.point_indices[0].numpy() >= 50)).all()
        found = paired_losses(again)
        assert found is not None
        assert found[0]["model"].pairs == kept.sum() < answer.result.attacks.pairs


def test_owners_whose_examples_were_trained_on_are_named(data):
    """Owner 3's examples are in the model's training set; owner 5's are not; owner 7 has kept none back."""
    train, heldout, others = data
    mixed = torch.cat([train[:60], others[:60], train[60:80]])
    owners = torch.tensor([3] * 60 + [5] * 60 + [7] * 20), torch.tensor([3] * 300 + [5] * 300)
    subject = dataclasses.replace(
        exact_subject(Empirical(train), mixed, heldout), train_owners=owners[0], heldout_owners=owners[1]
    )
    session = Session(subject, dataclasses.replace(SETTINGS, levels=8, points=40))
    assert QUESTION.stages(session) == 1
    tests = audited_owners(session)
    assert tests is not None
    found = {test.owner: test for test in tests}
    assert set(found) == {3, 5, 7}
    assert found[3].corrected < 0.01
    assert (found[3].published, found[3].unpublished) == (60, 200)
    assert found[5].corrected > 0.05
    assert np.isnan(found[7].p_value)
    finding = owners_finding(tests, 0.01)
    assert (finding.value, finding.tone) == (1, "attention")
    assert "1 of 2 owners" in finding.verdict
    assert "3 (p = " in finding.verdict
    apart = Session(dataclasses.replace(subject, heldout_owners=owners[1] + 100), session.settings)
    apart.__dict__["measures"] = session.measures
    untested = audited_owners(apart)
    assert untested is not None
    assert owners_finding(untested, 0.01).tone == "unknown"


def test_of_every_owner_at_most_so_many_examples_are_chosen():
    owners, others = torch.arange(1000) % 3, torch.tensor([0, 2])
    index = chosen(owners, others, torch.Generator().manual_seed(0))
    assert owners[index].bincount().tolist() == [MOST, 0, MOST]
    assert len(index.unique()) == len(index)


def test_near_copies_among_the_heldout_examples_give_no_all_clear(data, monkeypatch):
    """That a model treats training examples and near-copies of them alike says nothing about strangers."""
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 10)
    train, _, others = data
    noise = 0.02 * torch.randn(train.shape, generator=torch.Generator().manual_seed(0))
    with questions_asked("memorized", "membership"):
        subject = exact_subject(Gaussian.fit([others]).truncate(40), train, train + noise)
        audit = audit_model(subject, dataclasses.replace(SETTINGS, points=100, transformations=("none",)))
    assert audit.as_json()["heldout_are_copies"] == {"pixels": True}
    found = audit["membership"].findings
    assert found[0].verdict.startswith("Cannot tell: the held-out examples are near-copies of training examples.")
    assert "good" not in [finding.tone for finding in found]


def test_without_the_search_for_near_copies_there_is_no_all_clear(generalizer):
    """Broken samples leave the question of memorization open, and with it what held-out examples are."""
    session, before = generalizer
    assert before.findings[0].tone == "good"
    again = Session(session.subject, session.settings, store=session.store)
    again.answers["memorized"] = not_answered(MEMORIZED, frozenset({"samples"}))
    after = QUESTION.ask(again)
    assert after is not None
    assert "good" not in [finding.tone for finding in after.findings]
    assert "whether held-out examples are near-copies of training examples was not asked" in after.findings[0].verdict


def test_training_examples_among_the_heldout_ones_give_no_all_clear(data, monkeypatch):
    """Half of the held-out examples; then all of them, which is a mistake."""
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 10)
    train, heldout, others = data
    settings = dataclasses.replace(SETTINGS, points=100, transformations=("none",))
    model = Gaussian.fit([others]).truncate(40)
    with questions_asked("memorized", "membership"):
        audit = audit_model(exact_subject(model, train, torch.cat([train[:150], heldout[:150]])), settings)
        with pytest.raises(InputError, match=r"^heldout: expected examples that are no training examples, got 300"):
            audit_model(exact_subject(model, train, train.clone()), settings)
    assert audit.as_json()["heldout_are_copies"] == {"pixels": True}
    told = audit["memorized"].findings[0].verdict
    assert told == "Cannot tell whether it memorized: 150 of 300 held-out examples repeat training ones."
    assert "good" not in [finding.tone for finding in audit["membership"].findings]


def test_too_few_points_are_said_to_be_too_few(data):
    """Without groups nobody is told of groups."""
    train, heldout, _ = data
    session = Session(exact_subject(Gaussian.fit([train]), train, heldout), dataclasses.replace(SETTINGS, points=16))
    answer = QUESTION.ask(session)
    assert answer is not None
    said = "at least 20 different examples of either set are needed, of 16 points."
    assert answer.findings[0].verdict == f"Cannot tell whether it reveals its training data: {said}"

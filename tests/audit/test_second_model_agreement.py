"""Two models of disjoint examples: memorizers disagree, Gaussians agree, and what else could look so is found out."""

import dataclasses

import numpy as np
import pytest
import torch
from made_by_hand import finding

from audit_subjects import QUICK, digits
from diffuscope.audit import Answer, Session, Subject
from diffuscope.audit.agreement import Agreement, half_square, nearest_cosines, unit
from diffuscope.audit.questions.agreement import QUESTION
from diffuscope.audit.second_model import SecondModel
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP

SETTINGS = dataclasses.replace(QUICK, levels=6, points=100, trajectories=32, generated=32, components=1)
IMAGES = digits(3)
FIRST, OTHER, HELDOUT = IMAGES[:400], IMAGES[400:800], IMAGES[800:1000]


def exact(distribution, schedule=None):
    return ExactDenoiser(distribution, VE() if schedule is None else schedule)


@pytest.fixture(scope="module")
def sessions():
    """One session for each first model: what does not depend on the second is measured once."""
    models = {"memorizer": exact(Empirical(FIRST)), "gaussian": exact(Gaussian.fit([FIRST]))}
    return {name: Session(Subject(model, FIRST, HELDOUT), SETTINGS) for name, model in models.items()}


def answer(session, second, data=None):
    session.second = SecondModel(second, data)
    given = QUESTION.ask(session)
    assert given is not None
    return given


def test_two_memorizers_disagree_as_two_memorizers_do_and_their_samples_are_examples(sessions):
    given = answer(sessions["memorizer"], exact(Empirical(OTHER)), OTHER)
    first = given.findings[0]
    assert first.verdict.startswith("The first model memorizes")
    assert first.tone == "attention"
    # the null hypothesis is these two models themselves
    assert first.value == 0
    assert first.interval == (0, 0)
    u = given.result.copying
    assert u == pytest.approx((1, 1, 1), abs=1e-6)
    assert given.facts["agreement"]["second_training_examples_shared"] == 0  # pyright: ignore[reportIndexIssue]


def test_gaussians_of_two_halves_agree_which_is_praise_only_with_known_data(sessions):
    second = exact(Gaussian.fit([OTHER]))
    known = answer(sessions["gaussian"], second, OTHER).findings[0]
    assert known.tone == "good"
    assert known.verdict.startswith("Both generalize")
    assert known.interval is not None
    assert known.interval[0] > 0.9
    unknown = answer(sessions["gaussian"], second).findings[0]
    assert unknown.tone == "neutral"
    assert "--second-data" in unknown.verdict
    assert "in place of the second" in unknown.null


def test_another_schedule_is_translated(sessions):
    """The Gaussian of the other half under VP: the same agreement, up to single precision."""
    one, other = (
        answer(sessions["gaussian"], exact(Gaussian.fit([OTHER]), schedule), OTHER).result.agreement.agree
        for schedule in (VE(), VP())
    )
    assert np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("schedule", [VE(), VP()], ids=["bit for bit", "translated"])
def test_the_same_model_twice_says_nothing(sessions, schedule):
    first = answer(sessions["gaussian"], exact(Gaussian.fit([FIRST]), schedule)).findings[0]
    assert first.tone == "unknown"
    assert "the same model" in first.verdict


def test_a_second_model_that_knows_the_first_ones_examples_is_found_out(sessions):
    """Of all examples: it denoises the first one's better than held-out ones, whatever its data are said to be."""
    both = exact(Empirical(torch.cat([FIRST, OTHER])))
    for data in (None, OTHER):
        first = answer(sessions["memorizer"], both, data).findings[0]
        assert first.tone == "unknown"
        assert "as if it had been trained on them too" in first.verdict


def test_data_that_overlap_are_not_disjoint(sessions):
    overlapping = torch.cat([OTHER, FIRST[:40]])
    given = answer(sessions["gaussian"], exact(Gaussian.fit([overlapping])), overlapping)
    assert given.findings[0].tone == "unknown"
    assert "40 of the second model's 440 training examples are the first one's too" in given.findings[0].verdict


def test_data_that_overlap_up_to_rounding_are_not_disjoint(sessions):
    repeated = torch.cat([OTHER[:360], FIRST[:40] * (1 + 1e-6)])
    first = answer(sessions["gaussian"], exact(Gaussian.fit([repeated])), repeated).findings[0]
    assert first.tone == "unknown"
    assert "10.0% of the second model's training examples are the first one's up to rounding" in first.verdict


def test_heldout_examples_that_the_second_model_knows_show_nothing(sessions):
    """A model of training and held-out examples denoises both alike."""
    data = torch.cat([OTHER, HELDOUT[:10]])
    first = answer(sessions["gaussian"], exact(Gaussian.fit([data])), data).findings[0]
    assert first.tone == "unknown"
    assert "10 held-out examples are training examples of the second model" in first.verdict


def test_a_copy_that_was_changed_a_little_is_not_independent():
    """A thousandth of the way to the mean, of a model without a trace of its examples."""
    model = exact(Gaussian.fit([IMAGES[1000:]]))

    class Changed:
        schedule, event_shape = model.schedule, (1, 8, 8)

        def __call__(self, x_t, t):
            return model(x_t, t) + 1e-3 * (IMAGES.mean(0) - model(x_t, t))

    first = answer(Session(Subject(model, FIRST, HELDOUT), SETTINGS), Changed(), OTHER).findings[0]
    assert first.tone == "unknown"
    assert "as if one model were made from the other" in first.verdict


def test_formulas_that_agree_have_learned_little():
    """Mean and deviation of either half, a model that every data set has."""
    one, other = (
        exact(GaussianMixture.isotropic(torch.ones(1), half.mean(0)[None], half.var()[None]))
        for half in (FIRST.double(), OTHER.double())
    )
    first = answer(Session(Subject(one, FIRST, HELDOUT), SETTINGS), other, OTHER).findings[0]
    assert first.tone == "unknown"
    assert "they agree, but the first model has learned little" in first.verdict


def test_a_model_of_other_data_is_no_second_model(sessions):
    first = answer(sessions["gaussian"], exact(Gaussian.fit([-OTHER]))).findings[0]
    assert first.tone == "unknown"
    assert "does not denoise these data" in first.verdict


def test_levels_that_decide_samples_must_be_shared(sessions):
    first, *others = answer(sessions["gaussian"], exact(Gaussian.fit([OTHER]), VE(0.5, 80.0))).findings
    assert first.tone == "unknown"
    assert "the second model covers σ/α = 0.5 to 80" in first.verdict
    assert others == []


def test_no_praise_for_a_model_whose_samples_are_copies(sessions):
    session = sessions["gaussian"]
    alarm = finding(tone="alarm")
    facts: dict[str, object] = {"heldout_are_copies": {"pixels": False}}
    session.answers["memorized"] = Answer(findings=[alarm], facts=facts)
    assert answer(session, exact(Gaussian.fit([OTHER])), OTHER).findings[0].tone == "attention"
    session.answers["memorized"] = Answer(findings=[dataclasses.replace(alarm, tone="attention")], facts=facts)
    leaning = answer(session, exact(Gaussian.fit([OTHER])), OTHER).findings[0]
    assert leaning.tone == "neutral"
    assert "not free of its training data" in leaning.verdict
    good = dataclasses.replace(alarm, tone="good")
    session.answers["memorized"] = Answer(findings=[good], facts={"heldout_are_copies": {"pixels": True}})
    assert answer(session, exact(Gaussian.fit([OTHER])), OTHER).findings[0].tone == "unknown"
    del session.answers["memorized"]


def test_without_a_second_model_it_is_not_asked(sessions):
    session = Session(sessions["gaussian"].subject, SETTINGS)
    assert QUESTION.ask(session) is None
    assert QUESTION.stages(session) == 0


def test_models_that_answer_the_means_of_n_examples_average_n_targets_at_high_noise(monkeypatch):
    """R at the highest level is |m_A - m_B|^2 / 2 over tr Sigma, in closed form, and its mean over halves is 1 / n."""

    class Mean:
        schedule = VE()

        def __init__(self, data):
            self.mean = data.mean(0)

        def __call__(self, x_t, t):
            del t
            return self.mean.expand_as(x_t)

    monkeypatch.setattr("diffuscope.audit.agreement.SPLIT_POINTS", 60)  # of 100
    session = Session(Subject(Mean(FIRST), FIRST, HELDOUT), dataclasses.replace(SETTINGS, levels=4))
    result = answer(session, Mean(OTHER), OTHER).result.agreement
    total = float(FIRST.double().flatten(1).var(0, unbiased=False).sum())
    expected = float(half_square(FIRST.mean(0)[None], OTHER.mean(0)[None])) / total
    value = result.curves(np.random.default_rng(0))["held-out examples"].value[0, 0]
    assert value == pytest.approx(expected, rel=2e-3)  # of the highest level, 100 standard deviations of the data
    # one pair of means of some 20 effective dimensions: a chi-squared within a factor of two
    assert 0.5 < value * len(FIRST) < 2


def test_the_nearest_example_has_the_largest_cosine():
    rng = torch.Generator().manual_seed(0)
    x, y, mean = (torch.randn(n, 5, generator=rng) for n in (30, 40, 1))
    one, two = unit(x, mean[0]), unit(y, mean[0])
    assert np.allclose(nearest_cosines(one, two), (one @ two.T).amax(1).numpy(), atol=1e-12)
    assert not unit(mean, mean[0]).any()


def handmade(cosines, memorizers=0.0):
    n = len(cosines)
    return Agreement(
        ratios=np.ones(1), scale=1.0, matter=np.ones(1, bool), cosines=cosines, memorizers=np.full(n, memorizers),
        nearest=np.full(n, 0.8), second_nearest=np.full(n, 0.8), heldout_nearest=np.full(n, 0.6),
        path=np.ones((n, 1, 3)), heldout=np.ones((n, 1, 2)),
    )  # fmt: skip


def test_positions_are_between_the_references():
    result = handmade(np.full((40, 40), 0.7), memorizers=0.4)
    rng = np.random.default_rng(0)
    assert result.agreement(rng) == pytest.approx((0.5, 0.5, 0.5))  # half way from 0.4 to 1
    assert result.copying(rng) == pytest.approx((0.5, 0.5, 0.5))  # half way from 0.6 to 1


def test_where_the_references_are_one_there_is_no_position():
    result = handmade(np.full((40, 40), 0.7), memorizers=1.0)
    assert np.isnan(result.agreement(np.random.default_rng(0))).all()


def test_the_p_value_is_uniform_where_starts_do_not_matter_and_least_where_they_decide():
    """Of 40 pairs with random cosines the p-values of 60 draws have mean 1/2 within four standard errors, 0.15."""
    rng = np.random.default_rng(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.agreement.PERMUTATIONS", 199)
        values = [handmade(rng.normal(size=(40, 40))).p_value(rng) for _ in range(60)]
        assert abs(np.mean(values) - 0.5) < 4 * (1 / 12 / 60) ** 0.5
        assert handmade(rng.normal(size=(40, 40)) + 5 * np.eye(40)).p_value(rng) == 1 / 200

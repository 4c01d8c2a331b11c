"""One class of a model: the best other class, labels of samples, and copies of other classes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import Constant, made
from results_of_samples import copies, equal, fit

from diffuscope.audit import class_copies, class_samples
from diffuscope.audit.class_data import ClassData, OneClass
from diffuscope.audit.class_fit import compared, fit_finding, fitted
from diffuscope.audit.class_null import _finding as unconditional
from diffuscope.audit.class_null import unconditional_finding
from diffuscope.audit.classifier import ClassifierFeatures
from diffuscope.audit.exact_matches import exact_matches
from diffuscope.audit.measure import at_least
from diffuscope.audit.session import Session
from diffuscope.audit.subject import Settings, Subject
from numbers_in_tests import rng

# which class denoises best


def subject(denoiser, n=30, scale=2.0):
    """All examples are at the origin of the plane."""
    return made(Subject, denoiser=denoiser, train=torch.zeros(n, 2), scale=scale)


@pytest.mark.parametrize(("n", "searched", "rest"), [(30, 10, 20), (281, 16, 256)])
def test_the_best_other_class_is_found_on_some_examples_and_compared_on_the_others(n, searched, rest):
    model = Constant([3.0, 1.0, 2.0])
    found = compared(model, 0, subject(model, n), torch.Generator().manual_seed(0))
    assert {(y, size) for y, size, _ in model.asked} == {(1, searched), (2, searched), (0, rest), (1, rest)}
    times = [t for y, _, t in model.asked if y == 2]
    assert times == pytest.approx([20.0, 20 ** (3 / 4), 20**0.5, 20**0.25, 1.0], rel=1e-6)  # 10 to 1/2 deviations
    made_fit = fitted(found)
    assert (made_fit.label, made_fit.other, made_fit.classes, made_fit.tried) == (0, 1, 3, 2)
    assert made_fit.own.tolist() == [[18.0] * rest] * 5  # 2 * 3^2
    assert made_fit.best.tolist() == [[2.0] * rest] * 5
    squares = np.array(times) ** 2
    assert made_fit.formula == pytest.approx(2 * 4 * squares / (squares + 4), rel=1e-6)
    assert made_fit.differs == pytest.approx(2.0 / 2)  # |3 - 1| along every axis, in deviations
    assert made_fit.differences[:, 0] == pytest.approx([8.0] * rest)
    assert made_fit.ratio == pytest.approx(9.0)


def test_the_best_class_has_the_least_geometric_mean_of_errors_over_levels():
    """Squares 2 and 2 against 8 at four levels and 0.0002 at the lowest: the mean of logarithms is less."""
    model = Constant([3.0, 1.0, 2.0], low=[3.0, 1.0, 0.01])
    assert fitted(compared(model, 0, subject(model), torch.Generator().manual_seed(0))).other == 2
    model = Constant([3.0, 1.0, 2.0], low=[3.0, 1.0, 0.1])  # 4 log 4 > log 100
    assert fitted(compared(model, 0, subject(model), torch.Generator().manual_seed(0))).other == 1


def test_the_model_asked_of_no_class_is_one_of_the_others_where_it_answers():
    model = Constant([3.0, 2.0], none=1.0)
    found = fitted(compared(model, 0, subject(model), torch.Generator().manual_seed(0)))
    assert (found.other, found.tried, found.name) == (2, 2, "no class")
    none = fitted(compared(model, 2, subject(model), torch.Generator().manual_seed(0)))
    assert (none.label, none.other, none.tried, none.ratio) == (2, 1, 2, pytest.approx(1 / 4))
    one = Constant([3.0])
    assert compared(one, 0, subject(one), torch.Generator().manual_seed(0))["tried"] == 0


@pytest.mark.parametrize(("none", "tone"), [(1.0, "good"), (3.0, "alarm")])
def test_guidance_away_from_a_model_that_is_not_of_all_data_is_found(none, tone):
    """Examples at -2 and 2 along both axes: an answer c has the mean error c^2 + 4 along each, that of class 1 is 8."""
    model, x = Constant([4.0, 2.0], none=none), torch.tensor([[-2.0, -2.0], [2.0, 2.0]]).repeat(100, 1)
    found = unconditional_finding(Subject(model, x, x), made(ClassData, denoiser=model), Settings())
    assert found.tone == tone
    assert found.value == pytest.approx((none**2 + 4) / 8, rel=0.2)  # 184 of 200 examples, a few more of one kind


def levels_that_cancel(**changes):
    """Errors twice and half as large at two levels: their geometric mean is 1, and d is (1 - 1/2) / 2."""
    parts = fit(1.0).__dict__ | {"own": np.stack([np.full(64, 1.0), np.full(64, 0.25)])} | changes
    return made(type(fit()), **parts)


def test_equal_errors_in_the_mean_of_logarithms_are_no_proof_of_the_class():
    tied = levels_that_cancel()
    assert tied.ratio == 1.0
    assert tied.differences[:, 0].tolist() == [0.25] * 64
    assert fit_finding(tied, 0.01, rng()).tone == "attention"
    assert unconditional(tied, 0.01, rng()).tone == "attention"


def test_ratios_and_p_values_at_their_limits_are_within_them():
    """The least p-value of 9,999 permutations is 0.0001."""
    least = 1e-4
    assert fit(1.05, best=1.0).ratio == 1.05
    for judged in (fit_finding, unconditional):
        assert judged(fit(1.05, best=1.0 if judged is unconditional else 0.5), 0.01, rng()).tone == "alarm"
        assert judged(fit(1.3), least, rng()).tone == "unknown"
        assert judged(fit(1.3), 1.01 * least, rng()).tone == "alarm"
        assert judged(fit(0.5), least, rng()).tone == "unknown"
        assert judged(fit(0.5), 1.01 * least, rng()).tone == "good"
    assert fit_finding(fit(0.5, differs=0.001), 0.01, rng()).tone == "good"
    one = made(type(fit()), **fit(0.5).__dict__ | {"tried": 1})
    assert "better than any of the others: " in fit_finding(one, 0.01, rng()).verdict
    two = made(type(fit()), **fit(0.5).__dict__ | {"tried": 2})
    assert "better than any of the 2 others: " in fit_finding(two, 0.01, rng()).verdict


@pytest.mark.parametrize(("best", "denoises"), [(1.25, False), (1.2499, True)])
def test_a_class_with_five_quarters_of_the_error_of_a_formula_does_not_denoise(best, denoises):
    parts = fit().__dict__ | {"best": np.full((2, 4), best), "formula": np.ones(2)}
    assert made(type(fit()), **parts).denoises == denoises


def test_a_class_has_its_share_of_the_level_and_the_places_of_the_others():
    data = made(ClassData, train_labels=torch.tensor([1, 0, 2, 1, 0]), asked=(0, 1, 2, 5))
    assert OneClass(data, 1).level == 0.25
    assert OneClass(data, 1).places.tolist() == [1, 2, 4]
    assert OneClass(made(ClassData, asked=()), 1).level == 1.0


@pytest.mark.parametrize(("accuracy", "kept"), [(0.61, True), (0.6, False)])
def test_a_classifier_that_is_no_better_than_the_commonest_label_is_none(accuracy, kept, monkeypatch):
    found = made(ClassifierFeatures, accuracy=accuracy)
    monkeypatch.setattr("diffuscope.audit.class_data.fit_classifier", lambda *_: found)
    labels = torch.tensor([0, 0, 0, 1, 1])
    data = made(ClassData, train=labels, heldout=labels, train_labels=labels, heldout_labels=labels)
    assert (data.classifier is found) == kept


# labels of samples


def labeled(samples, heldout, significance=0.01, y=1):
    """A classifier that reads the labels."""
    classifier = SimpleNamespace(label=lambda x: x, accuracy=0.875)
    data = made(ClassData, classifier=classifier, asked=(y,))
    session = made(
        Session,
        subject=SimpleNamespace(of_class=OneClass(data, y), heldout=torch.tensor(heldout)),
        settings=SimpleNamespace(significance=significance), samples=torch.tensor(samples),
        progress=SimpleNamespace(set_postfix_str=lambda _: None),
    )  # fmt: skip
    return class_samples._ask(session)


def test_samples_of_another_label_are_an_alarm_if_they_are_most():
    answer = labeled([2] * 60 + [1] * 40, [1] * 95 + [0] * 5)
    (found,) = answer.findings
    assert (found.tone, found.value, answer.broken) == ("alarm", 60.0, {"samples"})
    assert found.verdict == (
        "60 of 100 samples do not have label 1, and 5 of 100 held-out examples of it do not; most have label 2."
    )
    assert found.p_value == pytest.approx(at_least(60, 5, 100, 100))
    assert answer.blocks[0].rows == [["2", 60, 0], ["1", 40, 95]]  # pyright: ignore[reportAttributeAccessIssue]
    assert found.power.endswith("the classifier predicts 87.5% of all held-out labels.")
    half = labeled([2] * 50 + [1] * 50, [1] * 100).findings[0]
    assert (half.tone, half.verdict[-2:]) == ("attention", "t.")
    scattered = labeled([2] * 30 + [3] * 30 + [1] * 40, [1] * 100)
    assert (scattered.findings[0].tone, scattered.broken) == ("attention", frozenset())


def test_the_level_itself_is_not_significant_and_few_heldout_examples_tell_nothing():
    level = at_least(1, 0, 2, 2)  # one half
    assert labeled([2, 1], [1, 1], significance=level).findings[0].tone != "attention"
    assert labeled([2, 1], [1, 1], significance=math.nextafter(level, 1)).findings[0].tone == "attention"
    few = labeled([1] * 9, [1], significance=0.01).findings[0]
    assert (few.tone, few.power[:31]) == ("unknown", "No share of strays would be fou")
    # all 9 strays: 1 / 10 of the choices; at any larger level the last percent is found
    all_of_them = labeled([1] * 9, [1], significance=0.1001).findings[0]
    assert (all_of_them.tone, all_of_them.power[:4]) == ("good", "95% ")  # 9 * 0.95 is rounded to 9


def test_twelve_labels_are_shown_the_commonest_first():
    for labels, note in ((12, ""), (13, "The first 12 of 13.")):
        table = labeled([*range(labels), 5, 5], [1] * 9).blocks[0]
        assert (len(table.rows), table.rows[0], table.note) == (12, ["5", 3, 0], note)  # pyright: ignore


# copies of other classes


def other_classes(n, y=1, **changes):
    """Of n examples of other classes, after two of class y: labels 5, 6, 5, 6, ..."""
    labels = torch.cat([torch.full((2,), y), 5 + torch.arange(n) % 2])
    data = made(ClassData, train=torch.arange(n + 2.0), train_labels=labels)
    searched, found = [], copies(**changes)

    def search(space, stream, train):
        searched.append((space, stream, train.tolist()))
        return found

    steps = []
    session = made(
        Session,
        subject=SimpleNamespace(of_class=OneClass(data, y)),
        settings=SimpleNamespace(features=("pixels", "pca"), significance=0.02),
        progress=SimpleNamespace(set_postfix_str=lambda _: None, update=lambda n=1: steps.append(n)), copies=search,
    )  # fmt: skip
    return session, searched, steps


def test_copies_of_other_classes_have_their_places_among_all_examples_and_the_commonest_label():
    session, searched, steps = other_classes(20)
    answer = class_copies._ask(session)
    assert searched == [(space, f"other classes {space}", list(range(2, 22))) for space in ("pixels", "pca")]
    assert sum(steps) == 2
    rows = answer.facts["copies_of_other_classes"]["pixels"]  # pyright: ignore[reportIndexIssue]
    assert rows == [
        {"sample": 4, "training_example": 9, "label": 6}, {"sample": 1, "training_example": 5, "label": 6},
    ]  # fmt: skip
    first = answer.findings[0]
    assert (first.tone, first.value) == ("alarm", pytest.approx(100 / 3))
    assert first.verdict == "Copies training examples of other classes: 2 of 6 samples, most of them of class 6."
    assert [block.rows for block in answer.blocks] == [[[4, 9, 6], [1, 5, 6]]] * 2  # pyright: ignore


def test_nineteen_examples_of_other_classes_are_too_few():
    session, searched, steps = other_classes(19)
    answer = class_copies._ask(session)
    assert (searched, steps) == ([], [2])
    assert answer.method.endswith("there are only 19.")


def test_samples_that_equal_examples_of_other_classes_count_at_half_the_level_of_two_spaces():
    """3 of 6 samples and none of h held-out examples: C(6, 3) / C(6 + h, 3); of 19 it is below 1%, 20 / 2300."""
    for heldout, tone in ((19, "alarm"), (18, "alarm"), (17, "good")):
        answer = class_copies._ask(other_classes(20, **equal(3, heldout))[0])
        first, chance = answer.findings[0], 20 / math.comb(6 + heldout, 3)
        assert (first.tone, chance < 0.01) == (tone, tone == "alarm")
        if tone == "alarm":
            assert (first.p_value, first.value) == (pytest.approx(chance), 50.0)
            assert first.verdict == "Copies training examples of other classes: 3 of 6 samples equal one."
            assert first.interval == pytest.approx((11.8117, 88.1883), abs=1e-3)  # Clopper and Pearson's of 3 of 6
        else:
            assert first.verdict == "None of the 6 samples is a copy of a training example of another class."
        assert answer.blocks == []
    session = other_classes(20)[0]
    exact = copies(**equal(3, 19))
    vars(session.settings)["significance"] = 2 * exact_matches(exact).p_value  # the level itself
    assert class_copies._finding(session, exact, [], "pixels").tone == "good"


def test_twelve_copies_are_shown_and_the_worst_space_comes_first():
    n = 13
    many = {
        "listed": np.ones(n, dtype=bool), "p_values": np.full(n, 0.001), "nearest_training": np.arange(n),
        "nearest_heldout": np.arange(n), "distance": np.ones(n), "next_distance": np.ones(n),
        "transformation": [""] * n,
    }  # fmt: skip
    table = class_copies._ask(other_classes(20, **many)[0]).blocks[0]
    assert (len(table.rows), table.note) == (12, "The first 12 of 13; all are in audit.json.")  # pyright: ignore
    twelve = {name: part[:12] for name, part in many.items()}
    assert class_copies._ask(other_classes(20, **twelve)[0]).blocks[0].note == ""  # pyright: ignore
    session = other_classes(20)[0]
    empty = copies(listed=np.zeros(6, dtype=bool))
    session.__dict__["copies"] = lambda space, *_: copies() if space == "pca" else empty
    assert [found.tone for found in class_copies._ask(session).findings] == ["alarm", "good"]

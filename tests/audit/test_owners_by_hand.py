"""Owners: the statistic of their losses written out fold by fold, what is measured of them, and their cards."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.audit import owner_findings
from diffuscope.audit.attack_scores import FLOOR
from diffuscope.audit.owner_findings import audited_owners, owners_finding, owners_table
from diffuscope.audit.owner_sets import FOLDS, OwnerTest, _statistic, detectable_difference, owner_tests
from diffuscope.report import Table
from numbers_in_tests import rng


def written_out(rows, prior, published, folds):
    """The statistic as it is defined; a fold without examples of one kind adds nothing."""

    def difference(own):
        kinds = rows[own & ~published], rows[own & published]
        return np.zeros(rows.shape[1]) if 0 in map(len, kinds) else kinds[0].mean(0) - kinds[1].mean(0)

    total = 0.0
    for fold in range(5):
        direction = difference(folds != fold) + prior
        total += difference(folds == fold) @ direction / np.linalg.norm(direction) / 5
    return total


def test_the_statistic_is_the_difference_in_each_fold_along_that_of_the_others():
    rows, prior, folds = rng().normal(size=(15, 3)), np.array([0.6, 0.0, 0.8]), np.arange(15) % 5
    labels = np.stack([rng(seed).permutation(np.arange(15) < 6) for seed in range(4)])
    labels = np.concatenate([labels, [folds == 2, folds != 3]])  # a fold of one kind alone, and one without it
    found = _statistic(rows, prior, labels, folds)
    assert found == pytest.approx([written_out(rows, prior, label, folds) for label in labels])
    assert FOLDS == 5


def test_a_direction_of_nothing_adds_nothing():
    """At one level the published losses are larger by 1, which is what the prior is."""
    published = np.arange(20) % 2 == 0
    rows = published.astype(float)[:, None]
    assert _statistic(rows, np.ones(1), published[None], np.arange(20) % 5).tolist() == [0.0]
    assert _statistic(-rows, np.ones(1), published[None], np.arange(20) % 5) == pytest.approx([1.0])


@pytest.mark.parametrize(("n", "m"), [(10, 40), (40, 10), (20, 20)])
def test_the_difference_that_is_found_shrinks_with_both_numbers(n, m):
    expected = (1.6448536 + 2.3263479) * math.sqrt(1 / n + 1 / m)
    assert detectable_difference(n, m, 0.01) == pytest.approx(expected)
    assert detectable_difference(n, m, 0.01, power=0.5) == pytest.approx(2.3263479 * math.sqrt(1 / n + 1 / m))


def test_owners_with_ten_examples_of_either_kind_are_tested():
    losses = rng().normal(size=(39, 2)) - 5, rng(1).normal(size=(41, 2))
    owners = np.repeat([4, 2, 9], [10, 9, 20]), np.repeat([2, 4, 9], [10, 10, 21])
    found = owner_tests(losses, owners, rng(), permutations=19)
    assert [(test.owner, test.published, test.unpublished) for test in found] == [(2, 9, 10), (4, 10, 10), (9, 20, 21)]
    assert [test.p_value for test in found[1:]] == [0.05, 0.05]
    assert [test.corrected for test in found[1:]] == [0.1, 0.1]
    assert math.isnan(found[0].p_value)
    assert math.isnan(found[0].corrected)


class Twice:
    """Answers twice the noised point, which has half of the clean one: the error is twice the noise."""

    def __init__(self):
        self.schedule = SimpleNamespace(alpha=lambda _: 0.5, sigma=lambda t: float(t))

    def __call__(self, x, t):
        return 2 * x + 0 * t


def session(owners, matter=(True, False, True)):
    x = torch.arange(6.0)[:, None].expand(6, 2)
    subject = SimpleNamespace(
        train=x[:4], heldout=x[4:] + 10, denoiser=Twice(), train_owners=owners[0], heldout_owners=owners[1]
    )
    stages = []

    def shared_stage(name, _, compute):
        stages.append(name)
        return compute()

    return SimpleNamespace(
        subject=subject,
        measures=SimpleNamespace(matter=np.array(matter), dimension=2, scale=3.0),
        levels=SimpleNamespace(times=torch.tensor([4.0, 2.0, 1.0]), ratios=torch.tensor([8.0, 4.0, 2.0])),
        shared_stage=shared_stage,
        torch_stream=lambda _: torch.Generator().manual_seed(7),
        numpy_stream=lambda _: rng(),
        stages=stages,
    )


def test_losses_and_difficulties_of_the_owners_examples_are_in_their_places(monkeypatch):
    """Owner 8 has examples on both sides; 3 on one alone, whose number is told and no more."""
    asked = {}

    def difficulty(examples, _, levels, __):
        asked["levels"] = levels.times.tolist()
        return (examples.sum(1)[:, None, None] * torch.tensor([1.0, 2.0])[:, None] + torch.zeros(2)).double()

    def tests(losses, owners, _, *, difficulty):
        asked.update(losses=losses, owners=owners, difficulty=difficulty)
        return [OwnerTest(owner=8, published=3, unpublished=2, p_value=0.5, corrected=0.5)]

    monkeypatch.setattr(owner_findings, "difficulty", difficulty)
    monkeypatch.setattr(owner_findings, "owner_tests", tests)
    made = session((torch.tensor([8, 3, 8, 8]), torch.tensor([8, 8])))
    found = inspect.unwrap(audited_owners)(made)
    assert [(test.owner, test.published, test.unpublished) for test in found] == [(8, 3, 2), (3, 1, 0)]
    assert [math.isnan(test.p_value) for test in found] == [False, True]
    assert asked["levels"] == [4.0, 1.0]
    assert [part.tolist() for part in asked["owners"]] == [[8, 8, 8], [8, 8]]
    assert [part.shape for part in asked["losses"]] == [(3, 2), (2, 2)]
    squares = np.exp(np.concatenate(asked["losses"])) - FLOOR * 2 * 9
    assert squares[:, 0] == pytest.approx(16 * squares[:, 1])  # (2 sigma |noise|)^2
    floor = FLOOR * 18
    easy = np.exp(np.concatenate(asked["difficulty"])) - floor
    sums = sorted(easy[:, 0, 0].round(6).tolist())
    assert sums == pytest.approx([0.0, 4.0, 6.0, 28.0, 30.0], abs=1e-6)  # of examples 0, 2, 3, 14 and 15
    assert easy[3:, 0, 0].min() > 20 > easy[:3, 0, 0].max()
    assert easy[:, 1, 0] == pytest.approx(2 * easy[:, 0, 0], abs=1e-6)
    assert len(made.stages) == 1


@pytest.mark.parametrize("side", [0, 1])
def test_owners_of_one_part_are_none(side):
    owners: list[torch.Tensor | None] = [None, None]
    owners[side] = torch.tensor([1, 1])
    assert inspect.unwrap(audited_owners)(session(owners)) is None


@pytest.mark.parametrize(
    ("owners", "matter"),
    [(([8, 3, 8, 8], [5, 5]), (True, True, True)), (([8, 3, 8, 8], [8, 8]), (False, False, False))],
    ids=["no owner in both", "no level that matters"],
)
def test_without_common_owners_or_levels_nobody_is_tested(owners, matter):
    found = inspect.unwrap(audited_owners)(session(tuple(map(torch.tensor, owners)), matter))
    assert [(test.owner, test.published, test.unpublished) for test in found] == [(3, 1, 0), (8, 3, 0)]
    assert all(math.isnan(test.p_value) and math.isnan(test.corrected) for test in found)


def owner(number, p_value, corrected, published=30, unpublished=40):
    return OwnerTest(
        owner=number, published=published, unpublished=unpublished, p_value=p_value, corrected=corrected
    )  # fmt: skip


def test_owners_below_the_level_are_named_in_order_up_to_five():
    tests = [owner(k, 0.001 * (9 - k), 0.002 * (9 - k)) for k in range(1, 8)]  # corrected 0.016 to 0.004
    found = owners_finding(tests, 0.014)
    assert (found.value, found.tone, found.p_value) == (5.0, "attention", pytest.approx(0.004))
    assert "of 5 of 7 owners" in found.verdict
    assert found.verdict.endswith(
        "7 (p = 0.004), 6 (p = 0.006), 5 (p = 0.008), 4 (p = 0.01), 3 (p = 0.012)."
    )  # fmt: skip
    assert owners_finding(tests, 0.0141).verdict.endswith("3 (p = 0.012) and 1 more.")
    none = owners_finding(tests, 0.004)
    assert (none.value, none.tone) == (0.0, "good")


def test_the_power_is_that_for_the_owner_with_the_fewest_examples_of_both_kinds():
    tests = [owner(1, 0.5, 1.0, 11, 400), owner(2, 0.5, 1.0, 20, 20), owner(3, math.nan, math.nan, 9, 9)]
    found = owners_finding(tests, 0.01)
    assert "(20 and 20)" in found.power  # 1 / (1/20 + 1/20) = 10, and 10.7 of the other
    assert f"{detectable_difference(20, 20, 0.005):.2f} standard deviations" in found.power
    assert owners_finding(tests[2:], 0.01).power == "None."


def test_the_table_of_owners_has_the_untested_ones_last():
    tests = [owner(5, math.nan, math.nan), owner(4, 0.5, 0.9), owner(3, 0.1, 0.3), owner(2, 0.5, 0.9)]
    (table,) = owners_table(tests)
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["3", "2", "4", "5"]
    assert table.rows[0][1:] == [30, 40, 0.1, 0.3]
    assert table.rows[3][1:] == [30, 40, None, None]

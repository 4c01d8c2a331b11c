"""One p-value per owner: uniform under the null, small where published examples were trained on."""

import numpy as np
import pytest
from scipy import stats

from diffuscope.audit.owner_sets import detectable_difference, holm, owner_p_value, owner_tests
from diffuscope.errors import InputError


def rows(shift, n, seed, levels=5):
    """Log losses of heavy tails, correlated over levels, lower by `shift`."""
    rng = np.random.default_rng(seed)
    return rng.standard_t(4, (n, 1)) + 0.5 * rng.standard_t(4, (n, levels)) - shift


@pytest.mark.parametrize(("n", "m"), [(10, 40), (60, 15)])
def test_the_p_value_is_uniform_if_neither_set_was_trained_on(n, m):
    """120 owners of unequal sets: Kolmogorov-Smirnov, and at most 5% and three standard errors below 0.05."""
    p_values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        p_values.append(owner_p_value(rows(0, n, 2 * seed), rows(0, m, 2 * seed + 1), rng, permutations=99))
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert (np.array(p_values) <= 0.05).mean() <= 0.05 + 3 * 0.02


def test_the_p_value_counts_every_arrangement():
    """Two clearly apart sets: the observed value is beaten by itself alone."""
    p_value = owner_p_value(rows(50, 12, 0), rows(0, 12, 1), np.random.default_rng(0), permutations=999)
    assert p_value == pytest.approx(1 / 1000)


def test_a_difference_that_a_test_of_means_would_find_is_found():
    """A shift of twice the detectable difference along one level of independent ones: found in 0.95 of 40 owners."""
    shift = 2 * detectable_difference(60, 60, 0.05)
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        published, unpublished = rng.normal(size=(2, 60, 4))
        published[:, 1] -= shift
        found += owner_p_value(published, unpublished, rng, permutations=199) <= 0.05
    assert found / 40 >= 0.95 - 3 * 0.035


def test_difficulty_takes_out_what_is_easy_in_either_set():
    """Losses explained by difficulty but for a small shift: seen only with the references."""
    rng = np.random.default_rng(3)
    easy = rng.normal(size=(120, 3, 1)) * 10
    losses = easy[..., 0] + 0.3 * rng.normal(size=(120, 3))
    losses[:60] -= 0.3
    sets, known = (losses[:60], losses[60:]), (easy[:60], easy[60:])
    assert owner_p_value(*sets, np.random.default_rng(0), difficulty=known, permutations=199) <= 0.01
    assert owner_p_value(*sets, np.random.default_rng(0), permutations=199) > 0.01


def test_owners_are_tested_apart_and_corrected_after_holm():
    """Of four owners one was trained on; one has no examples of its own that were kept back."""
    train = np.concatenate([rows(2, 40, 1), rows(0, 40, 2), rows(0, 40, 3), rows(3, 40, 4)])
    heldout = np.concatenate([rows(0, 40, 5), rows(0, 40, 6), rows(0, 40, 7)])
    owners = np.repeat([11, 12, 13, 14], 40), np.repeat([11, 12, 13], 40)
    found = owner_tests((train, heldout), owners, np.random.default_rng(0), permutations=499)
    assert [test.owner for test in found] == [11, 12, 13, 14]
    assert found[0].corrected < 0.01
    assert min(found[1].corrected, found[2].corrected) > 0.05
    assert np.isnan([found[3].p_value, found[3].corrected]).all()
    assert found[0].corrected == pytest.approx(3 * found[0].p_value)


def test_holm_keeps_the_family_wise_error():
    """Four owners of the null, 2,000 times: some corrected p-value is below 0.05 in at most 5% and three errors."""
    rng = np.random.default_rng(8)
    below = np.mean([min(holm(dict(enumerate(rng.random(4)))).values()) < 0.05 for _ in range(2000)])
    assert below <= 0.05 + 3 * 0.0049
    assert holm({5: 0.2, 6: 0.9}) == {5: 0.4, 6: 0.9}


def test_too_few_examples_are_refused():
    with pytest.raises(InputError, match="unpublished: expected at least 10 examples, got 9"):
        owner_p_value(rows(0, 30, 0), rows(0, 9, 1), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"losses": (rows(0, 30, 0), rows(0, 20, 1, levels=4))}, "losses: .* equally many levels, got 5 and 4"),
        (
            {"losses": (np.full((30, 5), np.nan), rows(0, 20, 1))},
            "losses: expected finite log losses, got NaN or infinity",
        ),
        ({"owners": (np.zeros(29, dtype=int), np.zeros(20, dtype=int))}, r"owners: .* each example \(30\), got 29"),
        ({"owners": (np.zeros(30, dtype=int), np.zeros(21, dtype=int))}, r"owners: .* each example \(20\), got 21"),
        ({"permutations": 0}, "permutations: expected at least 1, got 0"),
        ({"difficulty": (np.zeros((30, 5, 1)), np.zeros((19, 5, 1)))}, "difficulty: expected finite losses of 20 exam"),
        ({"difficulty": (np.zeros((30, 4, 1)), np.zeros((20, 5, 1)))}, "difficulty: .* of 30 examples at 5 levels"),
        ({"difficulty": (np.zeros((30, 5, 1)), np.full((20, 5, 1), np.nan))}, "difficulty: expected finite losses"),
    ],
)
def test_mistakes_are_one_line(changed, message):
    known = {"losses": (rows(0, 30, 0), rows(0, 20, 1)), "owners": (np.zeros(30, dtype=int), np.zeros(20, dtype=int))}
    arguments = known | changed
    with pytest.raises(InputError, match=message):
        owner_tests(arguments.pop("losses"), arguments.pop("owners"), np.random.default_rng(0), **arguments)

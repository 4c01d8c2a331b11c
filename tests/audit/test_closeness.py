"""The statistic of one query, the repeats of the training set, and what is planted."""

import numpy as np
import pytest
import torch
from scipy import stats

from audit_subjects import digits
from diffuscope.audit.closeness import closeness, neighborhood
from diffuscope.audit.planting import modifications, smallest_share_found
from diffuscope.audit.repeats import distinct, repeats
from diffuscope.findings import false_discovery


def statistic(x, train, radius=0.0):
    train = torch.tensor(train)
    x = torch.tensor(x)
    return closeness(x, train, neighborhood(x, train, 2), radius)


def test_the_statistic_is_that_of_its_definition():
    """On the line through 0 and 1 the position is x, and the squared ratio (x / (1 - x))^2."""
    x = np.array([0.0, 0.1, 0.25, 0.5, -0.2])
    half = (x / (1 - x)) ** 2 / 2
    expected = np.minimum(np.abs(x), half) + half / 2
    expected[0] = -1.0  # it equals 0, whose only other example is at distance 1
    assert np.allclose(statistic(x[:, None], [[0.0], [1.0]]), expected)


def test_the_position_does_not_feel_noise_orthogonal_to_the_neighbors(generator):
    """With noise of norm 1 orthogonal to neighbors at distance 4, the position is 0 and the ratio 1 / 17."""
    train = torch.zeros(6, 40, dtype=torch.float64)
    train[torch.arange(1, 6), torch.arange(5)] = 4.0
    noise = torch.randn(10, 40, dtype=torch.float64, generator=generator)
    noise[:, :5] = 0
    x = noise / noise.norm(dim=1, keepdim=True)
    assert np.allclose(closeness(x, train, neighborhood(x, train), 0.0), 1 / 68)


def test_of_exact_repeats_that_of_the_most_isolated_row_is_lowest():
    """At 0, which occurs three times, the mean over the other rows is (0 + 0 + 1 + 1 + 100) / 5."""
    train = torch.tensor([[0.0], [1.0], [10.0]], dtype=torch.float64)
    times = np.array([3, 2, 1])
    queries = torch.tensor([[0.0], [10.0], [0.5]], dtype=torch.float64)
    found = closeness(queries, train, neighborhood(queries, train, times=times), 0.0, times)
    assert np.allclose(found[:2], [-102 / 5, -462 / 5])
    assert found[2] > 0


def test_what_is_beyond_the_nearest_example_is_no_copy():
    """Its position is far from 0, and the ratio tends to 1."""
    assert statistic([[-50.0]], [[0.0], [1.0]])[0] == pytest.approx(statistic([[0.5]], [[0.0], [1.0]])[0], rel=0.05)


def test_repeats_are_one_example_however_many_there_are():
    train = [[0.0]] * 30 + [[0.05]] * 5 + [[1.0]]
    assert statistic([[0.0]], train, 0.1)[0] == 0
    assert statistic([[0.25]], train, 0.1)[0] == pytest.approx(statistic([[0.25]], [[0.05], [1.0]])[0])
    assert statistic([[0.0]], [[0.0]] * 30)[0] == np.inf  # there is no other example to compare with


def test_repeats_are_those_of_all_pairs_and_do_not_chain(generator):
    assert repeats(np.array([[0.0], [0.9], [1.8]]), 1.0).first.tolist() == [0, 0, 1]
    rows = torch.randn(300, 20, generator=generator)
    rows = torch.cat([rows, rows[:40] + 0.1 * torch.randn(40, 20, generator=generator), rows[:3]])
    near = torch.cdist(rows.double(), rows.double()) <= 0.5
    found = repeats(rows.numpy(), 0.5)
    assert (found.first == near.int().argmax(1).numpy()).all()
    assert found.count > 30
    assert max(map(len, found.groups)) == 3


def test_distinct_rows_are_the_first_of_their_kind():
    kept, group = distinct(np.array([[1.0, 0.0], [2.0, 2.0], [1.0, -0.0], [2.0, 2.0], [0.0, 1.0]]))
    assert kept.tolist() == [0, 1, 4]
    assert group.tolist() == [0, 1, 0, 1, 2]


def test_the_share_found_of_the_closest_copies_is_a_beta_quantile():
    """p = 1 / (n + 1) of every copy: k copies are listed as soon as 1 / (n + 1) <= rate k / S."""
    rng, samples, n, rate = np.random.default_rng(0), 300, 200, 0.05
    needed = int(np.ceil(samples / (rate * (n + 1))))
    least = 0.05 ** (1 / 50)  # with confidence 0.95 at least this share of copies is as close as 50 planted ones
    expected = stats.beta.ppf(0.95, needed, samples - needed + 1) / least
    found = smallest_share_found(np.full(50, 1 / (n + 1)), samples, rate, rng)
    # k* varies by needed (1 - least)^0.5 / least around needed / least, over 200 draws
    assert found == pytest.approx(expected, rel=4 * (needed * (1 - least)) ** 0.5 / needed / 200**0.5)
    assert smallest_share_found(np.full(50, 1 / 11), 1000, rate, rng) == float("inf")


def test_the_share_found_is_found_with_the_stated_probability():
    """Copies of which a third is not near at all; of so many planted ones the confidence limit is close."""
    rng = np.random.default_rng(1)
    planted = np.where(rng.random(20_000) < 0.33, 0.3, rng.choice([1, 2, 4, 8], 20_000) / 1001)
    share = smallest_share_found(planted, 500, 0.05, rng)
    found = []
    for _ in range(1000):
        p = np.where(rng.random(500) < share, rng.choice(planted, 500), 1.0)
        found.append(false_discovery(p, 0.05).any())
    # a standard error of 0.007 here, and as much again from the 200 draws of k*
    assert abs(np.mean(found) - 0.95) < 4 * 0.014


def test_planted_modifications_are_what_their_names_say(generator):
    x = digits(0)[:40]
    made = {name: modified(x) for name, modified in modifications(x, generator).items()}
    assert all(y.shape == x.shape and bool(torch.isfinite(y).all()) for y in made.values())
    noise = made["noise of 0.05 of the range"] - x
    assert float(noise.std()) == pytest.approx(0.1, rel=4 / (2 * noise.numel()) ** 0.5)
    assert torch.allclose(made["brightness +0.2"], (x + 0.4).clamp(-1, 1))
    assert torch.equal(made["mirrored"], x.flip(3))
    moved = made["shifted by 1 pixel"]
    assert ((moved[:, :, 1:-1, 1:-1] - x[:, :, 1:-1, 1:-1]).flatten(1).norm(dim=1) > 0).all()
    assert set(modifications(torch.randn(9, 3), generator)) == {"exact", "noise of 0.05 of the range"}

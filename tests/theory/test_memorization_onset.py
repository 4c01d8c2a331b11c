"""The onset of copying: its rule against the beta quantile, copies of known examples, and the levels of chance."""

import pytest
import torch
from scipy.stats import beta

from diffuscope.errors import InputError
from diffuscope.theory import checkpoints, copied, copies_surely, onset
from diffuscope.theory.memorization_onset import chance_is_small


def test_a_model_copies_from_the_count_whose_clopper_pearson_bound_exceeds_one_percent():
    for total in (200, 1000):
        for k in range(1, 30):
            assert copies_surely(k, total) == (beta.ppf(0.025, k, total - k + 1) > 0.01)
    assert not copies_surely(0, 1000)


def test_the_onset_is_the_first_checkpoint_above_the_bound_even_if_the_share_falls_again():
    shares = {100: 0.0, 110: 0.010, 121: 0.017, 133: 0.018, 146: 0.003, 161: 0.4}
    counts = {step: round(1000 * share) for step, share in shares.items()}
    assert onset(counts) == 133
    assert onset(dict(reversed(counts.items()))) == 133
    assert onset(dict.fromkeys(counts, 17)) is None
    assert onset({}) is None


def test_a_query_is_a_copy_below_a_third_of_the_second_distance_in_any_unit():
    examples = torch.tensor([[0.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    queries = torch.tensor([[0.99, 0.0], [1.01, 0.0], [2.0, 0.0], [3.5, 0.0]], dtype=torch.float64)
    assert copied(queries, examples).tolist() == [True, False, False, True]  # d_1/d_2 = 1/3 at x = 1
    assert copied(1e3 * queries, 1e3 * examples).tolist() == [True, False, False, True]


def test_repeats_of_an_example_are_one_example():
    generator = torch.Generator().manual_seed(0)
    examples = torch.randn(20, 3, 4, generator=generator)
    queries = examples + 0.01 * torch.randn(20, 3, 4, generator=generator)
    assert copied(queries, examples.repeat(3, 1, 1)).all()


def test_independent_gaussian_vectors_in_many_dimensions_are_no_copies():
    # d_1/d_2 concentrates at 1: its relative standard deviation is about 1/sqrt(2 d) = 0.07 for d = 100
    generator = torch.Generator().manual_seed(1)
    examples, fresh = torch.randn(2, 200, 100, generator=generator)
    assert not copied(fresh, examples).any()


def test_no_copies_among_183_examples_bound_chance_and_among_182_do_not():
    assert chance_is_small(0, 183)
    assert not chance_is_small(0, 182)
    assert not chance_is_small(20, 1000)


def test_checkpoints_are_ten_percent_apart_up_to_the_last_step():
    steps = checkpoints(10_000)
    assert steps[0] == 50
    assert 10_000 / 1.1 - 1 < steps[-1] <= 10_000
    for k in range(len(steps) - 1):
        assert abs(steps[k + 1] - 1.1 * steps[k]) <= 0.5 * 2.1  # both are rounded to whole steps


def test_mistakes_are_one_line():
    with pytest.raises(InputError, match="examples: expected at least 2 different ones, got 1"):
        copied(torch.zeros(3, 2), torch.zeros(5, 2))
    with pytest.raises(InputError, match="copies: expected a whole number from 0"):
        copies_surely(5, 4)
    with pytest.raises(InputError, match="copies: expected a whole number from 0"):
        chance_is_small(-1, 4)
    with pytest.raises(InputError, match="steps: expected at least 50, the first checkpoint"):
        checkpoints(49)

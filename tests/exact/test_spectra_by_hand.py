"""Spectra of Gaussians of low rank: what is kept, what is in the tail, and what a small sample can have of either."""

import math

import pytest
import torch

from diffuscope.exact import Gaussian, LeadingPairs, inflation, reliable_from, shrinkage, shrunk, too_few_examples
from diffuscope.exact.finite_sample import _sample_degrees, _sample_spectrum


def low_rank(tail: float = 1.5, count: int | None = 5) -> Gaussian:
    """Six dimensions: 8, 4 and four of the tail."""
    return Gaussian(torch.zeros(6), torch.eye(6)[:, :2], torch.tensor([8.0, 4.0]), tail, count)


def test_what_a_rank_leaves_out_is_the_mean_variance_of_the_tail():
    whole = low_rank()
    assert (whole.variances.tolist(), whole.trace) == ([8.0, 4.0] + 4 * [1.5], 18.0)
    for rank, tail in ((0, 3.0), (1, 2.0), (2, 1.5)):
        cut = whole.truncate(rank)
        assert (cut.eigenvalues.tolist(), cut.tail_variance) == ([8.0, 4.0][:rank], tail)
        assert cut.eigenvectors.shape == (6, rank)
        assert cut.count == 5
    assert whole.truncate(2) is whole
    assert whole.truncate(6) is whole
    assert [whole.rank_of_share(share) for share in (8 / 18, 0.45, 12 / 18, 0.67)] == [1, 2, 2, None]


def test_the_tail_of_leading_pairs_is_the_rest_of_the_trace_and_never_negative():
    def pairs(trace: float, *values: float) -> LeadingPairs:
        k = len(values)
        return LeadingPairs(9, torch.zeros(4), trace, torch.eye(4)[:, :k], torch.tensor(values), torch.zeros(k))

    assert (pairs(10.0, 5.0, 2.0).tail_variance, pairs(10.0).tail_variance) == (1.5, 2.5)
    assert pairs(10.0, 7.0, 3.0001).tail_variance == 0.0  # by rounding, say
    assert pairs(10.0, 4.0, 3.0, 2.0, 0.5).tail_variance == 0.0


@pytest.mark.parametrize(
    ("n", "spectrum"),
    [(2, [8, 4]), (3, [8, 4]), (4, [8, 4, 6]), (5, [8, 4, 3, 3]), (7, [8, 4, *4 * [1.5]]), (90, [8, 4, *4 * [1.5]])],
)
def test_a_sample_has_one_eigenvalue_less_than_examples_and_its_tail_is_shared_among_those(n: int, spectrum: list):
    assert _sample_spectrum(low_rank(), n).tolist() == spectrum


def test_a_sample_has_no_more_degrees_of_freedom_than_examples_less_one():
    """With eigenvalues filled in by shrinkage there may be more of them: of four without noise three count."""
    full = Gaussian(torch.zeros(4), torch.eye(4), torch.tensor([8.0, 8.0, 8.0, 8.0]))
    assert _sample_degrees(full, 4, 1e-9) == 3.0
    assert _sample_degrees(full, 9, 8.0) == 2.0
    assert _sample_degrees(low_rank(), 5, 1.0) == pytest.approx(8 / 9 + 4 / 5 + 2 * 3 / 4)


def test_inflation_is_infinite_where_no_degree_of_freedom_is_left():
    """n = 4 and three eigenvalues of 1: 4 / (3 - 3 / (1 + v)) - 1 = (1 + 4 / v) / 3 -> 1/3; without noise infinite."""
    fitted = Gaussian(torch.zeros(3), torch.eye(3), torch.ones(3), count=4)
    assert inflation(fitted, 2.0) == pytest.approx(4 / (3 - 3 / 5) - 1, rel=1e-12, abs=0)
    full = Gaussian(torch.zeros(4), torch.eye(4), torch.full((4,), 1e30), count=4)
    assert inflation(full, 1e-3) == math.inf


def test_a_level_is_reliable_from_where_the_inflation_is_what_is_asked_for():
    """Two eigenvalues of 9 and n = 22: (1 + d) / (21 - d) = m for d = (21 m - 1) / (1 + m) = 18 / (9 + v)."""
    fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)
    for most in (0.06, 0.1, 0.14):
        d = (21 * most - 1) / (1 + most)
        assert reliable_from(fitted, most) == pytest.approx(math.sqrt(18 / d - 9), rel=1e-8, abs=0)
    assert reliable_from(fitted, 3 / 19 + 1e-9) == 0.0  # d = 2 without noise
    assert reliable_from(fitted, 1 / 21 - 1e-9) == math.inf  # d = 0 in noise alone
    flat = Gaussian(torch.zeros(2), torch.eye(2), torch.zeros(2), count=3)
    assert (reliable_from(flat), too_few_examples(flat)) == (0.0, None)


def test_a_sample_is_too_small_where_its_variance_is_inflated_by_more_than_a_tenth_at_the_level_in_use():
    fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)
    assert too_few_examples(fitted) is None  # at noise 3 it is (1 + 1) / (21 - 1), a tenth
    told = too_few_examples(fitted, noise_to_signal=2.99)
    assert told is not None
    assert "1.1 times as large; use it from noise 3 on" in told
    few = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=11)
    assert str(too_few_examples(few)).endswith("no level is high enough for so few")


def test_shrinkage_counts_the_squares_of_the_tail_and_is_one_at_most():
    """tr = 18, tr^2 = 64 + 16 + 4 * 2.25 = 89, and 89 - 18^2 / 6 = 35; D = 6."""
    for n in (2, 30):
        expected = min(1.0, ((1 - 2 / 6) * 89 + 324) / ((n + 1 - 2 / 6) * 35))
        assert shrinkage(low_rank(count=n)) == pytest.approx(expected, rel=1e-12, abs=0)
    assert shrinkage(low_rank(count=2)) == 1.0
    assert shrinkage(Gaussian(torch.zeros(2), torch.eye(2), torch.ones(2), count=9)) == 1.0
    half = shrunk(low_rank(), 0.5)
    assert (half.eigenvalues.tolist(), half.tail_variance) == ([5.5, 3.5], 2.25)

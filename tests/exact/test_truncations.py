"""What is left out of a spectrum goes into the tail, and leading pairs by a probe are those of the whole covariance."""

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture, _clusters
from diffuscope.exact._clusters import weighted_pairs

VALUES = torch.tensor([6.0, 3.0, 1.0], dtype=torch.float64)
AXES = torch.eye(5, 3, dtype=torch.float64)
GAUSSIAN = Gaussian(torch.zeros(5, dtype=torch.float64), AXES, VALUES, 0.5)  # 0.5 along the other two axes


def test_the_total_variance_and_how_many_directions_have_a_share_of_it():
    assert GAUSSIAN.trace == 11
    assert GAUSSIAN.variances.tolist() == [6, 3, 1, 0.5, 0.5]
    shares = (0.0, 6 / 11 - 1e-9, 6 / 11, 6 / 11 + 1e-9, 9 / 11, 0.85, 10 / 11, 0.92)
    assert [GAUSSIAN.rank_of_share(share) for share in shares] == [1, 1, 1, 2, 2, 3, 3, None]


@pytest.mark.parametrize(("rank", "tail"), [(0, 11 / 5), (1, 5 / 4), (2, 2 / 3)])
def test_truncated_gaussians_keep_the_leading_pairs_and_the_total_variance(rank, tail):
    two = GaussianMixture(
        torch.tensor([0.25, 0.75], dtype=torch.float64), torch.zeros(2, 5).double(), AXES.expand(2, 5, 3).clone(),
        torch.stack([VALUES, 2 * VALUES]), torch.tensor([0.5, 1.0], dtype=torch.float64),
    )  # fmt: skip
    found, mixed = GAUSSIAN.truncate(rank), two.truncate(rank)
    assert found.tail_variance == pytest.approx(tail, rel=1e-12)
    assert found.trace == pytest.approx(11, rel=1e-12)
    assert torch.equal(found.eigenvalues, VALUES[:rank])
    assert torch.equal(found.eigenvectors, AXES[:, :rank])
    torch.testing.assert_close(mixed.tail_variances, torch.tensor([tail, 2 * tail], dtype=torch.float64))
    assert torch.equal(mixed.eigenvalues, torch.stack([VALUES, 2 * VALUES])[:, :rank])
    assert torch.equal(mixed.eigenvectors, AXES.expand(2, 5, 3)[:, :, :rank])
    for one in (GAUSSIAN, two):
        assert one.truncate(3) is one.truncate(5) is one
        for beyond in (-1, 6):
            with pytest.raises(InputError, match=rf"^rank: expected 0 \.\. 5, got {beyond}$"):
                one.truncate(beyond)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_pairs_of_weighted_examples_by_a_probe_are_those_of_their_covariance(monkeypatch, dense, chunk):
    generator = torch.Generator().manual_seed(0)
    data = 3 + torch.randn(40, 2, 3, generator=generator) * torch.arange(1.0, 7.0).reshape(2, 3)
    weights = torch.rand(40, generator=generator, dtype=torch.float64)
    weights[5:9] = 0
    monkeypatch.setattr(_clusters, "LARGEST_DENSE", 6 if dense else 5)
    monkeypatch.setattr(_clusters, "CHUNK_BYTES", chunk)
    mean, (vectors, values, tail) = weighted_pairs(data, weights, 3, 0.25, generator)
    flat, shares = data.double().flatten(1), weights / weights.sum()
    expected = shares @ flat
    covariance = (flat - expected).T @ (shares[:, None] * (flat - expected)) + 0.25 * torch.eye(6).double()
    every, axes = torch.linalg.eigh(covariance)
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-12)
    rtol = 1e-9 if dense else 0.05  # of six dimensions, by two passes
    torch.testing.assert_close(values, every.flip(0)[:3], rtol=rtol, atol=1e-9)
    assert float(values.sum() + 3 * tail) == pytest.approx(float(every.sum()), rel=1e-9)
    if dense:
        axes = axes.flip(1)[:, :3]
        torch.testing.assert_close(vectors @ vectors.T, axes @ axes.T, rtol=1e-9, atol=1e-9)


def test_only_the_shares_of_weights_count():
    """However small all weights are: those below the rounding of the sums are left out, relative to the largest."""
    generator = torch.Generator().manual_seed(0)
    data, weights = (torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in ((30, 4), (30,)))
    mean, (_, values, tail) = weighted_pairs(data, weights, 2, 0.25, generator)
    small, (_, of_small, tail_of_small) = weighted_pairs(data, 1e-20 * weights, 2, 0.25, generator)
    torch.testing.assert_close(small, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(of_small, values, rtol=1e-12, atol=0)
    assert float(tail_of_small) == pytest.approx(float(tail), rel=1e-12)

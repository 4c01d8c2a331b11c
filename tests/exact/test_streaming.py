"""The leading eigenpairs of a stream: against dense linear algebra, and against theorems on Nystrom's approximation."""

import numpy as np
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, leading_pairs, oversampled
from diffuscope.exact.streaming import nystrom, streamed_moments

D, N = 120, 400


def random_basis(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64, generator=generator))[0]


def decaying(n: int = N) -> torch.Tensor:
    """Examples of shape (2, 60) whose variances fall as k^-1.5, with an offset."""
    scales = torch.arange(1, D + 1, dtype=torch.float64) ** -0.75
    white = torch.randn(n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return ((white * scales) @ random_basis(D, D).T + 5).reshape(n, 2, 60)


def covariance(data: torch.Tensor) -> torch.Tensor:
    rows = data.flatten(1)
    return torch.from_numpy(np.cov(rows.numpy().T, bias=True))


def pairs_of(data: torch.Tensor, rank: int, n_passes: int = 2, batch: int = 64):
    generator = torch.Generator().manual_seed(2)
    return leading_pairs(lambda: data.split(batch), rank, generator=generator, n_passes=n_passes)


@pytest.mark.parametrize("sizes", [[400], [1] * 400, [7, 0, 300, 93]], ids=["one", "singles", "uneven"])
def test_the_covariance_times_a_probe_is_that_of_the_whole_in_batches_of_any_sizes(sizes):
    data, probe = decaying(), random_basis(D, 5, seed=3)
    moments = streamed_moments(data.split(sizes), lambda _: probe)
    torch.testing.assert_close(moments.product, covariance(data) @ probe, rtol=0, atol=1e-13)
    torch.testing.assert_close(moments.mean, data.mean(0), rtol=1e-13, atol=0)
    assert abs(moments.trace / float(covariance(data).trace()) - 1) < 1e-13


def test_the_product_does_not_cancel_under_a_huge_offset():
    # multiples of 2^-20 added to 1e8 are exact in float64
    data, probe = (decaying() * 2**20).round() / 2**20, random_basis(D, 5, seed=3)
    moments = streamed_moments((data + 1e8).split(50), lambda _: probe)
    torch.testing.assert_close(moments.product, covariance(data) @ probe, rtol=0, atol=1e-12)


def test_a_covariance_of_lower_rank_than_the_probe_is_found_exactly_in_two_passes():
    """Nystrom's approximation is exact once the range of the probe covers that of the covariance."""
    data = decaying(n=12)  # at most eleven eigenvalues above zero; the probe has 16 + 6 columns
    found, truth = pairs_of(data, 14), torch.linalg.eigvalsh(covariance(data)).flip(0)
    torch.testing.assert_close(found.eigenvalues, truth[:14].clamp(min=0), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        found.eigenvectors.T @ found.eigenvectors, torch.eye(14, dtype=torch.float64), rtol=0, atol=1e-12
    )
    U = found.eigenvectors
    torch.testing.assert_close((U * found.eigenvalues) @ U.T, covariance(data), rtol=0, atol=1e-13)
    assert found.tail_variance < 1e-13


def test_nystrom_lies_between_the_projection_and_the_truth_and_every_pass_comes_nearer():
    data = decaying()
    truth = torch.linalg.eigvalsh(covariance(data)).flip(0)
    errors = []
    for n_passes in (2, 3, 4):
        found = pairs_of(data, 10, n_passes)
        projected = found.eigenvalues * (1 - found.last_gain)
        assert bool((found.eigenvalues <= truth[:10] * (1 + 1e-12)).all())
        assert bool((projected <= found.eigenvalues * (1 + 1e-12)).all())
        errors.append(float((1 - found.eigenvalues / truth[:10]).max()))
    # a pass multiplies the part of the rest by lambda_27 / lambda_10 = 0.23 on either side, about 0.05 together
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 8


def test_the_tail_keeps_the_trace_exactly_however_inexact_the_eigenvalues():
    data = decaying()
    gaussian = Gaussian.fit_leading(lambda: data.split(100), 8, generator=torch.Generator().manual_seed(0))
    assert gaussian.count == N
    assert gaussian.event_shape == (2, 60)
    assert abs(gaussian.trace / float(covariance(data).trace()) - 1) < 1e-13
    rest = float(covariance(data).trace() - gaussian.eigenvalues.sum())
    assert abs(gaussian.tail_variance / (rest / (D - 8)) - 1) < 1e-12


def test_with_a_rank_of_the_dimension_it_is_the_dense_fit():
    data = decaying()
    full, found = Gaussian.fit(data.split(100)), pairs_of(data, 500)
    assert oversampled(500) > D
    torch.testing.assert_close(found.eigenvalues, full.eigenvalues, rtol=1e-9, atol=1e-13)
    assert found.tail_variance == 0


def test_data_without_variance_have_no_eigenvalue_above_zero():
    found = pairs_of(torch.ones(5, 30, dtype=torch.float64), 3)
    assert found.trace == 0
    assert float(found.eigenvalues.abs().max()) == 0
    assert float(found.last_gain.abs().max()) == 0


def test_nystrom_of_a_known_matrix_is_z_times_the_inverse_core_times_z():
    sigma, Q = covariance(decaying()), random_basis(D, 6, seed=4)
    Z = sigma @ Q
    U, values, projected = nystrom(Q, Z.clone())
    torch.testing.assert_close((U * values) @ U.T, Z @ torch.linalg.solve(Q.T @ Z, Z.T), rtol=0, atol=1e-13)
    torch.testing.assert_close(projected, torch.linalg.eigvalsh(Q.T @ Z).flip(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("rank", "n_passes", "message"),
    [(-1, 2, "rank: expected at least 0"), (3, 1, "n_passes: expected at least 2, got 1")],
)
def test_ranks_and_passes_that_make_no_sense_are_refused(rank, n_passes, message):
    with pytest.raises(InputError, match=message):
        pairs_of(decaying(20), rank, n_passes)


@pytest.mark.slow
def test_of_cifar10_two_passes_give_the_leading_32_of_128_eigenvalues_within_one_percent(cifar_data, monkeypatch):
    from diffuscope.data import open_stream

    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    stream = open_stream("cifar10")
    dense = Gaussian.fit(stream.batches())
    pairs = leading_pairs(stream.batches, 128, generator=torch.Generator().manual_seed(0))
    error = 1 - pairs.eigenvalues / dense.eigenvalues[:128]
    assert float(error[:32].max()) < 0.01
    assert float(error.min()) > -1e-12
    assert abs(pairs.trace / dense.trace - 1) < 1e-12

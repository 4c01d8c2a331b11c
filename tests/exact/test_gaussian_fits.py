"""Gaussians fitted from a stream, truncated, rescaled, saved and loaded."""

import numpy as np
import pytest
import torch
from gaussians import (
    EVENT,
    D,
    covariance,
    dense,
    isotropic,
    low_rank,
    noised,
)

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian, PosteriorCovariance


def pixels(n: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return (
        torch.rand(n, *EVENT, dtype=torch.float64, generator=generator)
        @ torch.diag(torch.tensor([1.0, 3, 0.1])).double()
    )


def in_sizes(data: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    return list(data.split(sizes))


@pytest.mark.parametrize(
    "sizes",
    [[60], [1] * 60, [7] * 8 + [4], [1, 0, 40, 19], [59, 1]],
    ids=["one", "singles", "sevens", "uneven", "last"],
)
def test_streaming_fit_equals_the_mean_and_covariance_of_the_whole(sizes):
    data = pixels()
    gaussian = Gaussian.fit(in_sizes(data, sizes))
    flat = data.flatten(1).numpy()
    assert gaussian.count == 60
    assert gaussian.event_shape == EVENT
    np.testing.assert_allclose(gaussian.mean.flatten().numpy(), flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance(gaussian).numpy(), np.cov(flat.T, bias=True), atol=1e-12)


@pytest.mark.parametrize("batch_size", [60, 9, 1])
def test_streaming_fit_does_not_cancel_under_a_huge_offset(batch_size):
    # multiples of 2^-20 added to 1e8 are exact in float64, so the covariance has not changed by a bit
    data = (pixels() * 2**20).round() / 2**20
    gaussian = Gaussian.fit((data + 1e8).split(batch_size))
    np.testing.assert_allclose(covariance(gaussian).numpy(), np.cov(data.flatten(1).numpy().T, bias=True), atol=1e-12)
    # the mean itself is only representable to 1.5e-8
    np.testing.assert_allclose(gaussian.mean.numpy() - 1e8, data.mean(0).numpy(), atol=1.6e-8)


def test_streaming_fit_follows_data_that_drift_far_from_the_first_batch():
    data = pixels()
    drifting = torch.cat([data[:1] - 1e3, data])
    gaussian = Gaussian.fit(drifting.split(1))
    truth = np.cov(drifting.flatten(1).numpy().T, bias=True)
    np.testing.assert_allclose(covariance(gaussian).numpy(), truth, atol=1e-12 * np.abs(truth).max())


def test_low_rank_fit_equals_the_truncated_full_fit_and_keeps_the_trace():
    data = pixels()
    full, low = Gaussian.fit([data]), Gaussian.fit(iter([data]), rank=2)
    truncated = full.truncate(2)
    assert low.eigenvectors.shape == (D, 2)
    np.testing.assert_allclose(covariance(low), covariance(truncated), atol=1e-13)
    variance = float(data.flatten(1).var(0, correction=0).sum())
    for gaussian in (full, low, truncated, full.truncate(0), low.truncate(1)):
        assert abs(gaussian.trace - variance) < 1e-12 * variance
    assert low.truncate(5) is low


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_fit_refuses_values_that_are_not_finite(bad):
    data = pixels()
    data[33, 0, 1] = bad
    with pytest.raises(InputError, match="batches: expected finite values"):
        Gaussian.fit(data.split(10))


@pytest.mark.parametrize("batches", [[], [pixels(1)], [pixels(1), pixels(0)]], ids=["none", "one", "one and none"])
def test_fit_refuses_fewer_than_two_examples(batches):
    with pytest.raises(InputError, match=r"at least two examples .* got [01]"):
        Gaussian.fit(batches)


@pytest.mark.parametrize("other", [(2, 4), (3, 2), (1,), (6,)])
def test_fit_refuses_examples_of_different_shapes(other):
    with pytest.raises(InputError, match=r"batches: expected examples of shape \(2, 3\)"):
        Gaussian.fit([pixels(), torch.zeros(4, *other)])


def test_a_scale_that_is_not_invertible_is_refused():
    for scale in (0.0, float("inf")):
        with pytest.raises(InputError, match=r"scale, shift: expected finite numbers, scale other than 0, got"):
            dense().rescale(scale, 1.0)


def test_rescale_is_the_distribution_of_the_rescaled_data():
    data = pixels()
    for rank in (None, 2):
        rescaled, fitted = Gaussian.fit([data], rank).rescale(2.0, -1.0), Gaussian.fit([2 * data - 1], rank)
        torch.testing.assert_close(rescaled.mean, fitted.mean, rtol=0, atol=1e-13)
        torch.testing.assert_close(covariance(rescaled), covariance(fitted), rtol=0, atol=1e-13)
        assert rescaled.count == 60


@pytest.mark.parametrize("distribution", [dense, low_rank, isotropic, lambda: Gaussian.fit([pixels()], rank=3)])
def test_a_saved_gaussian_loads_to_the_last_bit(distribution, tmp_path):
    gaussian = distribution()
    gaussian.save(tmp_path / "distribution.safetensors")
    loaded = Gaussian.load(tmp_path / "distribution.safetensors")
    for name in ("mean", "eigenvectors", "eigenvalues"):
        assert torch.equal(getattr(loaded, name), getattr(gaussian, name))
        assert getattr(loaded, name).dtype == torch.float64
    assert (loaded.tail_variance, loaded.count) == (gaussian.tail_variance, gaussian.count)


def test_loading_anything_else_is_one_clear_line(tmp_path):
    from safetensors.torch import save_file

    good, path = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    dense().save(good)
    whole = good.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"path: cannot read bad\.safetensors"):
            Gaussian.load(path)
    save_file({"mean": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="path: expected a saved Gaussian"):
        Gaussian.load(path)
    save_file({"mean": torch.zeros(3)}, path, metadata={"diffuscope": '{"kind": "Gaussian"}'})
    with pytest.raises(InputError, match="path: cannot read"):
        Gaussian.load(path)
    for absent in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"path: no file .*; expected a saved Gaussian"):
            Gaussian.load(absent)


def test_wrong_arguments_are_named():
    gaussian = dense()
    x_t = noised(gaussian, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(batch, 2, 3\)"):
        gaussian.denoise(x_t.flatten(1), 1.0, 1.0)
    with pytest.raises(ValueError, match="sigma: expected values > 0"):
        gaussian.score(x_t, 1.0, 0.0)
    with pytest.raises(ValueError, match="alpha: expected finite values"):
        gaussian.score(x_t, -1.0, 1.0)
    with pytest.raises(InputError, match="eigenvectors: expected 6 rows"):
        Gaussian(gaussian.mean, torch.eye(5), torch.ones(5))
    with pytest.raises(InputError, match="expected values >= 0"):
        Gaussian.isotropic(gaussian.mean, -1.0)
    with pytest.raises(InputError, match="expected values >= 0"):
        Gaussian(gaussian.mean, torch.eye(6)[:, :1], torch.tensor([float("nan")]))
    with pytest.raises(InputError, match="rank: expected 0"):
        gaussian.truncate(7)
    with pytest.raises(InputError, match="rank: expected at least 0"):
        Gaussian.fit([pixels()], rank=-1)


def test_gaussian_fits_the_contracts():
    gaussian = dense()
    assert isinstance(gaussian, Distribution)
    assert isinstance(gaussian.posterior_covariance(noised(gaussian, 1, 1), 1, 1), PosteriorCovariance)


def test_scalar_events_are_one_dimensional_events():
    scalar, vector = (Gaussian.isotropic(torch.full(event, 0.4), 2.0) for event in ((), (1,)))
    x_t = torch.linspace(-2, 2, 5, dtype=torch.float64)
    assert torch.equal(scalar.denoise(x_t, 0.8, 0.6), vector.denoise(x_t[:, None], 0.8, 0.6)[:, 0])
    assert torch.equal(scalar.log_prob(x_t, 0.8, 0.6), vector.log_prob(x_t[:, None], 0.8, 0.6))
    fitted = Gaussian.fit([x_t])
    assert fitted.event_shape == ()
    assert abs(fitted.trace - float(x_t.var(correction=0))) < 1e-14

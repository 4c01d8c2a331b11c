"""Features of image patches: all windows, filters that are white beside a floor, and pooling by quadrants."""

import numpy as np
import pytest
import torch

from diffuscope.audit import patch_features
from diffuscope.audit.patch_features import _patches, fit_patch_features
from diffuscope.byte_examples import float_parts
from numbers_in_tests import seeded


@pytest.mark.parametrize("held", [1, 2**25])
def test_patches_are_all_windows_in_random_order(monkeypatch, held):
    """Of few images; the same where those of one image at a time are held."""
    images = torch.randn(3, 2, 4, 5, generator=seeded())
    whole = _patches(images, 3, seeded(1))
    monkeypatch.setattr(patch_features, "RESPONSES", held)
    found = _patches(images, 3, seeded(1))
    assert torch.equal(found, whole)
    windows = [
        image[:, i : i + 3, j : j + 3].double().flatten().tolist()
        for image in images
        for i in (0, 1)
        for j in (0, 1, 2)
    ]
    assert sorted(found.tolist()) == sorted(windows)
    assert found.tolist() != windows


def test_patches_of_many_are_some_of_them(monkeypatch):
    monkeypatch.setattr(patch_features, "SAMPLED_PATCHES", 7)
    images = torch.arange(48.0).reshape(2, 1, 4, 6)
    found = _patches(images, 2, seeded())
    assert found.shape == (7, 4)
    first = found[:, 0].tolist()
    assert len(set(first)) == 7
    assert all(patch.tolist() == [a, a + 1, a + 6, a + 7] for patch, a in zip(found, first, strict=True))


def test_filters_of_patches_are_white_beside_a_floor_of_a_hundredth_of_the_variance():
    """Images of one patch, and their reflections: the responses are the differences of the rectified ones."""
    half = torch.randn(60, 1, 3, 3, generator=seeded(), dtype=torch.float64)
    half = half * torch.linspace(0.02, 1, 9, dtype=torch.float64).reshape(1, 3, 3)
    train = torch.cat([3 + half, 3 - half])
    features = fit_patch_features(train, seeded(5))
    reflected = torch.cat([3 - half, 3 + half])
    both = features.hidden(train) - features.hidden(reflected)
    assert both.shape == (120, 4 * 32)
    responses = both.reshape(120, 32, 4)
    assert torch.equal(responses[:, :, 0], responses[:, :, 3])  # four quadrants of one place
    responses = responses[:, :, 0]
    assert responses.std(0).numpy() == pytest.approx(np.ones(32), rel=1e-5)
    generator = seeded(5)
    torch.randperm(120, generator=generator)
    torch.randperm(120, generator=generator)
    drawn = torch.randn(9, 32, dtype=torch.float64, generator=generator)
    patches = train.flatten(1) - 3
    weights = torch.linalg.lstsq(patches, responses.double()).solution
    variances, directions = torch.linalg.eigh(torch.cov(patches.mT))
    floor = 0.01 * train.var()
    expected = (drawn / (variances + floor).sqrt()[:, None]).abs()
    ratio = (directions.mT @ weights).abs() / expected
    assert (ratio / ratio.mean(0)).numpy() == pytest.approx(np.ones((9, 32)), rel=2e-3)
    assert features(train).shape == (120, 32)


@pytest.mark.parametrize("held", [1, 2**25])
def test_responses_are_pooled_by_quadrants(monkeypatch, held):
    """The responses to an image that repeats its columns are those of the left and right halves alike.

    A pooled one is a float32 sum of 17 products and 4 responses, 16 in absolute value (weights 12.3, offset 3.6), so
    that two orders of it differ by 2 * 21 * 16 * 2^-24 = 4e-5 at most.
    """
    monkeypatch.setattr(patch_features, "RESPONSES", held)
    train = torch.rand(40, 1, 7, 7, generator=seeded())
    features = fit_patch_features(train, seeded(1))
    columns = train[:5, :, :, :1].expand(5, 1, 7, 7)
    pooled = features.hidden(columns).reshape(5, 32, 2, 2)
    assert torch.allclose(pooled[..., 0], pooled[..., 1], rtol=0, atol=4e-5)
    assert not torch.allclose(pooled[..., 0, :], pooled[..., 1, :], atol=1e-3)
    assert torch.allclose(features.hidden(train[:9]), features.hidden(train)[:9], rtol=0, atol=4e-5)
    assert features(train).shape == (40, 32)
    assert features(train).mean(0).abs().max() < 1e-6


@pytest.mark.parametrize(("held", "rows"), [(32 * 49 * 10, 10), (32 * 49 * 256, 256), (32 * 49 * 300, 256)])
def test_no_more_responses_are_held_than_fit_nor_of_more_than_256_images(monkeypatch, held, rows):
    """Of 32 filters at 49 places each; and of patches of 16 numbers at 16 places."""
    asked = []

    def parts(x, rows):
        asked.append(rows)
        return float_parts(x, rows=rows)

    train = torch.rand(40, 1, 7, 7, generator=seeded())
    monkeypatch.setattr(patch_features, "RESPONSES", held)
    monkeypatch.setattr(patch_features, "float_parts", parts)
    features = fit_patch_features(train, seeded(1))
    features(train)
    assert asked[-2:] == [rows, rows]
    assert asked[0] == held // (16 * 16)

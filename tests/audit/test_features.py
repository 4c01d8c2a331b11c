"""The spaces of distances: principal components keep what the data have, and no more."""

import pytest
import torch

from diffuscope.audit.features import WHITENED_COMPONENTS, feature_map
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian


@pytest.mark.parametrize(("n", "dimension", "kept"), [(200, 2, 2), (30, 100, 29), (400, 60, WHITENED_COMPONENTS)])
def test_principal_components_are_white_and_as_many_as_the_data_have(n, dimension, kept, generator):
    """n examples around their mean have rank n - 1 at most."""
    x = torch.randn(n, dimension, generator=generator) * torch.linspace(1, 3, dimension)
    rows = feature_map("pca", Gaussian.fit([x]))(x)
    assert rows.shape == (n, kept)
    # float32 features of a float32 covariance
    assert torch.allclose(torch.cov(rows.mT, correction=0), torch.eye(kept), atol=1e-3)


def test_pixels_are_the_values_themselves(generator):
    x = torch.randn(5, 1, 3, 3, generator=generator)
    assert torch.equal(feature_map("pixels", Gaussian.fit([x]))(x), x.flatten(1))


def test_a_space_that_is_not_known_is_refused(generator):
    gaussian = Gaussian.fit([torch.randn(5, 2, generator=generator)])
    with pytest.raises(InputError, match="features: expected 'pixels', 'pca' or module:function, got 'pixel'"):
        feature_map("pixel", gaussian)

"""The spaces of distances: principal components keep what the data have, and no more."""

import importlib
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_by_hand import classifiers_are_quick, other_tools_are_quick  # noqa: F401

from audit_subjects import digits
from diffuscope.audit import Settings, Subject, audit_samples
from diffuscope.audit.copy_search import copies
from diffuscope.audit.features import WHITENED_COMPONENTS, feature_map
from diffuscope.audit.fingerprint import object_digest
from diffuscope.audit.named_features import named_features
from diffuscope.audit.no_model import NoModel
from diffuscope.audit.remembered_features import RememberedFeatures
from diffuscope.data import DataSet, toy_data
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.store import Store

QUICK = Settings()


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
    with pytest.raises(InputError, match="features: expected 'pixels', 'pca' or module:object, got 'pixel'"):
        feature_map("pixel", gaussian)


COUNTING = """
import torch
from torch import nn

calls = []

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(2, 3), nn.Dropout(0.5)
        nn.init.constant_(self.linear.weight, {weight})
    def forward(self, x):
        assert not torch.is_grad_enabled() and not self.drop.training
        calls.append(x.clone())
        return self.drop(self.linear(x))

net = Wide()
holder = [net]

def function(x):
    return holder[0](x)

number = 3
"""


def counting(tmp_path, monkeypatch, name, weight=1.0):
    """A fresh module of the user's; its list of the batches that it was called with."""
    (tmp_path / f"{name}.py").write_text(COUNTING.format(weight=weight))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def audited(name, data, samples, out):
    return audit_samples(samples, data, replace(QUICK, features=(name,)), out=out)


@pytest.mark.parametrize("kind", ["net", "function"])
def test_the_users_features_are_called_once_per_example_of_a_whole_audit_and_never_in_a_rerun(
    kind, tmp_path, monkeypatch
):
    data, samples = toy_data("two-moons", n_train=150, n_heldout=100), toy_data("two-moons", n_train=60, seed=1).train
    module = counting(tmp_path, monkeypatch, f"counting_{kind}")
    name = f"counting_{kind}:{kind}"
    first = audited(name, data, samples, tmp_path / "out")
    seen = torch.cat(module.calls)
    assert len(seen.unique(dim=0)) == len(seen)
    examples = torch.cat([data.train, data.heldout, samples])
    assert (examples[:, None] == seen).all(2).sum(1).eq(1).all()  # each exactly once
    assert module.net.training  # given back as it was
    module.calls.clear()
    again = audited(name, data, samples, tmp_path / "out")
    assert not module.calls
    assert [f.value for f in again["memorized"].findings] == [f.value for f in first["memorized"].findings]


def test_other_weights_other_code_and_another_object_are_other_features(tmp_path, monkeypatch):
    module = counting(tmp_path, monkeypatch, "counting_changed")
    digests = [object_digest("counting_changed:net", module.net), object_digest("counting_changed:f", module.function)]
    x, store = torch.rand(30, 2), Store(tmp_path, {})
    gaussian = Gaussian.fit([x])  # of `pca`, another name
    rows = [RememberedFeatures(feature_map("counting_changed:net", gaussian), digests[0], store)(x)]
    with torch.no_grad():
        module.net.linear.bias.add_(1)
    digests.append(object_digest("counting_changed:net", module.net))
    digests.append(object_digest("counting_changed:f", module.function))  # which calls the same module
    rows.append(RememberedFeatures(feature_map("counting_changed:net", gaussian), digests[2], store)(x))
    assert torch.allclose(rows[1], rows[0] + 1, atol=1e-6)
    module = counting(tmp_path, monkeypatch, "counting_changed", weight=2.0)
    digests.append(object_digest("counting_changed:net", module.net))
    assert len(set(digests)) == 5
    assert object_digest("counting_changed:net", module.net) == digests[-1]


def test_remembered_rows_are_those_of_the_function_in_any_order_and_with_repetitions(generator, monkeypatch):
    monkeypatch.setattr("diffuscope.audit.remembered_features.PART", 7)
    x = torch.randn(50, 1, 3, 3, generator=generator)
    called = []

    def features(part):
        called.append(len(part))
        return part.flatten(1).cumsum(1)

    remembered = RememberedFeatures(features, "code", Store(None, {}))
    for index in (range(20), [3, 3, 40, 41, 3], torch.randperm(50, generator=generator).tolist(), [49] * 4):
        rows = x[list(index)]
        assert torch.equal(remembered(rows), rows.flatten(1).cumsum(1))
    assert sum(called) == 50
    assert max(called) <= 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("counting_wrong:Wide", "features: counting_wrong:Wide is a class, expected an instance of it or a function"),
        ("counting_wrong:number", "features: expected counting_wrong:number to be a function or an nn.Module, got int"),
        ("patches", "features: 'patches' are of images, got examples of shape (2,)"),
        ("classifier", "features: 'classifier' needs labels of the training and the held-out data, got none"),
    ],
)
def test_features_that_the_data_cannot_have_are_one_line_before_any_work(name, message, tmp_path, monkeypatch):
    counting(tmp_path, monkeypatch, "counting_wrong")
    data = replace(toy_data("two-moons", n_train=60, n_heldout=60), train_labels=None, heldout_labels=None)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        audited(name, data, data.heldout, None)


def test_every_named_space_finds_copies():
    images = digits(0)
    labels = (images.flatten(1).mean(1) > images.mean()).long()
    data = DataSet(
        "digits", images[:500], images[500:1000], (-1.0, 1.0), "", torch.arange(500), torch.arange(500, 1000),
        labels[:500], labels[500:1000], kind="images",
    )  # fmt: skip
    samples = torch.cat([images[:20], images[1000:1100]])
    subject, gaussian = Subject.of(NoModel(), data), Gaussian.fit([data.train])
    for name in ("patches", "clusters", "classifier"):
        features = named_features(name, subject, gaussian, 0)
        found = copies(samples, data.train, data.heldout, calibration=500, rate=0.05, seed=0, features=features)
        assert found.listed[:20].all(), name
        assert found.listed[20:].sum() <= 3
        assert np.array_equal(found.nearest_training[:20], np.arange(20))


def test_distances_to_clusters_are_features_of_points_that_are_no_images():
    data = toy_data("two-moons")
    features = named_features("clusters", Subject.of(NoModel(), data), Gaussian.fit([data.train]), 0)
    covariance = torch.cov(features(data.train).double().mT, correction=0)
    # whitened with a floor under the variances: lambda / (lambda + floor), and uncorrelated
    assert torch.allclose(covariance, covariance.diagonal().diag(), atol=1e-3)
    assert float(covariance.diagonal().max()) == pytest.approx(1, abs=0.01)
    assert bool((covariance.diagonal() < 1 + 1e-4).all())

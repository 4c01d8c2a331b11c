"""Which features a space has and with which seed, and samples that are drawn in parts of a size that fits."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import normal
from torch import nn

from diffuscope.audit import feature_spaces as spaces_module
from diffuscope.audit import features as features_module
from diffuscope.audit import named_features as named_module
from diffuscope.audit import one_step, rows_of
from diffuscope.audit.features import feature_map
from diffuscope.audit.generation import starting_noise
from diffuscope.audit.group_units import independent, one_of_each_group
from diffuscope.audit.named_features import require_space
from diffuscope.audit.subject import Settings, Subject
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE
from numbers_in_tests import seeded

# spaces


class Known:
    """Features of labels, as of a classifier."""

    accuracy = 0.876

    def __call__(self, x):
        return x.flatten(1)


def spaces(x, own, classifier):
    gaussian = Gaussian.fit([x])
    found = inspect.unwrap(spaces_module.feature_spaces)(x, gaussian, own, classifier, 9, 0, lambda _: lambda y: y)
    return [make().name for make in found]


def test_a_classifier_comes_first_unless_the_user_has_features():
    x = normal(40, 2)
    first, clusters = "the features of a classifier with 88% held-out accuracy", "distances to clusters"
    assert spaces(x, (), Known()) == [first, clusters]
    assert spaces(x, ("a",), Known()) == ["the features of a", clusters]
    assert spaces(x, (), None) == [clusters]


@pytest.mark.parametrize(("seed", "taken"), [(6, 6), (2**31 + 5, 5), (2**32 + 7, 7)])
def test_clusters_have_the_seed_in_thirty_one_bits(monkeypatch, seed, taken):
    asked = []

    def fit(some, gaussian, given):
        asked.append((len(some), gaussian.dimension, given))
        return lambda x: x

    monkeypatch.setattr(spaces_module, "fit_cluster_features", fit)
    monkeypatch.setattr(named_module, "fit_cluster_features", fit)
    x = normal(40, 2)
    gaussian = Gaussian.fit([x])
    (make,) = spaces_module.feature_spaces(x, gaussian, (), None, 9, seed)
    make()
    made = Subject(ExactDenoiser(gaussian, VE()), x, x + 1)
    named_module.named_features("clusters", made, gaussian, seed)
    assert asked == [(40, 2, taken)] * 2


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_principal_components_are_told_from_rounding_in_any_unit(scale):
    """Of three numbers the third is the sum of the others; the components are white in every unit."""
    x = normal(200, 3).double()
    x[:, 2] = x[:, 0] + x[:, 1]
    x = scale * (x + 4)
    features = feature_map("pca", Gaussian.fit([x]))(x.float())
    assert features.shape == (200, 2)
    assert torch.allclose(torch.cov(features.double().mT, correction=0), torch.eye(2).double(), atol=1e-3)
    assert features.mean(0).abs().max() < 1e-2


def test_patches_need_images_and_a_classifier_labels_of_both_parts():
    x, labels = normal(20, 2), torch.zeros(20).long()

    def made(**changes):
        return Subject(ExactDenoiser(Gaussian.fit([x]), VE()), x, x + 1, **changes)

    both = made(train_labels=labels, heldout_labels=labels)
    for name in ("pixels", "pca", "clusters"):
        require_space(name, made())
    require_space("classifier", both)
    with pytest.raises(InputError, match=r"'patches' are of images, got examples of shape \(2,\)"):
        require_space("patches", both)
    for known in ({}, {"train_labels": labels}, {"heldout_labels": labels}):
        with pytest.raises(InputError, match="'classifier' needs labels"):
            require_space("classifier", made(**known))
    images = normal(20, 1, 4, 4)
    require_space("patches", Subject(ExactDenoiser(Gaussian.fit([images]), VE()), images, images + 1))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda _: torch.tensor(1.0), r"\(0,\)"),
        (lambda x: x.flatten(), r"\(40,\)"),
        (lambda x: x[:9], r"\(9, 2\)"),
        (lambda x: x / 0, r"\(20, 2\)"),
        (lambda x: x[:, :, None], r"\(20, 2, 1\)"),
    ],
)
def test_features_are_one_finite_row_per_example(monkeypatch, function, shape):
    monkeypatch.setattr(features_module, "user_object", lambda _: function)
    with pytest.raises(InputError, match=f"features: a:b must return one finite row per example, got shape {shape}"):
        features_module.user_features("a:b")(normal(20, 2))


def test_features_are_asked_of_1024_examples_at_once(monkeypatch):
    asked = []

    def function(x):
        asked.append(len(x))
        return x.double().numpy()

    monkeypatch.setattr(features_module, "user_object", lambda _: function)
    x = normal(1500, 2)
    found = features_module.user_features("a:b")(x)
    assert asked == [1024, 476]
    assert found.dtype == torch.float32
    assert torch.equal(found, x)


# parts


def test_starts_are_drawn_in_parts_that_fit(monkeypatch):
    """Ten at a time, of eight numbers of four bytes for each of three coordinates."""
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 8 * 3 * 10)
    asked = []

    def sample(n, generator):
        asked.append(n)
        return torch.full((n, 3), 2.0, dtype=torch.float64) + 0 * torch.randn(n, 3, generator=generator)

    schedule = SimpleNamespace(alpha=lambda t: 0.5 + t, sigma=lambda _: 0.0)
    made = inspect.unwrap(starting_noise)(SimpleNamespace(dimension=3, sample=sample), schedule, 1.0, 25, seeded())
    assert asked == [10, 10, 5]
    assert torch.equal(made, torch.full((25, 3), 3.0))


class Scaled(nn.Module):
    """One call from noise of standard deviation 80."""

    schedule, event_shape, data_range, one_step = VE(), (3,), (-9.0, 9.0), True

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x_t, t):
        self.calls.append((len(x_t), float(torch.as_tensor(t).max()), float(x_t.std())))
        return x_t / 80


@pytest.mark.parametrize("steps", [1, 2])
def test_samples_of_one_step_are_drawn_in_parts_of_their_own_noise(steps):
    """Of 64, 64 and 22; the first call, of the probes, tells the model."""
    model, x = Scaled(), normal(20, 3)
    made = Subject(model, x, x + 1)
    settings = Settings(generated=150, consistency_steps=steps, seed=3)
    changed, samples = one_step.with_samples(made, settings, None, None)
    assert samples is not None
    assert samples.shape == (150, 3)
    assert len(torch.unique(samples, dim=0)) == 150
    assert samples.std() == pytest.approx(1.0 if steps == 1 else float(samples.std()), rel=0.15)
    probes, *calls = model.calls
    assert probes[:2] == (one_step.PROBES, 80.0)
    assert probes[2] == pytest.approx(80, rel=0.5)
    assert [n for n, *_ in calls] == [n for n in (64, 64, 22) for _ in range(steps)]
    first = calls[::steps]
    assert all(t == 80.0 and deviation == pytest.approx(80, rel=0.25) for _, t, deviation in first)
    assert changed.sampled is model
    assert f"150 samples, of {'one call each' if steps == 1 else '2 calls each'}" in changed.notes[-1]


# groups


def grouped(train, heldout):
    count = max(len(train), len(heldout))
    x = torch.arange(2.0 * count)[:, None]
    return Subject(
        ExactDenoiser(Gaussian.fit([x]), VE()), x[: len(train)], x[count : count + len(heldout)],
        train_labels=torch.arange(len(train)), heldout_labels=torch.arange(len(heldout)) + 100,
        train_groups=torch.tensor(train), heldout_groups=torch.tensor(heldout),
        train_owners=torch.zeros(len(train)).long(), heldout_owners=torch.zeros(len(heldout)).long(),
    )  # fmt: skip


def test_one_example_of_each_of_twenty_groups_is_enough():
    train, heldout = [k // 2 for k in range(40)], [50 + k // 3 for k in range(60)]
    made = grouped(train, heldout)
    units = one_of_each_group(made, np.random.default_rng(0))
    assert (len(units.train), len(units.heldout)) == (20, 20)
    places = units.train[:, 0].long()
    assert (places // 2).tolist() == list(range(20))
    assert units.train_labels is not None
    assert units.heldout_labels is not None
    assert units.train_labels.tolist() == places.tolist()
    assert (units.heldout_labels - 100).tolist() == (units.heldout[:, 0].long() - 60).tolist()
    assert (units.train_groups, units.heldout_groups, units.train_owners, units.heldout_owners) == (None,) * 4
    for few in ((train[:38], heldout), (train, heldout[:57])):
        with pytest.raises(InputError, match="at least 20 training and 20 held-out groups, got"):
            one_of_each_group(grouped(*few), np.random.default_rng(0))
    first, second = independent(made, np.random.default_rng(1))
    assert (len(first), len(second)) == (20, 20)
    assert (second // 3).tolist() == list(range(20))

"""A published CIFAR-10 classifier: its accuracy, and the distances that were stated for its features."""

import numpy as np
import pytest
import torch

from diffuscope.audit.cifar_features import CifarFeatures, load_cifar_features
from diffuscope.audit.frechet import frechet_distance
from diffuscope.data import load_data
from diffuscope.errors import InputError

EXAMPLES = 1000  # the sizes behind the stated distances are not known; at this one all of them come out


@pytest.mark.slow
def test_the_published_accuracy_and_the_stated_distances_are_reached(shared_data, generator, monkeypatch):
    """91.5 %; .39 train against train, .32 train against test, 30 with noise .1, each to 4 standard errors."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    data = load_data("cifar10").in_range(0.0, 1.0)
    features = load_cifar_features(shared_data / "weights" / "cifar10_resnet20_akamaster.npz", (0.0, 1.0))
    test = data.heldout[:EXAMPLES]
    assert data.heldout_labels is not None
    right = (features.logits(test).argmax(1) == data.heldout_labels[:EXAMPLES]).double().mean()
    assert float(right) == pytest.approx(0.915, abs=4 * (0.915 * 0.085 / EXAMPLES) ** 0.5)
    train, other = features(data.train[:EXAMPLES]), features(data.train[EXAMPLES : 2 * EXAMPLES])
    noisy = features((test + 0.1 * torch.randn(test.shape, generator=generator)).clamp(0, 1))
    box = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(test, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    found = [frechet_distance(train, x) for x in (other, features(test), noisy, features(box))]
    for distance, stated in zip(found, (0.39, 0.32, 30.0), strict=False):
        assert distance.value == pytest.approx(stated, abs=4 * distance.standard_error)
    # the kernel of the stated blur (12.6) is not known: between real images and noise
    assert 10 * found[1].value < found[3].value < found[2].value


def random_weights(generator):
    """A network of one block a group."""
    weights = {"linear.weight": torch.zeros(10, 64), "linear.bias": torch.zeros(10)}
    layers = {"conv1": (3, 16)}
    for group, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        layers |= {f"layer{group}.0.conv1": (before, after), f"layer{group}.0.conv2": (after, after)}
    for name, (before, after) in layers.items():
        weights[f"{name}.weight"] = 0.2 * torch.randn(after, before, 3, 3, generator=generator)
        norm = name.replace("conv", "bn")
        for key, value in {"weight": 1.0, "bias": 0.1, "running_mean": 0.0, "running_var": 1.0}.items():
            weights[f"{norm}.{key}"] = torch.full((after,), value)
    return weights


def test_a_range_of_pixels_is_a_matter_of_units(generator):
    weights = random_weights(generator)
    x = torch.rand(3, 3, 32, 32, generator=generator)
    unit, centered = (CifarFeatures(weights, ends) for ends in ((0.0, 1.0), (-1.0, 1.0)))
    assert unit(x).shape == (3, 64)
    assert torch.allclose(unit(x), centered(2 * x - 1), atol=1e-4)
    # an image's features do not depend on its neighbors in the batch
    assert torch.allclose(unit(x)[1:2], unit(x[1:2]), atol=1e-5)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(InputError, match="path: expected a CIFAR ResNet"):
        load_cifar_features(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="path: cannot read text"):
        load_cifar_features(tmp_path / "text.npz")
    with pytest.raises(InputError, match="path: cannot read missing"):
        load_cifar_features(tmp_path / "missing.npz")

r"""Features learned from the data's own labels: the hidden layer of a small classifier, whitened.

.. math::
    h(x) = \max\left(0, W \tfrac{x - \mu}{s} + b\right), \qquad
    \text{label} \sim \operatorname{softmax}(W' h + b'), \qquad
    f(x) = \Lambda^{-1/2} V^T (h(x) - \bar h) .

mu and s are the mean and the standard deviation of all values of the training data, and h is whitened on them
(`whitening`). Two examples are near if the classifier represents them alike; its accuracy on held-out labels says how
far the features can be trusted. Without whitening the few directions that separate the labels dominate: the distance
mostly measures how often each label happened to be drawn, and hardly responds to noise or to a Gaussian's samples.

Large pictures are first averaged over blocks (`transformations.averaged`), which labels are learned from as well; x is
that smaller picture.

The seed is fixed, so that one data set has one feature space.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.errors import InputError

from .transformations import averaged
from .whitening import whitening

WIDTH = 32
PENALTY = 1.0  # of the squared weights
STEPS = 1500
BATCH = 200  # examples per step, as MLPClassifier takes them
LARGEST_TRAINING_SET = 10_000  # of a larger one, so many random examples are enough for features
FEATURE_BATCH = 4096


@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """x -> f(x). `accuracy` is the classifier's accuracy on `heldout` many held-out examples."""

    mean: float
    scale: float
    weight: Float[Tensor, "d width"] = field(repr=False)
    bias: Float[Tensor, " width"] = field(repr=False)
    label_weight: Float[Tensor, "width outputs"] = field(repr=False)
    label_bias: Float[Tensor, " outputs"] = field(repr=False)
    classes: Int[Tensor, " classes"]
    center: Float[Tensor, " width"] = field(repr=False)
    whitening: Float[Tensor, "width width"] = field(repr=False)
    accuracy: float = math.nan
    heldout: int = 0

    def __call__(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n width"]:
        """Whitened features in float64."""
        return (self.hidden(x) - self.center) @ self.whitening

    def hidden(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n width"]:
        """h(x), in float64."""
        parts = ((part.flatten(1).double() - self.mean) / self.scale for part in _inputs(x))
        return torch.cat([torch.relu(part @ self.weight + self.bias) for part in parts])

    def label(self, x: Float[Tensor, "n *event"]) -> Int[Tensor, " n"]:
        """The most probable label."""
        outputs = self.hidden(x) @ self.label_weight + self.label_bias
        # one output decides between two labels
        return self.classes[(outputs[:, 0] > 0).long() if len(self.classes) == 2 else outputs.argmax(1)]


def fit_classifier(
    train: Float[Tensor, "n *event"],
    train_labels: Int[Tensor, " n"],
    heldout: Float[Tensor, "m *event"],
    heldout_labels: Int[Tensor, " m"],
) -> ClassifierFeatures:
    """Fit the classifier on `train`, which takes a few seconds; `heldout` only measures its accuracy.

    Raises InputError for labels that are all the same, and for data that are constant or not finite.
    """
    # at random: data may be sorted by label, or cycle through the labels
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:LARGEST_TRAINING_SET]
    train_labels = train_labels[order]
    if len(train_labels.unique()) < 2:
        raise InputError("train_labels: expected at least two different labels, got one")
    from sklearn.exceptions import ConvergenceWarning  # a second that other questions need not wait
    from sklearn.neural_network import MLPClassifier

    chosen = torch.cat([*_inputs(train[order])])
    mean, scale = float(chosen.double().mean()), float(chosen.double().std())
    if not math.isfinite(scale):
        raise InputError("train: expected finite values, got NaN or infinity")
    if scale == 0:
        raise InputError(f"train: expected values that differ, got {mean:g} everywhere")
    epochs = math.ceil(STEPS / math.ceil(len(chosen) / BATCH))
    network = MLPClassifier((WIDTH,), alpha=PENALTY, max_iter=epochs, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of steps, converged or not
        network.fit(((chosen.flatten(1).double() - mean) / scale).numpy(), train_labels.numpy())
    (weight, label_weight), (bias, label_bias) = (
        [torch.from_numpy(array) for array in layers] for layers in (network.coefs_, network.intercepts_)
    )
    classes = torch.as_tensor(network.classes_)
    unwhitened = torch.zeros(WIDTH, dtype=torch.float64), torch.eye(WIDTH, dtype=torch.float64)
    plain = ClassifierFeatures(mean, scale, weight, bias, label_weight, label_bias, classes, *unwhitened)
    hidden = plain.hidden(train[order])
    accuracy = float((plain.label(heldout) == heldout_labels).double().mean())
    center, white = hidden.mean(0), whitening(hidden)
    return replace(plain, center=center, whitening=white, accuracy=accuracy, heldout=len(heldout))


def _inputs(x: Float[Tensor, "n *event"]) -> Iterator[Float[Tensor, "_ *input"]]:
    """What the network reads of the examples, part by part: these, or large pictures averaged over blocks."""
    return map(averaged, float_parts(x, rows=FEATURE_BATCH))

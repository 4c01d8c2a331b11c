r"""Features of natural images of 32 x 32 pixels: the pooled last layer of a published CIFAR-10 classifier.

A residual network of 6n + 2 layers (He et al. 2016, https://arxiv.org/abs/1512.03385): a convolution 3 -> 16, three
groups of n blocks of widths 16, 32, 64 that halve the image twice, and the mean over pixels of the last 64 channels,

.. math::  h \leftarrow \max(0,\, F(h) + S h), \qquad F = \mathrm{BN} \circ \mathrm{conv} \circ \max(0, \cdot) \circ
           \mathrm{BN} \circ \mathrm{conv},

where S drops every second pixel and pads the new channels with zeros, half of them before the old ones, when the width
changes. Colors are standardized by the mean and the standard deviation of ImageNet. All weights come from the file,
under the names `conv1`, `bn1`, `layer1.0.conv1`, ..., `linear`; nothing is trained. A module of the user's with ::

    features = load_cifar_features("resnet20.npz")

gives `diffuscope audit --features module:features` a feature space for the search for copies.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as fn

from diffuscope.byte_examples import float_parts
from diffuscope.data.value_range import checked_range
from diffuscope.denoisers import load_npz
from diffuscope.errors import InputError

COLOR_MEAN, COLOR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GROUPS = ("layer1", "layer2", "layer3")
BATCH = 250
IMAGE, CLASSES = (3, 32, 32), 10


@dataclass(frozen=True, eq=False)
class CifarFeatures:
    """Images (n, 3, 32, 32) with values in `data_range` -> features (n, 64). Raises InputError for an empty range.

    A network whose blocks pass on what comes, and whose channel 5 is the red of an image, standardized:

    >>> import torch
    >>> from diffuscope.audit import CifarFeatures
    >>> weights, widths = {}, {"": (3, 16), "layer1.0.": (16, 16), "layer2.0.": (16, 32), "layer3.0.": (32, 64)}
    >>> for (name, (before, n)), k in ((each, k) for each in widths.items() for k in (1, 2)):
    ...     norm = torch.nn.BatchNorm2d(n).state_dict()
    ...     weights[f"{name}conv{k}.weight"] = torch.zeros(n, before if k == 1 else n, 3, 3)
    ...     weights |= {f"{name}bn{k}.{key}": value for key, value in norm.items()}
    >>> weights["conv1.weight"][5, 0, 1, 1] = 1.0
    >>> found = CifarFeatures(weights)(torch.full((1, 3, 32, 32), 0.5))[0]
    >>> found.nonzero().tolist(), round(float(found.max()), 3)  # behind 8 + 16 new channels; (0.75 - 0.485) / 0.229
    ([[29]], 1.157)
    """

    weights: dict[str, Tensor] = field(repr=False)
    data_range: tuple[float | int, float | int] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        checked_range(self.data_range, "data_range")

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n 64"]:
        """Pooled features, float32. Raises InputError for images of another shape."""
        if x.shape[1:] != IMAGE:
            raise InputError(f"x: expected images of shape {IMAGE}, got {tuple(x.shape[1:])}")
        return torch.cat([self._pooled(part) for part in float_parts(x, rows=BATCH)])

    def logits(self, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n 10"]:
        """The classifier's logits, one row of 10 per image."""
        return fn.linear(self(x), self.weights["linear.weight"], self.weights["linear.bias"])

    def _pooled(self, x: Tensor) -> Tensor:
        low, high = self.data_range
        mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (COLOR_MEAN, COLOR_STD))
        h = fn.relu(self._layer(((x.float() - low) / (high - low) - mean) / std, "conv1", "bn1", 1))
        for group in GROUPS:
            for block in range(self._blocks(group)):
                stride = 2 if block == 0 and group != GROUPS[0] else 1
                h = self._block(h, f"{group}.{block}", stride)
        return h.mean((2, 3))

    def _block(self, h: Tensor, name: str, stride: int) -> Tensor:
        inner = fn.relu(self._layer(h, f"{name}.conv1", f"{name}.bn1", stride))
        outer = self._layer(inner, f"{name}.conv2", f"{name}.bn2", 1)
        added = (outer.shape[1] - h.shape[1]) // 2
        return fn.relu(outer + fn.pad(h[:, :, ::stride, ::stride], (0, 0, 0, 0, added, added)))

    def _layer(self, h: Tensor, conv: str, norm: str, stride: int) -> Tensor:
        h = fn.conv2d(h, self.weights[f"{conv}.weight"], stride=stride, padding=1)
        moments = self.weights[f"{norm}.running_mean"], self.weights[f"{norm}.running_var"]
        return fn.batch_norm(h, *moments, self.weights[f"{norm}.weight"], self.weights[f"{norm}.bias"])

    def _blocks(self, group: str) -> int:
        return sum(name.startswith(f"{group}.") and name.endswith(".conv1.weight") for name in self.weights)


def load_cifar_features(path: str | Path, data_range: tuple[float | int, float | int] = (-1.0, 1.0)) -> CifarFeatures:
    """Load the network from an `.npz` of its arrays; InputError for another file, and for an empty range.

    >>> import numpy as np
    >>> from diffuscope.audit import load_cifar_features
    >>> np.savez("other.npz", weight=np.ones(3))
    >>> load_cifar_features("other.npz")
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: path: expected a CIFAR ResNet in other.npz, it has no array 'conv1.weight'
    """
    path = Path(path)
    features = CifarFeatures(load_npz(path, "path"), data_range)
    try:
        logits = features.logits(torch.zeros(1, *IMAGE))
    except KeyError as error:
        raise InputError(f"path: expected a CIFAR ResNet in {path.name}, it has no array {error}") from error
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"path: expected a CIFAR ResNet in {path.name}, its arrays do not fit ({reason})") from error
    finite = bool(torch.isfinite(logits).all())
    if logits.shape != (1, CLASSES) or not finite:
        raise InputError(
            f"path: expected a CIFAR ResNet in {path.name} with {CLASSES} finite logits, "
            f"got {logits.shape[1]}{'' if finite else ', not all finite'}"
        )
    return features

"""Faults of stated size, planted on held-out examples: what a test must find before its "close" counts.

- blur: a Gaussian filter of standard deviation BLUR pixels (images only);
- one class: the most frequent label, or the largest cluster where there are no labels, drawn with replacement;
- a Gaussian: draws from N(mean, covariance) of the training data;
- noise: NOISE standard deviations of a coordinate of the data, added to every coordinate.
"""

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import floats_at
from diffuscope.exact import Gaussian
from diffuscope.memory import ranges

from .nearness import kmeans
from .rows_of import at_once, few_enough
from .subject import Subject

BLUR = 1.0
NOISE = 0.2
CLUSTERS = 10
SMALLEST_IMAGE = 3  # pixels along each side


def planted_faults(
    subject: Subject, gaussian: Gaussian, n: int, generator: torch.Generator
) -> dict[str, Float[Tensor, "n *event"]]:
    """`n` samples with each fault, by its name."""
    train = subject.train
    order = torch.randperm(len(train), generator=generator)
    base = floats_at(train, order[torch.arange(n) % len(train)]).float()
    faults: dict[str, Tensor] = {}
    if is_image(train):
        filtered = scipy.ndimage.gaussian_filter(base.numpy(), (0, 0, BLUR, BLUR))
        faults[f"a blur of {BLUR:g} pixel"] = torch.from_numpy(filtered)
    labels, kind = subject.train_labels, "class"
    if labels is None:
        labels, kind = torch.from_numpy(kmeans(_fitted(train), CLUSTERS, 0)(train.flatten(1))), "cluster"
    members = torch.nonzero(labels == labels.mode().values)[:, 0]
    drawn = members[torch.randint(len(members), (n,), generator=generator)]
    faults[f"one {kind} only"] = floats_at(train, drawn).float()
    size = at_once(8 * gaussian.dimension)
    parts = [gaussian.sample(stop - start, generator=generator).float() for start, stop in ranges(n, size)]
    faults["samples of a Gaussian"] = torch.cat(parts)
    noise = torch.randn(base.shape, generator=generator)
    faults[f"noise of {NOISE:g} standard deviations"] = base + NOISE * subject.scale * noise
    return faults


def _fitted(train: Float[Tensor, "n *event"]) -> Float[Tensor, "_ d"]:
    """The first examples, no more than take little memory; they are in random order."""
    return train[: few_enough(len(train), train[0].numel())].flatten(1)


def is_image(x: Float[Tensor, "n *event"]) -> bool:
    """Whether the examples are images (channels, height, width)."""
    return x.ndim == 4 and min(x.shape[2:]) >= SMALLEST_IMAGE

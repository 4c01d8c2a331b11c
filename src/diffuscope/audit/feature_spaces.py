"""The feature spaces in which samples are compared with held-out data, in the order in which they are tried.

The user's own features, or else those of a classifier of the labels, come first. Patch features (of images) and cluster
features need no labels; they are tried while a planted fault has not been seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Gaussian

from .classifier import ClassifierFeatures
from .cluster_features import fit_cluster_features
from .features import Features, feature_map
from .patch_features import fit_patch_features
from .planted_faults import is_image
from .rows_of import few_enough
from .whitening import Whitened

LARGEST_TRAINING_SET = 10_000  # of a larger one, so many random examples are enough to fit features


@dataclass(frozen=True)
class Space:
    """A map to features and what it is called in a sentence."""

    name: str
    features: Features = field(repr=False)


def feature_spaces(
    train: Float[Tensor, "n *event"],
    gaussian: Gaussian,
    own: tuple[str, ...],
    classifier: ClassifierFeatures | None,
    affordable: int,
    seed: int,
    load: Callable[[str], Features] | None = None,
) -> Iterator[Callable[[], Space]]:
    """The spaces, each fitted when it is called; of more than `affordable` features of the user's the leading ones.

    The user's features are those that `load` finds by name, by default anew.
    """
    generator = torch.Generator().manual_seed(seed)
    some = fitted_to(train, generator)
    for name in own:
        yield partial(_named, name, load or (lambda found: feature_map(found, gaussian)), some, affordable)
    if classifier is not None and not own:
        title = f"the features of a classifier with {classifier.accuracy:.0%} held-out accuracy"
        yield lambda: Space(title, classifier)
    if is_image(train):
        yield lambda: Space("random filters of image patches", fit_patch_features(some, generator))
    yield lambda: Space("distances to clusters", fit_cluster_features(some, gaussian, seed % 2**31))


def fitted_to(train: Float[Tensor, "n *event"], generator: torch.Generator) -> Float[Tensor, "_ *event"]:
    """The training examples that determine features, in random order."""
    most = few_enough(LARGEST_TRAINING_SET, train[0].numel())
    return train[torch.randperm(len(train), generator=generator)[:most]]


def _named(name: str, load: Callable[[str], Features], train: Float[Tensor, "n *event"], affordable: int) -> Space:
    features = load(name)
    if (width := features(train[:1]).shape[1]) <= affordable:
        return Space(f"the features of {name}", features)
    title = f"the leading {affordable} whitened principal components of the {width:,} features of {name}"
    return Space(title, Whitened.fit(lambda x: features(x).double(), train, affordable))

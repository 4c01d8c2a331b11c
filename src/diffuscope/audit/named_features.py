"""The feature spaces of `--features` by name: pixels, pca, those fitted to the training data, or the user's own.

| name | it is |
|---|---|
| pixels | the values themselves |
| pca | the leading 50 principal components, whitened |
| patches | of images: random rectified filters of whitened patches, pooled (`patch_features`) |
| clusters | distances to the centers of 32 clusters (`cluster_features`) |
| classifier | with labels: the hidden layer of a small classifier, whitened (`classifier`) |
| module:object | a function of a batch, an nn.Module, or an object that can be called |

All are maps of single examples that know the training data alone, so that samples and held-out examples are treated
alike. The user's own are computed once for every example (`remembered_features`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.store import Store

from .classifier import fit_classifier
from .cluster_features import fit_cluster_features
from .feature_spaces import fitted_to
from .features import FITTED, Features, feature_map, user_features, user_object
from .fingerprint import object_digest
from .patch_features import fit_patch_features
from .remembered_features import RememberedFeatures
from .subject import Subject
from .transformations import is_image


def named_features(name: str, subject: Subject, gaussian: Gaussian, seed: int) -> Features:
    """The feature space `name` of a subject, whose training data have the Gaussian `gaussian`.

    Raises InputError for a name that is none, for patches without images, and for a classifier without labels.
    """
    require_space(name, subject)
    if name not in FITTED:
        return feature_map(name, gaussian)
    fitted = _fitted(name, subject, gaussian, seed)
    return lambda x: fitted(x).float()


def own_features(name: str, train: Float[Tensor, "n *event"], store: Store) -> RememberedFeatures:
    """The user's features `name`, tried on two training examples: what is wrong shows before any other work."""
    features = RememberedFeatures(user_features(name), object_digest(name, user_object(name)), store)
    features(train[:2])
    return features


def require_space(name: str, subject: Subject) -> None:
    """Raises InputError where the data do not have what `name` needs, and for an object that cannot be called."""
    if ":" in name:
        user_object(name)
    shape = tuple(subject.train.shape[1:])
    if name == "patches" and not is_image(shape):
        raise InputError(f"features: 'patches' are of images, got examples of shape {shape}")
    if name == "classifier" and (subject.train_labels is None or subject.heldout_labels is None):
        raise InputError("features: 'classifier' needs labels of the training and the held-out data, got none")


def _fitted(name: str, subject: Subject, gaussian: Gaussian, seed: int) -> Features:
    if name == "classifier":
        train_labels, heldout_labels = subject.train_labels, subject.heldout_labels
        assert train_labels is not None
        assert heldout_labels is not None
        return fit_classifier(subject.train, train_labels.long(), subject.heldout, heldout_labels.long())
    generator = torch.Generator().manual_seed(seed)
    some = fitted_to(subject.train, generator)
    if name == "patches":
        return fit_patch_features(some, generator)
    return fit_cluster_features(some, gaussian, seed % 2**31)

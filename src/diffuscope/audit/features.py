"""Feature spaces in which distances between examples are taken: pixels, principal components, or the user's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.denoisers import modules_within
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.files import load_object

from .rows_of import flat
from .subject import FEATURES

WHITENED_COMPONENTS = 50
ROUNDING = 1e-9  # of the largest variance: smaller ones are rounding errors of a lower rank
FEATURE_BATCH = 1024
Features = Callable[[Float[Tensor, "n *event"]], Float[Tensor, "n features"]]
FITTED = FEATURES[2:]  # to the training data, in `named_features`


def feature_map(name: str, gaussian: Gaussian) -> Features:
    """`pixels`, `pca` (the leading 50 principal components, whitened) or `module:object`, called with batches.

    The object is called without gradients and with all modules within it in evaluation mode. Raises InputError for
    another name, for an object that cannot be called, and for one that does not return one finite row per example.
    """
    if name == "pixels":
        return flat
    if name == "pca":
        variances = gaussian.eigenvalues
        kept = gaussian.truncate(min(WHITENED_COMPONENTS, int((variances > ROUNDING * variances.max()).sum())))
        whiten = (kept.eigenvectors / kept.eigenvalues.sqrt()).float()
        mean = gaussian.mean.float()
        return lambda x: torch.cat([(part - mean).flatten(1) @ whiten for part in float_parts(x)])
    if ":" not in name:
        raise InputError(f"features: expected 'pixels', 'pca' or module:object, got {name!r}")
    return user_features(name)


def user_features(name: str) -> Features:
    """The features `module:object`; InputError as `feature_map`."""
    function = user_object(name)

    def features(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n features"]:
        with torch.no_grad(), evaluating(function):
            parts: list[Any] = [function(part) for part in float_parts(x, rows=FEATURE_BATCH)]
        if not all(isinstance(part, Tensor | np.ndarray) for part in parts):
            raise InputError(f"features: {name} must return a tensor or an array, got {type(parts[0]).__name__}")
        shapes = {(part.ndim, tuple(part.shape[1:])) for part in parts}
        alike = len(shapes) == 1 and parts[0].ndim > 0
        rows = torch.cat([torch.as_tensor(part) for part in parts]) if alike else torch.empty(0)
        if rows.ndim != 2 or len(rows) != len(x) or not bool(torch.isfinite(rows).all()):
            raise InputError(f"features: {name} must return one finite row per example, got shape {tuple(rows.shape)}")
        return rows.float()

    return features


def user_object(name: str) -> Callable[..., Any]:
    """The object that `module:object` names; InputError for a class, and for what cannot be called."""
    found = load_object(name, "features")
    if isinstance(found, type):
        raise InputError(f"features: {name} is a class, expected an instance of it or a function")
    if not callable(found):
        raise InputError(f"features: expected {name} to be a function or an nn.Module, got {type(found).__name__}")
    return found


@contextmanager
def evaluating(found: object) -> Iterator[None]:
    """Evaluation mode for all modules within an object; each is given back in the mode that it had."""
    modes = [(part, part.training) for module in modules_within(found) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode

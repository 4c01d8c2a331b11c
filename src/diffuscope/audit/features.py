"""The feature spaces in which distances between examples are taken: pixels, principal components, or the user's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.files import load_object

WHITENED_COMPONENTS = 50
ROUNDING = 1e-9  # of the largest variance: smaller ones are rounding errors of a lower rank
FEATURE_BATCH = 1024
Features = Callable[[Float[Tensor, "n *event"]], Float[Tensor, "n features"]]


def feature_map(name: str, gaussian: Gaussian) -> Features:
    """`pixels`, `pca` (the leading 50 principal components, whitened) or `module:function` mapping a batch to rows.

    Raises InputError for another name, and for a function that does not return one finite row per example.
    """
    if name == "pixels":
        return lambda x: x.flatten(1)
    if name == "pca":
        variances = gaussian.eigenvalues
        kept = gaussian.truncate(min(WHITENED_COMPONENTS, int((variances > ROUNDING * variances.max()).sum())))
        whiten = (kept.eigenvectors / kept.eigenvalues.sqrt()).float()
        return lambda x: (x - gaussian.mean.float()).flatten(1) @ whiten
    if ":" not in name:
        raise InputError(f"features: expected 'pixels', 'pca' or module:function, got {name!r}")
    function = load_object(name, "features")
    if not callable(function):
        raise InputError(f"features: {name} is a {type(function).__name__}, expected a function")

    def features(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n features"]:
        with torch.no_grad():
            parts: list[Any] = [function(part) for part in x.split(FEATURE_BATCH)]
        if not all(isinstance(part, Tensor | np.ndarray) for part in parts):
            raise InputError(f"features: {name} must return a tensor or an array, got {type(parts[0]).__name__}")
        shapes = {(part.ndim, tuple(part.shape[1:])) for part in parts}
        alike = len(shapes) == 1 and parts[0].ndim > 0
        rows = torch.cat([torch.as_tensor(part) for part in parts]) if alike else torch.empty(0)
        if rows.ndim != 2 or len(rows) != len(x) or not bool(torch.isfinite(rows).all()):
            raise InputError(f"features: {name} must return one finite row per example, got shape {tuple(rows.shape)}")
        return rows.float()

    return features

"""Fields that others computed: `darcy_neuraloperator` and `burgers_neuraloperator` (MIT), where they are installed.

Read from NAME.npz in the folder that DIFFUSCOPE_DATA names, in its subfolder pde, or in the user's cache folder.

| name | fields | from |
|---|---|---|
| `darcy_neuraloperator` | 1,000 and 50 pairs (phase, pressure) of 16 x 16 | Li et al. 2021 (arXiv:2010.08895) |
| `burgers_neuraloperator` | 800 and 400 fields of 17 times and 16 points | Li et al. 2021 |
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data.places import require_file
from diffuscope.errors import InputError

from .operators.media import TwoPhase

MEDIA = TwoPhase()  # the coefficients of the two phases, whose contrast is by a fit: the data hold the phase alone
NAMES = {"darcy_neuraloperator": "darcy", "burgers_neuraloperator": "burgers"}


@dataclass(frozen=True, eq=False)
class PublicFields:
    """Fields (n, channels, *grid), float64, and others that are held out; `problem` has their channels and grid."""

    name: str
    problem: str
    nodes: int
    train: Float[Tensor, "n channels *grid"]
    heldout: Float[Tensor, "k channels *grid"]
    words: str


def public_fields(name: str) -> PublicFields:
    """The fields of this name; InputError where the file is absent or damaged, and for another name."""
    if name not in NAMES:
        raise InputError(f"prior: expected one of {', '.join(NAMES)}, got {name!r}")
    path = require_file(f"{name}.npz", "prior", folders=("pde", ""))
    keys = ("train_16_x", "train_16_y", "test_16_x", "test_16_y") if "darcy" in name else ("train_u", "test_u")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [torch.from_numpy(np.asarray(archive[key], dtype=np.float64)) for key in keys]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"prior: {path} cannot be read ({error}); expected the arrays {', '.join(keys)}") from None
    if "darcy" in name:
        parts = [torch.stack([MEDIA.low + (MEDIA.high - MEDIA.low) * x, y], 1) for x, y in (arrays[:2], arrays[2:])]
    else:
        parts = [u[:, None] for u in arrays]
    train, heldout = parts
    return PublicFields(
        name, NAMES[name], train.shape[2], train, heldout, f"a finite set, the {len(train):,} fields of {name}"
    )

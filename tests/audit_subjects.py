"""Small subjects whose audit has a known answer."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffuscope.audit import Settings, Subject
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Distribution
from diffuscope.schedules import VE

QUICK = Settings(levels=8, points=200, trajectories=16, generated=200, components=4, step_seeds=8)


def digits(seed: int = 0) -> Tensor:
    """scikit-learn's 1797 digits in random order, (n, 1, 8, 8) in [-1, 1]."""
    images = torch.tensor(load_digits(return_X_y=True)[0] / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]


def exact_subject(law: Distribution, train: Tensor, heldout: Tensor) -> Subject:
    """The exact denoiser of `law`, audited against `train` and `heldout`."""
    return Subject(ExactDenoiser(law, VE()), train, heldout, "exact", "digits")

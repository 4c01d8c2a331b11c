"""A model that copies a known share of the time: a Gaussian, the distribution of the data, and the training set."""

import numpy as np
import torch
from torch import Tensor

from diffuscope.audit import Settings
from diffuscope.audit.copy_search import CopySearch
from diffuscope.data import DataSet
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.exact.superposition import Superposition
from diffuscope.schedules import VE

DIMENSION = 12
SMALL = Settings(levels=5, points=60, trajectories=8, generated=120, references=400)


def truth() -> Gaussian:
    """The distribution that the data are drawn from."""
    return Gaussian.isotropic(torch.zeros(DIMENSION, dtype=torch.float64), 1.0)


def gaussian_data(train: int = 150, heldout: int = 300, seed: int = 0) -> DataSet:
    """Independent draws."""
    generator = torch.Generator().manual_seed(seed)
    rows = truth().sample(train + heldout, generator=generator).float()
    places = torch.arange(train + heldout)
    return DataSet(
        "gaussian", rows[:train], rows[train:], (-6.0, 6.0), "drawn", places[:train], places[train:], kind="vectors"
    )


def copying(data: DataSet, share: float) -> Superposition:
    """The distribution of which `share` are exact copies."""
    return Superposition([truth(), Empirical(data.train)], torch.tensor([1 - share, share]))


def copying_model(data: DataSet, share: float) -> ExactDenoiser:
    """Its exact denoiser."""
    return ExactDenoiser(copying(data, share), VE(sigma_min=0.002, sigma_max=80.0))


def search_of(data: DataSet, seed: int = 0) -> dict[str, CopySearch]:
    """The audit's search among the training data."""
    return {"pixels": CopySearch(data.train, data.heldout, calibration=10_000, seed=seed)}


def drawn(data: DataSet, share: float, n: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """n samples, and which of them are copies."""
    x, which = copying(data, share).sample_with_labels(n, generator=torch.Generator().manual_seed(seed))
    return x.float(), which.numpy() == 1

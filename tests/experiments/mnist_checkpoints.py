"""Stand-ins for the checkpoints of the learning curve, as DIFFUSCOPE_CHECKPOINTS names them."""

from dataclasses import dataclass

import torch

from diffuscope.audit import fit_references
from diffuscope.data import load_data
from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.schedules import VE
from published_networks.noise_cnn import checkpoints


def one_published():
    """The last published checkpoint in the place of all."""
    networks = checkpoints()
    return dict.fromkeys(networks, networks[401])


@dataclass(frozen=True)
class Between:
    """A share of the way from one denoiser to another."""

    here: Denoiser
    there: Denoiser
    share: float

    @property
    def schedule(self):
        return self.here.schedule

    def __call__(self, x_t, t):
        return torch.lerp(self.here(x_t, t), self.there(x_t, t), self.share)


def stand_in():
    """On digits in [-1, 1], exactly: from the isotropic Gaussian to the Gaussian, and on to a mixture."""
    train = load_data("digits").in_range(-1.0, 1.0).train
    models = fit_references(train, train[:2], 10, torch.Generator().manual_seed(7)).models
    isotropic, gaussian, mixture = (ExactDenoiser(models[n], VE()) for n in ("isotropic", "Gaussian", "mixture"))
    last = {6: Between(gaussian, mixture, 0.4), 11: Between(gaussian, mixture, 0.9)}
    return last | {1: Between(isotropic, gaussian, 0.4), 3: Between(isotropic, gaussian, 0.9)}


def idle():
    """It stays where it begins."""
    return dict.fromkeys((1, 3, 6, 11), stand_in()[1])


def mixed_up():
    """Not denoisers."""
    return {1: "a", 2: "b", 3: "c"}


def untrained():
    """Before the first epoch."""
    return {0: stand_in()[1]} | stand_in()


def unnumbered():
    """Names in the place of epochs."""
    return {str(epoch): network for epoch, network in stand_in().items()}


def two():
    """Too few to turn."""
    return dict(list(stand_in().items())[:2])


A_NUMBER = 3

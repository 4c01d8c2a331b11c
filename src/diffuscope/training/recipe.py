"""The model that is trained when none is given: EDM preconditioning around a small network, for images or vectors.

The data's mean and standard deviation enter the preconditioning, so that the untrained network is already the exact
denoiser of an isotropic Gaussian. Weights are those of Karras et al. 2022; the noise law is wider than theirs (1.8
instead of 1.2 in log sigma), so that a short training reaches the high noise where samples begin.
"""

import math

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Preconditioned, UNet, seeded
from diffuscope.schedules import VE
from diffuscope.training.objective import EDMWeight, LogNormalNoise
from diffuscope.training.settings import TrainingSettings

LARGEST_NOISE = 40.0  # in deviations of the data; there every example looks alike


def new_denoiser(
    data: Float[Tensor, "n *event"], data_range: tuple[float, float], seed: int, *, classes: int = 0
) -> Preconditioned:
    """An untrained U-Net (images) or MLP (vectors) for `data` of `classes` classes, its weights drawn with `seed`.

    Its noise levels run from a hundredth of the data's standard deviation to 40 of them.
    """
    event_shape = tuple(data.shape[1:])
    with seeded(seed):
        make = UNet if len(event_shape) == 3 else MLP
        network = make(event_shape, classes=classes)
    scale = float(data.double().std())
    return Preconditioned(
        network,
        VE(sigma_min=0.01 * scale, sigma_max=LARGEST_NOISE * scale),
        scale,
        event_shape=event_shape,
        data_range=data_range,
        data_mean=float(data.double().mean()),
    )


def recipe(scale: float, *, steps: int, batch_size: int, seed: int) -> TrainingSettings:
    """Log-normal noise around the data's standard deviation `scale`, EDM's weight, a cosine learning rate."""
    return TrainingSettings(
        steps=steps,
        batch_size=batch_size,
        noise=LogNormalNoise(mean=math.log(scale), std=1.8),
        weight=EDMWeight(scale),
        average_decay=0.999,
        seed=seed,
    )

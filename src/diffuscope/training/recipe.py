"""The model that is trained when none is given: EDM preconditioning around a small network, for images or vectors.

The data's mean and standard deviation enter the preconditioning, so that the untrained network is already the exact
denoiser of an isotropic Gaussian. Settings follow Karras et al. 2022 (noise law, weights) at a size for two cores.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Preconditioned, UNet
from diffuscope.schedules import VE
from diffuscope.training.objective import EDMWeight, LogNormalNoise
from diffuscope.training.settings import TrainingSettings


def new_denoiser(data: Float[Tensor, "n *event"], data_range: tuple[float, float], seed: int) -> Preconditioned:
    """An untrained U-Net (images) or MLP (vectors) for `data`, its weights drawn with `seed`."""
    event_shape = tuple(data.shape[1:])
    # module constructors draw from the global generator: fork it, seed it, leave it as it was
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(event_shape) if len(event_shape) == 3 else MLP(event_shape)
    scale = float(data.double().std())
    return Preconditioned(
        network,
        VE(sigma_min=0.004 * scale, sigma_max=160 * scale),
        scale,
        event_shape=event_shape,
        data_range=data_range,
        data_mean=float(data.double().mean()),
    )


def recipe(scale: float, *, steps: int, batch_size: int, seed: int) -> TrainingSettings:
    """EDM's noise law and weight for data of standard deviation `scale`."""
    # EDM's law was made for data of deviation 1/2: sigma / sigma_data keeps its meaning
    shift = torch.log(torch.tensor(2 * scale, dtype=torch.float64))
    return TrainingSettings(
        steps=steps,
        batch_size=batch_size,
        noise=LogNormalNoise(mean=-1.2 + float(shift), std=1.2),
        weight=EDMWeight(scale),
        average_decay=0.999,
        seed=seed,
    )

"""Three models of scikit-learn's digits whose trajectories are compared: Gaussian, mixture, and a small network.

The mixture of ten Gaussians is an exact model with modes: its denoiser is the optimum for its own data. The network is
a multilayer perceptron trained for a few seconds, 1,000 steps of 64 examples; digits are 8 x 8 pixels in [-1, 1], as
vectors of 64.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import MLP, Batch, BatchTime, Preconditioned, seeded
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE
from diffuscope.streams import torch_stream
from diffuscope.training import fit, recipe

from .part import PIXEL_RANGE

COMPONENTS, STEPS, BATCH = 10, 1000, 64
NETWORK = f"MLP of 128 x 2, {STEPS:,} steps of {BATCH} examples"
PIXELS, SIDE = 64, 8


@dataclass(frozen=True, eq=False)
class DigitModels:
    """Training digits, their Gaussian, a mixture around their clusters, and its own Gaussian."""

    train: Float[Tensor, "n 64"]
    gaussian: Gaussian
    mixture: GaussianMixture
    of_mixture: Gaussian

    @property
    def scale(self) -> float:
        """Standard deviation of a coordinate."""
        return math.sqrt(self.gaussian.trace / PIXELS)

    @property
    def schedule(self) -> VE:
        """From a hundredth to eighty standard deviations of the data."""
        return VE(0.01 * self.scale, 80 * self.scale)


@cache
def digit_models(seed: int) -> DigitModels:
    """The models of one half of the digits; the clusters are drawn with `seed`."""
    train = load_data("digits").in_range(*PIXEL_RANGE).train.double().flatten(1)
    gaussian, stream = Gaussian.fit([train]), torch_stream(seed, "digit models", "k-means")
    ridge = 1e-4 * gaussian.trace / PIXELS
    mixture = GaussianMixture.fit_kmeans(train, COMPONENTS, rank=PIXELS, ridge=ridge, generator=stream)
    return DigitModels(train, gaussian, mixture, mixture.as_gaussian())


@dataclass(frozen=True, eq=False)
class InDouble:
    """A float32 network evaluated at float64 states."""

    network: Preconditioned

    @property
    def schedule(self) -> VE:
        """The network's."""
        assert isinstance(self.network.schedule, VE)
        return self.network.schedule

    @torch.no_grad()
    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.network(x_t.float(), t).double()


@cache
def digit_network(seed: int) -> InDouble:
    """The network trained on these digits; shows the progress of the training."""
    models = digit_models(seed)
    spread, mean = float(models.train.std()), float(models.train.mean())
    with seeded(seed):
        network = MLP((PIXELS,), width=128, depth=2)
    model = Preconditioned(
        network, models.schedule, spread, event_shape=(PIXELS,), data_range=PIXEL_RANGE, data_mean=mean
    )
    settings = recipe(spread, steps=STEPS, batch_size=BATCH, seed=seed)
    return InDouble(fit(model, models.train.float(), settings).eval())

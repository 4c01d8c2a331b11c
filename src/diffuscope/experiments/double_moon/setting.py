r"""The double moon, and how a small network is trained on draws from it.

Arcs :math:`(\cos\theta, \sin\theta)` and :math:`(1 - \cos\theta, \tfrac12 - \sin\theta)` with jitter 0.05. The score of
the *noised* distribution, :math:`x_t = x_0 + \sigma\varepsilon`,

.. math::  s^*_\sigma(x) = \nabla\log \int p_0(x_0)\, N(x; x_0, \sigma^2 I)\, dx_0
           = \frac{E[x_0 | x_t = x] - x}{\sigma^2},

is known to 1e-12 by quadrature along the arcs. The network learns it from draws alone, by denoising score matching.

The source does not publish its settings: moons, jitter and the 5,000 draws are those of the rewritten article, the
network is ours (width 64, 16 Fourier features, two blocks, batches of 2,048, a learning rate that decays from 0.005 to
zero, averaged weights). Fields are compared on 120 x 120 points, averages over the distribution on 60 x 60.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Batch, Denoiser, Preconditioned, denoised_to_score, seeded
from diffuscope.exact import known_distribution, known_range
from diffuscope.schedules import VE
from diffuscope.training import EDMWeight, NoiseDistribution, TrainingSettings, Weight, fit

from .measures import Plane

MOONS, JITTER = known_distribution("two-moons"), 0.05
SCHEDULE = VE(0.01, 10.0)
WIDTH, DEPTH, FOURIER = 64, 2, 16
BATCH, LEARNING_RATE = 2048, 5e-3
POINTS, COARSE = 120, 60  # of the grid along either axis; COARSE is enough for averages over the distribution


@cache
def plane(sigma: float, points: int = POINTS) -> Plane:
    """The moons at noise `sigma` on a grid, computed once."""
    return Plane.of(MOONS, sigma, JITTER, points)


def drawn(n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """n draws without noise, in float32: the training data."""
    return MOONS.sample(n, generator=generator).float()


def trained(
    data: Float[Tensor, "n 2"],
    generator: torch.Generator,
    *,
    steps: int,
    noise: NoiseDistribution,
    weight: Weight | None = None,
) -> Preconditioned:
    """The network after `steps` steps on `data`, with averaged weights; EDM's weight unless one is given."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with seeded(seed):
        network = MLP((2,), width=WIDTH, depth=DEPTH, fourier=FOURIER)
    scale, mean = float(data.std()), float(data.mean())
    settings = TrainingSettings(
        steps=steps,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        average_decay=0.99,
        noise=noise,
        weight=weight or EDMWeight(scale),
        seed=seed,
    )
    x_range = known_range("two-moons")
    model = Preconditioned(network, SCHEDULE, scale, event_shape=(2,), data_range=x_range, data_mean=mean)
    return fit(model, data, settings)


@torch.no_grad()
def score_of(denoiser: Denoiser, x: Batch, sigma: float) -> Batch:
    """The denoiser's score (D - x) / sigma^2, in float64."""
    return denoised_to_score(x, denoiser(x.float(), sigma).double(), denoiser.schedule, sigma)

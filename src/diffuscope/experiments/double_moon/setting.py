r"""The double moon, a small network, and how one is trained on draws from the other.

Arcs :math:`(\cos\theta, \sin\theta)` and :math:`(1 - \cos\theta, \tfrac12 - \sin\theta)` with jitter .05; noise is
added, :math:`x_t = x_0 + \sigma\varepsilon`. The score of the *noised* law,

.. math::  s^*_\sigma(x) = \nabla\log \int p_0(x_0)\, N(x; x_0, \sigma^2 I)\, dx_0
           = \frac{E[x_0 | x_t = x] - x}{\sigma^2},

is known by quadrature along the arcs to 1e-12. The network learns it from draws by denoising score matching, and sees
nothing of the formula.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 2. Its settings are not published; moons, their jitter and
the 5000 draws are those of the rewritten article. The network is ours: Fourier features, two blocks, large batches, a
learning rate that falls to zero and averaged weights.
"""

from collections.abc import Mapping
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Batch, Denoiser, Preconditioned, denoised_to_score, seeded
from diffuscope.exact import known_distribution, known_range
from diffuscope.schedules import VE
from diffuscope.training import EDMWeight, NoiseDistribution, TrainingSettings, Weight, averaged, show_progress, train

from .measure import POINTS, Plane

ARTICLE = "Chen Kai, PDE and Machine Learning (7), experiment 2"
BAR = "the bar of this experiment; the article states none"
LAW = known_distribution("two-moons")
JITTER = 0.05
SCHEDULE = VE(0.01, 10.0)
LEVELS = (0.3, 0.5, 1.0)  # where the bar is
LOW, HIGH = 0.1, 2.0  # noise levels in training, uniform in log sigma
WIDTH, DEPTH, FOURIER = 64, 2, 16
STEPS, BATCH, LEARNING_RATE = 3000, 2048, 5e-3
DRAWS = 1_000_000
LARGEST_ERROR, LEAST_COSINE = 0.05, 0.99


@cache
def plane(sigma: float, points: int = POINTS) -> Plane:
    """The law at noise `sigma` on a grid, worked out once."""
    return Plane.of(LAW, sigma, JITTER, points)


def drawn(n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """n draws from the clean law, in float32: what a network sees."""
    return LAW.sample(n, generator=generator).float()


def trained(
    data: Float[Tensor, "n 2"],
    generator: torch.Generator,
    *,
    title: str,
    steps: int,
    noise: NoiseDistribution,
    weight: Weight | None = None,
) -> Preconditioned:
    """The network after `steps` steps on `data`, under a bar with the time left; EDM's weight unless one is given."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with seeded(seed):
        network = MLP((2,), width=WIDTH, depth=DEPTH, fourier=FOURIER)
    scale = float(data.std())
    model = Preconditioned(
        network,
        SCHEDULE,
        scale,
        event_shape=(2,),
        data_range=known_range("two-moons"),
        data_mean=float(data.mean()),
    )
    settings = TrainingSettings(
        steps=steps,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        average_decay=0.99,
        noise=noise,
        weight=weight or EDMWeight(scale),
        seed=seed,
    )
    average: Mapping[str, Tensor] = {}
    for progress in show_progress(train(model, data, settings, checkpoint=None), title):
        average = progress.average
    return averaged(model, average)


@torch.no_grad()
def score_of(denoiser: Denoiser, x: Batch, sigma: float) -> Batch:
    """The score that the denoiser stands for, (D - x) / sigma^2, in float64."""
    return denoised_to_score(x, denoiser(x.float(), sigma).double(), denoiser.schedule, sigma)

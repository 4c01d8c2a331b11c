r"""Three equal Gaussian modes in the plane, and small networks that learn them from few examples.

.. math::  p = \tfrac13 \sum_{k} N(\mu_k,\, v I), \qquad \mu_k = (\cos\theta_k, \sin\theta_k), \quad
           \theta_k = \tfrac{\pi}{2}, \tfrac{7\pi}{6}, \tfrac{11\pi}{6}, \qquad v = 0.35^2,

(90, 210 and 330 degrees), each of weight 1/3. The mixture has mean zero and the variance :math:`s^2 = 0.5 + v` per
coordinate. Density, denoiser and irreducible loss are closed forms: whatever a network learns from n draws has its
exact counterpart at n = infinity.

The noise is variance exploding, from 0.01 to 10. Networks have width 32 and two layers, and are trained at noise from
0.01 to 5, uniform in log sigma, with the learning rate 0.005; samples take 25 steps.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.denoisers import MLP, Denoiser, Preconditioned, seeded
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import DPMSolverPP2M, finish
from diffuscope.schedules import VE
from diffuscope.times import karras_times
from diffuscope.training import EDMWeight, LogUniformNoise, Objective, TrainingSettings

from .side_by_side import SideBySide

VARIANCE = 0.35**2
ANGLES = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
MODES = GaussianMixture.isotropic(
    torch.full((3,), 1 / 3, dtype=torch.float64),
    torch.stack([ANGLES.cos(), ANGLES.sin()], 1),
    torch.full((3,), VARIANCE, dtype=torch.float64),
)
SCALE = math.sqrt(0.5 + VARIANCE)
SCHEDULE = VE(0.01, 10.0)
WIDTH, DEPTH = 32, 2
SAMPLING_STEPS = 25
NOISE, LEARNING_RATE = LogUniformNoise(0.01, 5.0), 5e-3  # of every training


def small_networks(count: int, seed: int) -> list[nn.Module]:
    """`count` untrained MLPs, their weights drawn with `seed`."""
    with seeded(seed):
        return [MLP((2,), width=WIDTH, depth=DEPTH) for _ in range(count)]


def as_denoiser(network: nn.Module, *models: int) -> Preconditioned:
    """A network on events (*models, 2) in EDM's preconditioning with the scale of the modes."""
    return Preconditioned(network, SCHEDULE, SCALE, event_shape=(*models, 2), data_range=(-3.0, 3.0))  # type: ignore[arg-type]


def alone(denoiser: Preconditioned, place: int) -> Preconditioned:
    """The network at `place` of networks side by side as a denoiser of its own."""
    assert isinstance(denoiser.network, SideBySide)
    return as_denoiser(denoiser.network.alone(place)).eval()


def settings(steps: int, batch_size: int, seed: int, objective: Objective) -> TrainingSettings:
    """How networks side by side are trained: without a cap on the gradient, which would couple them."""
    return TrainingSettings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        max_gradient_norm=math.inf,
        average_decay=0.99,
        noise=NOISE,
        weight=EDMWeight(SCALE),
        objective=objective,
        seed=seed,
    )


def generated(denoiser: Denoiser, starts: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
    """Samples in float64 from standard normal `starts`: the ODE from sigma = 10 to 0.01, and a last denoising."""
    times = karras_times(SCHEDULE, SCHEDULE.t_max, SCHEDULE.t_min, SAMPLING_STEPS)
    return finish(denoiser, DPMSolverPP2M(), SCHEDULE.t_max * starts, times, batch_size=len(starts)).double()

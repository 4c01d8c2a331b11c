r"""200 real digits, what is innocent among them, and three denoisers: the exact one, one with a known error, a network.

The exact denoiser of the digits *blurred* by :math:`\delta` generates the law

.. math::  p_\delta = \frac1N \sum_i N(x_i, \delta^2 I), \qquad
           D_\delta(x) = m + \frac{\delta^2}{\delta^2 + \sigma^2}(x - m), \quad m = E[x_i | x;\, \delta^2 + \sigma^2],

and is off from the exact one by as much as delta says. Distances to the training digits are told in units of what is
innocent: the median distance of unseen digits to them.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import MLP, Batch, BatchTime, Denoiser, ExactDenoiser, Preconditioned, seeded
from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times
from diffuscope.training import averaged, recipe, train

DIGITS, SAMPLES, PIXELS = 200, 200, 64
VE_SCHEDULE = VE(0.01, 40.0)
STEPS = 60
TRAINING = (1, 100, 400, 1600)  # the network is looked at after so many steps
LEVELS = (0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0)


@dataclass(frozen=True, eq=False)
class Digits:
    """Training and unseen digits as vectors in [-1, 1], and the median distance of the unseen to the training ones."""

    train: Float[Tensor, "n 64"] = field(repr=False)
    unseen: Float[Tensor, "m 64"] = field(repr=False)

    @classmethod
    def load(cls) -> "Digits":
        data = load_data("digits").in_range(-1.0, 1.0)
        train = data.subset(DIGITS, 2).train
        return cls(train.double().reshape(DIGITS, -1), data.heldout.double().reshape(len(data.heldout), -1))

    def distances(self, x: Tensor) -> Tensor:
        """Distance of every row to its nearest training digit, over the median distance of the unseen ones."""
        innocent = nearest_neighbors(self.unseen, self.train, 1)[0].median()
        return nearest_neighbors(x.double(), self.train, 1)[0][:, 0] / innocent

    def error(self, denoiser: Denoiser, generator: torch.Generator) -> float:
        """Root mean square distance from the exact minimizer at noised training digits, over the data's deviation."""
        exact, errors = ExactDenoiser(Empirical(self.train), VE_SCHEDULE), []
        for level in LEVELS:
            x_t = self.train + level * torch.randn(self.train.shape, dtype=torch.float64, generator=generator)
            errors.append((denoiser(x_t, level) - exact(x_t, level)).square().mean())
        return float(torch.stack(errors).mean().sqrt() / self.train.std())


@dataclass(frozen=True)
class Blurred:
    """The exact denoiser of the points blurred by delta: m + (x - m) delta^2 / (delta^2 + sigma^2).

    m is the points' own denoiser at the noise of both, (delta^2 + sigma^2)^(1/2).
    """

    data: Empirical
    delta: float
    schedule: VE = VE_SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        sigma = float(torch.as_tensor(t))
        m = self.data.denoise(x_t, 1.0, math.hypot(self.delta, sigma))
        return m + (x_t - m) * self.delta**2 / (self.delta**2 + sigma**2)


@dataclass(frozen=True)
class InDouble:
    """A float32 network read in float64."""

    network: Preconditioned
    schedule: VE = VE_SCHEDULE

    @torch.no_grad()
    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.network(x_t.float(), t).double()


def trained(digits: Digits, seed: int) -> list[InDouble]:
    """A small network on the same digits, after each number of steps of TRAINING."""
    with seeded(seed):
        network = MLP((PIXELS,), width=128, depth=2)
    scale, mean = float(digits.train.std()), float(digits.train.mean())
    model = Preconditioned(network, VE_SCHEDULE, scale, event_shape=(PIXELS,), data_range=(-1.0, 1.0), data_mean=mean)
    settings = recipe(scale, steps=TRAINING[-1], batch_size=64, seed=seed)
    found = []
    for progress in train(model, digits.train.float(), settings, checkpoint=None):
        if progress.step in TRAINING:
            found.append(InDouble(averaged(model, progress.average).eval()))
    return found


def generated(denoiser: Denoiser, generator: torch.Generator) -> Tensor:
    """SAMPLES samples from pure noise, denoised at the end."""
    times = karras_times(VE_SCHEDULE, VE_SCHEDULE.t_max, VE_SCHEDULE.t_min, STEPS)
    start = VE_SCHEDULE.t_max * torch.randn(SAMPLES, PIXELS, dtype=torch.float64, generator=generator)
    return denoiser(sample(DPMSolverPP2M(), denoiser, start, times), VE_SCHEDULE.t_min)

r"""200 real digits, and networks that learn to denoise them.

The unit of distance to the training digits is the median distance of held-out digits to them: 1 for a new digit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import MLP, Denoiser, ExactDenoiser, Preconditioned, seeded
from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.samplers import DPMSolverPP2M, finish
from diffuscope.schedules import VE
from diffuscope.times import karras_times
from diffuscope.training import averaged, recipe, train

from ..digit_models import InDouble
from ..part import PIXEL_RANGE

DIGITS, SAMPLES, PIXELS = 200, 200, 64
SCHEDULE = VE(0.01, 40.0)
STEPS = 60
TRAINING = (1, 100, 400, 1600)  # the network is kept after so many steps
LEVELS = (0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0)


@dataclass(frozen=True, eq=False)
class Digits:
    """Training and held-out digits as vectors in [-1, 1]."""

    train: Float[Tensor, "n 64"]
    heldout: Float[Tensor, "m 64"]

    @classmethod
    def load(cls) -> "Digits":
        """DIGITS of scikit-learn's for training, and its held-out half."""
        data = load_data("digits").in_range(*PIXEL_RANGE)
        train = data.subset(DIGITS, 2).train
        return cls(train.double().reshape(DIGITS, -1), data.heldout.double().reshape(len(data.heldout), -1))

    def distances(self, x: Float[Tensor, "n 64"]) -> Float[Tensor, " n"]:
        """Distance of every row to its nearest training digit, over the median distance of the held-out ones."""
        unit = nearest_neighbors(self.heldout, self.train, 1)[0].median()
        return nearest_neighbors(x.double(), self.train, 1)[0][:, 0] / unit

    def error(self, denoiser: Denoiser, generator: torch.Generator) -> float:
        """RMS distance from the exact minimizer at noised training digits, in standard deviations of the data."""
        exact, errors = ExactDenoiser(Empirical(self.train), SCHEDULE), []
        for level in LEVELS:
            x_t = self.train + level * torch.randn(self.train.shape, dtype=torch.float64, generator=generator)
            errors.append((denoiser(x_t, level) - exact(x_t, level)).square().mean())
        return float(torch.stack(errors).mean().sqrt() / self.train.std())


def trained(digits: Digits, seed: int) -> dict[int, InDouble]:
    """A small network on the training digits, after each number of steps of TRAINING."""
    with seeded(seed):
        network = MLP((PIXELS,), width=128, depth=2)
    scale, mean = float(digits.train.std()), float(digits.train.mean())
    model = Preconditioned(network, SCHEDULE, scale, event_shape=(PIXELS,), data_range=PIXEL_RANGE, data_mean=mean)
    settings = recipe(scale, steps=TRAINING[-1], batch_size=64, seed=seed)
    return {
        progress.step: InDouble(averaged(model, progress.average).eval())
        for progress in train(model, digits.train.float(), settings, checkpoint=None)
        if progress.step in TRAINING
    }


def generated(denoiser: Denoiser, generator: torch.Generator) -> Float[Tensor, "n 64"]:
    """SAMPLES samples from pure noise, denoised at the end."""
    times = karras_times(SCHEDULE, SCHEDULE.t_max, SCHEDULE.t_min, STEPS)
    start = SCHEDULE.t_max * torch.randn(SAMPLES, PIXELS, dtype=torch.float64, generator=generator)
    return finish(denoiser, DPMSolverPP2M(), start, times)

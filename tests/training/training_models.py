"""Small trainable denoisers and noise distributions that only the tests of training use."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffuscope.denoisers import over_events
from diffuscope.schedules import VE, Schedule, as_time
from diffuscope.training import DistanceLog, Optimum, TrainingSettings


@dataclass(frozen=True)
class FixedTime:
    """The distribution of one time."""

    t: float

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Tensor:
        del schedule
        return torch.full((n,), self.t, dtype=torch.float64, device=generator.device)


class LinearDenoiser(nn.Module):
    """D = a x_t: on N(0, v I) at one level, the family that holds the optimum."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.a = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        del t
        return self.a * x_t


class SmallDenoiser(nn.Module):
    """A two-layer perceptron on vectors inside EDM's preconditioning, alpha = 1; its initial weights follow `seed`."""

    def __init__(self, dimension: int, *, hidden: int = 32, data_std: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.schedule = VE()
        self.data_std = data_std
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(dimension + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, dimension),
            )  # fmt: skip

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        sigma = over_events(as_time(t), x_t)
        total = torch.hypot(sigma, torch.full_like(sigma, self.data_std))
        level = (sigma.log() / 4).expand(len(x_t), 1)
        raw = self.network(torch.cat([x_t / total, level], dim=1))
        return self.data_std**2 / total**2 * x_t + sigma * self.data_std / total * raw


class ConvolutionalDenoiser(nn.Module):
    """One convolution with a batch norm, in channels-last memory: buffers and strides that a checkpoint must keep."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.schedule = VE()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, padding=1)
            )
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return x_t - over_events(as_time(t), x_t) * self.network(x_t)


def vectors(n: int = 50, dimension: int = 3, seed: int = 7) -> Tensor:
    """White Gaussian vectors, float32."""
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))


# The run that is killed, in other processes too, and its uninterrupted twin.
KILLED_SETTINGS = TrainingSettings(steps=600, batch_size=16, warmup_steps=10, seed=3)


def killed_log(path: Path) -> DistanceLog:
    """Of the run that is killed: the same whatever the weights of the denoiser it is made with."""
    optimum = Optimum.of(SmallDenoiser(3), vectors(), unseen=vectors(20, seed=8), noise_to_signal=(0.2, 1.0), points=16)
    return DistanceLog(optimum, every=4, path=path)

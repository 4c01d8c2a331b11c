"""The problems of `samplers.py`: random mixtures, the digits, and networks, each with a way to its exact ends.

A module of that benchmark, with nothing to run of its own. Problems are drawn with seeds from 1,000 on; everything in
the library was chosen on seeds below 100.
"""

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffuscope.data.idx import read_idx
from diffuscope.denoisers import Denoiser, ExactDenoiser, Rescheduled, nearest_trained_time
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.files import load_object
from diffuscope.samplers import DataAdamsBashforth, RungeKutta4, Sampler, sample
from diffuscope.schedules import VE
from diffuscope.times import log_snr_times
from diffuscope.training import fit
from diffuscope.training.default_model import new_denoiser, recipe

PUBLISHED = {"mnist_flow_vit_sofia": "flow_transformer", "mnist_ddpm_unet_franfee": "noise_unet"}


@dataclass(frozen=True)
class Problem:
    """A denoiser in the variance-exploding convention, its data's Gaussian, and how to score on it."""

    name: str
    group: str
    denoiser: Denoiser
    gaussian: Gaussian
    dtype: torch.dtype
    calibration_starts: int
    scored_starts: int
    fine_levels: int = 150
    rounds: int = 4

    def starts(self, count: int, seed: int) -> Tensor:
        schedule, draw = self.denoiser.schedule, torch.Generator().manual_seed(seed)
        noise = torch.randn(count, *self.gaussian.event_shape, generator=draw, dtype=torch.float64)
        return (schedule.sigma(schedule.t_max) * noise).to(self.gaussian.mean.device, self.dtype)

    @cached_property
    def calibration(self) -> tuple[Tensor, Tensor]:
        """The starts on which everything is chosen, and their exact ends."""
        x_start = self.starts(self.calibration_starts, 0)
        return x_start, self.exact_end(x_start)

    @cached_property
    def scored(self) -> tuple[Tensor, Tensor]:
        """The starts on which it is scored, and their exact ends."""
        x_start = self.starts(self.scored_starts, 1)
        return x_start, self.exact_end(x_start)

    @torch.no_grad()
    def exact_end(self, x_start: Tensor) -> Tensor:
        """Runge-Kutta 4 in float64, multistep of order 3 in float32; through a whole table of trained times."""
        times = self.log_snr_times(self.fine_levels)
        solver: Sampler = RungeKutta4() if self.dtype == torch.float64 else DataAdamsBashforth(3, power=0.0)
        if not torch.equal(nearest_trained_time(self.denoiser, times), times):
            times, solver = trained(self.denoiser, self.log_snr_times(20_000)), DataAdamsBashforth(3, power=0.0)
        return self.denoiser(sample(solver, self.denoiser, x_start, times), times[-1])

    def log_snr_times(self, count: int) -> Tensor:
        schedule = self.denoiser.schedule
        return log_snr_times(schedule, schedule.t_max, schedule.t_min, count)


def trained(denoiser: Denoiser, times: Tensor) -> Tensor:
    """The nearest trained times, without repeats: two readings of one differ by rounding."""
    nearest = nearest_trained_time(denoiser, times)
    return torch.cat([nearest[:1], nearest[1:][nearest.diff() < -1e-9 * nearest[:-1]]])


def mixture(d: int, seed: int, device: str) -> Problem:
    """Ten modes with unequal weights and full, unequal covariances."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(10, d, generator=draw, dtype=torch.float64)
    deviations = 0.1 + 0.3 * torch.rand(10, d, generator=draw, dtype=torch.float64)
    turns = torch.linalg.qr(torch.randn(10, d, d, generator=draw, dtype=torch.float64)).Q
    covariances = turns @ torch.diag_embed(deviations**2) @ turns.mT
    weights = 0.2 + torch.rand(10, generator=draw, dtype=torch.float64)
    distribution = GaussianMixture.from_covariances(
        (weights / weights.sum()).to(device), means.to(device), covariances.to(device)
    )
    count = 512 if d == 2 else 256
    name = f"mixture d={d} #{seed}"
    return Problem(
        name,
        f"mixture d={d}",
        ExactDenoiser(distribution, VE()),
        distribution.as_gaussian(),
        torch.float64,
        count,
        2048 if d == 2 else 512,
    )


def digits() -> Tensor:
    return torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float64) / 8 - 1


def exact_digits(device: str) -> Problem:
    points = digits().to(device)
    denoiser = ExactDenoiser(Empirical(points), VE())
    return Problem("digits exact", "digits exact", denoiser, Gaussian.fit([points]), torch.float64, 192, 192, 60, 2)


def trained_digits(folder: Path, device: str) -> Problem:
    """A small MLP, trained here (about a minute) and kept in `folder`."""
    seed, data = 1001, digits().float()
    network = new_denoiser(data, (-1.0, 1.0), seed)
    path = folder / f"digits_mlp_{seed}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        network = fit(network, data, recipe(float(data.std()), steps=8000, batch_size=128, seed=seed))
        torch.save(network.state_dict(), path)
    gaussian = Gaussian.fit([data.to(device)])
    return Problem("digits MLP", "digits MLP", network.to(device).eval(), gaussian, torch.float32, 256, 256)


def published(name: str, shared: Path, device: str, starts: tuple[int, int]) -> Problem:
    """A published MNIST network in VE convention, from sigma/alpha = 80 or its own top level down to its own lowest."""
    # the networks are an example of the documentation
    sys.path.append(str(Path(__file__).parents[1] / "docs" / "examples"))
    denoiser = cast(Any, load_object(f"published_networks.{PUBLISHED[name]}:denoiser", "published"))(
        shared / "weights" / f"{name}.npz"
    ).to(device)
    inner = denoiser.schedule
    low, high = denoiser.data_range
    images = torch.tensor(read_idx(shared / "mnist" / "train-images-idx3-ubyte.gz", "data")[:10_000])
    images = (low + (high - low) * images.float()[:, None] / 255).to(device)
    top = min(80.0, float(inner.noise_to_signal(inner.t_max)))
    top = top if not math.isinf(top) else 80.0
    lowest = max(float(inner.noise_to_signal(inner.t_min)), 0.002)
    # a table of steps is entered at one of its own
    t_top = nearest_trained_time(denoiser, inner.time_of_noise_to_signal(top))
    schedule = VE(lowest, float(inner.noise_to_signal(t_top)))
    return Problem(name, name, Rescheduled(denoiser, schedule), Gaussian.fit([images]), torch.float32, *starts, 200, 2)

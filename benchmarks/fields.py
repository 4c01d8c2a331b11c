"""Posterior fields of Poisson's equation at 64 x 64: 100 samples given all boundary values and 50 noisy sensors.

The prior of u is exact (`sine_prior`: 8 x 8 modes of the forcing, all 252 boundary values), the boundary a hard
constraint. Three ways to the same distribution: the exact denoiser of the posterior; the guide, which corrects the
prior's denoiser by the covariance at every noise level, for both observations in turn; and conjugate gradients on
covariance products. CPU seconds and peak memory, on one thread; the bar is 60 s on two cores.

    python benchmarks/fields.py [steps]
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.physics import (
    CovarianceGuided,
    GaussianGuide,
    Grid,
    at_nodes,
    observe,
    posterior,
    start_at_mean,
    where,
)
from diffuscope.physics.priors import sine_prior
from diffuscope.samplers import generate
from diffuscope.schedules import VE

T = TypeVar("T")
SIDE, SENSORS, NOISE, SAMPLES = 64, 50, 0.02, 100


def main() -> None:
    torch.set_num_threads(1)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    generator, grid = torch.Generator().manual_seed(0), Grid((SIDE, SIDE))
    prior = timed("prior", lambda: sine_prior(grid, 8))
    truth = prior.sample(1, generator=generator)
    boundary = where(grid.boundary)
    inner = (~grid.boundary).flatten().nonzero()[:, 0]
    sensors = at_nodes(inner[torch.randperm(len(inner), generator=generator)[:SENSORS]], grid.shape, NOISE)
    values, readings = boundary(truth)[0], observe(sensors, truth, generator=generator)[0]

    bound = timed("posterior given the boundary", lambda: posterior(prior, boundary, values))
    exact = timed("posterior given the sensors, too", lambda: posterior(bound, sensors, readings))
    schedule = VE()
    contestants: dict[str, tuple[Gaussian, Callable[[], Denoiser]]] = {
        "exact denoiser of the posterior": (exact, lambda: ExactDenoiser(exact, schedule)),
        "guide given the sensors": (
            exact,
            lambda: GaussianGuide(ExactDenoiser(bound, schedule), sensors, readings),
        ),
        "guide given the boundary": (
            bound,
            lambda: GaussianGuide(ExactDenoiser(prior, schedule), boundary, values),
        ),
        "conjugate gradients given the sensors": (
            exact,
            lambda: CovarianceGuided(ExactDenoiser(bound, schedule), sensors, readings, iterations=SENSORS),
        ),
    }
    print(f"{SAMPLES} samples, {steps} steps, float64:")
    for name, (goal, make) in contestants.items():
        fields = timed(name, lambda make=make: drawn(make(), steps))
        miss = float((boundary(fields) - values).abs().max())
        distance = float((fields.mean(0) - goal.mean).norm()) / (goal.trace / SAMPLES) ** 0.5
        print(f"    boundary misses {miss:.1e}; mean of the samples off by {distance:.2f} standard errors")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def drawn(denoiser: Denoiser, steps: int) -> Tensor:
    shape = (SIDE, SIDE)
    start = start_at_mean(denoiser, shape)
    return generate(denoiser, SAMPLES, steps=steps, start=start, event_shape=shape, dtype=torch.float64)


def timed(name: str, call: Callable[[], T]) -> T:
    started = time.process_time()
    answer = call()
    print(f"{name}: {time.process_time() - started:.2f} s of CPU")
    return answer


if __name__ == "__main__":
    main()

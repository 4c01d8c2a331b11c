"""Readings of a field that is known, for those who have no file yet: a few points of the solution, with noise."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.streams import torch_stream

from .problem import Problem
from .sensors import Sensors, box

COUNT = 4  # readings: few enough that some of a few thousand random fields agree with them
SHARE = 0.2  # standard deviation of the noise, of the root mean square of the solution


def example_readings(
    problem: Problem, truth: Float[Tensor, "channels *grid"], noise: float | int, *, seed: int = 0
) -> Sensors:
    """Readings of the solution of `truth` at random points, with noise of this standard deviation."""
    generator = torch_stream(seed, "solve", "example")
    r = float(noise)
    if not r >= 0:
        raise InputError(f"noise: expected a standard deviation >= 0, got {r:g}")
    m, ends = COUNT, torch.tensor(box(problem), dtype=torch.float64)
    share = 0.05 + 0.9 * torch.rand(m, len(ends), dtype=torch.float64, generator=generator)
    sensors = Sensors(
        points=ends[:, 0] + share * (ends[:, 1] - ends[:, 0]),
        channels=torch.full((m,), len(problem.channels) - 1, dtype=torch.long),
        values=torch.zeros(m, dtype=torch.float64), noise=torch.full((m,), r, dtype=torch.float64),
        origin="an example, whose truth is known",
    )  # fmt: skip
    values = sensors.matrix(problem) @ truth.flatten().double()
    values = values + r * torch.randn(m, dtype=torch.float64, generator=generator)
    return Sensors(
        points=sensors.points, channels=sensors.channels, values=values, noise=sensors.noise, origin=sensors.origin
    )

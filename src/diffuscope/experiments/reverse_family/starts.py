"""A wrong start: remembered pointwise by the flow's characteristics, and followed by a million particles."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import kstest

from diffuscope.densities import (
    CrankNicolson,
    Density,
    ExactDivergence,
    Grid,
    generated_log_density,
    reverse_evolution,
    transport,
)
from diffuscope.findings import Chart, Panel, at_least, at_most, density_bars, line
from diffuscope.samplers import StrongOrder15, sample
from diffuscope.times import log_snr_times

from ..experiment import Answer
from .setting import CLEAN, DATA, DENOISER, HORIZON, OU, PAPER, WRONG, cdf, cells_of, log_law, wrong_start

PARTICLES = 1_000_000


REMEMBERED = 0.4  # the time from which the wrong start is still remembered


def characteristics(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The flow's map against quantiles, and log q/p along trajectories from a wrong start."""
    x = torch.linspace(-2.2, 1.9, 60, dtype=torch.float64)[:, None]
    carried = transport(DENOISER, x, CLEAN, HORIZON, divergence=ExactDivergence(), tolerance=1e-11)
    quantiles = float((cdf(HORIZON, carried.x_s[:, 0]) - cdf(CLEAN, x[:, 0])).abs().max())
    density = log_law(HORIZON, carried.x_s) + carried.log_det[:, 0]
    log_q = generated_log_density(DENOISER, x, CLEAN, HORIZON, wrong_start, tolerance=1e-11)
    drift = (log_q - log_law(CLEAN, x)) - (wrong_start(carried.x_s) - log_law(HORIZON, carried.x_s))
    panels = (
        Panel(
            "density at the data",
            "x",
            "density",
            (
                line(x[:, 0], log_q.exp(), "from the wrong start"),
                line(x[:, 0], log_law(CLEAN, x).exp(), "data", style="dashed"),
            ),
        ),
        Panel(
            "log q/p",
            "x",
            "nats",
            (
                line(x[:, 0], log_q - log_law(CLEAN, x), "at the data, where a point arrives"),
                line(
                    x[:, 0],
                    wrong_start(carried.x_s) - log_law(HORIZON, carried.x_s),
                    "at the start, where it left",
                    style="dotted",
                ),
            ),
        ),
    )
    return Answer(
        "Along the flow nothing is forgotten: what is too likely at the start is as much too likely at the data.",
        (
            at_most(
                "quantiles",
                "The flow's map against the quantile map, in probability",
                quantiles,
                1e-8,
                because="integration tolerance 1e-11",
                source=PAPER,
            ),
            at_most(
                "density",
                "log p of the data law by characteristics against its closed form",
                float((density - log_law(CLEAN, x)).abs().max()),
                1e-8,
                because="integration tolerance 1e-11",
                source="derived",
                unit="nats",
            ),
            at_most(
                "constant",
                "Change of log q/p along a trajectory from a wrong start",
                float(drift.abs().max()),
                1e-8,
                because="integration tolerance 1e-11",
                source=PAPER,
                unit="nats",
            ),
        ),
        (
            Chart(
                "A wrong start under the deterministic flow",
                panels,
                "Left, what is generated and what should be. Right, the error in log density where each point arrives "
                "and where it came from: the same curve.",
            ),
        ),
    )


def particles(generator: torch.Generator) -> Answer:
    """A million particles of a sampler, the finite-volume density, and the law, from a right and a wrong start."""
    fine, times = Grid.line(-6, 6, 800), log_snr_times(OU, REMEMBERED, CLEAN, 200)
    wrong = Density(fine, fine.averages(wrong_start, nodes=4))
    *_, expected = reverse_evolution(DENOISER, wrong, times, CrankNicolson())
    grid_of_sampler = log_snr_times(OU, REMEMBERED, CLEAN, 25)
    *_, right = reverse_evolution(DENOISER, cells_of(fine, REMEMBERED), times, CrankNicolson())
    distances, histograms = {}, {}
    for name in ("right", "wrong"):
        if name == "right":
            clean = DATA.sample(PARTICLES, generator=generator)
            noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
            start = float(OU.alpha(REMEMBERED)) * clean + float(OU.sigma(REMEMBERED)) * noise
        else:
            start = WRONG.sample(PARTICLES, generator=generator)
        ends = sample(StrongOrder15(), DENOISER, start, grid_of_sampler, noise=generator)[:, 0]
        lies_below = _cdf_of(expected) if name == "wrong" else _exact_cdf
        distances[name] = float(kstest(ends.numpy(), lies_below).statistic)
        histograms[name] = density_bars(ends, torch.linspace(-3, 3, 121), "particles")
    law = cells_of(fine, CLEAN)
    apart = expected.l1_distance(law)
    inside = fine.centers().abs() < 3
    x = fine.centers()[inside][::2]
    panels = tuple(
        Panel(
            title,
            "x",
            "density",
            (
                histograms[name],
                line(x, density.values[inside][::2], "equation"),
                line(x, law.values[inside][::2], "data", style="dashed"),
            ),
        )
        for name, title, density in (
            ("right", "from the exact start", right),
            ("wrong", "from a wrong start", expected),
        )
    )
    room = 1.95 / math.sqrt(PARTICLES) + 1e-3
    because = "1.95/sqrt(n) of chance (once in a thousand), 1e-3 of bias: 25 steps of weak order 2, 800 cells"
    return Answer(
        "A million particles of the sampler, the equation, and for the exact start the closed form: one law.",
        (
            at_most(
                "exact-start",
                "Distance of distribution functions, particles from the exact start to the law",
                distances["right"],
                room,
                because=because,
                source="derived",
            ),
            at_most(
                "on-the-grid",
                "L1 distance of the equation's density to the law, exact start",
                right.l1_distance(law),
                1e-3,
                because="second order, 800 cells",
                source="derived",
            ),
            at_most(
                "wrong-start",
                "Distance, particles from a wrong start to the equation from that start",
                distances["wrong"],
                room,
                because=because,
                source="derived",
            ),
            at_least(
                "remembered",
                "L1 distance of that law to the data",
                apart,
                0.1,
                because="the start is remembered: the agreement is not trivial",
                source="derived",
            ),
        ),
        (
            Chart(
                "A million particles",
                panels,
                "Staircases are particles, lines the reverse equation for the same start, dashes the data law.",
                shared_y=True,
            ),
        ),
    )


def _exact_cdf(y: np.ndarray) -> np.ndarray:
    return cdf(CLEAN, torch.from_numpy(y)).numpy()


def _cdf_of(density: Density) -> Callable[[np.ndarray], np.ndarray]:
    below = torch.cat([torch.zeros(1, dtype=torch.float64), density.values.cumsum(0) * density.grid.volume])
    faces = density.grid.faces()
    return lambda y: np.interp(y, faces.numpy(), below.numpy())

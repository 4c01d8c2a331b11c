r"""The law of the averaged target at a fixed x_t: the exact denoiser in the mean, the posterior's covariance over M.

.. math::  E[T_M | x_t] = D^*(x_t), \qquad \mathrm{Cov}(T_M | x_t) = \tfrac1M\, \mathrm{Cov}(x_0 | x_t) .

x_t stands half way between an example and its nearest other, where the posterior is undecided; x_0 is drawn from it,
and the noise is what leads from x_0 to x_t.
"""

import math

import torch

from diffuscope.exact import Empirical, nearest_other_neighbors
from diffuscope.findings import Chart, Panel, at_most, equals, largest, line, points

from ..experiment import Answer
from ..three_modes import LAW
from .dial import EXAMPLES, FINITE, PAPER, covariance, objective, targets_of, weighed

LEVELS = (0.1, 0.2, 0.4, 0.8)
DRAWS = 20_000  # at each of 2 points per level


def identity(generator: torch.Generator) -> Answer:
    """Mean and covariance of targets drawn by the library's objectives, against the exact posterior."""
    data = LAW.sample(EXAMPLES, generator=generator)
    law = Empirical(data)
    chosen = torch.randperm(EXAMPLES, generator=generator)[: 2 * len(LEVELS)]
    x_t = (data[chosen] + data[nearest_other_neighbors(data, 1)[1][chosen, 0]]) / 2
    sigma = torch.tensor(LEVELS, dtype=torch.float64).repeat(2)
    mean, posterior = law.denoise(x_t, 1.0, sigma), covariance(law, x_t, sigma)

    weights = weighed(data, x_t, sigma)
    x_0 = data[torch.multinomial(weights, DRAWS, replacement=True, generator=generator)]
    noise = (x_t[:, None] - x_0) / sigma[:, None, None]
    times = sigma[:, None].expand(-1, DRAWS).flatten()
    means, covariances, traces = [], [], []
    for m in FINITE:
        drawn = targets_of(objective(m), data, x_0.flatten(0, 1), times, noise.flatten(0, 1), generator=generator)
        off = drawn.reshape(x_0.shape) - mean[:, None]
        means.append((off.mean(1).abs() / (posterior.diagonal(dim1=1, dim2=2) / m / DRAWS).sqrt()).max())
        if m > 1:  # the square of a single draw between two points is nearly a constant, and has no standard error
            products = m * off[..., :, None] * off[..., None, :]
            error = products.std(1) / math.sqrt(DRAWS)
            covariances.append(((products.mean(1) - posterior).abs() / error).max())
        traces.append(off.square().sum(2))
    exact = posterior.diagonal(dim1=1, dim2=2).sum(1)
    last = traces[-1] * FINITE[-1] / exact[:, None]
    noise_free = targets_of(objective(math.inf), data, x_t, sigma, torch.zeros_like(x_t), generator=generator)
    claims = (
        at_most(
            "target-mean",
            f"The mean target is the exact denoiser: the largest deviation, M = 1 to {FINITE[-1]}, {len(x_t)} points",
            largest(float(worst) for worst in means),
            4.5,
            because=f"4.5 standard errors of {DRAWS:,} draws, {len(FINITE) * len(x_t) * 2} numbers",
            source=PAPER,
            unit="standard errors",
        ),
        at_most(
            "target-covariance",
            "M Cov(T_M | x_t) is the posterior covariance, element by element: the largest deviation, M = "
            f"{FINITE[1]} to {FINITE[-1]}",
            largest(float(worst) for worst in covariances),
            4.5,
            because=f"4.5 standard errors of {DRAWS:,} draws, {len(covariances) * len(x_t) * 3} numbers",
            source=PAPER,
            unit="standard errors",
        ),
        equals(
            "target-variance",
            f"At M = {FINITE[-1]} the variance left, over the exact one, in the mean over the points",
            float(last.mean()),
            1.0,
            within=4 * float(last.std()) / math.sqrt(last.numel()),
            because="4 standard errors",
            source="derived",
        ),
        at_most(
            "noise-free",
            "M = ∞ is the posterior's mean itself, its weights written out: the largest difference",
            float((noise_free - weights @ data).abs().max()),
            1e-12,
            because="rounding",
            source="derived",
        ),
    )
    marks = []
    for k, level in enumerate(LEVELS):
        found = [float(rows[k].mean()) for rows in traces]
        marks.append(points(FINITE, found, f"σ = {level:g}"))
        marks.append(line(FINITE, [float(exact[k]) / m for m in FINITE], style="dashed"))
    chart = Chart(
        "The noise in the target",
        (Panel("", "draws in the mean, M", "tr Cov(target | x_t)", tuple(marks), x_log=True, y_log=True),),
        "Half way between two examples. Dots: targets that the library draws. Dashed: posterior covariance over M.",
    )
    told = (
        "Yes: the exact denoiser in the mean, with the posterior's covariance over M."
        if all(claim.holds for claim in claims)
        else "No: not all that follows from it holds."
    )
    return Answer(told, claims, (chart,))

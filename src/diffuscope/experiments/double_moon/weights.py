r"""What goes wrong (b): denoising score matching without its weight.

The article's loss adds :math:`|s + \varepsilon/\sigma|^2` over ten levels, logspace(-2, 1). The target's mean square is
:math:`d/\sigma^2`: of an untrained network's loss (s = 0) level k of K makes the share

.. math::  \frac{\sigma_k^{-2}}{\sum_j \sigma_j^{-2}}, \qquad 78\,\% \text{ for } \sigma = .01, \qquad
           8 \cdot 10^{-7} \text{ for } \sigma = 10,

and the noise of its gradients likewise. Times :math:`\sigma^2` (DDPM's simple loss, the plain error of the noise)
every level makes a tenth. In the data's units the two are `ScoreWeight` and `NoiseWeight`. Two networks, trained alike
but for the weight, show what it costs.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.findings import Chart, Panel, at_least, equals, groups, line
from diffuscope.schedules import Schedule
from diffuscope.training import LogUniformNoise, NoiseWeight, ScoreWeight, Weight, denoising_loss

from ..experiment import Answer
from .measure import COARSE, agreement
from .setting import ARTICLE, BAR, DRAWS, LAW, LEVELS, SCHEDULE, drawn, plane, score_of, trained

TEN = torch.logspace(-2, 1, 10, dtype=torch.float64)
SHORT = 500  # steps
SEEN = 4096  # draws per level, for the shares
SHOWN = torch.logspace(-1.3, 0.7, 9, dtype=torch.float64).tolist()
WEIGHTS: dict[str, Weight] = {"weight σ²": NoiseWeight(), "no weight": ScoreWeight()}


class ZeroScore:
    """s = 0, whose denoiser is the identity: an untrained score network."""

    schedule: Schedule = SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """x_t."""
        del t
        return x_t


def shares(weight: Weight, generator: torch.Generator) -> Float[Tensor, " levels"]:
    """What every level of TEN makes of the loss of s = 0."""
    x_0 = LAW.sample(SEEN, generator=generator)
    losses = []
    for sigma in TEN:
        noise = torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
        losses.append(denoising_loss(ZeroScore(), x_0, sigma.expand(SEEN), noise, weight))
    return torch.stack(losses) / torch.stack(losses).sum()


def standard_error(shares: Float[Tensor, " levels"]) -> float:
    r"""Of the first share p_0 of a loss over SEEN draws of two coordinates.

    A level's loss is :math:`\chi^2` with 2 SEEN degrees, known to 1/sqrt(SEEN) of itself; to first order the share is
    known to :math:`p_0 [(1 - p_0)^2 + \sum_{j>0} p_j^2]^{1/2} / \sqrt{SEEN}`.
    """
    first, others = shares[0], shares[1:]
    return float(first * ((1 - first).square() + others.square().sum()).sqrt()) / math.sqrt(SEEN)


def weights(generator: torch.Generator) -> Answer:
    """The shares, and the errors of two short trainings."""
    of_loss = {name: shares(weight, generator) for name, weight in WEIGHTS.items()}
    data, seed = drawn(DRAWS, generator), int(torch.randint(2**31, (), generator=generator))
    noise = LogUniformNoise(float(TEN[0]), float(TEN[-1]))
    errors: dict[str, list[float]] = {}
    at_bar: dict[str, list[float]] = {}
    planes = {sigma: plane(sigma, COARSE) for sigma in (*SHOWN, *LEVELS)}
    for name, weight in WEIGHTS.items():
        same = torch.Generator().manual_seed(seed)  # the same start, batches and noise for both
        model = trained(data, same, title=name, steps=SHORT, noise=noise, weight=weight)
        found = {sigma: agreement(seen, score_of(model, seen.points, sigma)).error for sigma, seen in planes.items()}
        errors[name], at_bar[name] = [found[sigma] for sigma in SHOWN], [found[sigma] for sigma in LEVELS]
    right, wrong = (torch.tensor(at_bar[name]) for name in WEIGHTS)
    cost = wrong / right
    exact = TEN**-2 / (TEN**-2).sum()
    even = torch.full_like(exact, 1 / len(TEN))
    claims = (
        equals(
            "smallest-share",
            f"Without the weight: what σ = .01, one of ten levels, makes of the loss of s = 0 ({SEEN} draws)",
            float(of_loss["no weight"][0]),
            float(exact[0]),
            within=4 * standard_error(exact),
            because=f"4 standard errors of {SEEN} draws of two coordinates, by the delta method",
            source=ARTICLE,
        ),
        equals(
            "even-share",
            "With the weight σ²: what the same level makes",
            float(of_loss["weight σ²"][0]),
            float(even[0]),
            within=4 * standard_error(even),
            because=f"4 standard errors of {SEEN} draws of two coordinates, by the delta method",
            source="derived",
        ),
        at_least(
            "cost",
            f"Error without the weight over error with it, after the same {SHORT} steps; the least of noise "
            f"{', '.join(f'{sigma:g}' for sigma in LEVELS)}",
            float(cost.min()),
            1.5,
            because="half as much again, asked for",
            source=BAR,
        ),
    )
    names = [f"{float(f'{sigma:.1g}'):g}".removeprefix("0") for sigma in TEN.tolist()]  # one digit, to fit
    panels = (
        Panel("share of the loss of s = 0", "noise σ", "share", (groups(names, dict(of_loss)),)),
        Panel(
            f"after {SHORT} steps",
            "noise σ",
            "centered relative error",
            tuple(line(SHOWN, found, name) for name, found in errors.items()),
            x_log=True,
            y_log=True,
        ),
    )
    told = ", ".join(f"{ratio:.1f}" for ratio in cost.tolist())
    return Answer(
        f"The smallest of ten levels makes {float(of_loss['no weight'][0]):.0%} of the loss, and the larger ones are "
        f"hardly trained: after the same {SHORT} steps the error is {told} times that with the weight, at noise "
        f"{', '.join(f'{sigma:g}' for sigma in LEVELS)}.",
        claims,
        (
            Chart(
                "What goes wrong: no weight on the loss",
                panels,
                "Left: without the weight one level is nearly all of the loss. Right: what two networks learned that "
                "differ in the weight only.",
            ),
        ),
    )

r"""The noise of the gradient at fixed weights, in two parts: where x_t fell, and what the target said there.

With :math:`J = \partial D/\partial\theta` and w the weight, the gradient of one sample is
:math:`g = \tfrac{2w}{d} J^T (D - T_M)`. The law of total variance splits the trace of its covariance into

.. math::
    \operatorname{tr}\mathrm{Cov}(g) = a + \frac bM, \qquad
    a = \operatorname{tr}\mathrm{Cov}\left(\tfrac{2w}d J^T (D - D^*)\right), \qquad
    b = E\left[\left(\tfrac{2w}d\right)^2 \operatorname{tr}\left(J J^T\, \mathrm{Cov}(x_0|x_t)\right)\right] .

Averaging targets removes b and nothing else. Both are computed from the exact posterior, the left side from targets
that the library's objectives draw; all use the same x_t, so that nothing but the targets' noise is between them.

A variance :math:`E|g|^2 - |\bar g|^2` is no mean over samples; its standard error is that of its influence function,

.. math::  |g|^2 - 2\, \bar g \cdot g .
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from diffuscope.denoisers import Preconditioned
from diffuscope.exact import Empirical
from diffuscope.findings import Chart, Panel, at_most, equals, largest, line, points
from diffuscope.training import EDMWeight, TrainingSettings, train

from ..experiment import Answer
from ..three_modes import LAW, LEARNING_RATE, NOISE, SCALE, SCHEDULE, small_networks
from .dial import EXAMPLES, FINITE, covariance, objective, targets_of

STEPS = 300  # of training before the weights are fixed
SAMPLES, ROWS = 6_000, 500
BINS = 10


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of every sample: the squared length of its gradient by M, and of the noise-free one; the posterior's part b.

    `mean` and `noise_free_mean` are the squared lengths of the mean gradients, `influence` and `noise_free_influence`
    what each sample does to the variance: |g|^2 less twice g along the mean gradient.
    """

    squares: Float[Tensor, "dial samples"]
    noise_free: Float[Tensor, " samples"]
    target_part: Float[Tensor, " samples"]
    mean: Float[Tensor, " dial"]
    noise_free_mean: float
    influence: Float[Tensor, "dial samples"]
    noise_free_influence: Float[Tensor, " samples"]
    sigma: Float[Tensor, " samples"]


def gradient(generator: torch.Generator) -> Answer:
    """Variance of the gradient at every M, and its two parts."""
    found = _gradients(generator)
    a = float(found.noise_free.mean()) - found.noise_free_mean
    b = float(found.target_part.mean())
    variance = found.squares.mean(1) - found.mean
    inverse = torch.tensor([1 / m for m in FINITE], dtype=torch.float64)
    deviations = []
    for k, m in enumerate(FINITE):
        error = _error(found.influence[k] - found.noise_free_influence - found.target_part / m)
        deviations.append(abs(float(variance[k]) - a - b / m) / error)
    # slope and intercept of the least-squares line are fixed combinations of the variances
    centered = inverse - inverse.mean()
    sloping = centered / centered.square().sum()
    leveling = 1 / len(inverse) - inverse.mean() * sloping
    slope, intercept = float(sloping @ variance), float(leveling @ variance)
    slope_error = _error(sloping @ found.influence - found.target_part)
    intercept_error = _error(leveling @ found.influence - found.noise_free_influence)
    claims = (
        at_most(
            "total-variance",
            f"The variance of the gradient is a + b/M, a and b from the exact posterior: the largest deviation, M = 1 "
            f"to {FINITE[-1]}",
            largest(deviations),
            4.5,
            because=f"4.5 standard errors over {SAMPLES:,} samples, the same x_t on both sides",
            source="derived; the target's covariance is Vastola's, https://arxiv.org/abs/2504.12532",
            unit="standard errors",
        ),
        equals(
            "slope",
            "The slope of the variance over 1/M is the posterior's part b",
            slope / b,
            1.0,
            within=4 * slope_error / b,
            because="4 standard errors",
            source="derived",
            unit="b",
        ),
        equals(
            "intercept",
            "What is left at M = ∞ is the part a that averaging cannot remove",
            intercept / a,
            1.0,
            within=4 * intercept_error / a,
            because="4 standard errors",
            source="derived",
            unit="a",
        ),
    )
    told = (
        f"At these weights the target's noise is {b / (a + b):.0%} of the gradient's variance at M = 1 and "
        f"{b / FINITE[-1] / (a + b / FINITE[-1]):.0%} at M = {FINITE[-1]}."
    )
    return Answer(told, claims, (_chart(found, variance, a, b),))


def _error(values: Float[Tensor, " samples"]) -> float:
    return float(values.std()) / math.sqrt(SAMPLES)


def _gradients(generator: torch.Generator) -> Gradients:
    data = LAW.sample(EXAMPLES, generator=generator)
    law, weight = Empirical(data), EDMWeight(SCALE)
    denoiser = _trained(data, generator)
    x_0 = data[torch.randint(EXAMPLES, (SAMPLES,), generator=generator)]
    noise = torch.randn(SAMPLES, 2, dtype=torch.float64, generator=generator)
    sigma = NOISE.sample(SCHEDULE, SAMPLES, generator=generator)
    x_t = x_0 + sigma[:, None] * noise
    exact = law.denoise(x_t, 1.0, sigma)
    posterior = covariance(law, x_t, sigma)
    drawn = [targets_of(objective(m), data, x_0, sigma, noise, generator=generator) for m in FINITE]
    # rows of T: the noise-free target, then each M
    targets, scale = torch.stack([exact, *drawn]), weight(SCHEDULE, sigma)  # 2 w / d = w
    squares, along = torch.zeros(2, len(targets), SAMPLES, dtype=torch.float64)
    part = torch.zeros(SAMPLES, dtype=torch.float64)
    total = 0.0
    for rows in torch.arange(SAMPLES).split(ROWS):
        answer, J = _jacobian(denoiser, x_t[rows], sigma[rows])
        J = scale[rows, None, None] * J
        off = answer - targets[:, rows]
        gram = J @ J.mT
        squares[:, rows] = torch.einsum("mbi,bij,mbj->mb", off, gram, off)
        part[rows] = (gram * posterior[rows]).sum((1, 2))
        total = total + torch.einsum("mbi,bip->mp", off, J)
    mean = torch.as_tensor(total) / SAMPLES
    for k, direction in enumerate(mean):
        answer, turned = _along(denoiser, direction, x_t, sigma)
        along[k] = scale * ((answer - targets[k]) * turned).sum(1)
    lengths, influence = mean.square().sum(1), squares - 2 * along
    return Gradients(squares[1:], squares[0], part, lengths[1:], float(lengths[0]), influence[1:], influence[0], sigma)


def _trained(data: Tensor, generator: torch.Generator) -> Preconditioned:
    """A network after a short training, in float64."""
    seed = int(torch.randint(2**31, (), generator=generator))
    (network,) = small_networks(1, seed)
    denoiser = Preconditioned(network, SCHEDULE, SCALE, event_shape=(2,), data_range=(-3.0, 3.0))  # type: ignore[arg-type]
    settings = TrainingSettings(
        steps=STEPS, batch_size=32, learning_rate=LEARNING_RATE, noise=NOISE, weight=EDMWeight(SCALE), seed=seed
    )
    for _ in train(denoiser, data.float(), settings, checkpoint=None):
        pass
    return denoiser.double().eval()


def _jacobian(denoiser: nn.Module, x_t: Tensor, t: Tensor) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2 p"]]:
    """D and dD/dtheta of every row."""
    weights = {name: values.detach() for name, values in denoiser.named_parameters()}

    def answer(weights: dict[str, Tensor], x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        found = functional_call(denoiser, weights, (x[None], time[None]))[0]
        return found, found

    jacobians, answers = vmap(jacrev(answer, has_aux=True), in_dims=(None, 0, 0))(weights, x_t, t)
    return answers.detach(), torch.cat([part.flatten(2) for part in jacobians.values()], 2).detach()


def _along(
    denoiser: nn.Module, direction: Float[Tensor, " p"], x_t: Tensor, t: Tensor
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """D and J times `direction`, of every row: J^T u is linear in u, and J v the derivative of v . J^T u there."""
    weights, answer = list(denoiser.parameters()), denoiser(x_t, t)
    u = torch.zeros_like(answer).requires_grad_()
    pulled = torch.autograd.grad(answer, weights, u, create_graph=True)
    (turned,) = torch.autograd.grad(torch.cat([part.flatten() for part in pulled]) @ direction, u)
    return answer.detach(), turned


def _chart(found: Gradients, variance: Tensor, a: float, b: float) -> Chart:
    grid = torch.linspace(0, 1, 50, dtype=torch.float64)
    by_dial = Panel(
        "by the dial",
        "1 / M",
        "variance of a sample's gradient",
        (
            points([1 / m for m in FINITE], variance, "measured"),
            line(grid, a + b * grid, "a + b/M, exact posterior"),
            line(grid, torch.full_like(grid, a), "a: where x_t fell", style="dashed"),
        ),
        y_range=(0.0, 1.1 * (a + b)),
    )
    edges = torch.linspace(math.log(NOISE.low), math.log(NOISE.high), BINS + 1, dtype=torch.float64)
    place = (torch.bucketize(found.sigma.log(), edges) - 1).clamp(0, BINS - 1)
    centers = ((edges[1:] + edges[:-1]) / 2).exp()

    def binned(values: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=torch.float64).index_add(0, place, values) / len(values) * BINS

    by_level = Panel(
        "by noise level",
        "noise level σ",
        "variance at that level",
        (
            line(centers, binned(found.target_part), "b: what the target said"),
            line(centers, binned(found.noise_free), "a: where x_t fell"),
        ),
        x_log=True,
    )
    return Chart(
        "Where the gradient's noise comes from",
        (by_dial, by_level),
        "Left: averaging targets moves along the line to a and no lower. Right: the target is noisy where the noise "
        "reaches from an example to the next; below it x_t tells which one it was.",
    )

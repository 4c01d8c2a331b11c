r"""The variance of the gradient at fixed weights, in two parts: that of x_t, and that of the target given x_t.

With :math:`J = \partial D/\partial\theta` and w the weight, the gradient of one sample is
:math:`g = \tfrac{2w}{d} J^T (D - T_M)`. The decomposition of variance splits the trace of its covariance into

.. math::
    \operatorname{tr}\mathrm{Cov}(g) = a + \frac bM, \qquad
    a = \operatorname{tr}\mathrm{Cov}\left(\tfrac{2w}d J^T (D - D^*)\right), \qquad
    b = E\left[\left(\tfrac{2w}d\right)^2 \operatorname{tr}\left(J J^T\, \mathrm{Cov}(x_0|x_t)\right)\right] .

Averaging targets reduces b and nothing else. Both parts come from the exact posterior, the left side from targets that
the library's objectives draw; all use the same x_t, so that they differ by the noise of the targets alone.

A variance :math:`E|g|^2 - |\bar g|^2` is no mean over samples; its standard error is that of its influence function,
:math:`|g|^2 - 2\, \bar g \cdot g`. Weights are fixed after 300 steps of training; 6,000 samples are taken.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from diffuscope.denoisers import Preconditioned
from diffuscope.exact import Empirical
from diffuscope.training import EDMWeight, TrainingSettings, train

from ..three_modes import LEARNING_RATE, MODES, NOISE, SCALE, SCHEDULE, as_denoiser, small_networks
from .targets import EXAMPLES, FINITE, covariance, targets_of

STEPS = 300  # of training before the weights are fixed
SAMPLES = 6_000
CHUNK = 500  # samples


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of every sample: |g|^2 and its influence, first with the noise-free target, then by M; its share of b.

    `mean` is the squared length of the mean gradient.
    """

    squares: Float[Tensor, "targets samples"]
    influence: Float[Tensor, "targets samples"]
    mean: Float[Tensor, " targets"]
    target_part: Float[Tensor, " samples"]


def sample_gradients(generator: torch.Generator) -> Gradients:
    """The gradients of SAMPLES samples at the weights of one network."""
    data = MODES.sample(EXAMPLES, generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    p, denoiser = Empirical(data), _trained(data, seed)
    x_0 = data[torch.randint(EXAMPLES, (SAMPLES,), generator=generator)]
    noise = torch.randn(SAMPLES, 2, dtype=torch.float64, generator=generator)
    sigma = NOISE.sample(SCHEDULE, SAMPLES, generator=generator)
    x_t = x_0 + sigma[:, None] * noise
    posterior, w = covariance(p, x_t, sigma), EDMWeight(SCALE)(SCHEDULE, sigma)  # 2 w / d = w
    drawn = [targets_of(M, data, x_0, sigma, noise, generator=generator) for M in FINITE]
    targets = torch.stack([p.denoise(x_t, 1.0, sigma), *drawn])
    squares, along = torch.zeros(2, len(targets), SAMPLES, dtype=torch.float64)
    part = torch.zeros(SAMPLES, dtype=torch.float64)
    total = torch.zeros(())
    for rows in torch.arange(SAMPLES).split(CHUNK):
        answer, J = _jacobian(denoiser, x_t[rows], sigma[rows])
        J = w[rows, None, None] * J
        off, gram = answer - targets[:, rows], J @ J.mT
        squares[:, rows] = torch.einsum("mbi,bij,mbj->mb", off, gram, off)
        part[rows] = (gram * posterior[rows]).sum((1, 2))
        total = total + torch.einsum("mbi,bip->mp", off, J)
    mean = total / SAMPLES
    for k, direction in enumerate(mean):
        answer, turned = _along(denoiser, direction, x_t, sigma)
        along[k] = w * ((answer - targets[k]) * turned).sum(1)
    return Gradients(squares, squares - 2 * along, mean.square().sum(1), part)


def _trained(data: Tensor, seed: int) -> Preconditioned:
    """A network after a short training, in float64."""
    denoiser = as_denoiser(small_networks(1, seed)[0])
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
    return answers, torch.cat([part.flatten(2) for part in jacobians.values()], 2)


def _along(
    denoiser: nn.Module, direction: Float[Tensor, " p"], x_t: Tensor, t: Tensor
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """D and J times `direction`, of every row: J^T u is linear in u, and J v the derivative of v . J^T u there."""
    weights, answer = list(denoiser.parameters()), denoiser(x_t, t)
    u = torch.zeros_like(answer).requires_grad_()
    pulled = torch.autograd.grad(answer, weights, u, create_graph=True)
    (turned,) = torch.autograd.grad(torch.cat([part.flatten() for part in pulled]) @ direction, u)
    return answer.detach(), turned

"""Exact networks and the parts of pipelines, for tests in the loops of other libraries."""

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from diffuscope.exact import Distribution, Gaussian, GaussianMixture


def five_points() -> GaussianMixture:
    """A mixture of five narrow components in four dimensions, as rows."""
    means = 0.6 * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return GaussianMixture.isotropic(torch.ones(5) / 5, means, torch.full((5,), 0.05))


def gaussian_of(mixture: GaussianMixture, event: tuple[int, ...] = (1, 2, 2)) -> Gaussian:
    """The Gaussian with the mixture's mean and covariance, at the shape of images."""
    moments = mixture.as_gaussian()
    return Gaussian(moments.mean.reshape(event), moments.eigenvectors, moments.eigenvalues, moments.tail_variance)


class ExactNetwork(nn.Module):
    """The exact network of a distribution of rows, on a scheduler's table, with the interface of a UNet2DModel.

    Between two timesteps log(sigma/alpha) is linear, as the library's own interpolation has it. `calls` counts.
    """

    device = torch.device("cpu")

    def __init__(self, distribution: Distribution, alphas_cumprod: Tensor, prediction: str = "epsilon") -> None:
        super().__init__()
        self.distribution, self.prediction, self.calls = distribution, prediction, 0
        table = alphas_cumprod.double()
        self.log_ratios = (1 / table - 1).log() / 2
        self.config = SimpleNamespace(in_channels=1, sample_size=2)
        self.dtype = torch.float32

    def scales(self, t: Any) -> tuple[float, float]:
        """alpha and sigma at a timestep; for flows alpha = 1 - t/1000."""
        t = torch.as_tensor(t).double()
        if self.prediction == "flow_prediction":
            return float(1 - t / 1000), float(t / 1000)
        below = t.long()
        above = (below + 1).clamp(max=len(self.log_ratios) - 1)
        ratio = float(torch.lerp(self.log_ratios[below], self.log_ratios[above], t - below).exp())
        return 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)

    def forward(self, x: Tensor, t: Any) -> SimpleNamespace:
        self.calls += 1
        (alpha, sigma), rows = self.scales(t), x.double().flatten(1)
        denoised = self.distribution.denoise(rows, alpha, sigma)
        noise = (rows - alpha * denoised) / sigma
        answers = {
            "epsilon": noise,
            "sample": denoised,
            "v_prediction": alpha * noise - sigma * denoised,
            "flow_prediction": noise - denoised,
        }
        return SimpleNamespace(sample=answers[self.prediction].reshape(x.shape).to(x.dtype))


class NoDecoder(nn.Module):
    """A decoder that keeps the latents as they are."""

    device = torch.device("cpu")
    config = SimpleNamespace(scaling_factor=1.0)
    latents: Tensor

    def decode(self, latents: Tensor) -> SimpleNamespace:
        self.latents = latents
        return SimpleNamespace(sample=latents)

"""The score of no density."""

import torch

from diffuscope.experiments.trained_denoiser import RING

WEIGHT = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)  # as the weights of a network do


def swirling(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A score that is no gradient and solves no heat equation."""
    turned = torch.stack([-x[:, 1], x[:, 0]], 1)
    return RING.score(x, t) + WEIGHT * torch.sin(x) / (1 + t[:, None]) + 0.01 * turned

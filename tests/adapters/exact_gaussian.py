"""What models of other libraries are tested on: N(m, diag v), whose denoiser is known by hand."""

from typing import Any

import torch
from torch import Tensor

from audit_subjects import SMALL
from diffuscope import adapters
from diffuscope.audit import Session, Subject
from diffuscope.audit.questions.wiring import QUESTION

SHAPE = (1, 2, 2)
MEAN = torch.tensor([[[0.5, -0.3], [0.1, 0.0]]], dtype=torch.float64)
VARIANCE = torch.tensor([[[1.5, 0.2], [0.05, 0.6]]], dtype=torch.float64)


def load_model(spec: str) -> Any:
    """The model called `spec`, of whichever class its library makes it."""
    return adapters.load_model(spec)


def denoised(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """m + alpha v (x - alpha m) / (alpha^2 v + sigma^2)."""
    alpha, sigma = (torch.as_tensor(value).double().reshape(-1, 1, 1, 1) for value in (alpha, sigma))
    mean, variance = MEAN.to(x.device), VARIANCE.to(x.device)
    return mean + alpha * variance * (x.double() - alpha * mean) / (alpha**2 * variance + sigma**2)


def noised(n: int, alpha: Tensor, sigma: Tensor, seed: int = 0) -> Tensor:
    """n noised examples, float64."""
    generator = torch.Generator().manual_seed(seed)
    clean, noise = (torch.randn(n, *SHAPE, dtype=torch.float64, generator=generator) for _ in range(2))
    alpha, sigma = (torch.as_tensor(value).double().reshape(-1, 1, 1, 1) for value in (alpha, sigma))
    return alpha * (MEAN + VARIANCE.sqrt() * clean) + sigma * noise


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, in deviations of the data."""
    return float(((a.double() - b.double()).abs() / VARIANCE.sqrt()).max())


def assert_passes_the_audits_first_question(denoiser) -> None:
    """The exact denoiser is read as it was trained: the right units, times and prediction."""
    data = noised(800, torch.ones(1), torch.zeros(1), seed=1).float()
    answer = QUESTION.ask(Session(Subject(denoiser, data[:400], data[400:]), SMALL))
    assert answer is not None
    assert not answer.broken
    assert answer.findings[0].verdict.startswith("It is read as it was trained: units, time and prediction fit.")

r"""Targets of less variance: the mean of M posterior draws of x_0, from denoising (M = 1) to the noise-free target.

For training data y_1 .. y_N the posterior of the clean example given :math:`x_t = \alpha x_0 + \sigma\varepsilon` is

.. math::  w_i(x_t) \propto e^{-|x_t - \alpha y_i|^2 / 2\sigma^2}, \qquad
           D^*(x_t) = \sum_i w_i y_i, \qquad
           \mathrm{Cov}(x_0 | x_t) = \sum_i w_i (y_i - D^*)(y_i - D^*)^T .

The target is the mean of M independent draws from it. The example that made x_t is one, and the others are drawn anew,

.. math::
    T_M = \frac1M\Big(x_0 + \sum_{m=2}^M x_0^{(m)}\Big), \qquad
    E[T_M | x_t] = D^*, \qquad \mathrm{Cov}(T_M | x_t) = \tfrac1M \mathrm{Cov}(x_0 | x_t),

.. math::
    E\left[\tfrac1d |D - T_M|^2\right] = E\left[\tfrac1d |D - D^*|^2\right]
      + \frac{1}{M d} E\left[\operatorname{tr}\mathrm{Cov}(x_0 | x_t)\right] .

M = 1 is denoising score matching, bit for bit; M to infinity is the explicit objective with the exact score of the
finite data set, `NoiseFreeTarget`. All have the same minimizer D*, the memorizer. M varies the noise in the target
alone, so that its effect on a network of limited capacity and training time can be measured.

Sources: Vastola 2025, *Generalization through variance* (arXiv:2504.12532: both limits and the target's covariance);
Bertrand et al. 2025 (arXiv:2506.03719) weight M examples drawn from the data instead, which is biased for finite M
unless x_0 is among them; draws from the posterior are unbiased for every M.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.schedules import as_time

from .objective import Denoising, Errors, errors_from, noised

MEMORY = 128 * 2**20
"""The most bytes that the posterior weights of a block of samples may take."""


@dataclass(frozen=True)
class AveragedTarget:
    """The mean of `targets` = M posterior draws as the target, x_0 itself among them.

    Each step computes the posterior weights of all N training examples for its B samples, in float64 (about 2 B N d
    operations), and a run keeps one float64 copy of the data. Raises InputError for M < 1.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import AveragedTarget
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> data, x_0, noise = torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([[0.5]])  # x_t = 4
    >>> errors = AveragedTarget(4).on(data, data.device)  # the target is (3 + 1 + 1 + 1) / 4
    >>> float(errors(denoiser, x_0, 2.0, noise, generator=torch.Generator().manual_seed(0)))
    0.25
    """

    targets: int = 8

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise InputError(f"targets: expected a whole number >= 1, got {self.targets}")

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors for draws from the posterior over `data`."""
        if self.targets == 1:
            return Denoising().on(data, device)
        posterior = DataPosterior(data.to(device))

        def errors(
            denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
        ) -> Float[Tensor, " batch"]:
            schedule, times = denoiser.schedule, as_time(t).expand(len(x_0))
            x_t = noised(schedule, x_0, times, noise)
            alpha, sigma = schedule.alpha(times), schedule.sigma(times)
            drawn = posterior.draw(x_t, alpha, sigma, self.targets - 1, generator=generator)
            total = x_0.double()
            for column in drawn.unbind(1):  # one draw at a time: the memory is that of a few batches
                total = total + posterior.examples[column]
            return errors_from((total / self.targets).to(x_0), denoiser, x_t, times)

        return errors


@dataclass(frozen=True)
class NoiseFreeTarget:
    """E[x_0 | x_t] of the finite data set as the target: M to infinity, explicit score matching with its exact score.

    A step evaluates the exact denoiser of the training set once.

    >>> import math
    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import NoiseFreeTarget
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> data, x_0, noise = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0]]), torch.tensor([[0.5]])  # x_t = 2
    >>> errors = NoiseFreeTarget().on(data, data.device)
    >>> error = errors(denoiser, x_0, 2.0, noise, generator=torch.Generator())
    >>> round(float(error), 6), round((1 - math.tanh(2 / 2**2)) ** 2, 6)  # E[x_0 | x_t] = tanh(x_t / sigma^2)
    (0.289318, 0.289318)
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors from the exact denoiser of `data`."""
        distribution = Empirical(data.to(device))

        def errors(
            denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
        ) -> Float[Tensor, " batch"]:
            del generator
            schedule, times = denoiser.schedule, as_time(t).expand(len(x_0))
            x_t = noised(schedule, x_0, times, noise)
            with torch.no_grad():
                target = distribution.denoise(x_t, schedule.alpha(times), schedule.sigma(times))
            return errors_from(target, denoiser, x_t, times)

        return errors


class DataPosterior:
    """The posterior of the clean example over equally likely `data`: what `AveragedTarget` draws from.

    Keeps one float64 copy of the data, and works in float64 on blocks of samples whose weights take at most 128 MiB.
    Raises InputError without data.

    >>> import math
    >>> import torch
    >>> from diffuscope.training import DataPosterior
    >>> posterior, x_t = DataPosterior(torch.tensor([[1.0], [-2.0]])), torch.tensor([[(math.log(3) - 3 / 32) * 8 / 3]])
    >>> alpha, sigma = torch.tensor([0.5]).double(), torch.tensor([2.0]).double()
    >>> drawn = posterior.draw(x_t, alpha, sigma, 100_000, generator=torch.Generator().manual_seed(0))
    >>> round(float(drawn.double().mean()), 2)  # w_1 = w_0 exp(-3 alpha (x_t + alpha / 2) / sigma^2) = w_0 / 3
    0.25
    """

    def __init__(self, data: Float[Tensor, "examples *event"]) -> None:
        if len(data) == 0:
            raise InputError("data: expected at least one example, got none")
        self.examples = data.double()
        flat = self.examples.flatten(1)
        # centered, to lose as few digits as possible in the product at small sigma
        self._center = flat.mean(0)
        self._points = flat - self._center
        self._half_squares = self._points.square().sum(1) / 2

    def draw(
        self,
        x_t: Batch,
        alpha: Float[Tensor, " batch"],
        sigma: Float[Tensor, " batch"],
        draws: int,
        *,
        generator: torch.Generator,
    ) -> Int[Tensor, "batch draws"]:
        """Indices of `draws` independent examples per sample, with replacement: example i with probability w_i(x_t)."""
        alpha, sigma = alpha.to(x_t.device)[:, None], sigma.to(x_t.device)[:, None]
        queries = alpha / sigma**2 * (x_t.double().flatten(1) - alpha * self._center)
        kappa = (alpha / sigma) ** 2
        uniform = torch.rand(len(x_t), draws, dtype=torch.float64, generator=generator, device=generator.device)
        indices = []
        for rows in torch.arange(len(x_t), device=x_t.device).split(max(1, MEMORY // (16 * len(self._points)))):
            # -|x_t - alpha y|^2 / 2 sigma^2, less what does not depend on y
            log_weights = torch.addmm(-kappa[rows] * self._half_squares, queries[rows], self._points.T)
            cumulative = torch.softmax(log_weights, 1).cumsum(1)
            # the first example whose cumulative weight exceeds the uniform number
            share = uniform[rows.to(uniform.device)].to(cumulative) * cumulative[:, -1:]
            indices.append(torch.searchsorted(cumulative, share, right=True))
        return torch.cat(indices).clamp_max(len(self._points) - 1)

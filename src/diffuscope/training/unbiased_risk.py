r"""Objectives that do not use x_0: implicit and sliced score matching, in the units of the denoising error.

With the denoiser's score :math:`s = (\alpha D - x_t)/\sigma^2` and any loss l whose mean is that of
:math:`\tfrac12|s|^2 + \nabla\cdot s`, the error of a sample is

.. math::
    e = \frac{1}{d}\frac{2\sigma^4}{\alpha^2}\, l + \frac{\sigma^2}{\alpha^2}, \qquad
    E[e] = E\left[\tfrac1d |D - x_t/\alpha|^2\right]
           + \frac{2\sigma^2}{\alpha d} E[\nabla\cdot D] - \frac{\sigma^2}{\alpha^2}
         = E\left[\tfrac1d |D - x_0|^2\right] :

Stein's unbiased estimate of the denoising error from the noisy sample alone. A weight w(t) therefore means the same
here as in the denoising loss. The price is variance: the standard deviation of e grows as :math:`\sigma^2/\alpha^2`,
while the denoising error is bounded by the variance of the data. Each step differentiates the network twice.

Sources: Stein 1981, *Estimation of the mean of a multivariate normal distribution*; Hyvarinen 2005; Song, Garg, Shi &
Ermon 2019 (arXiv:1905.07088).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.schedules import as_time

from .objective import Errors, noised
from .score_matching import Losses, Score, implicit_losses, implicit_losses_by_probe, signs, sliced_losses


@dataclass(frozen=True)
class Implicit:
    """The implicit loss with the exact divergence: d gradients per step, for low-dimensional data.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import Implicit
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.5]])  # x_t = (3, 3)
    >>> errors = Implicit().on(x_0, x_0.device)
    >>> round(errors(denoiser, x_0, 2.0, noise, generator=torch.Generator()).item(), 5)  # 2 * 1.5^2 / 2 + 4 * 1 - 4
    2.25
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors; the data beyond the batch are not used."""
        del data, device
        return _errors(lambda score, x, _: implicit_losses(score, x))


@dataclass(frozen=True)
class ImplicitByProbe:
    """The implicit loss with one probe of random signs per sample for the divergence.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import ImplicitByProbe
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.5]])  # x_t = (3, 3)
    >>> errors = ImplicitByProbe().on(x_0, x_0.device)  # v^T v / 2 = 1, the divergence, for all signs
    >>> round(errors(denoiser, x_0, 2.0, noise, generator=torch.Generator()).item(), 5)  # 2 * 1.5^2 / 2 + 4 * 1 - 4
    2.25
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors; the data beyond the batch are not used."""
        del data, device
        return _errors(lambda score, x, generator: implicit_losses_by_probe(score, x, signs(x, generator=generator)))


@dataclass(frozen=True)
class Sliced:
    """The sliced loss along one direction of random signs per sample.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import Sliced
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]])  # x_t = (3, 0): (v . s)^2 = |s|^2
    >>> errors = Sliced().on(x_0, x_0.device)
    >>> round(errors(denoiser, x_0, 2.0, noise, generator=torch.Generator()).item(), 5)  # 1.5^2 / 2 + 4 * 1 - 4
    1.125
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors; the data beyond the batch are not used."""
        del data, device
        return _errors(lambda score, x, generator: sliced_losses(score, x, signs(x, generator=generator)))


def _errors(losses: Callable[[Score, Batch, torch.Generator], Losses]) -> Errors:
    def errors(
        denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
    ) -> Float[Tensor, " batch"]:
        t, schedule = as_time(t), denoiser.schedule
        ratio = schedule.sigma(t) / schedule.alpha(t)
        if not bool(torch.isfinite(ratio).all()):
            raise InputError("noise: expected times with alpha > 0 for an objective without x_0, got alpha = 0")

        def score(x: Batch) -> Batch:
            return denoised_to_score(x, denoiser(x, t), schedule, t)

        x_t = noised(schedule, x_0, t, noise)
        loss = losses(score, x_t, generator)
        scale = 2 * (ratio * schedule.sigma(t)) ** 2 / x_0[0].numel()
        return scale.to(loss) * loss + (ratio**2).to(loss)

    return errors

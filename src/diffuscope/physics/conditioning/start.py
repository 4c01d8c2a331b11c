r"""Where the samples of a field begin: at the highest noise level, about the mean that the denoiser has there.

At time T the noised posterior has mean :math:`\alpha_T\mu` and variance :math:`\alpha_T^2\lambda_j + \sigma_T^2` along
its modes. A start from noise alone shifts every sample by :math:`\mu_j/\sigma_T` of its standard deviations along mode
j. An image is small beside :math:`\sigma_T = 80`; the mean of a field of 64 x 64 nodes has norm 64 and more. Where
noise hides the field, D is its mean: the iteration

.. math::  c \leftarrow D(\alpha_T c, T)

contracts to :math:`\mu` by :math:`\alpha^2\lambda/(\alpha^2\lambda + \sigma^2)` per evaluation, for a Gaussian exactly.
"""

import torch

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import model_times

EVALUATIONS = 3


@torch.no_grad()
def start_at_mean(denoiser: Denoiser, event_shape: tuple[int, ...] | None = None) -> Gaussian:
    """The mean of a denoiser's fields as a distribution without variance: the `start` of `samplers.generate`.

    Three evaluations at the highest level that `generate` uses, of a denoiser with one y for all samples. Raises
    InputError without an `event_shape`, the denoiser's or given.

    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.schedules import VE
    >>> start_at_mean(ExactDenoiser(Gaussian.isotropic(torch.tensor([40.0]), 1.0), VE()), (1,)).mean
    tensor([40.0000], dtype=torch.float64)
    """
    shape = getattr(denoiser, "event_shape", None) if event_shape is None else event_shape
    if shape is None:
        raise InputError("event_shape: expected the shape of one field, as the denoiser has none; got None")
    T = float(model_times(denoiser, 1)[0])
    center = torch.zeros(1, *shape, dtype=torch.float64)
    for _ in range(EVALUATIONS):
        center = denoiser(float(denoiser.schedule.alpha(T)) * center, T)
    return Gaussian.isotropic(center[0], 0.0)

"""The reader's model: the exact denoiser of N(0, 1/4) on images of 28 x 28 pixels."""

import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VP


class Exact(ExactDenoiser):
    event_shape = (1, 28, 28)
    data_range = (-1.0, 1.0)


denoiser = Exact(Gaussian.isotropic(torch.zeros(1, 28, 28), 0.25), VP())

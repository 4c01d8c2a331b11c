"""The model of each wrapper is a denoiser of its images."""

import torch

from diffuscope.denoisers import Denoiser


def after(run, block):
    if block.language == "python":
        denoiser, x = run.names["denoiser"], torch.zeros(2, 1, 28, 28)
        assert isinstance(denoiser, Denoiser)
        assert denoiser(x, denoiser.schedule.t_max).shape == x.shape

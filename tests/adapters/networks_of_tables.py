"""The exact network behind the call signature of diffusers, by the levels of its schedulers."""

import math
from types import SimpleNamespace
from typing import Any

import diffusers_in_small
import torch
from exact_gaussian import denoised
from torch import nn

diffusers = diffusers_in_small.classes()
TABLE = {"num_train_timesteps": 40, "beta_start": 0.002, "beta_end": 0.25}
OF_TABLE = {"prediction_type", "rescale_betas_zero_snr", "beta_schedule", "trained_betas", *TABLE}


class Exact(nn.Module):
    """The exact network, with diffusers' call signature; labels are converted to (alpha, sigma) by `levels`."""

    def __init__(self, levels, prediction, two_halves=False):
        super().__init__()
        self.levels, self.prediction, self.two_halves, self.timesteps = levels, prediction, two_halves, []

    def forward(self, sample, timestep, class_labels=None, return_dict=True) -> Any:
        assert class_labels is None
        self.timesteps.append(timestep)
        alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in self.levels(timestep))
        clean = denoised(sample, alpha, sigma)
        noise = (sample - alpha * clean) / sigma
        out = {
            "epsilon": lambda: noise,
            "sample": lambda: clean,
            "v_prediction": lambda: alpha * noise - sigma * clean,
            "flow_prediction": lambda: noise - clean,
        }[self.prediction]()
        out = torch.cat([out, torch.full_like(out, math.nan)], dim=1) if self.two_halves else out
        return SimpleNamespace(sample=out) if return_dict else (out,)


def table_levels(settings):
    """(alpha, sigma) of training step k, by the library's `add_noise` of its scheduler for training."""
    training = diffusers.DDPMScheduler(**{key: value for key, value in settings.items() if key in OF_TABLE})

    def levels(timesteps):
        assert not timesteps.is_floating_point()
        one = torch.ones(len(timesteps), dtype=torch.float64)
        return training.add_noise(one, 0 * one, timesteps), training.add_noise(0 * one, one, timesteps)

    return levels

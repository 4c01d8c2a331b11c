r"""
Skipping the steps that are known in closed form
================================================

At high noise every diffusion model is nearly linear: its denoiser is that of the Gaussian with the data's mean and
covariance, whose probability-flow map is known. So a sampler can *teleport* over those steps at no cost. How far may
it jump? Here the answer can be checked, because the model is exact too: a Gaussian mixture fitted to images of digits.

Source: Wang & Vastola 2024, `The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models
<https://arxiv.org/abs/2412.09726>`__.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import Heun, sample, teleport, teleport_error
from diffuscope.schedules import VE
from diffuscope.times import karras_times

generator = torch.Generator().manual_seed(0)
digits = load_data("digits").in_range(-1, 1).train
mixture = GaussianMixture.fit_kmeans(digits, components=10, ridge=1e-3, generator=generator)

schedule = VE(sigma_min=0.02, sigma_max=40.0)
model = ExactDenoiser(mixture, schedule)
gaussian = mixture.as_gaussian()  # the same mean and covariance, and nothing else

# %%
# Start from noise and integrate finely: this is where the model itself wants to go.

x_start = schedule.sigma_max * torch.randn(32, 1, 8, 8, generator=generator)
fine = karras_times(schedule, schedule.t_max, schedule.t_min, 60)
arrived = sample(Heun(), model, x_start, fine)

# %%
# Now jump with the Gaussian's map to lower and lower noise, and integrate only what is left. The estimate needs no
# integration at all: it follows the Gaussian's trajectory and asks the model once per level.

every_fourth = fine[::4]
estimate = teleport_error(model, gaussian, x_start, every_fourth)

measured = []
for first in range(0, len(fine) - 1, 4):
    x_skip = teleport(gaussian, schedule, x_start, fine[0], fine[first])
    distance = sample(Heun(), model, x_skip, fine[first:]) - arrived
    measured.append(float(distance.square().mean().sqrt()) / estimate.scale)

figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
axis.loglog(every_fourth[1:-1], measured[1:], "o-", label="measured")
axis.loglog(every_fourth[1:-1], estimate.relative[1:-1], "--", label="estimated, to first order")
axis.axhline(1, color="gray", linewidth=0.8)
axis.set(xlabel=r"jump down to noise level $\sigma$", ylabel="displacement / spread of the data")
_ = axis.legend(frameon=False)

# %%
# High above the spread of the data the jump is free. Near it the model begins to choose a digit, which no Gaussian
# knows, and the first-order estimate is too small: the true flow separates trajectories that the Gaussian keeps
# together.

levels = [0, 10, 20, 30, 40]
figure, axes = plt.subplots(len(levels), 8, figsize=(6.4, 4.2), layout="constrained")
for row, first in zip(axes, levels, strict=True):
    images = sample(Heun(), model, teleport(gaussian, schedule, x_start[:8], fine[0], fine[first]), fine[first:])
    row[0].set_ylabel(rf"$\sigma$ = {float(fine[first]):.3g}", rotation=0, ha="right", va="center")
    for axis, image in zip(row, images, strict=True):
        axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])

r"""
Noise schedules side by side
============================

A schedule is the pair :math:`(\alpha, \sigma)` in :math:`x_t = \alpha x_0 + \sigma\varepsilon`. They look different as
functions of time, yet two schedules are the same diffusion wherever their noise-to-signal ratio
:math:`\sigma/\alpha` agrees: what they choose is how to spend the steps.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.schedules import VP, Cosine, Karras, RectifiedFlow, Sigmoid
from diffuscope.times import karras_times, log_snr_times, uniform_times

schedules = {
    "EDM": Karras(),
    "VP": VP(),
    "cosine": Cosine(),
    "sigmoid": Sigmoid(),
    "rectified flow": RectifiedFlow(),
}

# %%
# The noise-to-signal ratio over the time that each schedule uses. Flow matching ends in pure noise, where the signal
# is zero and the ratio infinite; the grid stops just before.

figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, schedule in schedules.items():
    span = schedule.t_max - schedule.t_min
    times = torch.linspace(schedule.t_min, schedule.t_max - 1e-3 * span, 300)
    axis.semilogy((times - schedule.t_min) / span, schedule.noise_to_signal(times), label=name)
axis.set(xlabel="share of the schedule's time", ylabel=r"$\sigma/\alpha$")
_ = axis.legend(frameon=False)

# %%
# Twelve steps of one schedule on three grids. Equal steps of time spend almost all of them at high noise; equal steps
# of log-SNR spread them over the decades; the grid of Karras et al. is between the two.

schedule = RectifiedFlow()
grids = {
    "uniform": uniform_times(0.99, schedule.t_min, 12),
    "Karras": karras_times(schedule, 0.99, schedule.t_min, 12),
    "log-SNR": log_snr_times(schedule, 0.99, schedule.t_min, 12),
}

figure, axis = plt.subplots(figsize=(6.4, 1.8), layout="constrained")
for row, times in enumerate(grids.values()):
    axis.plot(schedule.noise_to_signal(times), torch.full_like(times, row), "|", markersize=16, markeredgewidth=2)
axis.set(xscale="log", xlabel=r"$\sigma/\alpha$", ylim=(-0.6, 2.6))
_ = axis.set_yticks(range(3), list(grids))

r"""
A field from a few readings, with its uncertainty
=================================================

A square plate is heated by sources that nobody has measured, its rim is held at zero, and a few sensors read the
temperature. :math:`-\Delta u = f`. Everything between the sensors, and the sources themselves, must come from the
equation and from what is believed of f. For a linear equation and a Gaussian belief the posterior is exact.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.physics import PROBLEMS, Sensors, named_prior, solve_inverse

problem = PROBLEMS["poisson-2d"](33)
truth = problem.fields(1, generator=torch.Generator().manual_seed(4))[0]  # channels: sources, temperature
prior = named_prior("gaussian", problem)  # the exact distribution of such fields

# %%
# Twelve sensors at nodes, whose noise is a twentieth of the temperature's root mean square.

generator = torch.Generator().manual_seed(0)
nodes = torch.randint(2, 31, (12, 2), generator=generator)
noise = truth[1].square().mean().sqrt().expand(12) / 20
values = truth[1][nodes[:, 0], nodes[:, 1]] + noise * torch.randn(12, dtype=torch.float64, generator=generator)
sensors = Sensors(points=nodes / 32.0, channels=torch.ones(12, dtype=torch.long), values=values, noise=noise)
found = solve_inverse(problem, sensors, prior, samples=4)

# %%
# The mean is the best guess and solves the equation, as every sample does. It is smoother than the truth where sensors
# are far apart: there the standard deviation says so.

moments = found.moments
assert moments is not None
assert float(found.residual.max()) < 1e-12  # of |A| |u|, for every sample
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained", sharex=True, sharey=True)
top = float(truth[1].abs().max())
fields = {"truth": truth[1], "mean": moments.mean[1], "a sample": found.samples[0, 1]}
fields["standard deviation"] = moments.sd[1]
for axis, (title, field) in zip(axes, fields.items(), strict=True):
    signed = title != "standard deviation"
    scale = {"vmin": -top, "vmax": top, "cmap": "RdBu_r"} if signed else {"vmin": 0, "cmap": "viridis"}
    shown = axis.imshow(field.T, origin="lower", extent=(0, 1, 0, 1), **scale)
    axis.plot(*(nodes / 32).T, "k.", markersize=3)
    axis.set(title=title, xticks=[], yticks=[])
    if title in ("a sample", "standard deviation"):
        figure.colorbar(shown, ax=axis, shrink=0.8)

# %%
# Are the intervals right? The same sensors read 400 other fields of the generator: how often did intervals of each
# level hold the truth?

calibration = found.calibration
assert calibration is not None
levels = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
figure, axis = plt.subplots(figsize=(4, 3.2), layout="constrained")
for channel, name in enumerate(problem.channels):
    axis.errorbar(levels, calibration.coverage[channel], 2 * calibration.error[channel], fmt="o", label=name)
axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
axis.set(xlabel="level of the interval", ylabel="share that holds the truth")
_ = axis.legend(frameon=False)

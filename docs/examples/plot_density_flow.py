r"""
A density flows to noise, and back
==================================

Noise turns any density into a Gaussian. To run it backward, the equation alone is no help: heat flow reversed
multiplies every error, and a picture is gone before it is back. With the score the reverse equation is well-posed, and
particles that follow it land where the data are.

All three are solved here: forward by the exact heat flow, backward by finite volumes under the exact score, with
particles of a sampler on top, and backward without a score by growing every Fourier mode up to a cutoff.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, `Generative diffusion models from a PDE perspective
<https://arxiv.org/abs/2501.17054>`__.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.animation import FuncAnimation

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import Density, Grid, PeacemanRachford, anti_diffuse, heat_flows, reverse_evolution
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import StochasticHeun, trajectory
from diffuscope.schedules import VE
from diffuscope.times import log_snr_times

generator = torch.Generator().manual_seed(0)
angles = torch.linspace(0, math.pi, 12, dtype=torch.float64)
upper = torch.stack([angles.cos() - 0.5, angles.sin() - 0.25], dim=1)
lower = torch.stack([0.5 - angles.cos(), 0.25 - angles.sin()], dim=1)
means = 1.4 * torch.cat([upper, lower])
moons = GaussianMixture.isotropic(torch.full((24,), 1 / 24).double(), means, torch.full((24,), 0.02).double())

# %%
# **Forward.** In variance-exploding time the forward equation *is* the heat equation, of variance t^2, and every time
# comes straight from the data. Particles add noise of their own.

schedule, grid = VE(sigma_min=0.05, sigma_max=2.0), Grid.square(-6, 6, 120)
times = log_snr_times(schedule, 2.0, 0.05, 60)
clean = grid.evaluate(lambda x: moons.log_prob(x, 1.0, 0.05))
forward = heat_flows(clean, grid, (times.flip(0) ** 2 - 0.05**2) / 2)

data = moons.sample(400, generator=generator)
noise = torch.randn(61, 400, 2, dtype=torch.float64, generator=generator)
spread = (times.flip(0) ** 2).diff(prepend=torch.zeros(1)).sqrt()
walkers = data + (spread[:, None, None] * noise).cumsum(0)

# %%
# **Backward with the score.** The same particles turn round: Anderson's equation from where they are, and the density
# of all such particles by alternating directions on the grid.

model = ExactDenoiser(moons, schedule)
end = Density(grid, forward[-1])
generated = torch.stack([d.values for d in reverse_evolution(model, end, times, PeacemanRachford())])
path = trajectory(StochasticHeun(), model, walkers[-1], times, noise=generator)
returning = torch.stack([state.x_t for state in path])
error = float((generated[-1] - clean).abs().sum()) * grid.volume
assert abs(float(generated[-1].sum()) * grid.volume - 1) < 1e-6
print(f"with the score: mass {float(generated[-1].sum()) * grid.volume:.12f}, L1 distance to the data {error:.3f}")

# %%
# **Backward without.** The density is known to 1e-6, and every mode up to k = 3 is multiplied by what the heat flow
# took from it: at the end by e^18. A lower cutoff multiplies less, and leaves the blur.

rough = Density(grid, forward[-1] + 1e-6 * torch.randn(120, 120, dtype=torch.float64, generator=generator))
undone = torch.stack([anti_diffuse(rough, float(4.0 - t**2) / 2, 3.0).density.values for t in times])
error = float((undone[-1] - clean).abs().sum()) * grid.volume
print(f"without: L1 distance to the data {error:.3g}")  # two densities are at most 2 apart

# %%
# Left, forward and back with the score; right, back without it. The picture in the README is
# ``animation.save("flow.gif", writer="pillow", fps=12, dpi=60)``.

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.8), layout="constrained")
images, dots = [], axes[0].plot([], [], ".", color="white", ms=2.2, alpha=0.8)[0]
for axis, title in zip(axes, ("with the score", "without a score"), strict=True):
    images.append(
        axis.imshow(np.zeros((120, 120)), origin="lower", extent=(-6, 6, -6, 6), cmap="magma", vmin=0, vmax=1)
    )
    axis.set(title=title, xticks=[], yticks=[], xlim=(-4, 4), ylim=(-4, 4))
label = figure.suptitle("")


def draw(frame: int) -> list:
    """Frames 0-60 go forward, 61-121 back; colors are each density in units of its own maximum."""
    back = frame > 60
    k = frame - 61 if back else frame
    left = generated[k] if back else forward[k]
    right = undone[k] if back else forward[k]
    for image, values in zip(images, (left, right), strict=True):
        image.set_data((values / values.max()).clamp(0, 1).T)
    dots.set_data(*(returning[k] if back else walkers[k]).T)
    sigma = float(times[k] if back else times.flip(0)[k])
    label.set_text(f"{'backward' if back else 'forward'}, σ = {sigma:.2f}")
    return [*images, dots, label]


frames = [*range(0, 61, 2), 60, 60, *range(61, 122, 2), *[121] * 10]
animation = FuncAnimation(figure, draw, frames=frames, interval=80)

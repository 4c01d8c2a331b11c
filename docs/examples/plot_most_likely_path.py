r"""
The most likely path, and typical ones
======================================

Noise can carry a system anywhere, at a price: a path has the probability :math:`e^{-S}`, and the path of least action
S dominates when noise is weak. What it conserves follows from the symmetries of the drift. Typical paths surround it
where drift is linear; between absorbing bounds they do not.
"""

import math

import matplotlib.pyplot as plt
import torch

from diffuscope.theory.paths import (
    Dynamics,
    absorbed_mean,
    absorbed_paths,
    geometric_action,
    least_action,
    linear_bridge,
    rotation,
    time_shift,
    translation,
)

generator = torch.Generator().manual_seed(0)

# %%
# Out of a well, when time is no object. The drift of Maier and Stein has wells at :math:`(\pm 1, 0)` and a saddle
# between them, and is no gradient: the path over the saddle swings out to the side, and costs 0.340. The straight path
# along the axis is stationary too, by symmetry; it costs 0.5, and its certificate says that it is no minimum.


def maier_stein(z, beta=10.0):
    x, y = z[:, 0], z[:, 1]
    return torch.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], 1)


well, saddle = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 0.0])
s = torch.linspace(0, 1, 50)
aside = torch.stack([s - 1, 0.3 * torch.sin(math.pi * s)], 1)
bent = geometric_action(Dynamics(maier_stein, 0.5), well, saddle, initial=aside)
straight = geometric_action(Dynamics(maier_stein, 0.5), well, saddle)
assert abs(float(straight.extrapolated) - 0.5) < 1e-4  # along the axis the drift is a gradient, over a barrier of 1/4
assert abs(float(bent.extrapolated) - 0.340) < 1e-3

figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
grid = torch.cartesian_prod(torch.linspace(-1.2, 0.2, 18), torch.linspace(-0.2, 0.5, 9)).double()
axis.quiver(*grid.T, *maier_stein(grid).T, color="0.7")
for curve, label in ((bent, "minimum"), (straight, "no minimum")):
    axis.plot(*curve.curve.T, label=f"S = {curve.extrapolated:.3f}, {label}")
axis.set(xlabel="x", ylabel="y", aspect="equal")
_ = axis.legend(loc="upper right")

# %%
# What a path conserves. This drift pulls to a ring and turns along it; it is the same in all directions and at all
# times. So angular momentum (of :math:`p = D^{-1}(\dot x - f)/2`) and energy are constant along the path; momentum is
# not.


def ring(x):
    return x * (1 - x.square().sum(1, keepdim=True)) + torch.stack([-x[:, 1], x[:, 0]], 1)


times = torch.linspace(0, 2, 201, dtype=torch.float64)
path = least_action(Dynamics(ring, 0.3), torch.tensor([-1.0, 1.0]), torch.tensor([1.4, 1.4]), times)

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
axes[0].plot(*path.states[0].T)
axes[0].add_patch(plt.Circle((0, 0), 1, fill=False, color="0.7"))
axes[0].set(aspect="equal", xlabel="x", ylabel="y", title="the path, and the ring")
for symmetry, label in ((rotation(), "angular momentum"), (time_shift(), "energy"), (translation([1.0, 0.0]), "$p_x$")):
    axes[1].plot(times[1:-1], symmetry.charge(path)[0], label=label)
axes[1].set(xlabel="time", title="along the path")
_ = axes[1].legend()

# %%
# Typical paths. Left: drift is linear, and the mean of all paths between the two ends is the most likely one. Right:
# Brownian motion with drift between absorbing bounds that first reaches the lower one at the end. Its mean (with two
# standard errors) follows the exact one, in gray, for bounds that are watched at every step only; the most likely path
# is straight, since its action does not know that a path must not arrive before. Bands hold 90% of the paths.

times = torch.linspace(0, 1, 401, dtype=torch.float64)
start, end, half = torch.tensor([0.5]), torch.tensor([-1.0]), 0.5
pulled = Dynamics(lambda x: -3 * x, half)
bridge = linear_bridge(pulled, start, end, times).sample(2000, generator)

walk = Dynamics(lambda x: torch.full_like(x, 0.1), half, domain=(-1.0, 1.0))
absorbed = absorbed_paths(walk, start, times, lambda x: x[:, 0] < 0, since=0.95, attempts=100_000, generator=generator)
beyond = 1 + 0.5826 * float(times[1]) ** 0.5  # where a bound seems to be that is watched at steps
inner = times[(times > 0) & (times < 0.95)]
exact = absorbed_mean(0.5, 0.975, inner, bounds=(-beyond, beyond), diffusion=half)

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0), sharey=True, layout="constrained")
for axis, ensemble, dynamics in ((axes[0], bridge, pulled), (axes[1], absorbed, Dynamics(walk.drift, half))):
    low, high = (ensemble.quantile(share)[0][:, 0] for share in (0.05, 0.95))
    axis.fill_between(times, low, high, alpha=0.15)
    mean, error = ensemble.mean[:, 0], 2 * ensemble.mean_error[:, 0]
    axis.fill_between(times, mean - error, mean + error, alpha=0.6, label="mean")
    axis.plot(times, least_action(dynamics, start, end, times).states[0, :, 0], "--", color="k", label="most likely")
    axis.set(xlabel="time", title=f"{len(ensemble.states):,} paths")
axes[1].plot(inner, exact, color="0.5", label="exact mean")
axes[0].set(ylabel="x")
for axis in axes:
    axis.legend(loc="upper right")

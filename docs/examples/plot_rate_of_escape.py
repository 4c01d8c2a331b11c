r"""
From a drift to a rate
======================

A particle in a double well leaves its well by noise alone. When noise is weak that happens at the rate
:math:`A\,e^{-\Delta U / D}`, and both the exponent and the prefactor can be computed from the drift: the exponent is
the action of the most likely path to the saddle, the prefactor follows from a Riccati equation along it. The answer is
compared with the slowest eigenvalue of the Fokker-Planck equation, which knows nothing of paths, and with simulation.
"""

import math

import matplotlib.pyplot as plt
import torch

from diffuscope.densities import Grid, gradient_equation, relaxation_rates
from diffuscope.theory.paths import Dynamics, transition_rate


def potential(x):
    return (x[:, 0] ** 4 / 4 - x[:, 0] ** 2 / 2).double()


def drift(x):
    return x - x**3


# %%
# :math:`U = x^4/4 - x^2/2` has curvature 2 in its wells and -1 on top of a barrier of 1/4: the prefactor is
# :math:`\sqrt2/2\pi`. `transition_rate` is given the drift alone, not the potential.

well, top = torch.tensor([-1.0]), torch.tensor([0.0])
rate = transition_rate(Dynamics(drift, 1.0), well, top)
print(f"rate = {rate.prefactor:.5f} exp(-{rate.barrier:.5f} / D)")
assert math.isclose(rate.prefactor, math.sqrt(2) / (2 * math.pi), rel_tol=1e-3)
assert math.isclose(rate.barrier, 0.25, rel_tol=1e-4)

# %%
# The slowest rate at which a density in this potential relaxes is that of both ways together, twice the rate of
# escape.

noises = torch.logspace(math.log10(0.02), math.log10(0.25), 9, dtype=torch.float64)
line = Grid.line(-2.5, 2.5, 800)
exact = torch.tensor([float(relaxation_rates(gradient_equation(line, potential, float(D)))[0]) / 2 for D in noises])
formula = torch.tensor([rate.at(float(D)) for D in noises])

# %%
# And particles, 4,000 of them from one well, with Euler-Maruyama steps: the share that is on the other side is
# :math:`(1 - e^{-2kt})/2`.

generator = torch.Generator().manual_seed(0)
simulated, step, duration = [], 0.01, 10.0
for D in noises[4::2]:
    x = torch.full((4000, 1), -1.0, dtype=torch.float64)
    for _ in range(round(duration / step)):
        x = x + step * drift(x) + (2 * float(D) * step) ** 0.5 * torch.randn(x.shape, generator=generator).double()
    across = (x > 0).double().mean()
    error = (across * (1 - across) / len(x)).sqrt()
    simulated.append(
        [float(-(1 - 2 * share).log() / (2 * duration)) for share in (across, across - error, across + error)]
    )
middle, low, high = torch.tensor(simulated).T

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
x = torch.linspace(-1.7, 1.7, 200)[:, None]
axes[0].plot(x, potential(x))
axes[0].plot([-1, 0], potential(torch.tensor([[-1.0], [0.0]])), "o", color="tab:red")
axes[0].set(xlabel="x", title="the potential; its well and its saddle")
axes[1].semilogy(1 / noises, exact, label="eigenvalue / 2")
axes[1].semilogy(1 / noises, formula, "--", label="the formula of weak noise")
axes[1].errorbar(1 / noises[4::2], middle, (middle - low, high - middle), fmt="o", label="simulated")
axes[1].set(xlabel="1 / D", ylabel="rate of escape")
axes[1].legend(frameon=False)

# %%
# The formula is the leading order of weak noise. At weak noise it is too high by a share in proportion to D; at strong
# noise it means nothing.

off = formula / exact - 1
print(*(f"D = {float(D):.3f}: {float(o):+.1%}" for D, o in zip(noises, off, strict=True)), sep="\n")
assert abs(float(off[0])) < 0.1

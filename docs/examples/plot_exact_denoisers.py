r"""
Three exact denoisers of one data set
=====================================

A denoiser answers :math:`E[x_0 \mid x_t]`. It is known exactly for three descriptions of the same data: a Gaussian
that knows the mean and the covariance, a Gaussian mixture that knows the shape, and the finite data set itself. A
trained network is somewhere between them, and an audit measures where.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons

from diffuscope.exact import Empirical, Gaussian, GaussianMixture

generator = torch.Generator().manual_seed(0)
points = torch.from_numpy(make_moons(300, noise=0.05, random_state=0)[0])
center = points.mean(0)
points = points - center

distributions = {
    "Gaussian": Gaussian.fit([points]),
    "mixture of 12": GaussianMixture.fit_em(points, components=12, generator=generator),
    "the data set": Empirical(points),
}

# %%
# Each line leads from a noised point to what the denoiser says. At high noise (left) the three agree: nothing but the
# mean and the covariance is visible. At low noise the Gaussian hardly moves a point, the mixture moves it to the
# moons, and the data set moves it to its own nearest examples: the denoiser that minimizes the training loss exactly
# reproduces the training data in the end.

sigmas = (1.0, 0.3, 0.1)
noise = torch.randn(150, 2, generator=generator, dtype=torch.float64)
figure, axes = plt.subplots(3, 3, figsize=(7.2, 5.0), layout="constrained")
for row, (name, distribution) in zip(axes, distributions.items(), strict=True):
    row[0].set_ylabel(name)
    for axis, sigma in zip(row, sigmas, strict=True):
        x_t = points[:150] + sigma * noise
        denoised = distribution.denoise(x_t, alpha=1.0, sigma=sigma)
        axis.plot(*torch.stack([x_t, denoised]).unbind(-1), color="tab:gray", linewidth=0.5)
        axis.plot(*denoised.T, ".", markersize=3)
        axis.set(xticks=[], yticks=[], xlim=(-2.1, 2.1), ylim=(-1.4, 1.4), aspect="equal")
for axis, sigma in zip(axes[0], sigmas, strict=True):
    axis.set_title(rf"$\sigma$ = {sigma}")

# %%
# The mean squared error at every noise level, on the data and on fresh points of the same distribution. No denoiser is
# better on the data than the data set's own. On fresh points the order turns around at low noise: what it has memorized
# is of no use there. The gap between the two curves is what an audit looks for in a trained network.

fresh = torch.from_numpy(make_moons(2000, noise=0.05, random_state=1)[0])
fresh = fresh - center
levels = torch.logspace(-2, 1, 25, dtype=torch.float64)

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
for axis, (title, clean) in zip(axes, {"the data": points, "fresh points": fresh}.items(), strict=True):
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    for name, distribution in distributions.items():
        errors = [(distribution.denoise(clean + s * noise, 1.0, s) - clean).square().sum(1).mean() for s in levels]
        axis.loglog(levels, torch.stack(errors) / levels**2, label=name)
    axis.set(title=title, xlabel=r"$\sigma$")
axes[0].set_ylabel(r"squared error / $\sigma^2$")
_ = axes[1].legend(frameon=False)

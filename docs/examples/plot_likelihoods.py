r"""
How likely is a digit?
======================

The probability flow of a denoiser carries a point to noise, and on the way it counts by how much volume stretches:
that gives the density of the model's samples at any point. Here the model is a mixture of Gaussians fitted to
handwritten digits, whose density is also known in closed form, so that the whole computation can be checked.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.certify import certify_likelihood
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import HutchinsonDivergence, log_likelihood
from diffuscope.densities.likelihood import log_density
from diffuscope.exact import GaussianMixture
from diffuscope.schedules import VP

generator = torch.Generator().manual_seed(0)
data = load_data("digits").in_range(-1, 1)
mixture = GaussianMixture.fit_kmeans(data.train.double(), components=10, ridge=1e-3, generator=generator)
denoiser, t = ExactDenoiser(mixture, VP()), 0.1
alpha, sigma = float(VP().alpha(t)), float(VP().sigma(t))

# %%
# Held-out digits, the same upside down, and patterns that have the digits' pixels in random places; with the noise of
# time t, at which the density is taken.

digits = data.heldout[:40].double()
places = torch.randperm(64, generator=generator)
sets = {
    "held-out digits": digits,
    "upside down": digits.flip(2),
    "pixels in other places": digits.flatten(1)[:, places].reshape(digits.shape),
}
noised = {name: alpha * x + sigma * torch.randn(x.shape, generator=generator).double() for name, x in sets.items()}
found = {name: log_likelihood(denoiser, x_t, t) for name, x_t in noised.items()}
exact = {name: mixture.log_prob(x_t, alpha, sigma) for name, x_t in noised.items()}
wrong = max(float((found[name].log_prob - exact[name]).abs().max()) for name in sets)
print(f"largest error: {wrong:.1e} nats, of densities down to {float(min(e.min() for e in exact.values())):.0f} nats")
assert wrong < 1e-3

# %%
# A network in many dimensions has its divergence estimated by random probes. Their spread is the standard error of the
# answer. For an error that is normal the square of error over standard error, of 8 probes, is 7/5 in the mean.

some = noised["held-out digits"][:20]
probes = HutchinsonDivergence.rademacher(some, 8, generator=generator)
estimate = log_likelihood(denoiser, some, t, divergence=probes, tolerance=1e-5)
off = (estimate.log_prob - exact["held-out digits"][:20]) / estimate.standard_error

figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
for name, likelihood in found.items():
    axes[0].plot(exact[name], likelihood.log_prob, ".", label=name)
ends = [float(min(e.min() for e in exact.values())), float(max(e.max() for e in exact.values()))]
axes[0].plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
axes[0].set(xlabel="exact log-density, nats", ylabel="along the probability flow")
axes[0].legend(frameon=False)
axes[1].errorbar(range(20), off, 1.0, fmt="o", markersize=4)
axes[1].axhline(0, color="0.6", linewidth=0.8)
axes[1].set(xlabel="digit", ylabel="error of 8 probes / standard error")
print(f"mean square of error / standard error: {float(off.square().mean()):.2f}")
assert float(off.square().mean()) < 4

# %%
# Any code that computes a likelihood can be certified: it is given exact denoisers, and compared on six densities. A
# constant that is off by a tenth of a nat is enough to fail.


def shifted(denoiser, x_t, t, generator):
    return log_density(denoiser, x_t, t, generator) + 0.1


for name, candidate in {"diffuscope": log_density, "shifted by 0.1 nats": shifted}.items():
    findings = certify_likelihood(candidate, schedules=[VP()])
    failed = sum(finding.tone == "alarm" for finding in findings)
    print(f"{name}: {failed} of {len(findings)} findings fail")
    assert (failed > 0) == (candidate is shifted)

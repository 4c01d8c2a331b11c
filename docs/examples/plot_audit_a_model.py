r"""
Audit a model: did it memorize?
===============================

The denoiser that minimizes the training loss exactly is known: it is the posterior mean over the training examples, and
it generates nothing but these. A mixture of Gaussians fitted to the same examples makes new ones. Both are audited with
the same settings; a trained network goes in their place.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.audit import Settings, Subject, audit_model
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.schedules import VE

generator = torch.Generator().manual_seed(0)
digits = load_data("digits").in_range(-1, 1)
schedule = VE(0.02, 40.0)
models = {
    "posterior mean": Empirical(digits.train),
    "mixture": GaussianMixture.fit_kmeans(digits.train, components=10, ridge=1e-2, generator=generator),
}

# %%
# A small audit: fewer noise levels, points and samples than the command takes by default. The mixture copies nothing,
# but is a little biased toward the examples that it was fitted to, and the audit sees that too.

settings = Settings(levels=8, points=256, trajectories=32, generated=200, step_seeds=16)
results = {
    name: audit_model(
        Subject(ExactDenoiser(distribution, schedule), digits.train, digits.heldout, name=name, data_name="digits"),
        settings,
    )
    for name, distribution in models.items()
}
for name, result in results.items():
    print(f"{name}: {result.verdict.word}. {result.findings['memorized'][0].verdict}")
assert results["posterior mean"].verdict.word == "copies"
assert results["mixture"].verdict.word != "copies"

# %%
# How much better is a noised training digit denoised than a held-out one? At high noise nobody can tell them apart; at
# low noise the memorizer finds its way back to every training digit, and fails on all others. Bands are 95% intervals.

figure, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
for name, result in results.items():
    gap = result["memorized"].result.gap
    axis.fill_between(gap.ratios, gap.low, gap.high, alpha=0.2)
    axis.plot(gap.ratios, gap.share, "o-", label=name)
axis.axhline(0, color="0.6", linewidth=0.8)
axis.set(xscale="log", xlabel=r"noise level $\sigma/\alpha$", ylabel="advantage on training digits")
axis.legend(frameon=False)

# %%
# A result shows itself in a notebook, and `result.save("out/mine")` writes the report.

results["posterior mean"]

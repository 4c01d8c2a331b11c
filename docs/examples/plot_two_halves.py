r"""
Memorize or generalize: two networks of disjoint halves
=======================================================

Two networks that share no training example are given the same noise. With few examples each gives back its own. With
more they begin to agree with each other: what they make is then no property of the examples that they saw.

Source: Kadkhodaie, Guth, Simoncelli & Mallat 2024, `Generalization in diffusion models arises from geometry-adaptive
harmonic representations <https://arxiv.org/abs/2310.02557>`__.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.data import load_data
from diffuscope.samplers import generate
from diffuscope.training import TrainingSettings, fit, new_denoiser

generator = torch.Generator().manual_seed(0)
digits = load_data("digits", heldout_fraction=0.1).in_range(-1, 1).train.flatten(1)
digits = digits[torch.randperm(len(digits), generator=generator)]
sizes = (4, 800)


def network(examples: torch.Tensor, seed: int):
    """A small network trained on `examples`."""
    settings = TrainingSettings(steps=1500, batch_size=64, average_decay=0.99, seed=seed)
    return fit(new_denoiser(examples, (-1.0, 1.0), seed), examples, settings).eval()


# %%
# Each pair starts from the same 200 noises.

samples, sets = {}, {}
for n in sizes:
    sets[n] = digits[:n], digits[n : 2 * n]
    samples[n] = [generate(network(part, seed), 200, steps=20, seed=1) for seed, part in enumerate(sets[n])]

# %%
# Two distances, in units of that between a digit and its nearest neighbor among 1,600 others: from a sample to the
# nearest example that its network was trained on, and from a sample of one network to that of the other.

unit = float(torch.cdist(digits, digits).fill_diagonal_(torch.inf).min(1).values.mean())
for n in sizes:
    (first, second), (own, _) = samples[n], sets[n]
    to_own = float(torch.cdist(first, own).min(1).values.mean()) / unit
    apart = float((first - second).norm(dim=1).mean()) / unit
    print(f"{n:4d} examples each: {to_own:.2f} from the training digits, {apart:.2f} from each other")

# %%
# The first six noises. Above each line the two networks of few examples, below it those of many.

figure, axes = plt.subplots(4, 6, figsize=(6.0, 4.0), layout="constrained")
rows = [(n, k) for n in sizes for k in (0, 1)]
for row, (n, k) in zip(axes, rows, strict=True):
    row[0].set_ylabel(f"{n} examples,\nnetwork {k + 1}", rotation=0, ha="right", va="center")
    for axis, sample in zip(row, samples[n][k], strict=False):
        axis.imshow(sample.reshape(8, 8), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])

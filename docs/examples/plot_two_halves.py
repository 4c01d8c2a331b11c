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
from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.samplers import generate
from diffuscope.schedules import VE
from diffuscope.training import TrainingSettings, fit

generator = torch.Generator().manual_seed(0)
digits = load_data("digits", heldout_fraction=0.1).in_range(-1, 1).train.flatten(1)
digits = digits[torch.randperm(len(digits), generator=generator)]
sizes = (4, 800)


def network(examples: torch.Tensor, seed: int):
    """A small network trained on `examples`."""
    scale, mean = float(examples.std()), float(examples.mean())
    with seeded(seed):
        layers = MLP((64,), width=128, depth=2)
    network = Preconditioned(layers, VE(0.01, 40.0), scale, event_shape=(64,), data_range=(-1.0, 1.0), data_mean=mean)
    settings = TrainingSettings(steps=1200, batch_size=64, learning_rate=3e-3, average_decay=0.99, seed=seed)
    return fit(network, examples, settings).eval()


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
to_own, apart = {}, {}
for n in sizes:
    (first, second), (own, _) = samples[n], sets[n]
    to_own[n] = float(torch.cdist(first, own).min(1).values.mean()) / unit
    apart[n] = float((first - second).norm(dim=1).mean()) / unit
    print(f"{n:4d} examples each: {to_own[n]:.2f} from the training digits, {apart[n]:.2f} from each other")
assert to_own[4] < 0.5 < to_own[800]
assert apart[800] < apart[4] / 2

# %%
# What the first six noises become. The networks of four digits each know nothing else, and have no digit in common;
# those of 800 nearly agree, though they have none in common either.

figure, axes = plt.subplots(4, 6, figsize=(6.0, 4.0), layout="constrained")
rows = [(n, k) for n in sizes for k in (0, 1)]
for row, (n, k) in zip(axes, rows, strict=True):
    row[0].set_ylabel(f"{n} examples,\nnetwork {k + 1}", rotation=0, ha="right", va="center")
    for axis, sample in zip(row, samples[n][k], strict=False):
        axis.imshow(sample.reshape(8, 8), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])

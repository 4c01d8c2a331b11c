r"""
Are these samples copies?
=========================

A generator is a closed box, and all that is left of it are samples. Training examples and held-out ones decide: a copy
resembles one training example more than any held-out example ever resembles one. Two generators of handwritten digits
are audited, one that draws new digits and one that replays a training digit in every fifth sample.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from diffuscope.audit import audit_samples
from diffuscope.data import data_from_arrays

generator = torch.Generator().manual_seed(0)
images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
train, heldout, fresh = images[torch.randperm(len(images), generator=generator)].split(600)[:3]
data = data_from_arrays(train, heldout, data_range=(-1, 1), kind="images", name="digits")

# %%
# The honest generator is the best there can be: digits of the same collection that nobody has used. The other one has
# put noisy copies of training digits in the place of the first 120.

copied = 120
noise = 0.05 * torch.randn(copied, 1, 8, 8, generator=generator)
originals = train[torch.randperm(600, generator=generator)[:copied]]
replaying = torch.cat([(originals + noise).clamp(-1, 1), fresh[copied:]])

honest, caught = audit_samples(fresh, data, name="honest"), audit_samples(replaying, data, name="replaying")
for result in (honest, caught):
    finding = result.findings["memorized"][0]
    print(f"{result.subject.name}: {finding.verdict} {finding.power}")

# %%
# The honest generator passes, and the finding says what that is worth: the smallest share of copies that would have
# been found. Of the other one the copies are listed, sample by sample. Up to 5% of such a list are expected to be false
# discoveries, so that it may be a few longer than 120.

listed = torch.from_numpy(caught["memorized"].result.copies["pixels"].listed)
print(f"listed: {int(listed.sum())}, of the copies {int(listed[:copied].sum())} of {copied}")
assert honest.verdict.word == "sound"
assert caught.verdict.word == "copies"
assert bool(listed[:copied].all())

# %%
# Left: the distance of every sample to its nearest training digit and to its nearest held-out digit. New digits are as
# far from the one as from the other. Right: samples that are listed, above the training digits they come from.


def nearest(samples: torch.Tensor, others: torch.Tensor) -> torch.return_types.min:
    return torch.cdist(samples.flatten(1), others.flatten(1)).min(1)


figure = plt.figure(figsize=(7.2, 3.6), layout="constrained")
left, right = figure.subfigures(1, 2)
axis = left.subplots()
for which, color, label in ((~listed, "0.6", "not listed"), (listed, "tab:red", "listed as copies")):
    samples = replaying[which]
    axis.plot(nearest(samples, train).values, nearest(samples, heldout).values, ".", color=color, label=label)
axis.plot([0, 6], [0, 6], color="black", linewidth=0.8)
axis.set(xlabel="distance to the nearest training digit", ylabel="to the nearest held-out digit", aspect="equal")
axis.legend(frameon=False, loc="lower right")
shown = replaying[listed][:8]
axes = right.subplots(4, 4)
for k, (image, place) in enumerate(zip(shown, nearest(shown, train).indices, strict=True)):
    row, column = 2 * (k // 4), k % 4
    for axis, picture, title in (
        (axes[row, column], image, "sample"),
        (axes[row + 1, column], train[place], "training"),
    ):
        axis.imshow(picture[0], cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        if column == 0:
            axis.set_ylabel(title)

r"""
What mean and covariance know of a data set
===========================================

The Gaussian of a data set is the simplest model of it: at high noise every diffusion model is that one. One file holds
it, of all examples and of each class, and needs no data to use. What is in it, and how much of a digit is not?
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from diffuscope.data import DataStatistics, data_statistics

statistics = data_statistics("digits", classes="separate").in_range(-1, 1)
gaussian = statistics.gaussian
half, most = (gaussian.rank_of_share(share) for share in (0.5, 0.95))
print(
    f"{gaussian.count} digits of {gaussian.dimension} pixels: {half} directions have half of the variance, {most} 95%"
)

# %%
# The mean, the directions of largest variance, and for each class its mean and a draw of its Gaussian. A draw has the
# strokes of its digit, and a noise that no digit has: covariance is not shape.

generator = torch.Generator().manual_seed(0)
classes = [statistics.of_class(label) for label in range(10)]
rows = {
    "mean, directions": [gaussian.mean, *(gaussian.eigenvectors.T[:9].reshape(9, 1, 8, 8))],
    "class means": [of_class.mean for of_class in classes],
    "draws": [of_class.sample(1, generator=generator)[0] for of_class in classes],
}
figure, axes = plt.subplots(3, 10, figsize=(7.2, 2.5), layout="constrained")
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, picture in zip(row, pictures, strict=True):
        top = float(picture.abs().max())
        axis.imshow(picture[0], cmap="gray", vmin=-top, vmax=top)
        axis.set(xticks=[], yticks=[])

# %%
# The spectrum. Noise of standard deviation :math:`\sigma` hides what lies below :math:`\sigma^2`: at that level a
# denoiser can know as many directions as there are eigenvalues above. The covariance of a class, of some 180 digits, is
# shrunk toward its mean variance: hence the flat end.

figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
axis.semilogy(range(1, 65), gaussian.variances.clamp(min=1e-6), label="all digits", color="black")
for label, of_class in enumerate(classes):
    axis.semilogy(
        range(1, 65), of_class.variances.clamp(min=1e-6), linewidth=0.6, label="one class" if not label else None
    )
for sigma in (1.0, 0.3, 0.1):
    axis.axhline(sigma**2, color="0.7", linewidth=0.8, linestyle="--")
    axis.text(64, sigma**2, rf"$\sigma$ = {sigma}", ha="right", va="bottom", fontsize=8)
axis.set(xlabel="rank", ylabel="eigenvalue", ylim=(1e-4, 10))
axis.legend(frameon=False)

# %%
# Saved and read again, it is the same to the last bit.

with tempfile.TemporaryDirectory() as folder:
    statistics.save(Path(folder) / "digits.safetensors")
    again = DataStatistics.load(Path(folder) / "digits.safetensors")
assert torch.equal(again.gaussian.eigenvalues, gaussian.eigenvalues)
assert torch.equal(again.of_class(3).mean, classes[3].mean)

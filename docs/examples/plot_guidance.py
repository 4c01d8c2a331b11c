r"""
What guidance samples
=====================

Guidance replaces a denoiser by :math:`D_u + w (D_c - D_u)`: from 'any class' through 'this class' and beyond. At every
noise level that is the score of :math:`p_t(x|y)^w p_t(x)^{1-w}`. What comes out at the end is not the distribution with
that formula at noise zero. With exact denoisers the difference is guidance's own, and no network's.
"""

import math

import matplotlib.pyplot as plt
import torch

from diffuscope.denoisers import ExactDenoiser, Guided
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import Heun, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times

schedule = VE(0.002, 80.0)
times = karras_times(schedule, 80.0, 0.002, 200)
generator = torch.Generator().manual_seed(0)

# %%
# Two Gaussians about 0: the class has variance 1/2, all data together 2. The flow of the guided denoiser is linear, and
# the variance that it samples is the geometric mean :math:`v_c^w v_u^{1-w}`. The tilted distribution has
# :math:`1 / (w / v_c + (1 - w) / v_u)`.


def exact(variance: float) -> ExactDenoiser:
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), variance), schedule)


scales = torch.linspace(0, 4, 9, dtype=torch.float64)
one = torch.tensor([[80.0]], dtype=torch.float64)
sampled = [float(sample(Heun(), Guided(exact(0.5), exact(2.0), float(w)), one, times)) ** 2 for w in scales]
assert torch.allclose(torch.tensor(sampled).double(), 0.5**scales * 2 ** (1 - scales), rtol=0.01, atol=0)

figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
axis.plot(scales, sampled, "o", label="sampled with guidance")
axis.plot(scales, 0.5**scales * 2 ** (1 - scales), label=r"$v_c^w v_u^{1-w}$")
axis.plot(scales, 1 / (scales / 0.5 + (1 - scales) / 2.0), "--", label="the tilted distribution")
axis.set(xlabel="scale w", ylabel="variance", yscale="log")
_ = axis.legend(frameon=False)

# %%
# Three classes in the plane, one of them asked for. The larger the scale, the farther its samples lean away from the
# other classes, beyond the class itself (the circles are two standard deviations), and the closer they lie together.

angles = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3) + math.pi / 2
means = torch.stack([angles.cos(), angles.sin()], 1)
variance = 0.15
everything = ExactDenoiser(
    GaussianMixture.isotropic(torch.full((3,), 1 / 3).double(), means, torch.full((3,), variance).double()), schedule
)
asked = ExactDenoiser(Gaussian.isotropic(means[0], variance), schedule)

figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.4), sharex=True, sharey=True, layout="constrained")
start = 80 * torch.randn(600, 2, dtype=torch.float64, generator=generator)
for axis, w in zip(axes, (0.0, 1.0, 2.0, 4.0), strict=True):
    x = sample(Heun(), Guided(asked, everything, w), start, times)
    axis.plot(*x.T, ".", markersize=2)
    for mean in means:
        axis.add_patch(plt.Circle(mean.tolist(), 2 * variance**0.5, fill=False, color="tab:gray"))
    axis.set(title=f"w = {w:g}", xticks=[], yticks=[], xlim=(-2.3, 2.3), ylim=(-2, 2.8), aspect="equal")

r"""
Stop a training when copying begins
===================================

A network that is trained for long on few examples ends up copying them. A monitor looks at the model while it trains,
with the measurements of an audit, and stops the run at the first look that finds copies. All looks of a run together
keep the probability of a false stop.
"""

import matplotlib.pyplot as plt
import torch

from diffuscope.audit import Settings
from diffuscope.data import data_from_arrays, load_data
from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.monitor import Monitor
from diffuscope.schedules import VE
from diffuscope.training import TrainingSettings, fit

digits = load_data("digits").in_range(-1, 1)
few, heldout = digits.train[:60].flatten(1), digits.heldout.flatten(1)
data = data_from_arrays(few, heldout, data_range=(-1, 1), kind="vectors", name="60 digits")

# %%
# A small network sees 60 digits as vectors of 64 pixels. It would train for 4,000 steps.

with seeded(0):
    layers = MLP((64,), width=128, depth=2)
network = Preconditioned(
    layers, VE(0.01, 40.0), float(few.std()), event_shape=(64,), data_range=(-1.0, 1.0), data_mean=float(few.mean())
)
monitor = Monitor(data, every=200, settings=Settings(levels=6, points=60, generated=200))
settings = TrainingSettings(steps=4000, batch_size=64, learning_rate=3e-3, average_decay=0.99)
fit(network, few, settings, stop=monitor.after_step)
looks = monitor.looks
assert looks[-1].stop
assert looks[-1].step < 4000

# %%
# The share of samples that are copies, and how much better training digits are denoised than held-out ones. The second
# shows before the first, as a sign that copying is on its way.

steps = [look.step for look in looks]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
for axis, name in zip(axes, ("copied", "gap"), strict=True):
    values = 100 * torch.tensor([getattr(look, name) for look in looks])
    low, high = 100 * torch.tensor([getattr(look, f"{name}_interval") for look in looks]).T
    axis.fill_between(steps, low, high, alpha=0.2)
    axis.plot(steps, values, "o-")
    axis.axvline(steps[-1], color="tab:red", linestyle="--", label="stopped")
    axis.set(xlabel="training steps", ylim=(min(0, float(low.min())), 100))
axes[0].set(ylabel="samples that are copies, %")
axes[1].set(ylabel="advantage on training digits, %")
_ = axes[0].legend(frameon=False)

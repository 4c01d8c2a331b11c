r"""
Certify a sampler, and catch a bug
==================================

A sampler declares an order: halve the step, and its error falls by two to that power. An implementation that has lost
its order still makes good pictures. Against a diffusion that is solved exactly it cannot hide. Below is Heun's method
in ten lines, and once more with a slip of one character.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from diffuscope.certify import certify_sampler, oracle_problems
from diffuscope.schedules import VE

# %%
# In variance-exploding time the probability flow is :math:`dx/dt = (x - D(x, t))/t`. Heun's method averages the slopes
# at both ends of a step. The wrong one reads the denoiser of the second slope at the time of the first: `t` in the
# place of `s`.


def heun(denoiser, x, times, _):
    for t, s in pairwise(times):
        slope = (x - denoiser(x, t)) / t
        guess = x + (s - t) * slope
        x = x + (s - t) * (slope + (guess - denoiser(guess, s)) / s) / 2
    return x


def slipped(denoiser, x, times, _):
    for t, s in pairwise(times):
        slope = (x - denoiser(x, t)) / t
        guess = x + (s - t) * slope
        x = x + (s - t) * (slope + (guess - denoiser(guess, t)) / s) / 2
    return x


for sampler in (heun, slipped):
    sampler.order, sampler.stochastic, sampler.nfe_per_step, sampler.schedules = 2, False, 2, (VE(),)

# %%
# The certificate asks for more than the order: the distribution of the samples, the limit of small steps, float32,
# batches. It says why it fails.

certificates = {
    sampler.__name__: certify_sampler(sampler, steps=(16, 25, 40, 63), samples=4000) for sampler in (heun, slipped)
}
for name, certificate in certificates.items():
    print(f"{name} {certificate.verdict}")
    for finding in certificate.findings:
        if finding.tone == "alarm":
            print(f"  {finding.title}: {finding.verdict}")
assert certificates["heun"].verdict == "passes"
assert certificates["slipped"].verdict == "fails"

# %%
# The error against the number of steps, for one of the problems.

schedule, problem = VE(), oracle_problems()[0]
steps = [2**k for k in range(3, 10)]
figure, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
errors = {}
for sampler in (heun, slipped):
    ends = [
        sampler(problem.denoiser(schedule), problem.start(schedule), problem.times(schedule, n), None) for n in steps
    ]
    errors[sampler.__name__] = torch.stack([(end - problem.exact_end(schedule)).norm() for end in ends])
    axis.loglog(steps, errors[sampler.__name__], "o-", label=sampler.__name__)
for order in (1, 2):
    start = errors[("slipped", "heun")[order - 1]][-1] * 0.6
    axis.loglog(steps, [float(start) * (steps[-1] / n) ** order for n in steps], ":", color="0.5")
axis.set(xlabel="steps", ylabel="distance to the exact endpoints", title=problem.title)
axis.legend(frameon=False)

orders = {name: float((e[-2] / e[-1]).log2()) for name, e in errors.items()}
print({name: round(order, 2) for name, order in orders.items()})
assert abs(orders["heun"] - 2) < 0.1
assert orders["slipped"] < 1.2

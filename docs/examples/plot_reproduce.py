r"""
Reproduce a published number
============================

A published experiment is one file here, and every number that it must reach is a claim with a tolerance and the reason
for it. This one follows the heat equation on a line, where everything is known in closed form.
"""

import matplotlib.pyplot as plt

import diffuscope
from diffuscope.findings import Bars, Line

outcome = diffuscope.reproduce("heat-1d")
for claim in outcome.claims:
    print(f"{'holds' if claim not in outcome.failures else 'FAILS'}: {claim.title}: {claim.value:.3g}")
assert not outcome.failures

# %%
# In a notebook the outcome shows itself, here too.

outcome  # noqa: B018

# %%
# Every figure is data: panels of marks. Here those of the last one are drawn by Matplotlib.

chart = [chart for answer in outcome.answers.values() for chart in answer.charts][-1]
figure, axes = plt.subplots(1, len(chart.panels), figsize=(7.2, 3.0), layout="constrained", squeeze=False)
for axis, panel in zip(axes[0], chart.panels, strict=True):
    for mark in panel.marks:
        if isinstance(mark, Line):
            axis.plot(mark.x, mark.y, label=mark.label, linestyle=mark.style)
        elif isinstance(mark, Bars):
            axis.stairs(mark.heights, mark.edges, fill=True, alpha=0.3, label=mark.label)
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label, ylim=panel.y_range)
    axis.set(xscale="log" if panel.x_log else "linear", yscale="log" if panel.y_log else "linear")
    axis.legend(frameon=False, fontsize=7)
_ = figure.suptitle(chart.title)

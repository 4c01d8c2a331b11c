r"""
Reproduce a published number
============================

A published experiment is one file here, and every number that it must reach is a claim with a tolerance and the reason
for it. This one follows the heat equation on a line, where everything is known in closed form.
"""

import matplotlib.pyplot as plt

import diffuscope

outcome = diffuscope.reproduce("heat-1d")
for claim in outcome.claims:
    print(f"{'holds' if claim not in outcome.failures else 'FAILS'}: {claim.title}: {claim.value:.3g}")
assert not outcome.failures

# %%
# In a notebook the outcome shows itself, here too.

outcome

# %%
# Every figure is data, so that it can be drawn again in your own style. This is the first one of the experiment.

(first, *_) = [chart for answer in outcome.answers.values() for chart in answer.charts]
panel = first.panels[0]

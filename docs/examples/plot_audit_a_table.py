r"""
Audit a synthetic table
=======================

Tables have numbers, categories and missing values, and a synthetic one can be wrong in ways that no single column
shows. Here each column of a table of tumors is shuffled by itself: every column has exactly the right distribution, and
every relation between them is gone. The audit compares columns, pairs of columns and whole rows with held-out rows.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from diffuscope.audit import audit_samples
from diffuscope.data import DataSet, fit_table

rng = np.random.default_rng(0)
bunch = load_breast_cancer()
table = {name.replace("mean ", ""): bunch.data[:, k] for k, name in enumerate(bunch.feature_names[:6])}
table["texture"] = np.where(rng.random(569) < 0.1, np.nan, table["texture"])  # a tenth is missing
table["diagnosis"] = bunch.target_names[bunch.target]

# %%
# A third of the rows trains the generator, a third is held out, and the rest are what an honest generator would draw.


def rows_of(places: np.ndarray) -> dict[str, list]:
    return {name: column[places].tolist() for name, column in table.items()}


train, heldout, fresh = (rows_of(part) for part in np.split(rng.permutation(569), [190, 380]))
shuffled = {name: [column[k] for k in rng.permutation(len(column))] for name, column in train.items()}
encoding = fit_table(train, heldout)
rows = [encoding.encode(part) for part in (train, heldout)]
data = DataSet(
    "tumors", *rows, (float(min(r.min() for r in rows)), float(max(r.max() for r in rows))),
    "scikit-learn", torch.arange(190), torch.arange(190), kind="table", table=encoding,
)  # fmt: skip

results = {
    "honest": audit_samples(encoding.encode(fresh), data, name="honest"),
    "columns shuffled": audit_samples(encoding.encode(shuffled), data, name="columns shuffled"),
}
for name, result in results.items():
    print(f"{name}: {result.verdict.word}")
    for finding in result.findings["quality"]:
        print(f"  {finding.verdict}")

# %%
# The columns of the shuffled table are right, as they must be, and its pairs are not. Of the honest table nothing is
# found; whether its whole rows are right cannot be told from so few, and the audit says so.

tones = {name: {f.name: f.tone for f in result.findings["quality"]} for name, result in results.items()}
assert tones["honest"]["fidelity.columns"] == tones["honest"]["fidelity.pairs"] == "good"
assert tones["columns shuffled"]["fidelity.columns"] == "good"
assert tones["columns shuffled"]["fidelity.pairs"] == "attention"

# %%
# Two of its columns, with the diagnosis in color.

figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.8), sharex=True, sharey=True, layout="constrained")
for axis, (name, part) in zip(axes, {"held out": heldout, "honest": fresh, "shuffled": shuffled}.items(), strict=True):
    for diagnosis, color in (("benign", "tab:blue"), ("malignant", "tab:red")):
        which = np.array(part["diagnosis"]) == diagnosis
        x, y = (np.array(part[column])[which] for column in ("radius", "compactness"))
        axis.plot(x, y, ".", color=color, markersize=3, label=diagnosis)
    axis.set(title=name, xlabel="radius")
axes[0].set_ylabel("compactness")
_ = axes[0].legend(frameon=False)

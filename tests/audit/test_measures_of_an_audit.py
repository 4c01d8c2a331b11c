"""Other tools' measures in an audit: by feature space and by column, as plain JSON, with groups as units."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_subjects import asked
from diffuscope.audit import Settings, audit_samples
from diffuscope.data import DataSet, fit_table
from diffuscope.report import Table

COLORS = np.array(["red", "green", "blue"])


def rows(count, rng):
    """Discrete columns, of which many held-out rows repeat training rows by chance."""
    return {
        "age": rng.integers(20, 60, count).astype(float),
        "size": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 3, count)),
        "color": COLORS[rng.integers(0, 3, count)].tolist(),
    }


@pytest.fixture(scope="module")
def tabular():
    """A table of 300 training and 300 held-out rows, and 200 samples of which 100 are training rows."""
    rng = np.random.default_rng(0)
    parts = [rows(count, rng) for count in (300, 300, 100)]
    table = fit_table(*parts[:2])
    train, heldout, fresh = (table.encode(part) for part in parts)
    places = torch.arange(300)
    data = DataSet(
        "table", train, heldout, (-10.0, 10.0), "made", places, places, kind="table", table=table,
        train_groups=places // 3, heldout_groups=100 + places // 3,
    )  # fmt: skip
    return torch.cat([train[:100], fresh]), data


@pytest.fixture(scope="module")
def answer(tabular):
    samples, data = tabular
    with asked("memorized"):
        return audit_samples(samples, data, Settings())["memorized"]


def test_a_table_has_the_measures_of_rows_and_those_of_columns(answer, tabular):
    titles = [block.title for block in answer.blocks if isinstance(block, Table) and block.folded]
    assert {"The same under other names (columns)", "The same under other names (column by column)"} <= set(titles)
    measures = answer.facts["standard_measures"]
    assert json.loads(json.dumps(measures, allow_nan=False)) == json.loads(json.dumps(measures))
    of_rows = {measure["name"]: measure for measure in measures["pixels"]}
    samples, data = tabular
    # every held-out row counts, those too that equal a training row: one of each group, at random
    equal = [(data.heldout[:, None] == data.train).all(2).any(1), (samples[:, None] == data.train).all(2).any(1)]
    assert of_rows["IMS, %"]["value"] == pytest.approx(100 * float(equal[1].double().mean()))
    share = float(equal[0].double().mean())
    # of 100 groups, three standard errors
    assert abs(of_rows["IMS, %"]["null"] / 100 - share) < 3 * (share * (1 - share) / 100) ** 0.5
    assert "DCR share (Gower)" in {measure["name"] for measure in measures["column by column"]}


def test_without_groups_every_heldout_row_is_in_the_null(tabular):
    samples, data = tabular
    with asked("memorized"):
        found = audit_samples(samples, replace(data, train_groups=None, heldout_groups=None), Settings())["memorized"]
    measures = json.loads(json.dumps(found.facts["standard_measures"]))
    of_rows = {measure["name"]: measure for measure in measures["pixels"]}
    equal = (data.heldout[:, None] == data.train).all(2).any(1)
    assert of_rows["IMS, %"]["null"] == pytest.approx(100 * float(equal.double().mean()))

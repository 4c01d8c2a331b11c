"""`diffuscope audit --samples` without a model, as its user runs it: kinds of data, verdicts, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from commands_in_tests import refused, run
from diffuscope.errors import InputError


def rows(n, seed):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    return pd.DataFrame(
        {
            "age": age,
            "income": np.exp(rng.normal(10 + 0.01 * age, 0.5)).round(2),
            "city": rng.choice(["Oslo", "Paris", "Rome"], n, p=[0.2, 0.5, 0.3]),
            "since": pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 2000, n), unit="D"),
            "weight": np.where(rng.random(n) < 0.1, np.nan, rng.normal(70, 12, n).round(1)),
        }
    )


@pytest.fixture(autouse=True)
def _undrawn(request):
    """Figures, which take most of the time, in one test alone."""
    if "good_generator" not in request.node.name:
        request.getfixturevalue("blank_figures")


@pytest.fixture
def table(tmp_path):
    for name, (n, seed) in {"train": (600, 0), "unseen": (800, 1), "samples": (200, 2)}.items():
        rows(n, seed).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def audited(folder, *options, samples="samples.csv", data="train.csv", heldout="unseen.csv"):
    """audit.json of the command."""
    run("audit", "--samples", folder / samples, "--data", folder / data, "--heldout", folder / heldout,
        "--out", folder / "out", *options)  # fmt: skip
    return json.loads((folder / "out" / "audit.json").read_text())


def test_a_table_from_a_good_generator_has_no_alarm_and_says_what_a_model_would_add(table):
    found = audited(table)
    assert found["verdict"]["word"] in ("sound", "attention", "cannot-tell")
    tones = {finding["tone"] for answers in found["findings"].values() for finding in answers}
    assert "alarm" not in tones
    assert list(found["findings"]) == ["samples", "memorized", "quality", "diversity"]
    assert found["noise_levels"] == []
    assert set(found["planted"]["pixels"]) == {"exact", "1 column of another row"}
    page = (table / "out" / "report.html").read_text()
    assert "With the model one would also learn" in page
    assert "(columns)" in page
    assert "(pixels)" not in page


def test_copied_rows_are_listed_with_their_columns_and_fail_the_command(table):
    copied = rows(200, 2)
    copied.iloc[:20] = rows(600, 0).iloc[40:60].to_numpy()
    copied.to_parquet(table / "copied.parquet")
    with pytest.raises(SystemExit) as ended:
        audited(table, "--fail-on", "copies", samples="copied.parquet")
    assert ended.value.code == 1
    found = json.loads((table / "out" / "audit.json").read_text())
    assert found["verdict"]["word"] == "copies"
    listed = {copy["sample"]: copy["training_example"] for copy in found["copies"]["pixels"]}
    assert {i: listed[i] for i in range(20)} == {i: 40 + i for i in range(20)}
    shown = next(one for one in found["tables"]["memorized"] if one["title"].startswith("The most suspicious"))
    assert shown["header"][2:] == ["age", "income", "city", "since", "weight"]
    assert shown["rows"][0][2:] == shown["rows"][1][2:] != shown["rows"][2][2:]  # the sample, its source, another


def test_series_in_their_own_units_and_in_others(tmp_path):
    rng = np.random.default_rng(0)

    def series(n):
        t, phase = np.arange(24) / 24, rng.uniform(0, 6, (n, 2, 1))
        return (5 * np.sin(2 * np.pi * t + phase) + rng.normal(size=(n, 2, 24)) + 3).astype(np.float32)

    for name, n in {"train": 400, "unseen": 400, "samples": 100}.items():
        np.save(tmp_path / f"{name}.npy", series(n))
    np.save(tmp_path / "scaled.npy", series(100) / 10)
    files = {"data": "train.npy", "heldout": "unseen.npy"}
    found = audited(tmp_path, "--kind", "series", samples="samples.npy", **files)
    assert found["findings"]["samples"][0]["tone"] == "good"
    assert any("Ordinary samples" in chart["title"] for chart in found["charts"]["quality"])
    scaled = audited(tmp_path, "--kind", "series", samples="scaled.npy", **files)
    assert scaled["verdict"]["word"] == "broken"
    assert "units" in scaled["verdict"]["sentence"]


def test_samples_that_are_held_out_examples_are_not_called_sound(table):
    rows(800, 1).iloc[:200].to_csv(table / "leaked.csv", index=False)
    found = audited(table, samples="leaked.csv")
    assert found["verdict"]["word"] == "broken"
    assert "held-out examples" in found["verdict"]["sentence"]


def test_what_is_not_like_the_data_is_refused_in_one_line(capsys, table):
    def line(*options, samples="samples.csv"):
        return refused(capsys, "audit", "--samples", table / samples, "--data", table / "train.csv",
                       "--heldout", table / "unseen.csv", "--out", table / "out", *options)  # fmt: skip

    rows(50, 3).drop(columns="city").to_csv(table / "short.csv", index=False)
    assert "--samples" in (text := line(samples="short.csv"))
    assert "city" in text
    rows(50, 3).assign(age="old").to_csv(table / "texts.csv", index=False)
    assert "age" in line(samples="texts.csv")
    rows(5, 3).to_csv(table / "few.csv", index=False)
    assert "at least 20" in line(samples="few.csv")
    np.save(table / "array.npy", np.zeros((50, 3), np.float32))
    assert "--samples" in line(samples="array.npy")
    assert "--canaries: expected with --model" in line("--canaries", table / "none.npz")
    assert "--owners: expected with --model" in line("--owners", table / "none.npz")
    assert "--samples-range" in line("--samples-range", 0, 1)


def test_a_new_category_is_a_note_and_a_point_of_its_own(table):
    rows(200, 2).replace({"city": {"Oslo": "Bergen"}}).to_csv(table / "new.csv", index=False)
    found = audited(table, samples="new.csv")
    assert any("Bergen" in note for note in found["notes"])
    assert found["verdict"]["word"] != "sound"


MODEL = """
import torch
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
"""


@pytest.mark.parametrize(
    ("options", "whose"),
    [(["--samples", "samples.npy"], "the generator"), (["--model", "their_model:model"], "the model")],
)
def test_who_must_not_have_seen_a_random_part_of_the_data_is_said(options, whose, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise InputError("data: enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for step in ("audit_samples", "audit_model"):
        monkeypatch.setattr(f"diffuscope.cli.audit.{step}", stopped)
    (tmp_path / "their_model.py").write_text(MODEL)
    for name, n in (("train", 100), ("samples", 30)):
        np.save(f"{name}.npy", np.random.default_rng(n).normal(size=(n, 2)).clip(-4, 4))
    with pytest.raises(SystemExit):
        run("audit", "--data", "train.npy", "--data-range", -4, 4, *options)
    assert f"a random part of --data; if {whose} was trained on all of it" in capsys.readouterr().err

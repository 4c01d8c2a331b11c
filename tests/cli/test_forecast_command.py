"""diffuscope train --forecast: its files, its lines, what it refuses, and that an interrupted forecast is resumed."""

import json
import math

import numpy as np
import pytest

from diffuscope import cli
from diffuscope.cli.forecast import Plan, told, usable
from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.theory.onset_pilots import REPEATS, Pilot, pilot_sizes, run_pilots, step_at, training_times
from diffuscope.training import TrainingSettings


def pilot(size, onset, *, steps=1000, chance=0, heldout=1000):
    return Pilot(size=size, steps=steps if onset is None else onset, onset=onset, chance=chance, heldout=heldout)


def plan(steps):
    return Plan(steps=steps, batch_size=16, seed=0, precision="float32", compiled=False)


def pilots_that_copy(rate, sizes=(64, 128, 256)):
    return [pilot(size, rate * size) for size in sizes for _ in range(3)]


@pytest.fixture
def vectors(tmp_path):
    """64 training and 200 held-out vectors of eight numbers."""
    generator = np.random.default_rng(0)
    for name, rows in (("train", 64), ("heldout", 200)):
        np.save(tmp_path / f"{name}.npy", generator.standard_normal((rows, 8)).clip(-4, 4))
    return [
        "--data",
        str(tmp_path / "train.npy"),
        "--heldout",
        str(tmp_path / "heldout.npy"),
        "--data-range",
        "-5",
        "5",
    ]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_pilots_have_a_sixteenth_to_a_quarter_of_the_examples_and_sixteen_at_least():
    for n in (64, 100, 128, 200, 256, 1000, 60_000):
        sizes = pilot_sizes(n)
        assert sorted(set(sizes)) == list(sizes)
        assert sizes[0] >= 16
        assert sizes[-1] <= n / 2
        assert len(sizes) >= 2  # one size shows no growth
    assert pilot_sizes(256) == (16, 32, 64)
    with pytest.raises(InputError, match="data: expected at least 64 training examples"):
        pilot_sizes(63)


def test_training_time_is_the_number_of_steps_at_a_constant_rate_and_half_of_it_along_a_cosine():
    constant = training_times(TrainingSettings(steps=50, warmup_steps=0, final_fraction=1.0))
    assert constant == [float(k) for k in range(51)]
    # the mean of (1 + cos)/2 over k = 0 .. K-1 of a half period is (K + 1)/2
    cosine = training_times(TrainingSettings(steps=200, warmup_steps=0))
    assert cosine[-1] == pytest.approx(201 / 2, rel=1e-12)
    assert step_at(constant, 7.2) == 8
    assert step_at(constant, 50.5) is None


def test_a_forecast_is_before_within_or_after_the_planned_end_and_says_so():
    for steps, place, word in ((2_000, "before", "before"), (60_000, "after", "expected to copy")):
        lines, record = told(pilots_that_copy(5), 1024, plan(steps))
        assert record["planned_end"] == place
        assert word in lines[1]
    # by construction: a planned training time equal to the median lies within its interval
    median = told(pilots_that_copy(5), 1024, plan(60_000))[1]["forecast"]["median"]
    steps = next(k for k in range(1_000, 60_000) if k / 2 > median)  # a cosine's steps count half
    lines, record = told(pilots_that_copy(5), 1024, plan(steps))
    assert record["planned_end"] == "within"
    assert "within" in lines[1]


def test_steps_of_the_forecast_are_where_the_training_time_reaches_it():
    lines, record = told(pilots_that_copy(5), 1024, plan(60_000))
    times = training_times(TrainingSettings(steps=60_000))
    assert times[record["step"] - 1] < record["forecast"]["median"] <= times[record["step"]]
    assert f"at step {record['step']:,} " in lines[0]
    assert record["steps_95"][0] < record["steps_80"][0] < record["step"] < record["steps_80"][1]
    assert record["pilot_steps"] == 5 * (64 + 128 + 256) * 3


def test_without_copying_pilots_only_a_lower_bound_is_told():
    lines, record = told([pilot(64, None)] * 3, 1024, plan(1000))
    assert record["forecast"] is None
    assert record["later_than_step"] == 1000
    assert "cannot be told" in lines[0]
    assert "after step 1,000" in lines[1]


def test_pilots_that_grow_too_fast_give_a_bound_in_proportion_to_the_largest():
    found = [pilot(size, round(0.5 * size**1.5)) for size in (64, 128, 256) for _ in range(3)]
    lines, record = told(found, 1024, plan(60_000))
    times = training_times(TrainingSettings(steps=60_000))
    assert record["later_than_step"] == step_at(times, 4 * times[2048])  # 0.5 * 256^1.5 = 2,048
    sizes, onsets = ([getattr(one, name) for one in found] for name in ("size", "onset"))
    slope = np.polyfit(np.log(sizes), np.log([times[onset] for onset in onsets]), 1)[0]
    assert f"(exponent {slope:.2f})" in lines[0]
    assert record["forecast"] is None


def test_pilots_whose_chance_level_is_not_small_are_not_used():
    found = [*pilots_that_copy(5), pilot(64, 10, chance=100)]
    assert len(usable(found)) == 9
    lines, record = told([pilot(64, 300, chance=100), pilot(128, 600, chance=90)] * 3, 1024, plan(1000))
    assert record["forecast"] is None
    assert "by chance 100 of 1000 held-out examples" in lines[0]
    assert len(lines) == 1


def test_a_size_of_which_a_pilot_has_not_copied_is_left_out():
    found = [*pilots_that_copy(5, (64, 128)), pilot(256, 900), pilot(256, None), pilot(256, 950)]
    assert {one.size for one in usable(found)} == {64, 128}


def test_the_command_writes_the_forecast_and_starts_no_training(capsys, tmp_path, vectors):
    out = tmp_path / "out"
    cli.main(["train", *vectors, "--forecast", "--train-steps", "55", "--batch-size", "8", "--out", str(out)])
    record = json.loads((out / "forecast.json").read_text())
    assert record["examples"] == 64
    assert record["planned_steps"] == 55
    assert record["later_than_step"] == 55
    assert [one["size"] for one in record["pilots"]] == [16] * REPEATS  # 32 would be later still
    assert not (out / "model.safetensors").exists()
    printed = capsys.readouterr().out
    assert printed.startswith("Pilots: 3 runs each of 16, 32 of 64 examples, 55 steps at most each")


@pytest.mark.slow
def test_more_examples_are_copied_later_and_the_forecast_for_all_is_later_still(tmp_path):
    generator = np.random.default_rng(0)
    for name, rows in (("train", 64), ("heldout", 400)):
        np.save(tmp_path / f"{name}.npy", generator.standard_normal((rows, 64)).clip(-4, 4))
    out = tmp_path / "out"
    cli.main(["train", "--data", str(tmp_path / "train.npy"), "--heldout", str(tmp_path / "heldout.npy"),
              "--data-range", "-5", "5", "--forecast", "--train-steps", "3000", "--batch-size", "32",
              "--out", str(out)])  # fmt: skip
    record = json.loads((out / "forecast.json").read_text())
    onsets = {size: [one["onset"] for one in record["pilots"] if one["size"] == size] for size in (16, 32)}
    assert max(onsets[16]) < min(onsets[32])
    assert max(onsets[32]) < record["step"]
    assert record["pilot_steps"] == sum(map(sum, onsets.values()))


def test_mistakes_are_one_line(capsys, tmp_path, vectors, monkeypatch):
    command = ("train", *vectors, "--forecast", "--out", str(tmp_path / "out"))
    few = refused(capsys, *command, "--train-limit", "20")
    assert few.startswith("diffuscope: --data: expected at least 64 training examples for pilots of two sizes")
    np.save(tmp_path / "few.npy", np.load(tmp_path / "heldout.npy")[:182])
    few = refused(capsys, *command, "--heldout", str(tmp_path / "few.npy"))
    assert few.startswith("diffuscope: --heldout: expected at least 183 examples, to know that copies by chance are")
    assert "--train-steps: expected at least 50" in refused(capsys, *command, "--train-steps", "49")
    assert "--forecast: expected a model without classes" in refused(capsys, *command, "--conditional")
    monkeypatch.setenv("RANK", "0")
    assert "--forecast: expected a single process" in refused(capsys, *command)


def test_an_interrupted_forecast_ends_in_the_same_pilots(tmp_path, vectors, monkeypatch):
    data = load_data(vectors[1], heldout=vectors[3], data_range=(-5.0, 5.0), seed=0).in_range(-1.0, 1.0)
    monkeypatch.setattr("diffuscope.theory.onset_pilots.REPEATS", 2)
    monkeypatch.setattr("diffuscope.theory.onset_pilots.SAMPLES", 20)  # 2 copies are enough
    monkeypatch.setattr("diffuscope.theory.onset_pilots.FITTED", math.inf)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run_pilots(data, steps=62, batch_size=8, seed=1, out=whole)

    def killed(size, repeat, step, copies):
        del size, copies
        if (repeat, step) in ((0, 55), (1, 50)) and (repeat, step) not in seen:
            seen.add((repeat, step))
            raise KeyboardInterrupt

    seen, pilots = set(), None
    for _ in range(3):
        try:
            pilots = run_pilots(data, steps=62, batch_size=8, seed=1, out=parts, show=killed)
        except KeyboardInterrupt:
            continue
    assert len(seen) == 2
    assert pilots == expected
    for file in whole.glob("*.json"):
        assert (parts / file.name).read_text() == file.read_text()
    with pytest.raises(InputError, match=r"checkpoint: .* was written with steps = 62, this run has 70"):
        run_pilots(data, steps=70, batch_size=8, seed=1, out=parts)

"""The page, the numbers and the log of looks that are made by hand."""

import math
from typing import Any

import pytest
import torch

from diffuscope.audit import Settings, Subject
from diffuscope.audit.no_model import NoModel
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Line, Rule
from diffuscope.monitor import Look, Monitor, scalars
from diffuscope.monitor import look as looking
from diffuscope.monitor.page import monitor_page
from diffuscope.monitor.record import Record, read_looks
from diffuscope.report import Section, Table
from diffuscope.schedules import VE
from numbers_in_tests import rng

DATA = torch.arange(80.0).reshape(40, 2), torch.arange(60.0).reshape(30, 2) + 0.5


def look(step: int, word: Any = "not-detected", **measured: Any) -> Look:
    given = {"detectable": {"exact": 0.04, "noisy": math.inf}, "stop": word == "copies", **measured}
    return Look(step=step, look=step // 10, word=word, sentence=f"Step {step}.", **given)


FIRST = look(10, copied=0.25, copied_interval=(0.2, 0.35), p_value=0.03, level=0.005, seconds=1.5)
UNKNOWN = look(20, "cannot-tell", detectable={})
SECOND = look(30, "copies", copied=0.5, copied_interval=(0.4, 0.6), p_value=0.001, level=0.002,
              gap=0.1, gap_interval=(0.05, 0.2), quality=1.5, quality_interval=(1.25, 2.0))  # fmt: skip
THIRD = look(40, detectable={"exact": 1.0}, copied=0.0, copied_interval=(0.0, 0.1))


def page_of(*looks: Look) -> Any:
    return monitor_page(looks, Subject(NoModel(), *DATA), Settings(), 0.01)


def shown(section: Section) -> tuple[list[Chart], Table]:
    *charts, table = section.blocks
    assert isinstance(table, Table)
    return [chart for chart in charts if isinstance(chart, Chart)], table


def test_the_page_tells_the_first_look_that_found_copies_or_else_the_last():
    detected, until = page_of(FIRST, UNKNOWN, SECOND, THIRD), page_of(FIRST, UNKNOWN)
    assert detected.headline == "Copying was detected at step 30, look 3 of 4."
    assert (detected.tone, until.tone) == ("alarm", "unknown")
    assert until.headline == "Until step 20: Step 20."
    (verdict,), (unknown,) = detected.verdicts, until.verdicts
    assert (verdict.value, verdict.p_value, verdict.verdict) == (50.0, 0.001, "Step 30.")
    assert verdict.interval == (40.0, 60.0)
    assert math.isnan(unknown.value)
    assert (unknown.interval, unknown.p_value) == (None, None)
    assert detected.subtitle.endswith(": 40 training and 30 held-out examples")


def test_the_power_is_that_of_the_kinds_that_would_be_found():
    assert (
        page_of(FIRST)
        .verdicts[0]
        .power.endswith("of the samples were copies: exact 4.0%. Not found at any share: noisy.")
    )
    assert page_of(THIRD).verdicts[0].power.endswith("of the samples were copies: exact 100.0%.")
    nothing = look(10, detectable={"exact": 1.01})
    for alone in (nothing, UNKNOWN):
        assert page_of(alone).verdicts[0].power == "None: not even copies alone would have been found at this look."


def test_curves_are_of_the_looks_that_measured_them_in_percent_with_a_mark_where_copying_began():
    (copies, gap, quality), _ = shown(page_of(FIRST, UNKNOWN, SECOND, THIRD).sections[0])
    mark = Rule(30, "x", label="copying detected")
    curve, power, *rest = copies.panels[0].marks
    assert curve == Line((10, 30, 40), (25, 50, 0), "", "solid", (20, 40, 0), (35, 60, 10))
    assert power == Line((10.0, 30.0, 40.0), (4.0, 4.0, 100.0), "would be found", "dashed")
    assert rest == [mark]
    assert gap.panels[0].marks == (Line((30.0,), (10.0,), low=(5.0,), high=(20.0,)), Rule(0.0), mark)
    assert quality.panels[0].marks == (Line((30.0,), (1.5,), low=(1.25,), high=(2.0,)), Rule(2.0), mark)
    (only,), _ = shown(page_of(look(10, copied=0.1, copied_interval=(0.0, 0.2), detectable={"exact": 1.1})).sections[0])
    assert len(only.panels[0].marks) == 1  # no look would have found any share, and none found copies
    assert shown(page_of(UNKNOWN).sections[0])[0] == []


def test_the_table_has_a_row_for_every_look_and_nothing_where_nothing_was_measured():
    _, table = shown(page_of(FIRST, UNKNOWN, SECOND).sections[0])
    assert table.rows == [
        [10, "not detected", 25.0, "0.030", 0.005, 4.0, None, None, 1.5],
        [20, "cannot tell", None, None, None, None, None, None, 0.0],
        [30, "copies", 50.0, "0.0010", 0.002, 4.0, 10.0, 1.5, 0.0],
    ]
    assert len(table.header) == 9


def test_numbers_that_were_not_measured_are_not_logged():
    found = scalars(SECOND)
    assert found == {
        "monitor/copied": 0.5, "monitor/copied_low": 0.4, "monitor/copied_high": 0.6, "monitor/detectable": 0.04,
        "monitor/gap": 0.1, "monitor/quality": 1.5, "monitor/stop": 1.0,
    }  # fmt: skip
    assert scalars(UNKNOWN) == {"monitor/stop": 0.0}
    assert scalars(look(10, gap=-math.inf, quality=math.inf, detectable={"exact": 0.0})) == {
        "monitor/detectable": 0.0,
        "monitor/stop": 0.0,
    }


def test_a_log_is_the_history_of_the_run_up_to_the_repeated_step(tmp_path):
    path = tmp_path / "folder" / "monitor.jsonl"
    record = Record(path, {"train": "x"})
    for each in (FIRST, UNKNOWN, SECOND):
        record.append(each)
    assert [each.step for each in read_looks(path)] == [10, 20, 30]
    record.forget_from(31)
    assert len(record.looks) == 3
    record.forget_from(20)
    assert [each.step for each in record.looks] == [10]
    assert len(read_looks(path)) == 3  # until the next look
    record.append(THIRD)
    again = Record(path, {"train": "x"})
    assert [each.as_json() for each in again.looks] == [FIRST.as_json(), THIRD.as_json()]
    with pytest.raises(InputError, match="is of another run, whose train differ"):
        Record(path, {"train": "y"})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"monitor 1", b"monitor 2") + lines[1])
    with pytest.raises(InputError, match=r"line 1 of .* is not of a monitor's log"):
        read_looks(path)
    path.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(InputError, match="line 2 of"):
        read_looks(path)


def monitor(**settings: Any) -> Monitor:
    return Monitor(DATA, **{"every": 10, "show": lambda _: None, **settings})


def test_the_values_of_a_monitor_are_taken_up_to_their_limits():
    made = monitor(every=1)
    assert (made.every, made.false_stop, made.seconds, made._last) == (1, 0.01, 0.0, 0.0)
    assert monitor(false_stop=0.999).false_stop == 0.999
    assert [monitor(budget=share).budget for share in (1, 1e-9, None)] == [1, 1e-9, None]
    for wrong in (
        {"every": 0},
        {"false_stop": 0},
        {"false_stop": 1},
        {"budget": 0},
        {"budget": 1.001},
        {"every": True},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            monitor(**wrong)
    assert [monitor().is_due(step) for step in (-10, 0, 1, 9, 10, 11, 20)] == [False] * 4 + [True, False, True]


def test_what_a_monitor_says_of_an_error_is_one_line_of_300_characters():
    of_input, of_code = (
        monitor()._unknown(5, error) for error in (InputError("data: odd"), ValueError("a  b\n" * 200))
    )
    assert of_input.sentence == "Cannot tell whether it copies: data: odd."
    said = of_code.sentence.removeprefix("Cannot tell whether it copies: ").removesuffix(".")
    assert said.startswith("ValueError: a b a b")
    assert len(said) == 300
    assert (of_code.step, of_code.look, of_code.level, of_code.stop) == (5, 1, 0.005, False)


@pytest.mark.parametrize(("examples", "whole"), [(4, True), (5, False)])
def test_as_many_examples_as_are_compared_stay_in_their_order(examples, whole, monkeypatch):
    monkeypatch.setattr(looking, "LARGEST_SAMPLE", 4)
    x = torch.arange(float(examples))[:, None]
    found = looking._some(x, rng())
    assert (found is x, len(found)) == (whole, 4)


@pytest.mark.parametrize(("now", "looks"), [(4.0, 2), (3.99, 1)])
def test_a_look_may_take_exactly_what_is_left_of_the_budget(now, looks, monkeypatch):
    """Half of the time: of four seconds one is spent, and the next look is expected to take another."""
    clock = [0.0]
    monkeypatch.setattr("diffuscope.monitor.callback.time.monotonic", lambda: clock[0])
    made = monitor(every=1, budget=0.5)

    def looked(_, step: int) -> Look:
        clock[0] += 1.0
        return look(step, seconds=1.0)

    monkeypatch.setattr(made, "_look", looked)
    made(1, ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE()))
    clock[0] = now
    made(2, ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE()))
    assert len(made.looks) == looks

"""`diffuscope reproduce`: the list, one experiment, all of them, a failure, an interruption and its resumption."""

import errno
import io
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from diffuscope import cli
from diffuscope.experiments import Experiment, Part, Record
from diffuscope.findings import Bars, Chart, HeatMap, Panel, groups, line, points

EVERY_MARK = Chart(
    "Every mark",
    (
        Panel("a", "x", "y", (line([1, 2, 3], [1, 10, 100], "l", low=[1, 5, 50], high=[2, 20, 200]),), True, True),
        Panel("b", "x", "y", (points([1, 2], [0.5, 1], "p"), Bars((0.0, 1.0, 2.0), (0.5, 0.5), "h"))),
        Panel("c", "", "p", (groups(["u", "v"], {"one": [1, 2], "two": [2, 1]}),)),
        Panel("", "", "", (HeatMap((0.0, 1.0, 2.0), (1.0, 0.0), ((float("nan"), 1.0),)),), equal_scales=True),
    ),
    "One of each.",
)


ONE_LINE = Chart("One line", (Panel("", "x", "y", (line([1, 2], [1, 2]),)),), "Up.")


def experiment(
    name: str,
    value: float = 0.5,
    log: list[str] | None = None,
    error: BaseException | None = None,
    chart: Chart = ONE_LINE,
    source: str = "someone 2020",
) -> Experiment:
    made = Experiment(
        name=name,
        title=f"About {name}",
        question="What is it?",
        source=source,
        seconds=3,
        settings={"setting": 4},
    )

    @made.part("Is the number small?")
    def number(part: Part) -> str:
        if error is not None:
            raise error
        if log is not None:
            log.append(name)
        drawn = float(torch.rand((), generator=part.generator))
        part.at_most("number", "A number <is> small", value, 1.0, "1e-10 & all")
        part.charts.append(chart)
        return f"It is {value:g}, and {drawn:.3f}."

    return made


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on a list of experiments, with --out in the test's own folder."""

    def command(experiments, *arguments):
        known = {experiment.name: experiment for experiment in experiments}
        # the command first: it takes its names from the experiments when it is imported, perhaps here
        monkeypatch.setattr("diffuscope.cli.reproduce.NAMES", tuple(known))
        monkeypatch.setattr("diffuscope.experiments.NAMES", tuple(known))
        monkeypatch.setattr(
            "diffuscope.experiments.import_module",
            lambda module, _: SimpleNamespace(EXPERIMENT=known[module.removeprefix(".").replace("_", "-")]),
        )
        for user in ("experiments.experiment", "cli.reproduce"):
            monkeypatch.setattr(f"diffuscope.{user}.code_fingerprint", lambda name: f"the code of {name}")
        monkeypatch.setattr(sys, "argv", ["diffuscope", "reproduce", *map(str, arguments), "--out", str(tmp_path)])
        cli.main()

    return command


def exit_code(call, *arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_list_shows_name_cost_title_and_source_and_runs_nothing(run, capsys, tmp_path):
    run([experiment("first"), experiment("second-one")], "--list")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "time", "title", "source"]
    assert first.split("  ")[0] == "first"
    for told in ("second-one", "3 s", "About second-one", "someone 2020"):
        assert told in second
    assert not list(tmp_path.iterdir())


def test_one_experiment_prints_its_claims_and_writes_page_numbers_and_picture(run, capsys, tmp_path):
    run([experiment("first", chart=EVERY_MARK)], "first")
    said = capsys.readouterr().out
    assert "ok   A number <is> small: 0.5; required: at most 1" in said
    folder = tmp_path / "first"
    page = (folder / "report.html").read_text()
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert page.count('<svg class="plot"') + page.count('class="plot"') >= 1
    assert "A number &lt;is&gt; small" in page
    assert "10⁻¹⁰ &amp; all" in page
    written = json.loads((folder / "result.json").read_text())
    (part,) = written["parts"]
    assert part["claims"][0]["holds"] is True
    assert part["charts"][0]["panels"][0]["marks"][0]["y"] == [1, 10, 100]
    assert part["charts"][0]["panels"][3]["marks"][0]["values"] == [[None, 1.0]]  # JSON has no NaN
    assert written["record"]["code"] == "the code of first"
    with Image.open(io.BytesIO((folder / "figure.png").read_bytes())) as picture:
        assert picture.width > 1000


def test_the_same_seed_writes_the_same_numbers_and_the_same_picture(run, tmp_path):
    files = {}
    for turn in ("a", "b"):
        run([experiment("first", chart=EVERY_MARK)], "first", "--seed", "5")
        written = json.loads((tmp_path / "first" / "result.json").read_text())
        del written["record"]["seconds"]
        files[turn] = written, (tmp_path / "first" / "figure.png").read_bytes()
    assert files["a"] == files["b"]


def test_a_claim_that_fails_is_shown_and_exits_with_one(run, capsys, tmp_path):
    assert exit_code(run, [experiment("first", value=2.0)], "first") == 1
    said = capsys.readouterr()
    assert "FAIL A number <is> small: 2; required: at most 1" in said.out
    assert said.err.splitlines()[-1].endswith("claims fail: first")
    page = (tmp_path / "first" / "report.html").read_text()
    assert "1 of 1 claims fail." in page
    assert "card-alarm" in page
    assert "FAILS" in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frist"], "did you mean first?"),
        (["zzz"], "expected one of first, second"),
        ([], "--list, or --all"),
        (["--source", "articel"], "expected one of article, cao, variance, noether, gaussian, painters, got 'articel'"),
        (["--source", "article", "--all"], "--list, or --all"),
        (["first", "--source", "article"], "--list, or --all"),
        (["first", "--all"], "--list, or --all"),
        (["--list", "--all"], "--list, or --all"),
        (["first", "--fresh"], "fresh"),
        (["first", "--seed", "-1"], "seed"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(run, capsys, arguments, told):
    assert exit_code(run, [experiment("first"), experiment("second")], *arguments) == 2
    (said,) = [said for said in capsys.readouterr().err.splitlines() if said.startswith("diffuscope: ")]
    assert told in said


def test_all_ends_in_a_summary_and_an_index_that_links_every_page(run, capsys, tmp_path):
    experiments = [experiment("first"), experiment("second", value=0.999), experiment("third", value=-1.0)]
    run(experiments, "--all")
    said = capsys.readouterr().out
    assert re.search(r"second +1/1 +99\.9% of its tolerance", said)
    assert re.search(r"third +1/1 +exact", said)
    index = (tmp_path / "index.html").read_text()
    for name in ("first", "second", "third"):
        assert f'<a href="{name}/report.html">{name}</a>' in index
        assert (tmp_path / name / "report.html").exists()
    assert "3 of 3 claims hold in 3 experiments." in index


CAO, NOETHER = (
    "Cao et al. 2025, https://arxiv.org/abs/2501.17054",
    "V. 2024, https://arxiv.org/abs/2504.09761, figure 1",
)


def test_a_source_runs_its_own_experiments_in_order_links_them_and_resumes(run, capsys, tmp_path):
    log: list[str] = []
    sources = {"first": NOETHER, "second": CAO, "third": NOETHER, "fourth": "someone 2020"}
    experiments = [experiment(name, log=log, source=source) for name, source in sources.items()]
    run(experiments, "--source", "noether")
    assert log == ["first", "third"]
    page = (tmp_path / "noether.html").read_text()
    assert "2 of 2 claims hold in 2 experiments." in page
    assert '<a href="third/report.html">third</a>' in page
    assert "second" not in page
    assert "diffuscope reproduce --source noether" in page
    assert not (tmp_path / "index.html").exists()
    run(experiments, "--source", "noether")
    assert log == ["first", "third"]
    run(experiments, "--all")
    assert log == ["first", "third", "second", "fourth"]
    run(experiments, "--source", "cao", "--fresh")
    assert log[-1] == "second"
    assert "third" not in capsys.readouterr().out.splitlines()[-1]


def test_a_failure_in_a_source_exits_with_one(run):
    assert exit_code(run, [experiment("first", value=3.0, source=CAO)], "--source", "cao") == 1


def test_one_failure_among_all_does_not_keep_the_others_from_running(run, capsys, tmp_path):
    experiments = [experiment("first", value=3.0), experiment("second")]
    assert exit_code(run, experiments, "--all") == 1
    said = capsys.readouterr()
    assert re.search(r"first +0/1 +3x its tolerance", said.out)
    assert re.search(r"second +1/1", said.out)
    assert "claims fail: first" in said.err
    assert "0 of 1: FAILS" in (tmp_path / "index.html").read_text()


def test_an_interrupted_run_resumes_with_what_is_finished(run, capsys):
    log: list[str] = []
    interrupted = [experiment("first", log=log), experiment("second", error=KeyboardInterrupt())]
    assert exit_code(run, interrupted, "--all") == 130
    assert "resume" in capsys.readouterr().err
    whole = [experiment("first", log=log), experiment("second", log=log)]
    run(whole, "--all")
    assert log == ["first", "second"]  # the first was not run again
    assert "first: already finished" in capsys.readouterr().out
    run(whole, "--all", "--fresh")
    assert log == ["first", "second", "first", "second"]
    run(whole, "first")
    assert log[-1] == "first"  # one by name always runs


def test_what_another_seed_or_other_code_has_finished_is_run_again(run, tmp_path):
    log: list[str] = []
    run([experiment("first", log=log)], "--all")
    run([experiment("first", log=log)], "--all", "--seed", "1")
    assert len(log) == 2
    kept = tmp_path / "first" / "result.json"
    kept.write_text(kept.read_text().replace("the code of first", "another code"))
    run([experiment("first", log=log)], "--all", "--seed", "1")
    assert len(log) == 3


def test_a_damaged_result_is_run_again(run, tmp_path):
    log: list[str] = []
    run([experiment("first", log=log)], "--all")
    (tmp_path / "first" / "result.json").write_text('{"record": {"name": "first"')
    run([experiment("first", log=log)], "--all")
    assert len(log) == 2


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"record": {"name": "first"}}', '{"record": 3}', "\x00"])
def test_a_damaged_record_is_none(tmp_path, damaged):
    (tmp_path / "result.json").write_text(damaged)
    assert Record.read(tmp_path / "result.json") is None


def test_a_kept_failure_still_exits_with_one(run):
    assert exit_code(run, [experiment("first", value=float("inf"))], "--all") == 1
    assert exit_code(run, [experiment("first", value=float("inf"))], "--all") == 1


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(run, capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("diffuscope.files.os.fsync", full)
        assert exit_code(run, [experiment("first")], "first") == 2
    assert "diffuscope: " in capsys.readouterr().err
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}


def test_a_record_keeps_infinity_through_json(tmp_path):
    record = Record(
        name="a", title="t", held=0, claims=1, used=float("inf"), closest="c", seconds=1.0, seed=0, code="code"
    )
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"record": record.__dict__ | {"used": None}}))
    assert Record.read(path) == record
    assert record.margin == "out of bounds"
    assert Record.read(tmp_path / "none.json") is None


def test_a_run_is_saved_from_python_as_by_the_command(run, tmp_path):
    run([experiment("first")], "first", "--seed", "5")
    outcome = experiment("first").run(5)
    page = outcome.save(tmp_path / "saved")
    assert page == tmp_path / "saved" / "report.html"
    ours, by_command = (json.loads((tmp_path / f / "result.json").read_text()) for f in ("saved", "first"))
    for written in (ours, by_command):
        del written["record"]["seconds"]
    assert ours == by_command
    assert "A number" in (tmp_path / "saved" / "report.html").read_text()
    card = outcome._repr_html_()
    assert "Is the published result reproduced?" in card
    assert "<is>" not in card

"""How a command ends that cannot go on: one line with the option as typed, or the user's file and line, and a code."""

import fcntl
import os
import signal
import sys

import numpy as np
import pytest
import torch

from diffuscope import __main__ as program
from diffuscope import cli
from diffuscope.audit import Settings, Subject, audit_model
from diffuscope.cli.arguments import options_of, parse
from diffuscope.cli.failures import failure, one_line
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.files import sole_writer
from diffuscope.samplers import generate
from diffuscope.schedules import VE

THEIRS = """
import sys
from diffuscope.denoisers import load_npz
from diffuscope.schedules import VE

class Model:
    event_shape, data_range, schedule = (2,), (-9.0, 9.0), VE()
    def __call__(self, x_t, t):
        raise ValueError("line one\\nand two")

model = Model()

def build():
    sys.exit("no weights here")

def missing():
    return load_npz(__import__("pathlib").Path("absent.npz"), "weights")
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module of the user, in the current folder."""
    (tmp_path / "their_code.py").write_text(THEIRS)
    (tmp_path / "their_typo.py").write_text("x = 1\nmodel = (\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("their_code", "their_typo"):
        sys.modules.pop(name, None)


def ended(capsys, *words):
    """The exit code and the last line on stderr."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, words)])
    return stopped.value.code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("their_code:model", "their_code.py:9: ValueError: line one and two; the traceback is in out/error.txt"),
        ("their_code:build", "their_code.py:14: SystemExit: no weights here; the traceback is in out/error.txt"),
        ("their_typo:model", "their_typo.py:2: --model: importing 'their_typo' failed with SyntaxError: '(' was never"),
        ("their_code:missing", "weights: no file absent.npz (their_code.py:17)"),
    ],
)
def test_an_exception_in_the_users_code_is_one_line_with_their_file_and_line(theirs, capsys, spec, said):
    code, line = ended(capsys, "sample", "--model", spec, "--out", "out")
    assert code == 2
    assert said in line
    if "error.txt" in said:
        kept = (theirs / "out" / "error.txt").read_text()
        assert kept.startswith("Traceback")
        assert kept.count("File ") > 2


def test_from_python_an_exception_of_the_model_passes_through_unchanged():
    class BoomError(Exception):
        pass

    class Model:
        schedule = VE()

        def __call__(self, x_t, t):
            raise BoomError(x_t, t)

    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BoomError):
        audit_model(Subject(Model(), x[:30], x[30:]), Settings(components=1))


def test_an_error_of_our_own_has_a_code_of_its_own_and_asks_to_be_reported(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("diffuscope.cli.weights.load_model", lambda _, **__: {}["absent"])
    monkeypatch.setattr("diffuscope.cli.failures.LIBRARIES", (tmp_path.parents[-1],))
    code, line = ended(capsys, "sample", "--model", "x", "--out", tmp_path)
    assert code == 70
    assert line.startswith("diffuscope: an error of diffuscope itself: KeyError: 'absent'; please report it with")
    assert (tmp_path / "error.txt").is_file()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("data_range: expected"), 2, "--data-range: expected"),
        (InputError("levels, points: expected"), 2, "--levels, --points: expected"),
        (InputError("n_train: expected"), 2, "--train-limit: expected"),
        (InputError("event_shape: expected"), 2, "event_shape: expected"),
        (InputError("expected data_range: 5"), 2, "expected data_range: 5"),
        (KeyboardInterrupt(), 130, "interrupted; rerun the same command to resume"),
        (BrokenPipeError(), 141, ""),
        (MemoryError(), 2, "the memory does not suffice (MemoryError)"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
    ],
)
def test_what_is_said_of_an_error(error, code, said):
    found = failure(error, options_of(cli.COMMANDS["audit"]), None)
    assert found.code == code
    assert found.line.startswith(said)
    assert bool(found.line) == bool(said)


def test_a_module_that_the_user_names_is_theirs_even_where_it_is_installed_among_packages(monkeypatch, theirs, capsys):
    monkeypatch.setattr("diffuscope.cli.failures.LIBRARIES", (theirs.parents[-1],))
    code, line = ended(capsys, "sample", "--model", "their_code:model", "--out", "out")
    assert code == 2
    assert "their_code.py:9: ValueError" in line
    monkeypatch.setattr("diffuscope.cli.sample.generate", lambda *_, **__: {}["absent"])
    code, line = ended(capsys, "sample", "--model", "their_code:model", "--out", "out")
    assert code == 70
    assert "an error of diffuscope itself, or of what their_code returned: KeyError" in line


def test_more_samples_than_the_memory_holds_are_refused(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemAvailable: 1000 kB\n")
    monkeypatch.setattr("diffuscope.memory.MEMINFO", tmp_path / "meminfo")
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    subject = Subject(ExactDenoiser(Gaussian.fit([x]), VE()), x[:30], x[30:])
    with pytest.raises(InputError, match=r"generated: 10,000 samples with their trajectories needs 0\.00216 GB"):
        audit_model(subject, Settings(generated=10_000))
    with pytest.raises(InputError, match="n: 1,000,000 samples of shape"):
        generate(subject.denoiser, 10**6, event_shape=(3,))


def test_a_positional_argument_is_named_as_in_the_help():
    assert failure(InputError("target: x"), options_of(cli.COMMANDS["certify"]), None).line == "TARGET: x"


@pytest.mark.parametrize("name", cli.NAMES)
def test_no_help_offers_none_as_a_value(capsys, name):
    """What an option has that is not typed has no word."""
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    printed = capsys.readouterr().out
    assert f"usage: diffuscope {name}" in printed
    assert "{None" not in printed
    assert "None}" not in printed


def test_a_file_may_be_named_none():
    assert parse(cli.COMMANDS, ["audit", "--samples", "None"], None).samples == "None"


def test_a_line_has_no_control_characters_and_an_end():
    assert one_line("a\nb\x1b[31m\tc") == "a b\\x1b[31m c"
    assert len(one_line("x" * 10_000)) <= 600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", "--levles", "5"], "--levles: no such option of audit; did you mean --levels?"),
        (["audit", "--levels", "1e3"], "--levels: expected a whole number, got '1e3'"),
        (["audit", "--levels"], "--levels: expected a value after it"),
        (["audit", "--significance", "nan"], "--significance: expected a finite number, got 'nan'"),
        (["audit", "--data-range", "5"], "--data-range: expected two finite numbers, got '5'"),
        (
            ["sample", "--model", "m", "--sampler", "huen"],
            "--sampler: expected one of euler, heun, .*, got 'huen'; did you mean heun?",
        ),
        (["audit", "--kind", "it's"], "--kind: expected one of auto, vectors, .*, table, got 'it's'$"),
        (
            ["audit", "--fail-on", "copy"],
            "--fail-on: expected one of broken, copies, .*, got 'copy'; did you mean copies",
        ),
        (["train", "--stop-on", "copying"], "--stop-on: expected copies, got 'copying'; did you mean copies?$"),
        (["sample"], "--model: expected, but missing"),
        (["reproduce", "--list=5"], "--list: expected no value, got '5'"),
        (["adit"], "adit: expected one of audit, .*; did you mean audit?"),
        (["audit", "--out", ""], "--out: expected a text, got ''"),
        (["train", "--out", "\udcff"], r".udcff: expected text in UTF-8"),
        ([], "expected one of audit, "),
    ],
)
def test_a_mistake_in_the_words_is_one_sentence(words, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?").replace("(", r"\(")):
        parse(cli.COMMANDS, words, "")


@pytest.mark.parametrize("width", ["40", "300"])
def test_sentences_do_not_depend_on_the_width_of_the_terminal_nor_on_color(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(InputError, match=r"^--levels: expected a whole number, got 'xyz'$"):
        parse(cli.COMMANDS, ["audit", "--levels", "xyz"], "")


def test_ctrl_c_during_the_imports_is_one_line(monkeypatch, capsys):
    class Interrupting:
        def find_spec(self, name, *_):
            if name == "diffuscope.cli":
                raise KeyboardInterrupt

    modules = {name: module for name, module in sys.modules.items() if name.startswith("diffuscope.cli")}
    former = signal.getsignal(signal.SIGINT)
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["diffuscope", "audit"])
    try:
        with pytest.raises(SystemExit) as stopped:
            program.main()
    finally:
        signal.signal(signal.SIGINT, former)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "diffuscope: interrupted; rerun the same command to resume\n"


def test_a_reader_that_goes_away_ends_the_command_quietly(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["reproduce", "--list"])
    assert stopped.value.code == 141
    assert capsys.readouterr().err == ""


def test_two_runs_in_one_folder_are_refused_in_one_line_and_one_run_may_hold_it_twice(capsys, tmp_path):
    with sole_writer(tmp_path), sole_writer(tmp_path):
        pass
    lock = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for command in (["audit"], ["train"], ["certify", "diffuscope:Heun"]):
        code, line = ended(capsys, *command, "--out", tmp_path)
        assert code == 2
        assert line.startswith("diffuscope: --out: another run is writing to")
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="out: another run"):
        audit_model(Subject(ExactDenoiser(Gaussian.fit([x]), VE()), x[:30], x[30:]), Settings(), out=tmp_path)
    os.close(lock)
    with sole_writer(tmp_path):
        pass


@pytest.mark.parametrize(("command", "name"), [("audit", "report.html"), ("train", "model.safetensors")])
def test_a_folder_where_a_file_is_to_be_written_is_found_before_the_work(capsys, tmp_path, command, name):
    (tmp_path / name).mkdir()
    code, line = ended(capsys, command, "--out", tmp_path)
    assert code == 2
    assert f"--out: expected to write the file {tmp_path / name}, which is a folder" in line


def samples_refused(capsys, folder, samples):
    rng = np.random.default_rng(0)
    np.save(folder / "rows.npy", rng.uniform(-1, 1, size=(60, 4)).astype(np.float32))
    np.save(folder / "samples.npy", samples)
    words = ("audit", "--data", folder / "rows.npy", "--samples", folder / "samples.npy", "--out", folder / "out")
    return ended(capsys, *words)[1]


def test_samples_that_cannot_be_audited_are_refused_before_a_model_is_trained(capsys, tmp_path):
    rows = np.random.default_rng(1).uniform(-1, 1, size=(60, 4)).astype(np.float32)
    cases = {
        "samples: expected at least 20 examples, got 3": rows[:3],
        "examples of shape (3,); expected (4,)": rows[:, :3],
        "integer values (int8)": rows.astype(np.int8),
        "dtype complex64": rows.astype(np.complex64),
        "samples: expected examples that vary": np.full_like(rows, 0.5),
        "NaN or infinite": np.where(rows > 0.9, np.nan, rows),
    }
    for said, samples in cases.items():
        assert said in samples_refused(capsys, tmp_path, samples)
    assert not (tmp_path / "out" / "training.safetensors").exists()

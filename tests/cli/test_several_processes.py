"""Commands under torchrun: two processes find what one finds, go on where another number stopped, and fail in one line.

The programs are started as people start them; two processes share this machine's cores by Gloo.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffuscope.cli import main
from diffuscope.cli.audit import Audit
from diffuscope.data import toy_data
from diffuscope.exact import two_moons
from diffuscope.training import train_denoiser

MODELS = """
import os
import torch
from diffuscope.denoisers import MLP, ExactDenoiser
from diffuscope.exact import two_moons
from diffuscope.schedules import VE

torch.manual_seed(0)


class Moons:
    '''The exact denoiser, and a network so small that it is still one.'''

    schedule = VE(0.01, 50.0)
    exact, network = ExactDenoiser(two_moons(), schedule), MLP((2,), width=32)

    def __call__(self, x_t, t):
        return self.exact(x_t, t) + 1e-3 * self.network(x_t / 50, torch.zeros(len(x_t)))


class Nan(Moons):
    '''Not finite in one of two processes: at the last 22 of 150 points, which are the share of the second.'''

    def __call__(self, x_t, t):
        wrong = os.environ["RANK"] == "1" and len(x_t) == 22
        return super().__call__(x_t, t) * (float("nan") if wrong else 1.0)


class Crash(Moons):
    def __call__(self, x_t, t):
        if os.environ["RANK"] == "1" and len(x_t) == 22:
            raise KeyError("a mistake")
        return super().__call__(x_t, t)


class ByClass(Moons):
    classes = 2

    def __call__(self, x_t, t, y=None):
        return super().__call__(x_t, t) + (0 if y is None or int(y) == 2 else 1e-3 * int(y))


class Between(Moons):
    '''Of two processes the second fails on its own, while the first waits for it.'''

    @property
    def data_range(self):
        if os.environ["RANK"] == "1":
            raise KeyError("a mistake")
        return -3.0, 3.0


class Full(Moons):
    '''The disk of the first process is full when the report is written.'''

    def __init__(self):
        import errno

        from diffuscope.audit import AuditResult

        def save(result, folder):
            raise OSError(errno.ENOSPC, "No space left on device", "report.html")

        if os.environ["RANK"] == "0":
            AuditResult.save = save


moons, nan, crash, between, by_class = Moons(), Nan(), Crash(), Between(), ByClass()


def __getattr__(name):
    if name != "full":
        raise AttributeError(name)
    return Full()
"""
AUDIT = (
    "audit", "--data", "data.npz", "--data-range", "-3", "3", "--levels", "4", "--points", "150", "--generated", "300",
    "--trajectories", "150", "--components", "2", "--step-seeds", "8", "--features", "pixels", "pca",
)  # fmt: skip


def run(folder: Path, count: int, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in `count` processes; a run that hangs is an error."""
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "--"] if count > 1 else []
    command = [sys.executable, "-m", *several, "diffuscope", *words]
    alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment = {**alone, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("processes")
    (where / "models.py").write_text(MODELS)
    x = two_moons().sample(400, generator=torch.Generator().manual_seed(0)).float()
    np.savez(where / "data.npz", train=x[:200].numpy(), heldout=x[200:].numpy())
    return where


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Path, Path]:
    """The folders of an audit in one process and of the same in two."""
    for count, out in ((1, "one"), (2, "two")):
        done = run(folder, count, *AUDIT, "--model", "models:moons", "--out", out)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Report: ") == 1
    return folder / "one", folder / "two"


def result(out: Path) -> dict[str, Any]:
    """audit.json without the command that repeats it, which names its folder."""
    found = json.loads((out / "audit.json").read_text())
    del found["repeat"]
    return found


@pytest.mark.slow  # tests/audit/test_shared_audits.py asks the same of processes without torchrun's launcher
def test_an_audit_in_two_processes_is_that_of_one(both):
    """Every verdict, list and number, not to 1e-6 but bit for bit: pieces of work do not depend on who makes them."""
    one, two = map(result, both)
    assert len(one["findings"]) > 8
    assert one == two
    stages = [{path.name for path in out.glob("state/*/*.npz")} for out in both]
    assert stages[0] == stages[1]


@pytest.mark.slow
def test_an_audit_goes_on_in_another_number_of_processes(both):
    """Half of the stages of two processes are lost; one process measures those alone."""
    one, two = both
    expected, stages = result(two), sorted(two.glob("state/*/*.npz"))
    for path in (*stages[::2], two / "audit.json"):
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in stages[1::2]}
    done = run(two.parent, 1, *AUDIT, "--model", "models:moons", "--out", two.name)
    assert done.returncode == 0, done.stderr
    assert result(two) == expected == result(one)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert all(path.exists() for path in stages)


@pytest.mark.slow
def test_an_audit_by_class_in_two_processes_is_that_of_one(folder):
    x = two_moons().sample(240, generator=torch.Generator().manual_seed(1)).float().numpy()
    y = (x[:, 0] > 0.5).astype(np.int64)
    np.savez(folder / "labelled.npz", train=x[:120], heldout=x[120:], train_labels=y[:120], heldout_labels=y[120:])
    fewer = ("--points", "40", "--generated", "80", "--trajectories", "16")
    data = ("audit", "--data", "labelled.npz", *AUDIT[3:], *fewer)
    for count, out in ((1, "one-by-class"), (2, "two-by-class")):
        words = ("--model", "models:by_class", "--classes", "all", "--guidance", "2", "--device", "cpu", "--out", out)
        done = run(folder, count, *data, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("- Class 1: ") == 1
    for part in ("", "class-0", "class-1"):
        one, two = (result(folder / out / part) for out in ("one-by-class", "two-by-class"))
        assert one == two
    assert len(result(folder / "one-by-class")["classes"]) == 2


def test_the_small_model_that_one_process_trained_is_read_by_the_others(tmp_path, monkeypatch):
    data = toy_data("two-moons", n_train=60, n_heldout=60).in_range(-1.0, 1.0)
    trained = train_denoiser(data, steps=2, batch_size=8, seed=0, out=tmp_path)
    monkeypatch.setattr("diffuscope.cli.audit.of_process_0", lambda _: None)  # as in the processes that wait
    read = Audit(out=tmp_path)._small_model(data, torch.device("cpu"))
    assert torch.equal(read(data.heldout, 0.5), trained(data.heldout, 0.5))


@pytest.mark.slow  # tests/test_shared_work.py and test_shared_audits.py ask what one raises to be raised in all
@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("models:nan", "diffuscope: --model: expected finite values, got NaN or infinity at time"),
        ("models:crash", "KeyError: 'a mistake'; the traceback is in"),
        ("models:between", "KeyError: 'a mistake'; the traceback is in"),
        ("models:full", "--out: the disk is full: report.html"),
        ("models:none", "diffuscope: --model: module 'models' has no 'none'"),
    ],
)
def test_what_one_process_meets_ends_all_in_one_line(folder, model, line):
    done = run(folder, 2, *AUDIT, "--model", model, "--out", model.replace(":", "-"))
    assert done.returncode == 1  # torchrun's own, for any failure
    said = [each for each in done.stderr.splitlines() if each.startswith("diffuscope: ")]
    assert len(said) == 1
    assert line in said[0]
    assert "exitcode  : 2" in done.stderr
    assert "Report" not in done.stdout


@pytest.mark.slow  # tests/samplers/test_generation_in_processes.py asks the same of threads
def test_samples_of_two_processes_are_those_of_one(folder):
    """Also of a sampler that draws noise for one batch after another."""
    words = ("sample", "--model", "models:shaped", "--nfe", "5", "--sampler", "ddpm")
    with (folder / "models.py").open("a") as models:
        models.write("\nshaped = Moons()\nshaped.event_shape = (2,)\n")
    for count, out in ((1, "alone"), (2, "shared")):
        done = run(folder, count, *words, "--out", out, "--n", "700")
        assert done.returncode == 0, done.stderr
    one, two = (np.load(folder / out / "samples.npz")["x"] for out in ("alone", "shared"))
    assert one.shape == (700, 2)
    assert np.array_equal(one, two)


@pytest.mark.slow
def test_the_small_model_of_one_process_is_read_by_the_other(folder):
    """Without --model the first process trains one; the least effort."""
    data = ("audit", "--data", "two-moons", "--train-limit", "40", "--train-steps", "1", "--levels", "4")
    effort = ("--points", "20", "--generated", "20", "--trajectories", "8", "--step-seeds", "8", "--components", "2")
    done = run(folder, 2, *data, *effort, "--out", "small")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "small/audit.json").read_text())["verdict"]["word"]


PAGE = (
    Path(__file__, "../../../docs/large.md").resolve().read_text().split("## Devices, and an audit under torchrun")[1]
)
ON_GPU, SHARED = (shlex.split(block) for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))


def test_the_page_asks_for_a_gpu_which_this_machine_may_lack(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main(ON_GPU[1:])
    assert ended.value.code == 2
    assert "--device: expected cpu, as this machine has no CUDA device, got cuda" in capsys.readouterr().err

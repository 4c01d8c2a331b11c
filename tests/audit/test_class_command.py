"""`diffuscope audit --classes` as its user runs it: the page from zero to report, the exit status, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_by_hand import classifiers_are_quick, other_tools_are_quick  # noqa: F401

from audit_subjects import asked
from commands_in_tests import refused, run

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
SECTION = PAGE.split("\n## Class-conditional models and guidance\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(python|console|text)\n(.*?)```", SECTION, re.DOTALL)
QUICK = ("--levels", "6", "--points", "60", "--generated", "120", "--trajectories", "8", "--transformations", "none")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the data and the model of the page, under a name of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (make, model) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(make, "docs/audit.md", "exec"), {})
    name = f"classes_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{name}.py").write_text(model)
    return tmp_path, f"{name}:model"


def stored(folder):
    return json.loads((folder / "out" / "audit.json").read_text())


@pytest.mark.usefixtures("blank_figures")
def test_the_class_that_copies_fails_the_command_and_the_others_do_not(folder, capsys):
    tmp_path, name = folder
    audit = ("audit", "--data", "labelled.npz", "--model", name, "--out", "out", *QUICK)
    with asked("memorized"):
        with pytest.raises(SystemExit) as ended:
            run(*audit, "--classes", 0, 1, "--fail-on", "copies")
        assert ended.value.code == 1
        found = stored(tmp_path)
        assert {y: each["verdict"]["word"] for y, each in found["classes"].items()}["1"] == "copies"
        assert found["repeat"]["text"].startswith("diffuscope audit --data labelled.npz")
        printed = capsys.readouterr().out
        assert "- Class 1: Copies training examples" in printed
        own = json.loads((tmp_path / "out" / "class-1" / "audit.json").read_text())
        assert own["verdict"]["word"] == "copies"
        run(*audit, "--classes", 0, "--fail-on", "copies")
        run(*audit, "--classes", 2, "--guidance", 2)
    assert "guidance of scale 2" in " ".join(stored(tmp_path)["notes"])


def test_without_classes_the_report_says_that_none_was_asked_for(folder):
    tmp_path, name = folder
    with asked("memorized"):
        run("audit", "--data", "labelled.npz", "--model", name, "--out", "out", *QUICK)
    notes = " ".join(stored(tmp_path)["notes"])
    assert "the model has 3 classes and was audited without one, against all of the data, with 3 labels" in notes


def test_mistakes_are_one_line_each(folder, capsys):
    _, name = folder

    def line(*options, data="labelled.npz", model=("--model", name)):
        return refused(capsys, "audit", "--data", data, *model, "--out", "out", *options)

    assert "--classes: expected whole numbers >= 0, or all, got x" in line("--classes", "x")
    assert "--classes: expected a value after it, got none" in line("--classes")
    assert "--classes: expected a value after it, got none" in line("--classes", "--guidance", 2)
    assert "--guidance: expected a value after it, got none" in line("--classes", 1, "--guidance")
    assert "--classes: expected each class once, got 0 twice" in line("--classes", 0, 1, 0)
    assert "--classes: expected labels of the training data, 0, 1, 2, got 7" in line("--classes", 7)
    assert "--classes: expected --model" in line("--classes", 0, model=())
    assert "--samples: expected without --classes" in line("--classes", 0, "--samples", "labelled.npz")
    assert "--guidance: expected --classes with it" in line("--guidance", 2)
    assert "--guidance: expected a finite number" in line("--classes", 0, "--guidance", "nan")
    assert "--consistency-steps: expected a one-step model" in line("--classes", 0, "--consistency-steps", 2)
    np.save("plain.npy", np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32))
    assert "--classes: expected data with labels" in line("--classes", 0, data="plain.npy")

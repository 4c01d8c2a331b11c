"""Files are written whole or not at all, for those who may read them; lines, JSON and objects by name."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from diffuscope import files
from diffuscope.errors import InputError
from diffuscope.files import (
    PRIVATE,
    append_line,
    finite,
    is_there,
    json_line,
    load_object,
    replace_atomically,
    require_file,
    save_arrays,
    sole_writer,
    whole_lines,
    write_json,
)


@pytest.fixture
def umask() -> Any:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "expected"), [(None, 0o640), (PRIVATE, 0o600)])
def test_a_new_file_has_its_permissions_less_the_umask(tmp_path, mode, expected):
    given = {} if mode is None else {"mode": mode}
    replace_atomically(tmp_path / "a", b"content", **given)
    save_arrays(tmp_path / "b", {"x": np.arange(3)}, **given)
    for name in "ab":
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == expected
    with np.load(tmp_path / "b", allow_pickle=False) as stored:
        assert stored["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays(tmp_path / "c", {"x": np.array([None])})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    (tmp_path / "a.txt.partial").write_bytes(b"of a killed process")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((os, "fsync", fail) if failing == "fsync" else (Path, "replace", fail)))
    with pytest.raises(KeyboardInterrupt):
        replace_atomically(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.txt", b"old")]
    monkeypatch.undo()
    (tmp_path / "a.txt.partial").write_bytes(b"of a killed process")
    replace_atomically(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.txt", b"new")]


def test_the_file_is_on_disk_before_it_is_moved_and_the_folder_after_and_a_line_too(tmp_path, monkeypatch):
    done: list[str] = []
    kind = {True: "folder", False: "file"}
    real = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: done.append(kind[stat.S_ISDIR(os.fstat(number).st_mode)]) or real[0](number)
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: done.append("moved") or real[1](self, to))
    replace_atomically(tmp_path / "a", b"x")
    assert done == ["file", "moved", "folder"]
    append_line(tmp_path / "b", b"x\n")
    assert done[3:] == ["file"]
    monkeypatch.delattr(os, "O_DIRECTORY")  # as on a system that cannot open a folder
    replace_atomically(tmp_path / "a", b"x")
    assert done[4:] == ["file", "moved"]


def test_a_folder_has_one_writer_who_may_hold_it_twice(tmp_path):
    folder = tmp_path / "new" / "folder"
    with sole_writer(folder), sole_writer(folder):
        pass
    other = FileLock(folder / ".lock", timeout=0)
    with other, pytest.raises(InputError, match=f"^out: another run is writing to {folder}; expected to be the only"):
        sole_writer(folder).__enter__()
    with pytest.raises(KeyError), sole_writer(folder):
        raise KeyError
    with sole_writer(folder):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=rf"^out: cannot write to the folder {tmp_path}/file/a \(Not a directory\)$"),
        sole_writer(tmp_path / "file" / "a"),
    ):
        pass


def test_json_has_no_number_that_json_lacks(tmp_path):
    result = {"a": [float("inf"), 1.5, (float("nan"), 2)], "b": {"c": -float("inf"), "d": True}, "e": "nan"}
    expected = {"a": [None, 1.5, [None, 2]], "b": {"c": None, "d": True}, "e": "nan"}
    write_json(result, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == json.dumps(expected, indent=2)
    assert json_line(result) == json.dumps(expected).encode() + b"\n"
    assert finite(result) == expected


def test_lines_without_an_end_do_not_count(tmp_path):
    path = tmp_path / "log"
    for line in (b"one\n", b"\n", b"three\n"):
        append_line(path, line)
    assert whole_lines(path) == [b"one", b"", b"three"]
    append_line(path, b"half")
    assert whole_lines(path) == [b"one", b"", b"three"]
    path.write_bytes(b"")
    assert whole_lines(path) == []


def test_what_is_there_and_what_is_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    assert [is_there(tmp_path / name) for name in ("a", "b", "", 300 * "long")] == [True, False, True, False]
    require_file(tmp_path / "a", "data")
    for name, said in (
        ("", f"data: no file {tmp_path}$"),
        ("b", "data: no file "),
        (300 * "long", "data: cannot read|no"),
    ):
        with pytest.raises(InputError, match=f"^{said}"):
            require_file(tmp_path / name, "data")


class Unreadable(type(Path())):
    """A path whose file the system refuses to look up."""

    error = OSError(13, "Permission denied")

    def is_file(self) -> bool:
        raise self.error


def test_a_file_that_may_not_be_looked_up_is_told_with_the_systems_reason(monkeypatch):
    with pytest.raises(InputError, match=r"^data: cannot read x \(Permission denied\)$"):
        require_file(Unreadable("x"), "data")
    monkeypatch.setattr(Unreadable, "error", OSError("no reason"))
    with pytest.raises(InputError, match=r"^data: cannot read x \(no reason\)$"):
        require_file(Unreadable("x"), "data")


MODULES = {
    "a_module_of_theirs": "class Outer:\n    inner = 3\nnumber = 4\n",
    "a_broken_module": "raise RuntimeError('boom\\nand more')",
    "a_needy_module": "import a_package_that_is_not_installed",
    "an_ending_module": "raise SystemExit(0)",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_an_object_is_found_in_the_current_folder_which_is_searched_first_and_once(modules):
    before = list(sys.path)
    assert load_object("a_module_of_theirs:Outer.inner", "model") == 3
    assert load_object("a_module_of_theirs:number", "model") == 4
    assert load_object("os.path:sep", "model") == os.sep
    assert sys.path == [str(modules), *before]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("a_module_of_theirs", "expected module:object, got 'a_module_of_theirs'$"),
        ("a_module_of_theirs:", "expected module:object, got"),
        (":number", "expected module:object, got"),
        ("a_module_of_theirs:a b", "expected module:object, got"),
        ("a_module.3:number", "expected module:object, got"),
        ("no_such_module:x", "no module named 'no_such_module' here or in the environment$"),
        ("no_such.module:x", "no module named 'no_such' here or in the environment$"),
        ("a_module_of_theirs.py:number", "no module named .*; did you mean a_module_of_theirs:number[?]$"),
        ("a_broken_module:x", "importing 'a_broken_module' failed with RuntimeError: boom$"),
        ("a_needy_module:x", "importing 'a_needy_module' failed with ModuleNotFoundError: No module named 'a_package"),
        ("an_ending_module:x", "importing 'an_ending_module' failed with SystemExit: 0$"),
        ("a_module_of_theirs:numbre", "module 'a_module_of_theirs' has no 'numbre'; did you mean number[?]$"),
        ("a_module_of_theirs:Outer.other", "module 'a_module_of_theirs' has no 'Outer.other'$"),
    ],
)
@pytest.mark.usefixtures("modules")
def test_each_way_not_to_find_an_object_has_its_line(spec, said):
    with pytest.raises(InputError, match=f"^features: {said}"):
        load_object(spec, "features")


def test_where_the_current_folder_is_gone_other_modules_are_found(monkeypatch):
    def gone() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr(files.Path, "cwd", gone)
    assert load_object("math:pi", "model") == pytest.approx(3.14159, abs=1e-5)

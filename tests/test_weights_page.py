"""The page on weights runs from zero to report, block by block as printed; a route needs its library."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from diffuscope.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "weights.md").read_text(encoding="utf-8")
NEEDS = {"A .pt file and its class": [], "A folder of diffusers": ["diffusers"],
         "An ONNX file": ["onnxruntime", "onnx", "onnxscript"]}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """One folder for the page: the last route exports the network of the first."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(sys, "path", [str(folder), *sys.path])
        yield folder
    sys.modules.pop("my_model", None)


def run(title, capsys):
    """The blocks of a section, as printed; the results of its audits, by their folders."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    names: dict[str, object] = {}
    audits = {}
    blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    assert {kind for kind, _ in blocks} <= {"python", "console", "text"}
    for kind, text in blocks:
        if kind == "console":
            capsys.readouterr()
            words = shlex.split(text)
            main(words[1:])
            out = Path(words[-1])
            if words[1] == "audit":
                audits[out.name] = json.loads((out / "audit.json").read_text())
                card = (out / "model-card.md").read_text()
                assert card.endswith(f"{text.strip()}\n```\n")  # the recipe is the command as printed
        elif kind == "text":
            assert capsys.readouterr().err == text
        elif file := re.match(r"# (\w+\.py)\n", text):
            Path(file[1]).write_text(text)
        else:
            exec(compile(text, "docs/weights.md", "exec"), names)
    return audits, names


def test_every_route_is_run_and_named_in_the_first_table():
    sections = [part for part in PAGE.split("\n## ")[1:] if "```" in part]
    assert [part.splitlines()[0] for part in sections] == list(NEEDS)
    for title in NEEDS:
        anchor = "#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        assert f"({anchor})" in PAGE


@pytest.mark.filterwarnings("ignore")  # about the libraries' own code
@pytest.mark.parametrize("title", NEEDS)
def test_a_route_runs_from_zero_to_a_report(title, capsys):
    for library in NEEDS[title]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    audits, names = run(title, capsys)
    (found,) = audits.values()
    (wiring,) = [finding for finding in found["findings"]["wiring"] if finding["name"] == "wiring.verdict"]
    if title == "A folder of diffusers":
        assert found["verdict"]["word"] == "broken"  # as the page says of a network that was not trained
        return
    assert wiring["verdict"].startswith("It is read as it was trained")
    if title == "A .pt file and its class":
        (note,) = [note for note in found["notes"] if note.startswith("weights of")]
        assert re.match(r"weights of net\.ckpt \(SHA-256 [0-9a-f]{64}\), prefix ema, [\d,]+ values$", note)
        assert names["samples"].shape == (4, 2)  # type: ignore[attr-defined]
        with np.load("out/raw/samples.npz") as raw:
            assert np.isfinite(raw["x"]).all()

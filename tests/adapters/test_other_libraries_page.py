"""The page on other libraries' models runs, section by section, from zero to samples.

A section needs its library: blocks of absent ones are skipped. Blocks that begin with the name of a file are that file.
"""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from diffuscope.adapters import k_diffusion
from diffuscope.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "other_libraries.md").read_text(encoding="utf-8")
NEEDS = {
    "diffusers": ["diffusers"],
    "EDM": [],
    "k-diffusion": ["k_diffusion"],
    "azula": ["azula"],
    "ONNX": ["onnxruntime", "terrain_diffusion"],
    "One-step models": [],
}
SAMPLES = {"diffusers": (4, 1, 8, 8), "EDM": (4, 1, 8, 8), "k-diffusion": (4, 1, 8, 8), "azula": (4, 1, 8, 8)}
SAMPLES |= {"ONNX": (1, 1, 128, 128)}


def test_every_section_with_a_block_is_run():
    sections = [part for part in PAGE.split("\n## ")[1:] if "```" in part]
    assert [part.splitlines()[0] for part in sections] == list(NEEDS)


@pytest.mark.filterwarnings("ignore")  # about the libraries' own code
@pytest.mark.parametrize("title", NEEDS)
def test_a_section_runs_from_zero_to_samples(title, tmp_path, monkeypatch):
    for library in NEEDS[title]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    if title == "k-diffusion":  # importing it whole would need more than its wrappers do
        package = ModuleType("k_diffusion")
        package.__dict__["external"] = k_diffusion.part("external")
        monkeypatch.setitem(sys.modules, "k_diffusion", package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    names: dict[str, object] = {}
    for kind, text in re.findall(r"```(python|console)\n(.*?)```", section, re.DOTALL):
        if kind == "console":
            main(shlex.split(text)[1:])
            with np.load(Path(shlex.split(text)[-1]) / "samples.npz") as samples:
                assert samples["x"].shape == SAMPLES[title]
                assert np.isfinite(samples["x"]).all()
        elif file := re.match(r"# (\w+\.py)\n", text):
            Path(file[1]).write_text(text)
        else:
            exec(compile(text, "docs/other_libraries.md", "exec"), names)
    if title == "diffusers":
        exec(compile(Path("my_latents.py").read_text(), "my_latents.py", "exec"), names)
        encoder, images = names["encoder"], names["torch"].zeros(2, 1, 8, 8)  # type: ignore[attr-defined]
        latents = encoder.encode(images)  # type: ignore[attr-defined]
        assert encoder.decode(latents).shape == images.shape  # type: ignore[attr-defined]
    for module in ("my_edm", "my_k_diffusion", "my_azula"):
        sys.modules.pop(module, None)

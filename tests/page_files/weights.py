"""A hundred steps of training in the default run; the slow run asserts what the audits of the page find."""

import json
import re
from pathlib import Path

import numpy as np

SHORTER = {"range(2000)": "range(20)"}


def check(run):
    with np.load("out/raw/samples.npz") as raw:
        assert raw["x"].shape == (4, 2)
        assert np.isfinite(raw["x"]).all()
    assert run.names["samples"].shape == (4, 2)
    anchors = set(re.findall(r"\(#([\w-]+)\)", run.path.read_text().split("\n## ")[0]))
    assert {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in run.sections} <= anchors
    if run.whole:
        for command in run.printed:
            if command.startswith("diffuscope audit"):
                found, card = audited(command)
                assert card.endswith(f"{command}\n```\n")  # the recipe is the command as printed
                (wiring,) = [each for each in found["findings"]["wiring"] if each["name"] == "wiring.verdict"]
                if "diffusers:" in command:
                    assert found["verdict"]["word"] == "broken"  # as the page says of a network that was not trained
                else:
                    assert wiring["verdict"].startswith("It is read as it was trained")
                if "net.ckpt" in command:
                    (note,) = [note for note in found["notes"] if note.startswith("weights of")]
                    assert re.match(r"weights of net\.ckpt \(SHA-256 [0-9a-f]{64}\), prefix ema, [\d,]+ values$", note)


def audited(command):
    out = Path(command.split()[-1])
    return json.loads((out / "audit.json").read_text()), (out / "model-card.md").read_text()

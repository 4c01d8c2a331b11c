"""The table is audited as printed; the scans, which take longer, in the slow run. Both generators copy."""

import json
from pathlib import Path

import numpy as np

EFFORT = {"diffuscope audit --data train.csv": ""}


def prepare(run):
    """Slices of DICOM, of a size that the generated pictures have."""
    del run
    from data.dicom_folders import dicom

    rng = np.random.default_rng(0)
    for k in range(120):
        dicom(Path(f"dicom/{k}.dcm"), rng.integers(0, 4096, (16, 16)), f"patient {k // 2}")


def check(run):
    tables = {"out/table": "diffuscope audit --data train.csv"}
    if run.whole:
        tables["out/scans"] = "diffuscope audit --data scans --group folder"
    for out, start in tables.items():
        results = json.loads(Path(out, "audit.json").read_text())
        (command,) = [text for text in run.printed if text.startswith(start)]
        assert Path(out, "model-card.md").read_text().endswith(f"{command}\n```\n")
        assert results["verdict"]["word"] == "copies"
        if out == "out/table":
            (columns,) = [each for each in results["findings"]["quality"] if each["name"] == "fidelity.columns"]
            said = "1 of 10 columns does not have the distribution of the data: column 'visit'"
            assert columns["verdict"].startswith(said)  # its dates are wrong
            assert run.names["values"]["fidelity.columns"] == columns["value"]
    assert Path("README.md").read_text() == Path("out/table/model-card.md").read_text()

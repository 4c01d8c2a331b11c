"""Our own likelihoods pass `diffuscope certify --likelihood`, as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # by default the certificate is tested with exact densities, and ours against exact distributions
@pytest.mark.parametrize("name", ["log_density", "estimated_log_density"])
def test_the_certifier_passes_ours(name: str, tmp_path: Path):
    command = [sys.executable, "-m", "diffuscope", "certify", "--likelihood", "--out", str(tmp_path)]
    done = subprocess.run([*command, f"diffuscope.densities.likelihood:{name}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads((tmp_path / "certificate.json").read_text())["findings"]
    assert {finding["tone"] for finding in findings} <= {"good", "neutral"}
    if name == "log_density":  # its end is the Gaussian that the denoiser shows
        errors = [row["error"] for finding in findings for row in finding.get("errors", ())]
        assert len(errors) == 6 + 3 * 5
        assert max(map(abs, errors)) < 1e-5

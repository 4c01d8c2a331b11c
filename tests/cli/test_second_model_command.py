"""`diffuscope audit --second-model`: two models and their data in the units of the first, and what is refused."""

import json
import sys

import numpy as np
import pytest
import torch

from audit_subjects import asked, digits
from diffuscope.audit.second_model import shared_examples
from diffuscope.cli import main
from diffuscope.cli.second_model import second_model
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

SMALL = ["--levels", "6", "--points", "60", "--trajectories", "16", "--generated", "20", "--components", "1",
         "--step-seeds", "8"]  # fmt: skip
MODULE = """
import numpy as np
import torch
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

class Ranged(ExactDenoiser):
    event_shape = (1, 8, 8)
    def __init__(self, file, low, high):
        pixels = torch.from_numpy(np.load(file)).float() / 16
        super().__init__(Gaussian.fit([low + (high - low) * pixels]), VE(0.002 * (high - low), 80.0 * (high - low)))
        object.__setattr__(self, "data_range", (low, high))

first, second = Ranged("one.npy", -1.0, 1.0), Ranged("two.npy", 0.0, 255.0)
class OfVectors(Ranged):
    event_shape = (64,)
vectors = OfVectors("one.npy", -1.0, 1.0)
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Integers from 0 to 16 in three files, and models of two halves in two ranges."""
    pixels = (8 * (digits(2) + 1)).round().to(torch.int64).numpy().astype(np.uint8)
    for name, part in (("one", pixels[:500]), ("two", pixels[500:1000]), ("rest", pixels[1000:1200])):
        np.save(tmp_path / f"{name}.npy", part)
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).random((40, 5)))
    (tmp_path / "two_halves.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "two_halves", raising=False)
    sources = ["--data", "one.npy", "--heldout", "rest.npy", "--data-range", "0", "16"]
    return ["audit", *sources, "--model", "two_halves:first", "--out", "out", *SMALL]


def test_gaussians_of_two_halves_in_two_ranges_agree(words, tmp_path):
    second = ["--second-model", "two_halves:second", "--second-data", "two.npy"]
    with asked("agreement"):
        main([*words, *second])
    stored = json.loads((tmp_path / "out" / "audit.json").read_text())
    first = stored["findings"]["agreement"][0]
    assert first["tone"] == "good"
    assert first["interval"][0] > 0.8
    assert stored["agreement"]["second_training_examples_shared"] == 0


def test_the_first_ones_own_data_are_known_bit_for_bit_whatever_range_they_are_mapped_to(words):
    loaded = load_data("one.npy", heldout="rest.npy", data_range=(0.0, 16.0))
    used = loaded.in_range(-1.0, 1.0)
    denoiser = ExactDenoiser(Gaussian.fit([used.train]), VE())
    other = second_model(denoiser, "two", words[2], (0.0, 16.0), loaded=loaded, used=used)
    assert other.train is not None
    assert shared_examples(used.train, other.train) == 500


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--second-data", "two.npy"], "--second-data: expected with --second-model only"),
        (["--second-model", "absent.safetensors"], "--second-model: no file absent.safetensors"),
        (["--second-model", "two_halves:vectors"], "--second-model: expected a model of examples of shape (1, 8, 8)"),
        (
            ["--second-model", "two_halves:second", "--second-data", "vectors.npy"],
            "--second-data: vectors.npy has shape (40, 5)",
        ),
        (
            ["--second-model", "two_halves:second", "--second-data", "absent.npy"],
            "--second-data: 'absent.npy' does not exist",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(words, more, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words, *more])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"diffuscope: {message}")


def test_samples_alone_have_no_second_model(words, capsys):
    without = [word for word in words if word not in ("--model", "two_halves:first")]
    with pytest.raises(SystemExit) as ended:
        main([*without, "--samples", "two.npy", "--samples-range", "0", "16", "--second-model", "two_halves:second"])
    assert ended.value.code == 2
    assert "--second-model: expected with --model" in capsys.readouterr().err

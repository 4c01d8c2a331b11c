"""--weights: the file that was used stands in the report, another one is another audit, and mistakes are named."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope import adapters
from diffuscope.audit import Settings, Subject
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.cli import main
from diffuscope.data import toy_data
from diffuscope.denoisers import load_model

pytestmark = pytest.mark.usefixtures("blank_figures")

SMALL = ["--levels", "4", "--points", "8", "--trajectories", "8", "--generated", "20", "--step-seeds", "8",
         "--components", "1", "--train-limit", "40"]  # fmt: skip
LONG = 300 * "long"  # a name that the system refuses
MODULE = """
import torch
from diffuscope.denoisers import DataPredictor
from diffuscope.schedules import VE

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x, time):
        return self.layer(x) / (1 + time[:, None])

def denoiser():
    return DataPredictor(Network(), VE(), event_shape=(2,), data_range=(-1.0, 1.0))

class Wide(Network):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "typed_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    state = {"layer.weight": torch.eye(2), "layer.bias": torch.zeros(2)}
    torch.save({"model": state, "ema": {name: 0.5 * value for name, value in state.items()}}, "net.pt")
    torch.save(state, "a?b&c=<b>|d.pt")
    yield
    sys.modules.pop("typed_models", None)


def refused(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diffuscope: ")]
    return line.removeprefix("diffuscope: ")


def sampled(*words):
    main(["sample", "--n", "3", "--nfe", "3", "--out", "out", *words])
    with np.load("out/samples.npz") as file:
        return file["x"]


def test_the_same_weights_come_by_the_option_and_by_the_name_and_the_prefix_decides(capsys):
    raw = sampled("--model", "typed_models:denoiser", "--weights", "net.pt")
    line = (
        "Warning: net.pt also has averaged weights, prefix ema (--weights-prefix ema); those under model were taken.\n"
    )
    assert capsys.readouterr().err == line
    assert np.array_equal(raw, sampled("--model", "typed_models:denoiser?weights=net.pt"))
    capsys.readouterr()
    averaged = sampled("--model", "typed_models:denoiser", "--weights", "net.pt", "--weights-prefix", "ema")
    assert capsys.readouterr().err == ""
    assert np.array_equal(averaged, sampled("--model", "typed_models:denoiser?weights=net.pt&prefix=ema"))
    assert not np.allclose(raw, averaged)
    assert np.array_equal(raw, sampled("--model", "typed_models:denoiser", "--weights", "a?b&c=<b>|d.pt"))
    assert np.array_equal(raw, sampled("--model=typed_models:denoiser", "--weights=a?b&c=<b>|d.pt"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--model typed_models:denoiser --weights absent.pt", "--weights: no file absent.pt"),
        ("--model typed_models:denoiser?weights=absent.pt", "--model: weights: no file absent.pt"),
        ("--model typed_models:denoiser --weights-prefix ema", "--weights-prefix: expected with --weights, got ema"),
        ("--model typed_models:denoiser --weights net.pt --weights-prefix x", "--weights: net.pt has nothing under"),
        ("--model typed_models:denoiser?weights=net.pt&prefix=x", "--model: weights: net.pt has nothing under"),
        ("--model typed_models:denoiser?prefix=x", "--model: weights_prefix: expected with weights only"),
        ("--model typed_models:denoiser?weights=a?b&c=d.pt", "--model: expected typed_models:denoiser?weights=FILE"),
        ("--model typed_models:denoiser?weights=net.pt --weights net.pt", "--weights: expected them once"),
        ("--model typed_models:Network --weights net.pt", "--model: typed_models:Network is a network, which says"),
        ("--model typed_models:Wide --weights net.pt", "--model: typed_models:Wide needs arguments"),
        ("--model typed_model:denoiser --weights net.pt", "--model: no module named 'typed_model'"),
        ("--model net.pt", "--model: net.pt is a pickle of weights, which do not say what network they belong to"),
        ("--model net.pt --weights net.pt", "--weights: belong to a model module:object"),
        ("--model typed_models --weights net.pt", "--model: expected module:object, which builds the network of the"),
        ("--model absent.pt --weights net.pt", "--model: expected module:object, which builds the network of the"),
        (f"--model {LONG}", "--model: cannot read long"),
        (f"--model {LONG}:denoiser", "--model: no module named 'long"),
        (f"--model typed_models:denoiser --weights {LONG}", "--weights: cannot read long"),
        (f"--model onnx:{LONG}?schedule=ve&predicts=data", "--model: cannot read long"),
        (f"--model diffusers:{LONG}", "--model: no folder long"),
        ("--model onnx:x.onnx?schedule=ve --weights net.pt", "--weights: belong to module:object"),
        ("--model onnx:x.onnx?schedule=ve&weights=net.pt", "--model: weights: belong to module:object"),
        ("--model diffusers:folder --weights net.pt", "--weights: belong to module:object"),
        ("--model edm:typed_models:Wide?event_shape=2 --weights net.pt", "--model: typed_models:Wide needs arguments"),
        ("--model edm:typed_models:Network?event_shape=2 --weights absent.pt", "--weights: no file absent.pt"),
        ("--model edm:typed_models:Network?event_shape=2&weights=absent.pt", "--model: weights: no file absent.pt"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_that_names_the_option_as_it_was_typed(words, line, capsys):
    assert refused(capsys, "sample", *words.split(" "), "--out", "out").startswith(line)


def test_weights_without_a_model_are_refused_by_every_command(capsys):
    assert refused(capsys, "audit", "--weights", "net.pt").startswith("--weights: expected with --model module:object")
    solving = refused(capsys, "solve", "poisson-1d", "--weights", "net.pt")
    assert solving.startswith("--weights: expected with --prior module:object")
    asked = ("solve", "poisson-1d", "--prior", "typed_models:denoiser", "--weights", "absent.pt")
    assert refused(capsys, *asked, "--out", "out").startswith("--weights: no file absent.pt")
    asked = ("solve", "poisson-1d", "--prior", "typed_models:denoiser?weights=absent.pt")
    assert refused(capsys, *asked, "--out", "out").startswith("--prior: weights: no file absent.pt")
    asked = ("audit", "--data", "two-moons", "--model", "typed_models:denoiser?weights=net.pt", "--second-model")
    line = refused(capsys, *asked, "typed_models:denoiser?weights=absent.pt", "--out", "out")
    assert line.startswith("--second-model: weights: no file absent.pt")


def test_a_network_of_edm_is_built_for_its_weights():
    model = adapters.load_model("edm:typed_models:Network?event_shape=2", weights="net.pt", weights_prefix="ema")
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(x, 3.0), 0.5 * x / 4)  # half the identity, over 1 + sigma


def test_report_and_card_name_the_file_its_digest_and_the_command_with_everything_escaped(capsys):
    """And a second model of the same class, which differs by its weights."""
    name = "a?b&c=<b>|d.pt"
    second = ("--second-model", "typed_models:denoiser?weights=net.pt")
    words = ("--data", "two-moons", "--model", "typed_models:denoiser", "--weights", name, *second)
    main(["audit", *words, *SMALL, "--out", "out"])
    result = json.loads(Path("out/audit.json").read_text())
    (note,) = [note for note in result["notes"] if note.startswith("weights of")]
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    assert note == f"weights of {name} (SHA-256 {digest}), 6 values"
    card, page = Path("out/model-card.md").read_text(), Path("out/report.html").read_text()
    assert digest in card
    assert digest in page
    assert "<b>|d.pt" not in page
    assert "&lt;b&gt;|d.pt" in page
    assert f"--weights '{name}'" in card.split("```console")[1]  # the command, in its fence
    assert name not in card.split("```console")[0]  # and nowhere else as it is
    assert f"typed_models:denoiser, {name}" == result["model"]
    assert sum(note.startswith("second model: weights of net.pt (SHA-256 ") for note in result["notes"]) == 1
    said = capsys.readouterr().err
    assert said.count("Warning") <= 1
    assert "Warning: net.pt also has averaged weights" in said


def test_another_file_or_prefix_is_another_audit():
    data = toy_data("two-moons", n_train=40, n_heldout=40)
    names = ("typed_models:denoiser?weights=net.pt", "typed_models:denoiser?weights=net.pt&prefix=ema",
             "typed_models:denoiser?weights=a.pt", "typed_models:denoiser?weights=net.pt")  # fmt: skip
    torch.save({"layer.weight": torch.eye(2), "layer.bias": torch.full((2,), 1e-6)}, "a.pt")
    subjects = [Subject.of(load_model(name), data.in_range(-1.0, 1.0)) for name in names]
    raw, averaged, other, again = (fingerprint(subject, Settings(), None) for subject in subjects)
    assert raw == again
    assert len({str(each["weights"]) for each in (raw, averaged, other)}) == 3
    assert len({str(each["answers"]) for each in (raw, averaged, other)}) == 3
    said = [subject.notes[-1].split(" (")[0] for subject in subjects[:3]]
    assert said == ["weights of net.pt", "weights of net.pt", "weights of a.pt"]

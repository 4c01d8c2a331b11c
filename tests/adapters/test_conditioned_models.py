"""`class=` and `guidance=` in the name of a model: the denoisers that they make, and what is refused."""

import re
from pathlib import Path

import pytest
import torch

from diffuscope.adapters import load_model
from diffuscope.adapters.model_inputs import conditioned_by
from diffuscope.cli.classes import notes_on_classes, read_classes
from diffuscope.data import toy_data
from diffuscope.denoisers import MLP, Guided, OfClass, Preconditioned, load_denoiser, save_denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import VE

MODULE = '''
import torch

from diffuscope.schedules import VE


class Network(torch.nn.Module):
    """EDM's convention; the answer is the class, and -1 without one."""

    img_channels, img_resolution, label_dim = 1, 4, 3
    sigma_min, sigma_max = 0.01, 50.0

    def forward(self, x, sigma, class_labels=None):
        known = class_labels is not None and bool(class_labels.any())
        answer = class_labels.argmax(1) if known else torch.full((len(x),), -1)
        return answer.to(x).reshape(-1, 1, 1, 1).expand_as(x)


net = Network().eval()


class Conditional:
    schedule, classes, data_range = VE(), 3, (-1.0, 1.0)

    def __init__(self):
        self.network = torch.nn.Linear(1, 1)

    def __call__(self, x_t, t, y=None):
        return torch.full_like(x_t, -1 if y is None else float(y)) + self.network.bias.detach()
'''


class Conditional:
    """Its answer is the class, and -1 without one."""

    schedule, classes = VE(), 3

    def __call__(self, x_t, t, y=None):  # noqa: ARG002
        return torch.full_like(x_t, -1 if y is None else float(y))


@pytest.fixture
def name(tmp_path, monkeypatch):
    module = f"conditioned_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"edm:{module}:net"


@pytest.mark.parametrize(("options", "answer"), [("class=2", 2), ("class=2&guidance=1", 2), ("class=2&guidance=3", 8)])
def test_the_name_of_a_model_may_guide_it(name, options, answer):
    """-1 + 3 (2 + 1) = 8."""
    model = load_model(f"{name}?{options}")
    assert isinstance(model, Guided if "=3" in options else OfClass)
    assert torch.equal(model(torch.zeros(2, 1, 4, 4), 1.0), torch.full((2, 1, 4, 4), float(answer)))


def test_the_rule_is_one_for_objects_of_ones_own_with_weights_or_without(name, tmp_path):
    own = name.removeprefix("edm:").replace(":net", ":Conditional")
    torch.save({"ema": {"weight": torch.zeros(1, 1), "bias": torch.full((1,), 10.0)}}, tmp_path / "net.pt")
    model = load_model(f"{own}?class=2&weights={tmp_path / 'net.pt'}&guidance=3&prefix=ema")
    assert isinstance(model, Guided)
    assert float(model(torch.zeros(1, 2), 1.0)[0, 0]) == 10 + 8
    assert getattr(model, "data_range", None) == (-1.0, 1.0)
    model = load_model(f"{own}?class=2", weights=tmp_path / "net.pt", weights_prefix="ema")
    assert isinstance(model, OfClass)
    assert float(model(torch.zeros(1, 2), 1.0)[0, 0]) == 10 + 2
    for options, message in (
        ("class=3", r"model: expected class=0 \.\. class=2, got class=3$"),
        ("guidance=3", "model: expected class=NUMBER with guidance=3$"),
        ("class=1&class=2", "model: option 'class' is given twice$"),
        ("class=1&steps=2", "model: expected .*:Conditional.weights=FILE&prefix=PREFIX, got 'steps=2'"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            load_model(f"{own}?{options}")


def test_the_rule_is_the_same_for_files_of_diffuscope(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    network = MLP((2,), width=8, depth=1, classes=3)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    save_denoiser(Preconditioned(network, VE(), 0.5, event_shape=(2,), data_range=(-1.0, 1.0)), "model.safetensors")
    whole, x = load_denoiser("model.safetensors"), torch.randn(4, 2, generator=generator)
    model = load_model("model.safetensors?class=1&guidance=2")
    assert torch.allclose(model(x, 0.7), 2 * whole(x, 0.7, torch.tensor([1] * 4)) - whole(x, 0.7), atol=1e-5)
    Path("model.safetensors").rename("a?class=1&b.safetensors")  # a file may be called so
    assert torch.equal(load_model("a?class=1&b.safetensors")(x, 0.7), whole(x, 0.7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("class=x", "model: expected class=NUMBER, got class=x"),
        ("class=3", r"model: expected class=0 \.\. class=2, got class=3"),
        ("class=1&guidance=x", "model: expected guidance=NUMBER, got guidance=x"),
        ("class=1&guidance=nan", "model: expected guidance=NUMBER, got guidance=nan"),
        ("guidance=2", "model: expected class=NUMBER with guidance=2"),
    ],
)
def test_what_names_no_class_is_refused(name, options, message):
    with pytest.raises(InputError, match=f"{message}$"):
        load_model(f"{name}?{options}")


def test_options_of_classes_are_taken_from_the_others():
    options: dict = {"class": 1, "guidance": 2.0, "event_shape": "1,4,4"}
    model = conditioned_by(options)(Conditional())
    assert options == {"event_shape": "1,4,4"}
    assert isinstance(model, Guided)
    assert float(model(torch.zeros(1, 2), 1.0)[0, 0]) == -1 + 2 * (1 + 1)


def test_notes_say_of_which_class_a_model_was_asked():
    data = toy_data("two-moons", n_train=40, n_heldout=40)
    (of_none,) = notes_on_classes(Conditional(), data)
    assert of_none.startswith(
        "the model has 3 classes and was audited without one, against all of the data, with 2 labels"
    )
    (of_one,) = notes_on_classes(Guided(OfClass(Conditional(), 1), OfClass(Conditional(), None), 2), data)
    assert of_one.startswith("the model was audited as class 1, against all of the data, with 2 labels; --classes 1")
    assert notes_on_classes(OfClass(Conditional(), None), data) == []


def test_classes_are_read_as_they_are_typed():
    assert read_classes(["2", "0"]) == [2, 0]
    assert read_classes(["all"]) is None
    for words in (["all", "1"], ["-1"], ["1.0"], ["²"], [""]):
        with pytest.raises(InputError, match=r"^classes: expected whole numbers >= 0, or all, got"):
            read_classes(words)

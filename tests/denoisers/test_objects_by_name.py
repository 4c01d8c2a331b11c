"""`module:object` finds a denoiser in the current folder, and says in one line why it does not."""

import sys
from typing import Any

import pytest
import torch

from diffuscope.denoisers import Weights, given_weights, load_callable, load_network
from diffuscope.errors import InputError
from diffuscope.files import load_object

SOURCE = '''
from diffuscope.schedules import VP

class Half:
    """D = x / 2."""
    schedule = VP()
    def __call__(self, x_t, t):
        return x_t / 2

class Sized(Half):
    def __init__(self, size): ...

class Mute:
    schedule = VP()

half = Half()

def build():
    return Half()

def build_for(size):
    return Half()

def function(x_t, t):
    return x_t / 2

function.schedule = VP()

class Space:
    inner = Half()

def nothing():
    return None

text_schedule = Half()
text_schedule.schedule = "VP"
'''


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(SOURCE)
    (tmp_path / "broken_model.py").write_text("raise RuntimeError('boom\\nand more')")
    (tmp_path / "needy_model.py").write_text("import a_package_that_is_not_installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("their_models", "broken_model", "needy_model"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["half", "Half", "build", "function", "Space.inner"])
def test_an_instance_a_class_and_a_function_that_makes_one_are_found_in_the_current_folder(name):
    denoiser = load_callable(f"their_models:{name}")
    x_t = torch.ones(2, 3)
    assert torch.equal(denoiser(x_t, 0.5), x_t / 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("their_models", "expected module:object, got 'their_models'"),
        ("their_models:", "expected module:object"),
        ("models.npz:half x", "expected module:object"),
        ("absent_models:half", "no module named 'absent_models'"),
        ("their_models.inner:half", "importing 'their_models.inner' failed|no module named 'their_models.inner'"),
        ("their_models:whole", "module 'their_models' has no 'whole'"),
        ("their_models:build_fro", "module 'their_models' has no 'build_fro'; did you mean build_for[?]$"),
        ("their_models.py:text_schedule", "no module named .*; did you mean their_models:text_schedule[?]$"),
        ("broken_model:half", "importing 'broken_model' failed with RuntimeError: boom$"),
        ("needy_model:half", "importing 'needy_model' failed with ModuleNotFoundError"),
        ("their_models:Sized", "Sized needs arguments"),
        ("their_models:build_for", "build_for needs arguments"),
        ("their_models:nothing", r"NoneType without a \.schedule"),
        ("their_models:text_schedule", r"without a \.schedule of diffuscope\.schedules"),
        ("their_models:Mute", "cannot be called"),
    ],
)
def test_each_way_to_fail_has_its_line(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        load_callable(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model: ")


def test_any_object_can_be_named_for_any_argument():
    assert load_object("math:pi", "features") == pytest.approx(3.141592653589793)
    with pytest.raises(InputError, match="features: module 'math' has no 'tau2'"):
        load_object("math:tau2", "features")


NETWORKS = """
import torch

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(1, 1)

def build():
    return Net()

kept = Net()
"""


@pytest.mark.parametrize("name", ["Net", "build", "kept"])
def test_weights_are_put_into_what_a_class_or_a_function_makes_or_into_a_copy_of_an_object(name, tmp_path):
    (tmp_path / "their_networks.py").write_text(NETWORKS)
    weights = {"weight": torch.tensor([[3.0]]), "bias": torch.tensor([4.0])}
    torch.save(weights, tmp_path / "net.pt")
    try:
        found: Any = load_network(f"their_networks:{name}", Weights("net.pt"))
        assert found(torch.tensor([[10.0]])).item() == 34
        assert isinstance(found, torch.nn.Module)
        kept = load_network(f"their_networks:{name}", None)
        assert kept is getattr(sys.modules["their_networks"], name)
        assert kept is not found
    finally:
        sys.modules.pop("their_networks", None)


@pytest.mark.parametrize(
    ("options", "weights", "prefix", "expected"),
    [
        ("", None, None, (None, "")),
        ("a=1", None, None, (None, "a=1")),
        ("weights=net.pt&a=1", None, None, (Weights("net.pt"), "a=1")),
        ("a=1&weights=net.pt&prefix=ema", None, None, (Weights("net.pt", "ema"), "a=1")),
        ("a=1", "net.pt", "ema", (Weights("net.pt", "ema"), "a=1")),
    ],
)
def test_weights_are_named_in_the_options_or_beside_them(options, weights, prefix, expected):
    assert given_weights(options, weights, prefix) == expected


@pytest.mark.parametrize(
    ("options", "weights", "prefix", "said"),
    [("weights=a.pt", "b.pt", None, "weights"), ("prefix=ema", None, None, "prefix"), ("", None, "ema", "prefix")],
)
def test_weights_twice_or_a_prefix_alone_are_refused(options, weights, prefix, said):
    with pytest.raises(InputError, match=said):
        given_weights(options, weights, prefix)

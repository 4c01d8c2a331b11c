"""Weights reach the network bit for bit, or one line says which names differ and which prefix would fit.

The reference is what PyTorch's own `load_state_dict` gives of the same tensors.
"""

import copy
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from diffuscope.denoisers import (
    NoisePredictor,
    Weights,
    load_callable,
    load_model,
    load_weights,
    loaded_weights,
    weights,
)
from diffuscope.errors import InputError
from diffuscope.schedules import DiscreteVP

MODULE = '''
import torch
from diffuscope.denoisers import NoisePredictor
from diffuscope.schedules import DiscreteVP, VP

class Network(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = torch.nn.Conv2d(1, width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(width)
        self.last = torch.nn.Conv2d(width, 1, 3, padding=1)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    def forward(self, x, time):
        return self.last(self.norm(self.first(x)).relu())

class Wide(Network):
    def __init__(self, width):
        super().__init__(width)

def denoiser():
    return NoisePredictor(Network(), DiscreteVP.linear(steps=1000), event_shape=(1, 8, 8), data_range=(-1.0, 1.0))

instance = denoiser()

def same_each_time():
    return instance

class Plain:
    """A denoiser that is no module."""
    schedule = VP()
    def __init__(self):
        self.parts = {"network": Network()}
    def __call__(self, x_t, t):
        return self.parts["network"](x_t, t)

class Two(Plain):
    def __init__(self):
        self.network, self.average = Network(), Network()

class Empty(Plain):
    def __init__(self):
        pass

network = Network()
def function(x_t, t):
    return network(x_t, t)
function.schedule = VP()
'''


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "weighed_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("weighed_models", None)


@pytest.fixture
def network():
    load_callable("weighed_models:denoiser")  # imports it
    made = sys.modules["weighed_models"].Network()
    with torch.no_grad():
        for value in [*made.parameters(), *made.norm.buffers()]:
            torch.nn.init.uniform_(value, 0.1, 1.0) if value.is_floating_point() else value.fill_(7)
    return made


def prefixed(prefix, state, factor=1):
    return {prefix + name: value * factor for name, value in state.items()}


def network_of(model):
    (found,) = [module for module in model.modules() if type(module).__name__ == "Network"]
    return found


def same(network, expected):
    state, other = network.state_dict(), expected if isinstance(expected, dict) else expected.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def loaded(content, prefix=None, spec="weighed_models:denoiser"):
    torch.save(content, "net.pt")
    return made(spec, weights="net.pt", weights_prefix=prefix)


def made(*arguments, **options) -> Any:
    """As `load_model`, of no type."""
    return load_model(*arguments, **options)


def refusal(content, prefix=None, spec="weighed_models:denoiser"):
    with pytest.raises(InputError) as caught:
        loaded(content, prefix, spec)
    line = str(caught.value)
    assert line.startswith("weights: ")
    assert "\n" not in line
    return line


WRITTEN = {
    "plain": lambda s: s,
    "lightning": lambda s: {"state_dict": s, "epoch": 1},
    "parallel": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "both": lambda s: {"model": prefixed("_orig_mod.module.", s)},
    "within": lambda s: {name.replace(".", "._orig_mod.", 1): value for name, value in s.items()},
    "of the denoiser": lambda s: prefixed("network.", s),
    "averaged by torch": lambda s: {"n_averaged": torch.tensor(3), **prefixed("module.", s)},
    "averages alone": lambda s: {"ema": s, "step": 3},
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_weights_as_people_keep_them_reach_the_network_bit_for_bit(kind, network):
    model = loaded(WRITTEN[kind](network.state_dict()))
    assert same(network_of(model), network)
    assert not model.training
    assert not network_of(model).training
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    direct = NoisePredictor(network.eval(), model.schedule, event_shape=(1, 8, 8), data_range=(-1.0, 1.0))
    assert torch.equal(model(x, 300), direct(x, 300))


def test_without_a_request_raw_weights_are_taken_and_averaged_ones_are_mentioned(network):
    state = network.state_dict()
    for content, prefix in [
        ({"model": state, "ema": prefixed("", state, 2)}, "ema"),
        ({"state_dict": state, "callbacks": {"E": {"ema_weights": prefixed("", state, 2)}}}, "callbacks.E.ema_weights"),
        ({"net": state, **prefixed("model_ema.", state, 2)}, "model_ema"),
        ({"params": state, "params_ema": prefixed("", state, 2)}, "params_ema"),
    ]:  # fmt: skip
        model = loaded(content)
        assert same(network_of(model), network)
        (said,) = loaded_weights(model)
        (line,) = said.warnings
        assert line.startswith(f"net.pt also has averaged weights, prefix {prefix} (--weights-prefix {prefix});")
        assert line in said.note
        model = loaded(content, prefix)
        assert same(network_of(model), prefixed("", state, 2))
        assert loaded_weights(model)[0].warnings == ()
        assert loaded_weights(model)[0].place == prefix


def test_averages_are_found_by_any_part_of_their_place(network):
    """As ema_pytorch keeps them: the trained model and its average inside one dictionary."""
    state = network.state_dict()
    content = {
        "model": prefixed("model.", state),
        "ema": {
            **prefixed("online_model.model.", state),
            **prefixed("ema_model.model.", state, 2),
            "step": torch.zeros(1),
        },
    }
    for prefix in ("ema_model", "ema.ema_model", "ema_model.model", "ema_model."):
        assert same(network_of(loaded(content, prefix)), prefixed("", state, 2))
    assert same(network_of(loaded(content, "model")), network)  # the whole name comes before a part of it
    assert same(network_of(loaded(content, "online_model")), network)
    line = refusal(content, "ema")
    assert "several weights of this network; expected a prefix" in line
    assert "'ema.online_model.model' or 'ema.ema_model.model'" in line


def test_names_with_another_prefix_are_refused_with_the_one_that_fits(network):
    for prefix in ("ema_model", "model", "diffusion.unet"):
        line = refusal(prefixed(f"{prefix}.", network.state_dict()))
        assert "10 of 10 missing (" in line
        assert f"it fits with the prefix {prefix} (--weights-prefix)" in line
        assert same(network_of(loaded(prefixed(f"{prefix}.", network.state_dict()), prefix)), network)


def test_what_is_missing_unexpected_or_of_another_shape_is_counted_and_named(network):
    state = network.state_dict()
    assert "net.pt does not fit Network: 1 of 10 missing (first.weight)" in refusal(
        {name: value for name, value in state.items() if name != "first.weight"}
    )
    assert "does not fit Network: 1 unexpected (more)" in refusal({**state, "more": torch.zeros(1)})
    assert "1 of another shape (first.bias: expected (4,), got (5,))" in refusal(
        {**state, "first.bias": torch.zeros(5)}
    )
    line = refusal({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)})
    assert "10 of 10 missing (mask, first.weight, first.bias, ...), 2 unexpected (weight, bias)" in line
    line = refusal({"model": state}, "ema")
    assert "has nothing under the prefix 'ema'; expected one of model; it fits with the prefix model" in line
    wide = sys.modules["weighed_models"].Wide(6).state_dict()
    assert "of another shape (first.weight: expected (4, 1, 3, 3), got (6, 1, 3, 3)" in refusal({"state_dict": wide})


def test_every_single_name_counts(network):
    """Leave out, rename or reshape each one in turn."""
    state = network.state_dict()
    for name in state:
        if not name.endswith("num_batches_tracked"):
            assert f"1 of 10 missing ({name})" in refusal({n: v for n, v in state.items() if n != name})
        assert "1 unexpected (renamed)" in refusal(
            {"renamed" if n == name else n: v for n, v in state.items()}
        )  # fmt: skip
        assert name in refusal({**state, name: torch.zeros(9, 9)})


def test_a_count_that_old_files_lack_and_layers_that_were_renamed_are_converted_by_the_network_itself(network):
    """PyTorch's own hooks: BatchNorm's counter, and weight_norm before it was a parametrization."""
    old = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    model = loaded(old)
    assert torch.equal(network_of(model).first.weight, network.first.weight)

    normed: Any = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    state = {
        "0.bias": torch.ones(2),
        "0.weight_g": torch.full((2, 1), 2.0),
        "0.weight_v": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
    }
    torch.save(state, "net.pt")
    load_weights(normed, Weights("net.pt"))
    assert torch.allclose(normed[0].weight.norm(dim=1), torch.full((2,), 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(dtype, network):
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in network.state_dict().items()}
    model = loaded(state)
    expected = {n: v.float() if v.is_floating_point() else v for n, v in state.items()}
    assert same(network_of(model), expected)
    short = str(dtype).removeprefix("torch.")
    assert f"{short} was converted to float32" in loaded_weights(model)[0].note


def test_values_that_are_not_finite_are_refused_but_in_masks(network):
    state = network.state_dict()
    assert same(network_of(loaded(state)), network)  # whose mask has -inf
    for name in ("first.weight", "norm.running_var"):
        for bad in (float("nan"), float("inf")):
            wrong = {n: v.clone() for n, v in state.items()}
            wrong[name].view(-1)[1] = bad
            total = wrong[name].numel()
            assert f"1 of {total} values of {name} are NaN or infinite" in refusal(wrong)
    assert "values of mask are NaN" in refusal({**state, "mask": torch.tensor([float("-inf"), 0.0])})
    large = {**state, "first.bias": torch.full((4,), 1e300, dtype=torch.float64)}
    assert "4 of 4 values of first.bias are too large for float32" in refusal(large)


def test_integers_quantized_and_sparse_tensors_are_no_weights_of_a_real_network(network):
    state, bias = network.state_dict(), torch.ones(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but in files
        quantized = torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)
    for wrong, what in [
        (bias.long(), "expected numbers like torch.float32, got torch.int64"),
        (bias.bool(), "got torch.bool"),
        (bias.to(torch.complex64), "got torch.complex64"),
        (bias.to_sparse(), "got one that is torch.sparse_coo"),
        (quantized, "got one that is quantized"),
    ]:
        assert what in refusal({**state, "first.bias": wrong})


def test_averages_without_names_are_matched_by_the_order_of_the_parameters(network):
    """As diffusers, torch_ema and score_sde keep them; buffers come from the raw weights beside them."""
    doubled = [2 * value.detach() for value in network.parameters()]
    content = {"model": network.state_dict(), "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": doubled}}
    model = loaded(content)
    assert same(network_of(model), network)
    assert "prefix ema.shadow_params (--weights-prefix" in loaded_weights(model)[0].warnings[0]
    for prefix in ("ema", "shadow_params", "ema.shadow_params"):
        model = loaded(content, prefix)
        names = dict(network.named_parameters())
        expected = {n: 2 * v if n in names else v for n, v in network.state_dict().items()}
        assert same(network_of(model), expected)
        assert "matched by their order, the others are those of model" in loaded_weights(model)[0].note
    alone = refusal({"shadow_params": doubled})
    assert "averages without names, which do not have mask, norm.running_mean, norm.running_var, ..." in alone
    assert "7 tensors without names for 6 parameters" in refusal({"shadow_params": [*doubled, doubled[0]]})
    turned = [doubled[1], doubled[0], *doubled[2:]]
    assert "first.weight expected (4, 1, 3, 3), got (4,)" in refusal({"shadow_params": turned})

    plain = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    plain[0].bias.requires_grad_(False)
    for some in ([*plain.parameters()], [v for v in plain.parameters() if v.requires_grad]):
        fresh = copy.deepcopy(plain)
        torch.save({"model": plain.state_dict(), "shadow_params": [v.detach() + 1 for v in some]}, "net.pt")
        load_weights(fresh, Weights("net.pt", "shadow_params"))
        moved = {id(v) for v in some}
        assert all(
            torch.equal(a, b + (id(b) in moved)) for a, b in zip(fresh.parameters(), plain.parameters(), strict=True)
        )


def test_shared_parameters_have_two_names_and_one_value():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    tied, value = Tied(), torch.arange(4.0).reshape(2, 2)
    torch.save({"a.weight": value, "b.weight": value.clone()}, "net.pt")
    load_weights(tied, Weights("net.pt"))
    assert torch.equal(tied.b.weight, value)
    torch.save({"shadow_params": [value + 1]}, "net.pt")
    tied = Tied()
    load_weights(tied, Weights("net.pt"))
    assert torch.equal(tied.b.weight, value + 1)
    torch.save({"a.weight": value, "b.weight": value + 1}, "net.pt")
    with pytest.raises(InputError, match="two names of one shared tensor must hold the same values"):
        load_weights(Tied(), Weights("net.pt"))


def test_a_network_that_wraps_others_is_loaded_from_outside_or_inside():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    compiled: Any = torch.compile(inner, backend="eager")
    for wrapped in (nn.Sequential(inner), nn.DataParallel(inner), compiled):
        for content in (wrapped.state_dict(), inner.state_dict(), prefixed("module.", inner.state_dict())):
            torch.save(prefixed("", content, 3), "net.pt")
            fresh = copy.deepcopy(wrapped)
            load_weights(fresh, Weights("net.pt"))
            assert same(fresh, prefixed("", wrapped.state_dict(), 3))


def test_a_part_that_has_constants_alone_is_no_network_inside():
    constants = nn.Sequential(nn.BatchNorm1d(2, affine=False))
    assert weights._wrapped(nn.Sequential(constants)) is None
    learned = nn.Sequential(nn.BatchNorm1d(2))
    assert weights._wrapped(nn.Sequential(learned)) is learned


def test_a_part_alone_is_not_enough():
    """Weights of one of two parts would leave the other one as it was drawn."""
    both = nn.ModuleDict({"encoder": nn.Linear(2, 2), "network": nn.Linear(2, 2)})
    torch.save(both["network"].state_dict(), "net.pt")
    with pytest.raises(InputError, match="does not fit ModuleDict: 4 of 4 missing"):
        load_weights(both, Weights("net.pt"))
    counted = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))  # statistics are learned, too
    torch.save(counted[1].state_dict(), "net.pt")
    with pytest.raises(InputError, match="does not fit Sequential"):
        load_weights(counted, Weights("net.pt"))


# Which object


@pytest.mark.parametrize("name", ["denoiser", "instance", "Plain", "function"])
def test_a_function_a_class_an_object_and_a_denoiser_that_is_a_function_take_weights(name, network):
    model = loaded(network.state_dict(), spec=f"weighed_models:{name}")
    (said,) = loaded_weights(model)
    assert said.count == sum(value.numel() for value in network.state_dict().values())
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = network.eval()(x, 0.5) if name in ("Plain", "function") else None
    assert expected is None or torch.equal(model(x, 0.5), expected)


def test_the_object_of_a_module_is_copied_so_that_two_models_of_it_differ(network):
    torch.save(network.state_dict(), "a.pt")
    torch.save(prefixed("", network.state_dict(), 2), "b.pt")
    kept = sys.modules["weighed_models"].instance
    before = copy.deepcopy(kept.state_dict())
    first, second = (load_model(f"weighed_models:instance?weights={file}.pt") for file in "ab")
    assert same(network_of(first), network)
    assert same(network_of(second), prefixed("", network.state_dict(), 2))
    assert same(kept, before)
    load_model("weighed_models:same_each_time", weights="a.pt")
    load_model("weighed_models:same_each_time", weights="a.pt")
    with pytest.raises(InputError, match=r"has those of a\.pt already; expected a function that builds a new network"):
        load_model("weighed_models:same_each_time", weights="b.pt")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Two", r"weights: expected one network in the Two, got 2 \(Network, Network\)"),
        ("Empty", r"weights: there is no torch\.nn\.Module with parameters in the Empty"),
        (
            "Network",
            r"model: .* is a network, which says neither .* NoisePredictor\(Network\(\.\.\.\), schedule",
        ),
        ("Wide", r"model: .*Wide needs arguments; .* a function of yours that calls Wide"),
        ("denoiser?event_shape=2", "model: expected weighed_models:denoiser.weights=FILE&prefix=PREFIX, got"),
        ("denoiser?weights=", "weights: expected a file, got no name"),
        ("absent", "model: module 'weighed_models' has no 'absent'"),
    ],
)
def test_other_objects_are_refused_with_what_to_do(spec, message, network):
    torch.save(network.state_dict(), "net.pt")
    weights = None if "?" in spec else "net.pt"
    with pytest.raises(InputError, match=f"^(model: )?{message}") as caught:
        load_model(f"weighed_models:{spec}", weights=weights)
    assert "\n" not in str(caught.value)


def test_a_prefix_without_weights_and_weights_twice_are_refused(network):
    torch.save(network.state_dict(), "net.pt")
    with pytest.raises(InputError, match=r"^weights_prefix: expected with weights only, got ema"):
        load_model("weighed_models:denoiser", weights_prefix="ema")
    with pytest.raises(InputError, match=r"^weights: expected them once, got net\.pt and weights=other\.pt"):
        load_model("weighed_models:denoiser?weights=other.pt", weights="net.pt")
    with pytest.raises(InputError, match=r"^weights: belong to a model module:object"):
        load_model("net.pt", weights="net.pt")


def test_the_note_says_which_file_by_its_digest(network):
    model = loaded(network.state_dict())
    (first,) = loaded_weights(model)
    assert first.note.startswith("weights of net.pt (SHA-256 ")
    assert len(first.digest) == 64
    assert isinstance(model.schedule, DiscreteVP)
    assert loaded_weights(copy.deepcopy(model)) == [first]
    assert loaded_weights(load_callable("weighed_models:denoiser")) == []

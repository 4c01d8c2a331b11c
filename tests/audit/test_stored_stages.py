"""A stored stage is read back only as it was written, and only for the same code, model, data and settings."""

import io
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from audit_subjects import QUICK, digits
from diffuscope import source
from diffuscope.audit import Subject
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.denoisers import tensors_within
from diffuscope.errors import InputError
from diffuscope.schedules import VE
from diffuscope.store import Store

WRITTEN = {"sums": np.arange(12.0).reshape(3, 4), "counts": np.array([1, 2])}


def archive(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def flipped(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


DAMAGES = {
    "truncated": lambda content: content[:-50],
    "empty": lambda _: b"",
    "one bit": flipped,
    "longer": lambda content: content + b"\0",
    "random bytes": lambda content: np.random.default_rng(0).bytes(len(content)),
    "other keys": lambda _: archive(other=WRITTEN["sums"]),
    "other shapes": lambda _: archive(sums=np.zeros(3), counts=WRITTEN["counts"]),
    "other types": lambda _: archive(sums=WRITTEN["sums"].astype(complex), counts=WRITTEN["counts"]),
    "not a number": lambda _: archive(sums=WRITTEN["sums"] * np.nan, counts=WRITTEN["counts"]),
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, {"model": "m"})


def remembered(store):
    """The arrays of the stage, and whether they were measured."""
    measured = []

    def measure():
        measured.append(True)
        return dict(WRITTEN)

    return store.remember("stage", measure), bool(measured)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_damaged_in_any_way_is_measured_again(store, damage):
    assert remembered(store)[1]
    path = store.folder / "stage.npz"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    for expected in (True, False):
        arrays, measured = remembered(store)
        assert measured == expected
        assert all(np.array_equal(arrays[name], WRITTEN[name]) for name in WRITTEN)


def test_a_folder_or_a_dangling_link_in_place_of_the_file_is_replaced(store, tmp_path):
    path = store.folder / "stage.npz"
    (path / "inside").mkdir(parents=True)
    assert remembered(store)[1]
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    assert remembered(store)[1]
    assert not remembered(store)[1]


def test_a_file_in_place_of_the_folder_is_found_before_the_work(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(InputError, match=r"out: cannot create the folder .*state"):
        Store(tmp_path, {})


class Shrinking:
    """D = weight x at every level, but `offset` more within a narrow band of times."""

    schedule = VE()

    def __init__(self, weight=0.5, band=None):
        self.weight, self.band = weight, band

    def __call__(self, x_t, t):
        inside = self.band is not None and self.band[0] < float(t) < self.band[1]
        return self.weight * x_t + (1e-3 if inside else 0.0)


@pytest.fixture(scope="module")
def x():
    return digits(0)


def key(x, denoiser):
    return fingerprint(Subject(denoiser, x[:40], x[40:80]), QUICK, None)


def test_a_model_that_differs_at_any_one_level_is_another_model(x):
    first = key(x, Shrinking())
    assert key(x, Shrinking()) == first
    # nine bands between the audit's lowest and highest level, each of which holds some of its times
    ratios = torch.logspace(math.log10(0.05), math.log10(30), 10, dtype=torch.float64)
    times = VE().time_of_noise_to_signal(ratios).tolist()
    for band in itertools.pairwise(times):
        assert key(x, Shrinking(band=band))["answers"] != first["answers"], band


class Wrapped:
    """A network within an object; `unused` never changes an answer."""

    schedule = VE()

    def __init__(self, network, unused=None):
        self.parts = {"network": [network]}
        self.unused = unused

    def __call__(self, x_t, t):
        del t
        return x_t * float(self.parts["network"][0].weight.sum()) * 0.0


def test_every_parameter_and_buffer_of_a_wrapped_network_is_in_the_key(x):
    """These models answer alike, so that only their tensors can tell them apart."""

    def model(change=nn.Module.eval):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Linear(2, 2)
        network.register_buffer("steps", torch.zeros(3, dtype=torch.int64), persistent=False)
        with torch.no_grad():
            change(network)
        return Wrapped(network)

    first = key(x, model())
    assert key(x, model()) == first
    for change in (lambda n: n.weight[0, 0].add_(1e-6), lambda n: n.bias[1].add_(1.0), lambda n: n.steps[2].add_(1)):
        other = key(x, model(change))
        assert other["answers"] == first["answers"]
        assert other["weights"] != first["weights"]
    assert key(x, Wrapped(model().parts["network"][0], unused=np.ones(3)))["weights"] != first["weights"]


GLOBAL_NETWORK = nn.Linear(2, 2).bfloat16()


def test_networks_are_found_behind_functions_methods_and_cycles():
    network = nn.Linear(3, 1)
    expected = {id(parameter) for parameter in network.parameters()}

    def closure(x_t, t):
        return network(x_t), t

    class Slotted:
        __slots__ = ("network", "own")

    slotted, cyclic = Slotted(), Wrapped(network)
    slotted.network, slotted.own = network, slotted
    cyclic.unused = cyclic
    for model in (
        closure,
        partial(closure, t=0),
        Wrapped(network).__call__,
        slotted,
        cyclic,
        [(closure,)],
        {1: network},
    ):
        assert expected == {id(tensor) for tensor in tensors_within(model)}

    def uses_a_global(x_t, t):
        return GLOBAL_NETWORK(x_t), t

    assert {id(p) for p in GLOBAL_NETWORK.parameters()} == {id(tensor) for tensor in tensors_within(uses_a_global)}


def test_a_change_of_the_code_is_in_the_key_and_one_of_the_command_line_is_not():
    """The files that the questions import, directly or not."""
    from diffuscope.audit.fingerprint import CODE

    names = {path.relative_to(source.ROOT).as_posix() for path in source.imported_files(CODE)}
    assert {"audit/session.py", "audit/level_measures.py", "samplers/ode.py", "denoisers/contract.py"} <= names
    assert not {name for name in names if name.startswith(("cli/", "experiments/", "training/"))}

"""Examples held as bytes are, for every operation, the float32 tensor of the same values."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from diffuscope import byte_examples
from diffuscope.byte_examples import ByteExamples, as_floats, float_parts
from diffuscope.errors import InputError

N, EVENT = 10, (3, 4, 5)
TABLE = torch.arange(256.0).div(255).mul(2).sub(1)  # as bytes are mapped to [-1, 1]
BYTES = torch.randint(0, 256, (40, *EVENT), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLACES = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:N]

HELD = {
    "all of them": ByteExamples(BYTES[:N].clone(), TABLE),
    "channels last": ByteExamples(BYTES[:N].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), TABLE),
    "by an index": ByteExamples(BYTES, TABLE, PLACES),
}
PLAIN = {
    "all of them": TABLE[BYTES[:N].long()],
    "channels last": TABLE[BYTES[:N].long()],
    "by an index": TABLE[BYTES[PLACES].long()],
}
LAZY: dict[str, Callable[[Tensor], Tensor]] = {
    "slice": lambda x: x[2:7],
    "every second": lambda x: x[1::2],
    "last": lambda x: x[-3:],
    "none": lambda x: x[:0],
    "beyond the end": lambda x: x[8:100],
    "narrow": lambda x: x.narrow(0, 2, 3),
    "split": lambda x: x.split(4)[2],
    "sizes": lambda x: x.split([1, 7, 2])[1],
    "chunk": lambda x: x.chunk(3)[1],
    "flatten": lambda x: x.flatten(1),
    "reshape": lambda x: x.reshape(len(x), -1),
    "view": lambda x: x.view(N, 3, 20),
    "back": lambda x: x.flatten(1).reshape(N, *EVENT),
    "slice of rows": lambda x: x.flatten(1)[3:5],
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "contiguous": lambda x: x.contiguous(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to(torch.float32),
    "float": lambda x: x.float(),
    "whole": lambda x: x[:],
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}
PLAINLY: dict[str, Callable[[Tensor], Tensor]] = {
    "one": lambda x: x[3],
    "last one": lambda x: x[-1],
    "indices": lambda x: x[torch.tensor([4, -1, 4])],
    "list": lambda x: x[[1, 2]],
    "mask": lambda x: x[torch.arange(len(x)) % 3 == 0],
    "index_select": lambda x: x.index_select(0, torch.tensor([5, 0])),
    "table of indices": lambda x: x[torch.tensor([[1, 2], [3, 0]])],
    "rows and channels": lambda x: x[torch.tensor([1, 2]), 0],
    "channel": lambda x: x[:, 0],
    "columns": lambda x: x[..., 1:3],
    "element": lambda x: x[3, 1, 0, 2],
    "new axis": lambda x: x[None],
    "iteration": lambda x: torch.stack(list(x)),
    "unbind": lambda x: x.unbind()[2],
    "flat": lambda x: x.flatten(),
    "clone": lambda x: x.clone(),
    "double": lambda x: x.double(),
    "cat": lambda x: torch.cat([x, x[:2], torch.ones(1, *EVENT)]),
    "sum": lambda x: x + torch.ones(EVENT),
    "from the left": lambda x: 1 - x,
    "in place of others": lambda x: torch.zeros(N, *EVENT).copy_(x),
    "variance": lambda x: x.flatten(1).var(0),
    "product": lambda x: x.flatten(1) @ torch.ones(60, 2),
    "mean": lambda x: x.mean(),
    "comparison": lambda x: (x == x[:1]).float(),
    "convolution": lambda x: torch.nn.functional.conv2d(x, torch.ones(2, 3, 2, 2)),
    "columns from anywhere": lambda x: x.flatten(1).gather(0, torch.arange(120).reshape(2, 60) % len(x)),
    "first columns": lambda x: x.flatten(1).gather(0, torch.arange(6).reshape(3, 2)),
    "channels from anywhere": lambda x: x.flatten(1).gather(1, torch.arange(N)[:, None]),
    "flip": lambda x: x.flip(-1),
    "transpose": lambda x: x.flatten(1).T,
    "numpy": lambda x: torch.from_numpy(x.numpy()),
    "asarray": lambda x: torch.from_numpy(np.asarray(x)),
    "float64 array": lambda x: torch.from_numpy(np.asarray(x, dtype=np.float64)),
    "tolist": lambda x: torch.tensor(x.tolist()),
    "as floats": as_floats,
    "parts": lambda x: torch.cat(list(float_parts(x, rows=3))),
    "like it": lambda x: torch.zeros_like(x),
    "new": lambda x: x.new_full((2, 3), 4.0),
}


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def bytes_of(x: Tensor) -> Tensor:
    assert isinstance(x, ByteExamples)
    return x.bytes


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("operation", {**LAZY, **PLAINLY})
def test_every_operation_gives_what_it_gives_of_the_float32_tensor_bit_for_bit(operation, held):
    function = {**LAZY, **PLAINLY}[operation]
    x, plain = HELD[held], PLAIN[held]
    result = function(x)
    assert same(result, function(plain))
    assert isinstance(result, ByteExamples) == (operation in LAZY)
    assert torch.equal(as_floats(x), plain)


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("operation", LAZY)
def test_what_only_arranges_examples_makes_no_floats(monkeypatch, operation, held):
    monkeypatch.setattr(byte_examples, "LARGEST", 0)
    if operation == "pickle":
        pytest.skip("it writes bytes")
    assert isinstance(LAZY[operation](HELD[held]), ByteExamples)


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("aten.var", lambda x: x.flatten(1).var(0)),
        ("aten._to_copy", lambda x: x.double()),
        ("aten.cat", lambda x: torch.cat([x, x])),
        ("aten.add", lambda x: x + 1),
        ("numpy", lambda x: x.numpy()),
        ("numpy", np.asarray),
        ("tolist", lambda x: x.tolist()),
        ("aten.randn_like", torch.randn_like),
        ("as_floats", as_floats),
    ],
)
def test_an_operation_on_more_than_is_allowed_is_refused_by_name(monkeypatch, name, operation):
    x = HELD["all of them"]
    monkeypatch.setattr(byte_examples, "LARGEST", 4 * x.numel())
    operation(x)
    monkeypatch.setattr(byte_examples, "LARGEST", 4 * x.numel() - 1)
    with pytest.raises(InputError, match=rf"^{name}\S*: 10 x .* values held as bytes would take .* part by part$"):
        operation(x)
    operation(x[1:])  # one example less


def test_much_that_is_chosen_stays_bytes_and_little_becomes_floats(monkeypatch):
    x, plain, chosen = HELD["by an index"], PLAIN["by an index"], torch.tensor([7, 0, -2, 7])
    monkeypatch.setattr(byte_examples, "LARGEST", 2 * 4 * 60)
    for places in (chosen, torch.arange(N) % 2 == 0):
        assert isinstance(x[places], ByteExamples)
        assert same(x[places], plain[places])
    assert not isinstance(x[chosen[:2]], ByteExamples)
    assert same(x[chosen][1:3][torch.tensor([1, 0])], plain[chosen][1:3].flip(0))
    assert isinstance(x.clone(), ByteExamples)
    assert same(x.rows(chosen[:1]), plain[chosen[:1]])


def test_equality_is_by_parts(monkeypatch):
    x, plain = HELD["by an index"], PLAIN["by an index"]
    monkeypatch.setattr(byte_examples, "LARGEST", 0)
    monkeypatch.setattr(byte_examples, "PART", 4 * 60 * 3)
    other = plain.clone()
    other[-1, -1, -1, -1] += 1
    assert torch.equal(x, plain)
    assert torch.equal(plain, plain)
    assert not torch.equal(x, other)
    assert not torch.equal(x, plain[1:])
    assert [len(part) for part in float_parts(x)] == [3, 3, 3, 1]
    assert [len(part) for part in float_parts(plain, rows=2)] == [2] * 5


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.zero_(),
        lambda x: x.__setitem__(0, 1),
        lambda x: x[2:4].fill_(0),
        lambda x: x.copy_(torch.zeros(N, *EVENT)),
        lambda x: torch.add(torch.ones(N, *EVENT), 1, out=x),
    ],
)
def test_nothing_is_written_into_it(write):
    x = HELD["all of them"]
    with pytest.raises(InputError, match="cannot be written into"):
        write(x)
    assert torch.equal(x, PLAIN["all of them"])


def test_the_bytes_are_those_stored_and_no_copy_unless_an_index_lists_them(monkeypatch):
    stored = BYTES[:N].clone()
    x = ByteExamples(stored, TABLE)
    assert x.bytes.data_ptr() == stored.data_ptr()
    assert bytes_of(x[2:].flatten(1)).data_ptr() == stored[2:].data_ptr()
    assert torch.equal(bytes_of(x[2:].flatten(1)), stored[2:].flatten(1))
    assert torch.equal(HELD["channels last"].bytes, stored)
    listed = HELD["by an index"]
    assert torch.equal(listed.bytes, BYTES[PLACES])
    monkeypatch.setattr(byte_examples, "LARGEST", listed.numel() - 1)
    assert x.bytes.numel() == listed.numel()
    with pytest.raises(InputError, match="as bytes"):
        _ = listed.bytes
    assert torch.equal(bytes_of(listed[3:]), BYTES[PLACES[3:]])


def test_other_values_of_the_same_bytes_are_the_map_of_the_values():
    x, plain = HELD["by an index"], PLAIN["by an index"]

    def function(v: Tensor) -> Tensor:
        return v.add_(1).div_(3)

    assert same(x.mapped(function), plain.clone().add_(1).div_(3))
    assert torch.equal(x, plain)


def test_the_affine_map_from_bytes_to_values():
    x = ByteExamples(BYTES, TABLE)
    assert (x.scale, x.offset) == (2 / 255, -1)
    assert torch.allclose(x.offset + x.scale * x.bytes.double(), x.double(), rtol=0, atol=2.0**-23)
    bent = x.mapped(lambda v: v.square())
    for name in ("scale", "offset"):
        with pytest.raises(InputError, match="expected them affine in the byte"):
            getattr(bent, name)


def test_an_index_is_of_the_examples_there_are():
    for places in ([0, 40], [-1]):
        with pytest.raises(InputError, match="index: expected places from 0 to 39, got"):
            ByteExamples(BYTES, TABLE, torch.tensor(places))


def test_it_is_a_float32_tensor_of_its_shape_without_a_gradient():
    x = HELD["by an index"]
    this: Any = Float32[Tensor, "n 3 4 5"]
    another: Any = Float32[Tensor, "n 3 4"]
    assert isinstance(x, this)
    assert not isinstance(x, another)
    assert len(x) == N
    assert x.ndim == 4
    assert x.numel() == 600
    assert not x.requires_grad
    assert x.is_floating_point()
    w = torch.ones(60, requires_grad=True)
    (x.flatten(1) @ w).sum().backward()
    assert w.grad is not None
    assert torch.allclose(w.grad, PLAIN["by an index"].flatten(1).sum(0), rtol=1e-5, atol=1e-5)  # order of summation


def test_mapped_files_are_read_and_never_changed(tmp_path):
    np.save(tmp_path / "x.npy", BYTES.numpy())
    stored = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    x = ByteExamples(stored, TABLE, PLACES)
    assert torch.equal(x, PLAIN["by an index"])


def test_a_single_place_is_an_index_and_one_beyond_the_end_is_none():
    whole = ByteExamples(BYTES, TABLE, torch.tensor([39]))
    assert torch.equal(as_floats(whole)[0], TABLE[BYTES[39].long()])
    assert len(ByteExamples(BYTES, TABLE, torch.tensor([], dtype=torch.int64))) == 0
    for places in ([40], [-1, 3]):
        with pytest.raises(InputError, match=f"expected places from 0 to 39, got {min(places)} .. {max(places)}"):
            ByteExamples(BYTES, TABLE, torch.tensor(places))


def test_parts_take_no_more_than_their_bytes_and_one_example_at_least(monkeypatch):
    monkeypatch.setattr("diffuscope.byte_examples.PART", 48)
    assert [len(part) for part in float_parts(torch.zeros(7, 4))] == [3, 3, 1]  # 16 bytes each
    assert [len(part) for part in float_parts(torch.zeros(3, 40))] == [1, 1, 1]
    assert [len(part) for part in float_parts(torch.zeros(7, 4), rows=2)] == [2, 2, 2, 1]
    assert [len(part) for part in float_parts(torch.zeros(5, 0))] == [5]  # of no values
    assert [len(part) for part in float_parts(torch.zeros(0, 4))] == [0]


def test_values_that_require_gradients_are_kept_without_their_graph():
    x = ByteExamples(BYTES, TABLE.clone().requires_grad_(), PLACES)
    assert not x.values.requires_grad
    assert not (2 * x).requires_grad
    assert torch.equal(x[:3], PLAIN["by an index"][:3])


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_bytes_come_in_parts_as_floats_do(held):
    for rows in (None, 3, 100):
        parts = list(held.byte_parts(rows=rows))
        floats = list(float_parts(held, rows=rows))
        assert [len(part) for part in parts] == [len(part) for part in floats]
        assert torch.equal(TABLE[torch.cat(parts).long()], torch.cat(floats))
    assert [len(part) for part in held[:0].byte_parts()] == [0]
    assert repr(held) == "ByteExamples((10, 3, 4, 5), -1 .. 1)"


@pytest.mark.parametrize("name", HELD)
def test_chosen_places_are_plain_floats_and_unequal_sets_are_unequal(name):
    held, plain = HELD[name], PLAIN[name]
    places = torch.tensor([3, 3, 0, 9])
    assert torch.equal(byte_examples.floats_at(held, places), plain[places])
    assert torch.equal(byte_examples.floats_at(plain, places), plain[places])
    assert type(byte_examples.floats_at(held, places)) is Tensor
    assert torch.equal(held, plain)
    assert not torch.equal(held, plain[:9])
    changed = plain.clone()
    changed[-1, -1, -1, -1] += 1
    assert not torch.equal(held, changed)


def test_a_table_is_affine_up_to_four_roundings_of_its_largest_value():
    """The largest of |-1| .. |1| is 1: 4 * 2^-23."""
    straight = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for off, fits in ((3.9, True), (4.3, False)):
        bent = straight.clone()
        bent[100] += off * 2.0**-23
        x = ByteExamples(torch.zeros(1, 1, dtype=torch.uint8), bent.float())
        if fits:
            assert (x.scale, x.offset) == (pytest.approx(1 / 127.5), -1)
            assert x._affine()[2] == pytest.approx(off * 2.0**-23, abs=2.0**-27)  # in double precision
        else:
            with pytest.raises(InputError, match="expected them affine in the byte"):
                _ = x.scale


def test_bytes_are_looked_up_block_by_block_and_views_keep_their_order():
    """2^20 values are looked up at once; here they are one more."""
    table = torch.arange(256.0) * 2 - 7
    stored = (torch.arange(2**20 + 1) % 251).to(torch.uint8)[:, None]
    assert torch.equal(ByteExamples(stored, table).floats(), table[stored.long()])
    x = ByteExamples(torch.arange(24, dtype=torch.uint8).reshape(4, 2, 3), table)
    assert x.view(4, -1).shape == (4, 6)
    assert x.view(-1, 6).tolist() == x.floats().view(-1, 6).tolist()
    assert x.view(8, 3).shape == (8, 3)
    assert [part.tolist() for part in x.split(3)] == [part.tolist() for part in x.floats().split(3)]
    assert x[-1].tolist() == x.floats()[-1].tolist()
    assert x[1:3, :, 1].tolist() == x.floats()[1:3, :, 1].tolist()


@pytest.mark.parametrize(("stop", "whole"), [(2, False), (3, True), (100, True)])
def test_a_slice_of_all_channels_stays_in_bytes(stop: int, whole: bool):
    x = torch.ops.aten.slice(HELD["by an index"], 1, 0, stop)
    assert isinstance(x, ByteExamples) == whole
    assert as_floats(x).tolist() == PLAIN["by an index"][:, :stop].tolist()


def test_entries_are_looked_up_that_take_as_many_bytes_as_are_allowed(monkeypatch):
    """120 entries take 480 bytes as floats; all examples would take 2,400."""
    x, places = HELD["by an index"].flatten(1), torch.arange(120).reshape(2, 60) % N
    monkeypatch.setattr(byte_examples, "LARGEST", 480)
    assert x.gather(0, places).tolist() == PLAIN["by an index"].flatten(1).gather(0, places).tolist()
    monkeypatch.setattr(byte_examples, "LARGEST", 479)
    with pytest.raises(InputError, match="10 x 60 values held as bytes would take"):
        x.gather(0, places)

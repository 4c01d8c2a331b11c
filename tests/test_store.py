"""A stored stage is read only as it was written, and only for the same inputs; of several processes one keeps it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffuscope import store as stores
from diffuscope.distributed import rank, sharing
from diffuscope.errors import InputError
from diffuscope.store import Store
from threads_as_processes import in_processes

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


def test_other_inputs_have_another_folder_in_any_order_of_their_names(tmp_path):
    inputs: list[dict[str, object]] = [{"a": 1, "b": Path("x")}, {"b": Path("x"), "a": 1}, {"a": 1}]
    first, again, other = (Store(tmp_path, each).folder for each in inputs)
    assert first is not None
    assert first == again != other
    assert first.parent == tmp_path / "state"
    assert len(first.name) == 16
    assert Store(None, {}).folder is None


def test_without_a_folder_every_stage_is_computed():
    store, made = Store(None, {}), []
    for _ in range(2):
        assert list(store.remember_each({"a": lambda: made.append(1) or WRITTEN})) == [WRITTEN]
        assert store.remember_together("a", lambda: made.append(1) or WRITTEN) == WRITTEN
    assert len(made) == 4


def test_stages_come_in_order_and_only_the_missing_ones_are_computed(store):
    made: list[str] = []

    def stages() -> list[Any]:
        return [
            each["x"].item()
            for each in store.remember_each(
                {name: lambda name=name: made.append(name) or {"x": np.array(name)} for name in "abc"}
            )
        ]

    store.remember("b", lambda: {"x": np.array("kept")})
    assert stages() == ["a", "kept", "c"]
    assert stages() == ["a", "kept", "c"]
    assert made == ["a", "c"]
    assert store.remember_together("c", lambda: 1 / 0)["x"] == "c"


def test_a_stage_without_arrays_counts_as_missing(store):
    made: list[int] = []
    for _ in range(2):
        assert store.remember_together("empty", lambda: made.append(1) or {}) == {}
    assert len(made) == 2


def test_a_full_disk_is_one_line(store, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "replace_atomically", full)
    with pytest.raises(InputError, match=rf"^out: cannot write a.npz to {store.folder} \(No space left on device\)$"):
        store.remember("a", lambda: WRITTEN)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_stages_and_process_0_alone_reads_and_writes(tmp_path, monkeypatch, count):
    touched: list[tuple[str, bool]] = []
    real = stores._read, stores._written

    def noted(place: int) -> Any:
        return lambda path, *rest: touched.append((path.name, Path(str(path)).exists())) or real[place](path, *rest)

    monkeypatch.setattr(stores, "_read", noted(0))
    monkeypatch.setattr(stores, "_written", noted(1))
    made: list[str] = []

    def work() -> Any:
        mine = rank()

        def stage(name: str) -> Any:
            made.append(f"{name}{mine}")
            return {"x": np.array(name)}

        with sharing():
            store = Store(tmp_path, {})
            names = [each["x"].item() for each in store.remember_each({n: lambda n=n: stage(n) for n in "abcde"})]
            return names, store.remember_together("f", lambda: {"x": np.array(1)})["x"].item()

    for _ in range(2):
        assert in_processes(monkeypatch, count, work) == [(list("abcde"), 1)] * count
    assert sorted(made) == [f"{name}{place % count}" for place, name in enumerate("abcde")]
    # once missing and once written, then once read
    assert sorted(touched) == sorted([(f"{n}.npz", there) for n in "abcdef" for there in (False, False, True)])

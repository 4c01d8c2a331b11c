"""What one process computes for the others."""

from typing import Any

import numpy as np
import pytest
import torch

from diffuscope import shared_work
from diffuscope.distributed import ENDED, CrashedElsewhereError, FailedElsewhereError, processes, rank, sharing
from diffuscope.errors import InputError
from diffuscope.shared_work import _array, shared, shared_rows, shared_tensors, told_by_process_0
from threads_as_processes import Group, in_processes

CPU = torch.device("cpu")


def test_a_piece_is_sent_as_numbers_though_it_carries_a_graph():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    sent = _array(lambda: 3 * weight)
    assert np.array_equal(sent["array"], [3.0, 6.0])


def test_one_process_alone_computes_every_piece_itself_and_in_order():
    pieces = [lambda k=k: torch.full((k,), float(k)) for k in (1, 2)]
    assert [part.tolist() for part in shared_tensors(pieces, CPU)] == [[1.0], [2.0, 2.0]]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_piece_is_made_by_its_process_alone_and_received_by_all(monkeypatch, count):
    made: list[Any] = []

    def work() -> Any:
        mine = rank()

        def piece(i: int) -> Any:
            made.append((i, mine, rank(), processes()))
            return {"square": np.array([i**2] * i), "name/of": np.array(i)} if i != 2 else {}

        with sharing():
            return [shared([lambda i=i: piece(i) for i in range(5)]), shared([])]

    for whole, empty in in_processes(monkeypatch, count, work):
        assert empty == []
        assert whole[2] == {}
        for i in (0, 1, 3, 4):
            assert whole[i].keys() == {"square", "name/of"}
            assert np.array_equal(whole[i]["square"], [i**2] * i)
            assert whole[i]["name/of"] == i
    assert sorted(made) == [(i, i % count, 0, 1) for i in range(5)]


def test_outside_of_sharing_every_process_makes_all_pieces(monkeypatch):
    made: list[int] = []
    in_processes(monkeypatch, 2, lambda: shared([lambda i=i: made.append(i) or {} for i in range(3)]))
    assert sorted(made) == [0, 0, 1, 1, 2, 2]


def test_rows_in_blocks_and_words_are_those_of_one_process(monkeypatch):
    x = torch.arange(14.0).reshape(7, 2)

    def work() -> Any:
        with sharing():
            rows = shared_rows(lambda part: part.sum(1) + len(part), x, 3)
            tensors = shared_tensors([lambda i=i: torch.full((i,), rank()) for i in range(4)], CPU)
            word = told_by_process_0(lambda: {"rank": rank(), "of": (1, None)})
        return rows, tensors, word

    for rows, tensors, word in in_processes(monkeypatch, 2, work):
        assert torch.equal(rows, x.sum(1) + torch.tensor([3.0, 3, 3, 3, 3, 3, 1]))
        assert [part.tolist() for part in tensors] == [[], [0], [0, 0], [0, 0, 0]]
        assert word == {"rank": 0, "of": [1, None]}
    assert told_by_process_0(lambda: (1, None)) == (1, None)


@pytest.mark.parametrize(
    ("raised", "elsewhere", "line"),
    [(InputError("data: odd"), FailedElsewhereError, "data: odd"), (KeyError(3), CrashedElsewhereError, "KeyError: 3")],
)
def test_an_error_in_a_piece_is_raised_in_all_processes(monkeypatch, raised, elsewhere, line):
    def work() -> Any:
        def fail() -> Any:
            raise raised

        with sharing():
            return shared([lambda: {"a": np.array(1)}, fail, lambda: {}])

    found = in_processes(monkeypatch, 3, work)
    assert found[1] is raised
    assert [(type(found[r]), str(found[r])) for r in (0, 2)] == [(elsewhere, line)] * 2


def test_processes_that_part_are_stopped(monkeypatch):
    """One has made another call before, or asks for more pieces."""

    def more_pieces() -> Any:
        with sharing():
            return shared([dict] * (2 + rank()))

    def another_block() -> Any:
        if rank():
            with sharing():
                pass
        with sharing():
            return shared([dict])

    def another_call() -> Any:
        if rank():
            next(shared_work._CALLS)
        with sharing():
            return shared([dict])

    for work in (more_pieces, another_block, another_call):
        for error in in_processes(monkeypatch, 2, work):
            assert isinstance(error, RuntimeError)
            assert "no longer do the same" in str(error)


def test_a_process_that_has_ended_ends_the_others(monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("connection closed")

    monkeypatch.setattr(Group, "all_gather", broken)

    def work() -> Any:
        with sharing():
            return shared([dict])

    for error in in_processes(monkeypatch, 2, work):
        assert isinstance(error, FailedElsewhereError)
        assert str(error) == ENDED

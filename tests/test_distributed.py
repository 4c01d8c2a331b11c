"""What several processes share and who makes what; here as threads, with the group's functions in small."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from diffuscope import distributed
from diffuscope.distributed import (
    CrashedElsewhereError,
    FailedElsewhereError,
    alone,
    blocks_of_sharing,
    gathered,
    host_group,
    made_by_all,
    of_process_0,
    process_group,
    processes,
    rank,
    require_device,
    require_even,
    require_same,
    said_by_process_0,
    shard,
    share,
    sharers,
    sharing,
    summed,
    wait_for_all,
)
from diffuscope.errors import InputError
from threads_as_processes import in_processes

CPU = torch.device("cpu")


def test_who_they_are_and_that_nothing_is_shared_alone_or_outside_of_sharing(monkeypatch):
    def work() -> Any:
        with alone(), sharing():
            within = rank(), processes(), sharers()
        with sharing(), sharing():
            inner = rank(), processes(), sharers(), blocks_of_sharing()
        with sharing(), alone():
            apart = sharers()
        return rank(), processes(), sharers(), within, inner, apart, blocks_of_sharing(), host_group()

    found = in_processes(monkeypatch, 3, work)
    assert found == [(r, 3, 1, (0, 1, 1), (r, 3, 3, 3), 1, 4, "all") for r in range(3)]
    assert (rank(), processes(), sharers(), host_group()) == (0, 1, 1, None)


def test_in_a_group_that_others_made_each_works_alone(monkeypatch):
    def work() -> Any:
        distributed._HERE.host = None
        with sharing():
            return rank(), processes(), sharers(), blocks_of_sharing()

    assert in_processes(monkeypatch, 2, work) == [(0, 1, 1, 0)] * 2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 7, 12])
def test_shards_are_all_rows_once_and_as_even_as_can_be(monkeypatch, count, n):
    ends = in_processes(monkeypatch, count, lambda: shard(n))
    assert [row for start, stop in ends for row in range(start, stop)] == list(range(n))
    assert max(b - a for a, b in ends) - min(b - a for a, b in ends) <= 1
    assert ends == [(n * r // count, n * (r + 1) // count) for r in range(count)]


def test_shares_sums_and_what_is_gathered_are_those_of_the_whole(monkeypatch):
    x = torch.arange(12.0).reshape(6, 2)

    def work() -> Any:
        rows = share(x)
        before = rows.clone()
        total = summed(rows.sum(0)), summed(rows.T)
        assert torch.equal(rows, before)
        return rows, total, gathered(rows[:, 1])

    for r, (rows, (total, transposed), whole) in enumerate(in_processes(monkeypatch, 3, work)):
        assert torch.equal(rows, x[2 * r : 2 * r + 2])
        assert torch.equal(total, x.sum(0))
        assert torch.equal(transposed, x[:2].T + x[2:4].T + x[4:].T)
        assert torch.equal(whole, x[:, 1])
    (one,) = in_processes(monkeypatch, 1, work)
    assert torch.equal(one[0], x)
    assert torch.equal(one[2], x[:, 1])


def test_what_process_0_makes_and_says(monkeypatch):
    def work() -> Any:
        made = of_process_0(lambda: (rank(), processes()))
        word = said_by_process_0(rank() == 0, CPU), said_by_process_0(rank() == 1, CPU)
        wait_for_all()
        return made, word

    assert in_processes(monkeypatch, 3, work) == [((0, 1), (True, False)), *[(None, (True, False))] * 2]
    assert said_by_process_0(True, CPU)
    assert of_process_0(lambda: "alone") == "alone"


class OddError(Exception):
    pass


@pytest.mark.parametrize(("failing", "line"), [(0, "KeyError: 'mine'"), (2, "KeyError: 'mine'")])
def test_an_error_of_any_process_is_raised_in_all(monkeypatch, failing, line):
    def work() -> Any:
        def make() -> int:
            if rank() == failing:
                raise KeyError("mine")
            return rank()

        return made_by_all(make)

    for r, error in enumerate(in_processes(monkeypatch, 3, work)):
        assert type(error) is (KeyError if r == failing else CrashedElsewhereError)
        assert r == failing or str(error) == line
        assert getattr(error, "elsewhere", False) == (r != failing)


def test_of_several_errors_that_of_the_least_rank_is_raised_with_its_kind(monkeypatch):
    def work() -> Any:
        def make() -> None:
            if rank():
                raise InputError(f"seed: {rank()}") if rank() == 1 else OddError("later")

        return made_by_all(make)

    found = in_processes(monkeypatch, 3, work)
    assert [type(error) for error in found] == [FailedElsewhereError, InputError, FailedElsewhereError]
    assert [str(error) for error in found] == ["seed: 1"] * 3
    assert in_processes(monkeypatch, 3, lambda: made_by_all(rank)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("raised", "kind", "line"),
    [
        (InputError("out: full"), FailedElsewhereError, "out: full"),
        (OddError("why"), CrashedElsewhereError, "OddError: why"),
    ],
)
def test_an_error_of_process_0_reaches_those_that_wait(monkeypatch, raised, kind, line):
    def make() -> None:
        raise raised

    first, *others = in_processes(monkeypatch, 3, lambda: of_process_0(make))
    assert first is raised
    assert [(type(error), str(error)) for error in others] == [(kind, line)] * 2


def test_what_is_to_be_the_same_is_compared_by_name_in_all(monkeypatch):
    def work() -> Any:
        require_same({"seed": 1, "data": [1, 2]})
        require_same({"data.mean": 1.0, "data.size": rank(), "model": 3, "seed": 3 * rank()})

    for error in in_processes(monkeypatch, 2, work):
        assert type(error) is InputError
        assert str(error).startswith("data, seed: expected the same in all processes of torchrun, got others in some")
    more = in_processes(monkeypatch, 2, lambda: require_same({"a": 1} if rank() == 0 else {"a": 1, "b": 1}))
    assert [str(error).partition(":")[0] for error in more if isinstance(error, InputError)] == ["torchrun", "b"]


def test_even_shares_and_devices_of_the_group_are_required(monkeypatch):
    def work() -> Any:
        require_even(6)
        require_device(CPU)
        require_even(7)

    errors = in_processes(monkeypatch, 3, work)
    said = "batch_size: expected a multiple of the number of processes, 3, got 7"
    assert [str(error) for error in errors] == [said] * 3
    (error,) = in_processes(monkeypatch, 1, lambda: require_device(CPU), backend="nccl")
    assert "denoiser: expected its parameters on a GPU under torchrun with NCCL, got cpu" in str(error)
    assert in_processes(monkeypatch, 1, lambda: require_device(torch.device("cuda")), backend="nccl") == [None]


class Launched(SimpleNamespace):
    """`torch.distributed` under torchrun, which notes what is asked of it."""

    DistError = dist.DistError
    group = SimpleNamespace(WORLD="world")

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def is_torchelastic_launched(self) -> bool:
        return True

    def init_process_group(self, backend: str, timeout: Any) -> None:
        self.asked.append((backend, timeout.days))

    def new_group(self, backend: str, timeout: Any) -> str:
        self.asked.append((backend, timeout.days, "host"))
        return "of hosts"

    def destroy_process_group(self) -> None:
        self.asked.append("destroyed")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    peer = Launched()
    monkeypatch.setattr(distributed, "dist", peer)
    monkeypatch.setattr(distributed, "gc", SimpleNamespace(collect=lambda: peer.asked.append("collected")))
    monkeypatch.setattr(distributed.atexit, "register", lambda function: function())
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: peer.asked.append(device))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    return peer


@pytest.mark.parametrize("given", [None, CPU])
def test_on_cpus_the_group_is_gloos_and_left_at_the_end(monkeypatch, launched, given):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with process_group(given) as device:
        assert (device, host_group()) == (CPU, "world")
    assert host_group() is None
    assert launched.asked == [("gloo", 30), "collected", "destroyed", "collected"]


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "cuda:1"), (torch.device("cuda"), "cuda:1"), (torch.device("cuda", 0), "cuda:0")]
)
def test_on_gpus_the_group_is_nccls_with_another_one_for_the_cpu(monkeypatch, launched, given, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: given is None)
    with process_group(given) as device:
        assert (str(device), host_group()) == (expected, "of hosts")
    assert launched.asked == [device, ("nccl", 30), ("gloo", 30, "host"), "collected", "destroyed", "collected"]


def test_more_processes_than_gpus_are_refused_before_they_meet(monkeypatch, launched):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    line = "nproc-per-node: expected at most the number of GPUs, 2, got 4"
    with pytest.raises(InputError, match=line), process_group():
        pass
    assert launched.asked == []


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed"), FailedElsewhereError),
        (dist.DistError("closed"), FailedElsewhereError),
        (RuntimeError("mine"), RuntimeError),
    ],
)
def test_a_connection_that_ends_says_that_another_process_has(launched, raised, expected):
    with pytest.raises(expected) as caught, process_group(CPU):
        raise raised
    assert type(caught.value) is expected
    assert expected is RuntimeError or str(caught.value) == distributed.ENDED
    assert launched.asked[1:] == ["collected", "destroyed", "collected"]


def test_without_torchrun_the_device_is_that_which_is_asked_for():
    with process_group() as first, process_group(torch.device("meta")) as second:
        assert (first, second, host_group()) == (CPU, torch.device("meta"), None)

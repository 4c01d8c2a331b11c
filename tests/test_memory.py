"""Chunks and ranges: as many as fit, every one of them once; claims of memory at the bound of what is free."""

import pytest

from diffuscope import memory
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges, require_memory


@pytest.mark.parametrize(
    ("budget", "each", "expected"), [(10, 3, 3), (10, 5, 2), (10, 10, 1), (10, 11, 1), (0, 3, 1), (10, 0, 10)]
)
def test_a_chunk_holds_what_fits_and_at_least_one(budget, each, expected):
    assert chunk_size(budget, each=each) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_ranges_cover_every_number_once(n, size):
    found = list(ranges(n, size))
    assert [k for start, stop in found for k in range(start, stop)] == list(range(n))
    assert all(stop - start == size for start, stop in found[:-1])
    assert all(0 < stop - start <= size for start, stop in found)


def test_as_much_memory_as_is_free_may_be_claimed(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000.0)
    require_memory(1000, "rank", "a matrix")
    with pytest.raises(InputError, match="rank: a matrix needs"):
        require_memory(1001, "rank", "a matrix")


def test_of_several_limits_of_memory_the_least_counts(monkeypatch, tmp_path):
    container, system = tmp_path / "memory.max", tmp_path / "meminfo"
    monkeypatch.setattr(memory, "CONTAINER_LIMIT", container)
    monkeypatch.setattr(memory, "MEMINFO", system)
    for limit, free, expected in (("2048", 1, 1024.0), ("512", 1, 512.0), ("max", 3, 3072.0)):
        container.write_text(f"{limit}\n")
        system.write_text(f"MemTotal: 9 kB\nMemAvailable:   {free} kB\n")
        assert memory.available_memory() == expected


def test_where_the_system_does_not_say_memory_is_its_pages_or_has_no_end(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTAINER_LIMIT", tmp_path / "absent")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    pages = {"SC_PHYS_PAGES": 7, "SC_PAGE_SIZE": 100}
    monkeypatch.setattr(memory.os, "sysconf", pages.__getitem__)
    assert memory.available_memory() == 700
    (tmp_path / "meminfo").write_bytes("MemAvailable: 3 kB é".encode())  # not in ASCII: nothing is read of it
    assert memory.available_memory() == 700
    (tmp_path / "absent").write_text("500")
    assert memory.available_memory() == 500
    (tmp_path / "absent").write_text("max")
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_memory() == float("inf")

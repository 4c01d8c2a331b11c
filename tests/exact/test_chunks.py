"""Pieces of the points cover them once, fill the memory they may take, and change no answer."""

from collections.abc import Iterable

import pytest
import torch

from diffuscope.byte_examples import ByteExamples
from diffuscope.exact import Empirical, _means, _products, _screening, _weighted_sums
from diffuscope.exact._digit_products import DigitPass, DigitProducts
from diffuscope.exact._products import byte_products, chunks
from diffuscope.exact._screening import PointTable

KIB, MIB = 2**10, 2**20


def rows_of(pieces: Iterable[tuple[int, int]], n: int) -> int:
    """The rows of every piece but the last, which together cover 0 .. n once."""
    found = list(pieces)
    assert [start for start, _ in found] + [n] == [0, *(stop for _, stop in found)]
    sizes = {stop - start for start, stop in found}
    assert len({stop - start for start, stop in found[:-1]}) <= 1
    return max(sizes)


@pytest.mark.parametrize(
    ("d", "memory", "rows"),
    [
        (10, 32 * KIB, 102),  # 4 KiB of 40 bytes
        (4096, 8 * KIB, 16),  # never fewer than 16
        (3, 1024 * MIB, 2048),  # never more than are summed in one precision
        (2048, 1024 * MIB, 1024),  # 8 MiB of rows of 8 KiB
        (2**19, 2048 * MIB, 64),  # 64 rows, where that is more than 8 MiB
        (2**19, 16 * MIB, 16),
    ],
)
def test_rows_in_the_cache_take_an_eighth_of_the_memory_between_their_bounds(d, memory, rows):
    assert rows_of(chunks(20_011, d, memory), 20_011) == rows
    assert rows_of(chunks(5, d, memory), 5) == 5


@pytest.mark.parametrize(
    ("memory", "queries", "rows"), [(16 * KIB, 3, 113), (1, 3, 16), (MIB, 0, 8192), (160 * KIB, 3, 1137)]
)
def test_chunks_of_a_table_leave_room_for_two_float64_numbers_of_every_value_and_score(memory, queries, rows):
    """113 = 16,384 / (16 (6 + 3))."""
    table = PointTable(torch.zeros(9001, 6), torch.zeros(9001, dtype=torch.float64), memory)
    assert rows_of(table.chunks(queries), 9001) == rows


@pytest.mark.parametrize(("memory", "rows"), [(64 * KIB, 80), (1, 16), (2**40, 3000), (640 * KIB, 848)])
def test_a_pass_of_integers_takes_sixteen_rows_at_a_time_and_an_eighth_of_the_memory(memory, rows):
    """64 KiB / 8 are 85 rows of 64 + 16 * 2 bytes: five times 16."""
    stored = torch.randint(0, 256, (3000, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    made = byte_products(ByteExamples(stored, torch.arange(256) / 255.0), MIB)
    assert made is not None
    by = DigitProducts.of(made[1], torch.ones(2, 64), 5.0)
    assert rows_of(DigitPass(by, 2, memory).chunks(), 3000) == rows


@pytest.mark.parametrize("sigma", [0.02, 0.4, 6.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_answer_depends_on_the_memory(sigma, dtype, generator, monkeypatch):
    """With pairs one at a time, samples one at a time and points in sixteens; each answer to its own rounding."""
    y = torch.randn(300, 5, generator=generator, dtype=torch.float64).to(dtype)
    x = (y[:7].double() + sigma * torch.randn(7, 5, generator=generator, dtype=torch.float64)).to(dtype)
    weights = torch.rand(300, generator=generator) + 0.01
    v = torch.randn(7, 5, generator=generator, dtype=torch.float64).to(dtype)

    def answers(memory: int) -> list[torch.Tensor]:
        data = Empirical(y, weights, memory=memory)
        covariance = data.posterior_covariance(x, 0.8, sigma)
        nearest = data.nearest(x, 0.8, sigma, 4)
        return [
            data.denoise(x, 0.8, sigma),
            data.log_prob(x, 0.8, sigma),
            covariance.matvec(v),
            covariance.trace(),
            covariance.diagonal(),
            nearest.weights,
            nearest.distances,
            nearest.indices.double(),
        ]

    whole = answers(128 * MIB)
    monkeypatch.setattr(_means, "ROWS", 2)
    monkeypatch.setattr(_means, "COLLECTED", 7)
    monkeypatch.setattr(_weighted_sums, "BLOCK", 3)
    monkeypatch.setattr(_screening, "CHECKED", 1)
    monkeypatch.setattr(_products, "CHUNK", 1)
    tolerance = 2e-4 if dtype == torch.float32 else 1e-10
    for memory in (1, 900, 12_345):
        for few, many in zip(answers(memory), whole, strict=True):
            torch.testing.assert_close(few, many, rtol=tolerance, atol=tolerance)

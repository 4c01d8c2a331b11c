"""Random streams by name are reproducible, and those of different names are independent."""

import hashlib

import numpy as np
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.streams import numpy_stream, require_seed, torch_stream

N = 20_000


def test_the_same_seed_and_names_give_the_same_numbers():
    first, again = (torch.randn(5, generator=torch_stream(3, "copies", "pixels")) for _ in range(2))
    assert torch.equal(first, again)
    assert np.array_equal(numpy_stream(3, "a").random(5), numpy_stream(3, "a").random(5))


def test_streams_of_other_seeds_or_names_are_uncorrelated():
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", "b"), (0, "ab")]
    drawn = torch.stack([torch.randn(N, generator=torch_stream(*key)) for key in keys])
    correlation = torch.corrcoef(drawn) - torch.eye(len(keys))
    assert float(correlation.abs().max()) <= 4.5 / N**0.5  # standard error 1/sqrt(N); ten pairs


def test_names_do_not_run_into_each_other():
    drawn = {tuple(torch.rand(2, generator=torch_stream(0, *names)).tolist()) for names in (("ab",), ("a", "b"))}
    assert len(drawn) == 2


def test_seeds_are_those_that_every_generator_takes():
    for seed in (0, 2**63 - 1):
        require_seed(seed)
        torch.Generator().manual_seed(seed)
    for beyond in (-1, 2**63):
        with pytest.raises(InputError, match=rf"^seed: expected a whole number from 0 to 2\^63 - 1, got {beyond}$"):
            require_seed(beyond)


def test_a_stream_is_seeded_with_63_bits_of_its_digest():
    digest = hashlib.sha256(b"5\x1fa\x1fb").digest()
    key = int.from_bytes(digest[:8], "big") // 2
    known = torch.randn(3, generator=torch.Generator().manual_seed(key))
    assert torch.equal(torch.randn(3, generator=torch_stream(5, "a", "b")), known)
    assert np.array_equal(numpy_stream(5, "a", "b").random(3), np.random.default_rng(key).random(3))

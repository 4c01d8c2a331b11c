"""Samples that several processes share are those of one, noise included; here the processes are threads."""

from typing import Any

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.distributed import sharing
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, DDPM, generate
from diffuscope.schedules import VE
from threads_as_processes import in_processes

DATA = Gaussian.isotropic(torch.full((2,), 3.0), 0.5)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM()], ids=["without noise", "with noise"])
@pytest.mark.parametrize("count", [2, 3])
def test_samples_do_not_depend_on_the_number_of_processes(monkeypatch, sampler, count):
    def draw() -> Any:
        return generate(ExactDenoiser(DATA, VE()), 7, steps=4, sampler=sampler, seed=5, batch_size=2, event_shape=(2,))

    def work() -> Any:
        with sharing():
            return draw()

    expected = draw()
    assert len(expected.unique(dim=0)) == 7
    for found in in_processes(monkeypatch, count, work):
        assert torch.equal(found, expected)

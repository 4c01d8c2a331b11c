"""Measure a model in the middle of its training and leave everything as it was.

Modules within the denoiser are in evaluation mode meanwhile, so that dropout draws nothing and batch norm learns
nothing; no gradients are recorded; and the global generators of PyTorch (of every GPU, too), NumPy and Python have
their states again afterwards, whatever the network draws.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from diffuscope.audit.features import evaluating
from diffuscope.audit.fingerprint import tensors_within


def device_of(denoiser: object) -> torch.device:
    """The GPU on which tensors within a denoiser are, or else the CPU."""
    return next((x.device for x in tensors_within(denoiser) if x.device.type != "cpu"), torch.device("cpu"))


@contextmanager
def undisturbed(denoiser: object) -> Iterator[None]:
    """Until the block ends."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 its state is kept, not used
    gpus = {x.device for x in tensors_within(denoiser) if x.device.type == "cuda"}
    try:
        with torch.random.fork_rng([*gpus]), torch.no_grad(), evaluating(denoiser):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002

"""Measure a model in the middle of its training and leave everything as it was.

Modules within the denoiser are in evaluation mode meanwhile, so that dropout draws nothing and batch norm learns
nothing; no gradients are recorded; an autocast around the loop is off, as distances would be rounded, too; and the
global generators of PyTorch (of GPUs, too), NumPy and Python have their states again afterwards, whatever is drawn.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from diffuscope.audit.features import evaluating
from diffuscope.audit.fingerprint import tensors_within


def device_of_tensors(denoiser: object) -> torch.device:
    """The GPU on which tensors within a denoiser are, or else the CPU."""
    return next((x.device for x in tensors_within(denoiser) if x.device.type != "cpu"), torch.device("cpu"))


@contextmanager
def undisturbed(denoiser: object) -> Iterator[None]:
    """Until the block ends."""
    with _without_autocast(), generators_kept(), torch.no_grad(), evaluating(denoiser):
        yield


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Off; and nothing kept of one within the model, as some PyTorch uses casts without gradients again."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with ExitStack() as off:
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    off.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_autocast_cache_enabled(kept)


@contextmanager
def generators_kept() -> Iterator[None]:
    """The global generators have their states again when the block ends, those of all GPUs if any is in use."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 its state is kept, not used
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng([*gpus]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002

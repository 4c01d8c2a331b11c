"""The global generators that a target must leave alone: torch's, NumPy's and Python's."""

import random

import numpy as np
import torch


def global_states() -> dict[str, str]:
    """The states of the global generators, by the library that has them."""
    return {
        "torch": str(torch.get_rng_state().tolist()),
        "NumPy": repr(np.random.get_state(legacy=True)),  # noqa: NPY002
        "random": repr(random.getstate()),
    }


def drawn_from(before: dict[str, str], *, values_differ: bool) -> list[str]:
    """The libraries whose global generator has moved since `before`.

    Python's counts only where one seed gave two answers: a run-time type checker around the target draws from it too.
    """
    moved = [name for name, state in global_states().items() if state != before[name]]
    return moved if values_differ else [name for name in moved if name != "random"]

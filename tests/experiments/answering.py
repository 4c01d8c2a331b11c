"""One part of an experiment, answered: which of its claims hold, and which do not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from diffuscope.experiments import Answer, Experiment


def answered(experiment: Experiment, part: str, seed: int = 1) -> Answer:
    """The answer of one part alone, with a seed that is not the command's."""
    return experiment.answer(part, seed)


def failures(experiment: Experiment, part: str, seed: int = 1) -> set[str]:
    """The names of its claims that fail."""
    return {claim.name for claim in answered(experiment, part, seed).claims if not claim.holds}


@contextmanager
def planted(target: str, mutant: object) -> Iterator[None]:
    """A fault at the dotted name `target`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, mutant)
        yield

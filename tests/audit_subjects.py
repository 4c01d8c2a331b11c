"""Small subjects whose audit has a known answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffuscope.audit import QUESTIONS, References, Settings, Subject
from diffuscope.audit.level_measures import LevelMeasures, measure_level
from diffuscope.audit.subject import noise_levels
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Distribution
from diffuscope.schedules import VE

QUICK = Settings(levels=8, points=200, trajectories=16, generated=200, components=4, step_seeds=8)

SMALL = replace(QUICK, points=40, generated=40, trajectories=8)  # where only the course of an audit matters


def digits(seed: int = 0) -> Tensor:
    """scikit-learn's 1797 digits in random order, (n, 1, 8, 8) in [-1, 1]."""
    images = torch.tensor(load_digits(return_X_y=True)[0] / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]


@contextmanager
def asked(*names: str) -> Iterator[None]:
    """Audits that ask these questions alone: of eight, one takes a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.questions.QUESTIONS", [each for each in QUESTIONS if each.name in names])
        yield


def exact_subject(distribution: Distribution, train: Tensor, heldout: Tensor) -> Subject:
    """The exact denoiser of `distribution`, audited against `train` and `heldout`."""
    return Subject(ExactDenoiser(distribution, VE()), train, heldout, "exact", "digits")


def measured(
    subject: Subject, references: References, count: int, train: Tensor, heldout: Tensor, noise: Tensor, states: Tensor
) -> LevelMeasures:
    """What an audit measures at `count` noise levels, at the given points."""
    levels = noise_levels(subject.denoiser, subject.scale, count)
    sums = [measure_level(subject, references, t, train, heldout, noise, states) for t, _ in levels]
    return LevelMeasures(
        ratios=levels.ratios.numpy(),
        scale=subject.scale,
        dimension=train[0].numel(),
        models=tuple(references.models),
        sums=sums,
    )

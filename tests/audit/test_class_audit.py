"""A conditional model audited by class: who memorized, whose number is another's, and what cannot be told."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from audit_subjects import SMALL, asked
from diffuscope.audit import Subject, audit_classes
from diffuscope.audit.class_correction import exceedance_p_value
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian
from diffuscope.schedules import VE

SETTINGS = replace(SMALL, points=100, generated=150, transformations=("none",), examples=False)
DIMENSION, EACH = 6, 150
CENTERS = 2.0 * torch.eye(DIMENSION)[:3]


class ByClass:
    """The exact conditional denoiser of one distribution for each class; none is refused."""

    schedule, event_shape, data_range = VE(0.002, 80.0), (DIMENSION,), (-9.0, 9.0)

    def __init__(self, *parts: Distribution):
        self.parts, self.classes = parts, len(parts)

    def __call__(self, x_t, t, y=None):
        if y is None or int(y) == self.classes:
            raise InputError("y: expected a class")
        return self.parts[int(y)].denoise(x_t, 1.0, float(self.schedule.sigma(t)))


def drawn(label: int, n: int, seed: int, centers=CENTERS):
    generator = torch.Generator().manual_seed(1000 * seed + label)
    return centers[label] + torch.randn(n, DIMENSION, generator=generator)


def gaussian(label: int, centers=CENTERS) -> Gaussian:
    return Gaussian.isotropic(centers[label].double(), 1.0)


def labelled(model, sizes=(EACH, EACH, EACH), centers=CENTERS, unseen=EACH):
    train, heldout = (torch.cat([drawn(y, n if seed == 1 else min(n, unseen), seed, centers)
                                 for y, n in enumerate(sizes)]) for seed in (1, 2))  # fmt: skip
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    others = torch.arange(len(sizes)).repeat_interleave(torch.tensor([min(n, unseen) for n in sizes]))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return Subject(model, train[order], heldout, "by class", "three Gaussians", train_labels=labels[order],
                   heldout_labels=others)  # fmt: skip


def first(result, y, name):
    return result[y].findings[name][0]


@cache
def memorizing():
    model = ByClass(gaussian(0), Empirical(drawn(1, EACH, 1)), gaussian(2))
    with asked("wiring", "memorized"):
        return audit_classes(labelled(model), settings=SETTINGS)


def test_the_one_class_that_memorized_is_the_one_that_copies():
    result = memorizing()
    words = {y: verdict.word for y, verdict in result.verdicts.items()}
    assert words[1] == "copies"
    assert not {"broken", "copies", "attention"} & {words[0], words[2]}
    assert result.verdict.word == "copies"
    assert result.verdict.sentence.startswith("Class 1 of 3 asked: Copies training examples")
    assert result.corrected[1] < 1e-6
    assert min(result.corrected[0], result.corrected[2]) > 0.05
    for y in range(3):
        assert first(result, y, "class").tone == "good"
        assert first(result, y, "class-samples").tone == "good"
        assert first(result, y, "other-classes").tone == "good"

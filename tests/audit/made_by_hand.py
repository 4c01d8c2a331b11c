"""Sessions, models and records with the few parts that a function reads, made without measuring the others."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.audit import Session, Settings, Subject
from diffuscope.audit.no_model import NoModel
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding, Tone
from diffuscope.schedules import VE
from numbers_in_tests import seeded

Kind = TypeVar("Kind")


@pytest.fixture(scope="module", autouse=True)
def other_tools_are_quick() -> Iterator[None]:
    """In a file that imports it: the gap of the likelihood is fitted again 9 times, not 99, where nobody reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.feature_likelihood.PERMUTATIONS", 9)
        yield


@pytest.fixture(scope="module", autouse=True)
def classifiers_are_quick() -> Iterator[None]:
    """In a file that imports it: 300 steps for the classifier of labels, of blobs or few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.classifier.STEPS", 300)
        yield


def made(kind: type[Kind], **parts: Any) -> Kind:
    """An object of this class with nothing but these attributes."""
    new = object.__new__(kind)
    new.__dict__.update(parts)
    return new


def finding(name: str = "memorized.verdict", tone: Tone = "good", **parts: Any) -> Finding:
    """A finding of which nothing but what is given matters."""
    whole = Finding(name=name, title="", value=1.0, unit="%", verdict="So.", tone=tone, power="-")
    return replace(whole, **parts)


def by_name(found, prefix):
    return {f.name.removeprefix(f"{prefix}."): f for f in found}


def random_weights(generator):
    """A network of one block a group."""
    weights = {"linear.weight": torch.zeros(10, 64), "linear.bias": torch.zeros(10)}
    layers = {"conv1": (3, 16)}
    for group, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        layers |= {f"layer{group}.0.conv1": (before, after), f"layer{group}.0.conv2": (after, after)}
    for name, (before, after) in layers.items():
        weights[f"{name}.weight"] = 0.2 * torch.randn(after, before, 3, 3, generator=generator)
        norm = name.replace("conv", "bn")
        for key, value in {"weight": 1.0, "bias": 0.1, "running_mean": 0.0, "running_var": 1.0}.items():
            weights[f"{norm}.{key}"] = torch.full((after,), value)
    return weights


class Constant:
    """Class y answers `points[y]` along every axis at high noise, `low[y]` at the lowest level; none may be refused."""

    schedule = VE(0.01, 50.0)

    def __init__(self, points, none=None, low=None):
        self.points, self.none, self.low, self.asked = points, none, points if low is None else low, []
        self.classes = len(points)

    def __call__(self, x_t, t, y=None):
        if y is None and self.none is None:
            raise ValueError("a class is needed")
        self.asked.append((None if y is None else int(y), len(x_t), float(t)))
        points = self.low if float(t) < 1.5 else self.points
        return torch.full_like(x_t, self.none if y is None else points[int(y)])  # pyright: ignore


def normal(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=seeded(seed))


def plane(n, seed=0, scale=1.0):
    return scale * normal(n, 2, seed=seed)


def column(*values):
    """In the precision of data, a row for each."""
    return torch.tensor(values)[:, None]


def decoded(picture):
    """The values of its pixels."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.source.split(",")[1]))))


def session_of(train=None, heldout=None, settings=None, given=None, model=None, **changes):
    train, heldout = plane(40) if train is None else train, plane(30, 1) if heldout is None else heldout
    subject = Subject(NoModel() if model is None else model, train, heldout, **changes)
    return Session(subject, settings or Settings(), given=given)


def standard_normal(low, high, dimension=1):
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(dimension), 1.0), VE(low, high))

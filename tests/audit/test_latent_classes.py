"""Latent models audited by class: an orthogonal map changes nothing, and a wrong scaling factor is told."""

from dataclasses import replace

import pytest
import torch
from made_by_hand import classifiers_are_quick, other_tools_are_quick  # noqa: F401
from sklearn.datasets import load_digits

from audit_subjects import SMALL, asked
from diffuscope.audit import Subject, audit_classes, audit_model
from diffuscope.audit.class_audit import of_class
from diffuscope.audit.class_data import ClassData
from diffuscope.audit.latents import Encoder, encode_data
from diffuscope.data import DataSet
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.report import Gallery
from diffuscope.schedules import VE

SETTINGS = replace(SMALL, points=100, generated=100, transformations=("none",))
ROTATION = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(5)))[0]


class Rotated:
    """An isometry of digits: 64 numbers."""

    def encode(self, x):
        return x.flatten(1) @ ROTATION

    def decode(self, z):
        return (z @ ROTATION.T).reshape(-1, 1, 8, 8)


class ByClass:
    """The exact denoisers of the classes 0 to 2 of any examples; it knows class 1 by heart."""

    classes = 3

    def __init__(self, train, labels):
        self.schedule = VE(0.002, 80.0)
        parts = [Gaussian.fit([train[labels == y]]) for y in range(3)]
        self.parts = [
            ExactDenoiser(part, self.schedule) for part in (parts[0], Empirical(train[labels == 1]), parts[2])
        ]

    def __call__(self, x_t, t, y=None):
        assert y is not None
        return self.parts[int(y)](x_t, t)


@pytest.fixture(scope="module")
def data():
    pixels, labels = load_digits(n_class=3, return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(pixels / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)[order]
    y = torch.tensor(labels, dtype=torch.int64)[order]
    places = torch.arange(270), torch.arange(len(images) - 270)
    return DataSet("three digits", images[:270], images[270:], (-1.0, 1.0), "made", *places, y[:270], y[270:],
                   kind="images")  # fmt: skip


@pytest.fixture(scope="module")
def latents(data):
    found = Rotated()
    return encode_data(Encoder(name="rotated", found=found, encode=found.encode, decode=found.decode), data, None, None)


def test_classes_of_latents_are_told_as_those_of_pixels_are(data, latents):
    originals = latents.in_range(latents.data)[1]
    subjects = {
        "pixels": Subject.of(ByClass(data.train, data.train_labels), data),
        "latents": Subject.of(ByClass(latents.data.train, data.train_labels), latents.data, originals=originals),
    }
    results = {}
    for name, subject in subjects.items():
        with asked("memorized"):
            results[name] = audit_classes(subject, [0, 1], SETTINGS)
    for y in (0, 1):
        plain, rotated = (results[name][y] for name in ("pixels", "latents"))
        fits = [result["class"].result for result in (plain, rotated)]
        assert fits[0].other == fits[1].other
        if y == 0:  # other noise for the same examples: about 75 of them at 5 levels
            assert fits[1].ratio == pytest.approx(fits[0].ratio, rel=0.25)
        else:  # by heart: next to no error
            assert max(fit.ratio for fit in fits) < 0.1
        assert plain.verdict.word == rotated.verdict.word
    assert results["latents"].verdicts[1].word == "copies"
    gallery = next(block for block in results["latents"][1]["memorized"].blocks if isinstance(block, Gallery))
    assert len(gallery.items[0].pictures) == 3  # decoded sample, and the pictures of its neighbors
    part = of_class(subjects["latents"], ClassData(subjects["latents"].denoiser, latents.data.train,  # type: ignore
                    latents.data.heldout, data.train_labels, data.heldout_labels, (1,)), 1)  # fmt: skip
    assert part.originals is not None
    assert torch.equal(part.originals.train, data.train[data.train_labels == 1])


@pytest.mark.parametrize("factor", [0.18215, 1 / 0.18215])
def test_latents_off_by_a_scaling_factor_are_told_with_the_factor(latents, factor):
    """The model was trained on factor times z, and the encoder returns z; or the other way around."""
    fitted = Gaussian.fit([factor * latents.data.train])
    subject = Subject.of(ExactDenoiser(fitted, VE(0.002, 80.0)), latents.data)
    with asked("wiring"):
        result = audit_model(subject, SETTINGS)
    assert result.verdict.word == "broken"
    units = next(found for found in result.findings["wiring"] if found.name == "wiring.units")
    assert units.tone == "alarm"
    written = float(units.verdict.split("data = ")[1].split(" × value")[0])
    assert written == pytest.approx(1 / factor, rel=0.1)  # by the deviations of 100 samples

"""Spaces of features, judged samples and planted faults: which sizes count, and what each fault does."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_by_hand import normal
from results_of_samples import distance
from scipy.ndimage import gaussian_filter

from diffuscope.audit import judged_quality, rows_of
from diffuscope.audit.feature_spaces import Space, _named, feature_spaces, fitted_to
from diffuscope.audit.judged_quality import Judged, Quality, _halves, _in_space, _some, judge
from diffuscope.audit.latents import _limits
from diffuscope.audit.planted_faults import is_image, planted_faults
from diffuscope.audit.subject import Subject
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import FrechetDistance
from diffuscope.schedules import VE
from numbers_in_tests import seeded


def subject(train, heldout, **changes):
    model = Gaussian.isotropic(torch.zeros(train.shape[1:]), 1.0)
    return Subject(ExactDenoiser(model, VE()), train, heldout, **changes)


# spaces


@pytest.mark.parametrize(
    ("affordable", "width", "name"), [(5, 5, "the features of x"), (4, 4, "the leading 4 whitened")]
)
def test_features_that_are_affordable_are_taken_as_they_are(affordable, width, name):
    x = normal(60, 5)
    space = _named("x", lambda _: lambda rows: rows, x, affordable)
    assert space.name.startswith(name)
    assert space.features(x).shape == (60, width)
    assert torch.equal(space.features(x), x) == (affordable == 5)


def test_features_are_fitted_to_ten_thousand_examples_in_random_order(monkeypatch):
    x = torch.arange(10_003.0)[:, None]
    some = fitted_to(x, seeded())
    assert len(some) == len(some.unique()) == 10_000
    assert not torch.equal(some, some.sort(0).values)
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 300)
    assert len(fitted_to(x, seeded())) == 300


def test_spaces_come_in_their_order_and_patches_are_of_images():
    images, rows = normal(40, 1, 4, 4), normal(40, 2)
    flat = Gaussian.fit([images])

    def made(x, own):
        gaussian = flat if x.ndim == 4 else Gaussian.fit([x])
        return [f().name for f in feature_spaces(x, gaussian, own, None, 99, 0, lambda _: lambda y: y.flatten(1))]

    patches, clusters = "random filters of image patches", "distances to clusters"
    assert made(images, ()) == [patches, clusters]
    assert made(images, ("a", "b")) == ["the features of a", "the features of b", patches, clusters]
    assert made(rows, ("a",)) == ["the features of a", clusters]


# judged samples


def test_no_more_examples_than_the_most_are_judged_and_these_at_random(monkeypatch):
    monkeypatch.setattr(judged_quality, "LARGEST_SAMPLE", 9)
    x = torch.arange(10.0)[:, None]
    assert torch.equal(_some(x[:9], seeded()), x[:9])
    some = _some(x, seeded())
    assert len(some) == len(some.unique()) == 9
    assert some.tolist() != sorted(some.tolist())
    monkeypatch.undo()
    assert len(_some(torch.arange(5001.0)[:, None], seeded())) == 5000


@pytest.mark.parametrize("count", [39, 40])
def test_faults_are_planted_on_a_half_of_forty_heldout_examples(count):
    labels = torch.arange(count)
    made = subject(
        normal(20, 1), torch.arange(float(count))[:, None], train_labels=torch.zeros(20).long(), heldout_labels=labels
    )
    planted_on, others = _halves(made, seeded())
    if count == 39:
        assert planted_on is made
        assert others is made.heldout
        return
    assert len(planted_on.train) == len(others) == 20
    assert planted_on.train_labels is not None
    assert planted_on.train_labels.tolist() == planted_on.train[:, 0].tolist()
    assert sorted(torch.cat([planted_on.train, others])[:, 0].tolist()) == list(range(40))
    bare = subject(made.train, made.heldout)
    assert _halves(bare, seeded())[0].train_labels is None


@pytest.mark.parametrize(("count", "size"), [(7, 7), (12, 9)])
def test_faults_are_compared_at_the_size_of_the_samples_or_of_the_others(monkeypatch, count, size):
    asked = []
    found = dataclasses.replace(distance(1.0), size=9)
    monkeypatch.setattr(judged_quality, "fidelity", lambda *given: asked.append(given) or found)

    def at_size(x, y, n, _):
        asked.append((float(x.sum()), len(y), n))
        return FrechetDistance(4.0, 0.1)

    monkeypatch.setattr(judged_quality, "distance_at_size", at_size)
    sets = [torch.full((5, 2), value) for value in (1.0, 2.0, 3.0)]
    space = Space("s", lambda x: 10 * x)
    judged = _in_space(space, sets, {"f": torch.ones(3, 2)}, torch.zeros(count, 2), 5)
    assert [float(part.mean()) for part in asked[0][:3]] == [10.0, 20.0, 30.0]
    assert asked[1] == (60.0, count, size)
    assert (judged.space, judged.samples, judged.faults["f"].ratio) == ("s", found, 2.0)


@pytest.mark.parametrize(
    ("sizes", "most", "faulty", "affordable"),
    [((30, 50, 70), 99, 30, 7), ((50, 30, 70), 99, 50, 7), ((50, 60, 47), 99, 50, 5), ((50, 60, 90), 40, 40, 5),
     ((3, 60, 90), 99, 3, 1)],
)  # fmt: skip
def test_features_are_affordable_by_the_fewest_examples(monkeypatch, sizes, most, faulty, affordable):
    """One for every four of the fewest: samples, training examples, or half of the held-out ones."""
    asked = []

    def faults(_, __, n, ___):
        asked.append(n)
        return {}

    def spaces(_, __, own, classifier, limit, seed, ___):
        asked.append((own, classifier, limit, seed))
        return iter(())

    monkeypatch.setattr(judged_quality, "planted_faults", faults)
    monkeypatch.setattr(judged_quality, "feature_spaces", spaces)
    monkeypatch.setattr(judged_quality, "LARGEST_SAMPLE", most)
    samples, train, heldout = (normal(n, 2, seed=n) for n in sizes)
    found = judge(samples, subject(train, heldout), Gaussian.isotropic(torch.zeros(2), 1.0), ("own",), 3)
    assert asked == [faulty, (("own",), None, affordable, 3)]
    assert found.reasons == ("labels: the training and held-out data have no labels",)
    assert (found.judged, found.classifier, found.balance) == ((), None, None)


def test_a_fault_is_seen_beyond_the_bar_and_the_farthest_space_decides():
    at, above = distance(2.0, error=0.0), distance(2.01, error=0.0)
    judged = Judged("s", at, {"at": at, "above": above})
    assert judged.seen == {"above"}
    wide = Judged("wide", distance(1.5, error=0.3), {"at": above, "above": at})
    found = Quality(judged=(judged, wide), classifier=None, balance=None, reasons=())
    assert found.passed == {}
    assert found.deciding is wide  # none is far: the greatest upper end, 1.5 + 0.59
    far = Judged("far", distance(2.02, error=0.0), {})
    assert dataclasses.replace(found, judged=(wide, far, judged)).deciding is far
    unseen = dataclasses.replace(
        found, judged=(Judged("a", at, {"f": distance(1.2)}), Judged("b", at, {"f": distance(1.4)}))
    )
    assert unseen.passed["f"].ratio == pytest.approx(1.4)


# planted faults


def base_of(train, n, seed):
    order = torch.randperm(len(train), generator=seeded(seed))
    return train[order[torch.arange(n) % len(train)]]


def test_planted_faults_of_images_are_a_blur_one_label_a_gaussian_and_noise():
    train = normal(30, 1, 5, 5)
    labels = torch.arange(30) % 4  # 0 and 1 are the most frequent, 0 the first of these
    made = subject(train, train + 1, train_labels=labels, heldout_labels=labels)
    gaussian = Gaussian.isotropic(torch.full((1, 5, 5), 40.0), 9.0)
    found = planted_faults(made, gaussian, 700, seeded(3))
    assert list(found) == [
        "a blur of 1 pixel",
        "one class only",
        "samples of a Gaussian",
        "noise of 0.2 standard deviations",
    ]
    base = base_of(train, 700, 3)
    blurred = [gaussian_filter(image[0].numpy(), 1.0) for image in base[:30]]
    assert found["a blur of 1 pixel"][:30, 0].numpy() == pytest.approx(np.stack(blurred), abs=1e-5)
    alike = {tuple(row) for row in train[labels == 0].flatten(1).tolist()}
    assert {tuple(row) for row in found["one class only"].flatten(1).tolist()} == alike
    drawn = found["samples of a Gaussian"]
    assert (drawn.shape, drawn.dtype) == ((700, 1, 5, 5), torch.float32)
    assert float(drawn.mean()) == pytest.approx(40, abs=4 * 3 / 17_500**0.5)
    assert float(drawn.std()) == pytest.approx(3, rel=4 / 35_000**0.5)
    noise = found["noise of 0.2 standard deviations"] - base
    assert float(noise.std()) == pytest.approx(0.2 * made.scale, rel=4 / 35_000**0.5)


def test_without_labels_the_largest_cluster_stands_for_a_class():
    """Nine of far groups of two, and one of twelve; rows have no blur."""
    places = torch.cat([torch.arange(9.0).repeat_interleave(2), torch.full((12,), 20.0)])
    train = 100 * torch.stack([places, -places], 1) + 0.1 * normal(30, 2)
    found = planted_faults(subject(train, train + 1), Gaussian.isotropic(torch.zeros(2), 1.0), 40, seeded())
    assert next(iter(found)) == "one cluster only"
    assert len(found) == 3
    assert (found["one cluster only"][:, 0] > 1990).all()


def test_images_have_three_pixels_along_each_side():
    assert is_image(torch.zeros(2, 1, 3, 3))
    assert not is_image(torch.zeros(2, 1, 2, 9))
    assert not is_image(torch.zeros(2, 1, 9, 2))
    assert not is_image(torch.zeros(2, 9, 9))


def test_the_range_of_latents_is_that_of_both_parts_without_a_negative_zero():
    low, high = _limits([torch.tensor([[-0.0, 3.0]]), torch.tensor([[1.0, 7.0]])])
    assert (low, math.copysign(1, low), high) == (0.0, 1.0, 7.0)
    low, high = _limits([torch.tensor([[-5.0, -0.0]]), torch.tensor([[-9.0, -1.0]])])
    assert (low, high, math.copysign(1, high)) == (-9.0, 0.0, 1.0)

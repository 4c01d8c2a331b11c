"""The alignment of images against an exhaustive search, and their low frequencies against sums of cosines."""

import math

import pytest
import torch

from diffuscope.audit import alignment
from diffuscope.audit.alignment import Alignment, low_frequencies
from diffuscope.audit.transformations import Transformation

STEPS, FINE = (0.0, 3.0, -3.0, 6.0, -6.0, 9.0), (0.0, 1.0, -1.0)


def pictures(n, seed=0):
    return 4 * torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def brighter(steps, tried, **options):
    """Brighter by so much along the left half, which tells the versions apart in every representation."""
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])

    def versions(x):
        tried.append(len(x))
        return torch.stack([x + step * half for step in steps], 1)

    return Transformation(name="brighter", labels=("", *map(str, steps[1:])), versions=versions, **options)


def aligned_with(train, steps=STEPS, fine=FINE, probes=(0,)):
    """An alignment under two sets of brightness, and how many images the finer ones were asked for."""
    tried, finer = [], []
    whole = brighter(steps, tried, probes=probes, finer=brighter(fine, finer))
    return Alignment(train, [whole]), finer


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_aligned_query_is_the_nearest_of_the_best_versions_of_the_best_candidates(n):
    """All by loops: four candidates, of each four versions, and of these three finer ones."""
    sizes = torch.linspace(2.0, 0.1, n)[:, None, None, None]  # the largest first: it is the nearest to none
    train, queries = sizes * pictures(n), pictures(6, 1)
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])
    search, finer = aligned_with(train)
    images, names, plain = search(queries)
    for x, image, name, distance in zip(queries, images, names, plain, strict=True):
        square = {(s, k): float((x + s * half - y).square().sum()) for s in STEPS for k, y in enumerate(train)}
        near = sorted(range(n), key=lambda k, square=square: min(square[s, k] for s in STEPS))[:4]
        found = []
        for k in near:
            for s in sorted(STEPS, key=lambda s, k=k, square=square: square[s, k])[:4]:
                moved = ((x + s * half + f * half, s, f) for f in FINE)
                found += [(float((y - train[k]).square().sum()), s, f, y) for y, s, f in moved]
        _, s, f, best = min(found, key=lambda each: each[0])
        assert torch.allclose(image, best, atol=1e-5)
        assert name == ", ".join(str(step) for step in (s, f) if step)
        assert float(distance) == pytest.approx(min((x - y).norm().item() for y in train), rel=1e-5)
    assert finer == [6 * min(4, 2 * n) * 4]  # every example is a candidate as it is and by its frequencies


def test_fewer_versions_than_starts_are_all_refined():
    train = pictures(5)
    search, finer = aligned_with(train, steps=(0.0, 5.0))
    images, names, _ = search(train[:2] - torch.tensor([4.0, 4.0, 0.0, 0.0]))
    assert torch.allclose(images, train[:2], atol=1e-5)
    assert names == ["5.0, -1.0"] * 2
    assert finer == [2 * 4 * 2]


def test_sixteen_candidates_are_nearest_as_they_are_and_as_many_by_the_frequencies_of_every_probe():
    train, queries = pictures(20), pictures(3, 1)
    search, _ = aligned_with(train, probes=(0, 2))
    places, plain = search._candidates(queries)
    assert places.shape == (3, 3 * 16)
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])
    of_pixels = torch.cdist(queries.flatten(1), train.flatten(1))
    assert plain.tolist() == pytest.approx(of_pixels.amin(1).tolist(), rel=1e-5)
    probes = [queries, queries - 3 * half]
    distances = [of_pixels] + [torch.cdist(low_frequencies(x), low_frequencies(train)) for x in probes]
    for part, distance in zip(places.split(16, 1), distances, strict=True):
        assert torch.equal(part.sort(1).values, distance.argsort(1)[:, :16].sort(1).values)
    few, _ = aligned_with(train[:3])
    assert few._candidates(queries)[0].shape == (3, 6)


@pytest.mark.parametrize(("memory", "sizes"), [(3 * 2688, [3, 2]), (3 * 2688 - 1, [2, 2, 1]), (1, [1] * 5)])
def test_as_many_queries_are_compared_at_a_time_as_memory_allows(memory, sizes, monkeypatch):
    """Four bytes of 16 pixels, of 18 candidates and four times of six versions: 2,688 for a query."""
    monkeypatch.setattr(alignment, "MEMORY", memory)
    tried = []
    Alignment(pictures(9), [brighter(STEPS, tried)])(pictures(5, 1))
    assert tried == sizes


def test_places_among_the_examples_are_those_that_are_searched():
    train = pictures(8)
    chosen = brighter((0.0, 3.0), [])
    part = Alignment(train, [chosen], torch.tensor([6, 2, 5]))
    assert torch.allclose(part.invariant, low_frequencies(train[[6, 2, 5]]), atol=1e-6)
    images, names, distance = part(train[2:3])
    assert torch.allclose(images, train[2:3], atol=1e-5)
    assert (names, part.finer) == ([""], [])
    assert float(distance) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize(("height", "width", "highest"), [(4, 6, 2), (7, 4, 2), (18, 17, 8)])
def test_low_frequencies_are_sums_and_differences_of_magnitudes_up_to_the_eighth(height, width, highest):
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)).double()
    rows = x.flatten(1) - x.flatten(1).mean(1, keepdim=True)
    centered = (rows / rows.norm(dim=1, keepdim=True)).reshape(2, 3, height, width)

    def magnitude(k, j):
        down, right = torch.arange(height).double()[:, None] * k / height, torch.arange(width).double() * j / width
        phase = 2 * math.pi * (down + right)
        real, imaginary = ((centered * part).sum((2, 3)) for part in (phase.cos(), phase.sin()))
        return torch.hypot(real, imaginary) / math.sqrt(height * width)

    pairs = [(k, j) for k in range(highest + 1) for j in range(highest + 1)]
    sums = torch.stack([magnitude(k, j) + magnitude(-k, j) for k, j in pairs], 2)
    differences = torch.stack([(magnitude(k, j) - magnitude(-k, j)).abs() for k, j in pairs], 2)
    expected = torch.cat([sums.flatten(1), differences.flatten(1)], 1) / math.sqrt(2)
    assert torch.allclose(low_frequencies(x), expected, atol=1e-9)

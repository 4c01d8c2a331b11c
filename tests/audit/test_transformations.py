"""Transformations of images, and queries aligned with the training images they were made from."""

import sys
from types import ModuleType

import pytest
import torch

from audit_subjects import digits
from diffuscope.audit.alignment import Alignment, low_frequencies
from diffuscope.audit.transformations import (
    NAMES,
    all_shifts,
    labels,
    largest_shift,
    rotated,
    shifted,
    standardized,
    transformations,
    versions,
)
from diffuscope.data import load_data
from diffuscope.errors import InputError

SHAPE = (1, 28, 28)


def test_the_versions_hold_the_identity_and_every_named_product(generator):
    x = torch.randn(3, *SHAPE, generator=generator)
    chosen = transformations(NAMES, SHAPE)
    made, names = versions(x, chosen), labels(chosen)
    assert made.shape[1] == len(names) == 2 * 5 * 25
    assert torch.equal(made[:, names.index("")], x)
    assert torch.equal(made[:, names.index("mirrored")], x.flip(3))
    moved = made[:, names.index("mirrored, shifted by (1, -2)")]
    assert torch.equal(moved[:, :, 1:, :-2], x.flip(3)[:, :, :-1, 2:])


def test_one_shift_of_each_image_is_that_of_all_shifts(generator):
    images, version = torch.rand(25, 3, 6, 9, generator=generator), torch.randperm(25, generator=generator)
    assert torch.equal(shifted(images, 2, version), all_shifts(images, 2)[torch.arange(25), version])


def test_a_quarter_turn_is_exact(generator):
    x = torch.randn(2, 1, 6, 6, generator=generator)
    assert torch.allclose(rotated(x, 90.0), torch.rot90(x, 1, (2, 3)), atol=1e-5)


def test_half_a_pixel_of_a_ramp_is_exact_inside():
    """Cubic interpolation reproduces what is linear."""
    x = torch.arange(28.0).expand(1, 1, 28, 28)
    (shift,) = [t for t in transformations(NAMES, SHAPE) if t.name == "shift"]
    assert shift.finer is not None
    halves = versions(x, [shift.finer])
    steps = [(down, right) for down in ("0", "0.5", "-0.5") for right in ("0", "0.5", "-0.5")]
    assert list(labels([shift.finer])) == ["", *(f"shifted by ({down}, {right})" for down, right in steps[1:])]
    moved = halves[:, labels([shift.finer]).index("shifted by (0, 0.5)")]
    assert torch.allclose(moved[..., 3:-3], x[..., 3:-3] - 0.5, atol=1e-5)


def test_standardized_rows_do_not_depend_on_brightness_and_contrast(generator):
    x = torch.randn(4, 50, generator=generator)
    assert torch.allclose(standardized(3 * x + 7), standardized(x), atol=1e-5)
    assert torch.equal(standardized(torch.full((2, 50), 0.3)), torch.zeros(2, 50))


def test_low_frequencies_do_not_depend_on_cyclic_shifts_and_mirror_images(generator):
    x = torch.randn(3, 1, 12, 10, generator=generator)
    found = low_frequencies(x)
    for other in (x.roll((3, -2), (2, 3)), x.flip(3), x.flip(3).roll(1, 3)):
        assert torch.allclose(low_frequencies(other), found, atol=1e-5)
    assert not torch.allclose(low_frequencies(x.mT.contiguous().reshape(x.shape)), found, atol=0.1)


@pytest.mark.usefixtures("shared_data")
def test_an_image_is_aligned_with_the_one_it_was_made_from():
    """At most half of the original distance is left, of any product of the transformations."""
    train = load_data("mnist").train[:2000]
    sources = train[:20]
    changed = 0.7 * all_shifts(rotated(sources.flip(3), 5.0), 2)[:, 1] + 0.1
    search = Alignment(train, transformations(NAMES, SHAPE))
    aligned, names, plain = search(changed)
    left = (search.compared(aligned) - search.rows[torch.arange(20)]).norm(dim=1)
    assert (left < 0.5 * plain).float().mean() >= 0.9
    assert all("mirrored" in name for name in names)


def test_small_images_are_shifted_less():
    assert largest_shift((1, 8, 8)) == 1
    assert largest_shift((3, 32, 32)) == 2


def test_vectors_have_no_transformations_and_none_is_a_choice():
    assert transformations(NAMES, (30,)) == []
    assert transformations(("none",), SHAPE) == []
    with pytest.raises(InputError, match=r"transformations: expected mirror, .* got 'rotate'"):
        transformations(("rotate",), (30,))


@pytest.fixture
def mine():
    module = ModuleType("my_transformations")
    vars(module).update(upside_down=lambda x: x.flip(2), wrong=lambda x: x[:, :, 1:], number=3)
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]


def test_a_transformation_of_the_user_is_undone(mine):
    x = digits(0)[:200]
    aligned, names, _ = Alignment(x, transformations((f"{mine}:upside_down",), (1, 8, 8)))(x[:20].flip(2))
    assert torch.equal(aligned, x[:20])
    assert set(names) <= {f"{mine}:upside_down", ""}  # some digits are symmetric


@pytest.mark.parametrize(("name", "message"), [("wrong", "must map a batch"), ("number", "expected a function")])
def test_what_is_no_transformation_is_refused(mine, name, message):
    with pytest.raises(InputError, match=message):
        Alignment(digits(0)[:20], transformations((f"{mine}:{name}",), (1, 8, 8)))(digits(0)[:3])

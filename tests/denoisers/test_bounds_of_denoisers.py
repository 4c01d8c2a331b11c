"""Arguments of denoisers: an error just beyond their bounds that names the value, accepted at them; and defaults."""

import copy
import inspect
import math
import pickle
from collections.abc import Callable

import pytest
import torch

from diffuscope.denoisers import (
    MLP,
    ExactDenoiser,
    LevelTable,
    LinearDenoiser,
    Preconditioned,
    ScheduleTime,
    SignalTime,
    StepIndex,
    SymmetricLinearDenoiser,
    UNet,
    preconditioning,
)
from diffuscope.denoisers.analytic import (
    Smoothed,
    local_score,
    masked_score,
    patch_composition,
    pca_local_score,
    wiener_masks,
)
from diffuscope.denoisers.counting import CountingDenoiser
from diffuscope.denoisers.networks.embedding import LabelEmbedding
from diffuscope.denoisers.objects import _require_description
from diffuscope.denoisers.predictors import checked_classes
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from stated_numbers import default

TINY = 1e-12
TIMES = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)
WIDE = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # 3 x 5 pixels
HIGH = WIDE.transpose(1, 2)
NORMAL = Gaussian.isotropic(torch.zeros(2), 1.0)


class Described:
    """A model with what it says about itself."""

    def __init__(self, **said: object) -> None:
        vars(self).update(said)


def shaped(shape: object) -> Callable[[], object]:
    return lambda: _require_description(Described(event_shape=shape), "my:model")


def ranged(ends: object) -> Callable[[], object]:
    return lambda: _require_description(Described(data_range=ends), "my:model")


def smoothed(**options: object) -> Smoothed:
    given = {"smoothing": 0.1, "draws": 2, "generator": torch.Generator().manual_seed(0), **options}
    return Smoothed(WIDE, VP(), **given)  # type: ignore[arg-type]


def preconditioned(sigma_data: float) -> Preconditioned:
    return Preconditioned(MLP((2,), width=4), VE(), sigma_data, event_shape=(2,), data_range=(-1.0, 1.0))


def symmetric(start: float) -> SymmetricLinearDenoiser:
    return SymmetricLinearDenoiser(VE(), TIMES.float(), mean=torch.zeros(2), data_range=(-1.0, 1.0), start=start)


KNOWN = "t: this network knows the integer times 1..9 only, got "
SHAPE = "model: my:model.event_shape: expected sizes such as (1, 28, 28), got "
RANGE = "model: my:model.data_range: expected two finite numbers, the lower first, got "
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: StepIndex(9).label(0.0), KNOWN + "0.0"),
    (lambda: StepIndex(9).label(10.0), KNOWN + "10.0"),
    (lambda: StepIndex(9).label(torch.tensor([4.0, 3.0 + 1.1e-6]).double()), KNOWN + "3.0000011"),
    (lambda: StepIndex(9).label(3.0 - 1.1e-6), KNOWN + "2.9999989"),
    (lambda: LevelTable(TIMES[:0]), "times: expected a table of at least one finite time >= 0"),
    (
        lambda: LevelTable(torch.tensor([-TINY, 1.0]).double()),
        "times: expected a table of at least one finite time >= 0",
    ),
    (lambda: LevelTable(torch.tensor([0.0, math.inf])), "times: expected a table of at least one finite time >= 0"),
    (lambda: LevelTable(torch.tensor([1.0, 1.0])), "times: expected times that increase from level to level"),
    (lambda: LevelTable(TIMES).label(2 * (1 + 1.1e-6)), "t: this network knows 3 noise levels only, got 2.0000022"),
    (lambda: LevelTable(TIMES).label(2 * (1 - 1.1e-6)), "t: this network knows 3 noise levels only, got 1.9999978"),
    (lambda: symmetric(0.0), "start: expected a number > 0 (P = 0 never moves), got 0.0"),
    (lambda: symmetric(math.inf), "start: expected a number > 0 (P = 0 never moves), got inf"),
    (lambda: preconditioned(0.0), "sigma_data: expected the standard deviation of the data, > 0, got 0.0"),
    (lambda: preconditioned(math.nan), "sigma_data: expected the standard deviation of the data, > 0, got nan"),
    (lambda: MLP((2,), fourier=-1), "fourier: expected a number of features >= 0, got -1"),
    (lambda: MLP((2,), fourier_scale=0.0), "fourier_scale: expected a finite number > 0, got 0.0"),
    (lambda: MLP((2,), fourier_scale=math.inf), "fourier_scale: expected a finite number > 0, got inf"),
    (lambda: MLP((2,), classes=-1), "classes: expected a number >= 0, got -1"),
    (lambda: UNet((4,)), "event_shape: expected an image (C, H, W) or (H, W), got (4,)"),
    (lambda: UNet((1, 2, 3, 4)), "event_shape: expected an image (C, H, W) or (H, W), got (1, 2, 3, 4)"),
    (lambda: UNet((4, 4), channels=()), "channels: expected the width of at least one level, got ()"),
    (lambda: UNet((4, 4), channels=(4, 0)), "channels: expected the width of at least one level, got (4, 0)"),
    (lambda: checked_classes(0, 2, 0), "y: expected no class, as this denoiser was not trained with classes, got 0"),
    (lambda: checked_classes(4, 2, 3), "y: expected classes 0 .. 2, or 3 for none, got 4"),
    (lambda: checked_classes(-1, 2, 3), "y: expected classes 0 .. 2, or 3 for none, got -1"),
    (
        lambda: checked_classes(torch.tensor([5, 0, 1, 2, 3, 3]), 6, 3),
        "y: expected classes 0 .. 2, or 3 for none, got 5, 0, 1, 2, 3, ...",
    ),
    (
        lambda: checked_classes(torch.tensor([5, 0, 1, 2, 3]), 5, 3),
        "y: expected classes 0 .. 2, or 3 for none, got 5, 0, 1, 2, 3",
    ),
    (lambda: inspect.unwrap(checked_classes)(torch.tensor([1.0]), 1, 3), "y: expected integers, got torch.float32"),
    (
        lambda: checked_classes(torch.tensor([1, 2]), 3, 3),
        "y: expected one class, or one per sample, shape (3,), got (2,)",
    ),
    (
        lambda: checked_classes(torch.ones(2, 1).long(), 2, 3),
        "y: expected one class, or one per sample, shape (2,), got (2, 1)",
    ),
    (shaped(()), SHAPE + "()"),
    (shaped(5), SHAPE + "5"),
    (shaped((3, 0)), SHAPE + "(3, 0)"),
    (shaped((3, 2.0)), SHAPE + "(3, 2.0)"),
    (ranged((1.0, 1.0)), RANGE + "(1.0, 1.0)"),
    (ranged((0.0, math.inf)), RANGE + "(0.0, inf)"),
    (ranged((-math.inf, 0.0)), RANGE + "(-inf, 0.0)"),
    (ranged((0.0, 1.0, 2.0)), RANGE + "(0.0, 1.0, 2.0)"),
    (ranged(("a", "b")), RANGE + "('a', 'b')"),
    (lambda: local_score(WIDE, VP(), 11), "size: expected an odd number 1 .. 9 for images of 3 x 5 pixels, got 11"),
    (lambda: local_score(HIGH, VP(), 11), "size: expected an odd number 1 .. 9 for images of 5 x 3 pixels, got 11"),
    (lambda: local_score(WIDE, VP(), 0), "size: expected an odd number 1 .. 9 for images of 3 x 5 pixels, got 0"),
    (
        lambda: patch_composition(WIDE, VP(), 4),
        "size: expected a whole number 1 .. 3 for images of 3 x 5 pixels, got 4",
    ),
    (
        lambda: patch_composition(HIGH, VP(), 4),
        "size: expected a whole number 1 .. 3 for images of 5 x 3 pixels, got 4",
    ),
    (lambda: local_score(WIDE, VP(), 1, memory=0), "memory: expected a positive number of bytes, got 0"),
    (
        lambda: masked_score(WIDE, VP(), lambda _: torch.ones(14, 14))(WIDE, 0.4),
        "masks: expected a matrix of shape (15, 15), one row per value of an image, got (14, 14)",
    ),
    (
        lambda: masked_score(WIDE, VP(), -torch.eye(15)),
        "masks: expected finite weights >= 0, got a negative or non-finite",
    ),
    (
        lambda: masked_score(WIDE, VP(), torch.full((15, 15), math.inf)),
        "masks: expected finite weights >= 0, got a negative",
    ),
    (lambda: pca_local_score(WIDE, VP(), share=-TINY), "share: expected a number in 0 .. 1, got -1e-12"),
    (lambda: pca_local_score(WIDE, VP(), share=1 + 1e-9), "share: expected a number in 0 .. 1, got 1.000000001"),
    (
        lambda: pca_local_score(WIDE[:1], VP(), share=0.5),
        "data: expected at least two images, whose covariance is fitted, got 1",
    ),
    (lambda: smoothed(smoothing=-TINY), "smoothing: expected a finite number >= 0, got -1e-12"),
    (lambda: smoothed(draws=4097), "draws: expected a whole number 1 .. 4096, got 4097"),
]


@pytest.mark.parametrize(("make", "line"), REFUSED, ids=[line[:40] for _, line in REFUSED])
def test_values_just_beyond_a_bound_raise_an_error_that_names_them(make: Callable[[], object], line: str):
    with pytest.raises(InputError) as raised:
        make()
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_values_at_a_bound_are_accepted():
    assert StepIndex(9).label(torch.tensor([1 - 0.9e-6, 9 + 0.9e-6], dtype=torch.float64)).tolist() == [0, 8]
    assert StepIndex(9, first_index=3).label(2.0).item() == 4
    assert LevelTable(torch.zeros(1)).label(0.0).item() == 0
    assert LevelTable(TIMES).label(torch.tensor([2 * (1 + 0.9e-6), 8 * (1 - 0.9e-6)]).double()).tolist() == [1, 2]
    assert float(symmetric(TINY).map_at(2.0)[0][0, 0]) == pytest.approx(TINY, rel=1e-6)
    assert preconditioned(TINY).sigma_data == TINY
    assert MLP((2,), width=4, fourier=0, fourier_scale=TINY).fourier == 0
    assert UNet((4, 4), channels=(1,)).image_shape == (1, 4, 4)
    assert LabelEmbedding(4, 5.0, 0).of_class is None
    one = LabelEmbedding(4, 5.0, 1).of_class
    assert one is not None
    assert (tuple(one.shape), one[-1].abs().sum().item()) == ((2, 4), 0.0)
    assert float(one[0].detach().abs().min()) > 0
    assert checked_classes(torch.tensor([0, 3]), 2, 3).tolist() == [0, 3]
    assert checked_classes(None, 2, 3).tolist() == [3, 3]
    assert checked_classes(2, 2, 3).tolist() == [2, 2]
    for check in (shaped([1]), shaped((3, 2)), ranged((0, 255)), ranged([-1.0, -1.0 + TINY])):
        check()
    for images, memory in ((WIDE, 1), (HIGH, 10**9)):
        x = images[:2]
        # the largest window holds the whole image, from anywhere in it
        all_of_it = local_score(images, VP(), 9, memory=memory)(x, 0.4)
        assert torch.allclose(all_of_it, masked_score(images, VP(), torch.ones(15, 15).double())(x, 0.4), atol=1e-12)
        assert patch_composition(images, VP(), 3, memory=memory)(x, 0.4).shape == x.shape
    assert masked_score(WIDE, VP(), torch.zeros(15, 15)).images.shape[-1] == 4
    for share in (0, 1):
        assert pca_local_score(WIDE[:2], VP(), share=share)(WIDE[:1], 0.4).shape == (1, 3, 5)
    assert smoothed(smoothing=0.0, draws=4096, memory=1)(WIDE[:1], 0.4).shape == (1, 3, 5)
    assert wiener_masks(NORMAL, TINY, 0.5).tolist() == [[True, False], [False, True]]


def test_defaults_are_those_of_their_pages():
    """The label of EDM spans 5; clocks do not rescale; data are taken to be centered."""
    assert [default(network, "label_span") for network in (MLP, UNet)] == [5.0, 5.0]
    assert (default(MLP, "fourier"), default(MLP, "fourier_scale"), default(MLP, "classes")) == (0, 1.0, 0)
    assert (ScheduleTime().scale, SignalTime().scale) == (1.0, 1.0)
    assert (StepIndex(5).first_trained, StepIndex(5).first_index) == (1, 0)
    assert preconditioned(1.0).data_mean == 0.0
    assert default(LinearDenoiser, "start") == 0.0
    assert default(SymmetricLinearDenoiser, "start") == 0.01


@pytest.mark.parametrize(
    ("ratio", "label"), [(1e-9, -10 / 4), (math.exp(-9), -9 / 4), (math.exp(9), 9 / 4), (1e9, 10 / 4)]
)
def test_the_label_of_edm_is_a_quarter_of_log_sigma_within_ten(ratio: float, label: float):
    assert float(preconditioning(VE(), ratio, 0.5).c_noise) == pytest.approx(label, rel=1e-12)


def test_a_counter_is_copied_and_pickled_with_its_count_and_tells_what_is_missing():
    counting = CountingDenoiser(ExactDenoiser(NORMAL, VE()))
    counting(torch.ones(1, 2), 1.0)
    for again in (copy.copy(counting), copy.deepcopy(counting), pickle.loads(pickle.dumps(counting))):
        again(torch.ones(1, 2), 1.0)
        assert (again.calls, counting.calls) == (2, 1)
        assert again.schedule == VE()
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = counting.nothing_of_the_kind
    with pytest.raises(AttributeError, match="denoiser"):
        _ = CountingDenoiser.__new__(CountingDenoiser).denoiser

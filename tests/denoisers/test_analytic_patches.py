"""Analytic denoisers of patches against direct sums over all sources, exactly solvable cases and each other."""

from itertools import product

import pytest
import torch
from torch import Tensor

from audit_subjects import SMALL, digits
from diffuscope.audit import Session, Subject
from diffuscope.audit.manners import manners
from diffuscope.audit.questions.wiring import QUESTION
from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.denoisers.analytic import (
    boundary_equivariant_score,
    center_mean,
    circular_views,
    equivariant_score,
    local_score,
    local_views,
    masked_score,
    patch_composition,
)
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.samplers import generate
from diffuscope.schedules import VE, VP, RectifiedFlow

C, H, W = 2, 5, 6
KINDS = {
    "local": local_score,
    "circular": equivariant_score,
    "boundary": boundary_equivariant_score,
    "crops": patch_composition,
}
TIMES = (0.05, 0.4, 0.95)


def images(n: int, seed: int, shape: tuple[int, ...] = (C, H, W), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def windows(image: Tensor, half: int, periodic: bool) -> dict[tuple[int, int], tuple[frozenset, Tensor]]:
    """Around every pixel: the places of its window that exist, and the values there, in the same order."""
    height, width = image.shape[1:]
    offsets = list(product(range(-half, half + 1), repeat=2))
    found = {}
    for row, column in product(range(height), range(width)):
        inside = [(i, j) for i, j in offsets if periodic or (0 <= row + i < height and 0 <= column + j < width)]
        values = [image[:, (row + i) % height, (column + j) % width] for i, j in inside]
        found[row, column] = frozenset(inside), torch.stack(values)
    return found


def direct_score(data: Tensor, x: Tensor, alpha: float, sigma: float, size: int, kind: str) -> Tensor:
    """One query (C, H, W), output by output and source by source."""
    answer, periodic = torch.empty_like(x), kind == "circular"
    sources = [(image, windows(image, size // 2, periodic)) for image in data]
    for q, (places, query) in windows(x, size // 2, periodic).items():
        logits, values = [], []
        for image, by_pixel in sources:
            for p, (source_places, source) in by_pixel.items():
                if source_places == places and (kind != "local" or p == q):  # cut by the edges in the same way
                    logits.append(-(query - alpha * source).square().sum() / (2 * sigma**2))
                    values.append(image[:, p[0], p[1]])
        answer[:, q[0], q[1]] = torch.softmax(torch.stack(logits), 0) @ torch.stack(values)
    return answer


def direct_composition(data: Tensor, x: Tensor, alpha: float, sigma: float, size: int) -> Tensor:
    """One query (C, H, W), crop by crop."""
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    for i, j in product(range(x.shape[1] - size + 1), range(x.shape[2] - size + 1)):
        at = (slice(None), slice(i, i + size), slice(j, j + size))
        crops = data[:, *at].flatten(1)
        weights = torch.softmax(-(x[at].flatten() - alpha * crops).square().sum(1) / (2 * sigma**2), 0)
        total[at] += (weights @ crops).reshape(x[at].shape)
        count[at] += 1
    return total / count


@pytest.mark.parametrize(
    ("kind", "size", "t"),
    [(kind, 3, t) for kind in KINDS for t in TIMES]
    + [(kind, k, 0.4) for kind in KINDS for k in (1, 5)]
    + [("boundary", 7, 0.4), ("local", 11, 0.4), ("crops", 4, 0.4)],
)
def test_every_kind_is_the_direct_sum_over_its_sources(kind, size, t):
    """In float64, 1e-12 of the largest answer: the same sums in another order."""
    data, x, schedule = images(3, 0), images(2, 1), VP()
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    if kind == "crops":
        direct = torch.stack([direct_composition(data, row, alpha, sigma, size) for row in x])
    else:
        direct = torch.stack([direct_score(data, row, alpha, sigma, size, kind) for row in x])
    torch.testing.assert_close(KINDS[kind](data, schedule, size)(x, t), direct, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [
        ("local", (C, H, W), 11),
        ("boundary", (C, H, W), 11),
        ("crops", (3, 5, 5), 5),
        ("crops", (6, 6), 6),
        ("local", (4, 7), 13),
    ],
)
def test_a_patch_that_covers_the_image_leaves_the_empirical_denoiser(kind, shape, size, t):
    """The bar is 1e-6, relative; in float64 both are sums of the same terms."""
    data, x, schedule = images(7, 2, shape), images(5, 3, shape), VP()
    exact = ExactDenoiser(Empirical(data), schedule)(x, t)
    assert float((KINDS[kind](data, schedule, size)(x, t) - exact).norm() / exact.norm()) < 1e-10


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-7), (torch.float64, 1e-12)])
@pytest.mark.parametrize("size", [3, 5])
def test_shifting_the_query_shifts_the_circular_answer_and_shifting_the_data_changes_nothing(size, dtype, tolerance):
    """The bar is 1e-6 of the largest answer. Computed in float64, rounded once: 6e-8 for float32."""
    data, x, schedule = images(6, 4, dtype=dtype), images(3, 5, dtype=dtype), VP()
    for t, shift in product((0.01, *TIMES), ((2, 3), (-1, 4))):
        answer = equivariant_score(data, schedule, size)(x, t)
        moved = equivariant_score(data, schedule, size)(x.roll(shift, (2, 3)), t)
        assert float((moved - answer.roll(shift, (2, 3))).abs().max()) < tolerance * float(answer.abs().max())
        of_moved = equivariant_score(data.roll(shift, (2, 3)), schedule, size)(x, t)
        assert float((of_moved - answer).abs().max()) < tolerance * float(answer.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_size_and_any_memory_give_the_same_answer(kind, dtype):
    """One byte of memory takes one image and one query at a time."""
    data, x, schedule, size = images(5, 6, dtype=dtype), images(3, 7, dtype=dtype), VP(), 3
    t = 0.2
    whole = KINDS[kind](data, schedule, size)(x, t)
    small = KINDS[kind](data, schedule, size, memory=1)(x, t)
    singly = torch.cat([KINDS[kind](data, schedule, size)(row[None], t) for row in x])
    permuted = KINDS[kind](data.flip(0), schedule, size)(x, t)
    for other in (small, singly, permuted):
        assert float((other - whole).abs().max()) < 1e-6 * float(whole.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_per_sample_is_that_time_of_each(kind):
    data, x = images(4, 8), images(3, 9)
    denoiser = KINDS[kind](data, VP(), 3)
    each = torch.cat([denoiser(row[None], t) for row, t in zip(x, TIMES, strict=True)])
    torch.testing.assert_close(denoiser(x, torch.tensor(TIMES, dtype=torch.float64)), each, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_a_patch_of_one_pixel_denoises_every_pixel_for_itself(t):
    """Local: the empirical denoiser of the values at that pixel; equivariant: of the values of all pixels."""
    data, x, schedule = images(5, 10, (H, W)), images(3, 11, (H, W)), VP()
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    local, equivariant = local_score(data, schedule, 1)(x, t), equivariant_score(data, schedule, 1)(x, t)
    everywhere = Empirical(data.reshape(-1, 1))
    for i, j in product(range(H), range(W)):
        here = Empirical(data[:, i, j, None]).denoise(x[:, i, j, None], alpha, sigma)
        torch.testing.assert_close(local[:, i, j, None], here, rtol=0, atol=1e-10)
        anywhere = everywhere.denoise(x[:, i, j, None], alpha, sigma)
        torch.testing.assert_close(equivariant[:, i, j, None], anywhere, rtol=0, atol=1e-10)
    for other in (patch_composition(data, schedule, 1), masked_score(data, schedule, torch.eye(H * W).double())):
        torch.testing.assert_close(other(x, t), local, rtol=0, atol=1e-12)
    boundary = boundary_equivariant_score(data, schedule, 1)(x, t)  # a window of one pixel is never cut
    torch.testing.assert_close(boundary, equivariant, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["local", "crops"])
def test_a_single_image_is_always_the_answer_at_its_location(kind):
    data, x = images(1, 12), images(3, 13)
    for t in TIMES:
        torch.testing.assert_close(KINDS[kind](data, VP(), 3)(x, t), data.expand(3, -1, -1, -1), rtol=0, atol=1e-12)


def test_where_nothing_of_the_data_is_left_the_answer_is_the_mean_of_the_sources():
    """alpha = 0: over images at the pixel, over everything, and over the pixels that are cut alike."""
    data, x, schedule = images(6, 14), images(2, 15), RectifiedFlow()
    assert float(schedule.alpha(1.0)) == 0
    mean = data.mean(0)
    for denoiser in (local_score(data, schedule, 3), patch_composition(data, schedule, 3)):
        torch.testing.assert_close(denoiser(x, 1.0), mean.expand(2, -1, -1, -1), rtol=0, atol=1e-12)
    everywhere = mean.mean((1, 2))[:, None, None].expand(2, C, H, W)
    torch.testing.assert_close(equivariant_score(data, schedule, 3)(x, 1.0), everywhere, rtol=0, atol=1e-12)
    by_class = mean.clone()
    by_class[:, 1:-1, 1:-1] = mean[:, 1:-1, 1:-1].mean((1, 2), keepdim=True)
    for edge in (0, -1):
        by_class[:, edge, 1:-1] = mean[:, edge, 1:-1].mean(1, keepdim=True)
        by_class[:, 1:-1, edge] = mean[:, 1:-1, edge].mean(1, keepdim=True)
    boundary = boundary_equivariant_score(data, schedule, 3)(x, 1.0)
    torch.testing.assert_close(boundary, by_class.expand(2, -1, -1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_masks_of_ones_are_the_empirical_denoiser_and_masks_of_windows_the_local_score(t):
    data, x, schedule = images(5, 16), images(3, 17), VP()
    rows, columns = (((torch.arange(n)[:, None] - torch.arange(n)).abs() <= 1).double() for n in (H, W))
    windows = torch.kron(torch.ones(C, C).double(), torch.kron(rows, columns))
    local = local_score(data, schedule, 3)(x, t)
    torch.testing.assert_close(masked_score(data, schedule, windows)(x, t), local, rtol=0, atol=1e-12)
    exact = ExactDenoiser(Empirical(data), schedule)(x, t)
    ones = masked_score(data, schedule, lambda _: torch.ones(C * H * W, C * H * W).double())
    torch.testing.assert_close(ones(x, t), exact, rtol=0, atol=1e-10)


def test_masks_weigh_every_channel_and_pixel_for_itself():
    """One output value of a random mask, summed directly."""
    data, x, d = images(5, 18), images(2, 19), C * H * W
    masks = torch.rand(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(20))
    answer = masked_score(data, VE(), masks)(x, 1.5).flatten(1)
    for r in (0, 7, d - 1):
        squares = (masks[r] * (x.flatten(1)[:, None] - data.flatten(1)).square()).sum(-1)
        direct = torch.softmax(-squares / (2 * 1.5**2), 1) @ data.flatten(1)[:, r]
        torch.testing.assert_close(answer[:, r], direct, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("kind", ["circular", "boundary"])
def test_float32_images_give_the_answer_of_float64_at_every_noise_level(kind, sigma):
    """Rounded once, to 6e-8 of the largest, here 1."""
    data = images(20, 21, (1, 8, 8), torch.float32).clamp(-1, 1)
    near = data[:3] + sigma * images(3, 22, (1, 8, 8), torch.float32)
    far = images(2, 23, (1, 8, 8), torch.float32)
    for x in (near, far):
        exact = KINDS[kind](data.double(), VE(), 5)(x.double(), sigma)
        single = KINDS[kind](data, VE(), 5)(x, sigma)
        assert single.dtype == torch.float32
        assert float((single.double() - exact).abs().max()) < 1e-7


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_the_stated_error_bounds_that_of_float32(sigma, spread):
    """It is a share of the range; float32 is never exact where sources compete. Values about 5 sigma to 50 sigma."""
    data = 0.5 + sigma * spread * images(40, 24, (1, 8, 8), torch.float32)
    x = 0.5 + sigma * (1 + spread**2) ** 0.5 * images(8, 25, (1, 8, 8), torch.float32)
    stored, views = data.permute(1, 2, 3, 0).contiguous(), list(circular_views(8, 8, 3))
    single = center_mean(x, stored, views, 1.0, sigma, working=torch.float32)
    exact = center_mean(x.double(), stored.double(), views, 1.0, sigma, working=torch.float64)
    gap = (single.mean - exact.mean).abs().amax((1, 2, 3)) / float(data.max() - data.min())
    assert bool((gap < single.error).all())
    assert float(gap.min()) > 1e-9


def test_a_window_at_low_noise_is_answered_by_its_own_source_anywhere():
    """The query is a patchwork of two images: far from the seam every window is one of theirs."""
    data = images(2, 26, (1, 9, 9))
    x = torch.cat([data[0, :, :, :5].roll(2, 1), data[1, :, :, 5:]], -1)[None]
    answer = equivariant_score(data, VE(), 3)(x, 0.01)
    torch.testing.assert_close(answer[..., 1:4], x[..., 1:4], rtol=0, atol=1e-12)
    torch.testing.assert_close(answer[..., 6:8], x[..., 6:8], rtol=0, atol=1e-12)


def test_a_size_may_follow_the_noise():
    data, x = images(4, 27), images(2, 28)
    levels = []

    def size(level):
        levels.append(level)
        return 5 if level > 1 else 3

    denoiser = local_score(data, RectifiedFlow(), size)
    for t, k in ((0.2, 3), (0.8, 5), (1.0, 5)):
        torch.testing.assert_close(denoiser(x, t), local_score(data, RectifiedFlow(), k)(x, t), rtol=0, atol=0)
    assert levels[:1] == pytest.approx([0.25])
    assert levels[-1] == float("inf")


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_that_is_not_finite_has_no_answer_and_spoils_no_other(kind):
    data, x = images(4, 33), images(3, 34)
    whole = KINDS[kind](data, VP(), 3)(x, 0.4)
    x[1, 0, 2, 2] = float("nan")
    answer = KINDS[kind](data, VP(), 3)(x, 0.4)
    assert bool(answer[1, :, 2, 2].isnan().all())
    torch.testing.assert_close(answer[[0, 2]], whole[[0, 2]], rtol=0, atol=1e-12)


def test_a_gradient_is_refused_and_not_zero():
    x = images(2, 29).requires_grad_()
    answer = local_score(images(3, 30), VP(), 3)(x, 0.4)
    with pytest.raises(InputError, match="x_t: expected no gradient"):
        answer.sum().backward()
    with torch.no_grad():
        assert not local_score(images(3, 30), VP(), 3)(x, 0.4).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: local_score(y, VP(), 4), r"size: expected an odd number 1 \.\. 11 for images of 5 x 6 pixels"),
        (lambda y: local_score(y, VP(), 13), r"size: expected an odd number 1 \.\. 11 .* got 13"),
        (lambda y: local_score(y, VP(), lambda _: 2)(y, 0.4), r"size: expected an odd number .* got 2"),
        (lambda y: equivariant_score(y, VP(), 7), r"size: expected an odd number 1 \.\. 5 .* got 7"),
        (lambda y: patch_composition(y, VP(), 6), r"size: expected a whole number 1 \.\. 5 .* got 6"),
        (lambda y: patch_composition(y, VP(), 0), r"size: expected a whole number 1 \.\. 5 .* got 0"),
        (lambda y: boundary_equivariant_score(y, VP(), -1), r"size: expected an odd number .* got -1"),
        (lambda y: local_score(y.flatten(1), VP(), 1), r"data: expected images of shape .* got \(4, 60\)"),
        (lambda y: local_score(y[:0], VP(), 1), "data: expected at least one image"),
        (lambda y: local_score(y / 0, VP(), 1), "data: expected finite values, got NaN or infinity"),
        (lambda y: local_score(y, VP(), 3)(y[:, :1], 0.4), r"x_t: expected shape \(batch, 2, 5, 6\), got \(4, 1"),
        (lambda y: equivariant_score(y[:, :, :4], VP(), 4), r"size: expected an odd number 1 \.\. 3 .* got 4"),
        (lambda y: local_score(y, VE(), 3)(y, 0.0), "sigma: expected values > 0, got 0"),
        (lambda y: local_score(y, VE(), 3)(y, float("nan")), "expected finite values >= 0"),
        (lambda y: local_score(y, VE(), 3, memory=0), "memory: expected a positive number of bytes, got 0"),
        (lambda y: masked_score(y, VP(), torch.ones(3, 3)), r"masks: expected a matrix of shape \(60, 60\)"),
        (lambda y: masked_score(y, VP(), -torch.ones(60, 60)), "masks: expected finite weights >= 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as raised:
        call(images(4, 31))
    assert "\n" not in str(raised.value)


def test_samples_of_the_local_score_of_one_pixel_are_mosaics_that_the_data_do_not_contain():
    """Of two images, all -1 and all +1: every sampled pixel is one of the two, and almost no sample is an image."""
    data = torch.ones(2, 1, 4, 4) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    denoiser = local_score(data, VE(), 1)
    assert isinstance(denoiser, Denoiser)
    samples = generate(denoiser, 64, steps=30)
    assert float((samples.abs() - 1).abs().max()) < 0.05
    both = (samples > 0).flatten(1).float().mean(1)
    assert int(((both == 0) | (both == 1)).sum()) <= 1  # 64 times 2^-15 expected
    whole = generate(local_score(data, VE(), 7), 64, steps=30)  # a window over the image: the data, and nothing else
    assert float((whole - whole.mean((1, 2, 3), keepdim=True)).abs().max()) < 0.05


def test_a_local_score_keeps_the_contract_of_a_denoiser():
    x, times = digits(3), torch.tensor([0.5, 0.1, 0.9], dtype=torch.float64)
    noised = x[100:108] + 0.3 * images(8, 32, (1, 8, 8), torch.float32)
    assert manners(local_score(x[:100], VP(), 5), noised, times) == []


@pytest.mark.slow
def test_the_audit_takes_a_local_score_for_a_sound_model():
    x = digits(3)
    answer = QUESTION.ask(Session(Subject(local_score(x[:300], VP(), 5), x[:300], x[300:600]), SMALL))
    assert answer is not None
    assert not answer.broken
    assert answer.findings[0].name == "wiring.verdict"
    assert answer.findings[0].tone == "neutral"  # 300 examples say little of its time: no doubt, no praise


def test_a_local_view_is_one_and_all_shifts_are_height_times_width():
    assert len(list(local_views(H, W, 3))) == 1
    assert len(list(circular_views(H, W, 3))) == H * W

"""What a network is asked for under every convention, and what identifies or modifies examples of an audit."""

import numpy as np
import pytest
import torch
from results_of_samples import copies

from diffuscope.audit.column_permutations import permuted_names
from diffuscope.audit.conventions import TABLES, conventions
from diffuscope.audit.fingerprint import digest
from diffuscope.audit.latents import Encoder, _batched, _limits, encode_data
from diffuscope.audit.network_calls import called_network
from diffuscope.audit.planting import modifications
from diffuscope.audit.standard_names import standard_measures
from diffuscope.data import toy_data
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, RectifiedFlow


class Wrapped:
    """A denoiser around a network that is given 10 times the schedule's time and its input halved."""

    schedule = VP()

    def __init__(self):
        self.asked = []

        def network(x, time):
            self.asked.append((x.clone(), float(time)))
            return 3 * x

        self.network = network

    def __call__(self, x_t, t):
        return self.network(x_t, 10 * t)


@pytest.fixture(scope="module")
def every():
    model = Wrapped()
    x = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    network = called_network(model, x, 0.4)
    assert network is not None
    return model, x, network, {c.name: c for c in conventions(model, x, network)}


def test_the_network_is_found_with_its_time_and_asked_at_others(every):
    model, x, network, _ = every
    assert (network.time, network.name, network.counts) == (pytest.approx(4.0), "network", False)
    other = torch.tensor([[7.0, 8.0]])
    assert network(other, 0.25).tolist() == [[21.0, 24.0]]
    assert model.asked[-1][1] == 0.25
    assert torch.equal(model.asked[-1][0], other)
    assert torch.equal(network.output, 3 * x)


def test_the_declared_labels_are_moved_as_their_names_say(every):
    model, x, _, named = every
    t, ends = 0.3, model.schedule.t_min + model.schedule.t_max
    for name, label in {
        "as declared": 10 * t,
        "the declared time plus 1": 10 * t + 1,
        "the declared time minus 1": 10 * t - 1,
        "the declared time reversed": 10 * (ends - t),
        "1 minus the declared time": 1 - 10 * t,
        "1,000 times the declared time": 10_000 * t,
        "1,000 times the declared time, reversed": 10_000 * (ends - t),
        "the declared time divided by its largest": t / model.schedule.t_max,
        "the time t of the schedule": t,
        "the time t of the schedule, reversed": ends - t,
    }.items():
        assert torch.equal(named[name].answer(x, t), 3 * x)
        assert model.asked[-1][1] == pytest.approx(label, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "t", "label"),
    [
        ("the index t - 1 of DDPM's 1,000 steps", 400, 399),
        ("the index t - 1 of DDPM's 50 steps", 40, 39),
        ("the step t of DDPM's 1,000 steps", 400, 400),
        ("t / 1,000 of DDPM's 1,000 steps", 400, 0.4),
        ("the reversed index 1,000 - t of DDPM's 1,000 steps", 400, 600),
        ("the index t - 1 of Stable Diffusion's 1,000 steps", 400, 399),
        ("the time t of the schedule Cosine", 0.3, 0.3),
        ("1 - t of the schedule RectifiedFlow", 0.3, 0.7),
        ("1,000 t of the schedule VP", 0.3, 300),
        ("1,000 (1 - t) of the schedule RectifiedFlow", 0.3, 700),
    ],
)
def test_the_labels_of_the_field_are_those_of_their_names(every, name, t, label):
    model, x, _, named = every
    named[name].answer(x, float(t))
    assert model.asked[-1][1] == pytest.approx(label)


def test_labels_of_noise_levels_are_functions_of_the_ratio(every):
    model, x, _, named = every
    for other in (VE(1e-4, 1e4), VP(), RectifiedFlow()):
        ratio = float(other.noise_to_signal(0.3))
        for name, label in (
            ("sigma/alpha", ratio),
            ("log(sigma/alpha)", np.log(ratio)),
            ("log(sigma/alpha) / 4", np.log(ratio) / 4),
            ("log(alpha/sigma)", -np.log(ratio)),
            ("the log signal-to-noise ratio", -2 * np.log(ratio)),
        ):
            named[f"{name}, with the input scaled as in {type(other).__name__}"].answer(x, 0.3)
            assert model.asked[-1][1] == pytest.approx(label, rel=1e-6, abs=1e-9)


def test_the_chains_have_their_published_betas(every):
    named = every[3]
    assert {f"the index t - 1 of DDPM's {steps:,} steps" for steps in TABLES} <= set(named)
    stable = named["the index t - 1 of Stable Diffusion's 1,000 steps"].schedule
    first = 1 - float(stable.alpha(1.0)) ** 2
    last = 1 - (float(stable.alpha(1000.0)) / float(stable.alpha(999.0))) ** 2
    assert (first, last) == pytest.approx((0.00085, 0.012), rel=1e-6)  # Rombach et al.: linear in the root
    middle = 1 - (float(stable.alpha(500.0)) / float(stable.alpha(499.0))) ** 2
    assert middle == pytest.approx((0.00085**0.5 + 499 / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2, rel=1e-5)
    t, instant = named["the step t of DDPM's 1,000 steps"].instant(1.0)
    assert t == round(t)
    assert instant.ratio == pytest.approx(1.0, rel=0.01)


def test_times_are_kept_within_the_schedule(every):
    named = every[3]
    convention = named["the time t of the schedule Cosine"]
    assert convention.trained(-3.0) == convention.schedule.t_min
    assert convention.trained(3.0) == convention.schedule.t_max
    assert named["the step t of DDPM's 1,000 steps"].trained(17.4) == 17.0


def test_every_modification_of_an_image_is_the_one_of_its_name():
    generator = torch.Generator().manual_seed(0)
    train = torch.rand(50, 1, 8, 8, generator=generator) * 4 - 1
    low, high = float(train.min()), float(train.max())
    width = high - low
    found = modifications(train, torch.Generator().manual_seed(1))
    x = train[:20]
    assert torch.equal(found["exact"](x), x)
    noise = found["noise of 0.05 of the range"](x) - x
    assert float(noise.std()) == pytest.approx(0.05 * width, rel=4 / (2 * noise.numel()) ** 0.5)
    assert torch.allclose(found["brightness +0.2"](x), (x + 0.2 * width).clamp(low, high))
    assert torch.allclose(found["brightness -0.2"](x), (x - 0.2 * width).clamp(low, high))
    mean = x.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(found["contrast x0.8"](x), mean + 0.8 * (x - mean), atol=1e-6)
    assert torch.allclose(found["contrast x1.2"](x), (mean + 1.2 * (x - mean)).clamp(low, high), atol=1e-6)
    assert torch.equal(found["mirrored"](x), x.flip(3))
    moved = found["shifted by 1 pixel"](x)
    places = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    for image, before in zip(moved, x, strict=True):
        inner = image[:, 1:-1, 1:-1]
        assert any(torch.equal(inner, before[:, 1 - i : 7 - i, 1 - j : 7 - j]) for i, j in places)
    blurred = found["blur of 0.5 pixel"](x)
    assert float(blurred.var()) < float(x.var())
    assert torch.allclose(blurred.mean(), x.mean(), atol=0.02)
    turned = found["rotated by 5°"]
    same = turned(torch.cat([x[:1], x[:1]]))
    assert not torch.allclose(same[0], same[1])  # the one to the left, the other to the right
    assert set(modifications(torch.rand(9, 4), generator)) == {"exact", "noise of 0.05 of the range"}


def test_names_are_permuted_in_parts_of_all():
    rng = np.random.default_rng(0)
    parts = list(permuted_names(3, 5, 7, rng, 4))
    assert [part.shape for part in parts] == [(4, 8), (3, 8)]
    assert all(part.sum(1).tolist() == [3] * len(part) for part in parts)
    assert len(np.unique(np.concatenate(parts), axis=0)) > 1


def test_groups_of_another_length_are_refused_by_the_set_that_lacks_them():
    rows = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="train_groups: expected one group for each of the 6 rows, got 4"):
        standard_measures(rows, rows, rows[:4], rng, train_groups=range(4), heldout_groups=range(10, 14))
    with pytest.raises(InputError, match="heldout_groups: expected one group for each of the 4 rows, got 6"):
        standard_measures(rows, rows, rows[:4], rng, train_groups=range(6), heldout_groups=range(10, 16))
    with pytest.raises(InputError, match="got those of one"):
        standard_measures(rows, rows, rows, rng, train_groups=range(6))


def test_heldout_examples_are_known_from_a_third_of_them():
    def known(leaked, calibration, **changes):
        kept = {"null_distance": np.ones(calibration), "null_next_distance": np.ones(calibration)}
        found = copies(leaked=dict.fromkeys(range(leaked), 8), heldout=np.arange(calibration), **kept, **changes)
        return found.heldout_known

    assert known(3, 6)  # 3 of 9
    assert not known(2, 5)  # 2 of 7
    assert known(1, 1)
    assert not known(0, 1)
    assert known(0, 3, heldout_copied=True)


def test_a_digest_is_of_dtype_shape_and_values():
    x = torch.arange(6.0)
    known = digest(x)
    assert len(known) == 64
    assert known == digest(x.clone())
    others = [x.double(), x.reshape(2, 3), x.flip(0), torch.cat([x, x])]
    assert len({known, *map(digest, others), digest(x, x), digest()}) == 7
    assert digest(x.requires_grad_()) == known


def encoder(function):
    return Encoder(name="m:encode", found=function, encode=function, decode=None)


def test_latents_are_detached_arrays_or_tensors_of_rows():
    x = torch.arange(6.0).reshape(3, 2)
    expected = (2 * x).tolist()
    for function in (lambda z: torch.nn.Parameter(2 * z), lambda z: (2 * z).numpy(), lambda z: (2 * z).double()):
        made = _batched(encoder(function), "encode", x, None)
        assert (made.tolist(), made.dtype, made.requires_grad) == (expected, torch.float32, False)
    for function, told in (
        (lambda z: 2 * z.tolist(), "a tensor or an array, got list"),
        (lambda z: z[:2], r"3 rows for as many examples, got shape \(2, 2\)"),
        (lambda z: z / 0, "finite numbers, got NaN or infinity"),
        (lambda z: z * 1j, "finite numbers, got complex ones"),
        (lambda z: z[:, :0], r"3 rows for as many examples, got shape \(3, 0\)"),
    ):
        with pytest.raises(InputError, match=told):
            _batched(encoder(function), "encode", x, None)
    with pytest.raises(InputError, match=r"examples of shape \(5,\), got \(2,\)"):
        _batched(encoder(lambda z: z), "encode", x, (5,))


def test_the_range_of_latents_is_that_of_both_sets_and_has_no_minus_zero():
    low, high = _limits([torch.tensor([[-0.0, 2.0]]), torch.tensor([[1.0, 7.0]])])
    assert (str(low), high) == ("0.0", 7.0)
    assert _limits([torch.tensor([[3.0]]), torch.tensor([[1.0]])]) == (1.0, 3.0)


def test_data_without_samples_have_no_latents_of_any():
    data = toy_data("two-moons", n_train=20, n_heldout=10)
    made = encode_data(encoder(lambda z: 3 * z), data, None, None)
    assert made.samples is None
    assert torch.allclose(made.data.train, 3 * data.train)
    given = encode_data(encoder(lambda z: 3 * z), data, data.train[:4], None)
    assert given.samples is not None
    assert torch.allclose(given.samples, 3 * data.train[:4])
    with pytest.raises(InputError, match="latents that vary from m:encode, got 0 everywhere"):
        encode_data(encoder(lambda z: 0 * z), data, None, None)

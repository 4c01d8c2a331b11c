"""Analytic denoisers under one protocol: its measures, the shortcuts, and claims that fail where they should."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from answering import answered, failures, planted

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.denoisers.analytic import local_score
from diffuscope.exact import Empirical, Gaussian
from diffuscope.experiments import find
from diffuscope.experiments.analytic_denoisers import DIGITS, EXPERIMENT, grouped, order, subject_of
from diffuscope.experiments.analytic_denoisers.methods import SHORTCUTS, all_methods
from diffuscope.experiments.analytic_denoisers.peers import NearestOnly, PerBatch
from diffuscope.experiments.analytic_denoisers.protocol import (
    Measured,
    Method,
    agreement,
    bootstrapped,
    compared,
    difference,
)
from diffuscope.schedules import VE

HERE = "diffuscope.experiments.analytic_denoisers"
SETTING = "DIFFUSCOPE_NETWORKS"
SCHEDULE = VE(0.01, 40.0)
SMALL = replace(
    DIGITS, windows=(3, 5), crops=(3,), shares=(0.8,), smoothings=(0.3,), draws=2, batch=50, costly_images=20,
    costly_queries=4,
)  # fmt: skip


def images(range_=(-1.0, 1.0), n=150):
    data = load_data("digits").in_range(*range_)
    return data.train[:n].double().reshape(-1, 8, 8), data.heldout.double().reshape(-1, 8, 8)


def subject(network, range_=(-1.0, 1.0), n=150):
    """Four digits to choose by and six to report."""
    train, heldout = images(range_, n)
    return subject_of("digits", network, train, heldout, (4, 6), (range_[1] - range_[0]) / 2, 0)


def method(denoiser):
    return Method("m", lambda *_: denoiser)


def measured(r2):
    zeros = torch.zeros_like(r2)
    return Measured(method(None), (0,) * len(r2), zeros, r2, zeros, zeros[:, 0])


# the protocol


def test_a_method_that_is_the_network_agrees_with_it_entirely():
    network = local_score(images()[0], SCHEDULE, 3)
    found = compared(subject(network), [method(network)])["m"]
    assert float(found.error.max()) == 0
    assert float((found.r2 - 1).abs().max()) == 0
    torch.testing.assert_close(found.cosine, torch.ones_like(found.cosine), rtol=0, atol=1e-12)


def test_the_patch_size_of_the_network_is_found():
    train = images()[0]
    method_ = Method("local", lambda of, size: local_score(of.train, of.network.schedule, size), (3, 5, 7))
    found = compared(subject(local_score(train, SCHEDULE, 5)), [method_])["local"]
    assert set(found.choices) == {5}
    assert float(found.error.max()) == 0


def test_the_mean_of_the_networks_own_pixels_has_no_r2_and_its_variance_as_error():
    of = subject(local_score(images()[0], SCHEDULE, 3))
    at = of.reported_at[2]
    flat = at.answer.mean((1, 2), keepdim=True).expand_as(at.answer)
    error, r2, _ = agreement(of, at, flat)
    torch.testing.assert_close(r2, torch.zeros_like(r2), rtol=0, atol=1e-12)
    torch.testing.assert_close(error, at.answer.flatten(1).var(1, correction=0), rtol=1e-12, atol=0)


def test_the_mean_of_the_data_has_no_direction():
    found = compared(subject(local_score(images()[0], SCHEDULE, 3)), all_methods(SMALL)[:1])["mean"]
    assert float(found.cosine.abs().max()) < 1e-12


def test_measures_do_not_depend_on_the_range_of_the_network():
    """Data in [0, 1] at half the noise are data in [-1, 1]; their errors are given in units of the latter."""
    results = []
    for range_ in ((-1.0, 1.0), (0.0, 1.0)):
        train = images(range_)[0]
        network = local_score(train, VE(0.001, 40.0), 3)
        results.append(compared(subject(network, range_), [all_methods(SMALL)[2]])["empirical"])
    for name in ("error", "r2", "cosine"):
        torch.testing.assert_close(getattr(results[0], name), getattr(results[1], name), rtol=1e-5, atol=1e-6)


def test_every_method_answers_at_every_level():
    found = compared(subject(local_score(images()[0], SCHEDULE, 3)), all_methods(SMALL))
    assert set(SHORTCUTS) < set(found)
    for name, at in found.items():
        n = SMALL.costly_queries if name in ("boundary", "equivariant") else 6
        assert at.r2.shape == (5, n)
        assert bool(at.r2.isfinite().all())
    assert found["local, per batch"].choices == found["local"].choices


def test_a_statistic_of_equal_images_has_no_interval():
    assert bootstrapped(torch.full((3, 9), 0.7), np.median, np.random.default_rng(0)) == pytest.approx((0.7,) * 3)


def test_the_interval_of_a_mean_has_the_normal_width():
    """3.92 standard errors, of 1,000 resamples to 10%."""
    values = torch.randn(1, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, low, high = bootstrapped(values, np.mean, np.random.default_rng(0))
    assert high - low == pytest.approx(3.92 * float(values.std()) / 20, rel=0.1)


def test_a_method_that_is_better_at_every_image_is_ranked_first_and_equals_are_not():
    r2 = torch.rand(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rng = np.random.default_rng(0)
    assert difference(measured(r2 + 0.1), measured(r2), rng) == pytest.approx((0.1,) * 3)
    assert order({"a": measured(r2), "b": measured(r2 + 0.1)}, rng) == "b > a"
    assert order({"a": measured(r2), "b": measured(r2)}, rng) == "a ~ b"
    assert grouped("b > a ~ c") == grouped("b > c ~ a") != grouped("b ~ a > c")


# the shortcuts


def test_all_nearest_points_are_the_empirical_denoiser_and_one_is_the_nearest():
    train, heldout = images()
    x_t, t = heldout[:5] + 0.5, 1.0
    exact = Empirical(train).denoise(x_t, 1.0, t)
    torch.testing.assert_close(NearestOnly(train, SCHEDULE, len(train))(x_t, t), exact, rtol=0, atol=1e-12)
    nearest = torch.cdist(x_t.flatten(1), train.flatten(1)).argmin(1)
    torch.testing.assert_close(NearestOnly(train, SCHEDULE, 1)(x_t, t), train[nearest], rtol=0, atol=1e-12)


def test_averaging_per_batch_is_the_mean_of_softmaxes():
    train, heldout = images()
    x_t, sigma = heldout[:5], 0.7
    parts = PerBatch([ExactDenoiser(Empirical(rows), SCHEDULE) for rows in train.split(50)])
    square = torch.cdist(x_t.flatten(1), train.flatten(1)).square()
    weights = (-square / (2 * sigma**2)).reshape(5, 3, 50).softmax(2).reshape(5, 150) / 3
    torch.testing.assert_close(parts(x_t, sigma).flatten(1), weights @ train.flatten(1), rtol=0, atol=1e-12)


# the experiment


def vectors(name, range_=(-1.0, 1.0)):
    train = images(range_, 896)[0].flatten(1)
    return ExactDenoiser({"empirical": Empirical(train), "Gaussian": Gaussian.fit([train])}[name], SCHEDULE)


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Few points and sizes, and a denoiser known exactly in the place of a training. A slow test takes it whole."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr(f"{HERE}.DIGITS", SMALL)
        monkeypatch.setattr(f"{HERE}.MNIST", SMALL)
        monkeypatch.setattr(f"{HERE}.DIGIT_POINTS", (4, 8))
        monkeypatch.setattr(f"{HERE}.MNIST_POINTS", (4, 8))
        monkeypatch.setattr(f"{HERE}.MNIST_IMAGES", 200)
        monkeypatch.setattr(f"{HERE}.digit_network", lambda seed: vectors("Gaussian"))  # noqa: ARG005


def test_it_is_found_by_its_name():
    assert find("analytic-denoisers") is EXPERIMENT


def test_every_claim_of_exactness_holds():
    assert failures(EXPERIMENT, "exactness") == set()


def test_a_shortcut_that_is_none_is_caught():
    with planted(f"{HERE}.PerBatch", lambda parts: ExactDenoiser(whole(parts), SCHEDULE)):
        assert failures(EXPERIMENT, "exactness") == {"batches"}
    with planted(f"{HERE}.NearestOnly", lambda points, schedule, k: ExactDenoiser(Empirical(points), schedule)):  # noqa: ARG005
        assert failures(EXPERIMENT, "exactness") == {"truncation"}


def whole(parts):
    """The data of all parts."""
    return Empirical(torch.cat([part.distribution._table.points for part in parts]).reshape(-1, 8, 8))


def test_a_patch_that_is_cut_off_is_caught():
    with planted(f"{HERE}.local_score", lambda data, schedule, size, **_: local_score(data, schedule, min(size, 13))):
        assert failures(EXPERIMENT, "exactness") == {"whole-patch"}


def test_a_gaussian_in_the_place_of_the_network_is_found_to_be_the_wiener_filter():
    answer = answered(EXPERIMENT, "digits")
    assert "median r²: Wiener 1.000 [1.000, 1.000]" in answer.text
    assert len(answer.charts) == 5


def gaussian():
    return replace_events(vectors("Gaussian"))


def memorized():
    return replace_events(ExactDenoiser(Empirical(mnist_images()), SCHEDULE))


def patches():
    return replace_events(local_score(mnist_images(), SCHEDULE, 3))


def mnist_images():
    """The images that the experiment draws."""
    from diffuscope.experiments.part import drawn
    from diffuscope.streams import torch_stream

    return drawn(digits_as_mnist("mnist").train, 200, torch_stream(1, "analytic-denoisers", "MNIST"))


def replace_events(network):
    """Read in the shape of the data."""
    return type("Network", (), {"schedule": SCHEDULE, "__call__": lambda _, x, t: network(x, t)})()


def digits_as_mnist(name):
    del name
    data = load_data("digits").in_range(-1.0, 1.0)
    shaped = {part: getattr(data, part).double().reshape(-1, 8, 8) for part in ("train", "heldout")}
    return type("Data", (), {**shaped, "in_range": lambda self, *_: self})()


@pytest.mark.parametrize(("network", "failing"), [("patches", set()), ("memorized", {"mnist-generalizes"})])
def test_a_network_that_memorized_fails_and_one_of_patches_does_not(monkeypatch, network, failing):
    monkeypatch.setattr(f"{HERE}.load_data", digits_as_mnist)
    monkeypatch.setenv(SETTING, f"test_analytic_denoisers:{network}")
    assert failures(EXPERIMENT, "published-networks") - {"mnist-local"} == failing
    if network == "patches":
        assert failures(EXPERIMENT, "published-networks") == set()


def test_without_networks_the_part_says_so(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    answer = answered(EXPERIMENT, "published-networks")
    assert answer.claims == ()
    assert answer.text.startswith(f"Not run, and nothing is claimed. {SETTING}: it is not set")


@pytest.mark.slow
def test_every_claim_about_digits_holds():
    assert failures(EXPERIMENT, "exactness") == set()
    assert "PCA-local" in answered(EXPERIMENT, "digits").text

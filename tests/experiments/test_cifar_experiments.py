"""CIFAR-10's moments and the held-out leak: on digits always, on CIFAR-10 where it is; planted faults are caught."""

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.data import load_data
from diffuscope.exact import Empirical, Gaussian
from diffuscope.experiments import cifar_moments, find, held_out_leak
from diffuscope.experiments.cifar_images import Cifar, cifar

MOMENTS, LEAK = cifar_moments.EXPERIMENT, held_out_leak.EXPERIMENT


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """A quarter of the noises. A slow test takes all."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr(cifar_moments, "DRAWS", 16)


@pytest.fixture
def absent(monkeypatch, tmp_path):
    """A folder of data without CIFAR-10."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    monkeypatch.setattr("diffuscope.data.places.cache_folder", lambda: tmp_path)
    cifar.cache_clear()


@pytest.fixture
def present(monkeypatch, cifar_data):
    """CIFAR-10, where it is."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    return cifar_data


def digits_as_cifar():
    """Digits in [0, 16] in the place of CIFAR-10 in [0, 255]."""
    data = load_data("digits")
    low, high = data.data_range
    unit = (high - low) / 2
    return Cifar(data, Gaussian.fit([data.train]).rescale(1 / unit, -1 - low / unit), unit)


def test_they_are_found_by_their_names():
    assert find("cifar-moments") is MOMENTS
    assert find("held-out-leak") is LEAK


@pytest.mark.parametrize("experiment", [MOMENTS, LEAK])
def test_every_claim_about_digits_holds(experiment):
    assert failures(experiment, "digits") == set()


@pytest.mark.parametrize("experiment", [MOMENTS, LEAK])
@pytest.mark.usefixtures("absent")
def test_without_the_data_the_part_says_how_to_get_them_and_claims_nothing(experiment):
    answer = answered(experiment, "images")
    assert answer.claims == answer.charts == ()
    assert answer.text.startswith("Not run, and nothing is claimed. data: cifar10 was looked for in")
    assert "diffuscope data fetch cifar10" in answer.text
    assert "\n" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [MOMENTS, LEAK])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.usefixtures("present")
def test_every_claim_about_cifar10_holds(experiment, seed):
    claims = answered(experiment, "images", seed).claims
    assert len(claims) == 6
    assert {claim.name: claim.measured for claim in claims if not claim.holds} == {}


def test_the_gaussian_in_pixel_units_is_that_of_the_images_in_their_own_range():
    """What the leak rescales back is the fit of the pixels as they are; rounding."""
    known = digits_as_cifar()
    own = Gaussian.fit([known.data.train])
    back = known.gaussian.rescale(known.unit, known.unit + known.data.data_range[0])
    assert torch.allclose(back.mean, own.mean, atol=1e-12)
    assert torch.allclose(back.eigenvalues, own.eigenvalues, rtol=1e-10, atol=1e-10)
    assert float(known.gaussian.mean.min()) >= -1


# faults


def test_a_score_for_a_variance_is_caught():
    """sigma in the place of sigma^2."""

    def wrong(gaussian, sigma):
        return float((1 / (gaussian.eigenvalues + sigma)).sum())

    with planted("diffuscope.experiments.cifar_moments.score_energy", wrong):
        assert failures(MOMENTS, "digits") == {"digits"}


def test_an_energy_without_the_mean_is_caught():
    def wrong(gaussian, sigma):
        return float((gaussian.eigenvalues**2 / (gaussian.eigenvalues + sigma**2)).sum())

    with planted("diffuscope.experiments.cifar_moments.denoised_energy", wrong):
        assert failures(MOMENTS, "digits") == {"digits"}


def test_other_images_do_not_have_the_moments_of_cifar10():
    with planted("diffuscope.experiments.cifar_moments.cifar", digits_as_cifar):
        assert failures(MOMENTS, "images") == {"trace", "mean", "spectrum", "counts", "denoised", "score"}


def test_other_images_do_not_have_the_errors_of_cifar10_at_every_set_and_model():
    with planted("diffuscope.experiments.held_out_leak.cifar", digits_as_cifar):
        assert {"training-empirical", "held-out-gaussian"} & failures(LEAK, "images")


def test_a_memorizer_of_all_digits_wins_everywhere_and_is_caught():
    """Held-out examples that the memorizer knows."""
    data = load_data("digits").in_range(-1.0, 1.0)

    def leaking(_):
        return Empirical(torch.cat([data.train, data.heldout]))

    with planted("diffuscope.experiments.held_out_leak.Empirical", leaking):
        assert failures(LEAK, "digits") == {"digits-held-out"}

"""Painters, emergence, perturbation, variations: claims hold, and fail where the computation is spoiled."""

from dataclasses import dataclass

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.experiments import emergence, painters, perturbation, variations
from diffuscope.experiments.digit_models import digit_models
from diffuscope.schedules import VE
from diffuscope.theory.geometry import (
    Trajectories,
    emerged_share,
    gaussian_trajectories,
    noise_relative_gain,
    sample_gain,
)

HERE = "diffuscope.experiments"
EXPERIMENTS = (painters, emergence, perturbation, variations)


def exact_network(seed):
    """The mixture of the digits in the place of a trained network."""
    models = digit_models(seed)
    return ExactDenoiser(models.mixture, models.schedule)


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """An exact model for the network, fewer trajectories; the bars stay. A slow test takes it whole."""
    if request.node.get_closest_marker("slow"):
        return
    for module in (painters, emergence, variations):
        monkeypatch.setattr(module, "digit_network", exact_network)
    monkeypatch.setattr(painters, "FOLLOWED", 16)
    monkeypatch.setattr(painters, "LEVELS", 24)
    monkeypatch.setattr(emergence, "FOLLOWED", 128)
    monkeypatch.setattr(emergence, "LEVELS", 24)
    monkeypatch.setattr(variations, "DIGITS_FOLLOWED", 24)
    monkeypatch.setattr(variations, "STEPS", 12)
    monkeypatch.setattr(variations, "PUSHED_AFTER", (0, 9))
    monkeypatch.setattr(perturbation, "PUSHED", 64)
    monkeypatch.setattr(perturbation, "CORRELATED", 128)
    monkeypatch.setattr(perturbation, "LEVELS", 12)
    monkeypatch.setattr(perturbation, "FEWER", 4)


@pytest.mark.slow
@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.EXPERIMENT.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_claim_holds_for_the_network_itself(module, seed):
    outcome = module.EXPERIMENT.run(seed=seed)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


# painters


def test_trajectories_of_models_of_digits_are_plane_and_a_wrong_alpha_is_caught():
    assert failures(painters.EXPERIMENT, "digits") == set()

    def squared(gaussian, schedule, x_start, times):
        run = gaussian_trajectories(gaussian, schedule, x_start, times)
        return Trajectories(run.times, run.alphas**2, run.sigmas, run.states, run.denoised)

    with planted(f"{HERE}.painters.gaussian_trajectories", squared):
        assert "residual" in failures(painters.EXPERIMENT, "digits")


def test_without_cifar_the_part_says_so_and_claims_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    monkeypatch.setattr("diffuscope.data.places.cache_folder", lambda: tmp_path)
    answer = answered(painters.EXPERIMENT, "cifar")
    assert answer.text.startswith("Not run, and nothing is claimed.")
    assert answer.claims == ()


def test_statistics_of_another_spectrum_are_not_those_of_cifar(monkeypatch):
    """Digits in the place of CIFAR-10: ten trajectories of other shape."""
    data = painters.load_data("digits")
    monkeypatch.setattr(painters, "load_data", lambda *_, **__: data)
    assert {"plane", "rotation", "noise-dimension"} & failures(painters.EXPERIMENT, "cifar")


@pytest.mark.slow
def test_the_statistics_of_cifar_are_reproduced(cifar_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    answer = answered(painters.EXPERIMENT, "cifar")
    assert len(answer.claims) == 6
    assert [claim.name for claim in answer.claims if not claim.holds] == []


# emergence


def test_emergence_is_where_theory_says_and_other_curves_are_caught():
    assert failures(emergence.EXPERIMENT, "gaussian") == set()
    squared = lambda variances, ratios, *, last=0.0: emerged_share(variances, ratios, last=last) ** 2  # noqa: E731
    with planted(f"{HERE}.emergence.emerged_share", squared):
        assert {"fastest", "levels"} <= failures(emergence.EXPERIMENT, "gaussian")


def test_ten_modes_emerge_no_later_than_their_gaussian_and_a_timid_denoiser_is_caught():
    assert failures(emergence.EXPERIMENT, "mixture") == set()

    @dataclass(frozen=True)
    class Timid:
        """Its answers are two fifths too small above sigma = 0.3."""

        distribution: Distribution
        schedule: VE

        def __call__(self, x_t, t):
            mean = digit_models(1).of_mixture.mean
            return mean + (ExactDenoiser(self.distribution, self.schedule)(x_t, t) - mean) * (0.6 if t > 0.3 else 1.0)

    with planted(f"{HERE}.emergence.ExactDenoiser", Timid):
        assert "bound" in failures(emergence.EXPERIMENT, "mixture")


def test_a_network_that_decides_all_at_once_is_caught(monkeypatch):
    """A denoiser whose answers have one size at all levels of noise above one."""
    assert failures(emergence.EXPERIMENT, "network") == set()
    models = digit_models(1)
    isotropic = ExactDenoiser(Gaussian.isotropic(models.gaussian.mean, models.scale**2), models.schedule)
    monkeypatch.setattr(emergence, "digit_network", lambda seed: isotropic)  # noqa: ARG005
    assert {"network-order", "network-levels"} & failures(emergence.EXPERIMENT, "network")


# perturbation


@pytest.mark.slow
def test_gains_are_those_of_the_flow_and_another_formula_is_caught():
    assert failures(perturbation.EXPERIMENT, "closed-form") == set()
    of_sample = lambda v, schedule, t, s: sample_gain(v, schedule, t)  # noqa: ARG005, E731
    with planted(f"{HERE}.perturbation.denoised_gain", of_sample):
        assert "gain" in failures(perturbation.EXPERIMENT, "closed-form")  # the last level has noise left


def test_a_push_matters_when_theory_says_and_another_gain_is_caught():
    assert failures(perturbation.EXPERIMENT, "when") == set()
    with planted(f"{HERE}.perturbation.noise_relative_gain", lambda v, r: noise_relative_gain(v, 1 / r)):
        assert failures(perturbation.EXPERIMENT, "when") == {"relative"}
    with planted(f"{HERE}.perturbation.sample_gain", lambda v, schedule, t: v.sqrt() * schedule.alpha(t)):
        assert {"published", "early-or-late"} <= failures(perturbation.EXPERIMENT, "when")


def test_the_mean_gain_is_the_correlation_and_a_wrong_size_of_the_push_is_caught():
    assert failures(perturbation.EXPERIMENT, "modes") == set()
    moved = perturbation.displacements
    larger = lambda *arguments, size: 4 * moved(*arguments, size=size)  # noqa: E731
    with planted(f"{HERE}.perturbation.displacements", larger):
        assert failures(perturbation.EXPERIMENT, "modes") == {"stein", "no-more"}


# variations


def test_principal_directions_move_an_image_more_and_random_ones_in_their_place_are_caught(monkeypatch):
    assert failures(variations.EXPERIMENT, "digits") == set()
    drawn = torch.Generator().manual_seed(1)
    at_random = lambda points, count: variations.random_directions(count, points.shape[1:], generator=drawn)  # noqa: E731
    monkeypatch.setattr(variations, "principal_directions", at_random)
    assert "digits-principal" in failures(variations.EXPERIMENT, "digits")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (None, "DIFFUSCOPE_NETWORKS: it is not set; expected denoisers trained on MNIST"),
        (
            "mnist_checkpoints:A_NUMBER",
            "DIFFUSCOPE_NETWORKS: expected denoisers trained on MNIST, as module:object with commas between, got a ",
        ),
        ("mnist_checkpoints:mixed_up", "DIFFUSCOPE_NETWORKS: expected denoisers trained on MNIST, as module:object"),
    ],
)
def test_without_a_network_the_part_says_so_and_claims_nothing(monkeypatch, setting, told):
    monkeypatch.delenv("DIFFUSCOPE_NETWORKS", raising=False)
    if setting:
        monkeypatch.setenv("DIFFUSCOPE_NETWORKS", setting)
    answer = answered(variations.EXPERIMENT, "mnist")
    assert told in answer.text
    assert answer.claims == ()
    with pytest.raises(InputError, match="DIFFUSCOPE_NETWORKS"):
        variations.published()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["flow_transformer", "noise_unet"])
def test_the_variations_of_published_networks_hold(shared_data, monkeypatch, network):
    if not (shared_data / "weights").is_dir() or not (shared_data / "mnist").is_dir():
        pytest.skip("MNIST or the published weights are absent from the folder that DIFFUSCOPE_DATA names")
    monkeypatch.setenv("DIFFUSCOPE_NETWORKS", f"published_networks.{network}:denoiser")
    answer = answered(variations.EXPERIMENT, "mnist")
    assert len(answer.claims) == 2
    assert [claim.name for claim in answer.claims if not claim.holds] == []

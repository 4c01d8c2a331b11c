"""Neural against analytic: claims hold for denoisers known exactly, and fail where a network learns otherwise."""

from dataclasses import replace
from functools import cache

import pytest
from answering import answered, failures, planted
from mnist_checkpoints import Between

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.experiments import find
from diffuscope.experiments.neural_vs_analytic import EXPERIMENT, digit_candidates, digits_compared
from diffuscope.schedules import VE

HERE = "diffuscope.experiments.neural_vs_analytic"
SCHEDULE = VE(0.01, 40.0)
SETTING = "DIFFUSCOPE_NETWORKS"
SMALLER = {
    "POINTS": 64,
    "GRID": 12,
    "EVERY": 3,
    "MAP_COMPONENTS": (1, 5),
    "MAP_RANKS": (0, 64),
    "MNIST_COMPONENTS": (1, 5),
    "MNIST_RANKS": (0, 64),
    "published.POINTS": 32,
    "published.GRID": 6,
}


@cache
def exact(name):
    return ExactDenoiser(digit_candidates(1)[name], SCHEDULE)


def linear_first(seed):
    """From the isotropic Gaussian to the Gaussian, and on to a mixture."""
    del seed
    isotropic, gaussian = exact("isotropic"), exact("Gaussian")
    first = {1: Between(isotropic, gaussian, 0.3), 20: Between(isotropic, gaussian, 0.9)}
    return first | {200: Between(gaussian, exact("5 Gaussians"), 0.5), 1200: exact("5 Gaussians")}


def stays_at(name):
    """Its first step is nearer to the isotropic Gaussian; all others are `name`."""
    return lambda seed: linear_first(seed) | dict.fromkeys((20, 200, 1200), exact(name))


@cache
def once(seed):
    """What `linear_first` gives; not the cache of the experiment, which a slow test fills."""
    return digits_compared.__wrapped__(seed)


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Fewer points, and denoisers known exactly in the place of a training. A slow test takes it whole."""
    if not request.node.get_closest_marker("slow"):
        for name, value in SMALLER.items():
            monkeypatch.setattr(f"{HERE}.{name}", value)
        monkeypatch.setattr(f"{HERE}.digits_compared", once)
        monkeypatch.setattr(f"{HERE}.trained", linear_first)


def test_it_is_found_by_its_name():
    assert find("neural-vs-analytic") is EXPERIMENT


@pytest.mark.parametrize("part", ["noise", "training", "trajectory", "mixtures"])
def test_every_claim_holds_of_a_mixture_that_is_approached_linear_first(part):
    assert {claim.name: claim.measured for claim in answered(EXPERIMENT, part).claims if not claim.holds} == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_of_a_trained_network(seed):
    for part in ("noise", "training", "trajectory", "mixtures"):
        claims = answered(EXPERIMENT, part, seed).claims
        assert {claim.name: claim.measured for claim in claims if not claim.holds} == {}


@pytest.mark.parametrize(
    ("network", "part", "caught"),
    [
        ("isotropic", "noise", {"covariance"}),
        ("Gaussian", "training", {"training-turns"}),
        ("empirical", "trajectory", {"samples"}),
        ("Gaussian", "mixtures", {"several"}),
    ],
)
def test_a_network_that_learned_something_else_is_caught(network, part, caught):
    with planted(f"{HERE}.trained", stays_at(network)), planted(f"{HERE}.digits_compared", digits_compared.__wrapped__):
        assert caught <= failures(EXPERIMENT, part)


# networks that are brought


def stand_in():
    """A mixture of digits, as a network on MNIST."""
    return exact("5 Gaussians")


def not_a_network():
    return 3


@pytest.fixture
def digits_as_mnist(monkeypatch):
    monkeypatch.setattr(f"{HERE}.published.mnist", lambda span: flat(load_data("digits").in_range(*span)))


def flat(data):
    return replace(data, train=data.train.flatten(1), heldout=data.heldout.flatten(1))


@pytest.mark.usefixtures("digits_as_mnist")
def test_a_network_that_is_brought_is_compared(monkeypatch):
    monkeypatch.setenv(SETTING, "test_neural_vs_analytic:stand_in")
    answer = answered(EXPERIMENT, "published-networks")
    assert [(claim.name, claim.holds) for claim in answer.claims] == [("mnist-far", True)]
    assert len(answer.charts) == 6


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (None, "it is not set; expected denoisers trained on MNIST, as module:object with commas between"),
        ("no_such_module:x", "no module named 'no_such_module'"),
        ("test_neural_vs_analytic:not_a_network", "got a int from test_neural_vs_analytic:not_a_network"),
    ],
)
def test_a_setting_that_brings_no_network_is_explained_in_one_line(monkeypatch, spec, named):
    monkeypatch.delenv(SETTING, raising=False)
    if spec:
        monkeypatch.setenv(SETTING, spec)
    answer = answered(EXPERIMENT, "published-networks")
    assert answer.claims == ()
    assert answer.text.startswith(f"Not run, and nothing is claimed. {SETTING}: ")
    assert named in answer.text
    assert "\n" not in answer.text


def test_without_checkpoints_the_part_says_so(monkeypatch):
    monkeypatch.delenv("DIFFUSCOPE_CHECKPOINTS", raising=False)
    answer = answered(EXPERIMENT, "published-training")
    assert answer.claims == ()
    assert answer.text.startswith("Not run, and nothing is claimed. DIFFUSCOPE_CHECKPOINTS: ")


@pytest.mark.slow
def test_every_claim_about_published_networks_holds(monkeypatch, shared_data):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    modules = ("noise_unet", "flow_transformer", "noise_cnn")
    monkeypatch.setenv(SETTING, ",".join(f"published_networks.{module}:denoiser" for module in modules))
    monkeypatch.setenv("DIFFUSCOPE_CHECKPOINTS", "published_networks.noise_cnn:checkpoints")
    for part in ("published-networks", "published-training"):
        claims = answered(EXPERIMENT, part).claims
        assert len(claims) == 1
        assert {claim.name: claim.measured for claim in claims if not claim.holds} == {}

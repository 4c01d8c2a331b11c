"""Teleport on digits: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import sys
from dataclasses import replace

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.exact import Gaussian
from diffuscope.experiments import find
from diffuscope.experiments.teleport import EXPERIMENT, digits
from diffuscope.samplers import teleport

HERE = "diffuscope.experiments.teleport"


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Fewer starts and steps; the bars stay."""
    if "nothing_made_smaller" not in request.node.name:
        module = sys.modules[HERE]
        for name, value in {"STARTS": 160, "FINE": 20, "CLUSTERINGS": 3, "REPEATS": 1, "BUDGETS": (9, 17)}.items():
            monkeypatch.setattr(module, name, value)


def test_it_is_found_by_its_name():
    assert find("teleport") is EXPERIMENT


@pytest.mark.parametrize("part", [pytest.param("levels", marks=pytest.mark.slow), "unexplained"])
def test_every_claim_holds(part):
    assert {claim.name: claim.measured for claim in answered(EXPERIMENT, part).claims if not claim.holds} == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_with_nothing_made_smaller(seed):
    for part in ("levels", "unexplained"):
        claims = answered(EXPERIMENT, part, seed).claims
        assert {claim.name: claim.measured for claim in claims if not claim.holds} == {}


# faults


def without_mean(gaussian, schedule, x, t, s):
    return teleport(replace(gaussian, mean=torch.zeros_like(gaussian.mean)), schedule, x, t, s)


def isotropic(gaussian, schedule, x, t, s):
    return teleport(Gaussian.isotropic(gaussian.mean, gaussian.trace / gaussian.dimension), schedule, x, t, s)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [without_mean, isotropic])
def test_a_jump_that_knows_less_than_mean_and_covariance_is_caught(mutant):
    with planted(f"{HERE}.teleport", mutant):
        assert {"bias-5", "bias-2-5"} & failures(EXPERIMENT, "levels")


def test_a_gaussian_of_half_the_variance_is_caught_by_the_fractions():
    images, gaussian, mixture = digits(1)
    halved = Gaussian(gaussian.mean, gaussian.eigenvectors, gaussian.eigenvalues / 2)
    with planted(f"{HERE}.digits", lambda seed: (images, halved, mixture)):  # noqa: ARG005
        assert failures(EXPERIMENT, "unexplained") == {"fractions"}

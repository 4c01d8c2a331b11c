"""The residuals of the learning curve: closed forms at an exact model, and denoisers at a known distance."""

import numpy as np
import pytest
import torch

from diffuscope.audit import fit_references
from diffuscope.denoisers import ExactDenoiser
from diffuscope.experiments.learning_curve import digit_vectors
from diffuscope.experiments.learning_curve.made_denoisers import STEPS, MadeDenoisers
from diffuscope.experiments.learning_curve.residuals import Probe, squares, standard_deviation, watch
from diffuscope.schedules import VE
from diffuscope.training import new_denoiser


def fitted():
    data = digit_vectors()
    return fit_references(data["training"], data["held-out"], 3, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def probe():
    data, references = digit_vectors(), fitted()
    noise = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    return Probe(VE(0.01, 40.0), references, 0.7, data["held-out"][:40], noise), references


def test_an_exact_model_is_at_no_distance_from_itself_and_its_score_at_the_denoiser_s_distance(probe):
    """s - s_m = alpha (D - D_m)/sigma^2, with the score of `exact`, not derived from the denoiser."""
    noised, references = probe
    for place, model in enumerate(references.models.values()):
        distances = noised.distances(ExactDenoiser(model, VE(0.01, 40.0)))
        assert float(distances[:, place].max()) < 1e-8 * float(distances[:, -1].mean())
        gaussian = references.gaussian.score(noised.x_t, 1.0, 0.7)
        apart = squares(model.score(noised.x_t, 1.0, 0.7) - gaussian)
        column = list(references.models).index("Gaussian")
        assert torch.allclose(apart * 0.7**4, distances[:, column], rtol=1e-3, atol=1e-4)


def test_the_unit_is_the_smaller_move_of_the_gaussian(probe):
    noised, references = probe
    answer = references.gaussian.denoise(noised.x_t, 1.0, 0.7)
    moves = [float(squares(answer - other).mean()) for other in (references.mean, noised.x_t)]
    assert noised.unit == pytest.approx(min(moves), rel=1e-6)


def test_the_published_form_is_over_the_networks_own_score(probe):
    """|s - s_G|^2 / |s|^2 with the scores of `exact`, for the isotropic model as the network."""
    references, data = probe[1], {"held-out": digit_vectors()["held-out"]}
    model, draws = references.models["isotropic"], (torch.Generator().manual_seed(2) for _ in range(2))
    networks = [(1, ExactDenoiser(model, VE(0.01, 40.0)))]
    curves = watch(networks, VE(0.01, 40.0), references, {1.0: 0.7}, data, 40, next(draws))["held-out"][0]
    again = next(draws)
    noise = torch.randn(40, 64, generator=again)
    x_t = data["held-out"][torch.randperm(len(data["held-out"]), generator=again)[:40]] + 0.7 * noise
    own, gaussian = (exact.score(x_t, 1.0, 0.7) for exact in (model, references.gaussian))
    expected = squares(own - gaussian) / squares(own)
    assert np.allclose(curves.published[:, 0], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_the_published_form_seems_to_explain_a_network_that_has_learned_nothing():
    """At noise 3 it is less than 0.3 of |D - D_G|^2 over |D - mu|^2, which is vacuous at no noise level."""
    data, references = digit_vectors(), fitted()
    model = new_denoiser(data["training"], (-1.0, 1.0), 1)
    noise = torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    noised = Probe(model.schedule, references, 3 * standard_deviation(data["training"]), data["held-out"][:256], noise)
    distances = noised.distances(model)[:, list(references.models).index("Gaussian")]
    with torch.no_grad():
        centered = distances.mean() / squares(model(noised.x_t, torch.tensor(noised.t)) - references.mean).mean()
    assert (distances / noised.distances(model)[:, -1]).mean() < 0.3 * centered


def test_made_denoisers_are_at_the_distance_that_they_are_given():
    """R = f^2 <|u|^2> over the pool, to rounding: <u, w> = 0 and <|w|^2> = <|u|^2>."""
    data = digit_vectors()
    made = MadeDenoisers(data["training"], data["held-out"], 10, torch.Generator().manual_seed(0))
    f = np.linspace(0.5, 2, len(STEPS))
    assert np.allclose(made.residuals(f).mean(0), f**2 * made.uu.mean(), rtol=1e-10, atol=0)
    assert (made.residuals(f) > -1e-12).all()

"""The cases of Levy processes: what is observed, exactness of the reference, the optimality gap."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.physics import LinearObservation
from diffuscope.physics.gibbs import gibbs
from diffuscope.physics.grading.levy import LAWS, blurred, levy_case, optimality_gap
from diffuscope.physics.levy import LevyProcess
from diffuscope.physics.levy_distribution import LevyDistribution


def test_paths_have_unit_mean_square_and_every_law_the_same_covariance():
    for law in LAWS.values():
        assert float(LevyProcess(law, 64).covariance().diagonal().mean()) == pytest.approx(1)
    torch.testing.assert_close(blurred().matrix.sum(1), torch.ones(16).double())


@pytest.mark.slow
def test_the_reference_given_points_is_the_posterior_that_gibbs_sampling_finds():
    case = levy_case("laplace", "points")
    assert isinstance(case.denoiser, ExactDenoiser)
    assert isinstance(case.denoiser.distribution, LevyDistribution)
    assert isinstance(case.observation, LinearObservation)
    process = case.denoiser.distribution.process
    chains = gibbs(process, case.observation, case.y, chains=16, burn_in=100, sweeps=300, seed=1).require_mixed()
    walk = LevyDistribution(process).given(case.observation, case.y).posterior()
    assert float(((walk.mean - chains.mean) / chains.mean_error).abs().max()) < 4
    error = (walk.variance[0] / len(case.reference)).sqrt()
    assert float(((case.reference.mean(0) - walk.mean[0]) / error).abs().max()) < 4


@pytest.mark.slow
def test_the_optimality_gap_of_the_mean_of_n_exact_draws_is_one_plus_one_over_n():
    case, n, gaps = levy_case("student", "blur"), 4, []
    assert optimality_gap([case], [case.reference.mean(0)]) == pytest.approx(0, abs=1e-12)
    for seed in range(200):
        mean = case.exact(n, torch.Generator().manual_seed(seed)).mean(0)
        gaps.append(10 ** (optimality_gap([case], [mean]) / 10))
    found = torch.tensor(gaps)
    assert abs(float(found.mean()) - 1.25) < 4 * float(found.std()) / math.sqrt(200)


def test_an_unknown_case_is_an_input_error():
    with pytest.raises(InputError, match="jumps, seen"):
        levy_case("cauchy", "points")

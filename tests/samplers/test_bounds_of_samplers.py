"""Parameters of samplers: an error just beyond their bounds, accepted at them."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DataAdamsBashforth,
    DormandPrince,
    EDMChurn,
    Langevin,
    MetropolisLangevin,
    NoiseAdamsBashforth,
    Restart,
    ReverseBridge,
    StochasticDDIM,
    UniPC,
    instant,
    plain_statistics,
    stochastic_until,
)
from diffuscope.samplers.dpm_solver import DPMSolverPP2S
from diffuscope.samplers.dpm_solver_v3 import DPMSolverV3
from diffuscope.samplers.eta import eta_at
from diffuscope.schedules import VE
from diffuscope.times import uniform_times

JUST_ABOVE, JUST_BELOW = 1e-12, 1 - 1e-12
ONE_POINT = Gaussian.isotropic(torch.zeros(2), 0.0)
STATISTICS = plain_statistics(uniform_times(3.0, 0.0, 3).flip(0), (2,))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: DormandPrince(rtol=0.0), "rtol, atol"),
        (lambda: DormandPrince(atol=0.0), "rtol, atol"),
        (lambda: DormandPrince(atol=math.nan), "rtol, atol"),
        (lambda: DPMSolverPP2S(0.0), "r"),
        (lambda: DPMSolverPP2S(1 + JUST_ABOVE), "r"),
        (lambda: DPMSolverV3(STATISTICS, 0), "order"),
        (lambda: DPMSolverV3(STATISTICS, 4), "order"),
        (lambda: NoiseAdamsBashforth(0), "order"),
        (lambda: DataAdamsBashforth(5), "order"),
        (lambda: NoiseAdamsBashforth(power=-JUST_ABOVE), "power"),
        (lambda: DataAdamsBashforth(power=1 + JUST_ABOVE), "power"),
        (lambda: UniPC(0), "predictor_order"),
        (lambda: UniPC(4), "predictor_order"),
        (lambda: EDMChurn(1.0, 0), "steps"),
        (lambda: EDMChurn(-JUST_ABOVE, 1), "s_churn"),
        (lambda: EDMChurn(1.0, 1, s_min=-JUST_ABOVE), "s_min"),
        (lambda: EDMChurn(1.0, 1, s_max=-JUST_ABOVE), "s_max"),
        (lambda: EDMChurn(1.0, 1, s_noise=math.nan), "s_noise"),
        (lambda: Langevin(DDIM(), step_size=0.0), "step_size"),
        (lambda: MetropolisLangevin(DDIM(), ONE_POINT, step_size=4.0), "step_size"),
        (lambda: Langevin(DDIM(), 0), "corrections"),
        (lambda: Restart(DDPM(), 0.1, 1.0), "sampler"),
        (lambda: Restart(DDIM(), 0.0, 1.0), "low, high"),
        (lambda: Restart(DDIM(), 1.0, 1.0), "low, high"),
        (lambda: Restart(DDIM(), 1.0, math.inf), "low, high"),
        (lambda: Restart(DDIM(), 0.1, 1.0, repeats=0), "repeats, steps"),
        (lambda: Restart(DDIM(), 0.1, 1.0, steps=0), "repeats, steps"),
        (lambda: StochasticDDIM(-JUST_ABOVE), "eta"),
        (lambda: StochasticDDIM(1 + JUST_ABOVE), "eta"),
        (lambda: eta_at(-JUST_ABOVE, instant(VE(), 1.0)), "eta"),
        (lambda: eta_at(lambda t: math.inf * t, instant(VE(), 1.0)), "eta"),
        (lambda: stochastic_until(VE(), 0.0), "noise_to_signal"),
    ],
)
def test_values_just_beyond_a_bound_raise_an_error_that_names_the_argument(make, argument: str):
    with pytest.raises(InputError, match=f"^{argument}: expected"):
        make()


def test_values_at_a_bound_are_accepted():
    assert DormandPrince(rtol=JUST_ABOVE, atol=JUST_ABOVE).order == 5
    assert DPMSolverPP2S(1.0).r == 1
    assert DPMSolverPP2S(JUST_ABOVE).r > 0
    assert [DPMSolverV3(STATISTICS, order).order for order in (1, 3)] == [1, 3]
    for make in (NoiseAdamsBashforth, DataAdamsBashforth):
        assert [make(order, power).order for order, power in ((1, 0.0), (4, 1.0))] == [1, 4]
    assert [UniPC(order).order for order in (1, 3)] == [2, 4]
    assert not EDMChurn(0.0, 1, s_min=0.0, s_max=0.0, s_noise=0.0).stochastic
    assert Langevin(DDIM(), 1, 4 * JUST_BELOW).stochastic
    assert Restart(DDIM(), 0.1, 0.1 + JUST_ABOVE, 1, 1).order == 1
    assert StochasticDDIM(1.0).stochastic
    assert not StochasticDDIM(0.0).stochastic
    assert not ReverseBridge(0.0).stochastic
    assert eta_at(0.0, instant(VE(), 1.0)) == 0

"""The samplers of smalldiffusion, deepinv, flow_matching and torchebm, driven on exact diffusions.

By `samplers_in_small` where they are absent.
"""

import pytest
import samplers_in_small
import torch
from peer_runs import (
    UNEQUAL,
    assert_noise_is_the_generators,
    assert_reaches_the_marginal,
    assert_single_precision_stays,
    between,
    end_on_a_point,
    miss_of_a_point,
    noised,
    order_on_a_gaussian,
)

from diffuscope.adapters import known_targets, load_target
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, Heun, sample
from diffuscope.schedules import VE, VP, RectifiedFlow

FIRST_ORDER = {
    "smalldiffusion": ["smalldiffusion:samples"],
    "deepinv": ["deepinv:EulerSolver", "deepinv:DDIMSolver", "deepinv:EulerSolver?process=FlowMatching"],
    "flow_matching": ["flow_matching:ODESolver"],
    "torchebm": ["torchebm:FlowSampler"],
}
HIGHER_ORDER = {
    "deepinv": [
        "deepinv:HeunSolver",
        "deepinv:HeunSolver?process=VariancePreservingDiffusion",
        "deepinv:HeunSolver?process=FlowMatching",
    ],
    "flow_matching": [f"flow_matching:ODESolver?method={method}" for method in ("heun2", "heun3", "rk4")],
    "torchebm": [
        "torchebm:FlowSampler?integrator=heun&interpolant=vp&prediction=score",
        "torchebm:FlowSampler?integrator=midpoint&interpolant=vp",
        "torchebm:FlowSampler?integrator=rk4",
    ],
}
STOCHASTIC = {
    "smalldiffusion": ["smalldiffusion:samples?mu=0.5"],
    "deepinv": [
        "deepinv:EulerSolver?alpha=1",
        "deepinv:HeunSolver?alpha=1&process=VariancePreservingDiffusion",
        "deepinv:DDPMSolver",
        "deepinv:AncestralSolver?alpha=0.5",
    ],
    "torchebm": ["torchebm:FlowSampler?mode=sde", "torchebm:FlowSampler?mode=sde&interpolant=vp&prediction=score"],
}


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    samplers_in_small.stand_in(monkeypatch)


def each(names: dict[str, list[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for group in names.values() for name in group])


def moved(name: str, steps: int = 8) -> tuple[torch.Tensor, torch.Tensor, ExactDenoiser, torch.Tensor]:
    """The end by `name`, the start, the denoiser and the times."""
    target = load_target(name)
    schedule = target.schedules[0]
    times = between(schedule, 4.0, 0.1, steps)
    denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
    return target.run(denoiser, x, times, None), x, denoiser, times


@each(FIRST_ORDER)
def test_first_order_samplers_are_ddim_where_that_is_eulers_method(name):
    # under VE and the rectified flow
    ended, x, denoiser, times = moved(name)
    tolerance = 1e-5 if name.startswith("deepinv") else 1e-12  # its denoiser is called in float32
    torch.testing.assert_close(ended, sample(DDIM(), denoiser, x, times), rtol=tolerance, atol=tolerance)


def test_the_heun_of_deepinv_is_our_heun():
    ended, x, denoiser, times = moved("deepinv:HeunSolver")
    torch.testing.assert_close(ended, sample(Heun(), denoiser, x, times), rtol=1e-5, atol=1e-5)


@each(HIGHER_ORDER)
def test_a_sampler_has_the_order_that_its_library_states(name):
    found = order_on_a_gaussian(name, steps=(12, 17, 24, 34))
    assert found.order == pytest.approx(load_target(name).order, abs=0.25)


def test_extrapolated_noise_is_no_second_order():
    # smalldiffusion's gam=2 takes 2 eps - eps_before whatever the lengths of the steps
    assert load_target("smalldiffusion:samples?gam=2").order is None
    assert order_on_a_gaussian("smalldiffusion:samples?gam=2").order < 1.5


@each(FIRST_ORDER)
def test_a_single_point_is_followed_exactly_and_reached(name):
    assert miss_of_a_point(name) < 1e-6
    assert end_on_a_point(name) < 1e-6


@pytest.mark.parametrize(
    "name",
    [
        "deepinv:HeunSolver",
        "deepinv:EulerSolver?alpha=1",
        "flow_matching:ODESolver?method=rk4",
        "torchebm:FlowSampler?integrator=heun",
        "torchebm:FlowSampler?mode=sde",
    ],
)
def test_a_sampler_without_a_last_step_says_so(name):
    with pytest.raises(InputError, match=r"expected sigma\(times\[-1\]\) > 0"):
        end_on_a_point(name)


@each(STOCHASTIC)
def test_the_noise_of_a_stochastic_sampler_is_our_generators(name):
    target = load_target(name)
    assert (target.stochastic, target.order) == (True, None)
    assert_noise_is_the_generators(target)


@pytest.mark.slow
@each(STOCHASTIC)
def test_a_stochastic_sampler_reaches_the_marginal(name):
    assert_reaches_the_marginal(name)


def test_a_target_says_what_its_sampler_costs_and_how_exact_it_is():
    """Evaluations per step, the floor of the rounding, the orders of the named methods, the schedules."""
    for name, order, evaluations, floor, schedules in (
        ("smalldiffusion:samples", 1, 1, 1e-12, (VE(),)),
        ("deepinv:EulerSolver", 1, 1, 1e-5, (VE(), VP(), RectifiedFlow())),
        ("deepinv:HeunSolver?process=FlowMatching", 2, 2, 1e-5, (RectifiedFlow(),)),
        ("deepinv:DDIMSolver?process=VariancePreservingDiffusion", 1, 1, 1e-5, (VP(),)),
        ("flow_matching:ODESolver", 1, 1, 1e-12, (RectifiedFlow(), VP())),
        ("flow_matching:ODESolver?method=heun3", 3, 3, 1e-12, (RectifiedFlow(), VP())),
        ("torchebm:FlowSampler", 1, 1, 1e-12, (RectifiedFlow(),)),
        ("torchebm:FlowSampler?integrator=rk438&interpolant=vp", 4, 4, 1e-12, (VP(),)),
        ("torchebm:FlowSampler?prediction=noise", 1, 1, 1e-6, (RectifiedFlow(),)),
        ("torchebm:FlowSampler?mode=sde", None, None, 1e-12, (RectifiedFlow(),)),
    ):
        target = load_target(name)
        assert (target.order, target.nfe_per_step, target.floor, target.schedules) == (
            order, evaluations, floor, schedules,
        )  # fmt: skip
    deterministic = [name for group in (FIRST_ORDER, HIGHER_ORDER) for names in group.values() for name in names]
    assert not any(load_target(name).stochastic for name in deterministic)
    starts = {name: load_target(name).starts_at_zero_snr for name in ("deepinv:EulerSolver", "flow_matching:ODESolver")}
    assert starts == {"deepinv:EulerSolver": False, "flow_matching:ODESolver": None}


@pytest.mark.parametrize("name", ["smalldiffusion:samples", "deepinv:EulerSolver?process=VariancePreservingDiffusion"])
def test_a_schedule_of_scaled_states_is_followed_to_the_point(name):
    """x = alpha y, where alpha is not 1."""
    times = between(VP(), 4.0, 0.05, 40)
    point = Gaussian.isotropic(torch.tensor([0.7, -0.4], dtype=torch.float64), 0.0)
    x = noised(point, VP(), times[0])
    ended = load_target(name).run(ExactDenoiser(point, VP()), x, times, None)
    tolerance = 1e-12 if name.startswith("small") else 0.1  # Euler's in t; the other is exact
    assert float((ended - point.flow(x, VP(), times[0], times[-1])).abs().max()) < tolerance


@each({library: names[:1] for library, names in FIRST_ORDER.items()})
def test_float32_states_stay_float32(name):
    assert_single_precision_stays(load_target(name))


@pytest.mark.parametrize("library", sorted(FIRST_ORDER))
def test_every_known_name_loads(library):
    names = known_targets()[library]
    assert names
    assert [load_target(name).name for name in names] == list(names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smalldiffusion:sample", "no sampler 'sample'; expected samples"),
        ("smalldiffusion:samples?eta=1", "has no option 'eta'"),
        ("deepinv:Euler", "no solver 'Euler'"),
        ("deepinv:EulerSolver?process=VP", "expected process EDMDiffusionSDE"),
        ("flow_matching:ODESolver?method=dopri5", "expected method euler"),
        ("flow_matching:ODESolver?step_size=0.1", "has no option 'step_size'"),
        ("torchebm:FlowSampler?integrator=dopri5", "expected integrator euler"),
        ("torchebm:HMC", "no sampler 'HMC'"),
    ],
)
def test_an_unknown_sampler_or_option_is_named_in_one_line(name, said):
    with pytest.raises(InputError, match=said):
        load_target(name)

"""diffusers' schedulers by their formulas as a pipeline drives them: also where the library is not installed."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import diffusers_in_small
import pytest
import torch

from diffuscope.adapters import load_shipped
from diffuscope.adapters.diffusers_as_shipped import shipped_names, shipped_scheduler
from diffuscope.adapters.diffusers_network import TrainedNetwork
from diffuscope.certify.as_shipped import Plan, affine, ddim_moments, distinct, errors_of, marginal, shipped_gaussian
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

FIRST_ORDER = [
    "DDIMScheduler?clip_sample=false",
    "DDIMScheduler?prediction_type=sample&set_alpha_to_one=false",
    "DDIMScheduler?prediction_type=v_prediction&timestep_spacing=trailing",
    "EulerDiscreteScheduler?prediction_type=v_prediction&timestep_spacing=trailing",
    "EulerDiscreteScheduler?timestep_type=continuous&prediction_type=v_prediction",
    "EulerDiscreteScheduler?final_sigmas_type=sigma_min&timestep_spacing=trailing",
    "FlowMatchEulerDiscreteScheduler?shift=3.0",
    "EDMEulerScheduler",
    "EDMEulerScheduler?prediction_type=v_prediction",
]
DATA = shipped_gaussian()


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    return diffusers_in_small.stand_in(monkeypatch)


def plan_of(name: str, steps: int) -> Plan:
    return load_shipped(f"diffusers:{name}").plan(steps)


def ended(plan: Plan) -> Any:
    mean, spread = marginal(DATA, plan.attributed[0])
    found = affine(lambda x, generator: plan.run(DATA, x, generator), mean, plan.draws)
    assert found.misfit < 1e-9
    return found, found.moments(mean, spread)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_first_order_scheduler_has_the_moments_of_ddim_in_closed_form(name):
    plan = plan_of(name, 20)
    assert plan.draws == 0
    for ours, exact in zip(ended(plan)[1], ddim_moments(plan, DATA), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-8, atol=1e-9)
    # what the scheduler makes of the network's answer at the levels of its calls is the posterior mean there
    x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    a, b = (1 / (1 + plan.told[3] ** 2).sqrt(), plan.told[3] / (1 + plan.told[3] ** 2).sqrt())
    torch.testing.assert_close(plan.denoise(DATA, x, 3), DATA.denoise(x, float(a), float(b)), rtol=1e-6, atol=1e-6)


def test_levels_ends_and_timesteps_are_the_schedulers():
    table = (1 / diffusers_in_small.DDIMScheduler().alphas_cumprod - 1).sqrt()
    ddim, euler = plan_of("DDIMScheduler", 10), plan_of("EulerDiscreteScheduler", 10)
    torch.testing.assert_close(ddim.attributed, table[ddim.timesteps.long()], rtol=1e-9, atol=0)
    assert ddim.timesteps.tolist() == [900 - 100 * k for k in range(10)]
    assert (ddim.start, ddim.end, ddim.end_scale) == (1, 0, 1)
    assert float(ddim.off.abs().max()) < 1e-6
    ddpm = plan_of("DDPMScheduler", 10)
    torch.testing.assert_close(ddpm.attributed, ddim.attributed, rtol=1e-9, atol=0)
    assert (ddpm.end, float(ddpm.off.abs().max())) == (0, pytest.approx(0, abs=1e-6))
    kept = plan_of("DDIMScheduler?set_alpha_to_one=false", 10)
    assert kept.end == pytest.approx(float(table[0]), rel=1e-9)
    assert euler.attributed[[0, -1]].tolist() == pytest.approx(table[[-1, 0]].tolist(), rel=1e-9)
    assert euler.start == pytest.approx(float(table[-1] / (1 + table[-1] ** 2).sqrt()), rel=1e-9)
    assert euler.end == 0
    low = plan_of("EulerDiscreteScheduler?final_sigmas_type=sigma_min", 10)
    assert (low.end, low.end_scale) == pytest.approx((float(table[0]), float((1 + table[0] ** 2).sqrt())), rel=1e-9)
    flow = plan_of("FlowMatchEulerDiscreteScheduler?shift=3.0", 4)
    s = flow.attributed / (1 + flow.attributed)
    assert math.isinf(float(flow.attributed[0]))
    assert (flow.start, flow.end, flow.end_scale) == (1, 0, 1)
    # the library shifts its lowest level, which has its shift, once more
    unshifted = torch.linspace(1, 3 / 1002, 4).double()
    torch.testing.assert_close(s[1:], (3 * unshifted / (1 + 2 * unshifted))[1:], rtol=1e-6, atol=0)
    torch.testing.assert_close(flow.timesteps[1:], 1000 * s[1:], rtol=1e-9, atol=0)
    edm = plan_of("EDMEulerScheduler", 5)
    assert edm.attributed[[0, -1]].tolist() == pytest.approx([80.0, 0.002], rel=1e-9)
    torch.testing.assert_close(edm.timesteps, edm.attributed.log() / 4, rtol=1e-9, atol=1e-9)


def test_the_affine_map_of_ddpm_is_the_exact_reverse_transition_of_a_gaussian():
    # x_s | x_t of the forward chain has slope (a_t/a_s)(a_s^2 v + b_s^2)/(a_t^2 v + b_t^2), along an eigenvector
    plan = plan_of("DDPMScheduler?clip_sample=false", 10)
    found, _ = ended(plan)
    assert plan.draws == 9  # none in the last step
    a2 = 1 / (1 + distinct(plan)[1] ** 2)
    along = torch.diagonal(DATA.eigenvectors.T @ found.A @ DATA.eigenvectors)
    for k, v in enumerate(DATA.eigenvalues):
        spread = a2 * v + 1 - a2
        slope = ((a2[:-1] / a2[1:]).sqrt() * spread[1:] / spread[:-1]).prod()
        assert float(along[k]) == pytest.approx(float(slope), rel=1e-9)


def test_the_bias_of_a_start_below_pure_noise_is_that_of_the_exact_flow():
    # the start N(0, 1) at alpha > 0: the mean by psi alpha m, the variance by psi^2 (1 - alpha^2 v - sigma^2)
    v, m = 0.25, 0.5
    data = Gaussian(torch.full((1,), m).double(), torch.ones(1, 1).double(), torch.full((1,), v).double())
    options = "clip_sample=false&beta_schedule=scaled_linear&beta_start=0.00085&beta_end=0.012&steps_offset=1"
    plan = plan_of(f"DDIMScheduler?{options}", 50)
    assert plan.timesteps[0] == 981
    a2 = float(1 / (1 + plan.attributed[0] ** 2))
    psi = math.sqrt(v / (a2 * v + 1 - a2))
    found = errors_of(plan, data, 50)
    assert found.mean_bias == pytest.approx(psi * math.sqrt(a2) * m / math.sqrt(v), rel=0.05)  # 50 steps
    assert found.spread_bias == pytest.approx(psi**2 * a2 * (1 - v) / v, rel=0.1)


def test_ddim_with_linspace_spacing_steps_past_the_next_timestep():
    # it steps by 1000 // n training steps, but linspace timesteps are 999/(n - 1) apart: 111 at n = 10
    plan = plan_of("DDIMScheduler?timestep_spacing=linspace&clip_sample=false", 10)
    torch.testing.assert_close(plan.off[1:], torch.full((9,), 11.0).double(), rtol=0, atol=1e-6)
    assert float(plan.off[0]) == pytest.approx(0, abs=1e-9)


def test_churn_is_the_users_option_of_a_step_and_its_noise_is_counted():
    churned = plan_of("EulerDiscreteScheduler?s_churn=5.0&timestep_spacing=trailing", 20)
    assert (churned.draws, plan_of("EulerDiscreteScheduler", 20).draws) == (20, 0)
    assert load_shipped("diffusers:EulerDiscreteScheduler?s_churn=5.0").stochastic
    # on one point eps = x/sigma before the noise is added: x' = x (1 + (sigma' - sigma_hat)/sigma) + n
    sigmas, hat = [*churned.attributed.tolist(), 0.0], 1 + 5.0 / 20
    variance = sigmas[0] ** 2
    for sigma, following in itertools.pairwise(sigmas):
        variance = variance * (1 + following / sigma - hat) ** 2 + (hat**2 - 1) * sigma**2
    point = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 0.0)
    found = affine(lambda x, generator: churned.run(point, x, generator), torch.zeros(1).double(), churned.draws)
    start = float(churned.attributed[0] / (1 + churned.attributed[0] ** 2).sqrt())  # in variance-preserving states
    spread = found.moments(torch.zeros(1).double(), torch.full((1, 1), start**2).double())[1]
    assert float(spread) == pytest.approx(variance, rel=1e-9)


def test_noise_that_is_all_replaced_gives_the_closed_form_of_a_wrong_variance():
    # x' = (1 - s') D + s' n with fresh n: V' = (1 - s')^2 gain^2 V + s'^2, gain = (1 - s) v/((1 - s)^2 v + s^2)
    plan = plan_of("FlowMatchEulerDiscreteScheduler?stochastic_sampling=true", 8)
    found = ended(plan)[1][1]
    s = torch.cat([1 / (1 + 1 / plan.attributed), torch.zeros(1, dtype=torch.float64)])
    variances = torch.diagonal(DATA.eigenvectors.T @ found @ DATA.eigenvectors)
    for v, end in zip(DATA.eigenvalues, variances, strict=True):
        V = (1 - s[0]) ** 2 * v + s[0] ** 2
        for here, there in itertools.pairwise(s):
            gain = (1 - here) * v / ((1 - here) ** 2 * v + here**2)
            V = (1 - there) ** 2 * gain**2 * V + there**2
        assert float(end) == pytest.approx(float(V), rel=1e-9)


def test_a_scheduler_object_is_driven_with_its_own_options():
    made = diffusers_in_small.DDIMScheduler(timestep_spacing="trailing", beta_end=0.012)
    found = shipped_scheduler(made)
    plan = found.plan(10)
    assert (found.name, found.stochastic, int(plan.timesteps[0])) == ("diffusers:DDIMScheduler", False, 999)
    assert float(plan.attributed[0]) == pytest.approx(float((1 / made.alphas_cumprod[-1] - 1).sqrt()), rel=1e-9)

    class Derived(diffusers_in_small.EulerDiscreteScheduler): ...

    assert shipped_scheduler(Derived()).name == "diffusers:Derived"
    with pytest.raises(InputError, match="steps: num_inference_steps: expected at most 1000, got 1001"):
        found.plan(1001)


def test_what_cannot_be_driven_is_one_line():
    assert shipped_names() == (
        "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler",
        "HeunDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
        "EDMEulerScheduler", "PNDMScheduler", "IPNDMScheduler",
    )  # fmt: skip
    for name, said in (
        ("LCMScheduler", "no scheduler 'LCMScheduler' to drive as shipped; expected one of DDIMScheduler, DDPM"),
        ("DDIMScheduler?order=2", "diffusers:DDIMScheduler has no option 'order'"),
        ("EulerDiscreteScheduler?trained_betas=none_such", "refuses these options: "),
    ):
        with pytest.raises(InputError, match=said):
            load_shipped(f"diffusers:{name}")
    for other in ({}, SimpleNamespace(config={}), "DDIMScheduler"):
        with pytest.raises(InputError, match="target: expected a scheduler derived from one of those"):
            shipped_scheduler(other)
    plan = plan_of("DDIMScheduler?prediction_type=v_prediction", 4)
    assert plan.draws == 0
    with pytest.raises(InputError, match=r"target: prediction_type \w+ must be one of `epsilon`"):
        plan_of("DDIMScheduler?prediction_type=other", 4)


def test_other_errors_of_a_step_are_the_librarys():
    class Raises(diffusers_in_small.EulerDiscreteScheduler):
        def step(self, model_output, timestep, sample):  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
            raise ValueError("no such index")

    with pytest.raises(ValueError, match="no such index"):
        shipped_scheduler(Raises()).plan(4)


TABLE = torch.tensor([0.8, 0.5, 0.2, 0.1], dtype=torch.float64)  # products of 1 - beta_k
RATIOS = (1 / TABLE - 1).sqrt()


def network(kind: str, **config: Any) -> TrainedNetwork:
    given = diffusers_in_small.Config(config)
    return TrainedNetwork(SimpleNamespace(alphas_cumprod=TABLE, config=given), kind)


def close(found: Any, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_a_network_of_a_table_answers_for_the_level_of_its_timestep():
    """Between two of them log(sigma/alpha) is linear, as before the first; after the last it is the last."""
    steps = torch.tensor([0.0, 1.0, 1.25, 3.0, 5.0, -1.0], dtype=torch.float64)
    r = RATIOS.tolist()
    close(network("vp").told(steps), [r[0], r[1], r[1] ** 0.75 * r[2] ** 0.25, r[3], r[3], r[0] ** 2 / r[1]])
    close(network("flow", num_train_timesteps=200).told(steps[1:4]), [1 / 199, 1.25 / 198.75, 3 / 197])
    for name, config in (("edm", {}), ("ve", {"timestep_type": "continuous", "prediction_type": "v_prediction"})):
        close(network(name, **config).told(steps[:3]), [1, math.exp(4), math.exp(5)])
    close(network("ve", timestep_type="continuous", prediction_type="epsilon").told(steps[:1]), [r[0]])
    half = torch.tensor([0.5, -0.5], dtype=torch.float64)
    close(network("angle").told(half), [1, 1])

    class CosineOne(SimpleNamespace): ...

    close(TrainedNetwork(CosineOne(config={}), "edm").told(half), [1, 1])


def test_the_distance_of_a_level_from_its_timestep_is_in_training_steps():
    steps = torch.tensor([0.0, 2.0, 1.0, 4.0], dtype=torch.float64)
    between = RATIOS[1] ** 0.75 * RATIOS[2] ** 0.25
    close(network("vp").off(torch.stack([RATIOS[0], RATIOS[3], between, RATIOS[3]]), steps), [0, 1, 0.25, math.inf])
    close(network("vp").off(RATIOS[:1], torch.tensor([-1.0], dtype=torch.float64)), [math.inf])
    infinite = TrainedNetwork(SimpleNamespace(alphas_cumprod=torch.tensor([0.5, 0.0]), config={}), "vp")
    at_end = torch.tensor([math.inf], dtype=torch.float64)
    close(infinite.off(at_end, torch.ones(1, dtype=torch.float64)), [0])
    levels = torch.tensor([1.0, 3.0], dtype=torch.float64)
    close(network("flow", num_train_timesteps=400).off(levels, torch.tensor([150.0, 300.0]).double()), [50, 0])
    close(network("flow").off(levels, torch.tensor([150.0, 300.0]).double()), [350, 450])
    close(network("angle", num_train_timesteps=100).off(levels[:1], torch.tensor([0.25]).double()), [25])
    quarter = levels.log() / 4
    apart = levels * torch.tensor([2.0, 1.0], dtype=torch.float64)
    edm = network("edm", num_train_timesteps=300, sigma_min=0.5, sigma_max=4.0)
    close(edm.off(apart, quarter), [100, 0])
    euler = network("ve", timestep_type="continuous", prediction_type="v_prediction", num_train_timesteps=300)
    close(euler.off(apart, quarter), [300 * math.log(2) / math.log(float(RATIOS[3] / RATIOS[0])), 0])


def test_a_step_lands_at_the_nearest_level_of_the_table_or_at_zero():
    chain = network("chain")
    for level, alpha_bar in ((0.0, 1.0), *zip(RATIOS.tolist(), TABLE.tolist(), strict=True)):
        state = torch.full((1, 2), 0.5 * math.sqrt(alpha_bar), dtype=torch.float64)
        assert chain.landing(state, torch.tensor(3)) == pytest.approx(level, abs=1e-12)
        assert chain.landing(state * (1 + 1e-7), torch.tensor(3)) == pytest.approx(level, abs=1e-12)
    chain.scheduler.previous_timestep = lambda t: t - 2
    assert chain.landing(torch.full((1, 2), 0.5).double(), torch.tensor(3)) == pytest.approx(float(RATIOS[1]))


def test_edms_preconditioning_is_undone_by_the_scheduler():
    made = TrainedNetwork(diffusers_in_small.EDMEulerScheduler(sigma_data=0.5), "edm")
    ratio, x = torch.tensor(0.75, dtype=torch.float64), torch.tensor([[1.5, -0.5]], dtype=torch.float64)
    clean = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
    # c_skip = s^2 / (r^2 + s^2), c_out = r s / (r^2 + s^2)^(1/2)
    skip, out = 0.25 / 0.8125, 0.375 / math.sqrt(0.8125)
    answer = (clean - skip * x) / out
    torch.testing.assert_close(made.answer(x, clean, ratio), answer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made.clean(x, answer, ratio), clean, rtol=1e-12, atol=1e-12)
    data = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    denoised = x / (1 + 0.75**2)  # of states alpha = 1
    given = x / math.sqrt(0.8125)  # the network's input
    torch.testing.assert_close(made(data, given, ratio), (denoised - skip * x) / out, rtol=1e-12, atol=1e-12)

"""diffusers' schedulers as its pipelines drive them, against closed forms on Gaussians."""

import itertools
import json
import math

import pytest
import torch

from diffuscope.adapters import load_shipped
from diffuscope.adapters.diffusers import quietly
from diffuscope.adapters.diffusers_as_shipped import shipped_names, shipped_scheduler
from diffuscope.adapters.libraries import read_options
from diffuscope.certify.as_shipped import (
    Plan,
    Shipped,
    affine,
    ddim_moments,
    distinct,
    errors_of,
    marginal,
    shipped_gaussian,
)
from diffuscope.certify.as_shipped_certificate import certify_as_shipped
from diffuscope.certify.as_shipped_questions import Trial, branching, convergence, end, levels, runs, start, tried
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("torchsde")  # without which diffusers hides one scheduler

STABLE_DIFFUSION = "beta_schedule=scaled_linear&beta_start=0.00085&beta_end=0.012"
ZERO_SNR = "rescale_betas_zero_snr=true&prediction_type=v_prediction&timestep_spacing=trailing"
FLOW_SOLVER = "use_flow_sigmas=true&prediction_type=flow_prediction"
FIRST_ORDER = [
    "DDIMScheduler",
    f"DDIMScheduler?{ZERO_SNR}",
    "DDIMScheduler?prediction_type=sample&set_alpha_to_one=false",
    "EulerDiscreteScheduler?use_karras_sigmas=true&prediction_type=v_prediction",
    "FlowMatchEulerDiscreteScheduler?shift=3.0",
    "EDMEulerScheduler",
    "DPMSolverMultistepScheduler?solver_order=1",
]


def shipped(name: str) -> Shipped:
    return load_shipped(f"diffusers:{name}")


def trials_of(name: str, *steps: int) -> list[Trial]:
    return [tried(shipped(name), n, shipped_gaussian()) for n in steps]


def table_of(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """sigma/alpha of every training step."""
    return ((1 - alphas_cumprod.double()) / alphas_cumprod.double()).sqrt()


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_first_order_scheduler_has_the_moments_of_ddim_in_closed_form(name):
    data, plan = shipped_gaussian(), shipped(name).plan(20)
    mean, spread = marginal(data, plan.attributed[0])
    ended = affine(lambda x, generator: plan.run(data, x, generator), mean, plan.draws)
    assert ended.misfit < 1e-4
    for ours, exact in zip(ended.moments(mean, spread), ddim_moments(plan, data), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


def test_the_affine_map_of_ddpm_is_the_exact_reverse_transition_of_a_gaussian():
    # x_s | x_t of the forward chain has slope (a_t/a_s)(a_s^2 v + b_s^2)/(a_t^2 v + b_t^2) for known x_0's variance v;
    # DDPM's mean is exact, and its small variance lacks that of x_0 given x_t
    data, plan = shipped_gaussian(), shipped("DDPMScheduler?clip_sample=false").plan(10)
    mean, _ = marginal(data, plan.attributed[0])
    ended = affine(lambda x, generator: plan.run(data, x, generator), mean, plan.draws)
    levels = distinct(plan)[1]
    a2 = 1 / (1 + levels**2)
    along = torch.diagonal(data.eigenvectors.T @ ended.A @ data.eigenvectors)
    for k, v in enumerate(data.eigenvalues):
        spread = a2 * v + 1 - a2
        slope = ((a2[:-1] / a2[1:]).sqrt() * spread[1:] / spread[:-1]).prod()
        assert float(along[k]) == pytest.approx(float(slope), rel=1e-3)


def test_the_bias_of_stable_diffusions_start_is_that_of_the_exact_flow():
    # leading spacing starts at 981 of 1000: mean by psi alpha m, variance by psi^2 (1 - alpha^2 v - sigma^2), where the
    # flow's psi is sqrt(v / (alpha^2 v + sigma^2)) up to the error of 200 steps
    name = f"DDIMScheduler?{STABLE_DIFFUSION}&timestep_spacing=leading&steps_offset=1&set_alpha_to_one=true"
    plan = shipped(name).plan(50)
    alphas_cumprod = diffusers.DDIMScheduler(**read_options(STABLE_DIFFUSION)).alphas_cumprod
    assert plan.timesteps[0] == 981
    assert float(plan.attributed[0]) == pytest.approx(float(table_of(alphas_cumprod)[981]), rel=1e-6)
    v, m = 0.25, 0.5
    data = Gaussian(torch.full((1,), m).double(), torch.ones(1, 1).double(), torch.full((1,), v).double())
    a2 = float(alphas_cumprod[981])
    psi = math.sqrt(v / (a2 * v + 1 - a2))
    found = errors_of(shipped(name).plan(50), data, 50)
    assert found.mean_bias == pytest.approx(psi * math.sqrt(a2) * m / math.sqrt(v), rel=0.05)
    assert found.spread_bias == pytest.approx(psi**2 * a2 * (1 - v) / v, rel=0.1)
    assert start(trials_of(name, 20)).tone == "attention"


def test_zero_terminal_snr_with_trailing_spacing_has_no_bias_at_the_start():
    plan = shipped(f"DDIMScheduler?{ZERO_SNR}").plan(20)
    assert math.isinf(float(plan.attributed[0]))
    found = errors_of(plan, shipped_gaussian(), 20)
    assert found.mean_bias == pytest.approx(0.0, abs=1e-12)
    assert found.spread_bias == pytest.approx(0.0, abs=1e-12)


def test_ddim_with_linspace_spacing_steps_past_the_next_timestep():
    # it steps by 1000 // n training steps, but linspace timesteps are 999/(n - 1) apart: 10.5 steps at n = 10
    name = "DDIMScheduler?timestep_spacing=linspace&clip_sample=false"
    plan = shipped(name).plan(10)
    timesteps = plan.timesteps
    expected = (timesteps[:-1] - 1000 // 10) - timesteps[1:]
    torch.testing.assert_close(plan.off[1:], expected, rtol=0, atol=1e-3)
    assert float(expected.abs().max()) == 11
    trials = trials_of(name, 20, 150)
    assert levels(trials).tone == "alarm"
    assert convergence(trials, stochastic=False).tone == "alarm"


def test_trailing_spacing_in_floating_point_steps_asks_the_network_at_minus_one():
    # np.arange(1000, 0, -1000 / 61) has 62 elements; DDIM reads the last level of its table at -1
    plan = shipped("DDIMScheduler?timestep_spacing=trailing").plan(61)
    assert len(plan.timesteps) == 62
    assert plan.timesteps[-1] == -1
    assert math.isinf(float(plan.off[-1]))
    assert float(shipped("DDIMScheduler?timestep_spacing=trailing").plan(50).off.abs().max()) == 0


@pytest.mark.parametrize("churn", [5.0, 40.0])
def test_churn_that_the_network_does_not_see_is_left_in_the_sample(churn):
    # on one point eps = x/sigma before the noise is added: x' = x (1 + (sigma' - sigma_hat)/sigma) + n
    n = 20
    found = end(trials_of(f"EulerDiscreteScheduler?s_churn={churn}", n))
    made = diffusers.EulerDiscreteScheduler()
    with quietly():
        made.set_timesteps(n)
    sigmas = made.sigmas.double().tolist()
    hat = 1 + min(churn / n, math.sqrt(2) - 1)
    variance = sigmas[0] ** 2
    for sigma, following in itertools.pairwise(sigmas):
        variance = variance * (1 + following / sigma - hat) ** 2 + (hat**2 - 1) * sigma**2
    assert found.value == pytest.approx(math.sqrt(variance), rel=1e-3)
    assert found.tone == "alarm"


def test_log_linear_levels_are_told_to_a_continuous_network_only():
    name = "EulerDiscreteScheduler?interpolation_type=log_linear&prediction_type=v_prediction"
    table, continuous = (shipped(f"{name}{more}").plan(20) for more in ("", "&timestep_type=continuous"))
    torch.testing.assert_close(continuous.told, continuous.attributed, rtol=2e-3, atol=0)  # float32 levels
    assert float(table.off.abs().max()) > 100
    # the same levels, equal in log sigma
    log_steps = table.attributed.log().diff()
    torch.testing.assert_close(log_steps, log_steps[:1].expand(19), rtol=5e-3, atol=0)


def test_noise_that_is_all_replaced_gives_the_closed_form_of_a_wrong_variance():
    # x' = (1 - s') D + s' n with fresh n: V' = (1 - s')^2 gain^2 V + s'^2, gain = (1 - s) v/((1 - s)^2 v + s^2)
    data, plan = shipped_gaussian(), shipped("FlowMatchEulerDiscreteScheduler?stochastic_sampling=true").plan(20)
    mean, spread = marginal(data, plan.attributed[0])
    ended = affine(lambda x, generator: plan.run(data, x, generator), mean, plan.draws).moments(mean, spread)[1]
    s = torch.cat([1 / (1 + 1 / plan.attributed), torch.zeros(1, dtype=torch.float64)])
    variances = torch.diagonal(data.eigenvectors.T @ ended @ data.eigenvectors)
    for v, found in zip(data.eigenvalues, variances, strict=True):
        V = (1 - s[0]) ** 2 * v + s[0] ** 2
        for here, there in itertools.pairwise(s):
            gain = (1 - here) * v / ((1 - here) ** 2 * v + here**2)
            V = (1 - there) ** 2 * gain**2 * V + there**2
        assert float(found) == pytest.approx(float(V), rel=1e-3)


def test_an_unsupported_prediction_type_is_a_limit_and_no_failure():
    found = runs(trials_of("PNDMScheduler?prediction_type=sample", 20))
    assert found.tone == "unknown"
    assert "must be one of" in found.verdict


def test_noise_that_is_left_has_the_deviation_of_the_last_level():
    # set_alpha_to_one=False ends at the lowest training level: x = a x_0 + sqrt(1 - a^2) eps
    found = end(trials_of("PNDMScheduler", 20))
    alpha_bar = float(diffusers.PNDMScheduler().alphas_cumprod[0])
    assert found.value == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-3)
    assert found.tone == "attention"
    assert end(trials_of("PNDMScheduler?set_alpha_to_one=true", 20)).value == pytest.approx(0.0, abs=1e-6)


def test_levels_are_told_to_the_rounding_of_the_timesteps():
    # Karras levels lie between training steps: DPM-Solver++ rounds, and exponential levels it truncates
    rounded, truncated = (
        levels(trials_of(f"DPMSolverMultistepScheduler?use_{spacing}_sigmas=true", 30))
        for spacing in ("karras", "exponential")
    )
    assert 0.4 < rounded.value <= 0.5
    assert 0.9 < truncated.value < 1.0
    assert (rounded.tone, truncated.tone) == ("good", "attention")


def test_a_scheduler_that_is_right_passes_and_a_spoiled_one_fails():
    class Late(diffusers.EulerDiscreteScheduler):
        def set_timesteps(self, *args, **kwargs):
            super().set_timesteps(*args, **kwargs)
            self.timesteps = (self.timesteps + 7).clamp(max=999)

    class TooQuiet(diffusers.EulerDiscreteScheduler):
        init_noise_sigma = 1.0

    class Unfinished(diffusers.EulerDiscreteScheduler):
        def set_timesteps(self, *args, **kwargs):
            super().set_timesteps(*args, **kwargs)
            self.timesteps = self.timesteps[:-1]

    class Raises(diffusers.EulerDiscreteScheduler):
        def scale_model_input(self, sample, timestep):
            raise IndexError(f"{timestep} is out of bounds for {sample.shape}")

    def failed(made: type) -> set[str]:
        trials = [tried(shipped_scheduler(made()), 20, shipped_gaussian())]
        findings = (runs(trials), levels(trials), start(trials), end(trials))
        return {finding.name.removeprefix("shipped.") for finding in findings if finding.tone == "alarm"}

    assert failed(diffusers.EulerDiscreteScheduler) == set()
    assert "levels" in failed(Late)
    assert failed(TooQuiet) == {"start"}
    assert "end" in failed(Unfinished)
    assert failed(Raises) == {"runs"}


def test_a_certificate_is_a_page_and_json(tmp_path):
    certificate = certify_as_shipped(shipped("EulerAncestralDiscreteScheduler"), steps=(20, 30), few=(1,))
    assert certificate.verdict == "passes"
    assert [each.steps for each in certificate.errors] == [1, 20, 30]
    page = certificate.save(tmp_path)
    assert "as shipped" in page.read_text().lower()
    written = json.loads(page.with_suffix(".json").read_text())
    assert written["verdict"] == "passes"
    assert written["errors"][1]["discretization"] == pytest.approx(certificate.errors[1].discretization)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_first_order_scheduler_has_ddims_endpoints_on_a_mixture(name):
    assert branching(trials_of(name, 20)).value == pytest.approx(1.0, rel=1e-3)


def test_a_clipped_prediction_within_the_data_changes_nothing():
    clipped, free = (
        errors_of(shipped(f"DDIMScheduler?clip_sample={clip}").plan(10), shipped_gaussian(), 10)
        for clip in ("true", "false")
    )
    assert clipped.discretization == pytest.approx(free.discretization, rel=1e-9)


def test_a_scheduler_object_is_certified_with_its_own_options():
    made = diffusers.DDIMScheduler(timestep_spacing="trailing", beta_end=0.012)
    plan: Plan = shipped_scheduler(made).plan(10)
    assert plan.timesteps[0] == 999
    assert float(plan.attributed[0]) == pytest.approx(float(table_of(made.alphas_cumprod)[-1]), rel=1e-6)
    with pytest.raises(InputError, match="got a dict"):
        load_shipped({})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LCMScheduler", "no scheduler 'LCMScheduler' to drive as shipped"),
        ("DDIMScheduler?order=2", "has no option 'order'"),
        ("EulerDiscreteScheduler?use_karras_sigmas=true&use_beta_sigmas=true", "refuses these options: Only one of"),
    ],
)
def test_what_cannot_be_driven_is_told_in_one_line(name, said):
    with pytest.raises(InputError, match=said):
        shipped(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_names())
def test_every_scheduler_runs_as_shipped_with_the_right_levels(name):
    certificate = certify_as_shipped(shipped(name), steps=(20, 50, 100))
    assert certificate.passed, [finding.verdict for finding in certificate.failures]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"DPMSolverMultistepScheduler?{FLOW_SOLVER}", f"UniPCMultistepScheduler?{FLOW_SOLVER}"]
)
def test_a_table_solver_with_flow_levels_starts_near_pure_noise(name):
    plan = shipped(name).plan(20)
    assert float(plan.attributed[0]) > 500
    assert start(trials_of(name, 20, 50)).tone == "good"

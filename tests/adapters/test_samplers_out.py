"""Our samplers in the loops of other libraries give what our own `sample` gives.

Where diffusers is absent, by the table and in the loops of `diffusers_in_small`.
"""

import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import diffusers_in_small
import pytest
import torch
from peer_networks import ExactNetwork, NoDecoder, five_points
from torch import Tensor

from diffuscope.adapters import sampler_scheduler
from diffuscope.adapters.grid_samplers import ON_THE_GRID, grid_sampler, sampler_text
from diffuscope.adapters.k_diffusion import sampling
from diffuscope.adapters.k_diffusion_call import k_diffusion_sampler
from diffuscope.denoisers import DataPredictor, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import (
    DDIM,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Heun,
    NoiseAdamsBashforth,
    Sampler,
    SDEDPMSolverPP2M,
    StochasticDDIM,
    UniPC,
    model_times,
    sample,
)
from diffuscope.schedules import VE, DiscreteVP, GeometricVE, RectifiedFlow, Schedule

ONE_EVALUATION = [DDIM(), DPMSolverPP2M(), DPMSolverPP3M(), UniPC(2), NoiseAdamsBashforth(3), SDEDPMSolverPP2M()]
MIXTURE = five_points()


def starts(rows: int = 16, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(2)


needs_k_diffusion = pytest.mark.skipif(importlib.util.find_spec("k_diffusion") is None, reason="no k-diffusion")


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """diffusers as it is installed, or in small."""
    if diffusers_in_small.INSTALLED:
        yield
        return
    diffusers_in_small.stand_in(monkeypatch)
    sampler_scheduler._scheduler_class.cache_clear()
    yield
    sampler_scheduler._scheduler_class.cache_clear()


def of_diffusers() -> Any:
    """The scheduler class."""
    return sampler_scheduler.SamplerScheduler


def needs_diffusers() -> Any:
    """The library itself, or a skipped test."""
    return diffusers() if diffusers_in_small.INSTALLED else pytest.skip("no diffusers")


def diffusers() -> Any:
    return sys.modules["diffusers"] if "diffusers" in sys.modules else importlib.import_module("diffusers")


ALPHAS_CUMPROD = DiscreteVP.linear().alpha(torch.arange(1.0, 1001.0)) ** 2


def grid_of(prediction: str, calls: int) -> tuple[Schedule, Tensor]:
    """The schedule of a network of this kind, and as many times of its table and clean data after them."""
    if prediction == "flow_prediction":
        schedule, times = RectifiedFlow(), torch.linspace(1, 1e-3, calls + 1, dtype=torch.float64)[:-1]
    else:
        schedule = DiscreteVP.linear()
        times = model_times(
            DataPredictor(torch.zeros_like, schedule, event_shape=(4,), data_range=(-1.0, 1.0)), calls - 1
        )
    return schedule, torch.cat([times, times.new_zeros(1)])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow_prediction"])
@pytest.mark.parametrize("sampler", ONE_EVALUATION, ids=sampler_text)
def test_in_a_diffusers_loop_a_sampler_of_ours_ends_where_it_ends_with_us(sampler: Sampler, prediction: str):
    """The loop of its pipelines, in float64; its table is in float32."""
    scheduler = of_diffusers()(sampler, prediction_type=prediction)
    network, x = ExactNetwork(MIXTURE, ALPHAS_CUMPROD, prediction), starts().reshape(-1, 1, 2, 2)
    generator = draws()
    scheduler.set_timesteps(9)
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t).sample, t, x, generator=generator).prev_sample
    assert network.calls == 9
    schedule, times = grid_of(prediction, 9)
    ours = sample(sampler, ExactDenoiser(MIXTURE, schedule), starts(), times, noise=draws())
    assert float((x.flatten(1) - ours).abs().max()) < 1e-6


@pytest.mark.parametrize("pipeline", ["DDPMPipeline", "DDIMPipeline", "LDMPipeline"])
def test_in_unmodified_pipelines_a_sampler_of_ours_ends_where_it_ends_with_us(pipeline: str):
    """In the float32 of the pipeline, which also clips its images."""
    network, decoder = ExactNetwork(MIXTURE, ALPHAS_CUMPROD), NoDecoder()
    made = getattr(diffusers(), pipeline)
    parts = {"vqvae": None} if pipeline == "LDMPipeline" else {}
    pipe = made(unet=None, scheduler=diffusers().DDIMScheduler(), **parts)
    pipe.unet, pipe.vqvae = network, decoder
    pipe.scheduler = of_diffusers().from_config(pipe.scheduler.config, sampler="UniPC?predictor_order=2")
    pipe.set_progress_bar_config(disable=True)
    images = pipe(batch_size=16, generator=draws(), num_inference_steps=9, output_type="np").images
    schedule, times = grid_of("epsilon", 9)
    x_start = torch.randn(16, 4, generator=draws())
    ours = sample(UniPC(2), ExactDenoiser(MIXTURE, schedule), x_start, times)
    assert network.calls == 9
    assert float((torch.as_tensor(images).flatten(1) - (ours / 2 + 0.5).clamp(0, 1)).abs().max()) < 1e-5


def test_a_scheduler_of_ours_is_saved_and_loaded_with_its_sampler_and_table(tmp_path):
    needs_diffusers()
    scheduler = of_diffusers()(NoiseAdamsBashforth(2, power=0.5), beta_schedule="scaled_linear", beta_end=0.012)
    scheduler.save_pretrained(tmp_path)
    loaded = type(scheduler).from_pretrained(tmp_path)
    for made in (scheduler, loaded):
        made.set_timesteps(5)
    network, x = ExactNetwork(MIXTURE, scheduler.alphas_cumprod), starts().reshape(-1, 1, 2, 2)
    for t in scheduler.timesteps:
        assert torch.equal(scheduler.step(network(x, t).sample, t, x)[0], loaded.step(network(x, t).sample, t, x)[0])
    assert loaded.config.sampler == "NoiseAdamsBashforth?order=2&power=0.5"
    assert torch.equal(loaded.alphas_cumprod, scheduler.alphas_cumprod)


def test_a_pipeline_is_saved_and_loaded_with_a_scheduler_of_ours(tmp_path):
    diffusers = needs_diffusers()
    unet = diffusers.UNet2DModel(
        sample_size=2, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, block_out_channels=(4,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet=unet, scheduler=of_diffusers()("UniPC?predictor_order=1")).save_pretrained(tmp_path)
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is of_diffusers()
    assert loaded.scheduler.config.sampler.startswith("UniPC?predictor_order=1")


def test_the_config_of_a_flow_matching_scheduler_makes_one_for_flows_with_its_shift():
    """On the library's own levels, 3 s / (1 + 2 s)."""
    made = of_diffusers().from_config(diffusers().FlowMatchEulerDiscreteScheduler(shift=3.0).config)
    made.set_timesteps(sigmas=[1.0, 0.5, 0.25])
    assert made.config.prediction_type == "flow_prediction"
    assert torch.allclose(made.timesteps, torch.tensor([1000.0, 750.0, 500.0]))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of its table
def test_what_a_config_leaves_to_its_own_scheduler_is_that_schedulers():
    """Heun's table is another one than DDPM's, and a flow of shift 1 is a flow, where neither is said."""
    made = of_diffusers()
    heun = diffusers().HeunDiscreteScheduler()
    assert float(heun.betas[-1]) != float(diffusers().DDPMScheduler().betas[-1])
    assert torch.equal(made.from_config(heun.config).alphas_cumprod, heun.alphas_cumprod)
    assert made.from_config(diffusers().FlowMatchEulerDiscreteScheduler().config).config.prediction_type == (
        "flow_prediction"
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
        ("EDMEulerScheduler", {}),
        ("IPNDMScheduler", {}),
    ],
)
def test_the_config_of_a_network_of_another_kind_is_refused(name: str, options: dict):
    """Whose times or inputs are others, so that samples would be wrong without a word."""
    other = getattr(diffusers(), name)(**options)
    with pytest.raises(InputError, match=r"expected (False|discrete|none|that of a scheduler with beta_start)"):
        of_diffusers().from_config(other.config)


def test_noise_is_added_at_the_level_of_the_timestep():
    scheduler = of_diffusers()()
    x, noise, timesteps = starts(3), torch.ones(3, 4, dtype=torch.float64), torch.tensor([0, 500, 999])
    alpha = ALPHAS_CUMPROD[timesteps].sqrt()[:, None]
    expected = alpha * x + (1 - alpha**2).sqrt() * noise
    assert torch.allclose(scheduler.add_noise(x, noise, timesteps), expected, atol=1e-6)


@needs_k_diffusion
@pytest.mark.parametrize(
    "sampler", [UniPC(), Heun(), DPMSolverPP2S(), StochasticDDIM(0.5)], ids=lambda s: type(s).__name__
)
def test_a_k_diffusion_call_ends_where_our_sample_ends(sampler: Sampler):
    """With its own wrapper of a network and its own levels; methods of several evaluations too."""
    levels = sampling().get_sigmas_karras(8, 0.05, 20.0).double()
    seen = []

    def model(x: Tensor, sigma: Tensor, scale: float) -> Tensor:
        assert sigma.shape == (len(x),)
        return scale * MIXTURE.denoise(x, 1.0, sigma)

    call = k_diffusion_sampler(sampler)
    ended = call(model, starts(scale=20.0), levels, {"scale": 1.0}, seen.append, disable=True, generator=draws())
    ours = sample(sampler, ExactDenoiser(MIXTURE, VE()), starts(scale=20.0), levels, noise=draws())
    assert float((ended - ours).abs().max()) < 1e-12
    assert [state["i"] for state in seen] == list(range(8))
    last = seen[-1]
    assert torch.equal(last["denoised"], MIXTURE.denoise(last["x"], 1.0, float(last["sigma"])))


@needs_k_diffusion
def test_what_k_diffusion_calls_euler_is_our_ddim():
    """A step of the line to the denoised point, in both."""
    levels = sampling().get_sigmas_karras(8, 0.05, 20.0).double()
    model = lambda x, sigma: MIXTURE.denoise(x, 1.0, sigma)  # noqa: E731
    theirs = sampling().sample_euler(model, starts(scale=20.0), levels, disable=True)
    assert float((k_diffusion_sampler(DDIM())(model, starts(scale=20.0), levels) - theirs).abs().max()) < 1e-12


@pytest.mark.parametrize("sampler", [*ONE_EVALUATION, UniPC(), NoiseAdamsBashforth(4)], ids=sampler_text)
def test_an_azula_sampler_of_ours_ends_where_our_sample_ends(sampler: Sampler):
    """On azula's VE schedule, which is our GeometricVE, and its own times, in float64."""
    azula = pytest.importorskip("azula.denoise")
    from diffuscope.adapters.azula_sampler import AzulaSampler

    class Exact(azula.Denoiser):
        schedule = pytest.importorskip("azula.noise").VESchedule(0.01, 50.0)

        def forward(self, x_t: Tensor, t: Tensor) -> Any:
            return azula.DiracPosterior(mean=MIXTURE.denoise(x_t, *self.schedule(t)))

    made = AzulaSampler(Exact(), sampler, generator=draws(), steps=9, silent=True, dtype=torch.float64)
    assert isinstance(made, pytest.importorskip("azula.sample").Sampler)
    twice = [made(starts(scale=50.0)) for _ in range(1 if sampler.stochastic else 2)]
    schedule = GeometricVE(0.01, 50.0)
    ours = sample(sampler, ExactDenoiser(MIXTURE, schedule), starts(scale=50.0), made.timesteps, noise=draws())
    assert float((twice[0] - ours).abs().max()) < 1e-9
    assert torch.equal(twice[0], twice[-1])  # the second run begins without a history


def test_a_sampler_is_read_back_from_its_name_and_options():
    for sampler in ONE_EVALUATION:
        assert grid_sampler(sampler_text(sampler)) == sampler
    assert grid_sampler("UniPC") == UniPC()
    assert {type(sampler).__name__ for sampler in ONE_EVALUATION} <= set(ON_THE_GRID)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sampler": "Heun"}, "sampler: expected one that evaluates the model once per step, DDIM, .*; got Heun"),
        ({"sampler": Heun()}, "sampler: expected one .*; got Heun"),
        ({"sampler": "UniPC"}, "sampler: UniPC of predictor_order 3 needs accurate_start=False"),
        ({"sampler": "NoiseAdamsBashforth?order=4"}, "needs order 3 or lower"),
        ({"sampler": "DDIM?steps=3"}, "has no option 'steps'"),
        ({"sampler": SDEDPMSolverPP2M(abs)}, "sampler: expected eta as a number or word"),
        ({"prediction_type": "score"}, "prediction_type: expected one of epsilon, .* got 'score'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr: expected False"),
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting: expected False"),
        ({"invert_sigmas": True}, "invert_sigmas: expected False"),
        ({"timestep_type": "continuous"}, "timestep_type: expected discrete, got continuous"),
        ({"sigma_data": 0.5}, "sigma_data: expected none, got 0.5"),
    ],
)
def test_what_a_scheduler_cannot_be_is_one_line(given: dict, line: str):
    with pytest.raises(InputError, match=line) as caught:
        of_diffusers()(**given)
    assert "\n" not in str(caught.value)


def test_what_a_scheduler_cannot_do_is_one_line():
    scheduler, x = of_diffusers()("StochasticDDIM"), starts().reshape(-1, 1, 2, 2)
    with pytest.raises(InputError, match="timestep: expected set_timesteps before"):
        scheduler.step(x, 999, x, generator=draws())
    for given, line in [
        ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1, got 0"),
        ({"timesteps": [10, 20]}, r"timesteps: expected decreasing .* got \[10, 20\]"),
        ({"timesteps": [1000]}, "timesteps: expected decreasing ones within the table"),
        ({"sigmas": [1.0, 0.5]}, "sigmas: expected timesteps"),
        ({"num_inference_steps": 3, "timesteps": [3]}, "exactly one of"),
    ]:
        with pytest.raises(InputError, match=line):
            scheduler.set_timesteps(**given)
    scheduler.set_timesteps(5)
    with pytest.raises(InputError, match="generator: StochasticDDIM needs one"):
        scheduler.step(x, 999, x)
    with pytest.raises(InputError, match="eta, use_clipped_model_output: expected none"):
        scheduler.step(x, 999, x, eta=0.5, generator=draws())
    with pytest.raises(InputError, match="generator: StochasticDDIM draws noise"):
        k_diffusion_sampler(StochasticDDIM())(MIXTURE.denoise, x, torch.tensor([1.0, 0.0]))
    with pytest.raises(InputError, match="sigmas: expected at least two decreasing"):
        k_diffusion_sampler(DDIM())(MIXTURE.denoise, x, torch.tensor([1.0, 2.0]))

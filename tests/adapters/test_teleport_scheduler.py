"""diffusers' schedulers behind a closed-form jump, in its unmodified pipelines, on exactly solved data.

Where the library is absent, in schedulers and loops by its formulas.
"""

import copy
import inspect
import math
from functools import cache
from typing import Any

import diffusers_in_small
import pytest
import torch
from peer_networks import ExactNetwork, NoDecoder, five_points, gaussian_of
from torch import Tensor

from diffuscope.adapters.teleport_pipeline import teleported
from diffuscope.adapters.teleport_scheduler import Protocol, TeleportScheduler
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import DiscreteVP
from diffuscope.times import log_snr_times

diffusers = diffusers_in_small.classes()
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of its set_timesteps

KINDS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"timestep_spacing": "trailing", "clip_sample": False},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {"use_karras_sigmas": True},
    "UniPCMultistepScheduler": {},
}
every_scheduler = pytest.mark.parametrize("name", [name for name in KINDS if hasattr(diffusers, name)])
both_protocols = pytest.mark.parametrize("protocol", ["reallocate", "truncate"])
MEAN, VARIANCE = 0.4, 0.3
ISOTROPIC = Gaussian.isotropic(torch.full((1, 2, 2), MEAN), VARIANCE)
ROWS = Gaussian.isotropic(torch.full((4,), MEAN), VARIANCE)
MIXTURE = five_points()
MOMENTS = gaussian_of(MIXTURE)


def scheduler(name: str, **options: Any) -> Any:
    return getattr(diffusers, name)(**(KINDS[name] | options))


def steps_of(name: str, calls: int) -> int:
    """Heun makes 2 steps - 1 calls."""
    return (calls + 1) // 2 if name == "HeunDiscreteScheduler" else calls


def pipeline(plain: Any, distribution: Distribution = MIXTURE, kind: str = "LDMPipeline") -> Any:
    """An unmodified pipeline with an exact network; LDMPipeline scales the input of its network, the others do not."""
    parts = {"vqvae": None} if kind == "LDMPipeline" else {}
    made = getattr(diffusers, kind)(unet=None, scheduler=plain, **parts)
    made.unet, made.vqvae, made.scheduler = ExactNetwork(distribution, plain.alphas_cumprod), NoDecoder(), plain
    made.set_progress_bar_config(disable=True)
    return made


def latents(pipe: Any, steps: int, rows: int = 16) -> Tensor:
    """What LDMPipeline gives to its decoder."""
    pipe.unet.calls = 0
    pipe(batch_size=rows, generator=torch.Generator().manual_seed(1), num_inference_steps=steps, output_type="np")
    return pipe.vqvae.latents.double().flatten(1)


def start(rows: int = 16) -> Tensor:
    return torch.randn(rows, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def scales(plain: Any, index: int) -> tuple[float, float]:
    """alpha and sigma of the state at an entry of the plain scheduler's timesteps, from its own table."""
    if not hasattr(plain, "sigmas"):
        alpha_bar = float(plain.alphas_cumprod[int(plain.timesteps[index])])
        return alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    ratio = float(plain.sigmas[index])
    exploding = hasattr(plain, "init_noise_sigma") and "Discrete" in type(plain).__name__
    return (1.0, ratio) if exploding else (1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio))


@every_scheduler
def test_the_first_state_of_the_network_is_the_end_of_the_flow_of_the_gaussian(name: str):
    """Isotropic data in closed form: the deviation from the mean grows as the standard deviation of the noised data."""
    plain, made = (
        scheduler(name),
        TeleportScheduler(scheduler(name), ISOTROPIC, noise_to_signal=3.0, protocol="truncate"),
    )
    plain.set_timesteps(12)
    made.set_timesteps(12)
    cut = len(plain.timesteps) - len(made.timesteps)
    assert cut > 0
    (a, b), (c, d) = scales(plain, 0), scales(plain, cut)
    x = start() * float(plain.init_noise_sigma)
    gain = ((c**2 * VARIANCE + d**2) / (a**2 * VARIANCE + b**2)) ** 0.5
    expected = c * MEAN + gain * (x.double() - a * MEAN)
    assert float((made.jumped(x) - expected).abs().max()) < 1e-6 * d / c * 2
    assert made.jumped(x).dtype == torch.float32
    every = [scales(plain, index) for index in range(len(plain.timesteps))]
    distances = [abs(math.log(sigma / alpha / 3.0)) for alpha, sigma in every]
    assert abs(math.log(d / c / 3.0)) == min(distances)


@every_scheduler
def test_truncation_keeps_the_tail_of_every_list_and_the_start_of_the_whole(name: str):
    plain, made = (
        scheduler(name),
        TeleportScheduler(scheduler(name), ISOTROPIC, noise_to_signal=3.0, protocol="truncate"),
    )
    for _ in range(2):  # the second run starts as the first
        plain.set_timesteps(12)
        made.set_timesteps(12)
        cut = made.steps_saved * (2 if name == "HeunDiscreteScheduler" else 1)
        assert cut > 0
        assert torch.equal(made.timesteps, plain.timesteps[cut:])
        assert made.init_noise_sigma == plain.init_noise_sigma
        if hasattr(plain, "sigmas"):
            assert torch.equal(made.sigmas, plain.sigmas[cut:])
            assert made.num_inference_steps == plain.num_inference_steps - made.steps_saved
    assert len(made) == len(plain)


@every_scheduler
def test_reallocation_makes_as_many_calls_as_were_asked_for_from_about_the_level(name: str):
    for level in (20.0, 3.0, 0.5):
        made = TeleportScheduler(scheduler(name), MOMENTS, noise_to_signal=level)
        for calls in (5, 9, 31):
            made.set_timesteps(steps_of(name, calls))
            assert len(made.timesteps) == calls
            alpha, sigma = made._end
            assert abs(math.log(sigma / alpha / level)) < 4 / steps_of(name, calls)  # half a step
    pipe = pipeline(made)
    latents(pipe, steps_of(name, 9))
    assert pipe.unet.calls == 9


def test_ddim_stays_at_the_levels_of_its_timesteps():
    """Its stride is T // steps; where that is not the distance of its timesteps, levels and timesteps would part."""
    made = TeleportScheduler(scheduler("DDIMScheduler"), MOMENTS, noise_to_signal=3.0)
    for steps in range(1, 40):
        made.set_timesteps(steps)
        stride = 1000 // made.num_inference_steps
        assert bool((made.timesteps[:-1] - made.timesteps[1:] == stride).all())
        assert made.timesteps[-1] == stride - 1
        assert len(made.timesteps) == steps


@every_scheduler
@both_protocols
def test_on_gaussian_data_a_run_ends_where_the_flow_ends(name: str, protocol: Protocol):
    """Closed form at sigma = 0, for a start at infinite noise: the mean and the start over its scale times the std."""
    made = TeleportScheduler(scheduler(name), ISOTROPIC, noise_to_signal=3.0, protocol=protocol)
    plain, ends = scheduler(name), []
    plain.set_timesteps(40)
    a, b = scales(plain, 0)
    x = start().double().flatten(1) * float(plain.init_noise_sigma)
    exact = MEAN + (VARIANCE / (a**2 * VARIANCE + b**2)) ** 0.5 * (x - a * MEAN)
    for given in (plain, made):
        ends.append(float((latents(pipeline(given, ROWS), 40) - exact).abs().max()))
    # a wrong level, index or list would be an error of the size of the data
    assert ends[1] < 2 * ends[0] + 1e-5
    assert ends[1] < (0.15 if name in ("DDIMScheduler", "EulerDiscreteScheduler") else 0.03)


@every_scheduler
@both_protocols
def test_a_jump_to_the_start_changes_nothing(name: str, protocol: Protocol):
    plain = scheduler(name)
    highest = float((1 / plain.alphas_cumprod[-1].double() - 1).sqrt())
    made = TeleportScheduler(plain, MOMENTS, noise_to_signal=highest, protocol=protocol)
    assert torch.equal(latents(pipeline(made), 6), latents(pipeline(plain), 6))
    assert made.steps_saved == 0


@cache
def ends_of_the_flow(alphas_cumprod: tuple[float, ...]) -> Tensor:
    """Where the probability flow of the exact network takes the 256 starts: 200 steps of order 2."""
    betas = 1 - torch.tensor(alphas_cumprod) / torch.tensor((1.0, *alphas_cumprod[:-1]))
    denoiser = ExactDenoiser(MIXTURE, DiscreteVP(tuple(betas.tolist())))
    times = torch.cat([log_snr_times(denoiser.schedule, 1000.0, 1.0, 200), torch.zeros(1, dtype=torch.float64)])
    return sample(DPMSolverPP2M(), denoiser, start(256).double().flatten(1), times)


@every_scheduler
@pytest.mark.parametrize("calls", [8, *(pytest.param(calls, marks=pytest.mark.slow) for calls in (5, 10))])
def test_at_equal_calls_the_jump_brings_the_ends_closer_to_those_of_the_flow(name: str, calls: int):
    """256 starts in pairs, with the exact network: the mean difference is below zero by more than 2 standard errors."""
    plain, steps = scheduler(name), steps_of(name, calls)
    pipe, flow, distances = pipeline(plain), ends_of_the_flow(tuple(scheduler(name).alphas_cumprod.tolist())), []
    for given in (plain, TeleportScheduler(plain, MOMENTS, noise_to_signal=3.0)):
        pipe.scheduler = given
        distances.append((latents(pipe, steps, rows=256) - flow).norm(dim=1))
        assert pipe.unet.calls == (2 * steps - 1 if name == "HeunDiscreteScheduler" else calls)
    change = distances[1] - distances[0]
    assert float(change.mean()) < -2 * float(change.std()) / 16


@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline", "LDMPipeline"])
@both_protocols
def test_within_the_block_every_pipeline_gives_the_same_and_afterwards_what_it_gave_before(
    kind: str, protocol: Protocol
):
    """Whether or not it lets its scheduler scale the input of the network; no call is spent on the jump."""

    def images(pipe: Any) -> Tensor:
        pipe.unet.calls = 0
        draw = torch.Generator().manual_seed(1)
        return torch.as_tensor(pipe(batch_size=8, generator=draw, num_inference_steps=8, output_type="np").images)

    plain = scheduler("DDIMScheduler")
    pipe, by_assignment = pipeline(plain, kind=kind), pipeline(plain)
    before = images(pipe)
    with teleported(pipe, MOMENTS, noise_to_signal=3.0, protocol=protocol) as made:
        within = images(pipe)
        assert torch.equal(images(pipe), within)
        assert pipe.unet.calls == len(made.timesteps)
    by_assignment.scheduler = TeleportScheduler(plain, MOMENTS, noise_to_signal=3.0, protocol=protocol)
    assert torch.equal(images(by_assignment), within)
    assert not torch.allclose(before, within, atol=1e-3)
    assert torch.equal(images(pipe), before)
    assert pipe.scheduler is plain
    assert not pipe.unet._forward_pre_hooks


def test_guided_pipelines_are_given_the_state_after_the_jump_in_every_copy():
    """Twice the batch in one call of the network, or two calls, or a pipeline that goes on with the scaled state."""
    made = TeleportScheduler(scheduler("DDIMScheduler"), MOMENTS, noise_to_signal=3.0, protocol="truncate")
    network, x, ends = ExactNetwork(MIXTURE, made.alphas_cumprod), start(), []
    for way in ("plain", "twice the batch", "twice", "scaled"):
        made.set_timesteps(10)
        state = x
        for t in made.timesteps:
            if way == "twice the batch":
                output = network(made.scale_model_input(torch.cat([state, state]), t), t).sample[: len(x)]
            else:
                given = [made.scale_model_input(state, t) for _ in range(2 if way == "twice" else 1)]
                output = network(given[-1], t).sample
                state = given[-1] if way == "scaled" else state
            state = made.step(output, t, state).prev_sample
        ends.append(state)
    assert all(torch.allclose(ends[0], end, atol=1e-6) for end in ends)


def test_a_network_called_by_name_and_twice_is_hooked_each_time():
    pipe = pipeline(scheduler("DDIMScheduler"))
    with teleported(pipe, MOMENTS, noise_to_signal=3.0, protocol="truncate") as made:
        made.set_timesteps(10)
        t, x = made.timesteps[0], start()
        pipe.unet.forward = lambda sample, t: sample  # noqa: ARG005
        assert torch.equal(pipe.unet(sample=x, t=t), made.jumped(x))
        assert torch.equal(pipe.unet(x, t), made.jumped(x))
        made.step(x, t, x)
        assert torch.equal(pipe.unet(x, t), x)


def test_it_stands_in_for_its_scheduler_and_is_saved_as_it(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    plain = scheduler("UniPCMultistepScheduler")
    made = TeleportScheduler(plain, MOMENTS, noise_to_signal=3.0)
    assert isinstance(made, TeleportScheduler)
    assert isinstance(made, diffusers.UniPCMultistepScheduler)
    assert inspect.signature(made.step) == inspect.signature(plain.step)
    assert inspect.signature(made.set_timesteps) == inspect.signature(plain.set_timesteps)
    assert made.config == plain.config
    assert repr(made) == "TeleportScheduler(UniPCMultistepScheduler, noise_to_signal=3, protocol='reallocate')"
    unet = diffusers.UNet2DModel(
        sample_size=2,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    pipe = diffusers.DDPMPipeline(unet=unet, scheduler=plain)
    pipe.scheduler = made
    pipe.save_pretrained(tmp_path)
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is diffusers.UniPCMultistepScheduler
    plain.set_timesteps(4)
    made.set_timesteps(4)
    twin = copy.deepcopy(made)
    twin.set_timesteps(9)
    assert (len(made.timesteps), len(twin.timesteps), len(plain.timesteps)) == (4, 9, 4)
    assert not torch.equal(made.timesteps, plain.timesteps)  # its own copy


@pytest.mark.parametrize(
    ("name", "given", "line"),
    [
        ("PNDMScheduler", {}, "scheduler: expected one of DDIMScheduler, .*, got PNDMScheduler"),
        (
            "DDIMScheduler",
            {"noise_to_signal": 500.0},
            r"noise_to_signal: expected a level of DDIMScheduler's table, .* got 500",
        ),
        ("DDIMScheduler", {"noise_to_signal": 0}, r"sigma/alpha in 0.01 .. 157, got 0"),
        ("DDIMScheduler", {"noise_to_signal": math.nan}, "got nan"),
    ],
)
def test_what_cannot_be_teleported_is_one_line(name: str, given: dict, line: str):
    with pytest.raises(InputError, match=line) as caught:
        TeleportScheduler(getattr(diffusers, name)(), MOMENTS, noise_to_signal=given.get("noise_to_signal", 3.0))
    assert "\n" not in str(caught.value)


def test_what_a_run_cannot_do_is_one_line():
    other = Gaussian.isotropic(torch.zeros(3, 4, 4), 1.0)
    pipe = pipeline(scheduler("DDIMScheduler"))
    shapes = r"gaussian: expected the shape of the latents, \(1, 2, 2\), got \(3, 4, 4\)"
    with pytest.raises(InputError, match=shapes), teleported(pipe, other, noise_to_signal=3.0):
        latents(pipe, 8)
    assert type(pipe.scheduler) is diffusers.DDIMScheduler
    assert not pipe.unet._forward_pre_hooks
    unscaled = pipeline(scheduler("DDIMScheduler"), kind="DDIMPipeline")
    made = unscaled.scheduler = TeleportScheduler(unscaled.scheduler, MOMENTS, noise_to_signal=3.0)
    with pytest.raises(InputError, match="this pipeline calls its network without scale_model_input"):
        latents(unscaled, 8)
    made.set_timesteps(8)
    with pytest.raises(InputError, match="scheduler: a TeleportScheduler starts from pure noise"):
        made.add_noise(start(), start(), made.timesteps[:1])
    with pytest.raises(InputError, match="protocol: expected truncate for a pipeline with its own timesteps"):
        TeleportScheduler(scheduler("EulerDiscreteScheduler"), MOMENTS, noise_to_signal=3.0).set_timesteps(
            timesteps=[9]
        )
    nothing: Any = None
    with pytest.raises(InputError, match=r"scheduler: expected one of .* got NoneType"):
        TeleportScheduler(nothing, MOMENTS, noise_to_signal=3.0)
    with pytest.raises(InputError, match="scheduler: expected a plain scheduler"):
        TeleportScheduler(made, MOMENTS, noise_to_signal=3.0)
    no_pipeline = teleported(NoDecoder(), MOMENTS, noise_to_signal=3.0)
    with pytest.raises(InputError, match=r"pipeline: expected a diffusers pipeline .*, got a NoDecoder"), no_pipeline:
        pass

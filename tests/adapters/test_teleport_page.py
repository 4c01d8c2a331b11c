"""The pages on other libraries' loops run as printed, and the network that they train gains by the jump."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peer_networks import NoDecoder

from diffuscope.adapters import TeleportScheduler
from diffuscope.denoisers import NoisePredictor
from diffuscope.exact import Gaussian
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import DiscreteVP

DOCS = Path(__file__).parents[2] / "docs"
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
KINDS = [
    "DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
]  # fmt: skip


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Any:
    """The pipeline of the page, saved and loaded again; one to two minutes on an idle core."""
    folder = tmp_path_factory.mktemp("trained")
    names: dict[str, Any] = {}
    block = blocks("teleport.md")[0]
    with torch.random.fork_rng():
        exec(compile(block.replace("digits-pipeline", str(folder)), "docs/teleport.md", "exec"), names)
    return diffusers.DDIMPipeline.from_pretrained(folder), names["digits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_at_few_calls_of_a_trained_network_the_jump_costs_no_accuracy(trained: Any, name: str):
    """5, 8 and 10 counted calls (Heun 5, 7, 9), 256 starts in pairs: not farther by more than 2 standard errors."""
    pipeline, digits = trained
    gaussian, unet = Gaussian.fit([digits]), pipeline.unet.eval()
    schedule = DiscreteVP(tuple(pipeline.scheduler.betas.double().tolist()))
    network = lambda x, t: unet(x.float(), t).sample.to(x.dtype)  # noqa: E731
    denoiser = NoisePredictor(network, schedule, event_shape=(1, 8, 8), data_range=(-1.0, 1.0))
    x_start = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    times = torch.cat([torch.linspace(1000, 1, 101, dtype=torch.float64).round(), torch.zeros(1, dtype=torch.float64)])
    flow = sample(DPMSolverPP2M(), denoiser, x_start, times)
    spacing = {"timestep_spacing": "trailing" if name == "DDIMScheduler" else "linspace"}
    plain = getattr(diffusers, name).from_config(pipeline.scheduler.config, **spacing)
    pipe, counted = diffusers.LDMPipeline(vqvae=None, unet=unet, scheduler=plain), []
    pipe.vqvae = NoDecoder()
    pipe.set_progress_bar_config(disable=True)
    hook = unet.register_forward_pre_hook(lambda *_: counted.append(1))
    for calls in (5, 8, 10):
        steps, distances = (calls + 1) // 2 if name == "HeunDiscreteScheduler" else calls, []
        for scheduler in (plain, TeleportScheduler(plain, gaussian, noise_to_signal=5.0)):
            counted.clear()
            pipe.scheduler = scheduler
            draw = torch.Generator().manual_seed(1)
            pipe(batch_size=256, generator=draw, num_inference_steps=steps, output_type="np")
            assert len(counted) == (2 * steps - 1 if name == "HeunDiscreteScheduler" else calls)
            distances.append((pipe.vqvae.latents - flow).flatten(1).norm(dim=1))
        change = distances[1] - distances[0]
        assert float(change.mean()) < 2 * float(change.std()) / 16
    hook.remove()

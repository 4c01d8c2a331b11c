r"""What the jump gains in schedulers of diffusers: the table of the page "The first steps for free" (some minutes).

    python benchmarks/teleport_scheduler.py

trains the network of that page by the page's own first block, and walks 256 starts to clean data with every scheduler,
without and with a jump to sigma/alpha = 5, at the same number of counted calls of the network. The error is the
distance of every end from where the probability flow of the same network takes the same start, RMS per pixel and mean
over the starts; that flow is integrated over every second step of the network's table. A difference is that of the
pairs, with its standard error. Needs diffusers.
"""

import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import diffusers  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from diffuscope.adapters import TeleportScheduler
from diffuscope.denoisers import NoisePredictor
from diffuscope.exact import Gaussian
from diffuscope.samplers import DataAdamsBashforth, sample
from diffuscope.schedules import DiscreteVP

PAGE = Path(__file__).parents[1] / "docs" / "teleport.md"
SCHEDULERS = {
    "DDIM": diffusers.DDIMScheduler,
    "Euler": diffusers.EulerDiscreteScheduler,
    "Heun": diffusers.HeunDiscreteScheduler,
    "DPMSolverMultistep": diffusers.DPMSolverMultistepScheduler,
    "UniPC": diffusers.UniPCMultistepScheduler,
}
CALLS, STARTS, LEVEL = (5, 8, 10, 20, 50), 256, 5.0


def trained() -> tuple[Any, Any, Tensor]:
    """The pipeline that the page's first block trains and saves, and the digits."""
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names: dict[str, Any] = {}
        exec(compile(block, str(PAGE), "exec"), names)
        os.chdir(here)
    return names["unet"].eval(), names["scheduler"].config, names["digits"]


class Counted:
    """The network's noise prediction, its calls counted."""

    def __init__(self, unet: Any) -> None:
        self.unet, self.calls = unet, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.unet(x, t).sample


@torch.no_grad()
def walked(scheduler: Any, unet: Any, noise: Tensor, steps: int) -> tuple[Tensor, int]:
    """The samples as a pipeline makes them, and the number of calls."""
    network = Counted(unet)
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(scaled, t), t, x).prev_sample
    return x, network.calls


@torch.no_grad()
def flow_ends(unet: Any, betas: Tensor, noise: Tensor, stride: int) -> Tensor:
    """The probability flow of the network in every `stride`-th step of its table, and a last denoise."""
    denoiser = NoisePredictor(
        lambda x, t: unet(x.float(), t).sample.to(x.dtype),
        DiscreteVP(tuple(betas.double().tolist())),
        event_shape=(1, 8, 8),
        data_range=(-1.0, 1.0),
    )
    times = torch.arange(len(betas), 0, -stride, dtype=torch.float64)
    times = times if float(times[-1]) == 1 else torch.cat([times, torch.ones(1, dtype=torch.float64)])
    x = sample(DataAdamsBashforth(3), denoiser, denoiser.schedule.sigma(times[0]) * noise.double(), times)
    return denoiser(x, times[-1]).float()


def main() -> None:
    unet, config, digits = trained()
    gaussian = Gaussian.fit([digits])
    noise = torch.randn(STARTS, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = diffusers.DDIMScheduler.from_config(config)
    ends, coarser = (flow_ends(unet, plain.betas, noise, stride) for stride in (2, 4))
    print(f"Standard deviation of the data: {float(gaussian.trace / 64) ** 0.5:.2g}")
    print(f"Error of the integration, from twice the step: {float(distances(ends, coarser).mean()):.2g}\n")
    print("| scheduler | calls | without | with the jump | difference |\n|---|--:|--:|--:|--:|")
    for name, kind in SCHEDULERS.items():
        options = {"beta_start": plain.config.beta_start, "beta_end": plain.config.beta_end}  # Heun's defaults differ
        options |= {"timestep_spacing": "trailing", "clip_sample": False} if name == "DDIM" else {}
        for calls in CALLS:
            steps, errors = (calls + 1) // 2 if name == "Heun" else calls, []
            for scheduler in (kind(**options), TeleportScheduler(kind(**options), gaussian, noise_to_signal=LEVEL)):
                end, counted = walked(scheduler, unet, noise, steps)
                assert counted == (2 * steps - 1 if name == "Heun" else steps), (name, counted, steps)
                errors.append(distances(end, ends))
            gain = errors[1] - errors[0]
            spread = float(gain.std()) / math.sqrt(STARTS)
            without, jumped = (float(error.mean()) for error in errors)
            print(f"| {name} | {counted} | {without:.3f} | {jumped:.3f} | {float(gain.mean()):+.3f} ± {spread:.3f} |")


def distances(a: Tensor, b: Tensor) -> Tensor:
    """The RMS difference per pixel, start by start."""
    return (a - b).flatten(1).square().mean(1).sqrt()


if __name__ == "__main__":
    main()

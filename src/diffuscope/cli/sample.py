"""Draw samples from a model."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image

from diffuscope.denoisers import Denoiser, on_device, tensors_within
from diffuscope.distributed import of_process_0, process_group, processes, rank, require_same, sharing
from diffuscope.errors import InputError
from diffuscope.files import save_arrays
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    Heun,
    NoiseAdamsBashforth,
    Sampler,
    SDEDPMSolverPP2M,
    UniPC,
    cycled,
    generate,
)
from diffuscope.streams import SEEDS, require_seed

from .options import DeviceOptions, require_within, writing
from .weights import WeightsOptions

SAMPLERS = {
    "euler": Euler(),
    "heun": Heun(),
    "ddim": DDIM(),
    "ddpm": DDPM(),
    "dpm++2m": DPMSolverPP2M(),
    "dpm++3m": DPMSolverPP3M(),
    "dpm++2m-sde": SDEDPMSolverPP2M(),
    "deis3": NoiseAdamsBashforth(3),
    "unipc": UniPC(accurate_start=False),  # exactly one function evaluation per step
}
LARGEST_GRID = 100  # images on the contact sheet


@dataclass(frozen=True)
class Sample:
    """Draw samples from a model. Writes samples.npz to --out, and for images a contact sheet, samples.png.

    Example:
        The only example that this denoiser knows is (3, 3):

        >>> import numpy as np
        >>> from pathlib import Path
        >>> from diffuscope.cli import main
        >>> lines = ["import diffuscope", "class Three:", "    schedule, event_shape = diffuscope.VE(), (2,)"]
        >>> lines += ["    def __call__(self, x_t, t):", "        return 0 * x_t + 3", "model = Three()"]
        >>> _ = Path("three.py").write_text("\\n".join(lines))
        >>> main("sample --model three:model --n 4 --nfe 20".split())
        Samples: out/samples/samples.npz
        >>> np.load("out/samples/samples.npz")["x"].round(5).tolist()
        [[3.0, 3.0], [3.0, 3.0], [3.0, 3.0], [3.0, 3.0]]
    """

    model: str
    """A .safetensors file written by diffuscope, module:object, or a model of another library: diffusers:FOLDER,
    onnx:FILE, edm:, k_diffusion: or azula:module:object, with ?option=value."""
    network: tyro.conf.OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    n: int = 64
    """Number of samples."""
    sampler: Literal["euler", "heun", "ddim", "ddpm", "dpm++2m", "dpm++3m", "dpm++2m-sde", "deis3", "unipc"] = "dpm++2m"
    """Sampler."""
    nfe: int = 40
    """Number of function evaluations per sample, including the final denoise; guidance doubles the cost of each."""
    classes: tuple[int, ...] = ()
    """Class labels to condition on, cycled over the samples; needs a class-conditional model."""
    guidance: float = 1.0
    """Classifier-free guidance scale (1 = none)."""
    out: Path = Path("out/samples")
    """Folder for samples.npz and samples.png."""
    seed: int = 0
    """Random seed."""
    hardware: tyro.conf.OmitArgPrefixes[DeviceOptions] = field(default_factory=DeviceOptions)

    def run(self) -> None:
        """Check, sample and write."""
        method, device = SAMPLERS[self.sampler], self.hardware.chosen()
        self.network.require(self.model, "--model")
        require_within("n", self.n, 1, 10**9)
        require_within("nfe", self.nfe, method.nfe_per_step + 1, 10**6)
        require_seed(self.seed)
        if any(not 0 <= y < SEEDS for y in self.classes):
            raise InputError(f"classes: expected whole numbers >= 0, got {' '.join(map(str, self.classes))}")
        with writing(self.out, "samples.npz", "samples.png"), process_group(device) as own, sharing():
            self._sample(method, (self.nfe - 1) // method.nfe_per_step, own)

    def _sample(self, method: Sampler, steps: int, device: torch.device) -> None:
        denoiser = on_device(self.network.load(self.model), device)
        if getattr(denoiser, "event_shape", None) is None:
            raise InputError(
                "model: expected the shape of one sample, as .event_shape, or as ?event_shape=3,32,32 of a library's "
                f"model, got {self.model}, which does not state it"
            )
        if processes() > 1:
            from diffuscope.audit.fingerprint import digest  # which one process need not wait for

            require_same({"model": digest(*tensors_within(denoiser))})
        samples = generate(
            denoiser,
            self.n,
            sampler=method,
            steps=steps,
            seed=self.seed,
            classes=self.classes,
            guidance=self.guidance,
            progress=rank() == 0,
        )
        of_process_0(lambda: self._write(samples.cpu(), denoiser))

    def _write(self, samples: torch.Tensor, denoiser: Denoiser) -> None:
        """Samples as arrays, with a contact sheet of images."""
        y = cycled(self.classes, torch.arange(self.n))
        labels = {} if y is None else {"y": y.numpy()}
        save_arrays(self.out / "samples.npz", {"x": samples.numpy(), **labels})
        print(f"Samples: {self.out / 'samples.npz'}")
        if samples.ndim == 4 and samples.shape[1] in (1, 3):
            contact_sheet(samples, getattr(denoiser, "data_range", None)).save(self.out / "samples.png")
            print(f"Contact sheet: {self.out / 'samples.png'}")


def contact_sheet(samples: torch.Tensor, data_range: tuple[float, float] | None) -> Image.Image:
    """Up to LARGEST_GRID samples in a square, enlarged."""
    shown = samples[:LARGEST_GRID]
    low, high = data_range or (float(shown.min()), float(shown.max()))
    levels = ((shown - low) / (high - low)).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    columns = math.ceil(math.sqrt(len(levels)))
    height, width, channels = levels.shape[1:]
    sheet = np.zeros((math.ceil(len(levels) / columns) * (height + 1), columns * (width + 1), channels), np.uint8)
    for index, image in enumerate(levels):
        row, column = divmod(index, columns)
        sheet[row * (height + 1) :, column * (width + 1) :][:height, :width] = image
    scale = max(1, 800 // sheet.shape[1])
    picture = Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)

"""A folder of pictures, a pipeline of diffusers on it, arrays and a network for them, tables."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image

NETWORK = """
import torch
from diffuscope.denoisers import DataPredictor
from diffuscope.schedules import VE

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, x, time):
        return self.layer(x) / (1 + time[:, None])

def denoiser():
    return DataPredictor(Network(), VE(), event_shape=(3,), data_range=(-1.0, 1.0))
"""


def prepare(run):
    del run
    rng = np.random.default_rng(0)
    for folder in ("photos", "my/pipeline"):
        Path(folder).mkdir(parents=True)
    for k in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"photos/{k}.png")
    for name in ("train", "heldout", "generated"):
        rows = rng.uniform(-1, 1, size=(60, 3))
        np.save(f"{name}.npy", rows.astype(np.float32))
        np.savetxt(f"{name}.csv", rows, delimiter=",", header="age,weight,height", comments="")
    Path("my_network.py").write_text(NETWORK)
    torch.save({"layer.weight": torch.eye(3), "layer.bias": torch.zeros(3)}, "network.pt")
    Path("my/pipeline/model_index.json").write_text("{}")
    if importlib.util.find_spec("diffusers") is not None:
        diffusers = importlib.import_module("diffusers")
        network = diffusers.UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(32,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            norm_num_groups=8,
        )
        diffusers.DDPMPipeline(network, diffusers.DDPMScheduler()).save_pretrained("my/pipeline")

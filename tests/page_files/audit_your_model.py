"""A folder of pictures, a pipeline of diffusers on it, arrays and tables."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image


def prepare(run):
    del run
    rng = np.random.default_rng(0)
    for folder in ("photos", "my/pipeline"):
        Path(folder).mkdir(parents=True)
    for k in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"photos/{k}.png")
    for name in ("train", "heldout", "generated"):
        rows = rng.normal(size=(60, 3))
        np.save(f"{name}.npy", rows.astype(np.float32))
        np.savetxt(f"{name}.csv", rows, delimiter=",", header="age,weight,height", comments="")
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

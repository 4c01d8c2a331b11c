"""Data and models of every form that the page names, of known distributions."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffuscope.denoisers import MLP, Preconditioned, save_denoiser
from diffuscope.schedules import VE

MODEL = """
from diffuscope.schedules import VE


class Exact:
    \"\"\"The exact denoiser of N(0, 1/4) on examples of any shape.\"\"\"

    schedule = VE()
    data_range = (-1.0, 1.0)

    def __call__(self, x, t):
        return x * 0.25 / (0.25 + self.schedule.sigma(t) ** 2)


denoiser = Exact()
"""
ENCODER = """
def encoder(x):
    return x[..., ::2, ::2]
"""


def prepare(run):
    del run
    rng = np.random.default_rng(0)
    for folder, count in (("photos", 60), ("later", 60), ("generated", 60)):
        Path(folder).mkdir()
        for k in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(Path(folder, f"{k}.png"))
    for name in ("half1", "half2", "rest"):
        np.save(f"{name}.npy", rng.normal(size=(100, 8)).clip(-4.9, 4.9).astype(np.float32))
    for name in ("one", "two"):
        network = MLP((8,), width=16, depth=1)
        wrapped = Preconditioned(network, VE(0.01, 40.0), 1.0, event_shape=(8,), data_range=(-5.0, 5.0))
        save_denoiser(wrapped, Path(f"{name}.safetensors"))
    for name in ("training", "unseen", "generated"):
        np.savetxt(f"{name}.csv", rng.normal(size=(100, 3)), delimiter=",", header="a,b,c", comments="")
    Path("my_model.py").write_text(MODEL)
    Path("my_vae.py").write_text(ENCODER)
    cifar_weights()


def cifar_weights():
    """Random weights in the form of the published network."""
    from audit.made_by_hand import random_weights
    from diffuscope.files import save_arrays

    weights = random_weights(torch.Generator().manual_seed(0))
    save_arrays(Path("resnet20.npz"), {name: value.numpy() for name, value in weights.items()})


def check(run):
    if run.whole:
        import json

        found = json.loads(Path("out/classes/audit.json").read_text())
        assert found["verdict"]["word"] == "copies"
        assert Path("out/classes/class-2/report.html").is_file()

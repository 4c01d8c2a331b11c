"""Data and models of every form that the page names, of known distributions."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned, save_denoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP

DIGITS = """
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE


class Exact(ExactDenoiser):
    event_shape = (1, 8, 8)
    data_range = (-1.0, 1.0)


denoiser = Exact(Gaussian.isotropic(torch.zeros(1, 8, 8), 0.25), VE())
"""
ENCODER = """
def encoder(x):
    return x[..., ::2, ::2]
"""


class Vectors(ExactDenoiser):
    event_shape = (6,)


def prepare(run):
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
    Path("my_model.py").write_text(DIGITS)
    Path("my_vae.py").write_text(ENCODER)
    cifar_weights()
    run.names |= {"denoiser": Vectors(Gaussian.isotropic(torch.zeros(6), 1.0), VP()), "scale": 1.0}


def cifar_weights():
    """Random weights in the form of the published network."""
    from audit.test_cifar_features import random_weights
    from diffuscope.files import save_arrays

    weights = random_weights(torch.Generator().manual_seed(0))
    save_arrays(Path("resnet20.npz"), {name: value.numpy() for name, value in weights.items()})


def check(run):
    assert len(run.names["run"].samples) == 64
    if run.whole:
        import json

        found = json.loads(Path("out/classes/audit.json").read_text())
        assert found["verdict"]["word"] == "copies"
        assert Path("out/classes/class-2/report.html").is_file()

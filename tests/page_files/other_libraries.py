"""k-diffusion's wrappers without what its training needs; samples of every library are finite."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from diffuscope.adapters import k_diffusion

SHAPES = {"out/terrain": (1, 1, 128, 128)}


def prepare(run):
    del run
    if importlib.util.find_spec("k_diffusion") is not None:
        package = ModuleType("k_diffusion")
        package.__dict__["external"] = k_diffusion.part("external")
        sys.modules["k_diffusion"] = package


def check(run):
    sys.modules.pop("k_diffusion", None)
    for command in run.printed:
        out = command.split()[-1]
        with np.load(Path(out) / "samples.npz") as samples:
            assert samples["x"].shape == SHAPES.get(out, (4, 1, 8, 8))
            assert np.isfinite(samples["x"]).all()
    if "encoder" in run.names:
        encoder, images = run.names["encoder"], run.names["torch"].zeros(2, 1, 8, 8)
        latents = encoder.encode(images)
        assert encoder.decode(latents).shape == images.shape

"""A program of two processes: a training watched by a model that begins to copy at step 4."""

import hashlib
import json
from pathlib import Path

import torch
from copying_models import SMALL, copying_model, gaussian_data
from torch import nn

from diffuscope.monitor import Monitor
from diffuscope.training import process_group, rank, train_denoiser


class Failing(nn.Module):
    """A model that cannot be called."""

    schedule = copying_model(gaussian_data(), 0.0).schedule

    def forward(self, *_):
        raise KeyError("a mistake")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with process_group() as device:
        data = gaussian_data()
        monitor = Monitor(data, every=2, settings=SMALL, out=folder, show=lambda _: None)
        asked = []

        def stop(step: int, made) -> bool:
            del made
            asked.append(step)
            return monitor.after_step(step, lambda: copying_model(data, float(step >= 4)))

        trained = train_denoiser(data, steps=10, batch_size=16, out=folder, device=device, stop=stop)
        weights = b"".join(p.detach().numpy().tobytes() for p in trained.parameters())
        found = {
            "asked": asked,
            "looks": [look.step for look in monitor.looks],
            "weights": hashlib.sha256(weights).hexdigest(),
        }
        monitor.report()  # which process 0 writes
        later = Monitor(data, every=1, settings=SMALL, out=folder / "later", show=lambda _: None)
        stops, first = [later(1, copying_model(data, 0.0)), later(2, Failing()), later(3, copying_model(data, 1.0))], ""
        try:
            Monitor(data, every=1, settings=SMALL, show=lambda _: None)(1, Failing())
        except Exception as error:
            first = f"{type(error).__name__}: {error}"
        found |= {"later": stops, "first": first}
        (folder / f"found{rank()}.json").write_text(json.dumps(found))

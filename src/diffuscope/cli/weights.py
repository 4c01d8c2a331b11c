"""The weights of a model that is named by its class, for every command that takes a model by its name."""

import sys
from dataclasses import dataclass
from pathlib import Path

from diffuscope.adapters import load_model
from diffuscope.denoisers import Denoiser, Weights, loaded_weights
from diffuscope.errors import InputError


@dataclass(frozen=True)
class WeightsOptions:
    """The weights."""

    weights: Path | None = None
    """File with the weights of the network that module:object builds: .pt, .pth, .ckpt, .bin, .safetensors or .npz."""
    weights_prefix: str | None = None
    """Prefix of the names of these weights, where the file holds several sets: for instance ema_model."""

    def require(self, model: str | None, option: str) -> None:
        """Raises InputError for weights without a model, or a prefix without weights."""
        if self.weights is None and self.weights_prefix is not None:
            raise InputError(f"weights_prefix: expected with --weights, got {self.weights_prefix}")
        if self.weights is not None and model is None:
            raise InputError(f"weights: expected with {option} module:object, which builds their network, got none")

    @property
    def given(self) -> Weights | None:
        """The file and the prefix, if there is a file."""
        return None if self.weights is None else Weights(self.weights, self.weights_prefix)

    def load(self, model: str) -> Denoiser:
        """The denoiser called `model`, with these weights; what may not have been meant is printed."""
        denoiser = load_model(model, weights=self.weights, weights_prefix=self.weights_prefix)
        print_warnings(denoiser)
        return denoiser

    def name(self, model: str) -> str:
        """What a report calls the model."""
        short = model_name(model)
        return short if self.weights is None else f"{short}, {self.weights.name}"


def model_name(model: str) -> str:
    """A model as a report calls it: the last part of a path.

    >>> model_name("runs/model.safetensors"), model_name("my_model:denoiser?weights=runs/net.pt")
    ('model.safetensors', 'my_model:denoiser?weights=net.pt')
    """
    named, _, options = model.partition("?")
    parts = (part.partition("=") for part in options.split("&"))
    options = "&".join(f"{key}{equals}{Path(value).name}" for key, equals, value in parts)
    return Path(named).name + (f"?{options}" if options else "")


def print_warnings(model: object) -> None:
    """What was chosen among the weights of a file, if the user may not have meant it."""
    for loaded in loaded_weights(model):
        for warning in loaded.warnings:
            print(f"Warning: {warning}.", file=sys.stderr)


def weights_notes(model: object) -> list[str]:
    """Which weights the networks of a model were given, for a report."""
    return [loaded.note for loaded in loaded_weights(model)]

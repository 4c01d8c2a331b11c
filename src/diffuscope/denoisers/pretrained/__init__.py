"""Published networks of other people, rebuilt from their arrays and recognized by the names of these."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..predictors import DataPredictor, NoisePredictor
from .flow_transformer import FlowTransformer, flow_transformer
from .noise_cnn import NoiseCNN, noise_cnn, without_training_record
from .noise_unet import NoiseUNet, noise_unet

Make = Callable[[dict[str, Tensor]], NoisePredictor | DataPredictor]


def recognized(arrays: Mapping[str, Tensor]) -> tuple[Make, nn.Module, dict[str, Tensor]] | None:
    """Which published network has parameters of these names: its maker, its empty network and its state."""
    candidates: list[tuple[Make, type[nn.Module]]] = [
        (noise_unet, NoiseUNet),
        (noise_cnn, NoiseCNN),
        (flow_transformer, FlowTransformer),
    ]
    for make, kind in candidates:
        with torch.device("meta"):
            network = kind()
        state = without_training_record(arrays) if kind is NoiseCNN else dict(arrays)
        if network.state_dict().keys() == state.keys():
            return make, network, state
    return None


__all__ = [
    "FlowTransformer",
    "NoiseCNN",
    "NoiseUNet",
    "flow_transformer",
    "noise_cnn",
    "noise_unet",
    "recognized",
]

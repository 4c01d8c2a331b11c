"""Models of diffusers (https://github.com/huggingface/diffusers) as denoisers: a network and its scheduler.

The scheduler says what the network was trained for (`diffusers_trained`). The network is called as the library's
pipelines call it, `network(x, timestep=..., class_labels=...)`; of a network that also predicts a variance, whose
output has twice the channels, the first half is meant. Clipping and thresholding are the pipeline's, not the model's.
A pipeline that has been saved is read from its folder by `diffusers_folder`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diffuscope.denoisers import Batch, Classes
from diffuscope.errors import InputError

from .diffusers_trained import trained_for
from .model_inputs import USUAL_RANGE, ClassRows, Range, Shape, described, refusal, repeated, require_shape


def from_diffusers(
    network: nn.Module,
    scheduler: Any,
    *,
    event_shape: Shape = None,
    data_range: Range = USUAL_RANGE,
    null_class: int | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Any:
    """The denoiser of a diffusers network, such as a UNet2DModel or DiTTransformer2DModel, trained with `scheduler`.

    `event_shape` is that of the network's config unless given. `data_range=None` is for latents. `null_class` is the
    class that means none (of a DiT known); `condition` holds further inputs, tensors of one row repeated over the batch
    (`{"encoder_hidden_states": ...}`). A table of training steps is asked at these steps only (`nearest_trained_time`).
    Of an LCMScheduler or a CMStochasticIterativeScheduler it is a consistency map, with `one_step = True`.
    Raises InputError for a scheduler whose network is neither, and for an event shape that is unknown.

    >>> import torch
    >>> from diffuscope.adapters import from_diffusers
    >>> class DDPMScheduler:  # what is read of that of diffusers: alpha^2
    ...     alphas_cumprod, config = torch.tensor([0.64, 0.36]), {"prediction_type": "epsilon"}
    >>> class Network(torch.nn.Module):
    ...     def forward(self, x, timestep):
    ...         return timestep[:, None] * x / 4
    >>> denoiser = from_diffusers(Network(), DDPMScheduler(), event_shape=(2,))
    >>> t = denoiser.schedule.time_of_noise_to_signal(0.8 / 0.6)  # of the step 1
    >>> [round(value, 4) for value in denoiser(torch.tensor([[3.0, 6.0]]), t)[0].tolist()]  # (x - 0.8 x / 4) / 0.6
    [4.0, 8.0]
    """
    trained, config = trained_for(scheduler), getattr(network, "config", {})
    called = Called(network, class_rows(config, null_class), condition or {}, trained.sign)
    shape = require_shape(event_shape or shape_of(config), f"the config of the {type(network).__name__}")
    if shape[0] != (channels := config.get("in_channels") or shape[0]):
        raise InputError(f"event_shape: expected {channels} channels, which the network has, got {shape}")
    return described(trained.denoiser(called, shape, data_range or USUAL_RANGE), network, data_range)


class Called(nn.Module):
    """A network with diffusers' call signature as our networks are: (x, time), or (x, time, classes), to a tensor."""

    def __init__(self, network: nn.Module, rows: ClassRows, condition: Mapping[str, Any], sign: float) -> None:
        super().__init__()
        self.network, self.rows, self.condition, self.sign = network, rows, condition, sign
        self.classes = rows.classes
        given = inspect.signature(network.forward).parameters.values()
        self.by_name = any(p.name == "timestep" or p.kind is p.VAR_KEYWORD for p in given)

    def forward(self, x: Batch, time: Tensor, y: Classes = None) -> Batch:
        inputs = repeated(self.condition, len(x))
        if self.rows.rows:
            inputs["class_labels"] = self.rows.of(y, len(x), x.device)
        try:
            out = self.network(x, timestep=time, **inputs) if self.by_name else self.network(x, time, **inputs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise refusal(error, type(self.network).__name__, x) from error
        out = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        if isinstance(out, Tensor) and out.ndim > 1 and out.shape[1] == 2 * x.shape[1]:
            out = out[:, : x.shape[1]]  # the rest is a learned variance
        return out if self.sign == 1 else -out


def class_rows(config: Any, null_class: int | None) -> ClassRows:
    """The table of classes of a UNet2DModel or of a DiT, whose table has one row more, for none."""
    rows = config.get("num_class_embeds") or 0
    if config.get("norm_type") == "ada_norm_zero" and config.get("num_embeds_ada_norm"):
        rows = config["num_embeds_ada_norm"] + 1
        null_class = rows - 1 if null_class is None else null_class
    if null_class is not None and not rows:
        raise InputError(f"null_class: expected none, as the network has no classes, got {null_class}")
    return ClassRows(rows, null_class)


def shape_of(config: Any) -> Shape:
    """(channels, height, width) by the config of a network; None where that does not state it."""
    size, channels = config.get("sample_size"), config.get("in_channels")
    if size is None or channels is None:
        return None
    return (channels, *((size, size) if isinstance(size, int) else size))

"""The jump over high noise in any diffusers pipeline of one network, for as long as a `with` block.

A pipeline that calls `scheduler.scale_model_input` needs only a `TeleportScheduler`. The others (DDPMPipeline,
DDIMPipeline, most whose network is a transformer) give the start they drew to the network before the scheduler has
seen it. `teleported` therefore also replaces the input of the network, by a hook of PyTorch, until the first step is
made: still no call of the network is spent on the jump.

    with teleported(pipeline, gaussian, noise_to_signal=10.0):
        images = pipeline(num_inference_steps=8).images

Afterwards the pipeline has its scheduler again, and the network no hook.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from .teleport_scheduler import Protocol, TeleportScheduler

NETWORKS = ("unet", "transformer")
INPUTS = ("sample", "hidden_states")  # the network's state, where it is passed by name


@contextmanager
def teleported(
    pipeline: Any, gaussian: Gaussian, *, noise_to_signal: float | int, protocol: Protocol = "reallocate"
) -> Iterator[TeleportScheduler]:
    """Within the block, `pipeline` starts with a jump to `noise_to_signal`; gives its TeleportScheduler.

    Raises InputError for a pipeline without a scheduler and a network (`unet` or `transformer`), and as
    `TeleportScheduler`.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.adapters import teleported
    >>> from types import SimpleNamespace
    >>> class DDIMScheduler:  # what is read of that of diffusers: levels sigma/alpha, here 0.5, 2 and 4
    ...     alphas_cumprod, config = 1 / (1 + torch.tensor([0.5, 2.0, 4.0]) ** 2), {}
    >>> pipeline = SimpleNamespace(scheduler=DDIMScheduler(), unet=torch.nn.Linear(2, 2))
    >>> with teleported(pipeline, Gaussian.isotropic(torch.zeros(2), 1.0), noise_to_signal=2):
    ...     print(pipeline.scheduler)
    TeleportScheduler(DDIMScheduler, noise_to_signal=2, protocol='reallocate')
    >>> type(pipeline.scheduler) is DDIMScheduler
    True
    """
    plain = getattr(pipeline, "scheduler", None)
    networks = (getattr(pipeline, name, None) for name in NETWORKS)
    network = next((network for network in networks if isinstance(network, nn.Module)), None)
    if plain is None or network is None:
        expected = f"a diffusers pipeline with a scheduler and a network ({' or '.join(NETWORKS)})"
        raise InputError(f"pipeline: expected {expected}, got a {type(pipeline).__name__}")
    scheduler = TeleportScheduler(plain, gaussian, noise_to_signal=noise_to_signal, protocol=protocol)

    def jump(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ARG001
        if scheduler.hook_idle:
            return args, kwargs
        return _with_state(args, kwargs, scheduler)

    hook = network.register_forward_pre_hook(jump, with_kwargs=True)
    pipeline.scheduler = scheduler
    try:
        yield scheduler
    finally:
        hook.remove()
        pipeline.scheduler = plain


def _with_state(
    args: tuple[Any, ...], kwargs: dict[str, Any], scheduler: TeleportScheduler
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the network with its state after the jump."""
    if args:
        return (scheduler.jumped(args[0]), *args[1:]), kwargs
    name = next((name for name in INPUTS if name in kwargs), None)
    if name is None:
        raise InputError(f"pipeline: expected a network called with its state or {' or '.join(INPUTS)}=, got neither")
    return args, kwargs | {name: scheduler.jumped(kwargs[name])}

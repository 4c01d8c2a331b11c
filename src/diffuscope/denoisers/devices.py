"""Networks on a GPU, within models and audits that are on the CPU.

A model may hold its network anywhere: it is a module, a frozen dataclass around one, an object of another library. What
moves are its outermost modules, in place. A module that was moved takes its arguments from where they are and returns
its answer there: batches on the CPU travel to the device and back, and a trajectory that is on the device stays there.
All else stays on the CPU, in float64 where it was: schedules, tables of times, exact distributions, and the data.
"""

import copy
from collections.abc import Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffuscope.errors import InputError

from .contents import modules_within


def on_device(model: Any, device: torch.device) -> Any:
    """The same `model` with its networks on `device`; a model without networks is as it was.

    >>> import torch
    >>> from diffuscope.denoisers import on_device
    >>> model = on_device({"network": torch.nn.Linear(2, 1)}, torch.device("cpu"))
    >>> model["network"].weight.device
    device(type='cpu')
    """
    device = torch.empty(0, device=device).device  # cuda is cuda:0, or whichever is current
    for module in outermost(model):
        try:
            module.to(device)
        except (RuntimeError, NotImplementedError) as error:  # no memory left, weights that were never loaded
            reason = str(error).splitlines()[0]
            raise InputError(
                f"device: expected one that {type(module).__name__} fits on, got {device} ({reason})"
            ) from error
        carry(module, device)
    return model


def device_of(model: object) -> torch.device:
    """The device of a module's first parameter; the CPU for what is no module, or has none.

    Batches made there stay there: what is no module itself computes on the CPU, around networks wherever they are.

    >>> import torch
    >>> from diffuscope.denoisers import device_of
    >>> device_of(torch.nn.Linear(2, 1, device="meta")), device_of("no module")
    (device(type='meta'), device(type='cpu'))
    """
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weight is None else weight.device


def outermost(model: object) -> list[nn.Module]:
    """The modules within `model` that are no part of another one."""
    found = modules_within(model)
    parts = {id(part) for module in found for part in module.modules() if part is not module}
    return [module for module in found if id(module) not in parts]


def carry(module: nn.Module, device: torch.device) -> None:
    """Let `module`, on `device`, take its tensors from anywhere and answer where the first of them was."""
    for handle in module.__dict__.pop("_carried", ()):  # to another device, before
        handle.remove()
    if device.type == "cpu":
        return
    homes: list[torch.device | None] = []  # of calls that have not answered yet

    def there(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        homes.append(_home((args, kwargs)))
        return moved(args, device), moved(kwargs, device)

    def back(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> Any:
        del args, kwargs
        home = homes.pop()
        return answer if home is None or home == device else moved(answer, home)

    module.__dict__["_carried"] = (
        module.register_forward_pre_hook(there, with_kwargs=True, prepend=True),
        module.register_forward_hook(back, with_kwargs=True, always_call=True),
    )


def moved(value: Any, device: torch.device) -> Any:
    """`value` with its tensors on `device`: of tuples, lists, mappings and dataclasses too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, MutableMapping):
        kept = copy.copy(value)  # the outputs of diffusers are a kind of their own
        for key, item in value.items():
            kept[key] = moved(item, device)
        return kept
    if isinstance(value, list | tuple):
        items = [moved(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        kept = copy.copy(value)
        for field in fields(value):
            object.__setattr__(kept, field.name, moved(getattr(value, field.name), device))
        return kept
    return value


def _home(value: Any) -> torch.device | None:
    """Where the first tensor in `value` is."""
    if isinstance(value, Tensor):
        return value.device
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((home for item in items if (home := _home(item)) is not None), None)

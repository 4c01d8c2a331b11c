"""The modules and tensors that an object consists of, wherever it keeps them."""

import inspect
from collections.abc import Iterator
from functools import cached_property, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 8  # of attributes within attributes


def tensors_within(model: object) -> list[Tensor]:
    """Parameters, buffers, tensors and arrays of the modules and other objects that `model` consists of, each once.

    >>> import torch
    >>> from diffuscope.denoisers import tensors_within
    >>> layer, mean = torch.nn.Linear(3, 2), torch.zeros(5)
    >>> [tuple(tensor.shape) for tensor in tensors_within({"layers": [layer, layer], "mean": mean})]
    [(2, 3), (2,), (5,)]
    """
    found = (tensor for value in _objects(model, set(), DEPTH) for tensor in _tensors(value))
    return list({id(tensor): tensor for tensor in found}.values())


def modules_within(model: object) -> list[nn.Module]:
    """The modules that `model` is, holds, or calls as a function.

    >>> import torch
    >>> from diffuscope.denoisers import modules_within
    >>> layer = torch.nn.Linear(3, 2)
    >>> modules_within(lambda x: layer(x) + 1) == [layer]
    True
    """
    return [value for value in _objects(model, set(), DEPTH) if isinstance(value, nn.Module)]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(np.ascontiguousarray(value))] if value.dtype.kind in "biufc" else []
    return [*value.parameters(), *value.buffers()] if isinstance(value, nn.Module) else []


def _objects(value: Any, seen: set[int], depth: int) -> Iterator[Any]:
    if id(value) in seen or depth < 0 or isinstance(value, ModuleType | type | str | bytes):
        return
    seen.add(id(value))
    yield value
    for part in _parts(value):
        yield from _objects(part, seen, depth - 1)


def _parts(value: Any) -> list[Any]:
    """What an object consists of: items, attributes, and what a function closes over or names."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    derived = _derived(type(value))
    parts = [part for name, part in getattr(value, "__dict__", {}).items() if name not in derived]
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
    if isinstance(value, FunctionType):
        cells = inspect.getclosurevars(value)
        return [*parts, *cells.nonlocals.values(), *cells.globals.values()]
    return [*parts, *(getattr(value, name) for name in slots if hasattr(value, name))]


def _derived(kind: type) -> set[str]:
    """Names of what diffuscope's own classes keep of a first use: it follows from the rest, and comes with time.

    A user's cached property may be where a network is loaded; that is part of the model.
    """
    own = (base for base in kind.__mro__ if base.__module__.partition(".")[0] == "diffuscope")
    return {name for base in own for name, value in vars(base).items() if isinstance(value, cached_property)}

"""What a model consists of: the objects that its attributes, its closure and the globals of its functions lead to."""

import inspect
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

DEPTH = 8  # of attributes within attributes


def objects_within(model: object) -> Iterator[Any]:
    """`model` and what it consists of, each object once."""
    return _objects(model, set(), DEPTH)


def modules_within(model: object) -> list[nn.Module]:
    """The modules that `model` is, holds, or calls as a function."""
    return [value for value in objects_within(model) if isinstance(value, nn.Module)]


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
    parts = list(getattr(value, "__dict__", {}).values())
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
    if isinstance(value, FunctionType):
        cells = inspect.getclosurevars(value)
        return [*parts, *cells.nonlocals.values(), *cells.globals.values()]
    return [*parts, *(getattr(value, name) for name in slots if hasattr(value, name))]

"""The dataclasses of a subpackage: what is shared and kept must not change; arrays have no one answer to `==`."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import get_args, get_origin


def dataclasses_of(subpackage: str) -> list[type]:
    """Those that are defined in `diffuscope.<subpackage>`."""
    top = importlib.import_module(f"diffuscope.{subpackage}")
    names = [top.__name__, *(found.name for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."))]
    members = [(name, cls) for name in names for cls in vars(importlib.import_module(name)).values()]
    return [
        cls for name, cls in members
        if inspect.isclass(cls) and cls.__module__ == name and dataclasses.is_dataclass(cls)
    ]  # fmt: skip


def mutable_dataclasses(subpackage: str) -> set[str]:
    """The names of those that are not frozen."""
    return {cls.__name__ for cls in dataclasses_of(subpackage) if not cls.__dataclass_params__.frozen}  # pyright: ignore


def holds_arrays(kind: object) -> bool:
    """Whether a type is one of arrays, or a dataclass or a container of them."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return any(holds_arrays(field.type) for field in dataclasses.fields(kind))
    if get_origin(kind) is Callable:
        return False
    if get_args(kind):
        return any(map(holds_arrays, get_args(kind)))
    return "Tensor" in str(kind) or "ndarray" in str(kind)


def undecidably_equal(subpackage: str) -> set[str]:
    """The names of those that are compared by their fields though one holds an array, itself or in a field of its own.

    `a == b` of two would be an error, or an array.
    """

    compared = [cls for cls in dataclasses_of(subpackage) if cls.__dataclass_params__.eq]  # pyright: ignore
    return {cls.__name__ for cls in compared if holds_arrays(cls)}


def long_positional(subpackage: str) -> set[str]:
    """The names of those that take more than four fields by their places."""
    places = {
        cls.__name__: sum(field.init and not field.kw_only for field in dataclasses.fields(cls))
        for cls in dataclasses_of(subpackage)
    }
    return {name for name, count in places.items() if count > 4}


def partly_printed(subpackage: str) -> set[str]:
    """The names of those of which some arrays are printed and others are not."""
    found = set()
    for cls in dataclasses_of(subpackage):
        printed = {field.repr for field in dataclasses.fields(cls) if holds_arrays(field.type)}
        if len(printed) == 2:
            found.add(cls.__name__)
    return found

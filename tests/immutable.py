"""The dataclasses of a subpackage: what is shared and kept must not change; arrays have no one answer to `==`."""

import collections.abc
import dataclasses
import importlib
import inspect
import pkgutil
from functools import cache
from types import ModuleType
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch


def dataclasses_of(subpackage: str) -> list[type]:
    """Those that are defined in `diffuscope.<subpackage>`."""
    top = importlib.import_module(f"diffuscope.{subpackage}")
    names = [top.__name__, *(found.name for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."))]
    return [cls for name in names for cls in dataclasses_in(importlib.import_module(name))]


def dataclasses_in(module: ModuleType) -> list[type]:
    """Those that are defined in a module."""
    classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    return [cls for cls in classes if dataclasses.is_dataclass(cls)]


def mutable_dataclasses(subpackage: str) -> set[str]:
    """The names of those that are not frozen."""
    return {cls.__name__ for cls in dataclasses_of(subpackage) if is_mutable(cls)}


def is_mutable(cls: type) -> bool:
    """Whether a dataclass is not frozen."""
    return not cls.__dataclass_params__.frozen  # pyright: ignore


def compared_other_than_their_fields(subpackage: str) -> list[type]:
    """Dataclasses of `diffuscope.<subpackage>` that compare by identity though every field has an `==`, or do not.

    `==` of tensors and arrays has no single truth, so that what holds them compares by identity, as networks do.
    """
    return [cls for cls in dataclasses_of(subpackage) if compares_other_than_its_fields(cls)]


@cache
def compares_other_than_its_fields(cls: type) -> bool:
    """Of a class that is a dataclass itself, not by inheritance."""
    return "__dataclass_params__" in vars(cls) and by_identity(cls) != any(map(alone, held(cls)))


def by_identity(cls: type) -> bool:
    """Whether two objects differ whatever they hold."""
    return cls.__eq__ is object.__eq__


def alone(cls: type) -> bool:
    """Whether a field of this type makes what holds it compare by identity."""
    return is_array(cls) or (by_identity(cls) and cls is not type(None))


def is_array(cls: type) -> bool:
    """Whether this is a type of tensors or arrays."""
    return hasattr(cls, "array_type") or issubclass(cls, torch.Tensor | np.ndarray)


def held(cls: type) -> list[type]:
    """The types of the fields that are compared, in whatever they are wrapped; not those of functions."""
    hints = get_type_hints(cls)
    return wrapped(*(hints[field.name] for field in dataclasses.fields(cls) if field.compare))


def wrapped(*hints: object) -> list[type]:
    """The types in annotations, in whatever they are wrapped; not those of functions."""
    kinds = list(hints)
    for kind in kinds:  # grows
        if get_origin(kind) not in (collections.abc.Callable, Literal):
            kinds.extend(get_args(kind))
    return [kind for kind in kinds if inspect.isclass(kind) and get_origin(kind) is None]


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
        hints = get_type_hints(cls)
        arrays = [field for field in dataclasses.fields(cls) if any(map(is_array, wrapped(hints[field.name])))]
        if len({field.repr for field in arrays}) == 2:
            found.add(cls.__name__)
    return found


def equal_by_fields(subpackage: str, method: str) -> set[str]:
    """The names of those with this method that are equal where their fields are."""
    return {cls.__name__ for cls in dataclasses_of(subpackage) if hasattr(cls, method) and not by_identity(cls)}

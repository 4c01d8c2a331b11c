"""Dataclasses of a subpackage: whose fields can be set after they were made, and which are equal by their fields.

What is shared and kept must not change; what holds arrays has no truth value of its fields' equality, and is a key of
dictionaries as itself.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator


def dataclasses_of(subpackage: str) -> Iterator[type]:
    """Those that are defined in `diffuscope.<subpackage>`."""
    top = importlib.import_module(f"diffuscope.{subpackage}")
    names = [top.__name__, *(found.name for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."))]
    for name in names:
        for cls in vars(importlib.import_module(name)).values():
            if inspect.isclass(cls) and cls.__module__ == name and dataclasses.is_dataclass(cls):
                yield cls


def mutable_dataclasses(subpackage: str) -> set[str]:
    """The names of those that are not frozen."""
    return {cls.__name__ for cls in dataclasses_of(subpackage) if not cls.__dataclass_params__.frozen}  # pyright: ignore


def equal_by_fields(subpackage: str, method: str) -> set[str]:
    """The names of those with this method that are equal where their fields are."""
    able = [cls for cls in dataclasses_of(subpackage) if hasattr(cls, method)]
    return {cls.__name__ for cls in able if cls.__dataclass_params__.eq}  # pyright: ignore

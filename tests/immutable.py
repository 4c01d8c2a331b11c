"""Dataclasses of a subpackage whose fields can be set after they were made: what is shared and kept must not change."""

import dataclasses
import importlib
import inspect
import pkgutil


def mutable_dataclasses(subpackage: str) -> set[str]:
    """The names of those that are defined in `diffuscope.<subpackage>` and are not frozen."""
    top = importlib.import_module(f"diffuscope.{subpackage}")
    names = [top.__name__, *(found.name for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."))]
    found = set()
    for name in names:
        module = importlib.import_module(name)
        for cls in vars(module).values():
            ours = inspect.isclass(cls) and cls.__module__ == name and dataclasses.is_dataclass(cls)
            if ours and not cls.__dataclass_params__.frozen:  # pyright: ignore
                found.add(cls.__name__)
    return found

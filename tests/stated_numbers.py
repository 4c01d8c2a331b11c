"""What the text of a module says, numbers as it writes them, and what a function does unless told otherwise."""

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType


def parts_of(package: str, names: Iterable[str]) -> list[ModuleType]:
    """Modules of a package, of which a function may have the name."""
    return [import_module(f"diffuscope.{package}.{name}") for name in names]


def said(part: ModuleType) -> str:
    """The source in one line, with the pieces of a text in one."""
    return " ".join(inspect.getsource(part).split()).replace('" "', "").replace('" f"', "")


def short(number: float) -> str:
    """As a power of ten: 1e-9."""
    return f"{number:.0e}".replace("e-0", "e-")


def default(function: Callable[..., object], name: str) -> object:
    """Of this argument."""
    return inspect.signature(function).parameters[name].default

"""Sessions and records with the few parts that a function reads, made without measuring the others."""

from typing import Any, TypeVar

Kind = TypeVar("Kind")


def made(kind: type[Kind], **parts: Any) -> Kind:
    """An object of this class with nothing but these attributes."""
    new = object.__new__(kind)
    new.__dict__.update(parts)
    return new

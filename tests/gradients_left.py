"""A leaf that a function of the library makes, to differentiate by it, stays within the function.

Two things tell of one that does not, and are errors in the first calls of every function in every test:

- an argument that requires gradients after the call and did not before: `x.requires_grad_()` in place of
  `x.detach().requires_grad_()` makes the caller's own tensor a leaf;
- an answer whose graph leads to a leaf made within the call: it keeps in memory what only the derivative needed. Only
  what has a public name is asked this; a private helper may hand a leaf to its caller.

A graph that leads to the caller's own leaves is none of these: whether a function passes it on is for its tests.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import count
from types import FunctionType
from typing import Any

from torch import Tensor

DEPTH = 3  # of the fields and items in which tensors are looked for
NODES = 2000  # of a graph that are followed
LIBRARY = "diffuscope."
# the first calls a function of its caller, who removes the graph; losses are differentiated by the weights of the score
FOR_OTHERS = {"differentiable", "implicit_losses", "implicit_losses_by_probe", "sliced_losses"}
ticks = count()
make_leaf = Tensor.requires_grad_


def install() -> None:
    """Let every leaf that the library makes remember when."""
    Tensor.requires_grad_ = _remembered  # pyright: ignore[reportAttributeAccessIssue]


def _remembered(tensor: Tensor, requires_grad: bool = True) -> Tensor:
    leaf = make_leaf(tensor, requires_grad)
    if requires_grad and sys._getframe(1).f_globals.get("__name__", "").startswith(LIBRARY):
        leaf.made_at = next(ticks)  # pyright: ignore[reportAttributeAccessIssue]
    return leaf


def checked(function: FunctionType, called: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The answer of `called`, which is `function`. Raises AssertionError for a leaf that is left."""
    plain = [tensor for tensor in tensors((args, kwargs), DEPTH + 1) if not tensor.requires_grad]
    began = next(ticks)
    answer = called(*args, **kwargs)
    for tensor in plain:
        assert not tensor.requires_grad, f"{function.__qualname__}: an argument requires gradients after the call"
    name = function.__name__
    public = "<locals>" not in function.__qualname__ and (not name.startswith("_") or name.endswith("__"))
    if public and name not in FOR_OTHERS:
        for tensor in tensors(answer, DEPTH):
            own = tensor.requires_grad and any(getattr(leaf, "made_at", -1) > began for leaf in leaves(tensor))
            assert not own, f"{function.__qualname__}: the answer carries the graph of a leaf made within the call"
    return answer


def tensors(value: object, depth: int) -> Iterator[Tensor]:
    """The tensors in the items and fields of `value`, at a depth of so many."""
    if isinstance(value, Tensor):
        yield value
    elif depth:
        is_record = is_dataclass(value) and hasattr(value, "__dict__")
        items = vars(value).values() if is_record else value.values() if isinstance(value, dict) else ()
        for item in value if isinstance(value, tuple | list) else items:
            yield from tensors(item, depth - 1)


def leaves(tensor: Tensor) -> Iterator[Tensor]:
    """The leaves to which a graph leads, itself where it is one; of a large graph those near the answer."""
    if tensor.grad_fn is None:
        yield tensor
        return
    known, ahead = {tensor.grad_fn}, [tensor.grad_fn]
    while ahead and len(known) < NODES:
        node = ahead.pop(0)
        if hasattr(node, "variable"):
            yield node.variable  # pyright: ignore[reportAttributeAccessIssue]
        following = {each for each, _ in node.next_functions if each is not None} - known
        known |= following
        ahead += following

"""Type checks of the first calls of every function in every test: later calls of the same test repeat their shapes.

jaxtyping binds and checks all arguments twice on each call, which took three quarters of the time of the sampler tests:
loops call the same small functions with the same shapes thousands of times. `watched` takes the place of its decorator:
a function is checked until it has been called CALLS times, then called as it is, until `again` at the start of the next
test.

To write the checks of a function takes jaxtyping and beartype longer than most calls take: they are written when it is
first called, not at all where nothing is annotated, and for a function inside another, which is defined anew in every
call of the outer one, only until its calls have been checked. What beartype writes is kept for all of the same
annotations.

In the same calls no leaf of a derivative may be left behind: `gradients_left`.
"""

from collections.abc import Callable, Hashable
from functools import partial, wraps
from types import CodeType, FunctionType
from typing import Any

import jaxtyping._decorator
from beartype import beartype

import gradients_left

CALLS = 3
ANSWER = "ret0"  # the keyword by which jaxtyping gives the answer to its checks
calls: dict[CodeType, int] = {}  # in this test
inner: dict[Hashable, Callable[..., Any]] = {}  # the checks of functions inside others
jaxtyped = jaxtyping._decorator.jaxtyped


def install() -> None:
    """Let the import hook decorate with `watched`, and the decorator of dataclasses their `__init__`."""
    gradients_left.install()
    jaxtyping.jaxtyped = jaxtyping._decorator.jaxtyped = watched  # pyright: ignore[reportAttributeAccessIssue]


def watched(function: Any = None, *, typechecker: Any) -> Any:
    """`jaxtyped` with the checks of a function in the first calls of a test alone."""
    if function is None:
        return partial(watched, typechecker=typechecker)
    if not isinstance(function, FunctionType):
        return jaxtyped(function, typechecker=typechecker)
    code, checks = function.__code__, None
    if not function.__annotations__ or calls.get(code, 0) >= CALLS or function.__globals__ is globals():
        return function  # nothing to check, all checked, or wrapped already

    @wraps(function)
    def first_calls_checked(*args: Any, **kwargs: Any) -> Any:
        n = calls.get(code, 0)
        if n >= CALLS:
            return function(*args, **kwargs)
        nonlocal checks
        calls[code] = n + 1
        if checks is None:
            checks = jaxtyped(function, typechecker=typechecker)
        return gradients_left.checked(function, checks, args, kwargs)

    return first_calls_checked


def _as_of_jaxtyping(part: object) -> object:
    return part.replace(co_filename=jaxtyped.__code__.co_filename) if isinstance(part, CodeType) else part


# in a traceback the wrappers' lines are not taken for a user's
watched.__code__ = watched.__code__.replace(co_consts=tuple(map(_as_of_jaxtyping, watched.__code__.co_consts)))
gradients_left.checked.__code__ = gradients_left.checked.__code__.replace(co_filename=jaxtyped.__code__.co_filename)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker that jaxtyping applies: `function` has the signature of the one to be checked, and no body.

    jaxtyping checks the arguments, calls, and asks for a check of the arguments again with that of the answer, for
    checkers whose type variables last one call; the letters of its shapes last both, so that the second is of the
    answer alone.
    """
    code = function.__code__
    if ANSWER in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
        function.__annotations__ = {"return": function.__annotations__["return"]}
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    key = (function.__module__, function.__qualname__, *function.__annotations__.items())
    try:
        if key not in inner:
            inner[key] = beartype(function)
    except TypeError:  # an annotation that has no hash
        return beartype(function)
    return inner[key]


def again() -> None:
    """Check the first calls again."""
    calls.clear()

"""Type checks of the first calls of every function in every test: later calls of the same test repeat their shapes.

jaxtyping binds and checks all arguments twice on each call, which took three quarters of the time of the sampler tests:
loops call the same small functions with the same shapes thousands of times. `checked` is beartype until a function has
been called CALLS times; then its wrapper passes calls on, until `again` at the start of the next test.

To write the checks of a function takes beartype longer than most calls take: they are written when it is first called,
and once for a function inside another, which is decorated anew in every call of the outer one.
"""

import sys
from collections import Counter
from collections.abc import Callable, Hashable
from functools import wraps
from types import FunctionType
from typing import Any

from beartype import beartype

CALLS = 20
PASSED_ON = "__no_type_check__"  # of a function: jaxtyping's wrapper then calls it unchecked
ANSWER = "ret0"  # the keyword by which jaxtyping gives the answer to its checks
counts: Counter[tuple[str, str]] = Counter()
unchecked: list[FunctionType] = []
inner: dict[Hashable, Callable[..., Any]] = {}  # the checks of functions inside others


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker that jaxtyping applies: `function` has the signature of the one to be checked, and no body."""
    if not isinstance(function, FunctionType):
        return beartype(function)
    checks, name = None, (function.__module__, function.__qualname__)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal checks
        counts[name] += 1
        if counts[name] > CALLS:  # where `pass_on` finds no function to mark: one inside another, or decorated
            return None
        if counts[name] == CALLS:
            pass_on(*name)
        if checks is None:
            checks = written(function)
        return checks(*args, **kwargs)

    return counted


def written(function: FunctionType) -> Callable[..., Any]:
    """beartype's checks of `function`; those of a function inside another once for all with the same annotations.

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


def pass_on(module: str, qualname: str) -> None:
    """Check no more calls of the function of this name, nor bind their arguments."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    if isinstance(function, FunctionType) and hasattr(function, "__wrapped__"):
        setattr(function, PASSED_ON, True)
        unchecked.append(function)


def again() -> None:
    """Check the first calls again."""
    for function in unchecked:
        delattr(function, PASSED_ON)
    unchecked.clear()
    counts.clear()

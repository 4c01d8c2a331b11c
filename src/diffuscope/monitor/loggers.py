"""Numbers of a look for whatever logs a training: TensorBoard, trackio, Weights & Biases, Lightning, a function."""

from collections.abc import Callable
from typing import Any

from diffuscope.errors import InputError

from .look import Look

Scalars = dict[str, float]
Send = Callable[[Scalars, int], object]


def scalars(look: Look) -> Scalars:
    """The numbers of a look by name; what was not measured is missing.

    >>> from diffuscope.monitor import Look, scalars
    >>> look = Look(step=20, look=2, word="copies", sentence="", stop=True, copied=0.25, detectable={"exact": 0.04})
    >>> scalars(look)
    {'monitor/copied': 0.25, 'monitor/detectable': 0.04, 'monitor/stop': 1.0}
    """
    values = {
        "copied": look.copied,
        "copied_low": look.copied_interval[0],
        "copied_high": look.copied_interval[1],
        "detectable": look.detectable.get("exact", float("inf")),
        "gap": look.gap,
        "quality": look.quality,
        "stop": float(look.stop),
    }
    return {f"monitor/{name}": value for name, value in values.items() if -float("inf") < value < float("inf")}


def sender(log: Any) -> Send:
    """How `log` takes numbers by name and a step.

    It has `add_scalar(name, value, step)` (a SummaryWriter), `log_metrics(numbers, step)` (a logger of Lightning) or
    `log(numbers, step=step)` (the module or a run of trackio or wandb, an Accelerator), or is a function of both; None
    takes nothing. Raises InputError for anything else.

    >>> from diffuscope.monitor import sender
    >>> from types import SimpleNamespace
    >>> board = SimpleNamespace(add_scalar=lambda name, value, step: print(step, name, value))  # as a SummaryWriter
    >>> sender(board)({"monitor/copied": 0.25}, 20)
    20 monitor/copied 0.25
    >>> sender(lambda numbers, step: print(step, numbers))({"monitor/copied": 0.25}, 20)
    20 {'monitor/copied': 0.25}
    """
    if log is None:
        return lambda *_: None
    if callable(getattr(log, "add_scalar", None)):

        def add(numbers: Scalars, step: int) -> None:
            for name, value in numbers.items():
                log.add_scalar(name, value, step)

        return add
    if callable(getattr(log, "log_metrics", None)):
        return lambda numbers, step: log.log_metrics(numbers, step)
    if callable(getattr(log, "log", None)):
        return lambda numbers, step: log.log(numbers, step=step)
    if callable(log):
        return lambda numbers, step: log(numbers, step)
    raise InputError(
        f"log: expected an object with add_scalar, log_metrics or log, or a function of numbers and step, got "
        f"{type(log).__name__}"
    )

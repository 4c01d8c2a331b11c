"""Which of our samplers other libraries' loops can drive: those that evaluate the model at the times of the grid only.

Such a loop owns the times and hands over one evaluation of the model, or a model that it knows at its own times. A
method that evaluates the model between two times, or needs the derivatives of a schedule, cannot be stepped from
outside.
"""

from dataclasses import fields, is_dataclass

from diffuscope.errors import InputError
from diffuscope.samplers import DataAdamsBashforth, NoiseAdamsBashforth, Sampler, UniPC

from .diffuscope_samplers import made
from .libraries import read_options

ON_THE_GRID = (
    "DDIM", "StochasticDDIM", "DPMSolverPP2M", "DPMSolverPP3M", "SDEDPMSolverPP2M", "SDEDPMSolverPP3M",
    "NoiseAdamsBashforth", "DataAdamsBashforth", "UniPC",
)  # fmt: skip


def grid_sampler(sampler: Sampler | str, *, one_evaluation: bool = False) -> Sampler:
    """`sampler`, or the one that `NAME?option=value&option=value` names, if it is one of `ON_THE_GRID`.

    `one_evaluation`: also refuse the two with one more evaluation at the start. Raises InputError for any other.

    >>> grid_sampler("NoiseAdamsBashforth?order=2").order
    2
    """
    if isinstance(sampler, str):
        name, _, options = sampler.partition("?")
        _require_known(name)
        sampler = made(name, read_options(options))
    name = type(sampler).__name__
    _require_known(name)
    if one_evaluation and isinstance(sampler, UniPC) and sampler.predictor_order == 3 and sampler.accurate_start:
        raise InputError("sampler: UniPC of predictor_order 3 needs accurate_start=False for one evaluation per step")
    if one_evaluation and isinstance(sampler, NoiseAdamsBashforth | DataAdamsBashforth) and sampler.order == 4:
        raise InputError(f"sampler: {name} needs order 3 or lower for one evaluation per step, got 4")
    return sampler


def sampler_text(sampler: Sampler) -> str:
    """The name and options of a sampler, which `grid_sampler` reads back. Raises InputError for a function as option.

    >>> sampler_text(NoiseAdamsBashforth(2))
    'NoiseAdamsBashforth?order=2&power=0.0'
    """
    assert is_dataclass(sampler)
    options = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
    if unwritten := [name for name, value in options.items() if not isinstance(value, (bool, int, float, str))]:
        raise InputError(f"sampler: expected {unwritten[0]} as a number or word, which a config holds, got a function")
    text = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{type(sampler).__name__}?{text}" if text else type(sampler).__name__


def _require_known(name: str) -> None:
    if name not in ON_THE_GRID:
        raise InputError(
            f"sampler: expected one that evaluates the model once per step, {', '.join(ON_THE_GRID)}; got {name}"
        )

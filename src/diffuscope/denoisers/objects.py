"""Denoisers from a file or as `module:object`, which allows any Python model, with weights from a file of their own.

`module:object?weights=FILE&prefix=P` is the model with the weights of FILE in its network (see `weights`).
"""

import copy
import inspect
import math
from pathlib import Path
from typing import Any

from torch import nn

from diffuscope.errors import InputError
from diffuscope.files import is_there, load_object
from diffuscope.schedules import Schedule

from .contract import Denoiser
from .files import load_denoiser
from .weights import Weights, load_weights

PAGE = "docs/weights.md"


def load_model(spec: str | Path, *, weights: str | Path | None = None, weights_prefix: str | None = None) -> Denoiser:
    """The denoiser of a .safetensors file that `save_denoiser` wrote, or of `module:object` if there is no such file.

    `weights`, or `?weights=FILE&prefix=P` in the name, are those of the network of `module:object`; `weights_prefix` is
    the part of the file that they are, where it has several. Raises InputError as `load_denoiser`, `load_callable` and
    `load_weights` do.

    >>> import tempfile
    >>> from diffuscope import VP
    >>> from diffuscope.denoisers import MLP, VPredictor, load_model, save_denoiser
    >>> model = VPredictor(MLP((2,), width=4), VP(beta_max=9.0), event_shape=(2,), data_range=(-1.0, 1.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_denoiser(model, f"{folder}/model.safetensors")
    ...     loaded = load_model(f"{folder}/model.safetensors")
    >>> type(loaded).__name__, loaded.schedule.beta_max
    ('VPredictor', 9.0)
    """
    if is_there(spec) or not (isinstance(spec, str) and ":" in spec):
        if given_weights("", weights, weights_prefix)[0] is not None:
            if not is_there(spec):
                raise InputError(f"model: expected module:object, which builds the network of the weights, got {spec}")
            raise InputError(
                f"weights: belong to a model module:object, which builds their network; got {Path(spec).name}"
            )
        return load_denoiser(spec)
    name, _, options = spec.partition("?")
    given, rest = given_weights(options, weights, weights_prefix)
    if rest:
        raise InputError(
            f"model: expected {name}?weights=FILE&prefix=PREFIX, got {rest!r} (a file name with & goes to --weights)"
        )
    return load_callable(name, given)


def load_callable(spec: str, weights: Weights | None = None) -> Denoiser:
    """The denoiser that `module:object` names: an object with `.schedule`, or a callable that returns one.

    A class, or a function without `.schedule`, is called once without arguments. Raises InputError if the object is
    not found, needs arguments, cannot be called with (x_t, t) or has no schedule.

    >>> import sys, types, torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.denoisers import load_callable
    >>> build = lambda: ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE(sigma_max=9.0))
    >>> sys.modules["example_of_a_callable"] = types.SimpleNamespace(build=build)  # in the place of a file of yours
    >>> load_callable("example_of_a_callable:build").schedule
    VE(sigma_min=0.002, sigma_max=9.0)
    """
    found = load_object(spec, "model")
    made = isinstance(found, type) or (inspect.isroutine(found) and not hasattr(found, "schedule"))
    model: Any = _called(found, spec, "model") if made else found
    if isinstance(model, nn.Module) and not isinstance(getattr(model, "schedule", None), Schedule):
        raise InputError(
            f"model: {spec} is a network, which says neither what it predicts nor under which noise schedule; expected "
            f"a function that returns NoisePredictor({type(model).__name__}(...), schedule, ...) or the like ({PAGE})"
        )
    if not isinstance(getattr(model, "schedule", None), Schedule):
        raise InputError(f"model: {spec} is a {type(model).__name__} without a .schedule of diffuscope.schedules")
    if not isinstance(model, Denoiser):
        raise InputError(f"model: {spec} is a {type(model).__name__} that cannot be called with (x_t, t)")
    _require_description(model, spec)
    return model if weights is None else _with_weights(model, weights, spec, made)


def load_network(spec: str, weights: Weights | None, argument: str = "model") -> object:
    """The object that `module:object` names, with `weights` in its network.

    For weights, a class, and a function without arguments, are called once. Raises InputError, naming `argument`, as
    `load_object` does, and as `load_weights`.

    >>> import sys, tempfile, types, torch
    >>> from diffuscope.denoisers import Weights, load_network
    >>> sys.modules["example_of_a_network"] = types.SimpleNamespace(Net=lambda: torch.nn.Linear(2, 1))  # your file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([5.0])}, f"{folder}/net.pt")
    ...     network = load_network("example_of_a_network:Net", Weights(f"{folder}/net.pt"))
    >>> network(torch.tensor([[10.0, 100.0]])).item()  # 3 * 10 + 4 * 100 + 5
    435.0
    """
    found = load_object(spec, argument)
    if weights is None:
        return found
    made = isinstance(found, type) or (inspect.isroutine(found) and _takes_nothing(found))
    return _with_weights(_called(found, spec, argument) if made else found, weights, spec, made)


def given_weights(
    options: str, weights: str | Path | None = None, prefix: str | None = None
) -> tuple[Weights | None, str]:
    """The weights that the options of a name ask for, or the arguments, and the options that are left.

    Raises InputError for weights that are given twice, and for a prefix without weights.

    >>> from diffuscope.denoisers import given_weights
    >>> given_weights("event_shape=2&weights=net.pt&prefix=ema")
    (Weights(path='net.pt', prefix='ema'), 'event_shape=2')
    """
    parts = options.split("&") if options else []
    named = {key: value for key, equals, value in (part.partition("=") for part in parts) if equals}
    rest = "&".join(part for part in parts if part.partition("=")[0] not in ("weights", "prefix"))
    if weights is not None and "weights" in named:
        raise InputError(f"weights: expected them once, got {weights} and weights={named['weights']} in the name")
    path = named.get("weights", weights)
    if path is None:
        if prefix is not None or "prefix" in named:
            raise InputError(f"weights_prefix: expected with weights only, got {prefix or named['prefix']}")
        return None, rest
    if not str(path):
        raise InputError("weights: expected a file, got no name")
    return Weights(path, prefix if prefix is not None else named.get("prefix")), rest


def _called(found: Any, spec: str, argument: str) -> Any:
    if not _takes_nothing(found):
        raise InputError(
            f"{argument}: {spec} needs arguments; expected a denoiser, or a callable without arguments that returns "
            f"one: a function of yours that calls {spec.rpartition(':')[2]} with them ({PAGE})"
        )
    return found()


def _takes_nothing(found: Any) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # other arguments; none that are known
        return False
    return True


def _with_weights(model: Any, weights: Weights, spec: str, made: bool) -> Any:
    """The model with weights; a copy of an object that its module keeps."""
    if not made:
        try:
            model = copy.deepcopy(model)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise InputError(
                f"weights: {spec} cannot be copied ({reason}); expected a class or a function that builds it"
            ) from error
    load_weights(model, weights)
    return model


def _require_description(model: Any, spec: str) -> None:
    """Raises InputError for an event shape or a data range, where the model has one, that is none."""
    if hasattr(model, "event_shape"):
        shape = model.event_shape
        if not (isinstance(shape, tuple | list) and shape and all(isinstance(n, int) and n > 0 for n in shape)):
            raise InputError(f"model: {spec}.event_shape: expected sizes such as (1, 28, 28), got {shape!r}")
    if hasattr(model, "data_range"):
        ends = model.data_range
        numbers = isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(x, int | float) for x in ends)
        if not (numbers and -math.inf < ends[0] < ends[1] < math.inf):
            raise InputError(f"model: {spec}.data_range: expected two finite numbers, the lower first, got {ends!r}")

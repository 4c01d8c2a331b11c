"""The weights of a file, loaded into the network of a model: all of them, or none with one line that says why.

The network is the one torch module within the model that has parameters: the model itself, or what it wraps, down to
the first module that has parameters of its own or several parts with parameters. Weights go to the outermost of these
that they fit. They are converted to the dtype of the network, and must be finite; buffers may be infinite where the
network itself has made them so, as masks are.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diffuscope.errors import InputError

from .averages import averages, misfit_in_order
from .contents import modules_within
from .devices import outermost
from .weights_file import Tensors, WeightsFile, read_weights
from .weights_fit import (
    Fit,
    expected_shapes,
    fits,
    matching,
    misfit,
    overlap,
    require_one,
    under_prefix,
    without_wrappers,
)

LOADED = "diffuscope_weights"  # the attribute of a network that says which weights it was given
NAMED = 3  # places in a message
TRIED = 16  # dictionaries that a network may convert by its hooks; of more only those with names of its own


@dataclass(frozen=True)
class Weights:
    """A file of weights, as it was named, and the prefix that was asked for.

    >>> from diffuscope.denoisers import Weights
    >>> Weights("net.pt", prefix="ema")
    Weights(path='net.pt', prefix='ema')
    """

    path: str | Path
    prefix: str | None = None


@dataclass(frozen=True)
class LoadedWeights:
    """Which weights a network was given.

    >>> import tempfile, torch
    >>> from diffuscope.denoisers import Weights, load_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"ema": torch.nn.Linear(2, 3).state_dict()}, f"{folder}/net.pt")
    ...     loaded = load_weights(torch.nn.Linear(2, 3), Weights(f"{folder}/net.pt", prefix="ema"))
    >>> loaded.place, loaded.count, loaded.warnings
    ('ema', 9, ())
    """

    path: str
    digest: str
    """SHA-256 of the file."""
    place: str
    """Keys and prefix in the file."""
    count: int
    """Number of values."""
    remarks: tuple[str, ...] = ()
    """What was chosen or converted."""
    warnings: tuple[str, ...] = ()
    """What the user may not have meant."""

    @property
    def note(self) -> str:
        """In one line, for a report."""
        place = f", prefix {self.place}" if self.place else ""
        said = "".join(f"; {remark}" for remark in (*self.warnings, *self.remarks))
        return f"weights of {self.path} (SHA-256 {self.digest}){place}, {self.count:,} values{said}"


def load_weights(model: Any, weights: Weights) -> LoadedWeights:
    """Load the weights into the network within `model`, which is then in evaluation mode, as is the model.

    Raises InputError, naming `weights`, for a file that cannot be read (see `read_weights`), for names and shapes that
    are not the network's, with the prefix under which they would be, and for values that are not finite.

    >>> import tempfile, torch
    >>> from diffuscope.denoisers import Weights, load_weights
    >>> network = torch.nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([5.0])}, f"{folder}/net.pt")
    ...     load_weights(network, Weights(f"{folder}/net.pt")).count
    3
    >>> network(torch.tensor([[10.0, 100.0]])).item()  # 3 * 10 + 4 * 100 + 5
    435.0
    """
    networks = _networks(model)
    file = read_weights(weights.path)
    network, fit, warnings = _chosen(file, networks, weights)
    known: LoadedWeights | None = vars(network).get(LOADED)
    if known is not None and (known.digest, known.place) != (file.digest, fit.place):
        raise InputError(
            f"weights: the network has those of {known.path} already; expected a function that builds a new network at "
            "every call"
        )
    values, remarks = _converted(network, fit, file.path)
    _load(network, values, file.path)
    if fit.remark:
        remarks.append(fit.remark)
    for each in (model, networks[0]):
        if isinstance(each, nn.Module):
            each.eval()
    count = sum(value.numel() for value in values.values())
    loaded = LoadedWeights(str(weights.path), file.digest, fit.place, count, tuple(remarks), tuple(warnings))
    vars(network)[LOADED] = loaded
    return loaded


def loaded_weights(model: object) -> list[LoadedWeights]:
    """Which weights the networks within `model` were given by `load_weights`.

    >>> import tempfile, torch
    >>> from diffuscope.denoisers import Weights, load_weights, loaded_weights
    >>> network = torch.nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(torch.nn.Linear(2, 1).state_dict(), f"{folder}/net.pt")
    ...     loaded = load_weights(network, Weights(f"{folder}/net.pt"))
    >>> loaded_weights([network, torch.nn.Linear(2, 1)]) == [loaded]
    True
    """
    return [vars(module)[LOADED] for module in modules_within(model) if LOADED in vars(module)]


# The network


def _networks(model: object) -> list[nn.Module]:
    """The modules that can be meant by the network of `model`, the outermost first."""
    outer = [module for module in outermost(model) if next(module.parameters(), None) is not None]
    kind = type(model).__name__
    if not outer:
        raise InputError(f"weights: there is no torch.nn.Module with parameters in the {kind}; expected a network")
    if len(outer) > 1:
        names = ", ".join(type(module).__name__ for module in outer)
        raise InputError(f"weights: expected one network in the {kind}, got {len(outer)} ({names})")
    found = [outer[0]]
    while (part := _wrapped(found[-1])) is not None:
        found.append(part)
    return found


def _wrapped(module: nn.Module) -> nn.Module | None:
    """The only part with parameters of a module that has none of its own; buffers of its own are its constants.

    A single layer of a user's class is not taken for its network.
    """
    if next(module.parameters(recurse=False), None) is not None:
        return None
    parts = [part for part in module.children() if part.state_dict()]
    if len(parts) != 1 or next(parts[0].parameters(), None) is None:
        return None
    is_wrapper = type(module).__module__.startswith(("diffuscope.", "torch."))
    return parts[0] if is_wrapper or next(parts[0].children(), None) is not None else None


# The choice


def _chosen(file: WeightsFile, networks: list[nn.Module], weights: Weights) -> tuple[nn.Module, Fit, list[str]]:
    """The network, the tensors of the file that are its own, and what is to be said of the choice."""
    name, prefix = file.path.name, weights.prefix
    every = [(network, _fits(file, network)) for network in networks]
    for network, found in every:
        if prefix is not None:
            if asked := matching(found, prefix):
                return network, require_one(asked, name), []
            continue
        plain = [fit for fit in found if not fit.prefix]
        raw = [fit for fit in plain if not fit.averaged]
        averaged = [fit for fit in found if fit.averaged]
        if raw:
            fit = require_one(raw, name)
            return network, fit, [_also(name, averaged[0], fit)] if averaged else []
        if plain and all(fit.averaged for fit in found):
            return network, require_one(plain, name), []
    if (adapted := _adapted(file, networks, prefix)) is not None:
        return *adapted, []
    raise _misfit(file, every, prefix)


def _fits(file: WeightsFile, network: nn.Module) -> list[Fit]:
    found = fits(file, network)
    return found + averages(file, network, found)


def _also(name: str, averaged: Fit, taken: Fit) -> str:
    where = f"under {taken.place}" if taken.place else "without a prefix"
    return (
        f"{name} also has averaged weights, prefix {averaged.place} (--weights-prefix {averaged.place}); those {where} "
        "were taken"
    )


def _adapted(file: WeightsFile, networks: list[nn.Module], prefix: str | None) -> tuple[nn.Module, Fit] | None:
    """Weights that the network itself knows to convert, by its hooks; older ones of a layer that has been renamed."""
    under = under_prefix(file, prefix)
    for network in networks:
        shapes = expected_shapes(network)
        for place, tensors in under:
            fit = Fit(place, "", tensors)
            if len(under) > TRIED and not overlap(tensors, shapes):
                continue
            if fit.averaged and prefix is None:
                continue
            try:
                copied = copy.deepcopy(network)
                copied.load_state_dict(_named(copied, tensors), strict=True)
            except Exception:  # it does not, or cannot be copied
                continue
            return network, fit
    return None


def _misfit(file: WeightsFile, every: list[tuple[nn.Module, list[Fit]]], prefix: str | None) -> InputError:
    """What is wrong with the weights that come closest, and under which prefixes there are others that fit."""
    name = file.path.name
    by_tensors: dict[frozenset[int], str] = {}  # one for the same tensors
    for fit in sorted((fit for _, found in every for fit in found), key=lambda fit: len(fit.place)):
        by_tensors.setdefault(frozenset(map(id, fit.tensors.values())), fit.place)
    fitting = list(by_tensors.values())
    mend = f"; it fits with the prefix {' or '.join(fitting[:NAMED])} (--weights-prefix)" if fitting else ""
    under = under_prefix(file, prefix)
    lists = [keys for keys in file.shadows if prefix is None or f".{prefix.strip('.')}." in f".{keys}."]
    if lists and not under:
        network = every[-1][0]
        said = misfit_in_order(file.shadows[lists[0]], network)
        return InputError(f"weights: {name}, {lists[0]}, does not fit {type(network).__name__}: {said}{mend}")
    if not under:
        places = ", ".join(_places(file)[:NAMED])
        return InputError(f"weights: {name} has nothing under the prefix {prefix!r}; expected one of {places}{mend}")
    shapes = [(network, expected_shapes(network)) for network, _ in every]
    network, place, tensors, wanted = max(
        ((network, place, tensors, wanted) for network, wanted in shapes for place, tensors in under),
        key=lambda each: (overlap(each[2], each[3]), not type(each[0]).__module__.startswith("diffuscope.")),
    )
    where = f", prefix {place}," if place else ""
    return InputError(
        f"weights: {name}{where} does not fit {type(network).__name__}: {misfit(tensors, wanted) or 'ambiguous'}{mend}"
    )


def _places(file: WeightsFile) -> list[str]:
    """The first components of keys and names."""
    every = [*(f"{keys}.{name}".strip(".") for keys in file.dicts for name in file.dicts[keys]), *file.shadows]
    return list(dict.fromkeys(name.split(".")[0] for name in every))


# The values


def _named(network: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors under the network's own names, wrappers included; others as they are."""
    own = {without_wrappers(name): name for name in network.state_dict()}
    return {own.get(name, name): value for name, value in tensors.items()}


def _converted(network: nn.Module, fit: Fit, path: Path) -> tuple[Tensors, list[str]]:
    """The tensors in the dtypes of the network, and what was converted. Raises InputError for values unfit for it."""
    own, converted, kinds = network.state_dict(), Tensors(), dict[str, None]()
    buffers = dict(network.named_buffers())
    for name, given in _named(network, dict(fit.tensors)).items():
        _require_plain(given, name, path)
        like = own.get(name)
        if isinstance(like, Tensor) and not is_lazy(like):
            if _kind(given) != _kind(like):
                raise InputError(f"weights: {path.name}: {name} expected numbers like {like.dtype}, got {given.dtype}")
            if given.dtype != like.dtype and given.is_floating_point():
                kinds[f"{_short(given.dtype)} was converted to {_short(like.dtype)}"] = None
            converted[name] = given.to(like.dtype)
            _require_finite(converted[name], given, name, path, like if name in buffers else None)
        else:
            _require_finite(given, given, name, path, None)
            converted[name] = given
    return converted, list(kinds)


def _require_plain(value: Tensor, name: str, path: Path) -> None:
    kind = "quantized" if value.is_quantized else "without values" if value.is_meta else str(value.layout)
    if value.is_quantized or value.is_meta or value.layout != torch.strided:
        raise InputError(f"weights: {path.name}: {name} expected a plain tensor, got one that is {kind}")


def _require_finite(value: Tensor, given: Tensor, name: str, path: Path, own: Tensor | None) -> None:
    if not value.is_floating_point():
        return
    wrong = ~torch.isfinite(value)
    if own is not None and own.shape == value.shape:
        wrong &= ~(value == own.to(value.device))  # a mask
    if count := int(wrong.sum()):
        large = value.dtype != given.dtype and bool(torch.isfinite(given.double()).all())
        what = f"too large for {_short(value.dtype)}" if large else "NaN or infinite"
        raise InputError(f"weights: {path.name}: {count:,} of {value.numel():,} values of {name} are {what}")


def _load(network: nn.Module, values: Tensors, path: Path) -> None:
    """Load, and read back: what a network does with a state dict is its own code."""
    try:
        network.load_state_dict(values, strict=True)
        now = network.state_dict()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"weights: {type(network).__name__} does not take {path.name} ({reason})") from error
    for name, value in values.items():
        kept = now.get(name)
        if kept is not None and not torch.equal(kept.cpu(), value):
            raise InputError(
                f"weights: {path.name}: {name} is not what {type(network).__name__} holds after loading; two names of "
                "one shared tensor must hold the same values"
            )


def _kind(value: Tensor) -> str:
    if value.is_floating_point():
        return "real"
    return "complex" if value.is_complex() else "bool" if value.dtype == torch.bool else "integer"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

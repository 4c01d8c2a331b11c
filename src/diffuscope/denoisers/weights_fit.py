r"""Which of a file's weights are a network's: those of exactly its names and shapes, under some prefix.

Let E be the names of the network's parameters and buffers. A dictionary of the file, at the keys k, fits under the
prefix p if the names that begin with p are p.e for e in E, each once, with the shapes of the network. The prefixes that
can fit are found by the longest name of E alone: what stands before it, wherever it occurs. Components that
only wrappers add (`_orig_mod` of torch.compile, `_fsdp_wrapped_module`, `_checkpoint_wrapped_module`, and `module` of
DataParallel at the front of all names) are removed on both sides first.

Without a prefix asked for, weights are taken that fit with p empty, whatever the keys k. Averaged weights, which have
`ema` or the like among keys or prefix, are taken if they were asked for, or are all there is. A prefix that is asked
for is any part of k.p between two dots.
"""

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diffuscope.errors import InputError

from .weights_file import AVERAGED, Tensors, WeightsFile

Shape = tuple[int, ...] | None  # None: of a lazy network, whose shapes are those of its weights
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DATA_PARALLEL = "module."
COUNTER = "n_averaged"  # beside the weights of torch.optim.swa_utils.AveragedModel
RAW = re.compile(r"(?:^|[._])online_model(?:[._]|$)")  # beside `ema_model` within an `ema`
SHOWN = 3  # names in a message


@dataclass(frozen=True, eq=False)
class Fit:
    """Tensors of a file by the names of the network to which they belong."""

    keys: str
    """The keys that lead to the dictionary."""
    prefix: str
    """What their names there begin with."""
    tensors: Mapping[str, Tensor] = field(repr=False)
    remark: str = ""
    """How they were matched, where it is not by these names alone."""

    @property
    def place(self) -> str:
        """Keys and prefix, joined."""
        return ".".join(part for part in (self.keys, self.prefix) if part)

    @property
    def averaged(self) -> bool:
        """Whether the names say that these are averages over training steps."""
        return bool(AVERAGED.search(self.place)) and not RAW.search(self.place)


def expected_shapes(network: nn.Module) -> dict[str, Shape]:
    """The names and shapes of what a state dict of the network has, without the components of wrappers."""
    state = network.state_dict()
    return {
        without_wrappers(name): None if is_lazy(value) else tuple(value.shape)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def without_wrappers(name: str) -> str:
    """A name without the components that only wrappers add.

    >>> without_wrappers("up._orig_mod.weight")
    'up.weight'
    """
    return WRAPPERS.sub("", name)


def unwrapped(tensors: Tensors) -> Tensors:
    """The tensors under names without the components of wrappers.

    >>> list(unwrapped({"module.a._orig_mod.b": torch.zeros(1)}))
    ['a.b']
    """
    plain = {without_wrappers(name): value for name, value in tensors.items()}
    rest = plain.keys() - {COUNTER}
    if rest and all(name.startswith(DATA_PARALLEL) for name in rest):
        plain = {name.removeprefix(DATA_PARALLEL): plain[name] for name in plain if name in rest}
    return plain


def fits(file: WeightsFile, network: nn.Module) -> list[Fit]:
    """Everything in the file that is exactly the network's, by its names."""
    shapes = expected_shapes(network)
    return [fit for keys, tensors in file.dicts.items() for fit in fits_of(keys, tensors, shapes)]


def fits_of(keys: str, tensors: Tensors, shapes: Mapping[str, Shape]) -> Iterator[Fit]:
    """What of one dictionary fits: names without wrappers first, then the names as they are."""
    places = set[str]()
    for candidate in (unwrapped(tensors), tensors):
        for fit in _prefixes(keys, candidate, shapes):
            if fit.place not in places:
                places.add(fit.place)
                yield fit


def _prefixes(keys: str, tensors: Tensors, shapes: Mapping[str, Shape]) -> Iterator[Fit]:
    if not shapes:
        return
    longest, ordered = max(shapes, key=len), sorted(tensors)
    for name in tensors:
        if name != longest and not name.endswith(f".{longest}"):
            continue
        prefix = name[: -len(longest)]
        under = {other.removeprefix(prefix): tensors[other] for other in with_prefix(prefix, ordered, len(shapes) + 1)}
        if under.keys() == shapes.keys() and have_shapes(under, shapes):
            yield Fit(keys, prefix.rstrip("."), under)


def with_prefix(prefix: str, ordered: list[str], most: int) -> list[str]:
    """Names that begin with the prefix: they follow each other, and one more than the network has is enough to tell."""
    first = bisect.bisect_left(ordered, prefix)
    return [name for name in ordered[first : first + most] if name.startswith(prefix)]


def have_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> bool:
    """Whether each of these tensors has its shape among `shapes`."""
    return all(same_shape(value.shape, shapes[name]) for name, value in tensors.items())


def same_shape(given: torch.Size, shape: Shape) -> bool:
    """Whether a tensor of this size fits."""
    return shape is None or tuple(given) == shape


def matching(found: list[Fit], prefix: str) -> list[Fit]:
    """Those of `found` that a prefix asked for can mean; the whole name comes before a part of it."""
    asked = prefix.strip(".")
    exact = [fit for fit in found if asked in (fit.place, fit.prefix or fit.keys)]
    return exact or [fit for fit in found if f".{asked}." in f".{fit.place}."]


def under_prefix(file: WeightsFile, prefix: str | None) -> list[tuple[str, Tensors]]:
    """What the file holds under a prefix, or, without one, in each of its dictionaries: for what a misfit is."""
    if prefix is None:
        return [(keys, unwrapped(tensors)) for keys, tensors in file.dicts.items()]
    asked, found = prefix.strip("."), list[tuple[str, Tensors]]()
    for keys, tensors in file.dicts.items():
        if f".{asked}." in f".{keys}.":
            found.append((keys, unwrapped(tensors)))
        within: dict[str, Tensors] = {}
        for name, value in tensors.items():
            start, part, rest = f".{name}".rpartition(f".{asked}.")
            if part:
                within.setdefault(f"{start}{part}".strip("."), {})[rest] = value
        found += [(f"{keys}.{place}".strip("."), unwrapped(under)) for place, under in within.items()]
    return found


def misfit(tensors: Tensors, shapes: Mapping[str, Shape]) -> str:
    """How names and shapes differ, in a few words.

    >>> misfit({"a": torch.zeros(2), "c": torch.zeros(1)}, {"a": (3,), "b": (1,)})
    '1 of 2 missing (b), 1 unexpected (c), 1 of another shape (a: expected (3,), got (2,))'
    """
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    shared = [name for name in shapes if name in tensors]
    shaped = [
        f"{name}: expected {shapes[name]}, got {tuple(tensors[name].shape)}"
        for name in shared
        if not same_shape(tensors[name].shape, shapes[name])
    ]
    said = [f"{len(missing)} of {len(shapes)} missing ({few(missing)})"] if missing else []
    said += [f"{len(unexpected)} unexpected ({few(unexpected)})"] if unexpected else []
    said += [f"{len(shaped)} of another shape ({few(shaped)})"] if shaped else []
    return ", ".join(said)


def few(names: list[str]) -> str:
    """The first names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def overlap(tensors: Tensors, shapes: Mapping[str, Shape]) -> int:
    """How many names and shapes agree."""
    return sum(name in tensors for name in shapes) + sum(
        name in tensors and same_shape(tensors[name].shape, shape) for name, shape in shapes.items()
    )


def require_one(found: list[Fit], path: str) -> Fit:
    """The only one, or one of several that hold the same values; InputError, with their names, for others."""
    first, *others = found
    different = [other for other in others if not _equal(first.tensors, other.tensors)]
    if different:
        names = " or ".join(repr(fit.place) for fit in (first, *different))
        raise InputError(f"weights: {path} holds several weights of this network; expected a prefix, {names}")
    return first


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)

"""From a name, a file, a folder or arrays to a `DataSet`: which examples are held out, and their range.

The range of a data set is the first of these that applies: the one stated by the user; the one implied by the format
(8-bit images: [0, 255]); for floating-point vectors their own minimum and maximum; for floating-point images [0, 1],
[-0.5, 0.5] or [-1, 1], whichever their values fit. In all other cases the user must state it.

Without held-out examples, some are split off at random. This is wrong for a model trained elsewhere on all of them,
which needs held-out examples of its own.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import TOYS

from .array_file import read_npy, read_npz
from .cifar import is_batch_folder, is_pickled_batch, pickled_refusal, read_batch, read_batches
from .dataset import FEWEST, DataSet, Range, checked_range, in_words, rescaled
from .examples import Examples, Source, examples_of_array
from .hdf5_file import hdf5_spec, read_hdf5
from .image_folder import SUFFIXES, read_image_folder
from .named import NAMES, read_named
from .toys import EXAMPLES, read_toy

FORMS = "a folder of images, or a .npy, .npz or .h5 file"
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})

ROUNDING = 1e-5  # float32 arithmetic may leave values this far outside their range, in units of its width
UNIT_RATIO = 50  # two sets of images are in different units if the widths of their values differ by more


def load_data(
    spec: str,
    *,
    heldout: str | None = None,
    data_range: Range | None = None,
    heldout_fraction: float = 0.5,
    seed: int = 0,
) -> DataSet:
    """The data set `spec`: a name (see NAMES), a file, or a folder of images.

    Files are `.npy`, `.npz`, `.h5` or `.hdf5` (`file.h5:name` if it holds several data sets); a folder may also hold
    CIFAR-10's binary batches. Of a two-dimensional toy, 5,000 + 5,000 examples are drawn with `seed`.

    `heldout` is a second spec, whose held-out part is used if it has one, and otherwise all of it. By default the
    data's own held-out part is used, and failing that a random `heldout_fraction`, drawn with `seed`. `data_range`
    states the range of the values of both parts.

    Raises InputError with the first mistake found, in one line.

    >>> load_data("digits").event_shape
    (1, 8, 8)
    """
    source = _read(spec, "data", seed)
    held = source.heldout
    if heldout is not None:
        other = _read(heldout, "heldout", seed)
        held = other.train if other.heldout is None else other.heldout
    return _assembled(source.name, source.train, held, data_range, heldout_fraction, seed)


def toy_data(name: str, *, n_train: int = EXAMPLES, n_heldout: int = EXAMPLES, seed: int = 0) -> DataSet:
    """Independent draws of the toy `name`, one of `diffuscope.exact.TOYS`.

    Their distribution is `known_distribution(name)`, their range `known_range(name)`. Raises InputError for another
    name, and for fewer than 2 examples of either part.

    >>> toy_data("two-moons", n_train=100).train.shape
    torch.Size([100, 2])
    """
    if name not in TOYS:
        raise InputError(f"name: expected one of {', '.join(TOYS)}, got {name!r}")
    source = read_toy(name, "name", seed, n_train, n_heldout)
    return _assembled(source.name, source.train, source.heldout, None, 0.5, seed)


def data_from_arrays(
    x: np.ndarray | Tensor,
    heldout: np.ndarray | Tensor | None = None,
    *,
    labels: np.ndarray | Tensor | None = None,
    heldout_labels: np.ndarray | Tensor | None = None,
    data_range: Range | None = None,
    heldout_fraction: float = 0.5,
    seed: int = 0,
    name: str = "array",
) -> DataSet:
    """A data set of arrays in memory, (n, d), (n, H, W), (n, C, H, W) or (n, H, W, C); see `load_data`.

    The arrays are copied. Raises InputError with the first mistake found, in one line, for any shape and dtype.
    """
    train = examples_of_array(_as_numpy(x), "x", "the array", None if labels is None else _as_numpy(labels))
    held = None
    if heldout is not None:
        known = None if heldout_labels is None else _as_numpy(heldout_labels)
        held = examples_of_array(_as_numpy(heldout), "heldout", "the array", known)
    return _assembled(name, train, held, data_range, heldout_fraction, seed)


def load_samples(spec: str, data_range: Range | None, *, like: DataSet) -> Float32[Tensor, "n *event"]:
    """Generated samples from a file or folder, in the range of `like` and with its event shape.

    Floating-point samples without a stated range are assumed to be in the range of `like` already, which samples may
    exceed slightly; integers need `data_range` unless their format implies it. Raises InputError for another shape.
    """
    examples = _read(spec, "samples", 0).train
    if examples.event_shape != like.event_shape:
        raise InputError(
            f"samples: {examples.origin} has examples of shape {examples.event_shape}; expected {like.event_shape} as "
            f"in {like.name}"
        )
    values = _float32(examples, _all(examples))
    known = data_range if data_range is not None else examples.data_range
    if known is None and examples.values.dtype.kind != "f":
        raise InputError(
            f"samples: {examples.origin} has integer values ({examples.values.dtype}) of a range not stated; expected "
            "--samples-range, for 8-bit pixels --samples-range 0 255"
        )
    return values if known is None else rescaled(values, checked_range(known, "samples_range"), like.data_range)


def _as_numpy(x: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return x
    # NumPy has no bfloat16
    return (x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy()


def _read(spec: str, argument: str, seed: int) -> Source:
    if spec.lower() in NAMES:
        return read_named(spec.lower(), argument, seed)
    inside = hdf5_spec(spec)
    path = _existing(spec if inside is None else inside[0], argument)
    suffix = path.suffix.lower()
    if path.is_dir():
        return (read_batches if is_batch_folder(path) else read_image_folder)(path, argument)
    if inside is not None:
        return read_hdf5(path, inside[1], argument)
    if is_pickled_batch(path):
        raise pickled_refusal(path, argument)
    if suffix == ".bin":
        return read_batch(path, argument)
    if suffix == ".npy":
        return read_npy(path, argument)
    if suffix == ".npz":
        return read_npz(path, argument)
    if suffix in PICKLES:
        raise InputError(f"{argument}: {spec} may hold a pickle, which is never loaded; expected a .npy or .npz file")
    if suffix in SUFFIXES:
        raise InputError(f"{argument}: {spec} is one single image; expected a folder of images")
    raise InputError(f"{argument}: {spec} is of unknown kind; expected {FORMS}")


def _existing(spec: str, argument: str) -> Path:
    # an empty spec would be the current folder; too long a name, or the home of an unknown user, raises an error
    with suppress(OSError, RuntimeError):
        path = Path(spec).expanduser()
        if spec and (path.is_file() or path.is_dir()):  # not a pipe, whose reader would wait
            return path
    raise InputError(
        f"{argument}: {spec!r} does not exist or may not be read; expected one of {', '.join(NAMES)}, {FORMS}"
    )


def _assembled(
    name: str, source: Examples, held: Examples | None, data_range: Range | None, heldout_fraction: float, seed: int
) -> DataSet:
    if held is not None and held.event_shape != source.event_shape:
        raise InputError(
            f"{held.argument}: {held.origin} has examples of shape {held.event_shape}; "
            f"expected {source.event_shape} as in {source.origin}"
        )
    stated, how = _range_of([source] if held is None else [source, held], data_range)
    if held is None:
        train_index, heldout_index = _split(source, heldout_fraction, seed)
        origin = (
            f"{source.origin}, {len(source.values)} examples split at random into "
            f"{len(train_index)} + {len(heldout_index)} (seed {seed})"
        )
        held = source
    else:
        train_index, heldout_index = _all(source), _all(held)
        origin = f"{source.origin}, {len(source.values)} examples, against {held.origin}, {len(held.values)} examples"
    data = DataSet(
        name=name,
        train=_float32(source, train_index),
        heldout=_float32(held, heldout_index),
        data_range=stated,
        provenance=f"{origin}; range {in_words(stated)} {how}",
        train_index=train_index,
        heldout_index=heldout_index,
        train_labels=_labels(source, train_index),
        heldout_labels=_labels(held, heldout_index),
    )
    if data.duplicates == len(data.train) - 1:
        raise InputError(
            f"{source.argument}: the {len(data.train)} training examples of {source.origin} are all the same; "
            "expected examples that vary"
        )
    if data.shared == len(data.heldout):
        raise InputError(
            f"{held.argument}: every one of the {len(data.heldout)} held-out examples is also a training example; "
            "expected examples that were not trained on"
        )
    return data


def _range_of(parts: list[Examples], data_range: Range | None) -> tuple[Range, str]:
    """The range of all parts together, and how it is known."""
    ends = [(float(part.values.min()), float(part.values.max())) for part in parts]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if data_range is not None:
        stated, how = checked_range(data_range, "data_range"), "as stated"
    elif all(part.data_range is not None for part in parts):
        stated, how = _range_of_format(parts), "by format"
    else:
        stated, how = _range_of_values(parts, low, high), "by its values"
    _require_one_unit(parts, ends)
    slack = ROUNDING * (stated[1] - stated[0])
    for part, end in zip(parts, ends, strict=True):
        if end[0] < stated[0] - slack or end[1] > stated[1] + slack:
            raise InputError(
                f"{part.argument}: {part.origin} has values in {in_words(end)}; expected them in {in_words(stated)}"
            )
    return stated, how


def _require_one_unit(parts: list[Examples], ends: list[Range]) -> None:
    """Images in [0, 1] held against images in [0, 255] fit one range, and every distance would be wrong."""
    widths = [end[1] - end[0] for end in ends]
    if parts[0].values.ndim == 4 and 0 < min(widths) < max(widths) / UNIT_RATIO:
        ranges = " and ".join(f"{in_words(end)} ({part.origin})" for part, end in zip(parts, ends, strict=True))
        raise InputError(f"{parts[-1].argument}: the values lie in {ranges}; expected both in the same units")


def _range_of_format(parts: list[Examples]) -> Range:
    known = {part.origin: part.data_range for part in parts if part.data_range is not None}
    if len(set(known.values())) > 1:
        ranges = " and ".join(f"{in_words(stated)} ({origin})" for origin, stated in known.items())
        raise InputError(f"heldout: the ranges are {ranges}; expected one range, or state one with --data-range")
    return next(iter(known.values()))


def _range_of_values(parts: list[Examples], low: float, high: float) -> Range:
    for part in parts:
        if part.data_range is not None:
            raise InputError(
                f"{part.argument}: the range of {part.origin} is {in_words(part.data_range)} by its format, and of the "
                "other examples not known; expected --data-range for both"
            )
        if part.values.dtype.kind != "f":
            raise InputError(
                f"{part.argument}: {part.origin} has integer values ({part.values.dtype}) in {in_words((low, high))} "
                "of a range not stated; expected --data-range, for 8-bit pixels --data-range 0 255"
            )
    if parts[0].values.ndim == 2:
        return low, high
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return 0.0, 1.0
    # data that reach exactly these two ends are centered pixels, hardly a half-used [-1, 1]
    if (low, high) == (-0.5, 0.5):
        return -0.5, 0.5
    if low >= -1 - ROUNDING and high <= 1 + ROUNDING:
        return -1.0, 1.0
    part = parts[0]
    raise InputError(
        f"{part.argument}: {part.origin} has values in {in_words((low, high))}, of a range not stated; "
        "expected [0, 1] or [-1, 1], or --data-range"
    )


def _split(source: Examples, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    n = len(source.values)
    if not 0 < fraction < 1:
        raise InputError(f"heldout_fraction: got {fraction:g}, expected a number between 0 and 1")
    n_heldout = round(fraction * n)
    if min(n_heldout, n - n_heldout) < FEWEST:
        count = "one single example" if n == 1 else f"{n} examples, {n_heldout} of them to hold out"
        raise InputError(
            f"{source.argument}: {source.origin} has {count}; expected at least {FEWEST} to train on "
            f"and {FEWEST} to hold out"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[n_heldout:], order[:n_heldout]


def _all(examples: Examples) -> Int64[Tensor, " n"]:
    n = len(examples.values)
    if n < FEWEST:
        raise InputError(f"{examples.argument}: {examples.origin} has one single example; expected at least {FEWEST}")
    return torch.arange(n)


def _float32(examples: Examples, index: Tensor) -> Tensor:
    """The examples at `index`, converted block by block: the only float32 copy there is."""
    result = np.empty((len(index), *examples.event_shape), dtype=np.float32)
    rows = index.numpy()
    block = max(1, 2**22 // max(1, result[0].size))
    for start in range(0, len(rows), block):
        result[start : start + block] = examples.values[rows[start : start + block]]
    return torch.from_numpy(result)


def _labels(examples: Examples, index: Tensor) -> Tensor | None:
    return None if examples.labels is None else torch.from_numpy(examples.labels)[index]

"""The public ways to data: by a spec (a name, a file, a folder), from arrays in memory, from a toy; and to samples."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import TOYS

from .as_tensors import as_tensors
from .assembly import HALF, Choices, assembled, every, numbered
from .dataset import DataSet
from .examples import Examples, Source, examples_of_array, laid_out
from .reading import read_source
from .table import Frame
from .toys import EXAMPLES, read_toy
from .value_range import Range, checked_range, rescaled


def load_data(
    spec: str,
    *,
    heldout: str | None = None,
    data_range: Range | None = None,
    kind: str = "auto",
    group: str | None = None,
    heldout_group: str | None = None,
    train_limit: int | None = None,
    heldout_fraction: float = HALF,
    seed: int = 0,
) -> DataSet:
    """The data set `spec`: a name (see NAMES), a file, or a folder.

    Files are arrays (`.npy`, `.npz`, `.h5`, `.zarr`; `file.npz:name` for one array of several) and tables (`.csv`,
    `.tsv`, `.parquet`); folders hold images, CIFAR-10's binary batches, a Hugging Face data set, DICOM or NIfTI files.
    Of a two-dimensional toy, 5,000 + 5,000 examples are drawn with `seed`.

    `heldout` is a second spec, whose held-out part is used if it has one, and otherwise all of it. By default the
    data's own held-out part is used, and failing that a random `heldout_fraction`, drawn with `seed`. `data_range`
    states the range of the values of both parts (for how it is known otherwise see `range_of`). `kind` says what an
    example is where the shape does not (see `kinds`).

    `group` says which examples belong to one unit: the name of a column of a table, "folder" or "patient" for folders
    that have them, or a file of ids (see `groups`); `heldout_group` the same for `heldout`. A random split then divides
    the groups. `train_limit` is the number of training examples, chosen at random; the others are not converted.

    Raises InputError with the first mistake found, in one line.

    >>> from diffuscope.data import load_data
    >>> data = load_data("digits")  # 1,797 images of 8 x 8, half of them held out
    >>> data.event_shape, data.data_range, len(data.train) + len(data.heldout)
    ((1, 8, 8), (0.0, 16.0), 1797)
    """
    source = read_source(spec, "data", seed)
    if heldout is not None:
        other = read_source(heldout, "heldout", seed)
        source = replace(source, heldout=other.train if other.heldout is None else other.heldout)
    choices = Choices(
        kind=kind, group=group, heldout_group=heldout_group, data_range=data_range, train_limit=train_limit,
        heldout_fraction=heldout_fraction, seed=seed,
    )  # fmt: skip
    return assembled(source, choices)


def toy_data(name: str, *, n_train: int = EXAMPLES, n_heldout: int = EXAMPLES, seed: int = 0) -> DataSet:
    """Independent draws of the toy `name`, one of `diffuscope.exact.TOYS`.

    Their distribution is `known_distribution(name)`, their range `known_range(name)`. Raises InputError for another
    name, for fewer than 2 examples of either part, and for a seed that is not one of 64 bits.

    >>> from diffuscope.data import toy_data
    >>> from diffuscope.exact import known_range
    >>> x, y = toy_data("checkerboard", n_train=100).train.T  # squares of side 1, of one color
    >>> set(((x.floor() + y.floor()) % 2).tolist()), known_range("checkerboard")
    ({0.0}, (-2.0, 2.0))
    """
    if name not in TOYS:
        raise InputError(f"name: expected one of {', '.join(TOYS)}, got {name!r}")
    return assembled(read_toy(name, "name", seed, n_train, n_heldout), Choices(seed=seed))


def data_from_arrays(
    x: np.ndarray | Tensor,
    heldout: np.ndarray | Tensor | None = None,
    *,
    labels: np.ndarray | Tensor | None = None,
    heldout_labels: np.ndarray | Tensor | None = None,
    groups: np.ndarray | Tensor | None = None,
    heldout_groups: np.ndarray | Tensor | None = None,
    data_range: Range | None = None,
    kind: str = "auto",
    heldout_fraction: float = HALF,
    seed: int = 0,
    name: str = "array",
) -> DataSet:
    """A data set of arrays in memory; for their layouts see `kinds`, for the rest `load_data`.

    `groups` has one id for each example, whole numbers or texts. The arrays are copied, except bytes of more than 1 GB
    in float32, which stay where they are and must not change. Raises InputError with the first mistake found, in one
    line, for any shape and dtype.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays
    >>> data = data_from_arrays(np.arange(12.0).reshape(6, 2), heldout_fraction=1 / 3)
    >>> len(data.train), len(data.heldout), data.data_range, float(data.train.sum() + data.heldout.sum())  # 0 + .. + 11
    (4, 2, (0.0, 11.0), 66.0)
    """
    train = _in_memory(x, labels, groups, "x")
    held = None if heldout is None else _in_memory(heldout, heldout_labels, heldout_groups, "heldout")
    choices = Choices(
        kind=kind, data_range=data_range, heldout_fraction=heldout_fraction, seed=seed,
        group=None if groups is None else "groups",
    )  # fmt: skip
    return assembled(Source(name, train, held), choices)


@dataclass(frozen=True, eq=False)
class Samples:
    """Generated samples, and notes on values that the data do not have.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays, read_samples
    >>> data = data_from_arrays(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 3.0], [4.0, 0.0]])).in_range(-1, 1)
    >>> np.save("samples.npy", np.array([[0, 1], [3, 4]]))
    >>> read_samples("samples.npy", (0, 4), like=data).values.tolist()  # x / 2 - 1
    [[-1.0, -0.5], [0.5, 1.0]]
    """

    values: Float32[Tensor, "n *event"]
    notes: tuple[str, ...] = ()


def load_samples(
    spec: str, data_range: Range | None, *, like: DataSet, kind: str = "auto"
) -> Float32[Tensor, "n *event"]:
    """Generated samples from a file or folder, in the range of `like` and with its event shape; see `read_samples`.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays, load_samples
    >>> data = data_from_arrays(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 3.0], [4.0, 0.0]])).in_range(-1, 1)
    >>> np.save("generated.npy", np.array([[0, 8], [32, 24]]))
    >>> load_samples("generated.npy", (0, 32), like=data).tolist()  # x / 16 - 1
    [[-1.0, -0.5], [1.0, 0.5]]
    """
    return read_samples(spec, data_range, like=like, kind=kind).values


def read_samples(spec: str, data_range: Range | None, *, like: DataSet, kind: str = "auto") -> Samples:
    """Generated samples from a file or folder, in the range of `like`, with its event shape and in its encoding.

    Their kind is that of `like`, unless another one is stated. Floating-point samples without a stated range are
    assumed to be in the range of `like` already, which samples may exceed slightly; integers need `data_range` unless
    their format implies it. Raises InputError for another shape, and for a table whose columns are not those of the
    data.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays, read_samples
    >>> data = data_from_arrays(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 3.0], [4.0, 0.0]]))
    >>> np.save("pixels.npy", np.array([[0, 1], [3, 4]]))
    >>> read_samples("pixels.npy", None, like=data)  # integers say nothing of their range
    Traceback (most recent call last):
    diffuscope.errors.InputError: samples: pixels.npy has integer values (int64) of a range not stated; expected ...
    """
    part = read_source(spec, "samples", 0).train
    if like.table is not None:
        return _table_samples(part, data_range, like)
    if isinstance(part, Frame):
        raise InputError(f"samples: {part.origin} is a table, and {like.name} is not; expected samples like the data")
    examples = laid_out(part, like.kind if kind == "auto" else kind)
    if examples.event_shape != like.event_shape:
        raise InputError(
            f"samples: {examples.origin} has examples of shape {examples.event_shape}; expected {like.event_shape} as "
            f"in {like.name}"
        )
    (values,) = as_tensors([(examples, every(examples))])
    known = data_range if data_range is not None else examples.data_range
    if known is None and examples.values.dtype.kind != "f":
        raise InputError(
            f"samples: {examples.origin} has integer values ({examples.values.dtype}) of a range not stated; expected "
            "--samples-range, for 8-bit pixels --samples-range 0 255"
        )
    return Samples(
        values if known is None else rescaled(values, checked_range(known, "samples_range"), like.data_range)
    )


def _table_samples(part: Examples | Frame, data_range: Range | None, like: DataSet) -> Samples:
    if data_range is not None:
        raise InputError(f"samples_range: {like.name} is a table, which is encoded; expected no range")
    frame = part if isinstance(part, Frame) else numbered(part)
    if len(frame) < 2:
        raise InputError(f"samples: {frame.origin} has {len(frame)} rows; expected at least 2")
    assert like.table is not None
    return Samples(*like.table.encode_frame(frame))


def _in_memory(
    x: np.ndarray | Tensor, labels: np.ndarray | Tensor | None, groups: np.ndarray | Tensor | None, argument: str
) -> Examples:
    known = None if labels is None else _as_numpy(labels)
    examples = examples_of_array(_as_numpy(x), argument, "the array", known)
    if groups is None:
        return examples
    ids = _as_numpy(groups)
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise InputError(
            f"groups: got {ids.dtype} of shape {ids.shape}; expected whole numbers or texts, one an example"
        )
    return replace(examples, identities={"groups": lambda: ids.astype(np.str_).astype(object)})


def _as_numpy(x: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return x
    # NumPy has no bfloat16
    return (x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy()

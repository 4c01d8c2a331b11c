"""From what was read to a `DataSet`: groups, kinds and encoding, the range, the split, and only then tensors.

Without held-out examples, some are split off at random. This is wrong for a model trained elsewhere on all of them,
which needs held-out examples of its own.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .as_tensors import Indices, all_stay_bytes, as_tensors
from .dataset import FEWEST, DataSet, drawn
from .examples import Examples, Source, laid_out
from .groups import Part, codes_of, ids_of
from .kinds import require_kind
from .range_of import BY_VALUES, range_of
from .raw_column import raw_column
from .split import group_split, random_split
from .table import Frame, Table, fit_frames
from .value_range import Range, in_words

HALF = 0.5  # held out, unless another share is asked for


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user decides about data: see `load_data`."""

    kind: str = "auto"
    group: str | None = None
    heldout_group: str | None = None
    data_range: Range | None = None
    train_limit: int | None = None
    heldout_fraction: float = HALF
    seed: int = 0


def assembled(source: Source, choices: Choices) -> DataSet:
    """The data set; InputError with the first mistake found."""
    require_kind(choices.kind)
    read = [source.train] if source.heldout is None else [source.train, source.heldout]
    ids = ids_of(source.train, source.heldout, choices.group, choices.heldout_group)
    names = tuple(sorted({name for side in ids if side is not None for name in side}))
    groups, heldout_groups = (None if side is None else codes_of(side, names) for side in ids)
    parts, table, notes = in_library_layout(read, choices)
    train, held = parts[0], parts[-1]
    if held.event_shape != train.event_shape:
        raise InputError(
            f"{held.argument}: {held.origin} has examples of shape {held.event_shape}; "
            f"expected {train.event_shape} as in {train.origin}"
        )
    if len(parts) == 1:
        index, heldout_index, origin = _split(train, groups, choices)
        heldout_groups = groups
    else:
        index, heldout_index = every(train), every(held)
        origin = f"{train.origin}, {len(train)} examples, against {held.origin}, {len(held)} examples"
    if choices.train_limit is not None:
        index = index[drawn(len(index), choices.train_limit, "train_limit", choices.seed)]
        origin += f"; of the training examples {len(index)} drawn at random (seed {choices.seed})"
    chosen = [(train, index), (held, heldout_index)]
    _require_memory(chosen)
    stated, how = range_of(parts, choices.data_range)
    labels, heldout_labels = _labels(parts)
    if labels is not None and groups is not None and _same_division(labels, groups):
        # folders of patients are no classes: no patient on one side would have a label of the other
        labels = heldout_labels = None
    values, heldout_values = as_tensors(chosen)
    data = DataSet(
        name=source.name,
        train=values,
        heldout=heldout_values,
        data_range=stated,
        provenance=f"{origin}; range {in_words(stated)} {how}",
        train_index=index,
        heldout_index=heldout_index,
        train_labels=None if labels is None else labels[index],
        heldout_labels=None if heldout_labels is None else heldout_labels[heldout_index],
        kind=train.kind,
        table=table,
        train_groups=None if groups is None else groups[index],
        heldout_groups=None if heldout_groups is None else heldout_groups[heldout_index],
        group_names=names,
        notes=notes,
        split_at_random=len(parts) == 1,
        units_known=how != BY_VALUES or train.kind in ("images", "table"),
    )
    _require_different(data, train, held)
    return data


def numbered(examples: Examples) -> Frame:
    """An array (n, columns) as a table whose columns go by their numbers."""
    if examples.values.ndim != 2 or 0 in examples.values.shape:
        raise InputError(
            f"{examples.argument}: {examples.origin} has shape {examples.values.shape}; "
            "expected (n, columns), as --kind table takes"
        )
    return Frame(
        examples.argument,
        examples.origin,
        {
            str(i): raw_column(np.asarray(column), examples.argument, f"column {i} of {examples.origin}")
            for i, column in enumerate(examples.values.T)
        },
    )


def every(examples: Examples) -> Int64[Tensor, " n"]:
    """The positions of all examples; InputError for a single one."""
    if len(examples) < FEWEST:
        raise InputError(f"{examples.argument}: {examples.origin} has one single example; expected at least {FEWEST}")
    return torch.arange(len(examples))


def in_library_layout(read: list[Part], choices: Choices) -> tuple[list[Examples], Table | None, tuple[str, ...]]:
    """The parts in the library's layout, and the table that encodes them, if they are one."""
    if not any(isinstance(part, Frame) for part in read) and choices.kind != "table":
        return [laid_out(part, choices.kind) for part in read if isinstance(part, Examples)], None, ()
    if choices.kind == "table":
        read = [part if isinstance(part, Frame) else numbered(part) for part in read]
    frames = [part for part in read if isinstance(part, Frame)]
    if len(frames) < len(read):
        which = " and ".join(f"{part.origin} is {'a' if isinstance(part, Frame) else 'no'} table" for part in read)
        raise InputError(f"{read[-1].argument}: {which}; expected two tables or none")
    if choices.kind not in ("auto", "table"):
        raise InputError(
            f"kind: got {choices.kind}, and {read[0].origin} is a table; expected auto or table (for values as they "
            "are, a .npy file)"
        )
    if choices.data_range is not None:
        raise InputError(f"data_range: {read[0].origin} is a table, which is encoded; expected no range")
    column = choices.group if choices.group in frames[0].columns else None
    if column is not None:
        # two rows of one unit are not nearer for it
        units = [column, choices.heldout_group or column]
        frames = [frame.without(unit) for frame, unit in zip(frames, units, strict=False)]
    table, notes = fit_frames(frames)
    if column is not None:
        table = replace(table, left_out=(*table.left_out, column))  # samples may have it, and need not
    parts = [
        Examples(frame.argument, frame.origin, table.encode_frame(frame)[0].numpy(), kind="table") for frame in frames
    ]
    return parts, table, notes


def _split(
    train: Examples, groups: Int64[Tensor, " n"] | None, choices: Choices
) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " heldout"], str]:
    """A random split, by groups where there are any, and in words."""
    fraction, seed, n, by = choices.heldout_fraction, choices.seed, len(train), ""
    if groups is None:
        index, heldout_index = random_split(n, fraction, seed, train.argument, train.origin)
    else:
        index, heldout_index = group_split(groups, fraction, seed, train.argument, train.origin)
        by = f" by {choices.group}, {len(groups.unique())} groups,"
    sizes = f"{len(index)} + {len(heldout_index)}"
    return index, heldout_index, f"{train.origin}, {n} examples split at random{by} into {sizes} (seed {seed})"


def _require_memory(chosen: Indices) -> None:
    """InputError, before anything is converted, for more examples than there is memory for in float32."""
    if all_stay_bytes(chosen):
        return
    (train, index), (held, heldout_index) = chosen
    counts = (
        [(train, len(index) + len(heldout_index))]
        if held is train
        else [(train, len(index)), (held, len(heldout_index))]
    )
    for part, n in counts:
        size = 4.0 * n * np.prod(part.event_shape, dtype=float)
        require_memory(size, part.argument, f"{part.origin}, {n:,} examples of shape {part.event_shape},")


def _require_different(data: DataSet, train: Examples, held: Examples) -> None:
    if data.duplicates == len(data.train) - 1:
        raise InputError(
            f"{train.argument}: the {len(data.train)} training examples of {train.origin} are all the same; "
            "expected examples that vary"
        )
    if data.shared == len(data.heldout):
        raise InputError(
            f"{held.argument}: every one of the {len(data.heldout)} held-out examples is also a training example; "
            "expected examples that were not trained on"
        )


def _same_division(labels: Tensor, groups: Tensor) -> bool:
    """Whether each label is one group, and each group has one label."""
    pairs = len(torch.stack([labels, groups]).unique(dim=1)[0])
    return pairs == len(labels.unique()) == len(groups.unique())


def _labels(parts: list[Examples]) -> tuple[Tensor | None, Tensor | None]:
    """The labels of training and held-out examples, the same number for the same name."""
    train, held = parts[0], parts[-1]
    if train.label_names and held.label_names and held.labels is not None and train.label_names != held.label_names:
        names = [*train.label_names, *(name for name in held.label_names if name not in train.label_names)]
        place = np.array([names.index(name) for name in held.label_names])
        held = replace(held, labels=place[held.labels])
    first, second = (None if part.labels is None else torch.from_numpy(part.labels) for part in (train, held))
    return first, second

"""The distance to the optimum, logged during training: as JSON lines and, optionally, to TensorBoard.

One record per line, `{"step": 500, "levels": [{"noise_to_signal": .., "train": {"excess": .., ..}, ..}, ..]}`, flushed
to the disk as a whole line. Held-out examples have the key "unseen"; NaN and infinity, which JSON lacks, are null. The
file is exactly the history of the run: whatever a killed process wrote after its last checkpoint, or left half written,
is removed when the run resumes, and the repeated steps write it again.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError
from diffuscope.files import append_line, json_line, replace_atomically, whole_lines

from .optimum import Distance, Excess, LevelDistance, Optimum


@dataclass(frozen=True, eq=False)
class DistanceLog:
    """Where the distance is logged: before the first step, after every `every`-th step, and after the last.

    `path` is a file of JSON lines, `tensorboard` a folder of TensorBoard events; either may be None. Raises InputError
    for `every` < 1.

    >>> import torch
    >>> from diffuscope import Empirical, ExactDenoiser, VE
    >>> from diffuscope.training import DistanceLog, Optimum
    >>> denoiser = ExactDenoiser(Empirical(torch.tensor([[3.0]])), VE())
    >>> log = DistanceLog(Optimum.of(denoiser, torch.tensor([[3.0]]), noise_to_signal=(0.5,)), every=4)
    >>> [step for step in range(11) if log.is_due(step, steps=10)]
    [0, 4, 8, 10]
    """

    optimum: Optimum
    every: int = 500
    path: Path | None = None
    tensorboard: Path | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"every: expected a whole number of steps >= 1, got {self.every}")

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the distance is measured after `step` of `steps`."""
        return step % self.every == 0 or step == steps


class OpenLog:
    """A `DistanceLog` that is being written, for a run that continues after `step`; `resumed` if from a checkpoint.

    Raises InputError if the file holds anything else or cannot be written, and if TensorBoard is not installed.
    """

    def __init__(self, log: DistanceLog, step: int, *, resumed: bool) -> None:
        self.log = log
        self.last: Distance | None = None
        if log.path is not None:
            # read even if nothing is kept: a file of anything else is refused before it is replaced
            distances = read_distances(log.path) if log.path.exists() else []
            kept = [distance for distance in distances if resumed and distance.step <= step]
            self.last = kept[-1] if kept else None
            try:
                replace_atomically(log.path, b"".join(json_line(asdict(distance)) for distance in kept))
            except OSError as error:
                raise InputError(f"log: cannot write {log.path}: {error.strerror or error}") from error
        self._board = None if log.tensorboard is None else _board(log.tensorboard, step + 1 if resumed else 0)

    def write(self, distance: Distance) -> None:
        """Append one record, unless its step has been written already."""
        if self.last is not None and distance.step <= self.last.step:
            return
        if self.log.path is not None:
            try:
                append_line(self.log.path, json_line(asdict(distance)))
            except OSError as error:
                raise InputError(f"log: cannot write {self.log.path}: {error.strerror or error}") from error
        if self._board is not None:
            for name, value in _scalars(distance).items():
                self._board.add_scalar(name, value, distance.step)
        self.last = distance

    def close(self) -> None:
        """Let TensorBoard write its buffer."""
        if self._board is not None:
            self._board.close()


def read_distances(path: Path) -> list[Distance]:
    """The records of a log, in the order of their steps; a truncated last line is left out.

    Raises InputError if the file cannot be read or holds anything else.

    >>> import json
    >>> from dataclasses import asdict
    >>> from pathlib import Path
    >>> from diffuscope.training import Distance, Excess, LevelDistance, read_distances
    >>> distance, path = Distance(500, (LevelDistance(0.5, Excess(0.25, 0.01, 0.5, 0.0), None),)), Path("log.jsonl")
    >>> _ = path.write_text(json.dumps(asdict(distance)) + '\\n{"step": 1000, "lev')
    >>> read_distances(path) == [distance]
    True
    """
    try:
        lines = whole_lines(path)
    except OSError as error:
        raise InputError(f"log: cannot read {path}: {error.strerror or error}") from error
    distances = []
    for number, line in enumerate(lines, start=1):
        try:
            distances.append(_distance(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"log: line {number} of {path} is no record of a distance; name another file") from error
    return distances


def _distance(record: Mapping[str, Any]) -> Distance:
    levels = tuple(
        LevelDistance(
            level["noise_to_signal"],
            _excess(level["train"]),
            None if level["unseen"] is None else _excess(level["unseen"]),
        )
        for level in record["levels"]
    )
    return Distance(int(record["step"]), levels)


def _excess(record: Mapping[str, float | None]) -> Excess:
    return Excess(**{name: math.nan if value is None else value for name, value in record.items()})


def _scalars(distance: Distance) -> dict[str, float]:
    scalars = {}
    for level in distance.levels:
        for name, excess in (("train", level.train), ("unseen", level.unseen)):
            if excess is not None:
                scalars[f"excess/{name}/{level.noise_to_signal:.3g}"] = excess.excess
                scalars[f"loss/{name}/{level.noise_to_signal:.3g}"] = excess.loss
    return scalars


def _board(folder: Path, purge_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tensorboard: expected the package tensorboard, which is not installed; pip install "
            "'diffuscope[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=purge_step)

"""The distance to the optimum, written down while a run goes on: JSON lines and, if asked for, TensorBoard.

One record per line, `{"step": 500, "levels": [{"noise_to_signal": .., "train": {"excess": .., ..}, ..}, ..]}`, flushed
to the disk as a whole line. The file is the history of the run up to now, and nothing else: what a killed process wrote
beyond its last checkpoint, or left half written, is removed when the run resumes, and written again by the same steps.
Numbers that JSON lacks (NaN, infinity) are null.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError
from diffuscope.files import finite, replace_atomically

from .optimum import Distance, Excess, LevelDistance, Optimum


@dataclass(frozen=True)
class DistanceLog:
    """What to measure and where to write it: before the first step, after every `every`-th, and after the last.

    `path` is a file of JSON lines, `tensorboard` a folder of TensorBoard events; either may be None. Raises InputError
    for `every` < 1.
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
    """A `DistanceLog` that is being written, for a run that goes on after `step`; `resumed` if from a checkpoint.

    Raises InputError for a file of something else, for a place that cannot be written, and where TensorBoard is asked
    for and not installed.
    """

    def __init__(self, log: DistanceLog, step: int, *, resumed: bool) -> None:
        self.log = log
        self.last: Distance | None = None
        if log.path is not None:
            kept = [d for d in read_distances(log.path) if d.step <= step] if log.path.exists() and resumed else []
            self.last = kept[-1] if kept else None
            _rewrite(log.path, kept)
        self._board = None if log.tensorboard is None else _board(log.tensorboard, step + 1 if resumed else 0)

    def write(self, distance: Distance) -> None:
        """Append one record; a step that is there already is not written twice."""
        if self.last is not None and distance.step <= self.last.step:
            return
        if self.log.path is not None:
            try:
                with self.log.path.open("ab") as file:
                    file.write(_line(distance))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise InputError(f"log: cannot write {self.log.path}: {error.strerror or error}") from error
        if self._board is not None:
            for name, value in _scalars(distance).items():
                self._board.add_scalar(name, value, distance.step)
        self.last = distance

    def close(self) -> None:
        """Let TensorBoard write what it holds."""
        if self._board is not None:
            self._board.close()


def read_distances(path: Path) -> list[Distance]:
    """The records of a log, in the order of their steps; a last line that was cut off is left out.

    Raises InputError for a file that cannot be read or that holds something else.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last end of line is not whole
    except OSError as error:
        raise InputError(f"log: cannot read {path}: {error.strerror or error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_distance(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"log: line {number} of {path} is no record of a distance; name another file") from error
    return found


def _rewrite(path: Path, kept: list[Distance]) -> None:
    if path.exists():
        read_distances(path)  # not a file of ours: refused before it is replaced
    try:
        replace_atomically(path, b"".join(_line(distance) for distance in kept))
    except OSError as error:
        raise InputError(f"log: cannot write {path}: {error.strerror or error}") from error


def _line(distance: Distance) -> bytes:
    return json.dumps(finite(asdict(distance)), allow_nan=False).encode() + b"\n"


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

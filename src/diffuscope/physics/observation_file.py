r"""Readings from a file: a CSV table or a NumPy archive with the same names.

| columns | what they are |
|---|---|
| `x`; `x`, `y`; `t`, `x` | the coordinates, in the domain of the problem |
| `channel`, `value` | the name of a channel (`solution` where the column is absent) and what was read there |
| or one column per channel | `solution`, `coefficient`, `forcing`: an empty cell was not read |
| `noise` | the standard deviation of the values of a row, 0 for exact ones; absent, it is the same for all and given |

Lines of a CSV file that begin with `#` are comments, and one like `# x: m` or `# solution: K` states a unit.
"""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from diffuscope.errors import InputError

from .problem import Problem
from .sensors import Sensors, axis_names, require_readings

Columns = dict[str, list[str]]
LARGEST = 10**7  # bytes of a file of readings


def read_sensors(path: str | Path, problem: Problem, noise: float | int | None = None) -> Sensors:
    """The readings of a file for a problem; `noise` is their standard deviation where the file has no such column.

    Raises InputError, with the row, for columns of other names, cells that are no numbers, and whatever
    `require_readings` refuses; and for noise that is neither in the file nor given, or both.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diffuscope.physics import PROBLEMS, read_sensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (path := Path(folder, "rod.csv")).write_text("x,solution,forcing\\n0.25,3,\\n0.5,,16\\n")
    ...     sensors = read_sensors(path, PROBLEMS["poisson-1d"](), noise=0.1)
    >>> sensors.points[:, 0].tolist(), sensors.channels.tolist(), sensors.values.tolist()
    ([0.25, 0.5], [1, 0], [3.0, 16.0])
    """
    path = Path(path)
    columns, rows, units = _read(path)
    names = axis_names(problem)
    allowed = [*names, "channel", "value", *problem.channels, "noise"]
    units = tuple((name, unit) for name, unit in units if name in allowed)
    _require_names(path, columns, names, problem, allowed)
    _require_one_noise(path, "noise" in columns, noise)
    places, channels, values, sds, kept = [], [], [], [], []
    for i, row in enumerate(rows):

        def number(name: str, i: int = i, row: int = row) -> float:
            return _number(columns[name][i], path, row, name)

        for channel, column in _readings(columns, problem, i, path, row):
            places.append([number(name) for name in names])
            channels.append(channel)
            values.append(number(column))
            sds.append(number("noise") if "noise" in columns else float(noise or 0.0))
            kept.append(row)
    sensors = Sensors(
        points=torch.tensor(places, dtype=torch.float64).reshape(-1, len(names)),
        channels=torch.tensor(channels, dtype=torch.long),
        values=torch.tensor(values, dtype=torch.float64),
        noise=torch.tensor(sds, dtype=torch.float64),
        rows=tuple(kept), units=units, origin=str(path),
    )  # fmt: skip
    return require_readings(sensors, problem, "data")


def _require_one_noise(path: Path, inside: bool, noise: float | int | None) -> None:
    if inside and noise is not None:
        raise InputError(f"noise: expected nothing, as {path} has a column noise, got {noise:g}")
    if not inside and noise is None:
        raise InputError(
            f"noise: expected the standard deviation of the values (0 for exact ones), as {path} has no column noise; "
            "got none"
        )


def _require_names(path: Path, columns: Columns, names: tuple[str, ...], problem: Problem, allowed: list[str]) -> None:
    has = ", ".join(columns)
    channels = " or ".join(problem.channels)
    expected = f"expected {', '.join(names)}, then value (and channel) or {channels}, and optionally noise"
    unknown = [name for name in columns if name not in allowed]
    missing = [name for name in names if name not in columns]
    if missing or unknown:
        fault = f"no column {missing[0]}" if missing else f"the column {unknown[0]!r}"
        raise InputError(f"data: {path} has {fault} (it has {has}); {expected}")
    named = [name for name in problem.channels if name in columns]
    if ("value" in columns) == bool(named) or ("channel" in columns and named):
        raise InputError(f"data: {path} has the columns {has}; {expected}")


def _readings(columns: Columns, problem: Problem, i: int, path: Path, row: int) -> list[tuple[int, str]]:
    """(channel, column) of everything that was read in one row."""
    if "value" not in columns:
        found = [(k, name) for k, name in enumerate(problem.channels) if columns.get(name, [""] * (i + 1))[i]]
        if not found:
            raise InputError(f"data: {path}, row {row}: expected a value, got none")
        return found
    name = columns["channel"][i] if "channel" in columns else "solution"
    if name not in problem.channels:
        raise InputError(f"data: {path}, row {row}: expected channel {' or '.join(problem.channels)}, got {name!r}")
    return [(problem.channels.index(name), "value")]


def _number(text: str, path: Path, row: int, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"data: {path}, row {row}: expected a number for {name}, got {text!r}") from None


def _read(path: Path) -> tuple[Columns, tuple[int, ...], tuple[tuple[str, str], ...]]:
    """The columns as texts, the numbers of the rows, and the units."""
    if path.suffix.lower() not in (".csv", ".npz"):
        raise InputError(f"data: expected a file .csv or .npz, got {path}")
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= LARGEST else b""
    except (OSError, ValueError) as error:
        raise InputError(f"data: cannot read {path} ({getattr(error, 'strerror', None) or error})") from None
    if size > LARGEST:
        raise InputError(f"data: expected at most {LARGEST / 1e6:g} MB of readings, got {size / 1e6:.0f} MB in {path}")
    return _of_csv(content, path) if path.suffix.lower() == ".csv" else _of_npz(content, path)


def _of_csv(content: bytes, path: Path) -> tuple[Columns, tuple[int, ...], tuple[tuple[str, str], ...]]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"data: expected a table of UTF-8 text, got other bytes in {path}") from None
    comments = [line.lstrip("# \t") for line in lines if line.lstrip().startswith("#")]
    numbered = [(k, line) for k, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    try:
        cells = [[cell.strip() for cell in row] for row in csv.reader([line for _, line in numbered], strict=True)]
    except csv.Error as error:
        raise InputError(f"data: {path} is no table ({error}); expected comma-separated columns") from None
    if len(cells) < 2:
        raise InputError(f"data: {path} is empty; expected a row of names and at least one reading")
    header = cells[0]
    if len(set(header)) < len(header):
        raise InputError(f"data: {path} has a column twice, {', '.join(header)}; expected each name once")
    for (row, _), found in zip(numbered, cells, strict=False):
        if len(found) != len(header):
            raise InputError(f"data: {path}, row {row}: expected {len(header)} cells, got {len(found)}")
    columns = {name: [row[k] for row in cells[1:]] for k, name in enumerate(header)}
    units = tuple(
        (name.strip(), unit.strip()) for name, colon, unit in (comment.partition(":") for comment in comments) if colon
    )
    return columns, tuple(row for row, _ in numbered[1:]), units


def _of_npz(content: bytes, path: Path) -> tuple[Columns, tuple[int, ...], tuple[tuple[str, str], ...]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if sum(member.file_size for member in archive.zip.infolist()) > 10 * LARGEST:
                raise InputError(
                    f"data: expected at most {LARGEST / 1e5:g} MB of readings, unpacked, got more in {path}"
                )
            arrays = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"data: {path} cannot be read ({reason}); expected an archive of numpy.savez") from None
    if not all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays.values()):
        raise InputError(f"data: {path} has arrays of other than one axis; expected one value per reading in each")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        shown = ", ".join(f"{name} {n}" for name, n in lengths.items()) or "nothing"
        raise InputError(f"data: {path} has {shown}; expected arrays of one length, with at least one reading")
    count = next(iter(lengths.values()))
    columns = {name: [_text(value) for value in array.tolist()] for name, array in arrays.items()}
    return columns, tuple(range(1, count + 1)), ()


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

"""Tables from files: `.csv` and `.tsv`, also `.csv.gz`, with pandas, and `.parquet` with pyarrow (an extra).

A CSV file begins with the names of its columns. Empty cells and the words that pandas knows (NA, NaN, null, None) are
missing. A column without a name, as `DataFrame.to_csv` writes the index, is no column of the table. Nothing in a file
is evaluated.
"""

import gzip
import warnings
import zlib
from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .extras import not_installed
from .table import Frame, as_frame, listed

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def is_table_file(path: Path) -> bool:
    """Whether a file has the name of a table of texts."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, argument: str) -> Frame:
    """The columns of a CSV or TSV file.

    Raises InputError if pandas is not installed, for a file that is damaged, empty or not rectangular, and for names of
    columns that repeat or are numbers.
    """
    try:
        import pandas
    except ImportError:
        raise not_installed(argument, path, "pandas", "tables") from None
    require_memory(8.0 * _size(path, argument), argument, f"{path}, as a table,")
    separator = "\t" if ".tsv" in path.name.lower() else ","
    try:
        header = pandas.read_csv(path, sep=separator, header=None, nrows=1, dtype=str)
        cells = header.iloc[0].tolist()
        names = [f"Unnamed: {i}" if name != name else str(name).strip() for i, name in enumerate(cells)]
        _require_names(names, argument, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of rows that are too long
            table = pandas.read_csv(
                path, sep=separator, header=0, names=range(len(names)), index_col=False, low_memory=False
            )
    except InputError:
        raise
    except pandas.errors.EmptyDataError:
        raise InputError(f"{argument}: {path} is empty; expected a table with columns and rows") from None
    except (pandas.errors.ParserError, pandas.errors.ParserWarning) as error:
        raise InputError(
            f"{argument}: {path} has lines of different lengths or quotation marks that do not match"
            f"{_line(error)}; expected as many values in each line as there are columns"
        ) from None
    except (OSError, ValueError, EOFError, zlib.error):
        raise InputError(f"{argument}: {path} cannot be read, it is damaged or not UTF-8; expected a table") from None
    if len(table) == 0:
        raise InputError(f"{argument}: {path} has no rows; expected a table with columns and rows")
    return as_frame({name: table[i] for i, name in enumerate(names)}, argument, str(path))


def _require_names(names: list[str], argument: str, path: Path) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{argument}: {path} has several columns {listed(repeated)}; expected each name once")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise InputError(
            f"{argument}: the names in {path} are separated by {';' if ';' in names[0] else 'tabs'}; expected commas "
            "in a .csv file and tabs in a .tsv file"
        )
    if names and all(_is_number(name) for name in names):
        raise InputError(f"{argument}: {path} begins with numbers, {listed(names)}; expected the names of the columns")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _line(error: Exception) -> str:
    """Where the parser stopped, as far as it says so."""
    words = str(error).split(" in line ")
    return f" (line {words[1].split(',')[0]})" if len(words) > 1 else ""


def _size(path: Path, argument: str) -> float:
    """The bytes of a file, unpacked; those of a gzip file are counted without keeping them."""
    if path.suffix.lower() != ".gz":
        return float(path.stat().st_size)
    size = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(2**20):
                size += len(block)
                require_memory(8.0 * size, argument, f"{path}, as a table,")
    except (OSError, EOFError, zlib.error):
        raise InputError(
            f"{argument}: {path} cannot be read, it is truncated or damaged; expected a whole file"
        ) from None
    return float(size)

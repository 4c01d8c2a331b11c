"""Examples from a Parquet file, read with pyarrow (an extra); for what its columns are see `arrow_table`."""

from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .arrow_table import features_of, part_of_arrow
from .examples import Source
from .extras import not_installed


def read_parquet(path: Path, column: str | None, argument: str) -> Source:
    """The examples of a file, or of its column `column`.

    Raises InputError if pyarrow is not installed, for a file that is damaged or empty, and for columns of which it is
    not clear which are the examples.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise not_installed(argument, path, "pyarrow", "tables") from None
    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            claimed = max(2.0 * sum(group.total_byte_size for group in groups), 8.0 * file.metadata.num_rows)
            require_memory(claimed, argument, f"{path}, unpacked,")
            batches, size = [], 0.0
            for batch in file.iter_batches():
                batches.append(batch)
                size += batch.nbytes
                # a word of many rows is stored once and unpacked for each
                require_memory(batch.nbytes, argument, f"{path}, unpacked beyond {size / 1e9:.3g} GB,")
            table = pyarrow.Table.from_batches(batches, schema=file.schema_arrow)
        return Source(path.stem, part_of_arrow(table, features_of(table), argument, str(path), [path], column))
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError):
        raise InputError(
            f"{argument}: {path} cannot be read, it is truncated, damaged or no Parquet file; expected a whole one"
        ) from None

"""Data sets by name, from files, folders and arrays."""

from .canaries import Canaries, load_canaries, make_canaries, training_arrays
from .data_set_statistics import ClassStatistics, DataStatistics
from .dataset import DataSet
from .fetch import Fetched, fetch_data
from .kinds import KINDS, Kind
from .load import Samples, data_from_arrays, load_data, load_samples, read_samples, toy_data
from .named import NAMES
from .owners import load_owners
from .places import cache_folder, complete, data_folder, found
from .registry import PUBLISHED, DataFile, Published
from .spectrum import spectrum_chart
from .statistics_of import ClassKind, data_statistics
from .stream import ExampleStream, open_stream
from .table import Table, fit_table
from .table_column import Column

__all__ = [
    "KINDS", "NAMES", "PUBLISHED", "Canaries", "ClassKind", "ClassStatistics", "Column", "DataFile", "DataSet",
    "DataStatistics", "ExampleStream", "Fetched", "Kind", "Published", "Samples", "Table", "cache_folder", "complete",
    "data_folder", "data_from_arrays", "data_statistics", "fetch_data", "fit_table", "found", "load_canaries",
    "load_data", "load_owners", "load_samples", "make_canaries", "open_stream", "read_samples", "spectrum_chart",
    "toy_data", "training_arrays",
]  # fmt: skip

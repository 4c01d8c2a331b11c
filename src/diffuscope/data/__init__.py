"""Data sets by name, from files, folders and arrays."""

from .canaries import Canaries, load_canaries, make_canaries, training_arrays
from .dataset import DataSet
from .fetch import Fetched, fetch_data
from .load import data_from_arrays, load_data, load_samples, toy_data
from .named import NAMES
from .owners import load_owners
from .places import cache_folder, complete, data_folder, found
from .registry import PUBLISHED, DataFile, Published

__all__ = [
    "NAMES", "PUBLISHED", "Canaries", "DataFile", "DataSet", "Fetched", "Published", "cache_folder", "complete",
    "data_folder", "data_from_arrays", "fetch_data", "found", "load_canaries", "load_data", "load_owners",
    "load_samples", "make_canaries", "toy_data", "training_arrays",
]  # fmt: skip

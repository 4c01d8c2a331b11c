"""Data sets by name, from files, folders and arrays."""

from .dataset import DataSet
from .fetch import Fetched, fetch_data
from .load import data_from_arrays, load_data, load_samples, toy_data
from .named import NAMES
from .places import cache_folder, complete, data_folder, found
from .registry import PUBLISHED, DataFile, Published

__all__ = [
    "NAMES", "PUBLISHED", "DataFile", "DataSet", "Fetched", "Published", "cache_folder", "complete", "data_folder",
    "data_from_arrays", "fetch_data", "found", "load_data", "load_samples", "toy_data",
]  # fmt: skip

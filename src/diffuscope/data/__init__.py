"""Data sets by name, from files, folders and arrays."""

from diffuscope.data.dataset import DataSet
from diffuscope.data.load import data_from_arrays, load_data, load_samples, toy_data
from diffuscope.data.named import NAMES, data_folder

__all__ = ["NAMES", "DataSet", "data_folder", "data_from_arrays", "load_data", "load_samples", "toy_data"]

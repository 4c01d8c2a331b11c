"""The second model of an audit and its training data, from what was typed."""

from diffuscope.adapters import load_model
from diffuscope.audit.second_model import SecondModel, named_second
from diffuscope.data import DataSet, read_samples
from diffuscope.data.value_range import Range
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from .weights import print_warnings


def load_second(model: str) -> Denoiser:
    """As `load_model`, for --second-model."""
    with named_second():
        denoiser = load_model(model)
    print_warnings(denoiser)
    return denoiser


def second_model(
    denoiser: Denoiser, name: str, data: str | None, data_range: Range | None, *, loaded: DataSet, used: DataSet
) -> SecondModel:
    """`denoiser` with its training data: in the units of the `loaded` data, in one step in the range of those `used`.

    Raises InputError for data of another shape.
    """
    if data is None:
        return SecondModel(denoiser, None, name)
    known = None if used.table is not None else data_range or loaded.data_range
    try:
        return SecondModel(denoiser, read_samples(data, known, like=used).values, name)
    except InputError as error:
        text = str(error)
        if not text.startswith("samples:"):
            raise
        raise InputError(f"second_data:{text.removeprefix('samples:')}") from error

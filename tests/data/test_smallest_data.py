"""The fewest rows, the smallest volumes, names of classes at both ends, categories in a tie, marks and notes."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pyarrow as pa
import pytest
import torch

from diffuscope.data import load_data, read_samples, spectrum, spectrum_chart, statistics_of
from diffuscope.data.arrow_table import _raw
from diffuscope.data.examples import Examples
from diffuscope.data.nifti_folder import read_nifti_folder
from diffuscope.data.statistics_of import ACCURATE, _Fit
from diffuscope.data.stream import ExampleStream
from diffuscope.data.table_column import Column
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.exact.spectral import LARGEST_DENSE
from diffuscope.findings import Rule


def test_two_rows_are_the_fewest_samples_of_a_table(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("size\n" + "\n".join(str(k) for k in range(20)))
    table = load_data(str(path))
    path.write_text("size\n2\n3\n")
    assert len(read_samples(str(path), None, like=table).values) == 2
    path.write_text("size\n2\n")
    with pytest.raises(InputError, match=r"^samples: .*rows.csv has 1 rows; expected at least 2"):
        read_samples(str(path), None, like=table)


def test_the_first_and_the_last_number_of_a_class_have_names_and_no_others() -> None:
    features = {"y": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    found = _raw(pa.table({"y": [-1, 0, 1, 2]}), "y", features, "data", "x")
    assert [None if missing else value for value, missing in zip(found.values, found.missing, strict=True)] == [
        None, "cat", "dog", None,
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "read"), [((1, 1, 1), True), ((1, 2, 3), True), ((2, 3), False)])
def test_a_volume_may_be_one_voxel_thick(shape: tuple[int, ...], read: bool, tmp_path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full(shape, 7, np.float32), np.eye(4)), tmp_path / "a.nii")
    if read:
        found = read_nifti_folder(tmp_path, "data").train
        assert isinstance(found, Examples)
        assert found.values.shape == (1, 1, *shape)
    else:
        with pytest.raises(InputError, match="expected one volume"):
            read_nifti_folder(tmp_path, "data")


@pytest.mark.parametrize(("second", "found"), [(-0.25, "a"), (-0.2578125, "(other)"), (-0.2421875, "a")])
def test_a_row_as_near_to_another_category_as_to_a_known_one_is_of_the_known_one(second: float, found: str) -> None:
    """Of eight categories at c = 1 another one is at a = -1/4: |z - e_1|^2 = |z - a|^2 where sum z = 1 - 4 z_1 = 0."""
    column = Column(name="x", kind="categorical", start=0, stop=8, scale=1.0, missing=0.0, categories=tuple("abcdefgh"))
    row = torch.tensor([[0.25, second, *6 * [0.0]]])
    assert column.decode(row).tolist() == [found]


@pytest.mark.parametrize(("level", "marks"), [(0.0, 1), (0.5, 2), (1.75, 2), (2.0, 1), (2.5, 1)])
def test_a_level_is_marked_within_the_spectrum_alone(level: float, marks: int, monkeypatch) -> None:
    """The largest standard deviation is 2: at this and higher levels the whole sample is too small."""
    gaussian = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([4.0, 1.0]), count=100)
    monkeypatch.setattr(spectrum, "reliable_from", lambda _: level)
    found = spectrum_chart(gaussian).panels[0].marks
    assert len(found) == marks
    assert [mark.at for mark in found if isinstance(mark, Rule)] == [level**2][: marks - 1]


@pytest.mark.parametrize(("gain", "notes"), [(ACCURATE, 0), (float(np.nextafter(ACCURATE, 1)), 1)])
def test_eigenvalues_that_gained_as_much_as_is_accurate_need_no_note(gain: float, notes: int, monkeypatch) -> None:
    pairs = SimpleNamespace(last_gain=torch.tensor([0.0, gain], dtype=torch.float64))
    isotropic = Gaussian.isotropic(torch.zeros(1), 1.0)
    monkeypatch.setattr(statistics_of, "leading_pairs", lambda *_, **__: pairs)
    monkeypatch.setattr(statistics_of, "Gaussian", SimpleNamespace(of_leading=lambda _: isotropic))
    stream = ExampleStream("x", np.zeros((2, LARGEST_DENSE + 1), np.float32), (0.0, 1.0), "vectors")
    fit = _Fit(stream, 1, 2, 0, False)
    assert fit(lambda: iter([]), 2, "the data").trace == 1
    assert len(fit.notes) == notes

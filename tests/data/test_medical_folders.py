"""DICOM images in the units of their modality and NIfTI volumes, with the patient as a group."""

import gzip
import struct
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dicom_folders import dicom, scans

from diffuscope.data import DataSet, load_data
from diffuscope.errors import InputError


def in_order(data: DataSet) -> torch.Tensor:
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


@pytest.mark.parametrize("group", ["patient", "folder"])
def test_dicom_images_are_in_the_units_of_their_modality(tmp_path: Path, group: str):
    pixels = scans(tmp_path)
    data = load_data(str(tmp_path), group=group)
    assert np.array_equal(in_order(data)[:, 0].numpy(), (2.0 * pixels - 1024.0).astype(np.float32))
    assert data.data_range == (-1024.0, 2 * 4095 - 1024.0)
    assert data.kind == "images"
    assert data.group_names == tuple(f"{'patient ' if group == 'patient' else 'p'}{k}" for k in range(4))
    assert data.train_groups is not None
    assert data.heldout_groups is not None
    assert not set(data.train_groups.tolist()) & set(data.heldout_groups.tolist())


def test_signed_pixels_keep_their_sign(tmp_path: Path):
    values = np.random.default_rng(0).integers(-2000, 2000, (6, 6, 5))
    for i, image in enumerate(values):
        dicom(tmp_path / f"{i}.dcm", image.astype(np.int16), "p", PixelRepresentation=1, RescaleSlope=None,
              RescaleIntercept=None)  # fmt: skip
    data = load_data(str(tmp_path))
    assert np.array_equal(in_order(data)[:, 0].numpy(), values.astype(np.float32))
    assert data.data_range == (-2048.0, 2047.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"PixelData": None}, "holds no image; expected DICOM files with PixelData"),
        ({"PixelData": b"\0\0"}, "cannot be read"),
        ({"NumberOfFrames": 2}, "has 2 frames of 1 samples"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "of 3 samples a pixel"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "9.dcm is MONOCHROME1 and 0.dcm is MONOCHROME2"),
        ({"Rows": 3}, "9.dcm is 5 x 3 and 0.dcm is 5 x 6"),
        ({"PatientID": ""}, "1 examples of .* have no id"),
    ],
)
def test_dicom_files_that_do_not_fit_are_one_line(tmp_path: Path, changes: dict, told: str):
    scans(tmp_path)
    dicom(tmp_path / "z" / "9.dcm", np.zeros((6, 5)), "last", **changes)
    with pytest.raises(InputError, match=told) as refused:
        load_data(str(tmp_path), group="patient")
    assert "\n" not in str(refused.value)
    assert "expected" in str(refused.value)


def test_files_that_are_no_dicom_and_no_nifti_are_one_line(tmp_path: Path):
    for name in ("a.dcm", "a.nii", "a.nii.gz"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match="cannot be read, it is damaged") as refused:
            load_data(str(folder))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nifti_volumes_are_scaled_as_their_headers_say(tmp_path: Path, suffix: str):
    stored = np.random.default_rng(0).integers(-100, 100, (6, 4, 5, 3)).astype(np.int16)
    for i, volume in enumerate(stored):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "plain.nii")
        content = bytearray((tmp_path / "plain.nii").read_bytes())
        content[112:120] = struct.pack("<ff", 0.5, 10)  # scl_slope and scl_inter
        (tmp_path / f"s{i // 2}").mkdir(exist_ok=True)
        path = tmp_path / f"s{i // 2}" / f"{i}.{suffix}"
        path.write_bytes(gzip.compress(content) if suffix == "nii.gz" else content)
    (tmp_path / "plain.nii").unlink()
    data = load_data(str(tmp_path), group="folder")
    assert torch.equal(in_order(data)[:, 0], torch.from_numpy(stored * 0.5 + 10).float())
    assert data.kind == "volumes"
    assert data.event_shape == (1, 4, 5, 3)
    assert data.group_names == ("s0", "s1", "s2")


def test_nifti_files_that_do_not_fit_are_one_line(tmp_path: Path):
    for name, shape in (("a.nii", (4, 5, 3)), ("b.nii", (4, 5, 3)), ("c.nii", (4, 5, 2))):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), tmp_path / name)
    with pytest.raises(InputError, match=r"c.nii has shape \(4, 5, 2\) and a.nii \(4, 5, 3\); expected volumes of one"):
        load_data(str(tmp_path))
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 3, 7), np.float32), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match=r"has shape \(4, 5, 3, 7\); expected one volume"):
        load_data(str(tmp_path))
    whole = (tmp_path / "b.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"b.nii cannot be read"):
        load_data(str(tmp_path))


@pytest.mark.parametrize(("name", "package", "extra"), [("a.dcm", "pydicom", "dicom"), ("a.nii", "nibabel", "nifti")])
def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch, name: str, package: str, extra: str):
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .*pip install 'diffuscope\[{extra}\]'"):
        load_data(str(tmp_path))


def test_a_damaged_header_is_one_line_and_nothing_else_on_the_terminal(tmp_path: Path, capfd):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 3), np.float32), np.eye(4)), tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    # the size of the header, the length of an axis (below zero), the offset of the voxels
    for start, change in ((0, b"\x01\0\0\0"), (42, struct.pack("<h", -4)), (108, struct.pack("<f", 353.9))):
        (tmp_path / "a.nii").write_bytes(whole[:start] + change + whole[start + len(change) :])
        with pytest.raises(InputError) as refused:
            load_data(str(tmp_path))
        assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")

"""The command line: every mistake is one line and exit code 2; the main job writes its files."""

import errno
import json

import numpy as np
import pytest
import torch
from PIL import Image

from commands_in_tests import refused, run
from diffuscope.denoisers import MLP, Preconditioned, save_denoiser
from diffuscope.schedules import VE

QUICK = ["--levels", "5", "--points", "40", "--trajectories", "8", "--generated", "40", "--step-seeds", "8",
         "--components", "2"]  # fmt: skip


@pytest.fixture
def model(tmp_path):
    """An untrained network on vectors of eight numbers: the exact denoiser of an isotropic Gaussian."""
    denoiser = Preconditioned(
        MLP((8,), width=16, depth=1), VE(0.01, 40.0), 1.0, event_shape=(8,), data_range=(-5.0, 5.0)
    )
    path = tmp_path / "model.safetensors"
    save_denoiser(denoiser, path)
    return path


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "vectors.npy"
    rows = np.random.default_rng(0).normal(size=(200, 8)).clip(-4.9, 4.9)
    rows[0, 0], rows[1, 0] = -5, 5
    np.save(path, rows.astype(np.float32))
    return path


def test_classes_are_trained_sampled_in_turn_and_refused_where_there_are_none(capsys, tmp_path, model, vectors):
    (trained := tmp_path / "trained").mkdir()
    run("train", "--data", "two-moons", "--conditional", "--precision", "bfloat16", "--train-steps", 3,
        "--log-every", 0, "--out", trained)  # fmt: skip
    sample = ("sample", "--model", trained / "model.safetensors", "--out", tmp_path, "--n", 5)
    found = {}
    for scale in (1, 3):
        run(*sample, "--classes", 1, 0, "--guidance", scale)
        with np.load(tmp_path / "samples.npz") as stored:
            assert stored["y"].tolist() == [1, 0, 1, 0, 1]
            found[scale] = stored["x"]
    assert np.isfinite(found[1]).all()
    assert not np.allclose(found[1], found[3])
    assert "--classes: expected classes 0 .. 1, got 2" in refused(capsys, *sample, "--classes", 2)
    assert "--guidance: expected classes with it" in refused(capsys, *sample, "--guidance", 2)
    assert "--guidance: expected a finite" in refused(capsys, *sample, "--classes", 0, "--guidance", "nan")
    without = ("sample", "--model", model, "--out", tmp_path, "--classes", 0)
    assert "--classes: expected a model trained with classes" in refused(capsys, *without)
    unlabeled = ("train", "--data", vectors, "--conditional", "--out", tmp_path / "other")
    assert "--conditional: expected data with labels" in refused(capsys, *unlabeled)


def test_training_then_sampling_gives_finite_samples_and_a_picture(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(60, 6, 6)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    run("train", "--data", tmp_path / "images.npy", "--data-range", 0, 255, "--train-steps", 3,
        "--out", tmp_path)  # fmt: skip
    run(
        "sample",
        "--model",
        tmp_path / "model.safetensors",
        "--n",
        5,
        "--nfe",
        7,
        "--out",
        tmp_path,
    )
    samples = np.load(tmp_path / "samples.npz")["x"]
    assert samples.shape == (5, 1, 6, 6)
    assert np.isfinite(samples).all()
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.width >= 400


def test_a_model_without_an_event_shape_is_refused_with_where_to_state_it(capsys, tmp_path, monkeypatch):
    (tmp_path / "shapeless.py").write_text(
        "from diffuscope.denoisers import ExactDenoiser\n"
        "from diffuscope.exact import two_moons\n"
        "from diffuscope.schedules import VE\n"
        "model = ExactDenoiser(two_moons(), VE())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    line = refused(capsys, "sample", "--model", "shapeless:model", "--out", tmp_path / "out")
    assert line.startswith(
        "diffuscope: --model: expected the shape of one sample, as .event_shape, or as ?event_shape="
    )
    assert "shapeless:model" in line


def test_the_same_seed_gives_the_same_samples(tmp_path, model):
    for name in ("a", "b"):
        run("sample", "--model", model, "--n", 4, "--sampler", "ddpm", "--nfe", 5,
            "--out", tmp_path / name)  # fmt: skip
    first, second = (np.load(tmp_path / name / "samples.npz")["x"] for name in ("a", "b"))
    assert np.array_equal(first, second)


def test_missing_files_and_folders_without_images(capsys, tmp_path):
    out = ("--out", tmp_path / "out")
    assert "--data:" in refused(capsys, "audit", "--data", tmp_path / "none.npy", *out)
    (tmp_path / "empty").mkdir()
    assert "--data:" in refused(capsys, "audit", "--data", tmp_path / "empty", *out)
    assert "--model:" in refused(capsys, "audit", "--model", tmp_path / "none.safetensors", *out)
    assert "--model:" in refused(capsys, "audit", "--model", "no_such_module:thing", *out)


def test_images_of_different_sizes_or_only_one(capsys, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    assert "one single" in refused(capsys, "audit", "--data", folder, "--out", tmp_path)
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "b.png")
    assert "b.png" in refused(capsys, "audit", "--data", folder, "--out", tmp_path)


def test_nan_integers_without_a_range_and_heldout_identical_to_training(capsys, tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    same = ("--data", tmp_path / "rows.npy", "--heldout", tmp_path / "rows.npy", "--out", tmp_path)
    assert "is also a training example" in refused(capsys, "audit", *same)
    rows[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    assert "NaN" in refused(capsys, "audit", "--data", tmp_path / "nan.npy", "--out", tmp_path)
    np.save(tmp_path / "bytes.npy", np.zeros((30, 5, 5), np.uint8))
    assert "--data-range" in refused(capsys, "audit", "--data", tmp_path / "bytes.npy", "--out", tmp_path)


def test_models_of_another_shape_pickles_and_truncated_checkpoints(capsys, tmp_path, model):
    out = ("--out", tmp_path / "out")
    assert "shape" in refused(capsys, "audit", "--model", model, *out)
    torch.save({"a": 1}, tmp_path / "model.pt")
    assert "pickle" in refused(capsys, "audit", "--model", tmp_path / "model.pt", *out)
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-100])
    assert "truncated" in refused(capsys, "audit", "--model", tmp_path / "cut.safetensors", *out)


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    line = refused(capsys, "audit", "--out", tmp_path / "file" / "out")
    assert "--out: cannot create the folder" in line


@pytest.mark.usefixtures("blank_figures")
def test_an_audit_is_resumed_after_a_full_disk_and_ctrl_c_and_writes_the_report_and_the_numbers(
    monkeypatch, capsys, tmp_path, model, vectors
):
    """What ends it is said in one line."""
    command = ("audit", "--data", vectors, "--model", model, "--out", tmp_path / "out", *QUICK)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("diffuscope.files.os.fsync", full)
        assert "No space left" in refused(capsys, *command)
    assert not list((tmp_path / "out").rglob("*.partial"))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("diffuscope.audit.questions.steps.measure_steps", interrupted)
        assert "resume" in refused(capsys, *command, code=130)
    kept = len(list((tmp_path / "out").rglob("*.npz")))
    assert kept == 3 + 5  # the samples, the first question, five noise levels and the noise of the target
    run(*command)
    said = capsys.readouterr()
    assert "Report: " in said.out
    assert "as --heldout" in said.err
    stored = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert stored["training_examples"] == 100
    assert (tmp_path / "out" / "report.html").read_text().lstrip().startswith("<!DOCTYPE html>")


def test_samples_of_integers_need_their_range(capsys, tmp_path, model, vectors):
    np.save(tmp_path / "samples.npy", np.zeros((30, 8), np.int32))
    line = refused(capsys, "audit", "--data", vectors, "--model", model, "--out", tmp_path / "out",
                   "--samples", tmp_path / "samples.npy", *QUICK)  # fmt: skip
    assert "--samples-range" in line

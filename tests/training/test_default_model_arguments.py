"""What the default training refuses, and the classes that it counts."""

from dataclasses import replace

import pytest
import torch

from diffuscope.data import toy_data
from diffuscope.errors import InputError
from diffuscope.training import train_denoiser
from diffuscope.training.default_model import class_count

DATA = replace(toy_data("two-moons", n_train=30, n_heldout=10), train_labels=None, heldout_labels=None)


def labelled(*labels: int):
    kept = torch.tensor(labels).repeat(30)[:30]
    return replace(DATA, train_labels=kept, heldout_labels=kept[:10])


def test_classes_are_counted_where_each_of_them_occurs():
    assert class_count(labelled(0)) == 1
    assert class_count(labelled(2, 0, 1)) == 3
    for data, said in (
        (DATA, "conditional: expected data with labels, and two-moons has none"),
        (labelled(1, 2), "at least once, and two-moons has 1, 2$"),
        (labelled(0, 2), "at least once, and two-moons has 0, 2$"),
        (labelled(1, 2, 3, 4, 5), "has 1, 2, 3, 4, 5$"),
        (labelled(1, 2, 3, 4, 5, 6), r"has 1, 2, 3, 4, 5, \.\.\.$"),
    ):
        with pytest.raises(InputError, match=said):
            class_count(data)
    with pytest.raises(InputError, match=r"^conditional: expected data with labels"):
        train_denoiser(DATA, steps=1, conditional=True)


def test_a_log_has_a_folder_and_a_whole_number_of_steps(tmp_path):
    with pytest.raises(InputError, match=r"^log_every: expected a whole number of steps >= 0, got -1$"):
        train_denoiser(DATA, steps=1, log_every=-1, out=tmp_path / "new")
    with pytest.raises(InputError, match=r"^log_every: expected `out` as well, the folder for the log; got none$"):
        train_denoiser(DATA, steps=1, log_every=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^out: expected a folder that can be written, got .*file/a \(Not a direct"):
        train_denoiser(DATA, steps=1, out=tmp_path / "file" / "a")
    assert not (tmp_path / "new").exists()

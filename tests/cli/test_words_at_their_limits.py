"""Words, counts and pictures of the command line exactly where one answer passes into another."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffuscope.cli import arguments, failures
from diffuscope.cli.classes import notes_on_classes, read_classes
from diffuscope.cli.devices import chosen_device
from diffuscope.cli.options import TrainOptions, require_range, require_within
from diffuscope.cli.processes import follows
from diffuscope.cli.sample import Sample, contact_sheet
from diffuscope.data import toy_data
from diffuscope.denoisers import OfClass
from diffuscope.errors import InputError
from diffuscope.schedules import VE
from diffuscope.streams import SEEDS


@pytest.mark.parametrize("value", [1, 10**6])
def test_counts_may_be_the_least_and_the_most(value):
    TrainOptions(train_steps=1, batch_size=value).check()
    require_within("n", value, 1, 10**6)
    for beyond in (0, 10**6 + 1):
        with pytest.raises(InputError, match=f"n: expected a whole number from 1 to 1,000,000, got {beyond}"):
            require_within("n", beyond, 1, 10**6)


def test_a_range_of_one_value_is_none():
    require_range("data_range", (0.0, 1.0))
    with pytest.raises(InputError, match="data_range: expected two numbers, the lower first, got 1 1"):
        require_range("data_range", (1.0, 1.0))


def test_classes_are_numbers_from_zero_up_to_63_bits():
    assert read_classes(["0", str(2**63 - 1)]) == [0, 2**63 - 1]
    for word in (str(2**63), "9" * 20, "-1"):
        with pytest.raises(InputError, match="classes: expected whole numbers >= 0, or all"):
            read_classes([word])
    with pytest.raises(InputError, match="classes: expected each class once, got 3 twice"):
        read_classes(["3", "1", "3"])


def test_what_is_too_long_to_read_is_cut():
    for short, longest in ((arguments._short, arguments.LONGEST), (failures.one_line, failures.LONGEST)):
        assert short("a" * longest) == "a" * longest
        assert short("a" * (longest + 1)) == "a" * (longest - 3) + "..."


def test_the_devices_of_a_machine_are_counted_from_zero(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [chosen_device(f"cuda:{index}").index for index in (0, 1)] == [0, 1]
    with pytest.raises(InputError, match="device: expected cuda:0 to cuda:1, the CUDA devices of this machine"):
        chosen_device("cuda:2")


def under_torchrun(monkeypatch, **variables):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "made")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_only_process_of_torchrun_may_name_its_device(monkeypatch):
    under_torchrun(monkeypatch, LOCAL_WORLD_SIZE="1", LOCAL_RANK="0")
    assert chosen_device("cuda:1").index == 1
    under_torchrun(monkeypatch, LOCAL_WORLD_SIZE="2")
    with pytest.raises(InputError, match="device: expected cpu or cuda, as each process of torchrun has a GPU"):
        chosen_device("cuda:1")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_each_process_of_torchrun_has_the_device_of_its_number_also_if_there_is_none(rank, monkeypatch):
    """That there are two devices alone is told later, once for all processes."""
    under_torchrun(monkeypatch, LOCAL_WORLD_SIZE="4", LOCAL_RANK=str(rank))
    assert chosen_device("cuda").index == rank


def test_process_zero_speaks_and_the_first_after_it_follows(monkeypatch):
    for rank, silent in (("0", False), ("1", True)):
        under_torchrun(monkeypatch, RANK=rank)
        assert follows() == silent


class Two:
    """A model of two classes."""

    schedule, classes = VE(), 2

    def __call__(self, x_t, t, y=None):  # noqa: ARG002
        return x_t


@pytest.mark.parametrize(("labels", "text"), [([0, 0], "all of the data"), ([0, 1], "all of the data, with 2 labels")])
def test_one_label_is_not_counted(labels, text):
    data = replace(toy_data("two-moons", n_train=40, n_heldout=40), train_labels=torch.tensor(labels * 20))
    (note,) = notes_on_classes(OfClass(Two(), 1), data)
    assert note.startswith(f"the model was audited as class 1, against {text}")
    assert ("--classes 1" in note) == (len(set(labels)) > 1)


@pytest.mark.parametrize("label", [0, SEEDS - 1])
def test_classes_of_samples_are_numbers_from_zero_up_to_63_bits(label, monkeypatch):
    reached = []
    monkeypatch.setattr("diffuscope.cli.sample.writing", lambda *_: reached.append(label) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Sample("module:model", classes=(label,)).run()
    assert reached == [label]
    for beyond in (-1, SEEDS):
        with pytest.raises(InputError, match=f"classes: expected whole numbers >= 0, got {label} {beyond}"):
            Sample("module:model", classes=(label, beyond)).run()


@pytest.mark.parametrize(("width", "scale"), [(3, 200), (799, 1), (900, 1)])
def test_a_contact_sheet_is_enlarged_to_a_screen_and_never_shrunk(width, scale):
    """A pixel of margin for each picture."""
    sheet = contact_sheet(torch.rand(1, 1, 2, width), (0.0, 1.0))
    assert sheet.size == ((width + 1) * scale, 3 * scale)


def test_values_beyond_the_range_of_a_sheet_are_its_ends():
    samples = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 4)
    sheet = contact_sheet(samples, (0.0, 1.0))
    assert np.asarray(sheet)[0, :: sheet.width // 5].tolist() == [0, 0, 255, 255, 0]

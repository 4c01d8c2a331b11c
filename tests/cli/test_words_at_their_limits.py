"""Words, counts and pictures of the command line exactly where one answer passes into another."""

import numpy as np
import pytest
import torch

from diffuscope.cli import arguments, failures
from diffuscope.cli.classes import read_classes
from diffuscope.cli.devices import chosen_device
from diffuscope.cli.options import TrainOptions, require_range, require_within
from diffuscope.cli.sample import contact_sheet
from diffuscope.errors import InputError


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


@pytest.mark.parametrize(("width", "scale"), [(3, 200), (799, 1), (900, 1)])
def test_a_contact_sheet_is_enlarged_to_a_screen_and_never_shrunk(width, scale):
    """A pixel of margin for each picture."""
    sheet = contact_sheet(torch.rand(1, 1, 2, width), (0.0, 1.0))
    assert sheet.size == ((width + 1) * scale, 3 * scale)


def test_values_beyond_the_range_of_a_sheet_are_its_ends():
    samples = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 4)
    sheet = contact_sheet(samples, (0.0, 1.0))
    assert np.asarray(sheet)[0, :: sheet.width // 5].tolist() == [0, 0, 255, 255, 0]

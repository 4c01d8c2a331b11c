"""Versions, entries, times and ranges exactly where weights, statistics or patch sizes are refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from diffuscope.denoisers import ExactDenoiser, WeightsFile, read_weights, weights, weights_file
from diffuscope.denoisers.analytic import local_score, patch_sizes
from diffuscope.denoisers.statistics_fit import _require_range
from diffuscope.denoisers.torch_files import read_torch
from diffuscope.denoisers.weights import _adapted
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import RectifiedFlow
from numbers_in_tests import seeded

IMAGES = torch.randn(3, 1, 4, 4, generator=seeded())


@pytest.mark.parametrize("times", [(0.5, 0.0), (1.0, 0.5)])
def test_patch_sizes_need_signal_and_noise(times: Sequence[float]) -> None:
    """Of a straight path alpha = 1 - t and sigma = t: one of them is 0 at either end."""
    network = ExactDenoiser(Gaussian.isotropic(torch.zeros(1, 4, 4), 1.0), RectifiedFlow())
    with pytest.raises(InputError, match=r"^times: expected times at which alpha and sigma are > 0"):
        patch_sizes(network, IMAGES, IMAGES[:1], times, (1, 3), kind=local_score, generator=seeded())


@pytest.mark.parametrize(("first", "taken"), [(1.0, True), (-1.0, True), (1.0001, False)])
def test_ranges_are_one_up_to_a_millionth_of_their_width(first: float, taken: bool) -> None:
    gaussian = Gaussian(torch.zeros(1), torch.eye(1), torch.ones(1), data_range=(first, 1e6))
    if taken:
        _require_range(gaussian, (0.0, 1e6), "the model")
    else:
        with pytest.raises(InputError, match=r"^gaussian: expected statistics of values in"):
            _require_range(gaussian, (0.0, 1e6), "the model")


@pytest.mark.parametrize(("version", "reads"), [("2.5.1", False), ("2.6.0", True), ("2.10.0a1+cpu", True)])
def test_pickles_are_read_from_the_first_version_that_reads_them_safely(version, reads, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.pt"
    torch.save({"weight": torch.ones(2)}, path)
    monkeypatch.setattr(torch, "__version__", version)
    if reads:
        assert list(read_torch(path, "weights")) == ["weight"]  # pyright: ignore[reportArgumentType]
    else:
        with pytest.raises(InputError, match=r"^weights: a.pt is a pickle, which PyTorch reads safely since 2.6"):
            read_torch(path, "weights")


def test_a_file_has_as_many_entries_as_are_allowed(tmp_path, monkeypatch) -> None:
    """A dictionary and its two entries are three."""
    torch.save({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "net.pt")
    monkeypatch.setattr(weights_file, "MOST", 3)
    assert list(read_weights(tmp_path / "net.pt").dicts[""]) == ["a", "b"]
    monkeypatch.setattr(weights_file, "MOST", 2)
    with pytest.raises(InputError, match=r"^weights: net.pt holds more than 2 entries"):
        read_weights(tmp_path / "net.pt")


class Renamed(nn.Module):
    """A layer whose older weights are called `old`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(_module, state, prefix, *_) -> None:
        if prefix + "old" in state:
            state[prefix + "weight"] = state.pop(prefix + "old")


@pytest.mark.parametrize(("tried", "found"), [(2, True), (1, False)])
def test_a_network_may_convert_each_of_as_many_dictionaries_as_are_tried(tried: int, found: bool, monkeypatch) -> None:
    monkeypatch.setattr(weights, "TRIED", tried)
    dicts = {"other": {"unknown": torch.ones(5)}, "model": {"old": torch.ones(1)}}
    adapted = _adapted(WeightsFile(Path("net.pt"), "", dicts, {}), [Renamed()], None)
    assert (adapted is not None) == found
    if adapted is not None:
        assert adapted[1].place == "model"

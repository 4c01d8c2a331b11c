"""Values at which a formula would divide zero by zero, and values that are exactly at a threshold."""

import math

import pytest
import torch

from diffuscope.denoisers import StepIndex, preconditioning
from diffuscope.denoisers.analytic.calibration import PatchSizes
from diffuscope.denoisers.analytic.views import _cut, _turned
from diffuscope.denoisers.networks.linear import LevelTable
from diffuscope.denoisers.predictors import _few
from diffuscope.denoisers.weights_fit import SHOWN, misfit
from diffuscope.errors import InputError
from diffuscope.schedules import VE, RectifiedFlow


def test_lists_are_cut_where_they_are_longer_than_what_is_shown():
    names = [f"layer{k}" for k in range(SHOWN + 1)]
    all_shown, shown = ", ".join(names[:SHOWN]), dict.fromkeys(names[:SHOWN], (1,))
    assert misfit({}, shown) == f"{SHOWN} of {SHOWN} missing ({all_shown})"
    assert misfit({}, dict.fromkeys(names, (1,))) == f"{SHOWN + 1} of {SHOWN + 1} missing ({all_shown}, ...)"
    assert _few(torch.arange(5)) == "0, 1, 2, 3, 4"
    assert _few(torch.arange(6)) == "0, 1, 2, 3, 4, ..."


def test_every_step_of_a_table_has_a_label_up_to_a_millionth_on_either_side():
    clock = StepIndex(10)
    t = torch.tensor([1.0, 1 - 0.9e-6, 10.0, 10 + 0.9e-6, 5 - 0.9e-6], dtype=torch.float64)
    assert clock.label(t).tolist() == [0, 0, 9, 9, 4]
    assert [float(StepIndex(10, first_trained=3).nearest(t)) for t in (0.4, 3.4, 12.0)] == [3.0, 3.0, 10.0]
    for wrong in (5 + 2e-6, 5 - 2e-6, 0.0, 11.0):
        with pytest.raises(InputError, match="knows the integer times"):
            clock.label(wrong)


def test_every_level_of_a_table_has_a_label_up_to_rounding_on_either_side():
    table = LevelTable(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    assert table.label(torch.tensor([0.0, 1.0 - 1e-15, 1.0 + 1e-15, 4.0], dtype=torch.float64)).tolist() == [0, 1, 1, 2]
    assert [float(table.nearest(t)) for t in (-1.0, 0.4, 0.6, 2.4, 2.6, 9.0)] == [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]
    with pytest.raises(InputError, match="times that increase"):
        LevelTable(torch.tensor([0.0, 1.0, 1.0]))
    for wrong in (1.01, 0.99, -1.0):
        with pytest.raises(InputError, match="knows 3 noise levels only"):
            table.label(wrong)


def test_the_label_of_noise_is_finite_at_both_ends_of_a_flow():
    for t in (0.0, 1.0):
        assert math.isfinite(float(preconditioning(RectifiedFlow(), t, sigma_data=1.0).c_noise))
    assert float(preconditioning(VE(), 2.0, sigma_data=1.0).c_noise) == pytest.approx(math.log(2) / 4)


@pytest.mark.parametrize(("level", "size"), [(0.0, 3), (0.1, 3), (1.1, 5), (0.9, 5), (10.0, 7), (math.inf, 7)])
def test_a_size_is_that_of_the_nearest_level(level: float, size: int):
    best = torch.eye(3, dtype=torch.float64)[:, :, None]
    sizes = PatchSizes(torch.tensor([0.1, 1.0, 10.0]).double(), torch.tensor([3, 5, 7]), best)
    assert sizes(level) == size


@pytest.mark.parametrize("around", [False, True])
def test_a_window_of_three_pixels_has_one_on_either_side(around: bool):
    axis = next(iter(_turned(5, 3))) if around else _cut(5, 3)
    apart = [[abs(i - j) for j in range(5)] for i in range(5)]
    assert axis.window.tolist() == [[float(n <= 1 or (around and n == 4)) for n in row] for row in apart]

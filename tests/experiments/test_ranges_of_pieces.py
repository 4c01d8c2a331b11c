"""Ranges of colors and of noise, of pieces of experiments."""

import pytest
import torch

from diffuscope.experiments import trained_denoiser
from diffuscope.experiments.neural_vs_analytic.figures import map_chart
from diffuscope.findings import Cells


@pytest.mark.parametrize(("largest", "end"), [(0.5, 0.5), (1.05, 1.0), (3.0, 1.0)])
def test_colors_of_unexplained_shares_end_at_the_largest_or_at_all(largest, end):
    (panel,) = map_chart("digits", [0.5], [torch.tensor([[0.1, largest]])], [2], [0, 1]).panels
    (matrix,) = panel.marks
    assert isinstance(matrix, Cells)
    assert matrix.color_range == (0.0, end)
    assert matrix.values[0] == pytest.approx((0.1, end))


def test_the_denoiser_is_trained_from_a_hundredth_to_forty_of_the_data_s_deviation(monkeypatch):
    fitted = {}

    def fit(untrained, data, recipe):
        del recipe
        fitted.update(schedule=untrained.schedule, data=data, data_range=untrained.data_range)
        return untrained

    monkeypatch.setattr(trained_denoiser, "fit", fit)
    trained_denoiser.trained.__wrapped__(1, 5)
    scale, schedule = float(fitted["data"].std()), fitted["schedule"]
    levels = [float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max)]
    assert levels == pytest.approx([0.01 * scale, 40 * scale])
    assert fitted["data_range"][1] == float(fitted["data"].abs().max()) == -fitted["data_range"][0]

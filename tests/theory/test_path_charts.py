"""The chart of what a path conserves is named after what it shows."""

import pytest
import torch

from diffuscope.theory.paths import Dynamics, PathReport, most_likely_path

ROUND = Dynamics(lambda x: -x, 0.5)  # isotropic: the angular momentum is conserved
BENT = Dynamics(lambda x: -x * torch.tensor([1.0, 2.0], dtype=x.dtype) + 0.3 * x.flip(-1) ** 2, 0.5)


@pytest.mark.parametrize(
    ("dynamics", "duration", "title", "panels"),
    [
        (ROUND, 1.0, "Action, energy, charges", ["Action so far", "Energy", "Charge"]),
        (BENT, 1.0, "Action, energy", ["Action so far", "Energy"]),
        (BENT, None, "Action", ["Action so far"]),
    ],
)
def test_the_title_lists_the_panels(dynamics, duration, title, panels):
    start, end = torch.tensor([0.5, 0.0]).double(), torch.tensor([0.3, 0.4]).double()
    chart = PathReport("mine", most_likely_path(dynamics, start, end, duration, nodes=9)).charts()[1]
    assert chart.title == title
    assert [panel.title[: len(name)] for panel, name in zip(chart.panels, panels, strict=True)] == panels
    assert ("horizontal lines" in chart.how_to_read) == (len(panels) > 1)

"""Ticks of logarithmic axes."""

import pytest
from matplotlib.figure import Figure

from diffuscope.report.drawing import _log_tick, _log_ticks


@pytest.mark.parametrize(("low", "high", "shown"), [(0.4, 8.0, [0.5, 1, 2, 5]), (0.5, 20.0, [0.5, 1, 2, 5, 10, 20]),
                                                    (0.5, 50.0, [1, 10])])  # fmt: skip
def test_within_two_decades_a_logarithmic_axis_has_ticks_at_1_2_and_5(low, high, shown):
    axes = Figure().subplots()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _log_ticks(axes.xaxis, low, high)
    ticks = [tick for tick in axes.xaxis.get_majorticklocs() if low <= tick <= high]
    assert ticks == pytest.approx(shown)


def test_ticks_are_plain_from_a_thousandth_to_a_thousand_and_powers_beyond():
    assert [_log_tick(value, None) for value in (1e-3, 0.5, 1e3, 1e4, 1e-4)] == ["0.001", "0.5", "1000", "10⁴", "10⁻⁴"]

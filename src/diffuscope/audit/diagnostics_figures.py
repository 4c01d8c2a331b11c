"""The two figures of an audit's diagnostics: what is left of the equation, and how many nats are known."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from diffuscope.report.charts import line_with_band
from diffuscope.report.page import Figure
from diffuscope.report.theme import LIGHT, figure_style, figure_svg

from .equation import MEASURED, Equation
from .figures import noise_axis
from .information import KINDS, RATES, Information
from .learned import Curve


def equation_figure(result: Equation) -> Figure:
    """Relative residual and relative curl of the model and of the exact mixture."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.4))
        left, right = drawing.subplots(1, 2)
        for axes, curve, title in (
            (left, result.residual, "equation: terms left over, %"),
            (right, result.curl, "curl: antisymmetric part, %"),
        ):
            _lines(axes, result.ratios, curve, MEASURED, 100)
            noise_axis(axes, result.scale)
            axes.set_title(title)
            axes.set_ylim(0, 1.1 * max(10.0, float(100 * curve.high[:, 0].max())))
        left.legend(loc="best")
        return Figure(
            "Does one density stand behind the answers at all noise levels?",
            figure_svg(drawing),
            "Left: the score of a density that diffuses obeys an equation of three terms, which must cancel at every "
            "point and noise level; the height is the part that does not, 100% means no cancellation at all. Right: "
            "the part of the network's Jacobian that rotates, which no gradient has. The second line is an exact "
            "mixture measured in the same way: the zero of the instrument and its noise.",
            "Two line charts against the noise level, of the relative residual of the score equation and of the "
            "relative curl, for the model and for an exact Gaussian mixture, with 95% bands.",
        )


def information_figure(result: Information) -> Figure:
    """Fisher information of the model and its references; rates of relative entropy."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.6))
        left, right = drawing.subplots(1, 2)
        _lines(left, result.ratios, result.fisher, KINDS, 1)
        left.set_title("Fisher information, σ²J / d")
        left.set_ylim(0, 1.05)
        left.set_ylabel("nats per coordinate and e-fold")
        _lines(right, result.ratios, result.rates, [rate.split(",")[0] for rate in RATES], 1)
        right.axhline(0, color=LIGHT["edge"], linewidth=0.8)
        right.set_title("rate of relative entropy")
        for axes in (left, right):
            noise_axis(axes, result.scale)
            axes.legend(loc="best", fontsize=9)
        return Figure(
            "How much the model knows, in nats",
            figure_svg(drawing),
            "An e-fold is a factor 2.72 of noise. Left: the entropy that so much noise adds, from 0 where the data are "
            "smooth to 1 where noise is all there is; every law of this covariance lies above the Gaussian, and the "
            "bare training set on top. The model's own number and the one certain from its loss on unseen data agree "
            "if its answers are neither too bold nor too timid. Right: what the model knows about unseen data beyond "
            "mean and covariance (the area under the line is the sum in nats), and how far it is from reciting its "
            "training data.",
            "Two line charts against the noise level: Fisher information of the model, its lower bound, the memorizer "
            "and the Gaussian; and two rates of relative entropy, with 95% bands.",
        )


def _lines(axes: Axes, ratios: np.ndarray, curve: Curve, names: Sequence[str], unit: float | int) -> None:
    for column, name in enumerate(names):
        value, low, high = (unit * part[:, column] for part in (curve.value, curve.low, curve.high))
        line_with_band(axes, ratios, value, low, high, name)

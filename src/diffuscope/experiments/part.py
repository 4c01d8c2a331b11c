r"""One part of an experiment while it runs: its claims and charts, and common statistics.

Three frequent statements have a method or function of their own:

- draws follow a distribution if Kolmogorov's distance :math:`\sup_x |F_n(x) - F(x)|` is at most
  :math:`1.95/\sqrt n`, which it exceeds once in a thousand by chance;
- a curve :math:`y \sim x^{p}` is a straight line of slope p on two logarithmic axes;
- a mean over independent repetitions is a number if it is within Student's interval of it (`findings.Repeated`).

Pixels of images are in [-1, 1], unless a network that was brought has another range.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import kstest
from torch import Tensor

from diffuscope.findings import AGREES, Chart, Claim, Mark, Panel, Repeated, at_least, at_most, equals
from diffuscope.streams import numpy_stream, torch_stream

KOLMOGOROV = 1.95  # the distance of n draws exceeds 1.95 / sqrt(n) once in a thousand
PIXEL_RANGE = (-1.0, 1.0)
Number = float | int


class Part:
    """One part while it runs. The page shows claims and charts in the order of the calls.

    `seed` is that of the run, for what several parts share; `generator` and `rng` are the part's own streams. The
    `source` of a claim is by default that of the experiment.

    >>> import torch
    >>> from diffuscope.experiments import Part
    >>> part = Part("quarters", "halves", "derived", seed=0)
    >>> part.at_least("most", "Three quarters are most", 0.75, 0.5, "more than half")
    >>> part.follows_distribution("uniform", "A grid is uniform", torch.arange(10) / 10, lambda x: x)
    >>> [(claim.name, claim.holds, round(claim.used, 4)) for claim in part.claims]  # 0.1 of 1.95 / sqrt(10)
    [('most', True, 0.6667), ('uniform', True, 0.1622)]
    """

    def __init__(self, experiment: str, name: str, source: str, seed: int) -> None:
        self.experiment, self.name, self.source, self.seed = experiment, name, source, seed
        self.generator = torch_stream(seed, "experiment", experiment, name)
        self.rng = numpy_stream(seed, "experiment", experiment, name)
        self.claims: list[Claim] = []
        self.charts: list[Chart] = []

    def equals(
        self,
        name: str,
        title: str,
        value: Number,
        required: Number,
        within: Number,
        because: str,
        *,
        source: str = "",
        unit: str = "",
    ) -> None:
        """Claim that the value is `required`, up to `within` on either side."""
        source = source or self.source
        self.claims.append(
            equals(name, title, value, required, within=within, because=because, source=source, unit=unit)
        )

    def at_most(
        self, name: str, title: str, value: Number, bound: Number, because: str, *, source: str = "", unit: str = ""
    ) -> None:
        """Claim that value <= bound."""
        self.claims.append(at_most(name, title, value, bound, because=because, source=source or self.source, unit=unit))

    def at_least(
        self, name: str, title: str, value: Number, bound: Number, because: str, *, source: str = "", unit: str = ""
    ) -> None:
        """Claim that value >= bound."""
        self.claims.append(
            at_least(name, title, value, bound, because=because, source=source or self.source, unit=unit)
        )

    def agrees(
        self, name: str, title: str, mean: Repeated, required: Number, *, source: str = "", unit: str = ""
    ) -> None:
        """Claim that a mean over repetitions is `required`, up to an interval it leaves once in 10,000 by chance."""
        because = f"Student's interval of {mean.repetitions} repetitions, left once in {1 / AGREES:,.0f} by chance"
        self.equals(name, title, mean.mean, required, mean.room(AGREES), because, source=source, unit=unit)

    def follows_distribution(
        self,
        name: str,
        title: str,
        draws: Float[Tensor, " n"],
        cdf: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]],
        *,
        bias: float = 0.0,
        source: str = "",
    ) -> None:
        """Claim that independent draws have the distribution function `cdf`, up to a known `bias` of it."""
        because = f"the Kolmogorov distance exceeds {KOLMOGOROV}/sqrt(n) once in a thousand by chance"
        because += f"; {bias:g} more for the steps" if bias else ""
        bound = KOLMOGOROV / math.sqrt(len(draws)) + bias
        self.at_most(name, title, kolmogorov(draws, cdf), bound, because, source=source)

    def chart(self, title: str, *panels: Panel, how_to_read: str, shared_y: bool = False) -> None:
        """Show panels side by side under one caption."""
        self.charts.append(Chart(title, panels, how_to_read, shared_y=shared_y))


def kolmogorov(draws: Float[Tensor, " n"], cdf: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]) -> float:
    """Kolmogorov's distance of `draws` from the distribution function `cdf`.

    >>> import torch
    >>> from diffuscope.experiments import kolmogorov
    >>> draws = torch.tensor([0.2, 0.3, 0.6], dtype=torch.float64)
    >>> round(kolmogorov(draws, lambda x: x), 6)  # behind 0.6: 1 - 0.6
    0.4
    """
    return float(kstest(draws.numpy(), cdf).statistic)


def largest_difference(
    a: Float[Tensor, "*#shape"] | Sequence[Number], b: Float[Tensor, "*#shape"] | Sequence[Number] | Number
) -> float:
    """max |a - b|, element by element; NaN if a difference is.

    >>> import torch
    >>> from diffuscope.experiments import largest_difference
    >>> largest_difference(torch.tensor([1.0, 4.0]), [2.0, 1.5]), largest_difference(torch.zeros(2), 3)
    (2.5, 3.0)
    """
    x, y = (torch.as_tensor(each, dtype=torch.float64) for each in (a, b))
    return float((x - y).abs().max())


def drawn(rows: Float[Tensor, "n *event"], count: int, generator: torch.Generator) -> Float[Tensor, "_ *event"]:
    """`count` of the rows at random, without replacement; all of them if there are fewer."""
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def panel(title: str, x_label: str, y_label: str, *marks: Mark) -> Panel:
    """Linear axes.

    >>> import torch
    >>> from diffuscope.experiments import panel
    >>> from diffuscope.findings import line
    >>> t = torch.tensor([1.0, 3.0])
    >>> shown = panel("A square", "t", "its square", line(t, t**2))
    >>> shown.x_label, shown.y_label, shown.x_log, shown.marks[0].y
    ('t', 'its square', False, (1.0, 9.0))
    """
    return Panel(title, x_label, y_label, marks)


def loglog(title: str, x_label: str, y_label: str, *marks: Mark) -> Panel:
    """Logarithmic axes: a power is a straight line.

    >>> import torch
    >>> from diffuscope.experiments import loglog
    >>> from diffuscope.findings import line
    >>> h = torch.tensor([0.5, 0.25])
    >>> shown = loglog("Second order", "step", "error", line(h, 3 * h**2))
    >>> shown.x_log, shown.y_log, shown.marks[0].y
    (True, True, (0.75, 0.1875))
    """
    return Panel(title, x_label, y_label, marks, x_log=True, y_log=True)

r"""Scores of an ensemble of n draws against a distribution that is known: calibration, sharpness, counts.

Fair scores are unbiased for the score of the distribution that the draws come from (Ferro 2014). With a truth r,

.. math::
    \mathrm{CRPS} = \frac1n\sum_i |x_i - r| - \frac{1}{2n(n-1)}\sum_{i,j} |x_i - x_j|, \qquad
    \mathrm{ES} = \frac1n\sum_i \|x_i - r\| - \frac{1}{2n(n-1)}\sum_{i,j} \|x_i - x_j\| .

Averaged over r from the posterior, the first is twice a squared distance of distribution functions above its least
value :math:`\tfrac12 E|r - r'|`, reached by exact draws. The interval of order statistics
:math:`[x_{(j)}, x_{(n+1-j)}]` covers an exchangeable truth with probability :math:`1 - 2j/(n+1)`, exactly, for any
continuous distribution. Counts :math:`N_i` of the points of a finite set with probabilities :math:`p_i` have

.. math::
    \chi^2 = \sum_i \frac{(N_i - n p_i)^2}{n p_i}, \qquad
    \mathrm{TV} = \frac12\sum_i |N_i/n - p_i|, \qquad
    E|N_i - n p_i| = 2\nu\binom{n}{\nu}p_i^{\nu}(1 - p_i)^{n-\nu+1}, \ \nu = \lfloor n p_i\rfloor + 1

under exact sampling (de Moivre 1730); cells of small expectation are pooled before the test.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError

EXPECTED = 5.0  # least expected count of a cell of the chi-square test


@dataclass(frozen=True, eq=False)
class Marginals:
    """The distributions of D numbers, each of K `values` (D, K) with common `weights` (K,) of sum 1."""

    values: Float[Tensor, "D K"]
    weights: Float[Tensor, " K"]

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sorted values, and the weight and the weighted sum up to each; both begin with 0."""
        ordered, order = self.values.sort(1)
        weights = self.weights[order]
        zero = torch.zeros(len(ordered), 1, dtype=torch.float64)
        total = torch.cat([zero, (weights * ordered).cumsum(1)], 1)
        return ordered.contiguous(), torch.cat([zero, weights.cumsum(1)], 1), total

    def below(self, x: Float[Tensor, "n D"], *, inclusive: bool) -> Float[Tensor, "n D"]:
        """P(r <= x), or P(r < x)."""
        ordered, weight, _ = self._tables
        return weight.gather(1, torch.searchsorted(ordered, x.T.contiguous(), right=inclusive)).T

    def distance(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """E|x - r|."""
        ordered, weight, total = self._tables
        index = torch.searchsorted(ordered, x.T.contiguous(), right=True)
        below, sum_below = weight.gather(1, index), total.gather(1, index)
        return (x.T * (2 * below - weight[:, -1:]) + total[:, -1:] - 2 * sum_below).T


def crps(draws: Float[Tensor, "n D"], truth: Marginals) -> Float[Tensor, " D"]:
    """The fair CRPS of every number, averaged over its truth; InputError for fewer than two draws.

    >>> one = Marginals(torch.tensor([[0.0]]).double(), torch.ones(1).double())
    >>> crps(torch.tensor([[1.0], [2.0]]).double(), one)  # 1.5 - 1/2
    tensor([1.], dtype=torch.float64)
    """
    n = _several(draws)
    ranks = torch.arange(1, n + 1, dtype=torch.float64) * 2 - n - 1
    pairs = (ranks[:, None] * draws.sort(0).values).sum(0) * 2 / (n * (n - 1))
    return truth.distance(draws).mean(0) - pairs / 2


def gaussian_crps(
    mean: Float[Tensor, " D"], deviation: Float[Tensor, " D"], truth: Float[Tensor, " D"]
) -> Float[Tensor, " D"]:
    """The CRPS of N(mean, deviation^2): s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)) (Gneiting & Raftery 2007)."""
    z = (truth - mean) / deviation
    density = (-0.5 * z**2).exp() / math.sqrt(2 * math.pi)
    return deviation * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def energy_score(
    draws: Float[Tensor, "n D"],
    truths: Float[Tensor, "K D"],
    weights: Float[Tensor, " K"],
    to_truths: Float[Tensor, "n K"] | None = None,
) -> float:
    """The fair energy score, averaged over the truths by their weights; `to_truths` are the distances if known.

    Raises InputError for fewer than two draws.
    """
    n = _several(draws)
    far = distances(draws, truths) if to_truths is None else to_truths
    return float((far @ weights).mean() - distances(draws, draws).sum() / (2 * n * (n - 1)))


def distances(x: Float[Tensor, "n D"], y: Float[Tensor, "K D"]) -> Float[Tensor, "n K"]:
    """|x_i - y_k|, by one product after centering: errors about 1e-8 of the spread."""
    center = y.mean(0)
    a, b = x - center, y - center
    square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return square.clamp_min(0).sqrt()


@dataclass(frozen=True, eq=False)
class Coverage:
    """The probability of the intervals of n draws, number by number, and its expectation for exact draws."""

    share: Float[Tensor, " D"]
    expected: float


def coverage(draws: Float[Tensor, "n D"], truth: Marginals, level: float = 0.9) -> Coverage:
    """The probability that the truth lies between the order statistics of nominal coverage nearest to `level`.

    For values that are repeated (a finite set) exact draws cover at least as much as expected.
    Raises InputError for a level outside (0, 1).
    """
    low, high, expected = order_interval(draws, level)
    inside = truth.below(high[None], inclusive=True) - truth.below(low[None], inclusive=False)
    return Coverage(inside[0], expected)


def order_interval(draws: Float[Tensor, "n D"], level: float) -> tuple[Tensor, Tensor, float]:
    """x_(j) and x_(n+1-j) of every number, and 1 - 2j/(n + 1), with the j for which this is nearest to `level`."""
    n = _several(draws)
    if not 0 < level < 1:
        raise InputError(f"level: expected a probability between 0 and 1, got {level}")
    j = min(max(1, round((n + 1) * (1 - level) / 2)), n // 2)
    ordered = draws.sort(0).values
    return ordered[j - 1], ordered[n - j], 1 - 2 * j / (n + 1)


@dataclass(frozen=True)
class MultinomialTest:
    """Pearson's chi-square of counts over cells, its degrees of freedom and p-value."""

    statistic: float
    degrees: int

    @property
    def p_value(self) -> float:
        """P(chi-square >= statistic)."""
        return float(scipy.stats.chi2.sf(self.statistic, self.degrees))


def multinomial_test(counts: Int[Tensor, " K"], probabilities: Float[Tensor, " K"]) -> MultinomialTest:
    """Whether counts are multinomial with these probabilities, cells in order of probability pooled to 5 expected.

    Draws that are none of the points may be a cell of probability 0. Raises InputError for counts of no draw.

    >>> multinomial_test(torch.tensor([30, 70]), torch.tensor([0.5, 0.5]).double())
    MultinomialTest(statistic=16.0, degrees=1)
    """
    n = int(counts.sum())
    if n == 0 or len(counts) != len(probabilities):
        raise InputError(f"counts: expected one per probability ({len(probabilities)}) and a draw, got {len(counts)}")
    expected, order = (n * probabilities).sort()
    # a cell is closed once it holds 5; what is left at the end belongs to the last one
    cell, held, cells = torch.zeros(len(counts), dtype=torch.long), 0.0, 0
    for index, value in enumerate(expected.tolist()):
        cell[index], held = cells, held + value
        if held >= EXPECTED:
            cells, held = cells + 1, 0.0
    cell.clamp_(max=max(0, cells - 1))
    size = int(cell.max()) + 1
    e = torch.zeros(size, dtype=torch.float64).index_add_(0, cell, expected)
    observed = torch.zeros(size, dtype=torch.float64).index_add_(0, cell, counts[order].double())
    return MultinomialTest(float(((observed - e).square() / e).sum()), size - 1)


def total_variation(counts: Int[Tensor, " K"], probabilities: Float[Tensor, " K"]) -> float:
    """Half the sum of |N_i/n - p_i|."""
    return float((counts / counts.sum() - probabilities).abs().sum()) / 2


def expected_total_variation(n: int, probabilities: Float[Tensor, " K"]) -> float:
    """Its expectation for n exact draws.

    >>> expected_total_variation(1, torch.tensor([0.5, 0.5]).double())
    0.5
    """
    p = probabilities[(probabilities > 0) & (probabilities < 1)].double()
    v = (n * p).floor() + 1
    log_binomial = math.lgamma(n + 1) - torch.lgamma(v + 1) - torch.lgamma(n - v + 1)
    logs = torch.log(2 * v) + log_binomial + v * p.log() + (n - v + 1) * torch.log1p(-p)
    return float(logs.exp().sum()) / (2 * n)


def _several(draws: Tensor) -> int:
    if len(draws) < 2:
        raise InputError(f"draws: expected at least two, got {len(draws)}")
    return len(draws)

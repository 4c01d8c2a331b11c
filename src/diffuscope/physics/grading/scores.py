r"""The scores of draws from one posterior, each beside what as many exact draws score.

In the q leading eigenvectors of the posterior covariance, which hold 99% of its trace, with eigenvalues L = diag(l_k),
sample mean and covariance (relative to the posterior mean) a and S:

| score | what it is of n draws | exact draws |
|---|---|---|
| mean | n times the average of a_k^2 / l_k | 1 |
| covariance | squared Frobenius distance of S from L, over the squared norm of L | of order 1/n |
| spread | total sample variance over the total posterior variance | 1 |
| coverage | posterior probability of 90% order-statistic intervals, over nodes | 1 - 2j/(n+1) |
| crps, energy | fair scores over the least attainable ones | 1 |
| misfit | mean of \|y - h(x)\|^2 / (m r^2) over its posterior mean | 1 |
| points | Pearson's chi-square over the points of a finite set | degrees of freedom |

Expectations and standard deviations come from repeated sets of n exact draws scored in the same way, which is right for
any posterior and any n; a finite set's chi-square has its own. Scores of independent problems are added, and the sum is
compared with a gamma distribution of the same mean and variance: exact for a chi-square, normal in the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.streams import torch_stream

from .case import Case, Score, Sides
from .metrics import (
    Marginals,
    coverage,
    crps,
    distances,
    multinomial_test,
)

SIDES: dict[str, Sides] = {
    "mean": "upper", "covariance": "upper", "spread": "both", "coverage": "both", "crps": "upper", "energy": "upper",
    "misfit": "both", "points": "upper",
}  # fmt: skip
NODES = 128  # numbers of a field whose marginals are scored
SHARE = 0.99  # of the posterior variance in the leading directions
DIRECTIONS = 20  # at most
NEGLIGIBLE = 1e-9  # posterior weight of points that only the counts know of
REPLICATES = 100  # sets of exact draws
ON_A_POINT = 0.1  # of the least distance between two points: beyond it, a draw is none of the points


@dataclass(frozen=True, eq=False)
class Grader:
    """Scores draws of one case; what depends on the case alone is computed once.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.grading import Grader, finite_case
    >>> flat = at_nodes(torch.tensor([0]), (1,), noise=1e6)  # which says nothing
    >>> case = finite_case("two-0", Empirical(torch.tensor([[0.0], [4.0]]), torch.tensor([0.75, 0.25])), flat)
    >>> found = Grader(case).values(torch.tensor([[0.0], [4.0]]))  # of a posterior with mean 1 and variance 3
    >>> round(found["mean"], 5), round(found["spread"], 5)  # 2 (2 - 1)^2 / 3, 8 / 3
    (0.66667, 2.66667)
    """

    case: Case
    seed: int = 0

    @cached_property
    def _kept(self) -> Int[Tensor, " K"]:
        """The points that have weight."""
        ordered, order = self.case.masses.sort(descending=True)
        return order[ordered.cumsum(0) - ordered < 1 - NEGLIGIBLE]

    @cached_property
    def _points(self) -> Float[Tensor, "K D"]:
        return self.case.reference[self._kept].flatten(1)

    @cached_property
    def _weights(self) -> Float[Tensor, " K"]:
        weights = self.case.masses[self._kept]
        return weights / weights.sum()

    @cached_property
    def mean(self) -> Float[Tensor, " D"]:
        """The posterior mean."""
        return self._weights @ self._points

    @cached_property
    def variance(self) -> float:
        """The total posterior variance."""
        return float(self._weights @ (self._points - self.mean).square().sum(1))

    @cached_property
    def _leading(self) -> tuple[Float[Tensor, "D q"], Float[Tensor, " q"]]:
        """Leading eigenvectors and eigenvalues, by the Gram matrix of the points where it is the smaller one."""
        centered = (self._points - self.mean) * self._weights.sqrt()[:, None]
        K, D = centered.shape
        values, vectors = torch.linalg.eigh(centered.T @ centered if K >= D else centered @ centered.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        q = min(DIRECTIONS, int((values.cumsum(0) < SHARE * values.sum()).sum()) + 1)
        return (vectors if K >= D else centered.T @ vectors)[:, :q] / (1 if K >= D else values[:q].sqrt()), values[:q]

    @cached_property
    def _nodes(self) -> Int[Tensor, " nodes"]:
        D = self._points.shape[1]
        return torch.randperm(D, generator=torch_stream(self.seed, "nodes"))[:NODES]

    @cached_property
    def _marginals(self) -> Marginals:
        return Marginals(self._points[:, self._nodes].T.contiguous(), self._weights)

    @cached_property
    def _least(self) -> tuple[float, float]:
        """The CRPS, and the energy score, of the posterior itself: half the mean distance of two of its draws."""
        marginals, w = self._marginals, self._weights
        crps_ = w @ marginals.distance(marginals.values.T) / 2
        energy = sum(
            float(w[rows] @ distances(self._points[rows], self._points) @ w)
            for rows in torch.arange(len(w)).split(1024)
        )
        return float(crps_.sum()), energy / 2

    @cached_property
    def _misfit(self) -> float:
        return float(self.case.masses @ self._squares(self.case.reference))

    @cached_property
    def _reach(self) -> float:
        """How far a draw may lie from a point of a finite set."""
        every = self.case.reference.flatten(1)
        return ON_A_POINT * float(distances(every, every).fill_diagonal_(torch.inf).min())

    def _squares(self, fields: Tensor) -> Float[Tensor, " n"]:
        return (self.case.observation(fields) - self.case.y.double()).square().sum(1)

    def cells(self, draws: Float[Tensor, "n *event"]) -> Int[Tensor, " n"]:
        """Which point of a finite set every draw is; the number of points for a draw that is none."""
        far, nearest = distances(draws.double().flatten(1), self.case.reference.flatten(1)).min(1)
        return torch.where(far <= self._reach, nearest, len(self.case.reference))

    def counts(self, draws: Float[Tensor, "n *event"]) -> Int[Tensor, " cells"]:
        """How many draws are which point of a finite set; the last number counts those that are none."""
        return self.cells(draws).bincount(minlength=len(self.case.reference) + 1)

    def _on_points(self, draws: Float[Tensor, "n *event"]) -> Float[Tensor, "n *event"]:
        if tuple(draws.shape[1:]) != self.case.event_shape:
            return draws  # which `values` refuses
        cell, K = self.cells(draws), len(self.case.reference)
        moved = draws.double().clone()
        moved[cell < K] = self.case.reference[cell[cell < K]]
        return moved

    def values(self, draws: Float[Tensor, "n *event"]) -> dict[str, float]:
        """Every score of the draws. Raises InputError for draws of another shape, or that are not finite."""
        if tuple(draws.shape[1:]) != self.case.event_shape or len(draws) < 2:
            raise InputError(f"draws: expected (n, *{self.case.event_shape}), n >= 2, got {tuple(draws.shape)}")
        if not bool(torch.isfinite(draws).all()):
            raise InputError(f"draws: expected finite numbers, got NaN or infinity in {self.case.name}")
        flat, n = draws.double().flatten(1), len(draws)
        centered = flat - flat.mean(0)
        directions, variances = self._leading
        z = (flat - self.mean) @ directions
        average, around = z.mean(0), z - z.mean(0)
        off = around.T @ around / (n - 1) - variances.diag()
        marginal, least = flat[:, self._nodes], self._least
        between = distances(flat, flat).sum() / (2 * n * (n - 1))
        return {
            "mean": n * float((average.square() / variances).mean()),
            "covariance": float(off.square().sum() / variances.square().sum()),
            "spread": float(centered.square().sum()) / (n - 1) / self.variance,
            "coverage": float(coverage(marginal, self._marginals).share.mean()),
            "crps": float(crps(marginal, self._marginals).sum()) / least[0],
            "energy": float((distances(flat, self._points) @ self._weights).mean() - between) / least[1],
            "misfit": float(self._squares(draws.double()).mean()) / self._misfit,
        }

    def exact(self, n: int, replicates: int = REPLICATES) -> dict[str, Score]:
        """What n exact draws score."""
        generator = torch_stream(self.seed, "exact", self.case.name)
        rows = [self.values(self.case.exact(n, generator)) for _ in range(replicates)]
        moments = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
        return {
            name: Score(name=name, value=mean, expected=mean, error=float(values.std()), sides=SIDES[name])
            for name, values in moments.items()
            for mean in [float(values.mean())]
        }

    def grade(self, draws: Float[Tensor, "n *event"], exact: dict[str, Score]) -> dict[str, Score]:
        """Every score of the draws beside that of as many exact ones, which `exact` has; InputError as `values`.

        A draw that is a point of a finite set up to rounding counts as that point: intervals end at the very points.
        """
        values = self.values(draws if not self.case.finite else self._on_points(draws))
        scores = {name: replace(exact[name], value=value) for name, value in values.items()}
        if self.case.finite:
            probabilities = torch.cat([self.case.masses, torch.zeros(1, dtype=torch.float64)])
            test = multinomial_test(self.counts(draws), probabilities)
            if test.degrees:
                scores["points"] = Score(
                    name="points", value=test.statistic, expected=float(test.degrees),
                    error=(2 * test.degrees) ** 0.5, sides="upper",
                )  # fmt: skip
        return scores


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """One score over several independent problems: averages, the standard error of the value, and the p-value.

    >>> from diffuscope.physics.grading import Score, pooled
    >>> chi_squares = [Score(name="points", value=v, expected=1.0, error=2**0.5, sides="upper") for v in (5.0, 3.0)]
    >>> found = pooled(chi_squares)
    >>> found.value, found.expected, round(found.error, 6), round(found.p_value, 6)  # of 2 degrees: exp(-8 / 2)
    (4.0, 1.0, 1.0, 0.018316)
    """

    name: str
    value: float
    expected: float
    error: float
    p_value: float


def pooled(scores: Sequence[Score]) -> Pooled:
    """The same score of several problems as one test.

    >>> import math
    >>> from diffuscope.physics.grading import Score, pooled
    >>> one = Score(name="spread", value=0.2, expected=2.0, error=2.0, sides="both")  # an exponential one of mean 2
    >>> round(pooled([one]).p_value / (2 * (1 - math.exp(-0.1))), 6)
    1.0
    """
    n, first = len(scores), scores[0]
    value, expected = (sum(getattr(score, name) for score in scores) for name in ("value", "expected"))
    error = sum(score.error**2 for score in scores) ** 0.5
    null = scipy.stats.gamma((expected / error) ** 2, scale=error**2 / expected)
    upper = float(null.sf(value))
    p_value = upper if first.sides == "upper" else min(1.0, 2 * min(upper, float(null.cdf(value))))
    return Pooled(name=first.name, value=value / n, expected=expected / n, error=error / n, p_value=p_value)

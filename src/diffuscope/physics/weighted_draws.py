r"""Weighted draws from a posterior in independent replicas: estimates, and their errors.

R replicas with N particles each run independently, in one batch. Replica r gives unbiased
:math:`Z_r` and :math:`Z_r f_r` for p(y) and :math:`p(y) E[f | y]`. So

.. math::
    \hat Z = \tfrac1R\sum_r Z_r, \qquad \hat f = \frac{\sum_r Z_r f_r}{\sum_r Z_r}, \qquad
    \mathrm{se}(\hat f)^2 = \frac{R}{R-1}\, \frac{\sum_r Z_r^2 (f_r - \hat f)^2}{(\sum_r Z_r)^2}, \qquad
    \mathrm{se}(\log \hat Z)^2 = \frac{1}{R(R-1)} \sum_r \left(\frac{Z_r}{\hat Z} - 1\right)^2

(the variance of a ratio of means to first order). Replicas share no ancestor, so that this holds whatever resampling
does to the ancestry inside one. Errors are Student's with R - 1 degrees of freedom as long as the Z_r are of similar
size. Where they are not, the ratio is biased, its error too small by any factor, and both depend on replicas that were
not drawn. **Above se(log Z) = 0.25 no error is stated**: it is infinite, with a warning. (For R = 8 and log-normal Z_r
whose logarithm has a correlation of 0.7 with f_r, at most 10% of runs state a 95% interval that misses, whatever the
spread of the Z_r; without the rule, up to 86%.) What no particle has seen is in no error: n independent draws miss an
event of probability p with probability :math:`(1 - p)^n`.

Source: Woodruff 1952, *Confidence intervals for medians and other position measures* (errors of quantiles).
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.denoisers import Batch

TRUSTED = 0.25  # the largest standard error of log Z at which the errors of ratios to Z are stated


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted draws of x_0 given y: R replicas of N particles.

    `log_weights` has the evidence in it: the mean of exp(log_weights) over a replica is its estimate Z_r of p(y).
    `ess` is the effective sample size in every replica after every weighting, the last by the likelihood of x_0;
    `resampled` says after which of them it was below half of N.

    >>> import math, torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes, sequential_monte_carlo
    >>> from diffuscope.schedules import VP
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VP())
    >>> seen = at_nodes(torch.tensor([0]), (1,), noise=1.0)
    >>> found = sequential_monte_carlo(prior, seen, torch.tensor([2.0]), particles=64, steps=10)
    >>> exact = -math.log(8 * math.pi) / 2 - 0.5  # log N(2; 0, 3 + 1)
    >>> bool(abs(found.log_evidence - exact) < 4 * found.log_evidence_error + 1e-6)
    True
    """

    x: Float[Tensor, "replicas particles *event"]
    log_weights: Float[Tensor, "replicas particles"]
    ess: Float[Tensor, "stages replicas"]
    resampled: Tensor
    nfe: int

    @property
    def log_evidences(self) -> Float[Tensor, " replicas"]:
        """log Z_r."""
        return self.log_weights.logsumexp(1) - math.log(self.log_weights.shape[1])

    @property
    def log_evidence(self) -> float:
        """log of the mean of the Z_r, which is unbiased for p(y)."""
        return float(self.log_evidences.logsumexp(0)) - math.log(len(self.x))

    @property
    def log_evidence_error(self) -> float:
        """Its standard error."""
        R = len(self.x)
        relative = (self.log_evidences - self.log_evidence).exp() - 1
        return float((relative.square().sum() / (R * (R - 1))).sqrt())

    @property
    def replica_ess(self) -> float:
        """(sum Z_r)^2 / sum Z_r^2: how many replicas the estimates rest on, R at best."""
        share = self.log_evidences.softmax(0)
        return float(1 / share.square().sum())

    @property
    def trusted(self) -> bool:
        """Whether the replicas agree on Z well enough for errors to be stated: se(log Z) <= 0.25."""
        return self.log_evidence_error <= TRUSTED

    @property
    def weights(self) -> Float[Tensor, "replicas particles"]:
        """Of all particles; their sum is 1."""
        return self.log_weights.flatten().softmax(0).reshape(self.log_weights.shape)

    def expectation(self, f: Callable[[Batch], Tensor]) -> tuple[Tensor, Tensor]:
        """E[f(x_0) | y] for a function of a batch of fields, and its standard error; float64.

        The error is infinite, with a RuntimeWarning, where the estimates are not `trusted`.
        """
        R, N = self.log_weights.shape
        values = f(self.x.flatten(0, 1)).double().reshape(R, N, -1)
        shape = f(self.x[0, :1]).shape[1:]
        share = self.log_evidences.softmax(0)  # Z_r / sum Z
        within = torch.einsum("rn,rnk->rk", self.log_weights.softmax(1), values)
        mean = share @ within
        squared = share.square() @ (within - mean).square()
        error = (squared * R / (R - 1)).sqrt() if self.trusted else torch.full_like(mean, math.inf)
        if not self.trusted:
            warnings.warn(
                f"particles: cannot tell the error, as {R} replicas count as {self.replica_ess:.1f} (log p(y) is "
                f"uncertain by {self.log_evidence_error:.2g}, at most {TRUSTED} is needed); take more particles",
                RuntimeWarning,
                stacklevel=2,
            )
        return mean.reshape(shape), error.reshape(shape)

    def mean(self) -> tuple[Tensor, Tensor]:
        """Of every value of the field, and its standard error."""
        return self.expectation(lambda x: x)

    def variance(self) -> tuple[Tensor, Tensor]:
        """Of every value of the field, and its standard error: the mean about which it is taken adds none to it."""
        mean, _ = self.mean()
        return self.expectation(lambda x: (x.double() - mean).square())

    def quantile(self, p: float) -> tuple[Tensor, Tensor]:
        """The p-quantile of every value of the field, and its standard error, (Q(p + 2e) - Q(p - 2e)) / 4.

        e is the standard error of the distribution function at Q(p) (Woodruff 1952). The slope of Q is read off few
        particles: this error is itself uncertain by tens of percent.
        """
        flat = self.x.flatten(0, 1).double().flatten(1)
        ordered, order = flat.sort(0)
        cumulative = self.weights.flatten()[order].cumsum(0)
        at = _inverse(ordered, cumulative, torch.full_like(ordered[0], p))
        _, error = self.expectation(lambda x: (x.double().flatten(1) <= at).double())
        low, high = (_inverse(ordered, cumulative, p + sign * error) for sign in (-2, 2))
        shape = self.x.shape[2:]
        slope = torch.where(error.isfinite(), (high - low) / 4, math.inf)
        return at.reshape(shape), slope.reshape(shape)

    def draws(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n fields of equal weight, by systematic resampling of all particles, in random order."""
        index = systematic(self.weights.reshape(1, -1).log(), generator, n)[0]
        return self.x.flatten(0, 1)[index[torch.randperm(n, generator=generator)]]


def _inverse(ordered: Tensor, cumulative: Tensor, p: Tensor) -> Tensor:
    """The least value of every column whose cumulative weight reaches p."""
    row = torch.searchsorted(cumulative.T.contiguous(), p[:, None]).T.clamp_max(len(ordered) - 1)
    return ordered.gather(0, row)[0]


def systematic(
    log_weights: Float[Tensor, "replicas particles"], generator: torch.Generator, n: int | None = None
) -> Int[Tensor, "replicas n"]:
    """Indices of n particles per replica: one uniform number u, the particles at (u + i) / n of the total weight."""
    n = log_weights.shape[1] if n is None else n
    cumulative = log_weights.double().softmax(1).cumsum(1)
    u = torch.rand(len(log_weights), 1, dtype=torch.float64, generator=generator)
    points = (u + torch.arange(n)) / n * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).clamp_max(log_weights.shape[1] - 1)


def effective_sample_size(log_weights: Float[Tensor, "replicas particles"]) -> Float[Tensor, " replicas"]:
    """(sum w)^2 / sum w^2."""
    return 1 / log_weights.softmax(1).square().sum(1)

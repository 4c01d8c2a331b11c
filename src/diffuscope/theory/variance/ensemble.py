r"""The noise of trained networks, estimated from an ensemble: its covariance, with jackknife errors, and fields.

Of n networks :math:`s_i` trained independently, each with its own noise, start and (to include their variance) data,

.. math::
    \bar s = \frac1n \sum_i s_i, \qquad
    \mathrm{Cov}(s(x, t), s(y, u)) \approx \frac{1}{n - 1} \sum_i d_i(x, t)\, d_i(y, u)^T, \qquad d_i = s_i - \bar s .

Only what differs between the trainings is in it: members that share a training set do not know the variance over
training sets. Any value that is linear in the covariance is :math:`\theta = \frac{1}{n-1}\sum_i z_i` with z_i quadratic
in d_i; without member i it is :math:`\frac{1}{n-2}\left((n-1)\theta - \frac{n}{n-1} z_i\right)`, so that its jackknife
standard error is

.. math::  \mathrm{SE}^2 = \frac{n - 1}{n} \left(\frac{n}{(n-1)(n-2)}\right)^2 \sum_i (z_i - \bar z)^2 .

The interval of a variance is :math:`\theta\,e^{\pm t_{n-1} \mathrm{SE}/\theta}`. For Gaussian members it covers at its
nominal rate of 95% within a percent or two where the variance has four directions or more, and 92 to 94% in one
direction with 6 to 64 members.

The Gaussian fields of this mean and covariance are :math:`\bar s + (n-1)^{-1/2} \sum_i \omega_i d_i` with standard
normal :math:`\omega`. With two networks, one field of differences is left: :math:`\frac12|s_1 - s_2|^2` has the trace
of the covariance as its expectation.

Sources: Vastola 2025, https://arxiv.org/abs/2504.12532; Efron & Stein 1981 (the jackknife); Kadkhodaie, Guth,
Simoncelli & Mallat 2024, https://arxiv.org/abs/2310.02557 (two networks of disjoint halves).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.denoisers import Denoiser, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .noise import Points, Time

LEAST = 3  # members that a jackknife error needs


@dataclass(frozen=True, eq=False)
class Jackknifed:
    """Estimates and their jackknife standard errors over `members`.

    >>> import torch
    >>> from diffuscope.theory.variance import Jackknifed
    >>> found = Jackknifed.of(torch.tensor([1.0, 2.0, 6.0]))
    >>> float(found.value), round(float(found.error), 6)  # 9 / 2, sqrt(21): 7.5, 6 and 0 without one of them
    (4.5, 4.582576)
    """

    value: Float[Tensor, "*shape"]
    error: Float[Tensor, "*shape"]
    members: int

    @classmethod
    def of(cls, squares: Float[Tensor, "members *shape"]) -> "Jackknifed":
        """sum z_i / (n - 1), of values z_i that are quadratic in the deviation of member i."""
        n = len(squares)
        if n < LEAST:
            raise InputError(f"members: expected at least {LEAST} for a standard error, got {n}")
        scale = (n - 1) / n * (n / ((n - 1) * (n - 2))) ** 2
        spread = (squares - squares.mean(0)).square().sum(0)
        return cls(squares.sum(0) / (n - 1), (scale * spread).sqrt(), n)

    def interval(self, confidence: float = 0.95) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Student's interval of the logarithm, for variances: values >= 0, where 0 has no width."""
        if not 0 < confidence < 1:
            raise InputError(f"confidence: expected a number between 0 and 1, got {confidence}")
        relative = torch.where(self.value > 0, self.error / self.value, 0.0)
        reach = float(scipy.stats.t.isf((1 - confidence) / 2, self.members - 1)) * relative
        return self.value * torch.exp(-reach), self.value * torch.exp(reach)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Denoisers of one schedule and one kind of events, vectors of d numbers, trained independently; a `Quenched`.

    Every call evaluates every denoiser at all points: n x batch x d numbers, and n times the NFE. Raises InputError
    for fewer than 3 denoisers and for different schedules.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Ensemble
    >>> points = [Gaussian.isotropic(torch.tensor([m]), 0.0) for m in (1.0, 2.0, 6.0)]  # D = m; mean 3, variance 7
    >>> ensemble, x = Ensemble([ExactDenoiser(point, VE()) for point in points]), torch.tensor([[10.0]])
    >>> round(float(ensemble.score(x, 2.0)), 6), round(float(ensemble.covariance(x, 2.0, x, 4.0)), 6)  # 7 / (2^2 4^2)
    (-1.75, 0.109375)
    >>> ensemble.fields()(x.expand(3, 1, 1), 2.0).flatten().tolist()  # every member at points of its own
    [-2.25, -2.0, -1.0]
    """

    denoisers: Sequence[Denoiser] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.denoisers) < LEAST:
            raise InputError(f"denoisers: expected at least {LEAST}, got {len(self.denoisers)}")
        wrong = next((one.schedule for one in self.denoisers if one.schedule != self.schedule), None)
        if wrong is not None:
            raise InputError(f"denoisers: expected one schedule, got {self.schedule} and {wrong}")

    @property
    def schedule(self) -> Schedule:
        """That of all denoisers."""
        return self.denoisers[0].schedule

    def __len__(self) -> int:
        return len(self.denoisers)

    def fields(self) -> "MemberFields":
        """Every member as one field, which `decompose` takes."""
        return MemberFields(self)

    def scores(self, x: Points, t: Time) -> Float[Tensor, "members batch d"]:
        """The score of every member. Raises InputError for a time without noise and for answers with NaN.

        Gradients are recorded if `x` requires them, never for the networks' weights.
        """
        sigma = float(self.schedule.sigma(t))
        if not sigma > 0:
            raise InputError(f"t: expected a time with sigma > 0, got {float(t):g}")
        with _gradients_of(x):
            each = [denoised_to_score(x, denoiser(x, t), self.schedule, t) for denoiser in self.denoisers]
        answers = torch.stack(each)
        if not bool(answers.isfinite().all()):
            raise InputError("denoisers: expected finite answers, got NaN or infinity")
        return answers

    def score(self, x: Points, t: Time) -> Points:
        """The average of the members."""
        return self.scores(x, t).mean(0)

    def deviations(self, x: Points, t: Time) -> Float[Tensor, "members batch d"]:
        """d_i, in float64."""
        scores = self.scores(x, t).double()
        return scores - scores.mean(0)

    def covariance(self, x: Points, t: Time, y: Points, u: Time) -> Float[Tensor, "batch d d"]:
        """Cov(s(x_b, t), s(y_b, u)), pair by pair; without bias, of rank n - 1 at most."""
        return torch.einsum("mba,mbc->bac", self.deviations(x, t), self.deviations(y, u)) / (len(self) - 1)

    def jackknife(self, x: Points, t: Time, y: Points, u: Time) -> Jackknifed:
        """`covariance` with standard errors. Memory: members x batch x d^2 numbers."""
        return Jackknifed.of(torch.einsum("mba,mbc->mbac", self.deviations(x, t), self.deviations(y, u)))

    def trace(self, x: Points, t: Time) -> Jackknifed:
        """The variance of the score summed over coordinates, point by point."""
        return Jackknifed.of(self.deviations(x, t).square().sum(2))

    def along(self, states: Float[Tensor, "times batch d"], times: Float[Tensor, " times"]) -> Jackknifed:
        """tr V(x_t, t; x_t, t) = (g^2/2)^2 tr Cov along trajectories, (times, batch)."""
        D = self.schedule.g_squared(times) / 2
        each = [self.deviations(x, t).square().sum(2) for x, t in zip(states, times, strict=True)]
        return Jackknifed.of(torch.stack(each, 1) * D.square()[:, None])

    def draw(self, fields: int, *, generator: torch.Generator) -> "EnsembleFields":
        """Gaussian fields spanned by the deviations of the members."""
        require_count("fields", fields, 1)
        omega = torch.randn(fields, len(self), dtype=torch.float64, generator=generator)
        weights = (omega - omega.mean(1, keepdim=True)) / (len(self) - 1) ** 0.5 + 1 / len(self)
        return EnsembleFields(self, weights)


@dataclass(frozen=True, eq=False)
class MemberFields:
    """The members of an ensemble as they are, each at points of its own. Fulfills `AveragedFields`."""

    ensemble: Ensemble = field(repr=False)

    @property
    def schedule(self) -> Schedule:
        """That of all members."""
        return self.ensemble.schedule

    def __call__(self, x: Float[Tensor, "members batch d"], t: Time) -> Float[Tensor, "members batch d"]:
        """The score of every member. Raises InputError for points of another number of members."""
        if len(x) != len(self.ensemble):
            raise InputError(f"x: expected points of {len(self.ensemble)} members, got {len(x)}")
        with _gradients_of(x):
            each = zip(self.ensemble.denoisers, x, strict=True)
            return torch.stack([denoised_to_score(own, one(own, t), self.schedule, t) for one, own in each])

    def mean(self) -> "EnsembleFields":
        """The average score, at any number of fields of points."""
        return EnsembleFields(self.ensemble, torch.ones(1, len(self.ensemble)).double() / len(self.ensemble))

    def leave_out(self, groups: int) -> "EnsembleFields":
        """The average score without the g-th of so many equal groups of members, for every g: a jackknife of `mean`.

        InputError unless the groups are at least two and divide the number of members.
        """
        members = len(self.ensemble)
        if not 2 <= groups <= members or members % groups != 0:
            raise InputError(f"groups: expected a divisor >= 2 of the {members} members, got {groups}")
        out = torch.eye(groups, dtype=torch.float64).repeat_interleave(members // groups, 1)
        return EnsembleFields(self.ensemble, (1 - out) / (members - members // groups))


@dataclass(frozen=True, eq=False)
class EnsembleFields:
    """Sums of the members' scores with `weights` that sum to 1. Fulfills `ScoreFields`.

    A single field takes any number of fields of points.
    """

    ensemble: Ensemble = field(repr=False)
    weights: Float[Tensor, "fields members"] = field(repr=False)

    def __call__(self, x: Float[Tensor, "fields batch d"], t: Time) -> Float[Tensor, "fields batch d"]:
        """Every field at its own points; every member is evaluated at all of them, one after the other."""
        if len(self.weights) not in (1, len(x)):
            raise InputError(f"x: expected points of {len(self.weights)} fields, got {len(x)}")
        flat, schedule, total = x.flatten(0, 1), self.ensemble.schedule, torch.zeros_like(x)
        with _gradients_of(x):
            for denoiser, weight in zip(self.ensemble.denoisers, self.weights.T, strict=True):
                score = denoised_to_score(flat, denoiser(flat, t), schedule, t)
                total = total + weight.to(x)[:, None, None] * score.reshape(x.shape)
        return total


def _gradients_of(x: Tensor) -> torch.set_grad_enabled:
    return torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad)


@torch.no_grad()
def split_variance(first: Denoiser, second: Denoiser, x: Points, t: Time) -> Float[Tensor, " batch"]:
    r"""|s_1 - s_2|^2 / 2: of two networks of disjoint halves, an unbiased estimate of tr Cov at every point.

    One pair is one field: values at neighboring points are no independent repetitions. Raises InputError for two
    schedules.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import split_variance
    >>> first, second = (ExactDenoiser(Gaussian.isotropic(torch.tensor([m]), 0.0), VE()) for m in (1.0, 6.0))  # D = m
    >>> round(float(split_variance(first, second, torch.tensor([[10.0]]), 2.0)), 6)  # ((6 - 1) / 2^2)^2 / 2
    0.78125
    """
    if first.schedule != second.schedule:
        raise InputError(f"second: expected the schedule {first.schedule} of the first, got {second.schedule}")
    one, other = (denoised_to_score(x, denoiser(x, t), first.schedule, t) for denoiser in (first, second))
    return (one - other).double().square().sum(1) / 2

r"""The distance of a denoiser from the optimum, which is known exactly for a finite data set.

Over the training examples S = {y_1, .., y_N} the loss at one noise level is exactly the sum

.. math::
    E_S\left[\tfrac1d |D - x_0|^2\right] = \underbrace{E_S\left[\tfrac1d |D - D_S|^2\right]}_{\text{excess}}
      + \underbrace{E_S\left[\tfrac1d \operatorname{tr}\mathrm{Cov}_S(x_0 | x_t)\right]}_{\text{irreducible}},
    \qquad D_S(x_t) = E_S[x_0 | x_t],

and both terms are computed directly, not by subtraction: the excess is the distance to the exact denoiser of S at a few
fixed noised examples, so that it is free of the Monte Carlo noise of the loss and cannot be negative. Only the
memorizer D_S reaches zero.

For held-out examples H (`unseen`) neither their distribution p nor its optimum D_p is known, but the optimum over H
itself is: the held-out excess is the same expression with H in place of S, the loss on H less the irreducible loss of
H. For H drawn from p and D trained without it,

.. math::
    E_H\, \text{excess}_H(D) = E_p\left[\tfrac1d |D - D_p|^2\right] + \left(R_p - E_H R_H\right), \qquad
    R_p \ge E_H R_H ,

with R the irreducible loss, since knowing H can only help. So it is an upper bound of the distance to the population's
optimum, and a tight one where the noise is so large that H and p cannot be distinguished. For comparison, `memorizer`
is the held-out excess of the training memorizer D_S, the limit of a model that memorizes.

For float32 data the relative error of the exact denoiser is below 1e-4: an excess below 1e-8 E|D*|^2 / d is zero.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.by_parts import mean_and_deviation
from diffuscope.denoisers import Batch, Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.schedules import Times

RELATIVE_LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""The default sigma/alpha in standard deviations of the data: from single examples to the mean."""
ROWS = 256  # examples in one call of the denoiser


@dataclass(frozen=True)
class Excess:
    """E|D - D*|^2 / d with its standard error over the examples, and the irreducible loss E tr Cov(x_0|x_t) / d.

    `memorizer` is the excess of the training set's own optimum: zero on training examples.

    >>> import torch
    >>> from diffuscope import Empirical, ExactDenoiser, VE
    >>> from diffuscope.training import Optimum
    >>> def always(x):
    ...     return ExactDenoiser(Empirical(torch.tensor([[x]])), VE(sigma_max=1e6))
    >>> optimum = Optimum.of(always(0.0), torch.tensor([[1.0], [-1.0]]), noise_to_signal=(1e5,))
    >>> excess = optimum.distance(always(5.0), step=0).levels[0].train  # E[x_0 | x_t] = 0, Var(x_0 | x_t) = 1
    >>> round(excess.excess, 2), round(excess.irreducible, 2), round(excess.loss, 2)
    (25.0, 1.0, 26.0)
    """

    excess: float
    standard_error: float
    irreducible: float
    memorizer: float

    @property
    def loss(self) -> float:
        """E|D - x_0|^2 / d, averaged exactly over the posterior of x_0."""
        return self.excess + self.irreducible


@dataclass(frozen=True)
class LevelDistance:
    """Both excesses at one noise level sigma/alpha; `unseen` is that on held-out examples, None without them.

    >>> import torch
    >>> from diffuscope import Empirical, ExactDenoiser, VE
    >>> from diffuscope.training import Optimum
    >>> def always(x):
    ...     return ExactDenoiser(Empirical(torch.tensor([[x]])), VE())
    >>> optimum = Optimum.of(always(0.0), torch.tensor([[3.0]]), unseen=torch.tensor([[6.0]]), noise_to_signal=(2.0,))
    >>> level = optimum.distance(always(5.0), step=10).levels[0]
    >>> level.noise_to_signal, level.train.excess, level.unseen.excess, level.unseen.memorizer
    (2.0, 4.0, 1.0, 9.0)
    """

    noise_to_signal: float
    train: Excess
    unseen: Excess | None


@dataclass(frozen=True)
class Distance:
    """The distance to the optimum after `step` steps, level by level.

    >>> from diffuscope.training import Distance, Excess, LevelDistance
    >>> level = LevelDistance(0.5, Excess(0.25, 0.01, 0.5, 0.0), Excess(0.75, 0.01, 0.5, 0.0))
    >>> other = LevelDistance(2.0, Excess(0.75, 0.01, 0.5, 0.0), Excess(1.75, 0.01, 0.5, 0.0))
    >>> distance = Distance(10, (level, other))
    >>> distance.train, distance.unseen
    (0.5, 1.25)
    """

    step: int
    levels: tuple[LevelDistance, ...]

    @property
    def train(self) -> float:
        """The training excess, averaged over the levels."""
        return sum(level.train.excess for level in self.levels) / len(self.levels)

    @property
    def unseen(self) -> float | None:
        """The held-out excess, averaged over the levels; None without held-out examples."""
        excesses = [level.unseen.excess for level in self.levels if level.unseen is not None]
        return sum(excesses) / len(excesses) if excesses else None


@dataclass(frozen=True, eq=False)
class _Fixed:
    """Noised examples of one set at one time, drawn once, and the exact denoiser there."""

    x_t: Batch
    optimal: Batch
    irreducible: float
    memorizer: float

    def excess_of(self, denoiser: Denoiser, t: Times) -> Excess:
        squares = torch.cat(
            [
                (denoiser(x_t, t).double() - optimal.double()).square().flatten(1).mean(1)
                for x_t, optimal in zip(self.x_t.split(ROWS), self.optimal.split(ROWS), strict=True)
            ]
        )
        error = float(squares.std()) / math.sqrt(len(squares)) if len(squares) > 1 else math.nan
        return Excess(float(squares.mean()), error, self.irreducible, self.memorizer)


@dataclass(frozen=True, eq=False)
class Optimum:
    """The exact optimum at a few noised examples; `distance` evaluates a denoiser once on each and compares.

    Make it with `Optimum.of`. It keeps 2 x (levels) x (points) examples, and twice as many with held-out ones.

    >>> import torch
    >>> from diffuscope import Empirical, ExactDenoiser, VE
    >>> from diffuscope.training import Optimum
    >>> def always(x):
    ...     return ExactDenoiser(Empirical(torch.tensor([[x]])), VE())
    >>> optimum = Optimum.of(always(0.0), torch.tensor([[3.0]]), unseen=torch.tensor([[6.0]]), noise_to_signal=(0.5,))
    >>> distance = optimum.distance(always(5.0), step=10)
    >>> distance.train, distance.unseen  # (5 - 3)^2, (5 - 6)^2
    (4.0, 1.0)
    """

    times: tuple[Times, ...]
    noise_to_signal: tuple[float, ...]
    _train: tuple[_Fixed, ...] = field(repr=False)
    _unseen: tuple[_Fixed, ...] = field(repr=False)

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        denoiser: Denoiser,
        data: Float[Tensor, "examples *event"],
        *,
        unseen: Float[Tensor, "..."] | None = None,
        noise_to_signal: tuple[float, ...] | None = None,
        points: int = 128,
        seed: int = 0,
    ) -> "Optimum":
        """The optimum of `data` in the schedule, precision and device of `denoiser`, whose weights do not matter.

        At each `noise_to_signal` = sigma/alpha (by default five multiples of the data's standard deviation, within
        the schedule) `points` examples of `data` and of the held-out set `unseen` are noised once, with `seed`, and the
        exact denoiser of the whole set is evaluated there once: a few times (levels) (points) N d operations.

        Raises InputError for no levels or no points, levels outside the schedule, and held-out data of another shape.
        """
        if points < 1:
            raise InputError(f"points: expected a whole number >= 1, got {points}")
        if unseen is not None and (len(unseen) == 0 or unseen.shape[1:] != data.shape[1:]):
            raise InputError(
                f"unseen: expected at least one example of shape {tuple(data.shape[1:])}, got {tuple(unseen.shape)}"
            )
        schedule = denoiser.schedule
        low, high = (float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max))
        if noise_to_signal is None:
            scale = mean_and_deviation(data)[1] * math.sqrt(1 - 1 / data.numel())
            noise_to_signal = tuple(level * scale for level in RELATIVE_LEVELS if low <= level * scale <= high)
        if not noise_to_signal or not all(low <= level <= high for level in noise_to_signal):
            raise InputError(
                f"noise_to_signal: expected levels between {low:.4g} and {high:.4g}, the schedule's, "
                f"got {noise_to_signal}"
            )
        first = next(denoiser.parameters(), data) if isinstance(denoiser, nn.Module) else data
        generator = torch.Generator().manual_seed(seed)
        times = tuple(nearest_trained_time(denoiser, schedule.time_of_noise_to_signal(r)) for r in noise_to_signal)
        levels = [(schedule.alpha(t), schedule.sigma(t)) for t in times]
        distribution = Empirical(data.to(first.device))
        train, heldout = _fixed(distribution, distribution, data, levels, points, like=first, generator=generator), ()
        if unseen is not None:
            other = Empirical(unseen.to(first.device))
            heldout = _fixed(other, distribution, unseen, levels, points, like=first, generator=generator)
        return cls(times, noise_to_signal, train, heldout)

    @torch.no_grad()
    def distance(self, denoiser: Denoiser, step: int) -> Distance:
        """The distance of `denoiser` after `step` steps. A module is evaluated in evaluation mode and left as it was.

        Nothing is drawn: two equal denoisers have the same distance, bit for bit.
        """
        training = isinstance(denoiser, nn.Module) and denoiser.training
        if isinstance(denoiser, nn.Module):
            denoiser.eval()
        try:
            levels = []
            for i, (level, t) in enumerate(zip(self.noise_to_signal, self.times, strict=True)):
                train = self._train[i].excess_of(denoiser, t)
                heldout = self._unseen[i].excess_of(denoiser, t) if self._unseen else None
                levels.append(LevelDistance(level, train, heldout))
            return Distance(step, tuple(levels))
        finally:
            if isinstance(denoiser, nn.Module):
                denoiser.train(training)


def _fixed(
    distribution: Empirical,
    training_distribution: Empirical,
    examples: Tensor,
    levels: list[tuple[Times, Times]],
    points: int,
    *,
    like: Tensor,
    generator: torch.Generator,
) -> tuple[_Fixed, ...]:
    chosen = torch.randperm(len(examples), generator=generator)[:points]
    x_0 = examples[chosen.to(examples.device)].to(like)
    fixed, d = [], x_0[0].numel()
    for alpha, sigma in levels:
        noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float64).to(like)
        x_t = float(alpha) * x_0 + float(sigma) * noise
        optimal = distribution.denoise(x_t, alpha, sigma)
        irreducible = float(distribution.posterior_covariance(x_t, alpha, sigma).trace().double().mean()) / d
        same = distribution is training_distribution
        memorized = optimal if same else training_distribution.denoise(x_t, alpha, sigma)
        memorizer = float((memorized.double() - optimal.double()).square().mean())
        fixed.append(_Fixed(x_t, optimal, irreducible, memorizer))
    return tuple(fixed)

r"""Two models of different examples from the same starts: do their samples agree, and what do their scores share?

With A_i and B_i the samples of the two models from start i, mu the mean of the first one's training data and y_n its
training examples,

.. math::
    a_i = \cos(A_i - \mu, B_i - \mu), \qquad b_i = \max_n \cos(A_i - \mu, y_n - \mu), \qquad
    h_j = \max_n \cos(z_j - \mu, y_n - \mu)

for held-out z_j. A memorizer's b is 1 and its a low; models that learned the distribution have the reverse (Kadkhodaie
et al. 2024, https://arxiv.org/abs/2310.02557, who remove each image's own mean; the mean of the data removes what all
images share, so that unrelated ones have cosine about 0). *Low* is measured: m_i is the cosine of the samples of two
exact memorizers (the empirical denoisers of both training sets) from the same start, which share an outline. On

.. math::  w = \frac{\bar a - \bar m}{1 - \bar m}, \qquad u = \frac{\bar b - \bar h}{1 - \bar h}

two memorizers have w = 0 and u = 1, equal functions w = 1, and samples as near as fresh examples u = 0.

The *split-to-split covariance* of the score estimates the V of `theory.variance` at one point: for two independent
trainings :math:`\tfrac12 E|s_A - s_B|^2 = \operatorname{tr}\operatorname{Cov}\hat s`. Relative to the covariance of the
target, :math:`\operatorname{tr} C = (\alpha^2/\sigma^4)\operatorname{tr}\operatorname{Cov}(x_0|x_t)`,

.. math::
    R = \frac{\tfrac12 E|s_A - s_B|^2}{E\operatorname{tr} C}
      = \frac{\tfrac12 E|D_A - D_B|^2}{E\operatorname{tr}\operatorname{Cov}(x_0|x_t)} .

A model that averages M independent targets at every point has R = 1/M: one that answers the mean of its n examples has
1/n at high noise. R is above 1 where a memorizer is sure of an example that the other one does not have.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from diffuscope.denoisers import Checked, Denoiser, ExactDenoiser, tensors_within
from diffuscope.exact import Empirical
from diffuscope.findings import PERMUTATIONS, bootstrap_sums, percentile_interval
from diffuscope.samplers import Heun, finish
from diffuscope.store import Arrays

from .fingerprint import PROBES, digest
from .generation import refined, starting_noise
from .level_charts import Curve
from .level_measures import Points
from .own_sampler import own_sampler
from .rows_of import RowsOf, nearest_rows, rows_of
from .second_model import SecondModel, Translated, named_second, shared_levels, translated
from .session import Session
from .subject import Levels, evaluate, noised

STARTS = 128  # pairs of samples; the standard error of a mean cosine is at most 0.09
SPLIT_POINTS = 256  # held-out examples where the two models' answers are compared
ROUNDING = 1e-9  # of the target's variance: single precision leaves 1e-13
SAME_COSINE = 1e-6  # of 1: single precision knows no more of a cosine
TINY = np.finfo(float).tiny
Interval = tuple[float, float, float]  # a value and the ends of its interval


@dataclass(frozen=True, eq=False)
class Pair:
    """The two denoisers of an audit under one schedule, and the levels that both cover."""

    first: Denoiser
    second: Translated
    given: SecondModel
    kept: Bool[ndarray, " levels"]
    levels: Levels

    @classmethod
    def of(cls, session: Session, given: SecondModel) -> "Pair":
        """The second model in the units of the first."""
        first = session.subject.denoiser
        second = translated(given.denoiser, first)
        kept = shared_levels(second, session.levels)
        levels = Levels(session.levels.times[kept], session.levels.ratios[kept])
        return cls(first, second, given, kept.numpy(), levels)

    @property
    def mismatch(self) -> float:
        """The largest factor by which noise levels of the second model are off."""
        return float(self.second.mismatch(self.levels.times).max())

    def memorizers(self, session: Session) -> tuple[Empirical, Empirical]:
        """The exact memorizers of both training sets; held-out examples stand in for unknown data."""
        references, train = session.references, self.given.train
        return references.train, references.heldout if train is None else Empirical(train.float())

    def digest(self, session: Session) -> str:
        """What identifies the second model: its weights, its data, and its answers at every level."""
        clean, noise = (part[:PROBES] for part in session.points[::2])
        answers = [evaluate(self.second, noised(self.first.schedule, clean, noise, t), t) for t, _ in self.levels]
        data = [] if self.given.train is None else [self.given.train]
        return digest(*tensors_within(self.given.denoiser), *data, *answers)[:16]


def measure_samples(session: Session, pair: Pair) -> Arrays:
    """Samples of both models and of two exact memorizers from the same starts, by the audit's sampler."""
    count = min(STARTS, session.settings.trajectories)
    times, stream = refined(pair.first, pair.levels), session.torch_stream("agreement")
    first = pair.first
    start = starting_noise(session.references.gaussian, first.schedule, float(times[0]), count, stream)
    own, state = session.settings.sampler, stream.get_state()

    def samples(denoiser: Denoiser) -> ndarray:
        stream.set_state(state)  # a sampler that draws noise draws the same for all
        if own:
            return own_sampler(own)(denoiser, start, times, stream).numpy()
        return finish(Checked(denoiser), Heun(), start, times).numpy()

    memorizers = [ExactDenoiser(of, first.schedule) for of in pair.memorizers(session)]
    with named_second():
        second = samples(pair.second)
    return {
        "first": samples(first),
        "second": second,
        "first_memorizer": samples(memorizers[0]),
        "second_memorizer": samples(memorizers[1]),
    }


def measure_scores(session: Session, pair: Pair) -> Arrays:
    """|D_A - D_B|^2 and tr Cov(x_0|x_t) per level and point, and the second model's errors at the audit's points."""
    train, heldout, noise = session.points
    states = torch.from_numpy(session.generated["states"])[torch.from_numpy(pair.kept)][:, :STARTS]
    memorizers, rows = pair.memorizers(session), []
    for (t, _), on_path in zip(pair.levels, states, strict=True):
        alpha, sigma = (float(level(t)) for level in (pair.first.schedule.alpha, pair.first.schedule.sigma))
        of_train, of_heldout = (noised(pair.first.schedule, clean, noise, t) for clean in (train, heldout))
        with named_second():
            second = [evaluate(pair.second, x_t, t) for x_t in (on_path, of_heldout, of_train)]
        asked = on_path, of_heldout[:SPLIT_POINTS]
        splits = [
            half_square(evaluate(pair.first, x_t, t), answers[: len(x_t)])
            for x_t, answers in zip(asked, second[:2], strict=True)
        ]
        exact = [of.denoise(on_path, alpha, sigma) for of in memorizers]
        noises = [memorizers[0].posterior_covariance(x_t, alpha, sigma).trace().double() for x_t in asked]
        rows.append(
            {
                "path": torch.stack([splits[0], noises[0], half_square(*exact)], 1),
                "heldout": torch.stack([splits[1], noises[1]], 1),
                "heldout_error": 2 * half_square(second[1], heldout),
                "training_error": 2 * half_square(second[2], train),
            }
        )
    return {name: torch.stack([row[name] for row in rows], 1).numpy() for name in rows[0]}


def half_square(x: Points, y: Points) -> Float[Tensor, " n"]:
    """|x - y|^2 / 2 of every row."""
    return (x - y).flatten(1).double().square().sum(1) / 2


def unit(x: Tensor, mean: Tensor) -> Float[Tensor, "n d"]:
    """Rows less the mean, of length one, in float64; the mean itself stays 0."""
    centered = (x.double() - mean.double()).flatten(1)
    return centered / centered.norm(dim=1, keepdim=True).clamp(min=TINY)


def nearest_cosines(x: Float[Tensor, "n d"], examples: Float[Tensor, "m d"] | RowsOf) -> Float[ndarray, " n"]:
    """The largest cosine of every unit row with unit `examples`: that of the nearest one."""
    return (1 - nearest_rows(x, examples, 1)[0][:, 0] ** 2 / 2).numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """The cosines of every start and held-out example, and the sums of every level and point."""

    ratios: Float[ndarray, " levels"]
    scale: float
    matter: Bool[ndarray, " levels"]
    cosines: Float[ndarray, "n n"]  # of sample i of the first with sample j of the second; the diagonal is a
    memorizers: Float[ndarray, " n"]  # m
    nearest: Float[ndarray, " n"]  # b
    second_nearest: Float[ndarray, " n"]  # the second model's samples to the first one's training examples
    heldout_nearest: Float[ndarray, " m"]  # h
    path: Float[ndarray, "n levels 3"]  # split, target, split of the memorizers: on the first one's trajectories
    heldout: Float[ndarray, "points levels 2"]  # split, target: at noised held-out examples

    @classmethod
    def of(cls, session: Session, pair: Pair, samples: Arrays, scores: Arrays) -> "Agreement":
        """Reduce the stored stages."""
        mean = session.references.mean
        first, second, one, other = (
            unit(torch.from_numpy(samples[name]), mean)
            for name in ("first", "second", "first_memorizer", "second_memorizer")
        )
        examples, heldout = rows_of(session.subject.train, partial(unit, mean=mean)), unit(session.points[1], mean)
        return cls(
            ratios=pair.levels.ratios.numpy(),
            scale=session.subject.scale,
            matter=session.measures.matter[pair.kept],
            cosines=(first @ second.T).numpy(),
            memorizers=(one * other).sum(1).numpy(),
            nearest=nearest_cosines(first, examples),
            second_nearest=nearest_cosines(second, examples),
            heldout_nearest=nearest_cosines(heldout, examples),
            path=scores["path"],
            heldout=scores["heldout"],
        )

    @cached_property
    def agree(self) -> Float[ndarray, " n"]:
        """a, of every start."""
        return np.diagonal(self.cosines).copy()

    @property
    def apart(self) -> float:
        """The mean cosine of samples from different starts."""
        n = len(self.cosines)
        return float((self.cosines.sum() - self.agree.sum()) / (n * (n - 1)))

    @property
    def same(self) -> bool:
        """Whether the two models gave the same answers, up to rounding of the translated one."""
        return all(part[..., 0].sum() <= ROUNDING * part[..., 1].sum() for part in (self.path, self.heldout))

    def p_value(self, rng: np.random.Generator) -> float:
        """Of the mean of a, under permutations of the second model's starts."""
        places = np.arange(len(self.cosines))
        partners = rng.permuted(np.tile(places, (PERMUTATIONS, 1)), axis=1)
        permuted = self.cosines[places, partners].mean(1)
        return float((1 + (permuted >= self.agree.mean() - 1e-12).sum()) / (1 + PERMUTATIONS))

    def agreement(self, rng: np.random.Generator) -> Interval:
        """w with its interval, over starts."""
        pairs = np.stack([self.agree, self.memorizers], 1)
        drawn = bootstrap_sums(pairs, rng)
        return _with_interval(_share(*pairs.mean(0)), _share(drawn[:, 0], drawn[:, 1]))

    def copying(self, rng: np.random.Generator) -> Interval:
        """u with its interval, over starts and held-out examples."""
        own, fresh = (bootstrap_sums(x[:, None], rng)[:, 0] for x in (self.nearest, self.heldout_nearest))
        return _with_interval(_share(self.nearest.mean(), self.heldout_nearest.mean()), _share(own, fresh))

    def averaged(self, rng: np.random.Generator) -> Interval:
        """R on the first one's trajectories, of the sums over the levels that matter, with its interval."""
        sums = self.path[:, self.matter, :2].sum(1)
        drawn = bootstrap_sums(sums, rng)
        split, noise = sums.mean(0)
        return _with_interval(split / max(noise, TINY), drawn[:, 0] / np.maximum(drawn[:, 1], TINY))

    def curves(self, rng: np.random.Generator) -> dict[str, Curve]:
        """R at every level: of the two models on the path and at held-out examples, of two memorizers on the path."""
        return {
            "trajectories": _ratio_curve(self.path[..., 0], self.path[..., 1], rng),
            "held-out examples": _ratio_curve(self.heldout[..., 0], self.heldout[..., 1], rng),
            "two memorizers, trajectories": _ratio_curve(self.path[..., 2], self.path[..., 1], rng),
        }


def _share(value: ndarray | float, zero: ndarray | float) -> ndarray:
    """The position of `value` between `zero` and 1; NaN where these are the same up to rounding."""
    room = np.asarray(1 - zero)
    apart = room > SAME_COSINE
    return np.where(apart, np.round((value - zero) / np.where(apart, room, 1), 9), np.nan)  # no trace of rounding


def _with_interval(value: ndarray | float, drawn: ndarray) -> Interval:
    low, high = percentile_interval(drawn)
    return float(value), float(low), float(high)


def _ratio_curve(split: ndarray, noise: ndarray, rng: np.random.Generator) -> Curve:
    """The ratio of means over points, by level; NaN where the target has no noise in double precision."""
    levels = split.shape[1]
    drawn = bootstrap_sums(np.concatenate([split, noise], 1), rng)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = split.mean(0) / noise.mean(0)
        low, high = percentile_interval(drawn[:, :levels] / drawn[:, levels:])
    return Curve(*(np.where(np.isfinite(value), part, np.nan)[:, None] for part in (value, low, high)))


def network_calls(session: Session, pair: Pair) -> int:
    """How often a model is evaluated at one state, both together."""
    settings, (train, heldout, _) = session.settings, session.points
    starts, levels = min(STARTS, settings.trajectories), len(pair.levels)
    per_start = 2 * (len(refined(pair.first, pair.levels)) - 1) + 1  # Heun's
    at_points = 2 * starts + len(train) + len(heldout) + min(SPLIT_POINTS, len(heldout))
    return 2 * starts * per_start + levels * at_points

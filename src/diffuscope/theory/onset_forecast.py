r"""When will a model start to copy? The onset at n examples, predicted from pilots at smaller n.

Learning anything takes a time that does not depend on n; fitting the examples themselves takes one proportional to it
(Bonnaire et al. 2025). Copying waits for the longer of the two, so that the smallest pilots may be late. For a pilot i
of n_i examples, with N the geometric mean of the sizes, f the share of the first at N, an exponent b near 1 and a
sharpness p of the bend (the two times are added at p = 1; at p = 8 the longer one decides),

.. math::
    \log\tau_i = m + g(n_i) + \varepsilon_i, \qquad
    g(n) = \tfrac1p \log\left[f + (1 - f)\,(n/N)^{pb}\right], \qquad
    f \sim U(0, 1), \quad b \sim \mathcal N(1, 0.15^2), \quad p \in \{1, 2, 4, 8\}, \quad \log s, m \sim U .

A pure power law is f = 0. The errors are those of a run, standard deviation s, and those of checkpoints 10% apart,
q = (log 1.1)/sqrt(12), which runs of one size may share:

.. math::
    \operatorname{Cov}(\varepsilon) = \Sigma = s^2 I + q^2 B, \quad B_{ij} = [n_i = n_j], \qquad
    \hat m = \frac{1^T\Sigma^{-1}(y - g)}{1^T\Sigma^{-1}1}, \qquad
    \log\tau \,|\, f, b, p, s \sim
      \mathcal N\left(\hat m + g(n),\ \tfrac{1}{1^T\Sigma^{-1}1} + s^2 + q^2 + \delta^2\log^2\tfrac{n}{\max n_i}\right),

with the weight :math:`|\Sigma|^{-1/2} (1^T\Sigma^{-1}1)^{-1/2} e^{-r^T\Sigma^{-1}r/2}`, r = y - g - m, of (f, b, p, s),
m integrated out. The last term is for growth of another form: between the pilots and n the exponent may change, by a
standard deviation of 0.3. In the networks that were measured, it changed by -0.3 to 0.4 over a factor of 4 in n. The
forecast is the median of this mixture, its intervals are quantiles.

Pilots without an onset, and pilots whose chance level is not small, do not enter; without two sizes that copied there
is no forecast. Where the pilots grow faster than b can, with an exponent above 1.3, the network's capacity or the noise
of its training limits the fit; that grows with n, so that only a lower bound is given.

Source: Bonnaire, Urfin, Biroli & Mezard 2025, *Why diffusion models don't memorize*, https://arxiv.org/abs/2505.17638.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float
from numpy import ndarray

from diffuscope.errors import InputError

from .memorization_onset import SPACING

EXPONENT, EXPONENT_STD = 1.0, 0.15
EXPONENT_CHANGE = 0.3  # delta
SHARPNESS = (1.0, 2.0, 4.0, 8.0)  # p
CHECKPOINTS = math.log(SPACING) / math.sqrt(12)  # q
SCATTER = (0.01, 0.5)  # of s
STEEPEST = EXPONENT + 2 * EXPONENT_STD  # of the pilots; above it, the network or its noise limits the fit
BISECTIONS = 40  # a relative error of about 1e-10


@dataclass(frozen=True, kw_only=True)
class OnsetForecast:
    """The onset at `n` examples: its median and its 80% and 95% intervals, in the unit of the pilots' onsets.

    `slope` is the exponent of the onsets between the pilots, with its standard error; `scatter` the relative standard
    deviation of one run (posterior mean of s).

    >>> from diffuscope.theory import forecast_onset
    >>> found = forecast_onset([64, 128, 256], [1920, 3840, 7680], 1024)
    >>> round(found.slope, 6), found.interval_95[0] < 30 * 1024 < found.interval_95[1]  # onsets of 30 n
    (1.0, True)
    """

    n: int
    median: float
    interval_80: tuple[float, float]
    interval_95: tuple[float, float]
    slope: float
    slope_error: float
    scatter: float


@dataclass(frozen=True, kw_only=True)
class NoForecast:
    """Why nothing can be told, as a clause; `later_than` is what the onset exceeds all the same, None if unknown.

    >>> from diffuscope.theory import forecast_onset
    >>> found = forecast_onset([100, 200], [10, 40], 800)
    >>> found.reason, round(found.later_than, 6)  # 40 x 800 / 200
    ('the onset of the pilots grows faster than in proportion to their size (exponent 2.00)', 160.0)
    """

    reason: str
    later_than: float | None = None


def forecast_onset(sizes: Sequence[int], onsets: Sequence[float | int], n: int) -> OnsetForecast | NoForecast:
    """The onset at `n` from pilots of `sizes` examples that began to copy at `onsets`, in steps or training time.

    `NoForecast` for fewer than two sizes, for onsets that do not grow with n (their slope is within two standard errors
    of 0), and for a slope above 1.3: then the onset is later than in proportion to the largest pilots.
    Raises InputError unless sizes are 2 <= n_i < n and onsets finite and > 0.

    >>> from diffuscope.theory import forecast_onset
    >>> found = forecast_onset([64, 128, 256], [1920, 3840, 7680], 1024)
    >>> abs(found.median / (30 * 1024) - 1) < 0.15  # onsets of 30 n
    True
    >>> forecast_onset([64, 64], [1920, 1800], 1024).reason
    'pilots of 1 size(s) have copied, and their growth needs 2'
    """
    x, y = _checked(sizes, onsets, n)
    if len(set(sizes)) < 2:
        return NoForecast(reason=f"pilots of {len(set(sizes))} size(s) have copied, and their growth needs 2")
    slope, error = _slope(x, y)
    if slope < 2 * error:
        return NoForecast(
            reason=f"the onset of the pilots does not grow with their size (exponent {slope:.2f} +- {error:.2f})",
            later_than=float(np.exp(y.mean())),
        )
    if slope > STEEPEST:
        return NoForecast(
            reason=f"the onset of the pilots grows faster than in proportion to their size (exponent {slope:.2f})",
            later_than=float(np.exp(y[x == x.max()].mean())) * n / max(sizes),
        )
    weight, mean, std, scatter = _mixture(x, y, math.log(n) - float(np.mean(np.log(sizes))))
    std = np.hypot(std, EXPONENT_CHANGE * math.log(n / max(sizes)))
    low_95, low_80, median, high_80, high_95 = (
        math.exp(_quantile(p, weight, mean, std)) for p in (0.025, 0.1, 0.5, 0.9, 0.975)
    )
    return OnsetForecast(
        n=n, median=median, interval_80=(low_80, high_80), interval_95=(low_95, high_95), slope=slope,
        slope_error=error, scatter=float((weight * scatter).sum()),
    )  # fmt: skip


def growth(
    x: Float[ndarray, "..."], f: Float[ndarray, "..."], b: Float[ndarray, "..."], p: Float[ndarray, "..."]
) -> Float[ndarray, "..."]:
    """g at log(n/N) = `x`, broadcast against f, b and p."""
    return np.logaddexp(np.log(f), np.log1p(-f) + p * b * x) / p


def _checked(sizes: Sequence[int], onsets: Sequence[float | int], n: int) -> tuple[ndarray, ndarray]:
    if len(sizes) != len(onsets):
        raise InputError(f"onsets: expected one per pilot, {len(sizes)}, got {len(onsets)}")
    if not all(2 <= size < n for size in sizes):
        raise InputError(f"sizes: expected pilots of 2 to {n - 1} examples, got {', '.join(map(str, sizes))}")
    if not all(0 < onset < math.inf for onset in onsets):
        raise InputError(f"onsets: expected finite numbers > 0, got {', '.join(f'{onset:g}' for onset in onsets)}")
    x = np.log(np.asarray(sizes, dtype=np.float64))
    return x - (x.mean() if len(x) else 0.0), np.log(np.asarray(onsets, dtype=np.float64))


def _slope(x: ndarray, y: ndarray) -> tuple[float, float]:
    """Least-squares exponent and its standard error, from the scatter about the line and that of checkpoints."""
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    residual = y - y.mean() - slope * x
    variance = max(CHECKPOINTS**2, float((residual**2).sum()) / max(1, len(x) - 2))
    return slope, math.sqrt(variance / spread)


def _mixture(x: ndarray, y: ndarray, at: float) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Weight, mean, standard deviation and s of every (s, f, b, p), flattened; `at` is log(n/N)."""
    f = ((np.arange(15) + 0.5) / 15)[:, None, None]
    b = (EXPONENT + EXPONENT_STD * scipy.special.ndtri((np.arange(11) + 0.5) / 11))[:, None]  # of equal prior weight
    p = np.array(SHARPNESS)
    residual = y - np.stack([growth(np.asarray(place), f, b, p) for place in x], -1)
    ahead = growth(np.asarray(at), f, b, p)
    shared = CHECKPOINTS**2 * (x[:, None] == x[None])
    scatters = np.geomspace(*SCATTER, 12)
    logs, means, stds = [], [], []
    for s in scatters:
        covariance = s**2 * np.eye(len(x)) + shared
        inverse = np.linalg.inv(covariance)
        precision = inverse.sum()
        m = residual @ inverse.sum(0) / precision
        rest = residual - m[..., None]
        square = ((rest @ inverse) * rest).sum(-1)
        logs.append(-(np.linalg.slogdet(covariance)[1] + math.log(precision) + square) / 2)
        means.append(m + ahead)
        stds.append(np.full_like(m, math.sqrt(1 / precision + s**2 + CHECKPOINTS**2)))
    log = np.stack(logs)
    weight = np.exp(log - log.max())
    scatter = np.broadcast_to(scatters[:, None, None, None], log.shape)
    return (weight / weight.sum()).ravel(), np.stack(means).ravel(), np.stack(stds).ravel(), scatter.ravel()


def _quantile(p: float, weight: ndarray, mean: ndarray, std: ndarray) -> float:
    """Where the distribution function of the mixture is p."""
    low, high = float((mean - 9 * std).min()), float((mean + 9 * std).max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = float((weight * scipy.special.ndtr((middle - mean) / std)).sum()) < p
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2

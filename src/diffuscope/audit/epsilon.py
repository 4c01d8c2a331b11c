r"""A lower bound of epsilon from one training run with canaries.

After Steinke, Nasr & Jagielski 2023, "Privacy auditing with one (1) training run" (arXiv 2305.08846).

Each of m canaries is in the training set or not by a fair coin :math:`S_i = \pm 1`. From the trained model come guesses
:math:`T_i \in \{-1, 0, +1\}`, r of them not 0 (an abstention), of which V are right. A training that is
:math:`(\varepsilon, \delta)`-differentially private allows hardly more right guesses than randomized response. With
:math:`q = e^\varepsilon / (1 + e^\varepsilon)`, :math:`W_n \sim \operatorname{Binomial}(n, q)`, and k from
:math:`\max(0, v - r + n)` to :math:`\min(n, v - 1)`,

.. math::
    P(V \ge v) \le P(W_r \ge v) + \frac{m}{r}\, \delta\, (1 - q) \sum_{n=0}^{r-1} \max_{k} P(W_n = k) .

*Proof.* Given T = t, take its r guesses in random order. Let A be those before guess i, w how many of them are
right, and n the number of those after it. With :math:`p_\pm = P(t \mid S_i = \pm t_i, S_A)`, Bayes' rule and the fair
coin give

.. math::
    P(S_i = t_i \mid t, S_A) = \frac{p_+}{p_+ + p_-} \le q + f_i , \qquad
    f_i = (1 - q) \frac{[p_+ - e^\varepsilon p_-]_+}{p_+ + p_-} .

For :math:`\delta = 0` every :math:`f_i` is 0, and V is stochastically smaller than :math:`W_r`. In general,
:math:`f_i = [P(S_i = t_i \mid t, S_A) - q]_+` is convex in a martingale: given t, its mean is largest if A are all
other canaries, and does then not depend on the order. Privacy makes the mean of that :math:`\le (1 - q) \delta` for
each of the m canaries. Replace the guesses by coins of probability q, the last one first: guess i matters only if the n
coins after it bring exactly v - 1 - w, so that it adds at most :math:`E f_i \max_k P(W_n = k)`, and n is uniform on
0 .. r - 1.

For one and two guesses the bound is attained: it is the optimum of a linear program over all private mechanisms (in
the tests). The correction of Theorem 5.2 of the paper, :math:`2 m \delta \max_i P(v > W_r \ge v - i) / i`, is not used:
a private mechanism that reveals a coin only after a wrong guess exceeds it for q above 3/4 (also in the tests).

The lower bound is the largest :math:`\varepsilon` whose right-hand side is at most 1 - confidence. The scores decide
which canaries are guessed in (the highest) and out (the lowest), but not how many: the counts are a fixed grid, of
which each entry is tested at (1 - confidence) / (number of entries). **The scores may depend on the model, not on the
coins.**
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.findings.statistics import bonferroni

FEWEST = 20  # canaries
LARGEST = 60.0  # of the bounds that are searched; more would need e^60 canaries
STEPS = 50  # of bisection
BALANCED = 0.05, 0.2, 0.5, 1.0  # shares of the canaries that are guessed, half of them in and half of them out
INCLUDED = 0.01, 0.05, 0.2  # shares of the canaries that are guessed to be in, and none out
Guesses = tuple[int, int]  # how many canaries with the highest scores are guessed in, with the lowest out


@dataclass(frozen=True, kw_only=True)
class EpsilonBound:
    """The bound, with probability `confidence`, for the given delta; and the guesses that gave it.

    `p_value` is that of epsilon = 0, corrected for the grid.

    With delta = 0 and all of r guesses right, the bound has (1 / (1 + exp(-epsilon)))^r = 1 - confidence:

    >>> import numpy as np
    >>> from diffuscope.audit import epsilon_lower_bound
    >>> included = np.arange(30) < 20
    >>> bound = epsilon_lower_bound(-np.arange(30.0), included, delta=0.0, guesses=[(20, 0)])
    >>> bound.correct, round(float(1 + np.exp(-bound.epsilon)) ** -20, 9)
    (20, 0.05)
    >>> bound.p_value == 0.5**20
    True
    """

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    guessed: Guesses
    correct: int
    p_value: float


def epsilon_lower_bound(
    scores: Float[ndarray, " m"],
    included: Shaped[ndarray, " coins"],
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: Sequence[Guesses] | None = None,
) -> EpsilonBound:
    """The lower bound of epsilon from the scores of m canaries, high for "in", and the coins `included`.

    `guesses` lists the numbers of canaries that are guessed in and out, chosen before the scores are seen; by default
    `default_guesses`. Raises InputError for fewer than 20 canaries, scores that are not finite, delta outside
    0 .. 1 / (2 m), a confidence outside (0, 1), coins that are not booleans, no guesses, and guesses that are more than
    the canaries.

    >>> import numpy as np
    >>> from diffuscope.audit import epsilon_lower_bound
    >>> included = np.arange(1000) % 2 == 0
    >>> bound = epsilon_lower_bound(included.astype(float), included, delta=1e-5)
    >>> bound.guessed, bound.correct, round(bound.epsilon, 1)
    ((500, 500), 1000, 5.3)
    """
    m = len(scores)
    if len(included) != m:
        raise InputError(f"included: expected one coin per canary ({m}), got {len(included)}")
    if included.dtype != bool:
        raise InputError(f"included: expected booleans, True for a canary in the training set, got {included.dtype}")
    if m < FEWEST:
        raise InputError(f"canaries: expected at least {FEWEST}, got {m}")
    if not np.isfinite(scores).all():
        raise InputError("scores: expected finite numbers, got NaN or infinity")
    if not 0 < confidence < 1:
        raise InputError(f"confidence: expected a number between 0 and 1, got {confidence:g}")
    require_delta(delta, m)
    grid = default_guesses(m) if guesses is None else tuple(guesses)
    if not grid:
        raise InputError("guesses: expected at least one pair of numbers of guesses, in and out, got none")
    for top, bottom in grid:
        if min(top, bottom) < 0 or not 0 < top + bottom <= m:
            raise InputError(f"guesses: expected 1 to {m} guesses, none negative, got {top} in and {bottom} out")
    level = (1 - confidence) / len(grid)
    order = np.argsort(-scores, kind="stable")  # ties by their place, which knows nothing of the coins
    found, p_values = [], []
    for top, bottom in grid:
        correct = int(included[order[:top]].sum() + (~included[order[m - bottom :]]).sum())
        p_values.append(guess_p_value(m, top + bottom, correct, 0.0, delta))
        found.append((largest_rejected(m, top + bottom, correct, delta, level), correct, (top, bottom)))
    epsilon, correct, guessed = max(found)
    return EpsilonBound(
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
        canaries=m,
        guessed=guessed,
        correct=correct,
        p_value=bonferroni(min(p_values), len(grid)),
    )


def largest_bound(m: int, delta: float, confidence: float = 0.95) -> float:
    """The bound that right guesses alone would give: more than this m canaries cannot show.

    >>> round(largest_bound(1000, 1e-5), 2)
    5.31
    """
    grid = default_guesses(m)
    level = (1 - confidence) / len(grid)
    return max(largest_rejected(m, sum(pair), sum(pair), delta, level) for pair in grid)


def default_guesses(m: int) -> tuple[Guesses, ...]:
    """The grid: 5%, 20%, 50% and all of the canaries, half in and half out; and 1%, 5% and 20%, all of them in.

    A network that memorizes a few canaries is seen by the latter: of the others, half the guesses "out" are wrong.

    >>> default_guesses(1000)
    ((25, 25), (100, 100), (250, 250), (500, 500), (10, 0), (50, 0), (200, 0))
    """
    halves = [int(share * m / 2) for share in BALANCED]
    pairs = [(half, half) for half in halves] + [(int(share * m), 0) for share in INCLUDED]
    return tuple(pair for pair in dict.fromkeys(pairs) if sum(pair))


def guess_p_value(m: int, guessed: int, correct: int, epsilon: float, delta: float) -> float:
    r"""The largest probability of at least `correct` right ones among `guessed` guesses, m canaries in all.

    The right-hand side at the top of this file. For :math:`\delta = 0` it is the binomial tail:

    >>> guess_p_value(10, 3, 3, 0.0, 0.0)
    0.125
    """
    wrong = scipy.special.expit(-epsilon)  # 1 - q, without cancellation
    errors = guessed - correct
    tail = float(scipy.special.bdtr(errors, guessed, wrong))  # P(at most so many wrong ones)
    if delta == 0 or correct == 0:
        return tail
    n = np.arange(guessed)
    mode = np.floor((n + 1) * scipy.special.expit(epsilon))  # from 0 to n, up to an epsilon at which the tail is 1
    k = np.clip(mode, correct - guessed + n, correct - 1)  # there is one peak
    return min(1.0, tail + m / guessed * delta * float(wrong) * float(_binomial(k, n, wrong).sum()))


def _binomial(k: Float[ndarray, " n"], n: Int[ndarray, " n"], wrong: float) -> Float[ndarray, " n"]:
    """P(Bin(n, 1 - wrong) = k)."""
    ways = scipy.special.gammaln(n + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(n - k + 1)
    return np.exp(ways + scipy.special.xlog1py(k, -wrong) + scipy.special.xlogy(n - k, wrong))


def largest_rejected(m: int, guessed: int, correct: int, delta: float, level: float) -> float:
    """The largest epsilon with `guess_p_value` at most `level`; 0 if there is none.

    What is rejected for one epsilon is rejected for all below, because a private mechanism stays private for a larger
    one. So every end of the bisection is valid, also where the right-hand side is not monotone.
    """
    low, high = 0.0, LARGEST
    if guess_p_value(m, guessed, correct, low, delta) > level:
        return 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if guess_p_value(m, guessed, correct, middle, delta) <= level:
            low = middle
        else:
            high = middle
    return low


def require_delta(delta: float, m: int) -> None:
    """Raises InputError unless 0 <= delta < 1 / (2 m): publishing one example in m is (0, 1 / m)-private."""
    if not 0 <= delta < 1 / (2 * m):
        raise InputError(f"delta: expected a number from 0 to {1 / (2 * m):.3g} (1 / 2 canaries), got {delta:g}")

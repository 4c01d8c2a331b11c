r"""Are the held-out examples near-copies of training examples, so that copies among the samples would look normal?

Half of the training examples are the *known* ones. Held-out and other training examples have the statistic s among them
(`closeness`), lowest for copies of one known example. If held-out examples are what they are taken for, the n values of
the held-out and the m of the other training examples are exchangeable. Of the x and y that are at most q, a quantile of
all n + m values, x is then hypergeometric given x + y, however many values are tied (`measure.at_least`).

Held-out examples are near-copies if, for the quantile 0.1 or 0.25, Fisher's p-value is below SIGNIFICANT / 4 and x / n
is LEAST times y / m or more: a difference that is merely significant, as between writers of digits, is none. Both are
asked again without the examples that equal a known one, behind which near-copies of repeated training examples would
hide. Groups are on one side as a whole, and have one example among the others. Of the copied examples half are unknown
and their copies look fresh, so that a share of copies counts as half of it.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from .group_units import one_of_each
from .measure import at_least

TAILS = (0.1, 0.25)
MOST, FEWEST = 500, 10  # examples compared on either side
SIGNIFICANT, LEAST = 1e-3, 3.0


def halves(
    n: int, groups: Shaped[ndarray, " n"] | None, rng: np.random.Generator, most: int = MOST
) -> tuple[Int[ndarray, " known"], Int[ndarray, " others"]]:
    """Indices of a random half of n examples, and of at most `most` others, whose groups are not in that half."""
    numbers = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    order = rng.permutation(int(numbers.max()) + 1)
    known = np.isin(numbers, order[: -(-len(order) // 2)])
    others = np.flatnonzero(~known)
    return np.flatnonzero(known), rng.permutation(others[one_of_each(numbers[others], rng)])[:most]


def near_copies(heldout: Float[ndarray, " n"], train: Float[ndarray, " m"]) -> bool:
    """Whether held-out examples are near-copies, by s of these and of other training examples among the known ones."""
    apart = heldout[heldout > 0], train[train > 0]  # from the known ones
    level = SIGNIFICANT / (2 * len(TAILS))
    return any(_copied(*both, tail, level) for both in ((heldout, train), apart) for tail in TAILS)


def _copied(heldout: Float[ndarray, " n"], train: Float[ndarray, " m"], tail: float, level: float) -> bool:
    n, m = len(heldout), len(train)
    if min(n, m) < FEWEST:
        return False
    limit = np.sort(np.concatenate([heldout, train]))[int(tail * (n + m))]
    x, y = int((heldout <= limit).sum()), int((train <= limit).sum())
    return x / n >= LEAST * y / m and at_least(x, y, n, m) < level

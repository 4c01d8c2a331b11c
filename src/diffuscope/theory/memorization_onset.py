r"""The onset of copying: the first of checkpoints 10% apart at which a model certainly copies its training examples.

A sample x is a *copy* if it is much nearer to one training example than to any other,

.. math::  \frac{d_1}{d_2} < \frac13, \qquad d_1 \le d_2 \text{ the distances to the two nearest different examples,}

and a model *copies* at a checkpoint if k of its m = 1,000 samples are copies and the exact lower bound (Clopper &
Pearson 1934, two-sided 95%) of their share exceeds 1%: k >= 18. The *onset* is the first such checkpoint; the true
crossing lies between it and the one before. Held-out examples have no examples of their own in the model, so their
share of "copies" is the level of chance; unless its exact upper bound is below 2%, an onset says nothing.

Sources: Yoon, Choi, Kwon & Ryu 2023, *Diffusion probabilistic models generalize when they fail to memorize* (the ratio
1/3); Bonnaire, Urfin, Biroli & Mezard 2025 (https://arxiv.org/abs/2505.17638: the onset grows with n).
"""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import nearest_neighbors
from diffuscope.findings import exact_share_interval

RATIO = 1 / 3
SHARE = 0.01
CHANCE = 0.02
SAMPLES = 1000
SPACING = 1.1
FIRST = 50  # step of the first checkpoint


def copied(
    queries: Float[Tensor, "queries *event"], examples: Float[Tensor, "examples *event"]
) -> Bool[Tensor, " queries"]:
    """Whether every query has d_1 < d_2 / 3; equal `examples` count as one.

    Raises InputError for fewer than two different examples, and for NaN.

    >>> import torch
    >>> from diffuscope.theory import copied
    >>> examples = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    >>> copied(torch.tensor([[0.9, 0.0], [1.1, 0.0], [-3.0, 0.0]]), examples).tolist()  # 0.9 / 3.1, 1.1 / 2.9, 3 / 7
    [True, False, False]
    """
    different = examples.flatten(1).unique(dim=0)
    if len(different) < 2:
        raise InputError(f"examples: expected at least 2 different ones, got {len(different)}")
    distance, _ = nearest_neighbors(queries.flatten(1), different, 2)
    return distance[:, 0] < RATIO * distance[:, 1]


def copies_surely(copies: int, samples: int) -> bool:
    """Whether the exact lower bound of the share `copies` / `samples` exceeds 1%.

    >>> copies_surely(17, 1000), copies_surely(18, 1000)
    (False, True)
    """
    if not 0 <= copies <= samples or samples < 1:
        raise InputError(f"copies: expected a whole number from 0 to the number of samples {samples}, got {copies}")
    return exact_share_interval(copies, samples)[0] > SHARE


def onset(counts: Mapping[int, int], samples: int = SAMPLES) -> int | None:
    """The first checkpoint of `counts` (copies of `samples` by step) at which the model copies; None if there is none.

    >>> from diffuscope.theory import onset
    >>> onset({100: 0, 110: 9, 121: 25, 133: 12})
    121
    """
    return next((step for step in sorted(counts) if copies_surely(counts[step], samples)), None)


def chance_is_small(copies: int, samples: int) -> bool:
    """Whether the exact upper bound of the held-out share is below 2%: at least 183 held-out examples, none a copy."""
    if not 0 <= copies <= samples or samples < 1:
        raise InputError(f"copies: expected a whole number from 0 to the number of samples {samples}, got {copies}")
    return exact_share_interval(copies, samples)[1] < CHANCE


def checkpoints(steps: int) -> tuple[int, ...]:
    """The checkpoints of a run of `steps` steps: 10% apart from 50, rounded. Raises InputError for fewer than 50.

    >>> checkpoints(70)
    (50, 55, 61, 67)
    """
    if steps < FIRST:
        raise InputError(f"steps: expected at least {FIRST}, the first checkpoint of a pilot, got {steps}")
    found, k = [], 0
    while (step := round(FIRST * SPACING**k)) <= steps:
        found.append(step)
        k += 1
    return tuple(found)

r"""Is every part of the data covered by samples? The coverage of Naeem et al. (2020), with its exact expectation.

Around each of m held-out examples lies a ball out to its k-th nearest other one; *coverage* is the share of the balls
that hold a sample. If n samples are drawn like held-out examples, the m - 1 others and the n samples are exchangeable,
and a ball is empty if the k nearest of them all are held-out examples:

.. math::  E[\text{coverage}] = 1 - \prod_{i=0}^{k-1} \frac{m - 1 - i}{m - 1 + n - i} ,

1 - 2^{-k} for n = m. The least k with an expectation of at least LEAST is used.

*Test.* n training examples take the place of samples that are as diverse as the data: under the null hypothesis the
names "sample" and "training" of both sets are exchangeable, and the one-sided p-value permutes them. So a small
training set or held-out data of another distribution are no fault of the samples.

*Power.* A part of the training examples, the neighborhood of a random one, is left out, and what remains is judged as
samples are: TRIALS times for each of the shares PARTS. The least share that is nearly always found is stated.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.findings import Finding, Tone

from .frechet_ratio import NORMAL_95

LEAST, MOST = 0.9, 2000  # expected coverage; examples of each set
SHORT = 0.03  # a coverage short by less is no fault, however significant
PARTS, TRIALS, FOUND = (0.05, 0.1, 0.2), 20, 0.9
PERMUTATIONS, FEWER = 999, 199  # of samples, and of what is planted
CHUNK = 2**24  # distances at once
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Coverage by samples and by as many training examples, the expectation, and what the test would find."""

    samples: float
    training: float
    expected: float
    deviation: float  # of the coverage by half of both sets, over permutations
    p_value: float
    size: int  # samples, and training examples
    balls: int
    neighbors: int
    detectable: float  # the least missing share of the data that was found; infinity if there is none

    @property
    def short(self) -> float:
        """By how much it falls short of that of training examples."""
        return self.training - self.samples

    def missing(self, significance: float) -> bool:
        """Whether samples cover less than training examples do, by more than SHORT and beyond chance."""
        return self.p_value < significance and self.short > SHORT


def expected_coverage(held: int, drawn: int, k: int) -> float:
    """1 - prod (m - 1 - i) / (m - 1 + n - i), for m held-out examples and n samples."""
    i = np.arange(k)
    return float(1 - np.prod((held - 1 - i) / (held - 1 + drawn - i)))


def least_neighbors(held: int, drawn: int) -> int:
    """The least k whose expected coverage is at least LEAST; all others if there is none."""
    expected = np.array([expected_coverage(held, drawn, k) for k in range(1, held)])
    return int(np.argmax(expected >= LEAST)) + 1 if (expected >= LEAST).any() else held - 1


def coverage(samples: Rows, train: Rows, heldout: Rows, significance: float, rng: np.random.Generator) -> Coverage:
    """Of held-out examples by samples, both at random if they are many; needs two training examples for each sample.

    Where training examples are fewer, fewer samples are used.
    """
    held = _some(heldout, MOST, rng)
    size = max(1, min(len(samples), len(train) // 2, MOST))
    k = least_neighbors(len(held), size)
    kept = _some(train, 3 * size, rng)
    inside, of_train = (_inside(held, rows, k) for rows in (_some(samples, size, rng), kept))
    judged = np.hstack([inside, of_train[:, :size]])
    p_value, deviation = _permuted(judged, size, rng)
    detectable = np.inf
    for part in reversed(PARTS):
        found = 0
        for _ in range(TRIALS):
            rest = size + _without_a_part(kept[size:], part, rng)
            both = min(size, len(rest))
            planted = np.hstack([of_train[:, rest[:both]], of_train[:, :size]])
            found += _permuted(planted, both, rng, FEWER)[0] < significance
        if found < FOUND * TRIALS:
            break
        detectable = part
    return Coverage(
        samples=float(inside.any(1).mean()),
        training=float(judged[:, size:].any(1).mean()),
        expected=expected_coverage(len(held), size, k),
        deviation=deviation,
        p_value=p_value,
        size=size,
        balls=len(held),
        neighbors=k,
        detectable=float(detectable),
    )


def _inside(held: Rows, rows: Rows, k: int) -> Bool[ndarray, "balls rows"]:
    """Which rows lie in the ball of which held-out example, out to its k-th nearest other one."""
    among, rows = held.double(), rows.double()  # where values repeat, a rounding error would decide
    found = []
    for part in among.split(max(1, CHUNK // (len(rows) + len(held)))):
        radius = torch.cdist(part, among).kthvalue(min(k + 1, len(held)), dim=1, keepdim=True).values
        found.append(torch.cdist(part, rows) <= radius * (1 + 1e-9) + 1e-9)
    return torch.cat(found).numpy()


def _some(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    return rows[torch.from_numpy(rng.permutation(len(rows))[:n])]


def _permuted(
    inside: Bool[ndarray, "balls rows"], size: int, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """P-value of the coverage by the first `size` rows, which others would have exceeded, and its deviation."""
    total = inside.shape[1]
    chosen = np.argsort(rng.random((permutations, total)), axis=1)[:, :size]
    names = np.zeros((total, permutations), dtype=np.float32)
    np.put_along_axis(names, chosen.T, 1.0, axis=0)
    covered = (torch.from_numpy(inside.astype(np.float32)) @ torch.from_numpy(names) > 0.5).sum(0).numpy()
    observed = inside[:, :size].any(1).sum()
    return (1 + int((covered <= observed).sum())) / (1 + permutations), float(covered.std() / len(inside))


def _without_a_part(rows: Rows, part: float, rng: np.random.Generator) -> Int[ndarray, " rest"]:
    """Which rows remain, in random order, without the `part` of them that is nearest to a random one."""
    order = (rows - rows[int(rng.integers(len(rows)))]).norm(dim=1).argsort().numpy()
    return rng.permutation(order[int(part * len(rows)) :])


def coverage_finding(result: Coverage, significance: float) -> Finding:
    """The coverage, and whether a missing part would have been seen."""
    tone: Tone = "unknown" if np.isinf(result.detectable) else "good"
    share = f"Samples cover {result.samples:.1%} of the held-out data, as many training examples {result.training:.1%}"
    verdict = f"{share}: no part of the data is missing."
    if result.missing(significance):
        tone = "alarm" if result.samples < result.expected / 2 else "attention"
        verdict = f"{share}: a part of the data has no samples."
    elif tone == "unknown":
        verdict = f"Cannot tell whether a part of the data is missing. {share}."
    power = f"A missing {result.detectable:.0%} of the data, the neighbors of a random example, would have been found."
    if np.isinf(result.detectable):
        power = f"None: not even a missing {PARTS[-1]:.0%} of the data would be found by so few samples."
    reach = NORMAL_95 * result.deviation
    return Finding(
        name="diversity.coverage",
        title="Do samples cover the data?",
        value=100 * result.samples,
        unit="%",
        verdict=verdict,
        tone=tone,
        interval=(100 * max(0.0, result.samples - reach), 100 * min(1.0, result.samples + reach)),
        null=f"{result.expected:.1%}, exactly, for {result.size:,} samples drawn like the {result.balls:,} held-out "
        f"examples, of whose balls out to neighbor {result.neighbors} is asked which hold a sample. The names of "
        "samples and training examples are permuted.",
        p_value=result.p_value,
        power=f"{power} Less than {100 * SHORT:g} percentage points short of training examples is no fault.",
    )

r"""Is every part of the data covered by samples?

Each of m held-out examples has a neighborhood, itself and its k - 1 nearest others, and each of n samples a nearest
held-out example. *Coverage* is the share of the neighborhoods to which the nearest example of some sample belongs. If
samples fell into the cells of held-out examples independently and equally often, it would be

.. math::  1 - \left(1 - \frac km\right)^n \approx 1 - e^{-kn/m} ,

and k is the least for which kn/m is at least MEAN; the cells differ in size, so that training examples cover a little
less, and their coverage is the null. Only the direction in which a sample lies counts, not how far it is off: in the
coverage of Naeem et al. (2020), samples that are slightly noisy or blurred lie in no ball around a held-out example at
all, and what is a matter of quality looks like a missing mode.

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

from diffuscope.byte_examples import float_parts
from diffuscope.findings import NORMAL_95, Finding, Tone

from .rows_of import AnyRows, few_enough
from .shared_neighbors import nearest_neighbors
from .wide_rows import at_same_distances

MEAN, MOST = 2.5, 2000  # samples in a neighborhood; examples of each set
SHORT = 0.03  # a coverage short by less is no fault, however significant
PARTS, TRIALS, FOUND = (0.05, 0.1, 0.2), 20, 0.9
PERMUTATIONS, FEWER = 999, 199  # of samples, and of what is planted
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Coverage by samples and by as many training examples, and what the test would find."""

    samples: float
    training: float
    deviation: float  # of the coverage by half of both sets, over permutations
    p_value: float
    size: int  # samples, and training examples
    heldout: int
    neighbors: int
    detectable: float  # the least missing share of the data that was found; infinity if there is none

    @property
    def short(self) -> float:
        """By how much it falls short of that of training examples."""
        return self.training - self.samples

    def missing(self, significance: float) -> bool:
        """Whether samples cover less than training examples do, by more than SHORT and beyond chance."""
        return self.p_value < significance and self.short > SHORT


def neighborhood_size(held: int, drawn: int) -> int:
    """The least k with k n / m >= MEAN, at most m."""
    return min(held, int(np.ceil(MEAN * held / drawn)))


def coverage(
    samples: Rows, train: AnyRows, heldout: AnyRows, significance: float, rng: np.random.Generator
) -> Coverage:
    """Of held-out examples by samples, both at random if they are many; needs two training examples for each sample.

    Where training examples are fewer, fewer samples are used.
    """
    most = few_enough(MOST, 2 * heldout.shape[1])
    held = _some(heldout, most, rng)
    size = min(len(samples), len(train) // 2, most)
    k = neighborhood_size(len(held), size)
    near = nearest_neighbors(held, held, k)[1].numpy() if k > 1 else np.arange(len(held))[:, None]
    kept = _some(train, 3 * size, rng)
    inside, of_train = (_inside(held, near, rows) for rows in (_some(samples, size, rng), kept))
    judged = np.hstack([inside, of_train[:, :size]])
    p_value, deviation = _permuted(judged, size, rng)
    detectable, planted_from = np.inf, at_same_distances(kept[size:])
    for part in reversed(PARTS):
        found = 0
        for _ in range(TRIALS):
            rest = size + _without_a_part(planted_from, part, rng)
            both = min(size, len(rest))
            planted = np.hstack([of_train[:, rest[:both]], of_train[:, :size]])
            found += _permuted(planted, both, rng, FEWER)[0] < significance
        if found < FOUND * TRIALS:
            break
        detectable = part
    return Coverage(
        samples=float(inside.any(1).mean()),
        training=float(judged[:, size:].any(1).mean()),
        deviation=deviation,
        p_value=p_value,
        size=size,
        heldout=len(held),
        neighbors=k,
        detectable=float(detectable),
    )


def _inside(held: Rows, near: Int[ndarray, "m k"], rows: Rows) -> Bool[ndarray, "m rows"]:
    """Which rows have their nearest held-out example in which neighborhood."""
    nearest = nearest_neighbors(rows, held, 1)[1][:, 0].numpy()
    members = np.zeros((len(held), len(held)), dtype=bool)
    np.put_along_axis(members, near, True, axis=1)
    np.fill_diagonal(members, True)  # of examples that repeat each other, one may not be among its own nearest
    return members[:, nearest]


def _some(rows: AnyRows, n: int, rng: np.random.Generator) -> Rows:
    return rows[torch.from_numpy(rng.permutation(len(rows))[:n])]


def _permuted(
    inside: Bool[ndarray, "m rows"], size: int, rng: np.random.Generator, permutations: int = PERMUTATIONS
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
    chosen = rows[int(rng.integers(len(rows)))]
    order = torch.cat([(some - chosen).norm(dim=1) for some in float_parts(rows)]).argsort().numpy()
    return rng.permutation(order[int(part * len(rows)) :])


def coverage_finding(result: Coverage, significance: float) -> Finding:
    """The coverage, and whether a missing part would have been seen."""
    tone: Tone = "unknown" if np.isinf(result.detectable) else "good"
    share = f"Samples cover {result.samples:.1%} of the held-out data"
    share += f", equally many training examples {result.training:.1%}"
    verdict = f"{share}: no part of the data is found missing."
    if result.missing(significance):
        tone = "alarm" if result.samples < result.training / 2 else "attention"
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
        null=f"{result.training:.1%}: by {result.size:,} training examples, as many as samples, of {result.heldout:,} "
        f"neighborhoods of {result.neighbors} held-out examples. The names of samples and training examples are "
        "permuted.",
        p_value=result.p_value,
        power=f"{power} Less than {100 * SHORT:g} percentage points short of training examples is no fault.",
    )

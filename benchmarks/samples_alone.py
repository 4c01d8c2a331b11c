r"""Samples without a model, on eight kinds of data: are 1% planted copies found, and is the list empty where none are?

10,000 training examples (4,000 of CIFAR-10), 4,000 held-out ones, 1,000 samples, all independent. *Planted*: in each of
100 draws, 10 of the samples are exact copies of random training examples; of the table of categories, copies of rare
rows, of a probability below RARE. *Null*: in each of 200 draws the 5,000 examples that are not for training are divided
anew into samples and held-out ones; the list may be non-empty in at most 17, and one random sample's p-value, smoothed
over ties, is uniform. Every example is searched once, and once more among half of the training examples where held-out
ones repeat a training example nearly. The p-value of nearness is uniform, too, over NEARNESS divisions
of all examples (WIDE ones of more than 512 coordinates).

    python benchmarks/samples_alone.py [kind ...]
"""

import sys
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from scipy import stats

from diffuscope.audit.copy_queries import Queries, Search
from diffuscope.audit.copy_search import in_question
from diffuscope.audit.leaked import AmongHalf, find_leaked
from diffuscope.audit.nearness import clusters, nearness
from diffuscope.audit.transformations import NAMES, transformations
from diffuscope.findings import conformal_p_values, false_discovery
from kinds import KINDS, coarse_columns, coarse_probability

TRAIN, HELDOUT, SAMPLES, COPIES, RATE = 10_000, 4_000, 1_000, 10, 0.05
DRAWS, NULL_DRAWS, NEARNESS, WIDE, RARE, SOURCES = 100, 200, 50, 20, 1e-6, 300
SMALLER = {"CIFAR-10": 4_000}  # training sets


def main() -> None:
    print("| kind | copies found in draws | of the copies | non-empty null lists | p of one sample | nearness | s |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for kind in sys.argv[1:] or KINDS:
        measured(kind)


def measured(kind: str) -> None:
    """One row of the table."""
    rng, started = np.random.default_rng(0), time.perf_counter()
    examples = KINDS[kind](SMALLER.get(kind, TRAIN) + HELDOUT + SAMPLES, 0)
    train, fresh = examples[: -HELDOUT - SAMPLES], examples[-HELDOUT - SAMPLES :]
    chosen = transformations(NAMES, train.shape[1:])
    search = Search(train, torch.nn.Flatten(), chosen)
    queries = search(fresh)

    @cache
    def half() -> tuple[AmongHalf, list[Queries]]:
        of_half = in_question(train, fresh, torch.nn.Flatten(), chosen, None, np.random.default_rng(1))
        return of_half, list(of_half.others)

    def among_half(asked: np.ndarray) -> AmongHalf:
        of_half, others = half()
        return AmongHalf(heldout=of_half.heldout.part(asked), others=iter(others), size=of_half.size)

    some = sources(kind, train)
    copied = search(some[torch.from_numpy(rng.integers(len(some), size=SOURCES))])
    found, listed, p_values, nonempty = 0, 0, [], 0
    for _ in range(DRAWS):
        order = rng.permutation(len(fresh))
        planted = copied.part(rng.permutation(len(copied.rows))[:COPIES])
        entries = judged(queries, order[COPIES:], among_half, rng, planted)[1]
        found += bool(entries[:COPIES].any())
        listed += int(entries[:COPIES].sum())
    for _ in range(NULL_DRAWS):
        smooth, entries = judged(queries, rng.permutation(len(fresh)), among_half, rng, None)
        nonempty += bool(entries.any())
        p_values.append(smooth)
    uniform = stats.kstest(p_values, "uniform").pvalue
    near, rows = [], examples.flatten(1)
    for seed in range(NEARNESS if rows.shape[1] < 512 else WIDE):
        shuffled = rows[torch.from_numpy(rng.permutation(len(rows)))]
        samples, known, unknown = shuffled.split([SAMPLES, len(train), HELDOUT])
        near.append(nearness(samples, known, unknown, 0.01, seed, clusters(known, unknown, seed)).p_value)
    of_near = stats.kstest(near, "uniform").pvalue
    share = 100 * listed / (DRAWS * COPIES)
    print(
        f"| {kind} | {found} of {DRAWS} | {share:.0f} % | {nonempty} of {NULL_DRAWS} | {uniform:.2g} | {of_near:.2g} "
        f"| {time.perf_counter() - started:.0f} |",
        flush=True,
    )
    print(
        f"  {(queries.distance == 0).sum()} of {len(fresh)} fresh examples equal a training example; p-values of "
        f"nearness: {sum(p < 0.01 for p in near)} below .01, {sum(p < 0.05 for p in near)} below .05, mean "
        f"{np.mean(near):.2f}",
        file=sys.stderr,
        flush=True,
    )


def judged(
    queries: Queries,
    order: np.ndarray,
    among_half: Callable[[np.ndarray], AmongHalf],
    rng: np.random.Generator,
    planted: Queries | None,
) -> tuple[float, np.ndarray]:
    """The last HELDOUT of these queries calibrate as in `copies`: the smoothed p-value of one sample, and the list."""
    heldout = order[-HELDOUT:]
    leaked, radius = find_leaked(queries.part(heldout), lambda asked: among_half(heldout[asked]))
    statistic = queries.statistic(radius)
    observed, null = statistic[order[:-HELDOUT]], statistic[heldout][~leaked]
    if planted is not None:
        observed = np.concatenate([planted.statistic(radius), observed])
    p_values = conformal_p_values(observed, null)
    below, up_to = (null < observed[-1]).sum(), 1 + (null <= observed[-1]).sum()
    return float(rng.uniform(below, up_to) / (1 + len(null))), false_discovery(p_values, RATE)


def sources(kind: str, train: torch.Tensor) -> torch.Tensor:
    """The training examples that are copied: all, or rare rows."""
    if kind != "table of categories":
        return train
    probability = coarse_probability(coarse_columns(TRAIN + HELDOUT + SAMPLES, 0))[:TRAIN]
    return train[torch.from_numpy(np.flatnonzero(probability < RARE))]


if __name__ == "__main__":
    main()

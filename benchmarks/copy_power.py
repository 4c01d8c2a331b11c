r"""The search for copies on MNIST: are modified copies found, and is the list empty where there are none?

60,000 training images, 10,000 held-out ones. A draw takes 980 held-out images at random and 20 modified copies of
random training images as the samples; the other 9,020 held-out images calibrate. Plants are found in at least 90 % of
cases if the bar holds, over ten draws per modification. Over 200 draws without copies (1,000 held-out images as
samples, the calibration redrawn) the list may be non-empty in at most 17, four standard errors above the rate of 5 %,
and one random sample's p-value per draw is uniform. Every image is searched once; draws only redraw the division.

    python benchmarks/copy_power.py [training images] [held-out images]
"""

import resource
import sys
import time

import numpy as np
import torch
from scipy import stats

from diffuscope.audit.copy_queries import Search
from diffuscope.audit.leaked import find_leaked
from diffuscope.audit.planting import modifications
from diffuscope.audit.transformations import NAMES, transformations
from diffuscope.data import load_data
from diffuscope.findings import conformal_p_values, false_discovery

SAMPLES, COPIES, DRAWS, NULL_DRAWS, RATE = 1000, 20, 10, 200, 0.05


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:3]] or [60_000, 10_000]
    data = load_data("mnist").in_range(-1.0, 1.0)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    train, heldout = (
        x[torch.randperm(len(x), generator=generator)[:n]]
        for x, n in zip((data.train, data.heldout), sizes, strict=True)
    )
    started = time.perf_counter()
    search = Search(train, lambda x: x.flatten(1), transformations(NAMES, train.shape[1:]))
    fresh = search(heldout)
    leaked, radius = find_leaked(fresh)
    null = fresh.statistic(radius)
    print(f"{len(heldout):,} queries of {len(train):,}: {time.perf_counter() - started:.0f} s; {leaked.sum()} leaked")
    print(f"lowest values of the statistic: {np.sort(null)[:8].round(3)}; radius {radius:.3g}")
    sources = train[torch.from_numpy(rng.integers(len(train), size=DRAWS * COPIES))]
    print("\n| modification | found, % |\n|---|--:|")
    for name, modified in modifications(train, generator).items():
        planted = search(modified(sources)).statistic(radius).reshape(DRAWS, COPIES)
        found = [listed(row, null, rng)[:COPIES].sum() for row in planted]
        print(f"| {name} | {100 * sum(found) / (DRAWS * COPIES):.1f} |", flush=True)
    p_values, nonempty = [], 0
    for _ in range(NULL_DRAWS):
        order = rng.permutation(len(null))
        p = conformal_p_values(null[order[:SAMPLES]], null[order[SAMPLES:]])
        nonempty += bool(false_discovery(p, RATE).any())
        p_values.append(p[0])
    # the discrete uniform becomes continuous by a random step
    smooth = np.array(p_values) - rng.random(NULL_DRAWS) / (len(null) - SAMPLES + 1)
    print(f"\nnon-empty lists: {nonempty} of {NULL_DRAWS}; uniformity p = {stats.kstest(smooth, 'uniform').pvalue:.2g}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def listed(planted: np.ndarray, null: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which samples are listed, the planted ones first."""
    order = rng.permutation(len(null))
    fresh = SAMPLES - len(planted)
    observed = np.concatenate([planted, null[order[:fresh]]])
    return false_discovery(conformal_p_values(observed, null[order[fresh:]]), RATE)


if __name__ == "__main__":
    main()

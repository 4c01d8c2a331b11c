"""What an audit of samples without a model costs, by kind of data: seconds of the processor and of the clock, memory.

10,000 training examples, 4,000 held-out ones and 1,000 samples, the default settings, one thread; every kind in a
process of its own, whose peak memory is everything, the library and the data included.

    python benchmarks/samples_cost.py [kind ...]
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from diffuscope.audit import audit_samples
from kinds import KINDS
from verdicts_alone import data_set

TRAIN, HELDOUT, SAMPLES = 10_000, 4_000, 1_000


def main() -> None:
    print("| kind | processor time, s | wall time, s | peak memory, GB |\n|---|--:|--:|--:|")
    for kind in sys.argv[1:] or KINDS:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            seconds, wall, memory = fresh.submit(cost, kind).result()
        print(f"| {kind} | {seconds:.0f} | {wall:.0f} | {memory:.1f} |", flush=True)


def cost(kind: str) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    train, heldout, samples = KINDS[kind](TRAIN + HELDOUT + SAMPLES, 0).split([TRAIN, HELDOUT, SAMPLES])
    data = data_set(kind, train, heldout)
    seconds, wall = time.process_time(), time.perf_counter()
    audit_samples(samples, data)
    seconds, wall = time.process_time() - seconds, time.perf_counter() - wall
    return seconds, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()

"""One panel of figure 2 of "Generalization through variance" in full: 100 models, 100,000 samples each, 30 steps.

CPU seconds and peak memory, on one thread; the bar is 60 s on two cores and 1 GB.

    python benchmarks/gap_filling.py [samples in training] [epsilon]
"""

import resource
import sys
import time

import torch

from diffuscope.experiments.gap_filling import MODELS, gap_mass, trained
from diffuscope.findings import Repeated
from diffuscope.theory.variance import quenched_sample
from diffuscope.times import uniform_times

STARTS, STEPS = 100_000, 30


def main() -> None:
    torch.set_num_threads(1)
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    epsilon = float(sys.argv[2]) if len(sys.argv) > 2 else 0.01
    generator = torch.Generator().manual_seed(0)
    started = time.process_time()
    ensemble = trained(epsilon, samples, MODELS, generator)
    after_training = time.process_time()
    x = torch.randn(MODELS, STARTS, 1, dtype=torch.float64, generator=generator)
    x = quenched_sample(ensemble, ensemble.schedule, x, uniform_times(1.0, epsilon, STEPS))
    ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{MODELS} models of {samples} samples, {STARTS:,} starts each, {STEPS} steps, epsilon {epsilon:g}")
    print(f"gap mass {Repeated.of(gap_mass(x))}")
    print(f"training {after_training - started:.1f} s, sampling {ended - after_training:.1f} s of CPU")
    print(f"peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()

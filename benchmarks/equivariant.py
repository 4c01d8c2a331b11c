"""Equivariant and boundary-equivariant scores of 10,000 MNIST images: processor seconds per query and noise level.

On one thread; the bar is 20 s, which are 10 s on two cores. Costs are linear in the number of images; several queries
of one level share the windows of the images.

    python benchmarks/equivariant.py [images] [queries]
"""

import sys
import time

import torch

from diffuscope import VE, load_data
from diffuscope.denoisers.analytic import boundary_equivariant_score, equivariant_score

CASES = ((3, 0.1), (5, 1.0), (7, 1.0), (9, 2.0), (11, 4.0), (15, 4.0))  # size and sigma, of data in [-1, 1]


def main() -> None:
    torch.set_num_threads(1)
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    queries = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    data, generator = load_data("mnist").in_range(-1.0, 1.0), torch.Generator().manual_seed(0)
    train, clean = data.train[:images], data.heldout[:queries]
    print(f"{images:,} images, {queries} queries at once: seconds per query, equivariant and boundary-equivariant")
    for size, sigma in CASES:
        x_t = clean + sigma * torch.randn(clean.shape, generator=generator)
        seconds = []
        for kind in (equivariant_score, boundary_equivariant_score):
            denoiser = kind(train, VE(), size)
            started = time.process_time()
            denoiser(x_t, sigma)
            seconds.append((time.process_time() - started) / queries)
        print(
            f"{size:2} x {size} pixels at sigma {sigma:g}: " + ", ".join(f"{each:.3g}" for each in seconds), flush=True
        )


if __name__ == "__main__":
    main()

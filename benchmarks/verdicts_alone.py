"""The verdict over samples without a model: how often is a good set suspected, and is every planted fault seen?

For four kinds of data (2,000 training examples, 2,000 held-out ones, 500 samples) GOOD sets of samples that are fresh
draws, each with training and held-out examples of its own, and one set with each fault:

- a missing mode: the nearest tenth of the data to a random example is left out;
- collapsed: half of the samples repeat others;
- a Gaussian with the data's mean and covariance;
- blurred images (a Gaussian filter of 1 pixel);
- wrong marginals of one column of the table (incomes 1.5 times as high).

A good set may need attention now and then: a dozen tests at .01 each.

    python benchmarks/verdicts_alone.py [number of good sets] [kind ...]
"""

import sys
from collections import Counter

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.questions import memorized
from diffuscope.data import DataSet
from diffuscope.exact import Gaussian
from kinds import KINDS, encoded, mixed_columns

TRAIN, HELDOUT, SAMPLES, MORE = 2_000, 2_000, 500, 100
CHOSEN = ("points in the plane", "latents", "table", "series")


def main() -> None:
    memorized._measures = lambda *_: []  # the measures under other names decide nothing, and cost half of the time
    words = sys.argv[1:]
    good = int(words[0]) if words else 20
    print("| kind | samples | verdict | faults found |\n|---|---|---|---|")
    for kind in words[1:] or CHOSEN:
        counts = Counter(verdict(*drawn(kind, seed), seed) for seed in range(good))
        for (word, found), count in counts.items():
            print(f"| {kind} | good | {word}, {count} of {good} | {found} |", flush=True)
        samples, data = drawn(kind, 1_000)
        for name, bad in faults(kind, samples, data.train).items():
            print(f"| {kind} | {name} | {' | '.join(verdict(bad, data, 0))} |", flush=True)


def drawn(kind: str, seed: int) -> tuple[Tensor, DataSet]:
    """Samples, and independent training and held-out examples."""
    examples = KINDS[kind](TRAIN + HELDOUT + SAMPLES + MORE, seed)
    train, heldout, samples = examples.split([TRAIN, HELDOUT, SAMPLES + MORE])
    return samples, data_set(kind, train, heldout)


def data_set(kind: str, train: Tensor, heldout: Tensor) -> DataSet:
    """The examples as a data set; a table without the names of its columns, which only the page shows."""
    ends = float(min(train.min(), heldout.min())), float(max(train.max(), heldout.max()))
    return DataSet(
        name=kind,
        train=train,
        heldout=heldout,
        data_range=ends,
        provenance="made",
        train_index=torch.arange(len(train)),
        heldout_index=torch.arange(len(heldout)),
        kind="vectors",
    )


def faults(kind: str, samples: Tensor, train: Tensor) -> dict[str, Tensor]:
    """Bad samples by the name of what is wrong with them, made of good ones."""
    generator = torch.Generator().manual_seed(0)
    center = train[int(torch.randint(len(train), (), generator=generator))]
    near = (train - center).flatten(1).norm(dim=1).quantile(0.1)
    half = SAMPLES // 2
    made = {
        "a missing mode": samples[(samples - center).flatten(1).norm(dim=1) > near],
        "half repeats": torch.cat([samples[:half], samples[torch.randint(half, (half,), generator=generator)]]),
        "a Gaussian": Gaussian.fit([train]).sample(SAMPLES, generator=generator).float(),
    }
    if kind in ("MNIST", "CIFAR-10"):
        made["blurred"] = torch.from_numpy(gaussian_filter(samples.numpy(), (0, 0, 1, 1)))
    if kind == "table":
        columns = mixed_columns(SAMPLES, 77)
        made["one column 1.5 times as high"] = encoded(mixed_columns, columns | {"income": columns["income"] * 1.5})
    return {name: x[:SAMPLES] for name, x in made.items()}


def verdict(samples: Tensor, data: DataSet, seed: int) -> tuple[str, str]:
    """The word, and the names of the findings that are faults, whether they decided or not."""
    result = audit_samples(samples[:SAMPLES], data, Settings(seed=seed))
    findings = [finding for answer in result.answers.values() for finding in answer.findings[1:] or answer.findings]
    faults = [finding.name for finding in findings if finding.tone in ("alarm", "attention")]
    return result.verdict.word, ", ".join(faults) or "-"


if __name__ == "__main__":
    main()

"""Make canaries for an audit of privacy: examples that a fair coin puts into the training set or leaves out."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from diffuscope.data import make_canaries, training_arrays
from diffuscope.data.canaries import FEWEST
from diffuscope.files import PRIVATE, replace_atomically, save_arrays
from diffuscope.streams import SEEDS, require_seed

from .options import DataOptions, require_within, writing

FILES = ("canaries.npz", "training.npz", "included.npz", "key.json")
RECOMMENDED = 1000  # fewer show only a small epsilon


@dataclass(frozen=True)
class Canaries:
    """Make canaries, examples that a secret fair coin puts into the training set or leaves out, to bound epsilon.

    Writes training.npz (the training set with the included canaries) and included.npz (these alone) for those who
    train, and canaries.npz and key.json (canaries, coins and their seed) for those who audit. Then train, and run
    diffuscope audit with --canaries canaries.npz.

    Example:
        >>> import numpy as np
        >>> from diffuscope.cli import main
        >>> np.save("data.npy", np.random.default_rng(0).normal(size=(100, 5)))
        >>> main("canaries --data data.npy --number 30 --key 1".split())
        Train on: out/canaries/training.npz (--data-range ...)
        Keep secret until then: out/canaries/canaries.npz and out/canaries/key.json
        Then: diffuscope audit --model MODEL --data data.npy --canaries out/canaries/canaries.npz
        >>> train, included = (np.load(f"out/canaries/{name}.npz") for name in ("training", "included"))
        >>> len(train["train"]) - len(included["x"])  # half of the data; the other half is held out
        50
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    number: int = RECOMMENDED
    """Number of canaries; about half of them are included."""
    key: int | None = None
    """Secret seed of the canaries and their coins; by default drawn at random."""
    out: Path = Path("out/canaries")
    """Folder for the files."""
    seed: int = 0
    """Random seed of the split of the data, as for audit."""

    def run(self) -> None:
        """Check, make and write."""
        self.source.check()
        require_within("number", self.number, FEWEST, 10**7)
        require_seed(self.seed)
        if self.key is not None:
            require_within("key", self.key, 0, SEEDS - 1)
        with writing(self.out, *FILES):
            self._make()

    def _make(self) -> None:
        data = self.source.load(self.seed)
        key = secrets.randbelow(SEEDS) if self.key is None else self.key
        canaries = make_canaries(data, self.number, seed=key)
        # the key first; it and the canaries are never readable by others: whoever reads one knows every coin
        facts = {"key": key, "number": self.number, "data": data.fingerprint(), "provenance": data.provenance}
        path = self.out / "key.json"
        replace_atomically(path, json.dumps(facts, indent=2).encode(), mode=PRIVATE)
        canaries.save(self.out / "canaries.npz")
        save_arrays(self.out / "training.npz", training_arrays(data, canaries, seed=key))
        save_arrays(self.out / "included.npz", {"x": canaries.examples[canaries.included].numpy()})
        low, high = data.data_range
        print(f"Train on: {self.out / 'training.npz'} (--data-range {low:.9g} {high:.9g})")
        print(f"Keep secret until then: {self.out / 'canaries.npz'} and {path}")
        if canaries.repeated:
            words = "canary repeats another" if canaries.repeated == 1 else "canaries repeat others"
            print(f"{canaries.repeated} {words}, which weakens the audit.")
        print(f"Then: diffuscope audit --model MODEL --data {self.source.data} --canaries {self.out / 'canaries.npz'}")

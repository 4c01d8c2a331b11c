r"""Pilot runs for a forecast: the same training on random subsets of the examples, until copying begins.

A pilot has n_i of the n examples, the recipe of `diffuscope train` with the schedule of the planned run (the learning
rate depends on the planned number of steps), and its own weights and noise. At checkpoints 10% apart, 1,000 samples of
the averaged weights are compared with its examples; it ends at its onset, or with the planned number of steps. All of
it is counted in

.. math::  T(k) = \frac1{\eta} \sum_{j < k} \eta_j ,

the training time after k steps in steps of the full learning rate, since Adam's steps are proportional to their rate.
Sizes are taken from the smallest on, and where no pilot of a size has copied, larger ones would not either. A network
that copies has fitted its examples: no samples are drawn before its error on them, with the weights of the training,
is below 0.6 of that on held-out examples.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import DataSet
from diffuscope.denoisers import Preconditioned
from diffuscope.errors import InputError
from diffuscope.files import write_json
from diffuscope.samplers import generate
from diffuscope.training import TrainingSettings, averaged, new_denoiser, recipe, squared_errors
from diffuscope.training.checkpoint import RunCheckpoint
from diffuscope.training.run import TrainingRun

from .memorization_onset import SAMPLES, chance_is_small, checkpoints, copied, copies_surely, onset

PARTS = (16, 8, 4)  # n over the size of a pilot
FEWEST = 16  # examples of a pilot: below, the time that any learning takes hides the growth with n
REPEATS = 3
FITTED = 0.6  # no samples are drawn before the training error is this share of the held-out error
ROWS = 256  # examples of either kind in these errors
SAVE_EVERY = 60.0  # seconds
Show = Callable[[int, int, int, int | None], None]
"""Called with the size, the repeat, the step and the number of copies (None where none were drawn)."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """One pilot: its `size`, the steps it took, the onset as a step (None: none within them), and chance.

    `chance` of `heldout` held-out examples count as copies of its examples.
    """

    size: int
    steps: int
    onset: int | None
    chance: int
    heldout: int

    @property
    def is_valid(self) -> bool:
        """Whether chance alone is too rare to be taken for an onset."""
        return chance_is_small(self.chance, self.heldout)


def pilot_sizes(n: int) -> tuple[int, ...]:
    """n/16, n/8 and n/4 for n training examples, the larger ones n/4 and n/2 instead where those have fewer than 16.

    Raises InputError for n < 64: one size shows no growth.

    >>> pilot_sizes(1024), pilot_sizes(64)
    ((64, 128, 256), (16, 32))
    """
    for parts in (PARTS, (8, 4), (4, 2)):
        if n // parts[0] >= FEWEST:
            return tuple(n // part for part in parts)
    raise InputError(
        f"data: expected at least {4 * FEWEST} training examples for pilots of two sizes, {FEWEST} or more; got {n}"
    )


def require_heldout(examples: int) -> None:
    """Raises InputError for so few held-out examples that chance could not be known to be small, whatever it is."""
    if examples < 1 or not chance_is_small(0, examples):
        fewest = next(n for n in range(1, 1000) if chance_is_small(0, n))
        raise InputError(
            f"heldout: expected at least {fewest} examples, to know that copies by chance are rare; got {examples}"
        )


def training_times(settings: TrainingSettings) -> list[float]:
    """T after 0, 1, ... steps, to the last of the plan."""
    rates = [settings.learning_rate_at(k) / settings.learning_rate for k in range(settings.steps)]
    return [0.0, *accumulate(rates)]


def step_at(times: Sequence[float], time: float) -> int | None:
    """The first step k with T(k) >= `time` of increasing T = `times`; None if there is none.

    >>> step_at([0.0, 0.5, 1.5], 0.7), step_at([0.0, 0.5, 1.5], 2.0)
    (2, None)
    """
    k = bisect_left(times, time)
    return k if k < len(times) else None


def run_pilots(
    data: DataSet, *, steps: int, batch_size: int, seed: int, out: Path, precision: str = "float32",
    compiled: bool = False, show: Show | None = None,
) -> list[Pilot]:  # fmt: skip
    """Pilots of every size for the planned run of `train_denoiser` with these arguments, three of each.

    The folder `out` has the state of every pilot: the same call resumes after an interruption, with the same result.
    Sizes end with the first of which no pilot has copied within `steps`. Raises InputError for fewer than 64 training
    or 183 held-out examples, fewer than 50 steps, and files of another run.
    """
    pilots: list[Pilot] = []
    checkpoints(steps)
    require_heldout(len(data.heldout))
    for size in pilot_sizes(len(data.train)):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(_seed(seed, size, 0)))
        for repeat in range(REPEATS):
            rows = data.train[order.roll(-repeat * size)[:size]]
            own = _seed(seed, size, 1 + repeat)
            low, high = (float(end) for end in data.data_range)
            denoiser = new_denoiser(data.train, (low, high), own)
            settings = recipe(denoiser.sigma_data, steps=steps, batch_size=batch_size, seed=own)
            settings = replace(settings, precision=precision, compiled=compiled)
            run = _PilotRun(denoiser, rows, settings, data.heldout, out / f"pilot-{size}-{repeat}")
            pilots.append(run.finish(lambda step, copies, of=(size, repeat): show and show(*of, step, copies)))
        if not any(pilot.onset for pilot in pilots if pilot.size == size):
            break
    return pilots


class _PilotRun:
    """One pilot and its two files: the state of training, and the copies counted by step."""

    def __init__(
        self, denoiser: Preconditioned, rows: Tensor, settings: TrainingSettings, heldout: Tensor, path: Path
    ) -> None:
        self.denoiser, self.heldout, self.run = denoiser, heldout, TrainingRun(denoiser, rows, settings)
        self.file = RunCheckpoint(path.with_suffix(".safetensors"), self.run)
        self.counts_path, self.counts = path.with_suffix(".json"), dict[int, int | None]()
        if self.file.path.exists():
            self.file.restore()
            if self.counts_path.exists():
                self.counts = {int(step): count for step, count in json.loads(self.counts_path.read_text()).items()}
        else:
            self.counts_path.unlink(missing_ok=True)

    def finish(self, show: Callable[[int, int | None], None]) -> Pilot:
        """Train and count to the onset, or to the last step of the plan."""
        begun = any(copies_surely(count or 0, SAMPLES) for count in self.counts.values())
        saved = time.monotonic()
        for step in checkpoints(self.run.settings.steps):
            if begun:
                break
            while self.run.step < step:
                self.run.advance()
                if time.monotonic() - saved > SAVE_EVERY:
                    self.file.save()
                    saved = time.monotonic()
            if step not in self.counts:
                self.counts[step] = self._copies()
                # the state of this step first: a count without it would be of another run
                self.file.save()
                write_json(self.counts, self.counts_path)
            begun = copies_surely(self.counts[step] or 0, SAMPLES)
            show(step, self.counts[step])
        return Pilot(
            size=len(self.run.data),
            steps=max(self.counts),
            onset=onset({step: count or 0 for step, count in self.counts.items()}),
            chance=int(copied(self.heldout, self.run.data).sum()),
            heldout=len(self.heldout),
        )

    def _copies(self) -> int | None:
        """Copies among 1,000 samples of the averaged weights; None where the examples are not fitted yet."""
        denoiser = averaged(self.denoiser, self.run.average).eval()
        if self._relative_error(denoiser) > FITTED:
            return None
        return int(copied(generate(denoiser, SAMPLES, seed=self.run.settings.seed), self.run.data).sum())

    @torch.no_grad()
    def _relative_error(self, denoiser: Preconditioned) -> float:
        """The loss on training examples over that on held-out ones, with the same noise."""
        settings, generator = self.run.settings, torch.Generator().manual_seed(self.run.settings.seed)
        t = settings.noise.sample(denoiser.schedule, ROWS, generator=generator)
        noise = torch.randn(ROWS, *self.run.data.shape[1:], generator=generator)
        loss = [
            float((settings.weight(denoiser.schedule, t) * squared_errors(denoiser, repeated(rows), t, noise)).mean())
            for rows in (self.run.data, self.heldout)
        ]
        return loss[0] / loss[1]


def repeated(rows: Float[Tensor, "n *event"]) -> Float[Tensor, "rows *event"]:
    """The first ROWS examples, from the start again where there are fewer."""
    return rows[torch.arange(ROWS) % len(rows)]


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0] >> 1)

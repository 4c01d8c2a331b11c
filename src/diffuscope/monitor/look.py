"""One look at a model in training: copies among its samples, the denoising gap, and the quality of its samples.

These are the audit's own measurements, of fewer samples and points: the search for copies (`copy_search`), with the
power of both rules measured by planting; the denoising error on training against held-out examples (`denoising_gap`),
which shows memorization before samples are copies; and the Frechet distance of the samples in principal components
(`frechet_ratio`). What does not depend on the model is prepared once.
"""

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from diffuscope.audit import Settings, Subject
from diffuscope.audit.copy_search import CopySearch
from diffuscope.audit.denoising_gap import Gap, denoising_gap
from diffuscope.audit.frechet_ratio import Fidelity, fidelity
from diffuscope.audit.generation import followed_samples
from diffuscope.audit.group_units import one_of_each_group
from diffuscope.audit.judged_quality import LARGEST_SAMPLE
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.own_sampler import own_sampler
from diffuscope.audit.questions.memorized import pairs_of_points
from diffuscope.audit.session import Session
from diffuscope.audit.subject import evaluate
from diffuscope.audit.transformations import transformations
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.files import finite
from diffuscope.streams import numpy_stream, torch_stream

from .judged_copies import Word, judged_copies, with_distance


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was measured at `step`, the `look`-th of its run; shares are of 1, and NaN is what was not measured.

    `copied` is the share of the samples that are listed as copies, with its 95% interval; `detectable` the smallest
    share of copies (by kind of copy) that would have been found with probability 0.95; `p_value` that of the tests of
    this look together, to be compared with its `level` (a stop needs an entry of the list as well). `gap` is how much
    better training examples are denoised than held-out ones, `quality` the Frechet distance to held-out data over that
    between two held-out sets.

    >>> import math
    >>> from diffuscope.monitor import Look
    >>> look = Look(step=20, look=2, word="copies", sentence="", stop=True, copied=0.25, detectable={"exact": math.inf})
    >>> look.as_json()["detectable"], look.as_json()["gap"]  # JSON has no infinity, and the gap was not measured
    ({'exact': None}, None)
    >>> Look.of_json(look.as_json()).detectable
    {'exact': inf}
    """

    step: int
    look: int
    word: Word
    sentence: str
    stop: bool
    copied: float = math.nan
    copied_interval: tuple[float, float] = (math.nan, math.nan)
    samples: int = 0
    heldout: int = 0
    p_value: float = math.nan
    level: float = math.nan
    detectable: dict[str, float]
    gap: float = math.nan
    gap_interval: tuple[float, float] = (math.nan, math.nan)
    gap_p_value: float = math.nan
    gap_detectable: float = math.nan
    quality: float = math.nan
    quality_interval: tuple[float, float] = (math.nan, math.nan)
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """Plain JSON types; NaN and infinity, which JSON lacks, are null."""
        record = finite(asdict(self))
        assert isinstance(record, dict)
        return record

    @classmethod
    def of_json(cls, record: dict[str, Any]) -> "Look":
        """The look of a record; ValueError, KeyError, TypeError or AttributeError if it is none."""
        numbers = {name: record[name] for name in cls.__dataclass_fields__}
        for name, value in numbers.items():
            if name == "detectable":
                numbers[name] = {kind: math.inf if share is None else float(share) for kind, share in value.items()}
            elif name.endswith("interval"):
                low, high = (math.nan if end is None else float(end) for end in value)
                numbers[name] = (low, high)
            elif value is None:
                numbers[name] = math.inf if name == "gap_detectable" else math.nan
        return cls(**numbers)


class Looking:
    """Looks at the models of one run, against the same data; the schedule is that of the first."""

    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings = subject, settings
        self.session = session = Session(subject, settings)
        references, spaces = session.references, {name: session.features(name) for name in settings.features}
        chosen = transformations(settings.transformations, subject.train.shape[1:])
        groups = [None if g is None else g.numpy() for g in (subject.train_groups, subject.heldout_groups)]
        self.searches = {
            space: CopySearch(
                subject.train,
                subject.heldout,
                calibration=settings.references,
                seed=session.seed(f"copies {space}"),
                features=features,
                chosen=chosen if space == "pixels" else (),
                table=subject.table if space == "pixels" else None,
                train_groups=groups[0],
                heldout_groups=groups[1],
            )
            for space, features in spaces.items()
        }
        self.compared = session.features("pca")
        some = numpy_stream(settings.seed, "monitor", "quality")
        units = one_of_each_group(subject, some)
        self.sets = [self.compared(_some(x, some)) for x in (units.train, units.heldout)]
        self.quality_of_noise = self._quality(_white_noise(subject, settings), 0)
        self.pairs = pairs_of_points(session, session.numpy_stream("gap"))
        train, heldout, noise = session.points
        self.clean, self.noise = (train, heldout), noise
        self.known = []  # what the memorizer and the control make of the points, level by level
        for t, _ in session.levels:
            of_train, of_heldout, alpha, sigma = *self._noised(t), *self._scales(t)
            memorized = references.train.denoise(of_train, alpha, sigma)
            self.known.append(
                {
                    "training.exact_error": _square(memorized - train)[:, None],
                    "training.control_error": _square(references.control.denoise(of_train, alpha, sigma) - train),
                    "heldout.control_error": _square(references.control.denoise(of_heldout, alpha, sigma) - heldout),
                }
            )

    def __call__(self, denoiser: Denoiser, step: int, look: int, level: float, *, stops: bool) -> Look:
        """The look at `denoiser`; the run is to stop if its samples are copies and `stops`."""
        start, settings = time.monotonic(), self.settings
        gap = self._gap(denoiser, step)
        stream = torch_stream(settings.seed, "monitor", "samples", str(step))
        own = own_sampler(settings.sampler) if settings.sampler else None
        subject = replace(self.subject, denoiser=denoiser)
        drawn = followed_samples(
            subject, self.session.references.gaussian, self.session.levels, settings.generated, 1, stream, own
        )
        samples = torch.from_numpy(drawn["samples"])
        copied = judged_copies(samples, self.searches, rate=settings.false_discovery, level=level, seed=settings.seed)
        quality = self._quality(samples, step)
        copied = with_distance(copied, quality, self.quality_of_noise)
        return Look(
            step=step,
            look=look,
            stop=stops and copied.word == "copies",
            **vars(copied),
            gap=gap.mean_share,
            gap_interval=gap.mean_interval,
            gap_p_value=gap.p_value,
            gap_detectable=gap.detectable,
            **({} if quality is None else {"quality": quality.ratio, "quality_interval": quality.interval}),
            seconds=time.monotonic() - start,
        )

    def _scales(self, t: float) -> tuple[float, float]:
        schedule = self.subject.denoiser.schedule
        return float(schedule.alpha(t)), float(schedule.sigma(t))

    def _noised(self, t: float) -> tuple[Tensor, Tensor]:
        alpha, sigma = self._scales(t)
        first, second = (alpha * clean + sigma * self.noise for clean in self.clean)
        return first, second

    def _gap(self, denoiser: Denoiser, step: int) -> Gap:
        session, sums = self.session, []
        for (t, _), known in zip(session.levels, self.known, strict=True):
            errors = (
                _square(evaluate(denoiser, x_t, t) - clean)
                for x_t, clean in zip(self._noised(t), self.clean, strict=True)
            )
            sums.append({**known, **dict(zip(("training.error", "heldout.error"), errors, strict=True))})
        measures = LevelMeasures(
            ratios=session.levels.ratios.numpy(),
            scale=self.subject.scale,
            dimension=self.subject.train[0].numel(),
            models=("empirical",),
            sums=sums,
        )
        rng = numpy_stream(self.settings.seed, "monitor", "gap", str(step))
        return denoising_gap(measures, self.settings.significance, rng, self.pairs)

    def _quality(self, samples: Tensor, step: int) -> Fidelity | None:
        """None where there are too few examples for the features."""
        rng = numpy_stream(self.settings.seed, "monitor", "quality", str(step))
        try:
            return fidelity(self.compared(_some(samples, rng)), self.sets[0], self.sets[1], int(rng.integers(2**31)))
        except InputError:
            return None


def _white_noise(subject: Subject, settings: Settings) -> Tensor:
    """As many samples of independent numbers, with the mean and the variance of all numbers of the training data."""
    train = subject.train
    stream = torch_stream(settings.seed, "monitor", "white noise")
    noise = torch.randn((settings.generated, *train.shape[1:]), generator=stream, dtype=train.dtype)
    return train.mean() + train.std() * noise


def _square(x: Tensor) -> ndarray:
    return x.flatten(1).double().square().sum(1).numpy()


def _some(x: Tensor, rng: np.random.Generator) -> Tensor:
    return x if len(x) <= LARGEST_SAMPLE else x[torch.from_numpy(rng.permutation(len(x))[:LARGEST_SAMPLE])]

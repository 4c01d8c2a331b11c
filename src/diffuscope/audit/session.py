"""A running audit: the measurements that questions share, made when first needed and kept by the store.

Every use of random numbers has a named stream of its own, so that the same seed gives the same audit, whichever
questions are asked and in whatever order.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy import ndarray
from torch import Tensor
from tqdm import tqdm

from diffuscope import streams
from diffuscope.byte_examples import floats_at
from diffuscope.exact import Gaussian
from diffuscope.store import Arrays, Store

from .copy_search import COPIED, Copies, copies
from .data_gaussian import Truncation, fit_gaussian
from .features import Features
from .generation import followed_samples
from .level_measures import LevelMeasures, Points, measure_level
from .named_features import named_features, own_features
from .own_sampler import own_sampler
from .references import References, fit_references
from .second_model import SecondModel
from .subject import Levels, Settings, Subject, noise_levels
from .transformations import transformations


class Session:
    """Subject, settings and store of one audit, its streams of random numbers, and the shared measurements.

    `given` samples are audited in place of the model's own. A `second` model is compared with the subject's.

    A question of one's own is asked of a session:

    >>> import torch
    >>> from diffuscope.audit import Session, Settings, Subject
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.schedules import VE
    >>> train = torch.tensor([[-0.1], [0.1]]).repeat(10, 1)  # of deviation 0.1
    >>> settings = Settings(levels=5, components=2)
    >>> session = Session(Subject(ExactDenoiser(Empirical(train), VE()), train, train), settings)
    >>> [round(ratio, 4) for ratio in session.levels.ratios.tolist()]  # 100 to 0.03 deviations
    [10.0, 1.3161, 0.1732, 0.0228, 0.003]
    >>> round(session.gaussian.trace, 6)  # a shared measurement
    0.01
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        *,
        store: Store | None = None,
        given: Tensor | None = None,
        second: SecondModel | None = None,
        progress: tqdm | None = None,
    ) -> None:
        self.subject, self.settings, self.given, self.second = subject, settings, given, second
        self.store = store or Store(None, {})
        self.progress = progress if progress is not None else tqdm(disable=True)
        self._features: dict[str, Features] = {}
        self.truncation: Truncation | None = None  # of the Gaussian, once it is fitted
        self.answers: dict[str, Any] = {}  # the `Answer` to every earlier question by its name

    @property
    def broken(self) -> frozenset[str]:
        """What is not what it is taken for, by the answers so far: "model", "samples", "heldout", or nothing."""
        return frozenset().union(*(answer.broken for answer in self.answers.values()))

    @property
    def copies_training(self) -> bool:
        """Whether the question of memorization was answered with an alarm: no later verdict may praise the model."""
        answer = self.answers.get("memorized")
        return answer is not None and bool(answer.findings) and answer.findings[0].tone == "alarm"

    @property
    def leans_to_training(self) -> bool:
        """Whether the question of memorization asked for attention without an alarm."""
        answer = self.answers.get("memorized")
        return answer is not None and bool(answer.findings) and answer.findings[0].tone == "attention"

    @property
    def heldout_doubted(self) -> str:
        """Why equal losses of held-out and training examples say nothing, by the question of memorization; or ""."""
        answer = self.answers.get("memorized")
        if answer is None:
            return ""
        if "heldout_are_copies" not in answer.facts:
            return "whether held-out examples are near-copies of training examples was not asked"
        return COPIED if any(answer.facts["heldout_are_copies"].values()) else ""

    def torch_stream(self, name: str) -> torch.Generator:
        """The stream `name` of random tensors, from its start."""
        return streams.torch_stream(self.settings.seed, "audit", name)

    def numpy_stream(self, name: str) -> np.random.Generator:
        """The stream `name` of random arrays, from its start."""
        return streams.numpy_stream(self.settings.seed, "audit", name)

    def seed(self, name: str) -> int:
        """A seed from the stream `name`, for functions that create their own generator."""
        return int(self.numpy_stream(name).integers(2**32))

    def stage(self, name: str, doing: str, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays called `name`, from the store or computed and stored; one stage of the progress bar.

        Of several processes one computes, and what it needs of this session is measured before.
        """
        self.progress.set_postfix_str(doing)
        if self.subject.has_model:
            _ = self.references
        arrays = self.store.remember(name, compute)
        self.advance()
        return arrays

    def shared_stage(self, name: str, doing: str, compute: Callable[[], Arrays]) -> Arrays:
        """As `stage`, of a `compute` that all processes call: it shares its calls of the model among them."""
        self.progress.set_postfix_str(doing)
        arrays = self.store.remember_together(name, compute)
        self.advance()
        return arrays

    def each_stage(self, doing: str, stages: Mapping[str, Callable[[], Arrays]]) -> list[Arrays]:
        """As `stage`, of several; each process computes some of them."""
        self.progress.set_postfix_str(doing)
        _ = self.references
        measured = []
        for arrays in self.store.remember_each(stages):
            measured.append(arrays)
            self.advance()
        return measured

    def advance(self) -> None:
        """Complete one stage of the progress bar."""
        self.progress.update()

    @property
    def shared_stages(self) -> int:
        """The number of stages of the shared measurements."""
        return 2 + len(self.levels) if self.subject.has_model else 1

    @cached_property
    def levels(self) -> Levels:
        """The audited noise levels."""
        return noise_levels(self.subject.denoiser, self.subject.scale, self.settings.levels)

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian of the training data."""
        if self.subject.has_model:
            return self.references.gaussian
        self.progress.set_postfix_str("fitting a Gaussian")
        fitted, self.truncation = fit_gaussian(self.subject.train, self.torch_stream("references"))
        self.advance()
        return fitted

    def features(self, name: str) -> Features:
        """The feature space `name`; of the user's own ones all data are computed first, and once."""
        if name not in self._features:
            subject = self.subject
            if ":" in name:
                features = own_features(name, subject.train, self.store)
                self.progress.set_postfix_str("computing features")
                for x in (subject.train, subject.heldout):
                    features(x)
            else:
                features = named_features(name, subject, self.gaussian, self.seed(f"features {name}"))
            self._features[name] = features
        return self._features[name]

    def copies(
        self, space: str, stream: str, train: Points, train_groups: Shaped[ndarray, " train"] | None = None
    ) -> Copies:
        """The search for copies of `train` among the samples in one feature space, with the seed of `stream`."""
        subject, settings, plain = self.subject, self.settings, space == "pixels"
        chosen = transformations(settings.transformations, subject.train.shape[1:])
        return copies(
            self.samples,
            train,
            subject.heldout,
            calibration=settings.references,
            rate=settings.false_discovery / len(settings.features),
            seed=self.seed(stream),
            features=self.features(space),
            chosen=chosen if plain and subject.originals is None else (),
            table=subject.table if plain else None,
            train_groups=train_groups,
            heldout_groups=None if subject.heldout_groups is None else subject.heldout_groups.numpy(),
        )

    @cached_property
    def references(self) -> References:
        """The exact models of the data."""
        self.progress.set_postfix_str("fitting the exact models")
        data, components = (self.subject.train, self.subject.heldout), self.settings.components
        fitted = fit_references(*data, components, self.torch_stream("references"))
        self.truncation = fitted.truncation
        self.advance()
        return fitted

    @cached_property
    def generated(self) -> Arrays:
        """The model's own samples, and the states of its trajectories at every level."""
        settings, gaussian = self.settings, self.references.gaussian
        count = settings.generated if self.given is None else settings.trajectories
        stream = self.torch_stream("generate")
        own = own_sampler(settings.sampler) if settings.sampler else None
        draw = partial(followed_samples, self.subject, gaussian, self.levels, count, settings.trajectories, stream, own)
        return self.shared_stage("samples", "generating samples", draw)

    @cached_property
    def samples(self) -> Points:
        """The audited samples: the given ones, or the model's own."""
        return torch.from_numpy(self.generated["samples"]) if self.given is None else self.given.float()

    def shown(self, part: Literal["train", "heldout", "samples"], places: Int64[Tensor, " n"]) -> Points | None:
        """Examples as people know them: latents by their originals, or decoded; None where neither is known."""
        originals = self.subject.originals
        whole = self.samples if part == "samples" else getattr(self.subject, part)
        if originals is None:
            return whole[places]
        known = getattr(originals, part)
        if known is not None:
            return known[places]
        return None if originals.decode is None else originals.decode(whole[places])

    @cached_property
    def points(self) -> tuple[Points, Points, Points]:
        """Equally many random training and held-out examples, and the noise that the i-th of both share."""
        train, heldout, stream = self._drawn_points
        clean, others = floats_at(self.subject.train, train), floats_at(self.subject.heldout, heldout)
        return clean, others, torch.randn(clean.shape, generator=stream)

    @property
    def point_indices(self) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
        """The places of the `points` among the training and the held-out examples."""
        return self._drawn_points[:2]

    @property
    def _drawn_points(self) -> tuple[Tensor, Tensor, torch.Generator]:
        stream, sizes = self.torch_stream("points"), (len(self.subject.train), len(self.subject.heldout))
        n = min(self.settings.points, *sizes)
        train, heldout = (torch.randperm(size, generator=stream)[:n] for size in sizes)
        return train, heldout, stream

    @cached_property
    def measures(self) -> LevelMeasures:
        """The comparison of the model with the exact models, at every level."""
        states = torch.from_numpy(self.generated["states"])
        sums = [
            self.shared_stage(
                f"level-{index:02d}",
                "measuring noise levels",
                partial(measure_level, self.subject, self.references, t, *self.points, states[index]),
            )
            for index, (t, _) in enumerate(self.levels)
        ]
        return LevelMeasures(
            ratios=self.levels.ratios.numpy(),
            scale=self.subject.scale,
            dimension=self.subject.train[0].numel(),
            models=tuple(self.references.models),
            sums=sums,
            components=self.references.components,
        )

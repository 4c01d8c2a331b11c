"""The audit from end to end: fit the exact models, measure, judge.

What a model must be called for is kept stage by stage, so that it can be resumed; fits and judgements are made anew.
"""

import hashlib
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors
import scipy
import sklearn
import torch
from tqdm import tqdm

import diffuscope
from diffuscope.errors import InputError
from diffuscope.findings import Finding, Tone

from . import copies as copies_
from . import diagnostics as diagnostics_
from . import gap as gap_
from . import learned as learned_
from . import loss as loss_
from . import steps as steps_
from .copies import Copies, Nearness
from .diagnostics import Diagnostics, diagnose
from .features import feature_map
from .gap import Gap
from .generation import generate
from .learned import Learned
from .loss import LossSplit
from .measure import measure_level
from .quality import Quality, judge
from .references import References, band_names, fit_references
from .steps import Steps
from .store import Store
from .subject import Levels, Settings, Subject, evaluate, noise_levels

Advance = Callable[[int], object]


@dataclass(frozen=True, eq=False)
class Memorization:
    """The three tests of one audit: denoising errors, and per space of distances nearness and copies."""

    gap: Gap | None
    nearness: dict[str, Nearness]
    copies: dict[str, Copies]
    verdict: Finding
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class AuditResult:
    """Everything an audit found, for the report and for JSON."""

    subject: Subject
    settings: Settings
    levels: Levels
    samples: torch.Tensor
    learned: Learned
    loss: LossSplit
    memorization: Memorization
    steps: Steps
    quality: Quality
    findings: dict[str, tuple[Finding, ...]]  # by question: learned, loss, memorized, steps, quality, diagnostics
    versions: dict[str, str]
    diagnostics: Diagnostics | None = None

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: every finding, the settings, the versions, and the facts about the data."""
        return {
            "model": self.subject.name,
            "data": self.subject.data_name,
            "notes": list(self.subject.notes),
            "training_examples": len(self.subject.train),
            "heldout_examples": len(self.subject.heldout),
            "settings": asdict(self.settings),
            "versions": self.versions,
            "noise_levels": self.levels.ratios.tolist(),
            "quality_not_measured": self.quality.refusal or None,
            "findings": {key: [f.as_json() for f in found] for key, found in self.findings.items()},
            "copies": {
                space: [
                    {
                        "sample": int(i),
                        "p_value": float(found.p_values[i]),
                        "training_example": int(found.nearest_training[i]),
                        "distance": float(found.distance[i]),
                    }
                    for i in np.flatnonzero(found.listed)
                ]
                for space, found in self.memorization.copies.items()
            },
        }


def audit(
    subject: Subject,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    samples: torch.Tensor | None = None,
    progress: bool = False,
) -> AuditResult:
    """Audit a denoiser against its training data and held-out data.

    `samples`, if given, are searched for copies in place of the model's own. With `out`, finished stages are kept in
    its `state` folder and an interrupted audit resumes. Memory: the data once in float32, plus under 1 GB.
    Raises InputError where the model or the data cannot be audited.
    """
    settings = settings or Settings()
    if samples is not None and samples.shape[1:] != subject.train.shape[1:]:
        raise InputError(
            f"samples: expected examples of shape {tuple(subject.train.shape[1:])}, got {tuple(samples.shape[1:])}"
        )
    if samples is not None and not bool(torch.isfinite(samples).all()):
        raise InputError("samples: expected finite values, got NaN or infinity")
    denoiser, seed = subject.denoiser, settings.seed
    levels = noise_levels(denoiser, subject.scale, settings.levels)
    store = Store(out, _inputs(subject, settings, samples))
    spaces = len(settings.features)
    with tqdm(
        total=(1 + settings.diagnostics) * len(levels) + steps_.STAGES + 3 + 2 * spaces,
        desc="audit",
        unit="stage",
        disable=not progress,
    ) as bar:
        bar.set_postfix_str("fitting the exact models")
        references = fit_references(
            subject.train, subject.heldout, settings.components, subject.generator(seed, "references")
        )
        bar.update()

        bar.set_postfix_str("generating samples")
        count = settings.generated if samples is None else settings.trajectories
        generated = store.remember(
            "samples",
            lambda: generate(subject, references.gaussian, levels, count, settings.trajectories, seed),
        )
        own = torch.from_numpy(generated["samples"]) if samples is None else samples.float()
        bar.update()

        bar.set_postfix_str("measuring noise levels")
        measures = []
        train, heldout, noise = _points(subject, settings)
        for index, (t, _) in enumerate(levels):
            states = torch.from_numpy(generated["states"][index])

            def measure(t: float = t, states: torch.Tensor = states) -> dict[str, np.ndarray]:
                return measure_level(subject, references, t, train, heldout, noise, states)

            measures.append(store.remember(f"level-{index:02d}", measure))
            bar.update()
        ratios, scale = levels.ratios.numpy(), subject.scale
        models = tuple(references.models)
        dimension = subject.train[0].numel()
        learned = learned_.learned(
            measures, ratios, scale, models, tuple(band_names(dimension)), np.random.default_rng([seed, 1])
        )
        loss = loss_.loss_split(measures, ratios, scale, dimension, models, np.random.default_rng([seed, 2]))
        gap = gap_.gap(measures, ratios, settings.significance, np.random.default_rng([seed, 3]))

        bar.set_postfix_str("looking for copies")
        memorization = memorized(own, subject, references, settings, gap, bar.update)

        bar.set_postfix_str("comparing samples with unseen data")
        quality = judge(own, subject, settings)
        bar.update()

        bar.set_postfix_str("counting steps")
        arrays = store.remember(
            "steps",
            lambda: steps_.measure_steps(
                subject, references.gaussian, levels, settings.step_seeds, settings.skip_tolerance, seed, bar.update
            ),
        )
        steps = steps_.steps(arrays, scale, settings.skip_tolerance)
        diagnostics = None
        if settings.diagnostics:
            bar.set_postfix_str("differentiating")
            diagnostics = diagnose(subject, settings, references, levels, measures, heldout, noise, store, bar.update)
        bar.n = bar.total
        bar.set_postfix_str("done")
    findings = {
        "learned": tuple(learned_.findings(learned)),
        "loss": tuple(loss_.findings(loss)),
        "memorized": (memorization.verdict, *memorization.findings),
        "steps": tuple(steps_.findings(steps, np.random.default_rng([seed, 4]))),
        "quality": quality.findings,
    }
    if diagnostics is not None:
        findings["diagnostics"] = tuple(diagnostics_.findings(diagnostics, settings.significance))
    return AuditResult(
        subject, settings, levels, own, learned, loss, memorization, steps, quality, findings, versions(), diagnostics
    )


def memorized(
    samples: torch.Tensor,
    subject: Subject,
    references: References,
    settings: Settings,
    gap: Gap | None,
    advance: Advance = lambda _: None,
) -> Memorization:
    """All tests of memorization; the false-discovery rate is shared among the spaces of distances."""
    near, found, findings = {}, {}, []
    if gap is not None:
        findings += gap_.findings(gap, settings.significance)
    for space in settings.features:
        features = feature_map(space, references.gaussian)
        drawn, train, heldout = features(samples), features(subject.train), features(subject.heldout)
        near[space] = copies_.nearness(drawn, train, heldout, settings.significance, settings.seed)
        advance(1)
        rate = settings.false_discovery / len(settings.features)
        found[space] = copies_.copies(drawn, train, heldout, settings.references, rate, settings.seed)
        findings += copies_.findings(near[space], found[space], space, settings.significance)
        advance(1)
    return Memorization(gap, near, found, verdict(gap, near, found, settings.significance), tuple(findings))


def verdict(gap: Gap | None, near: dict[str, Nearness], found: dict[str, Copies], significance: float) -> Finding:
    """'copies training examples', 'leans towards its training data' or 'no sign', with size and power."""
    worst = max(found.values(), key=lambda c: c.share)
    closest = max(near.values(), key=lambda n: n.share)
    leaning = any(n.p_value < significance for n in near.values())
    gap_beyond = gap is not None and gap.p_value < significance
    count, total = int(worst.listed.sum()), len(worst.listed)
    low, high = copies_.exact_share_interval(count, total)
    tone: Tone = "good"
    text = "No sign of memorization: no sample is a copy, and training data are treated like unseen data."
    if count:
        tone = "alarm"
        text = (
            f"Copies training examples: {worst.share:.1%} of its samples do (false entries at most {worst.rate:.0%})."
        )
    elif leaning or gap_beyond:
        tone = "attention"
        parts = [f"{closest.share:.1%} of its samples are nearer to training than to unseen data"] if leaning else []
        if gap_beyond and gap is not None:
            parts.append(f"its loss is {gap.mean_share:.1%} lower on training than on unseen data")
        text = f"Leans towards its training data: {' and '.join(parts)}; no sample is a copy."
    power = min([c.detectable for c in found.values()] + [n.detectable for n in near.values()])
    return Finding(
        name="memorized.verdict",
        title="Did it memorize?",
        value=100 * worst.share,
        unit="%",
        verdict=text,
        tone=tone,
        interval=(100 * low, 100 * high),
        null="Unseen examples treated as samples; the three tests are in section 3.",
        power=f"Copies making up {power:.1%} of the samples would have been found with probability .95.",
    )


def versions() -> dict[str, str]:
    """Versions of what computed the result."""
    return {
        "diffuscope": diffuscope.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "safetensors": safetensors.__version__,
    }


def _points(subject: Subject, settings: Settings) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Equally many random training and held-out examples, and the noise that the i-th of both share."""
    generator = subject.generator(settings.seed, "points")
    n = min(settings.points, len(subject.train), len(subject.heldout))
    train = subject.train[torch.randperm(len(subject.train), generator=generator)[:n]]
    heldout = subject.heldout[torch.randperm(len(subject.heldout), generator=generator)[:n]]
    return train, heldout, torch.randn(train.shape, generator=generator)


def _inputs(subject: Subject, settings: Settings, samples: torch.Tensor | None) -> dict[str, object]:
    """What decides the result: the data, the settings, and how the model answers a fixed question.

    Not whether diagnostics are asked for: they are stages of their own, and an audit can be given them afterwards.
    """
    generator = subject.generator(0, "probe")
    schedule = subject.denoiser.schedule
    t = noise_levels(subject.denoiser, subject.scale, 4).times[1]
    probe = float(schedule.alpha(t)) * subject.train[:4] + float(schedule.sigma(t)) * torch.randn(
        subject.train[:4].shape, generator=generator
    )
    answer = evaluate(subject.denoiser, probe, float(t))
    return {
        "settings": {name: value for name, value in asdict(settings).items() if name != "diagnostics"},
        "schedule": repr(schedule),
        "train": _digest(subject.train),
        "heldout": _digest(subject.heldout),
        "samples": None if samples is None else _digest(samples),
        "model": _digest(answer),
        "version": diffuscope.__version__,
    }


def _digest(x: torch.Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()

"""One-step models: consistency models and distilled generators, which are maps from noise to data in one call.

Such a model declares `one_step = True`. It is no denoiser of the states between noise and data, so that no question
about its noise levels, its loss or its steps has a meaning; what is audited are its samples, drawn by one call each at
the highest noise level of its schedule, or by several with noise added in between (`samplers.consistency`), and the
report says so. What is asked of the map itself is in `consistency`.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from diffuscope import streams
from diffuscope.denoisers import Denoiser, tensors_within
from diffuscope.distributed import rank, require_same
from diffuscope.errors import InputError
from diffuscope.files import sole_writer
from diffuscope.progress import progress_bar
from diffuscope.samplers import consistency_samples, consistency_times, generate, is_one_step
from diffuscope.source import source_fingerprint
from diffuscope.store import Arrays, Store

from .fingerprint import PROBES, digest
from .level_measures import Points
from .no_model import NoModel
from .subject import Settings, Subject, evaluate

PART = 64  # samples in one file of the store
NOTE = (
    "the model declares that it is a one-step map (one_step = True): {}; it is no denoiser along a trajectory, as its "
    "answer to a noised state is a sample and not the mean of the data given that state, so its wiring, its denoising, "
    "what its loss reveals and the number of its steps were not asked"
)


def with_samples(
    subject: Subject, settings: Settings, out: Path | None, samples: Points | None, progress: bool = False
) -> tuple[Subject, Points | None]:
    """`subject` without its model where that is a one-step map, and its samples; otherwise both as they are.

    Samples are kept in `out`, in parts, so that an interrupted run resumes. Raises InputError for what needs a
    denoiser: canaries, owners, a sampler.
    """
    if not is_one_step(subject.denoiser):
        if settings.consistency_steps != 1:
            raise InputError(
                f"consistency_steps: expected a one-step model with it (one_step = True), got "
                f"{settings.consistency_steps} and a denoiser"
            )
        return subject, samples
    for name in ("canaries", "train_owners", "heldout_owners"):
        if getattr(subject, name) is not None:
            raise InputError(f"{name}: expected a denoiser, whose loss it asks for; got a one-step model")
    if settings.sampler:
        raise InputError(f"sampler: expected none, as a one-step model is called once, got {settings.sampler!r}")
    drawn = "the given samples were audited"
    if samples is None:
        with nullcontext() if out is None or rank() > 0 else sole_writer(out):
            samples = _drawn(subject, settings, out, progress)
        highest = float(subject.denoiser.schedule.sigma(subject.denoiser.schedule.t_max))
        calls = len(consistency_times(subject.denoiser, settings.consistency_steps))
        each = "one call each" if calls == 1 else f"{calls} calls each, with noise added anew in between,"
        drawn = f"{len(samples):,} samples, of {each} from noise of standard deviation {highest:g}, were audited"
    notes = (*subject.notes, NOTE.format(drawn))
    return replace(subject, denoiser=NoModel(), sampled=subject.denoiser, notes=notes), samples


def _drawn(subject: Subject, settings: Settings, out: Path | None, progress: bool) -> Points:
    """`settings.generated` samples of the model, with as many calls each as `settings.consistency_steps` says."""
    denoiser, shape = subject.denoiser, tuple(subject.train.shape[1:])
    times = consistency_times(denoiser, settings.consistency_steps)
    require_same({"model": digest(*tensors_within(denoiser))})
    store = Store(out, {"one-step": _identity(denoiser, shape), "seed": settings.seed, "times": times.tolist()})
    stages = {}
    for index, first in enumerate(range(0, settings.generated, PART)):
        n = min(PART, settings.generated - first)
        seed = int(streams.numpy_stream(settings.seed, "audit", "one-step", str(index)).integers(2**32))

        def draw(n: int = n, seed: int = seed) -> Arrays:
            if len(times) == 1:
                return {"samples": generate(denoiser, n, seed=seed, event_shape=shape).float().cpu().numpy()}
            chance = torch.Generator().manual_seed(seed)
            start = float(denoiser.schedule.sigma(times[0])) * torch.randn(n, *shape, generator=chance)
            return {"samples": consistency_samples(denoiser, start, times, chance).float().cpu().numpy()}

        stages[f"one-step-{index:04d}-{n}"] = draw
    drawn = progress_bar(
        store.remember_each(stages),
        desc="sampling",
        unit="batch",
        total=len(stages),
        disable=not progress or rank() > 0,
    )
    return torch.cat([torch.from_numpy(part["samples"]) for part in drawn])


def _identity(denoiser: Denoiser, shape: tuple[int, ...]) -> str:
    """Code, weights, schedule and an answer: another wrapper around the same weights is another model."""
    schedule, noise = denoiser.schedule, streams.torch_stream(0, "audit", "probe")
    x = float(schedule.sigma(schedule.t_max)) * torch.randn(PROBES, *shape, generator=noise)
    known = digest(*tensors_within(denoiser), evaluate(denoiser, x, schedule.t_max))
    return f"{source_fingerprint(Path(__file__))} {schedule!r} {known}"

"""The model's own samples, and the states that its trajectories pass through at every audited noise level.

Heun's method solves the probability-flow ODE on a grid that contains the audited levels, and a final denoiser call
removes the remaining noise. Samples start from the Gaussian with the first two moments of the data noised to the
highest level. The owner's own sampler, if given, makes the samples from the same starts on the same times. Samples are
those of `Subject.maker`, which may be guided; states are those of Heun's method and of the denoiser also then.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, device_of
from diffuscope.exact import Gaussian
from diffuscope.memory import ranges
from diffuscope.samplers import Heun, finish, trajectory
from diffuscope.schedules import Schedule
from diffuscope.shared_work import shared
from diffuscope.store import Arrays

from .own_sampler import Finish
from .rows_of import at_once
from .subject import EVALUATION_BATCH, Levels, Subject, evaluate, levels_at


def refined(denoiser: Denoiser, levels: Levels) -> Float[Tensor, " times"]:
    """The times of the levels, and of the geometric mean of every two neighboring levels."""
    middles = levels_at(denoiser, (levels.ratios[:-1] * levels.ratios[1:]).sqrt()).times
    # the levels' own times, not a round trip through their ratios, because states are kept at equal times
    return torch.cat([levels.times, middles]).unique().flip(0)


def starting_noise(
    gaussian: Gaussian, schedule: Schedule, t: float, n: int, generator: torch.Generator
) -> Float[Tensor, "n *event"]:
    """n draws from N(alpha mu, alpha^2 Sigma + sigma^2 I) at time t, float32."""
    alpha, sigma, size = schedule.alpha(t), schedule.sigma(t), at_once(8 * gaussian.dimension)
    parts = []
    for start, stop in ranges(n, size):
        clean = gaussian.sample(stop - start, generator=generator)
        noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
        parts.append((alpha * clean + sigma * noise).float())
    return torch.cat(parts)


def followed_samples(
    subject: Subject,
    gaussian: Gaussian,
    levels: Levels,
    samples: int,
    followed: int,
    generator: torch.Generator,
    own: Finish | None = None,
) -> Arrays:
    """`samples` finished samples, and the states of the first `followed` at every level: (levels, followed, *event)."""
    denoiser = subject.denoiser
    times = refined(denoiser, levels)
    start = starting_noise(gaussian, denoiser.schedule, float(times[0]), samples, generator)
    apart = own is not None or subject.sampled is not None

    def follow(batch: Batch, count: int) -> Arrays:
        """The samples, and the states of the first `count`."""
        kept, last = [], batch.to(device_of(denoiser))
        for state in trajectory(Heun(), denoiser, last, times):
            if bool((levels.times == state.t).any()):
                kept.append(state.x_t.cpu()[:count].clone())
            last = state.x_t
        return {
            "samples": evaluate(denoiser, last, float(times[-1])).cpu().numpy(),
            "states": torch.stack(kept).numpy(),
        }

    batches = (start[:followed] if apart else start).split(EVALUATION_BATCH)
    counts = [max(0, followed - place * EVALUATION_BATCH) for place in range(len(batches))]
    parts = shared([partial(follow, batch, count) for batch, count in zip(batches, counts, strict=True)])
    made = {
        "samples": np.concatenate([part["samples"] for part in parts]),
        "states": np.concatenate([part["states"] for part in parts], 1),
    }
    if own is not None:
        made |= shared([lambda: {"samples": own(subject.maker, start, times, generator).numpy()}])[0]
    elif apart:
        made["samples"] = finish(subject.maker, Heun(), start, times, batch_size=EVALUATION_BATCH).numpy()
    return made

"""The model's own samples, and the states that its trajectories pass through at every audited noise level.

Heun's method solves the probability-flow ODE on a grid that contains the audited levels, and a final denoiser call
removes the remaining noise. Samples start from the Gaussian with the first two moments of the data noised to the
highest level. The owner's own sampler, if given, makes the samples from the same starts on the same times. Samples are
those of `Subject.maker`, which may be guided; states are those of Heun's method and of the denoiser also then.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import Heun, finish, trajectory
from diffuscope.schedules import Schedule
from diffuscope.store import Arrays

from .own_sampler import Finish
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
    clean = gaussian.sample(n, generator=generator)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    return (schedule.alpha(t) * clean + schedule.sigma(t) * noise).float()


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
    finished, states, apart = [], [], own is not None or subject.sampled is not None
    for batch in (start[:followed] if apart else start).split(EVALUATION_BATCH):
        kept, last = [], batch
        with torch.no_grad():
            for state in trajectory(Heun(), denoiser, batch, times):
                if bool((levels.times == state.t).any()):
                    kept.append(state.x_t)
                last = state.x_t
        finished.append(evaluate(denoiser, last, float(times[-1])))
        states.append(torch.stack(kept))
    if own is not None:
        finished = [own(subject.maker, start, times, generator)]
    elif apart:
        finished = [finish(subject.maker, Heun(), start, times, batch_size=EVALUATION_BATCH)]
    return {"samples": torch.cat(finished).numpy(), "states": torch.cat(states, dim=1)[:, :followed].numpy()}

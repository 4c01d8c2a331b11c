r"""The noise level at which each principal component of a sample is decided, and the shape of trajectories.

Along the model's own trajectories, :math:`c_k(t) = u_k^T(D(t) - \mu)` for the leading principal components of the data.
A component is *decided* at its emergence level, the ratio sigma/alpha where its root mean square over trajectories
passes :math:`1/\sqrt2` of that at the lowest level, r. A Gaussian decides it at :math:`\sqrt{\lambda + 2r^2}`, and no
data of the same second moments M at the lowest level below :math:`\sqrt M` (`theory.geometry.feature_emergence`).

The dimension of a trajectory is the number of principal components that hold 99.9% of its variance, with states in
units in which noise and data have the same size, and is compared with that of the exact Gaussian from the same starts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from diffuscope.samplers import suggest_skip
from diffuscope.shared_work import told_by_process_0
from diffuscope.store import Arrays
from diffuscope.theory.geometry import (
    Trajectories,
    crossing_levels,
    emerged_share,
    emergence_level,
    feature_coordinates,
    gaussian_trajectories,
    principal_shares,
    root_share,
)
from diffuscope.theory.geometry.feature_emergence import EMERGED

from .generation import starting_noise
from .session import Session
from .subject import evaluate

COMPONENTS = 16  # leading principal components, at most
FEWEST_LEVELS = 8  # for a dimension
FOLLOWED = 64  # trajectories whose dimension is measured, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class ComponentLevels:
    """What was measured on the model's own trajectories, and what of it a Gaussian would give."""

    ratios: Float[ndarray, " levels"]
    scale: float
    variances: Float[ndarray, " k"]  # of the data
    squares: Float[ndarray, "trajectories levels k"]  # of the coordinates of the clean estimates
    shares: Float[ndarray, "followed points"]  # of variance by principal component of each trajectory
    gaussian_shares: Float[ndarray, "followed points"]  # of the exact Gaussian from the same starts
    dimension: int
    skip: float  # where the closed-form jump may end; the highest level if nowhere
    tolerance: float

    @property
    def emerged(self) -> Float[ndarray, "levels k"]:
        """The root mean square of each component relative to the lowest level."""
        return relative(self.squares.mean(0))

    @property
    def predicted(self) -> Float[ndarray, "levels k"]:
        """The same of Gaussian data."""
        lam, ratios = torch.from_numpy(self.variances), torch.from_numpy(self.ratios)
        return emerged_share(lam, ratios, last=float(self.ratios[-1])).numpy()

    @property
    def gaussian_levels(self) -> Float[ndarray, " k"]:
        """The emergence levels of Gaussian data."""
        return emergence_level(torch.from_numpy(self.variances), last=float(self.ratios[-1])).numpy()

    @property
    def bound(self) -> Float[ndarray, " k"]:
        """The size of each component in the model's samples, which no emergence level is below."""
        return np.sqrt(self.squares[:, -1].mean(0))

    @property
    def levels(self) -> Float[ndarray, " k"]:
        """Emergence levels; NaN where a component is not seen to emerge."""
        return self.levels_of(self.emerged)

    def levels_of(self, emerged: Float[ndarray, "levels *k"]) -> Float[ndarray, "*k"]:
        """The emergence levels of curves."""
        return crossing_levels(torch.from_numpy(self.ratios), torch.from_numpy(emerged)).numpy()

    @property
    def known(self) -> Bool[ndarray, " k"]:
        """Which components were seen to emerge."""
        return ~np.isnan(self.levels)

    @property
    def one_step(self) -> bool:
        """Whether the estimates are samples at the highest level already, where those of a Gaussian are small."""
        return bool(np.median(self.emerged[0]) >= EMERGED) and bool(np.median(self.predicted[0]) < EMERGED / 2)


def relative(squares: Float[ndarray, "levels *k"]) -> Float[ndarray, "levels *k"]:
    """The root of mean squares relative to the lowest level."""
    return root_share(torch.from_numpy(squares)).numpy()


def measure_components(session: Session) -> Arrays:
    """Coordinates of the estimates at every level, and the shape of some trajectories."""
    subject, gaussian, levels = session.subject, session.references.gaussian, session.levels
    schedule = subject.denoiser.schedule
    states = torch.from_numpy(session.generated["states"])
    denoised = torch.stack([evaluate(subject.denoiser, x, t) for x, (t, _) in zip(states, levels, strict=True)])
    alphas, sigmas = schedule.alpha(levels.times), schedule.sigma(levels.times)
    run = Trajectories(levels.times, alphas, sigmas, states, denoised)
    lowest = float(levels.ratios[-1])
    variances = gaussian.eigenvalues[:COMPONENTS]
    kept = int((variances > (2 * lowest) ** 2).sum())  # of the others the last level has not the whole
    coordinates = feature_coordinates(run, gaussian, max(1, kept))[..., :kept]
    some = Trajectories(levels.times, alphas, sigmas, states[:, :FOLLOWED], denoised[:, :FOLLOWED])
    arrays = {"squares": coordinates.square().transpose(0, 1), "variances": variances[:kept]}
    if subject.train[0].numel() > 2 and len(levels) >= FEWEST_LEVELS:
        closed = gaussian_trajectories(gaussian, schedule, some.states[0], levels.times)
        for name, each in (("shares", some), ("gaussian_shares", closed)):
            arrays[name] = principal_shares(each.normalized(subject.scale))
    else:
        arrays |= dict.fromkeys(("shares", "gaussian_shares"), torch.zeros(0, len(levels) + 1))
    return {name: array.double().numpy() for name, array in arrays.items()}


def jump_level(session: Session) -> float:
    """Where the closed-form jump may end: the level that the question of steps measured, or else the estimate."""
    steps = session.answers.get("steps")
    if steps is not None and steps.result is not None and session.subject.sampled is None:
        return float(steps.result.skip)
    denoiser, gaussian, levels = session.subject.denoiser, session.references.gaussian, session.levels
    t, stream = float(levels.times[0]), session.torch_stream("steps")
    start = starting_noise(gaussian, denoiser.schedule, t, session.settings.step_seeds, stream)
    tolerance = session.settings.skip_tolerance
    return told_by_process_0(
        lambda: float(suggest_skip(denoiser, gaussian, start, levels.times, tolerance=tolerance).noise_to_signal)
    )

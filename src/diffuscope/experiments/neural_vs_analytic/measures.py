r"""A network against the analytic candidates: at every noise level on three sets of points, and along its trajectories.

The levels are times that the network was trained at, equal in :math:`(\sigma/\alpha)^{1/7}`. Held-out and training
points are examples under noise; the third set are the network's own states on its probability-flow trajectories. Levels
are given for data in [-1, 1]: :math:`\sigma/\alpha` divided by half the width of the network's range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.references import component_bands
from diffuscope.denoisers import Batch, Denoiser
from diffuscope.exact import Distribution, Gaussian
from diffuscope.samplers import Heun, model_times, times_at
from diffuscope.theory import Agreement, TrajectoryGaps, agreement, mixture_map, mixtures_of, trajectory_gaps
from diffuscope.theory.network_agreement import Quantity

SETS = ("held-out", "training", "trajectory")


@dataclass(frozen=True, eq=False)
class Compared:
    """`found` has an `Agreement` per level, by set of points; `levels` are sigma/alpha for data in [-1, 1]."""

    candidates: tuple[str, ...]
    gaussian: Gaussian
    unit: float  # half the width of the network's range
    times: Float[Tensor, " levels"]
    levels: Float[Tensor, " levels"]
    found: Mapping[str, Sequence[Agreement]]
    gaps: TrajectoryGaps

    def fraction(self, name: str, of: Quantity, places: str = "held-out") -> Float[Tensor, " levels"]:
        """The per-sample unexplained fraction of one candidate at every level."""
        column = self.candidates.index(name)
        return torch.stack([at.per_sample(of)[:, column].mean() for at in self.found[places]])

    def nearest(self, level: float) -> int:
        """The place of the level nearest to `level`, in logarithm."""
        return int((self.levels / level).log().abs().argmin())


def measured(
    network: Denoiser,
    candidates: Mapping[str, Distribution],
    sets: Mapping[str, Batch],
    *,
    unit: float,
    steps: int,
    every: int,
    low: float,
    generator: torch.Generator,
) -> Compared:
    """The network at every `every`-th of the times of `steps` steps down to the level `low`.

    `sets` has the clean held-out and training points, of one number; as many trajectories start from pure noise.
    """
    gaussian = as_gaussian(candidates)
    times = model_times(network, steps, low=low * unit)
    like = sets["held-out"]
    noise = torch.randn(like.shape, generator=generator)
    start = float(network.schedule.sigma(times[0])) * torch.randn(like.shape, generator=generator)
    gaps = trajectory_gaps(network, candidates, start, times, Heun())
    bands = component_bands(gaussian.dimension)
    found: dict[str, list[Agreement]] = {name: [] for name in SETS}
    chosen = range(0, len(times), every)
    for place in chosen:
        t = float(times[place])
        alpha, sigma = float(network.schedule.alpha(t)), float(network.schedule.sigma(t))
        states = {name: alpha * x_0 + sigma * noise for name, x_0 in sets.items()} | {
            "trajectory": gaps.network.states[place]
        }
        for name, x_t in states.items():
            at = agreement(
                network, candidates, x_t, t, mean=gaussian.mean, basis=gaussian.eigenvectors, bands=bands
            )  # fmt: skip
            found[name].append(at)
    levels = network.schedule.noise_to_signal(times[list(chosen)]) / unit
    return Compared(tuple(candidates), gaussian, unit, times[list(chosen)], levels, found, gaps)


def along(
    networks: Mapping[int, Denoiser],
    candidates: Mapping[str, Distribution],
    points: Mapping[float, tuple[float, Batch]],
) -> dict[float, dict[str, Float[Tensor, "n steps"]]]:
    """Score residual of every point at every step, by level and candidate; `points` are (t, x_t) by level."""
    mean, out = as_gaussian(candidates).mean, {}
    for level, (t, x_t) in points.items():
        each = [agreement(network, candidates, x_t, t, mean=mean) for network in networks.values()]
        out[level] = dict(
            zip(candidates, torch.stack([at.per_sample("score") for at in each], 1).unbind(2), strict=True)
        )
    return out


def mapped(
    network: Denoiser,
    train: Float[Tensor, "n *event"],
    points: Mapping[float, tuple[float, Batch]],
    mean: Tensor,
    components: Sequence[int],
    ranks: Sequence[int],
    generator: torch.Generator,
) -> list[Float[Tensor, "K ranks"]]:
    """The score residual of every mixture of K Gaussians of a rank, a table for every level of `points`."""
    known = {}
    for t, x_t in points.values():
        alpha, sigma = float(network.schedule.alpha(t)), float(network.schedule.sigma(t))
        with torch.no_grad():
            known[alpha, sigma] = x_t, network(x_t, torch.tensor(t, dtype=torch.float64))
    found = mixture_map(mixtures_of(train, components, ranks, generator=generator), known, mean)
    return [
        torch.stack([torch.stack([found[K, r][k].per_sample("score").mean() for r in ranks]) for K in components])
        for k in range(len(known))
    ]


def noised(
    network: Denoiser, clean: Batch, levels: Sequence[float], unit: float, generator: torch.Generator
) -> dict[float, tuple[float, Batch]]:
    """(t, x_t) by level, at the times nearest to it that the network was trained at; one noise for all levels."""
    eps, out = torch.randn(clean.shape, generator=generator), {}
    for level in levels:
        t = float(times_at(network, torch.tensor([level * unit], dtype=torch.float64)))
        out[level] = t, float(network.schedule.alpha(t)) * clean + float(network.schedule.sigma(t)) * eps
    return out


def as_gaussian(candidates: Mapping[str, Distribution]) -> Gaussian:
    """The candidate with mean and covariance of the data."""
    gaussian = candidates["Gaussian"]
    assert isinstance(gaussian, Gaussian)
    return gaussian

r"""The noise of the denoising target along a model's own trajectories, against the distances between examples.

The target x_0 of the loss at x_t has the covariance Cov(x_0 | x_t) over the training examples: that of the target of
the score is :math:`\operatorname{tr} C = (\alpha^2/\sigma^4)\operatorname{tr}\operatorname{Cov}(x_0|x_t)`. In z = x_t /
alpha and u = log(sigma / alpha) the probability-flow ODE is :math:`dz/du = z - D`. If D is replaced by single draws of
the target, a new one in every e-fold of the noise, z gains the variance tr Cov(x_0 | x_t) per e-fold. An isotropic
Gaussian of variance s^2 carries a displacement at the noise level rho to the sample by the factor
:math:`s / \sqrt{s^2 + \rho^2}`. The *target spread* is the resulting displacement of a sample, relative to the median
distance d_1 from a training example to the nearest other one,

.. math::
    \Lambda = \frac1{d_1}\Big(E \int \frac{s^2}{s^2 + \rho^2}\,
              \operatorname{tr}\operatorname{Cov}(x_0 \mid x_t)\, d\log\rho\Big)^{1/2} .

A model that averages M targets at every point keeps :math:`\Lambda / \sqrt M`. Far below 1, what is left of the
target's noise cannot carry a sample from one example to the next; at 1 it can, and where samples go is decided by how
the model averages. One example has no noise; for Gaussian data of variance v in d coordinates the integral over all
levels is d v / 2. White noise in place of the field that a training leaves behind is the model of Vastola 2025
(https://arxiv.org/abs/2504.12532, Proposition 4.1), so that Lambda is a scale and no prediction.

*At its examples*: the distance of a sample to the nearest training example over d_1 is 0 for a model at the minimum of
its loss, whose samples are examples.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.findings import bootstrap_sums, percentile_interval
from diffuscope.shared_work import shared_tensors
from diffuscope.store import Arrays

from .level_measures import Points
from .session import Session
from .shared_neighbors import nearest_neighbors

EXAMPLES = 1000  # training examples of which the nearest other one is sought, and samples
Interval = tuple[float, float, float]  # a value and the ends of its interval


def measure_target_noise(session: Session) -> Arrays:
    """tr Cov(x_0 | x_t) of the training examples at every level of every followed trajectory."""
    states, schedule = torch.from_numpy(session.generated["states"]), session.subject.denoiser.schedule
    optimum = session.references.train

    def variance(x_t: Points, t: float) -> Tensor:
        return optimum.posterior_covariance(x_t, float(schedule.alpha(t)), float(schedule.sigma(t))).trace()

    columns = [partial(variance, x_t, t) for x_t, (t, _) in zip(states, session.levels, strict=True)]
    return {"variance": torch.stack(shared_tensors(columns, states.device), 1).double().numpy()}


def nearest_distances(samples: Points, train: Points, heldout: Points, generator: torch.Generator) -> Arrays:
    """From training examples to the nearest other one, from the others to the nearest one; of EXAMPLES random ones."""
    some, fresh, ends = (x[torch.randperm(len(x), generator=generator)[:EXAMPLES]] for x in (train, heldout, samples))
    return {
        "examples": nearest_neighbors(some, train, 2)[0][:, 1].numpy(),  # the first is itself or a duplicate
        "heldout": nearest_neighbors(fresh, train, 1)[0][:, 0].numpy(),
        "samples": nearest_neighbors(ends, train, 1)[0][:, 0].numpy(),
    }


def carried(
    variance: Float[ndarray, "n levels"], ratios: Float[ndarray, " levels"], scale: float
) -> Float[ndarray, " n"]:
    """The integral of every trajectory, by the trapezoidal rule in log(sigma/alpha)."""
    kept = variance * scale**2 / (scale**2 + ratios**2)
    return -torch.trapezoid(torch.from_numpy(kept), torch.from_numpy(np.log(ratios)), dim=1).numpy()  # they decrease


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetNoise:
    """The covariance along trajectories, and the distances."""

    ratios: Float[ndarray, " levels"]
    scale: float
    dimension: int
    variance: Float[ndarray, "n levels"]  # tr Cov(x_0 | x_t)
    examples: Float[ndarray, " some"]  # to the nearest other training example
    heldout: Float[ndarray, " others"]  # to the nearest training example
    samples: Float[ndarray, " generated"]  # to the nearest training example

    @property
    def distance(self) -> float:
        """d_1."""
        return float(np.median(self.examples))

    def spread(self, rng: np.random.Generator) -> Interval:
        """Lambda, its interval over trajectories and examples; NaN where most examples are repeated exactly."""
        gained = carried(self.variance, self.ratios, self.scale)
        drawn = np.sqrt(bootstrap_sums(gained[:, None], rng)[:, 0])
        return _over(float(np.sqrt(gained.mean())), drawn, self._drawn_distances(rng, len(drawn)), self.distance)

    def at_examples(self, rng: np.random.Generator) -> Interval:
        """The median distance of samples over d_1, with its interval."""
        distances = self._drawn_distances(rng)
        drawn = np.median(rng.choice(self.samples, (len(distances), len(self.samples))), 1)
        return _over(float(np.median(self.samples)), drawn, distances, self.distance)

    def _drawn_distances(self, rng: np.random.Generator, draws: int = 1000) -> Float[ndarray, " draws"]:
        return np.median(rng.choice(self.examples, (draws, len(self.examples))), 1)


def _over(value: float, drawn: ndarray, distances: ndarray, distance: float) -> Interval:
    if not distance > 0:
        return float("nan"), float("nan"), float("nan")
    low, high = percentile_interval(drawn / np.maximum(distances, np.finfo(float).tiny))
    return value / distance, float(low), float(high)

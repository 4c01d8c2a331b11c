r"""One pass over noise levels and point sets, which answers the first three questions.

At every level, for noised training points, noised held-out points (the i-th of both with the same noise) and points
on the model's own trajectories, the model's output D is compared with that of every exact model D_m. These sums are
kept per point,

.. math::
    |D - \mu|^2, \quad |s|^2, \quad |D - D_m|^2, \quad \langle D - \mu, D_m - \mu\rangle, \quad |D_m - \mu|^2,
    \quad |D - x_0|^2, \quad |D_m - x_0|^2, \quad |\mu - x_0|^2,

the parts of :math:`|D - \mu|^2` and :math:`|D - D_m|^2` in every octave of principal components
(`theory.network_agreement`), and for the loss, with the exact optimum D* of the set at hand (the empirical denoiser of
the training or held-out data),
:math:`\mathrm{tr}\,\mathrm{Cov}(x_0|x_t)` and :math:`|D - D^*|^2`.

The levels that *matter for sampling* are those where denoising is not trivial. Its exact optimum tends to x_t / alpha
at low noise and to the mean at high noise. Below the level where the Gaussian's loss is 0.25% of the data's variance
(noise of a twentieth of their standard deviation s) little is left to decide. Above the level where it is 95%, next to
nothing is decided yet, and the flow contracts an error by the factor sigma / s on its way to the data.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.memory import ranges
from diffuscope.shared_work import shared
from diffuscope.store import Arrays
from diffuscope.theory import compared

from .references import References, component_bands
from .rows_of import at_once
from .subject import Subject, evaluate, noised

SETS = ("training", "heldout", "trajectory")
ARRAYS = 16  # of the size of the points, that are held while they are compared
ROWS = 128  # points that are compared at once, for any number of processes
TRIVIAL = 0.0025, 0.95  # of the data's variance: the Gaussian's loss at the ends of the levels that matter
Points = Float[Tensor, "_ *event"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelMeasures:
    """The sums of `measure_level` at every noise level, from high to low."""

    ratios: Float[ndarray, " levels"]
    scale: float  # standard deviation of a coordinate of the data
    dimension: int
    models: tuple[str, ...]
    sums: list[Arrays]
    components: int | None = None  # principal components of the Gaussian, if it is truncated

    @cached_property
    def matter(self) -> Bool[ndarray, " levels"]:
        """Where the Gaussian's loss on held-out data is between the two shares TRIVIAL of their variance."""
        loss = self.rows("heldout.exact_error")[:, :, self.models.index("Gaussian")].mean(0)
        share = loss / self.rows("heldout.mean_error").mean(0)
        return (share >= TRIVIAL[0]) & (share <= TRIVIAL[1])

    def rows(self, key: str) -> Shaped[ndarray, "points levels *rest"]:
        """The quantity `key` (`set.quantity`) of every point at every level."""
        return np.stack([level[key] for level in self.sums], 1)


def measure_level(
    subject: Subject,
    references: References,
    t: float,
    train: Points,
    heldout: Points,
    noise: Points,
    states: Points,
) -> Arrays:
    """Every sum at time `t`; keys are `set.quantity`, arrays are (n,), (n, models) or (n, models, bands).

    Points are compared some at a time, at most ROWS, or AT_ONCE bytes of them with all answers; several processes share
    them.
    """
    size = min(ROWS, at_once(ARRAYS * train[0].numel()))
    pieces = [
        partial(_of_points, subject, references, t, name, *(x[start:stop] for x in given))
        for name, given in (("training", (train, noise)), ("heldout", (heldout, noise)), ("trajectory", (states,)))
        for start, stop in ranges(len(given[0]), size)
    ]
    parts = shared(pieces)
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: np.concatenate([part[key] for part in parts if key in part]) for key in keys}


def _of_points(
    subject: Subject, references: References, t: float, name: str, given: Points, noise: Points | None = None
) -> Arrays:
    """Of states, or of clean examples with their noise."""
    schedule = subject.denoiser.schedule
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x_t = given if noise is None else noised(schedule, given, noise, t)
    denoised = evaluate(subject.denoiser, x_t, t)
    exact = [model.denoise(x_t, alpha, sigma) for model in references.models.values()]
    sums = _comparison(x_t, denoised, exact, references, alpha, sigma)
    if noise is not None:
        optimum = references.train if name == "training" else references.heldout
        best = exact[-1] if name == "training" else optimum.denoise(x_t, alpha, sigma)
        sums |= {
            "error": _square(denoised - given),
            "mean_error": _square(references.mean - given),
            "control_error": _square(references.control.denoise(x_t, alpha, sigma) - given),
            "exact_error": torch.stack([_square(answer - given) for answer in exact], 1),
            # E[|D - x0|^2 | x_t] is the sum of these two, exactly, at every x_t
            "irreducible": optimum.posterior_covariance(x_t, alpha, sigma).trace().double(),
            "distance": _square(denoised - best),
        }
    return {f"{name}.{key}": value.numpy() for key, value in sums.items()}


def _comparison(
    x_t: Points, denoised: Points, exact: list[Points], references: References, alpha: float, sigma: float
) -> dict[str, Tensor]:
    basis = references.gaussian.eigenvectors.float()
    known = compared(
        x_t, denoised, exact, references.mean, basis, alpha, sigma, bands=component_bands(basis.shape[1])
    )  # fmt: skip
    return {
        "norm": known.centered,
        "score_norm": known.score,
        "gap": known.gap,
        "score_gap": known.score_gap,
        "dot": known.dot,
        "exact_norm": known.candidate,
        "norm_bands": known.bands,
        "gap_bands": known.gap_bands,
    }


def _square(x: Tensor) -> Float[Tensor, " n"]:
    return x.flatten(1).double().square().sum(1)

r"""What random score fields generate, and what they answer at fixed points: the two things that a closure predicts.

A field is one training run, or one draw of a Gaussian model of training runs. Over fields, the denoiser at a point is a
random number; the samples of all fields together are the distribution that training runs generate on average.

`matched_gaussian` draws linear denoisers with the mean and the covariance of an ensemble. With Z standard normal,

.. math::  W = \bar W + \frac{1}{\sqrt{R - 1}} \sum_{r=1}^R Z_r (W_r - \bar W)

has exactly the sample mean and the sample covariance of W_1 .. W_R, whatever the number of weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .effective import quenched_sample
from .linear_ensemble import LinearEnsemble
from .noise import Points, ScoreFields, Time


@dataclass(frozen=True, eq=False)
class FieldRuns:
    """`denoised` at the probes, each coordinate a column, and `samples` of every field.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import run_fields
    >>> probes, m = [(torch.tensor([[7.0]]), 2.0)], torch.tensor([2.0, 5.0])[:, None, None]  # every field ends at its m
    >>> runs = run_fields(lambda x, t: (m - x) / t**2, 2, VE(), torch.tensor([4.0, 2.0, 1.0]), trajectories=3,
    ...                   probes=probes, generator=torch.Generator().manual_seed(0))
    >>> len(runs), runs.denoised.tolist()
    (2, [[2.0], [5.0]])
    """

    denoised: Float[Tensor, "fields probes"]
    samples: Float[Tensor, "runs batch d"]

    def __post_init__(self) -> None:
        for name, values in (("denoised", self.denoised), ("samples", self.samples)):
            if values.numel() == 0 or not bool(values.isfinite().all()):
                raise InputError(f"{name}: expected finite numbers, at least one, got shape {tuple(values.shape)}")
        if len(self.denoised) != len(self.samples):
            raise InputError(f"samples: expected those of {len(self.denoised)} fields, got {len(self.samples)}")

    def __len__(self) -> int:
        return len(self.samples)


def run_fields(
    fields: ScoreFields,
    number: int,
    schedule: Schedule,
    times: Float[Tensor, " times"],
    *,
    trajectories: int,
    probes: Sequence[tuple[Points, Time]],
    generator: torch.Generator,
) -> FieldRuns:
    """Samples of the probability-flow ODE of `number` fields (Euler), and their denoisers at `probes`, pairs (x, t).

    Every field has `trajectories` of its own from N(0, sigma^2) at times[0]. The denoiser is x_0 =
    (x + sigma^2 s) / alpha. Raises InputError for no probes, no trajectories, and as `quenched_sample` does.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import run_fields
    >>> probes = [(torch.tensor([[7.0]]), 2.0)]
    >>> runs = run_fields(lambda x, t: (2 - x) / t**2, 1, VE(), torch.tensor([4.0, 2.0, 1.0]), trajectories=4000,
    ...                   probes=probes, generator=torch.Generator().manual_seed(0))
    >>> x = runs.samples  # 2 + (4 z - 2) / 4
    >>> bool((x.mean() - 1.5).abs() < 4 * 0.0158), bool((x.var() - 1).abs() < 4 * 0.0224)  # standard errors
    (True, True)
    """
    require_count("number", number, 1)
    require_count("trajectories", trajectories, 1)
    require_count("probes", len(probes), 1)
    answers = []
    for x, t in probes:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        score = fields(x.expand(number, *x.shape), t)
        answers.append(((x + sigma**2 * score) / alpha).flatten(1))
    d = probes[0][0].shape[1]
    starts = torch.randn(number, trajectories, d, dtype=torch.float64, generator=generator)
    return FieldRuns(torch.cat(answers, 1), quenched_sample(fields, schedule, schedule.sigma(times[0]) * starts, times))


def matched_gaussian(ensemble: LinearEnsemble, fields: int, *, generator: torch.Generator) -> LinearEnsemble:
    """Gaussian `fields` with the sample mean and covariance of an ensemble; InputError for one of fewer than two.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Affine, LinearEnsemble, matched_gaussian
    >>> two = LinearEnsemble(Affine(), VE(), torch.tensor([[[1.0, 0.0]], [[5.0, 0.0]]]).double())  # mean 3, variance 8
    >>> w = matched_gaussian(two, 4000, generator=torch.Generator().manual_seed(0)).weights[:, 0, 0]
    >>> bool((w.mean() - 3).abs() < 4 * 0.045), bool((w.var() - 8).abs() < 4 * 0.18)  # standard errors
    (True, True)
    """
    R = len(ensemble)
    require_count("models of the ensemble", R, 2)
    require_count("fields", fields, 1)
    mean = ensemble.weights.mean(0)
    z = torch.randn(fields, R, dtype=torch.float64, generator=generator) / math.sqrt(R - 1)
    return replace(ensemble, weights=mean + torch.einsum("fr,rdk->fdk", z, ensemble.weights - mean))

r"""Why do samples of learned scores differ from those of the true score: discretization, bias or variance?

Let q be a statistic of samples, such as the mass in a gap. It is measured for the true score s, for every model of an
ensemble and for the average score :math:`\bar s`, on the steps in use (K) and in the limit of fine steps (no index),
all from the same starts. The deviation from the samples of the true score splits into

.. math::
    E\,q_K[\hat s] - q[s] = \underbrace{q_K[s] - q[s]}_{\text{discretization}} +
    \underbrace{q[\bar s] - q[s]}_{\text{bias}} + \underbrace{E\,q[\hat s] - q[\bar s]}_{\text{variance}} +
    \underbrace{(E\,q_K[\hat s] - E\,q[\hat s]) - (q_K[s] - q[s])}_{\text{interaction}} .

- *discretization* needs no model: it is what coarse steps do to the true score, and 0 for fine steps;
- *bias* is what the average model does: of its ridge and its features; 0 if the average score is the true one;
- *variance* is what is left of generalization through variance: 0 if all models are the same;
- *interaction* is how much more (or less) the coarse steps do to the models than to the true score.

The steps in use are Euler's; fine ones are Heun's, and how much q still changes there is reported. Every term has the
standard error of its mean over models, each with starts of its own; bias and variance also that of the average of
finitely many models, by a jackknife over ten groups of models.

Source: Vastola 2025, https://arxiv.org/abs/2504.12532, which has no such decomposition.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.findings import Repeated
from diffuscope.schedules import Schedule

from .effective import quenched_sample
from .noise import ScoreFields

FieldPoints = Float[Tensor, "fields batch d"]
Statistic = Callable[[FieldPoints], Float[Tensor, " fields"]]
GROUPS, JACKKNIFE_STARTS = 10, 2000


@runtime_checkable
class AveragedFields(ScoreFields, Protocol):
    """Models as score fields that know their average.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Affine, AveragedFields, LinearEnsemble
    >>> isinstance(LinearEnsemble(Affine(), VE(), torch.ones(3, 1, 2)), AveragedFields)
    True
    """

    @property
    def schedule(self) -> Schedule: ...

    def mean(self) -> ScoreFields:
        """The average score, at any number of fields."""
        ...

    def leave_out(self, groups: int) -> ScoreFields:
        """The average without the g-th group of models, for every g."""
        ...


@dataclass(frozen=True)
class Decomposition:
    """The terms of the deviation `total`, which they add up to; `true` is the statistic under the true score.

    `remaining` is the deviation with fine steps: bias + variance, but more certain than either, as it does not need
    the average model.
    `unresolved` is the change of the ensemble's statistic if every other fine time is left out: three times the
    remaining error of the limit, for a method of order 2.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Affine, LinearEnsemble, decompose
    >>> m = torch.tensor([2.0, 4.0] * 5).double()  # ten models D = m, of data at the point 2
    >>> models = LinearEnsemble(Affine(), VE(), torch.stack([m, 0 * m], 1)[:, None])
    >>> x, fine = torch.full((10, 1, 1), 4.0).double(), torch.tensor([4.0, 3.0, 2.0, 1.0])
    >>> found = decompose(models, Gaussian.isotropic(torch.tensor([2.0]), 0.0), lambda x: x.square().mean((1, 2)), x,
    ...                   times=torch.tensor([4.0, 1.0]), fine=fine)
    >>> {name: round(term.mean, 6) + 0.0 for name, term in found.terms.items()}  # of (3/4 m + 1)^2
    {'discretization': 0.0, 'bias': 4.3125, 'variance': 0.5625, 'interaction': 0.0}
    """

    true: Repeated
    total: Repeated
    discretization: Repeated
    bias: Repeated
    variance: Repeated
    interaction: Repeated
    remaining: Repeated
    unresolved: float

    @property
    def terms(self) -> dict[str, Repeated]:
        """The four terms by name."""
        return {name: getattr(self, name) for name in ("discretization", "bias", "variance", "interaction")}


def true_score(data: Distribution, schedule: Schedule) -> ScoreFields:
    """The true score as a field, the same for any number of fields."""

    def score(x: FieldPoints, t: Float[Tensor, ""] | float | int) -> FieldPoints:
        return data.score(x.flatten(0, 1), schedule.alpha(t), schedule.sigma(t)).reshape(x.shape)

    return score


def decompose(
    ensemble: AveragedFields,
    data: Distribution,
    statistic: Statistic,
    x: FieldPoints,
    *,
    times: Float[Tensor, " times"],
    fine: Float[Tensor, " fine"],
) -> Decomposition:
    """Discretization on `times`, bias and variance of a statistic, from starts `x` of every model at times[0].

    `fine` are the times of the limit, of the same two ends. The models must come in a multiple of ten. Memory: a few
    times that of `x`. NFE: per start about 2 + 5 per fine step. Raises InputError for other ends, fewer than ten
    models, a statistic that does not answer one finite number per field, and as `quenched_sample` does.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Affine, LinearEnsemble, decompose
    >>> m = torch.tensor([2.0, 4.0] * 5).double()  # ten models D = m, of data at the point 2
    >>> models = LinearEnsemble(Affine(), VE(), torch.stack([m, 0 * m], 1)[:, None])
    >>> x, fine = torch.full((10, 1, 1), 4.0).double(), torch.tensor([4.0, 3.0, 2.0, 1.0])
    >>> found = decompose(models, Gaussian.isotropic(torch.tensor([2.0]), 0.0), lambda x: x.mean((1, 2)), x,
    ...                   times=torch.tensor([4.0, 1.0]), fine=fine)
    >>> round(found.bias.mean, 6), round(found.variance.mean, 6) + 0.0  # of 3/4 m + 1: linear in m, hence no variance
    (0.75, 0.0)
    """
    if len(x) < GROUPS or len(x) % GROUPS != 0:
        raise InputError(f"x: expected starts for a multiple of {GROUPS} models, got {len(x)}")
    if len(fine) < 3 or times[0] != fine[0] or times[-1] != fine[-1]:
        raise InputError("fine: expected at least three times, with the first and the last of `times`")
    schedule = ensemble.schedule
    coarser = torch.cat([fine[:-1:2], fine[-1:]])

    def coarse(fields: ScoreFields) -> Float[Tensor, " fields"]:
        return _measured(statistic, quenched_sample(fields, schedule, x, times))

    def limit(
        fields: ScoreFields, starts: FieldPoints = x, on: Float[Tensor, " fine"] = fine
    ) -> Float[Tensor, " fields"]:
        return _measured(statistic, quenched_sample(fields, schedule, starts, on, method="heun"))

    exact = true_score(data, schedule)
    true, average, learned = limit(exact), limit(ensemble.mean()), limit(ensemble)
    true_coarse, learned_coarse = coarse(exact), coarse(ensemble)
    starts = x.flatten(0, 1)[:JACKKNIFE_STARTS].expand(GROUPS, -1, -1)
    left_out = limit(ensemble.leave_out(GROUPS), starts)
    of_average = math.sqrt((GROUPS - 1) / GROUPS * float((left_out - left_out.mean()).square().sum()))
    return Decomposition(
        true=Repeated.of(true),
        total=Repeated.of(learned_coarse - true),
        discretization=Repeated.of(true_coarse - true),
        bias=_with_error(average - true, of_average),
        variance=_with_error(learned - average, of_average),
        interaction=Repeated.of(learned_coarse - learned - (true_coarse - true)),
        remaining=Repeated.of(learned - true),
        unresolved=abs(float((limit(ensemble, on=coarser) - learned).mean())),
    )


def _measured(statistic: Statistic, samples: FieldPoints) -> Float[Tensor, " fields"]:
    values = statistic(samples)
    if values.shape != samples.shape[:1] or not bool(values.isfinite().all()):
        shape = tuple(values.shape)
        raise InputError(f"statistic: expected one finite number for each of {len(samples)} fields, got shape {shape}")
    return values.double()


def _with_error(values: Float[Tensor, " fields"], further: float) -> Repeated:
    """The mean over models with an independent `further` error."""
    mean = Repeated.of(values)
    return Repeated(mean.mean, math.hypot(mean.error, further), mean.repetitions)

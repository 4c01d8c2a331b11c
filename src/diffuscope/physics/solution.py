r"""The fields that a PDE and a few readings leave: samples, moments, and whether they may be believed.

The posterior of a finite set of fields x_j is exact for any observation, :math:`w_j \propto p(y \mid x_j)`, as long as
enough of them agree with the readings: the effective number :math:`1 / \sum_j w_j^2` must be at least ENOUGH, or no
interval is given. That of a Gaussian is exact in closed form. That of a denoiser comes from its own samples, guided by
the posterior covariance, and nothing here certifies it.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian
from diffuscope.memory import require_memory
from diffuscope.samplers import generate
from diffuscope.streams import require_seed, torch_stream

from .conditioning import CovarianceGuided
from .exact_posterior import log_evidence, posterior, posterior_weights
from .prior_fields import Prior
from .problem import Problem
from .sensors import Sensors, require_readings
from .solution_moments import (
    SURPRISING,
    Calibration,
    Moments,
    finite_set_calibration,
    gaussian_calibration,
    gaussian_means,
    gaussian_moments,
    standard_deviation,
    weighted_moments,
)

ENOUGH = 20  # effective fields: the ends of a 90% interval are then their lowest and highest one
TRUTHS = 400  # of the calibration
NEGLIGIBLE = 1e-14  # of the largest weight
CHECKED = 20  # samples whose residual is computed


@dataclass(frozen=True, eq=False, kw_only=True)
class Solution:
    """Samples (n, channels, *grid) of the posterior, what is known of it, and how it was checked.

    `moments` is None where too few fields agree with the readings; `calibration` and `percentile` (of the evidence of
    the readings among those of simulated ones) where nothing could be simulated. `misfit` is the root mean square of
    (y - h(x)) / r of every sample; `residual` is |F| / (|J| |u|) in the largest norm, NaN where F is not defined.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import PROBLEMS, Prior, Sensors, solve_inverse
    >>> at, of, value, r = torch.tensor([[0.25]]).double(), torch.tensor([1]), torch.tensor([7.0]), torch.tensor([1.0])
    >>> prior = Prior(name="white", words="white noise", distribution=Gaussian.isotropic(torch.zeros(2, 5), 3.0))
    >>> readings = Sensors(points=at, channels=of, values=value, noise=r)
    >>> found = solve_inverse(PROBLEMS["poisson-1d"](nodes=5), readings, prior)
    >>> found.has_intervals, found.percentile  # nothing was simulated to compare the evidence with
    (True, None)
    >>> round(float(found.moments.high[1, 1] - found.moments.low[1, 1]), 6)  # 2 x 1.644854 sqrt(3 x 1 / (3 + 1))
    2.84897
    """

    problem: Problem
    sensors: Sensors
    prior: Prior
    samples: Float[Tensor, "n channels *grid"]
    moments: Moments | None
    prior_sd: Float[Tensor, "channels *grid"] | None
    calibration: Calibration | None
    log_evidence: float | None
    effective: float | None
    misfit: Float[Tensor, " n"]
    residual: Float[Tensor, " checked"]
    truth: Float[Tensor, "channels *grid"] | None
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def percentile(self) -> float | None:
        """The share of simulated readings that are at most as probable as these, 0 to 1."""
        if self.calibration is None or self.log_evidence is None:
            return None
        others = self.calibration.log_evidence
        return (1 + int((others <= self.log_evidence).sum())) / (1 + len(others))

    @property
    def contradicted(self) -> bool:
        """Whether the readings are less probable under the prior than 99% of simulated ones, or than all of few."""
        p = self.percentile
        if p is None or self.calibration is None:
            return False
        return p < max(SURPRISING, 2 / (1 + len(self.calibration.log_evidence)))

    @property
    def too_probable(self) -> bool:
        """Whether they are more probable than 99% of them: they scatter less than the noise that is stated."""
        p = self.percentile
        return p is not None and p > 1 - SURPRISING

    @property
    def has_intervals(self) -> bool:
        """Whether intervals can be given."""
        return self.moments is not None


def solve_inverse(
    problem: Problem,
    sensors: Sensors,
    prior: Prior,
    *,
    samples: int = 100,
    truth: Float[Tensor, "channels *grid"] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Solution:
    """The posterior of the fields of `problem` under `prior`, given what the sensors read.

    Raises InputError for readings that no field can have, exact readings under a finite set or a denoiser that
    cannot take them, and a prior whose fields have another shape than the problem's.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import PROBLEMS, Prior, Sensors, solve_inverse
    >>> at, of, value, r = torch.tensor([[0.25]]).double(), torch.tensor([1]), torch.tensor([7.0]), torch.tensor([1.0])
    >>> prior = Prior(name="white", words="white noise", distribution=Gaussian.isotropic(torch.zeros(2, 5), 3.0))
    >>> readings = Sensors(points=at, channels=of, values=value, noise=r)
    >>> found = solve_inverse(PROBLEMS["poisson-1d"](nodes=5), readings, prior)
    >>> round(float(found.moments.mean[1, 1]), 6), round(float(found.moments.sd[1, 1]) ** 2, 6)  # 3 x 7 / 4, 3 x 1 / 4
    (5.25, 0.75)
    """
    require_seed(seed)
    require_count("samples", samples, 2)
    sensors = require_readings(sensors, problem, "data")
    shape = problem.event_shape
    require_memory(24.0 * samples * math.prod(shape), "samples", f"{samples:,} samples of shape {shape}")
    _require_shape(problem, prior)
    if prior.fields is not None:
        found = _of_finite_set(problem, sensors, prior, samples, seed)
    elif isinstance(prior.distribution, Gaussian):
        found = _of_gaussian(problem, sensors, prior, prior.distribution, samples, seed)
    elif prior.distribution is not None:
        found = _of_distribution(problem, sensors, prior, prior.distribution, samples, seed)
    elif prior.denoiser is not None:
        found = _of_denoiser(problem, sensors, prior, prior.denoiser, samples, seed, progress)
    else:
        raise InputError("prior: expected fields, a distribution or a denoiser, got none of them")
    return replace(found, truth=truth)


def _require_shape(problem: Problem, prior: Prior) -> None:
    shape = prior.event_shape
    if shape is not None and shape != problem.event_shape:
        raise InputError(
            f"prior: expected fields of shape {problem.event_shape} ({', '.join(problem.channels)} on the grid), got "
            f"{shape} from {prior.name}"
        )


def _of_finite_set(problem: Problem, sensors: Sensors, prior: Prior, n: int, seed: int) -> Solution:
    fields = prior.fields
    assert fields is not None
    if bool((sensors.noise == 0).any()):
        raise InputError(
            f"noise: expected > 0 with the prior {prior.name}, a finite set of fields of which none agrees exactly; "
            "got 0; expected the prior gaussian for exact values"
        )
    observation, y = sensors.noisy(problem)
    every = Empirical(fields)
    stream = torch_stream(seed, "solve", "samples")
    weights = posterior_weights(every, observation, y)
    weights = torch.where(weights > NEGLIGIBLE * weights.max(), weights, 0.0)
    weights = weights / weights.sum()
    effective = float(1 / weights.square().sum())
    calibration = None
    if len(fields) > 2:
        truths = min(TRUTHS, len(fields) // 2)
        generator = torch_stream(seed, "solve", "calibration")
        calibration = finite_set_calibration(fields, observation.matrix, truths, enough=ENOUGH, generator=generator)
    constant = 0.5 * len(y) * math.log(2 * math.pi)  # left out of the calibration's too
    return _finished(
        problem, sensors, prior, Empirical(fields, weights).sample(n, generator=stream), seed,
        moments=weighted_moments(fields, weights) if effective >= ENOUGH else None,
        prior_sd=fields.std(0), calibration=calibration, effective=effective,
        log_evidence=log_evidence(every, observation, y) + constant,
    )  # fmt: skip


def _of_gaussian(problem: Problem, sensors: Sensors, prior: Prior, gaussian: Gaussian, n: int, seed: int) -> Solution:
    left = _conditioned(gaussian, problem, sensors, prior)
    assert isinstance(left, Gaussian)
    calibration = log_evidence = None
    if prior.truths is not None:
        matrix, noise = sensors.matrix(problem), sensors.noise
        generator = torch_stream(seed, "solve", "calibration")
        sd = standard_deviation(left)
        calibration = gaussian_calibration(gaussian, sd, prior.truths, matrix, noise, generator=generator)
        log_evidence = float(gaussian_means(gaussian, matrix, noise, sensors.values[None])[1])
    return _finished(
        problem, sensors, prior, left.sample(n, generator=torch_stream(seed, "solve", "samples")), seed,
        moments=gaussian_moments(left), prior_sd=standard_deviation(gaussian), calibration=calibration,
        log_evidence=log_evidence,
    )  # fmt: skip


def _of_distribution(
    problem: Problem, sensors: Sensors, prior: Prior, distribution: Distribution, n: int, seed: int
) -> Solution:
    left = _conditioned(distribution, problem, sensors, prior)
    x = left.sample(max(n, 1000), generator=torch_stream(seed, "solve", "samples")).double()
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    return _finished(problem, sensors, prior, x[:n], seed, moments=weighted_moments(x, weights))


def _of_denoiser(
    problem: Problem, sensors: Sensors, prior: Prior, denoiser: Denoiser, n: int, seed: int, progress: bool
) -> Solution:
    if bool((sensors.noise == 0).any()):
        raise InputError(f"noise: expected > 0 with the denoiser {prior.name}, got 0")
    observation, y = sensors.noisy(problem)
    try:
        _require_denoised(problem, denoiser)
        guided = CovarianceGuided(denoiser, observation, y)
        x = generate(guided, n, seed=seed, event_shape=problem.event_shape, progress=progress).double()
    except InputError as error:
        raise InputError(f"prior: {prior.name}: {str(error).partition(': ')[2] or error}") from None
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    return _finished(problem, sensors, prior, x, seed, moments=weighted_moments(x, weights))


def _require_denoised(problem: Problem, denoiser: Denoiser) -> None:
    """One call of a denoiser at the highest noise level, before products of another shape fail inside."""
    t = denoiser.schedule.t_max
    x_t = float(denoiser.schedule.sigma(t)) * torch.ones(2, *problem.event_shape)
    with torch.no_grad():
        denoised = denoiser(x_t, t)
    if denoised.shape != x_t.shape:
        raise InputError(f"denoised: expected the shape {tuple(x_t.shape)} of x_t, got {tuple(denoised.shape)}")
    if not bool(denoised.isfinite().all()):
        raise InputError(f"denoised: expected finite values, got NaN or infinity at time {t:g}")


def _conditioned(distribution: Distribution, problem: Problem, sensors: Sensors, prior: Prior) -> Distribution:
    """The noisy readings first, then the exact ones."""
    for observation, y in (sensors.noisy(problem), sensors.exact(problem)):
        if len(y):
            try:
                distribution = posterior(distribution, observation, y)
            except InputError as error:
                if observation.noise > 0:
                    raise
                reason = str(error).partition(": ")[2] or str(error)
                raise InputError(f"data: {sensors.origin}: {reason}; the prior is {prior.words}") from None
    return distribution


def _finished(
    problem: Problem,
    sensors: Sensors,
    prior: Prior,
    samples: Tensor,
    seed: int,
    *,
    moments: Moments | None,
    prior_sd: Tensor | None = None,
    calibration: Calibration | None = None,
    log_evidence: float | None = None,
    effective: float | None = None,
) -> Solution:
    samples = samples.double()
    return Solution(
        problem=problem, sensors=sensors, prior=prior, samples=samples, moments=moments, prior_sd=prior_sd,
        calibration=calibration, log_evidence=log_evidence, effective=effective,
        misfit=_misfit(problem, sensors, samples),
        residual=_residuals(problem, samples[:CHECKED]), truth=None, seed=seed,
    )  # fmt: skip


def _misfit(problem: Problem, sensors: Sensors, samples: Tensor) -> Float[Tensor, " n"]:
    observation, y = sensors.noisy(problem)
    if not len(y):
        return samples.new_zeros(len(samples))
    return (observation(samples) - y).square().mean(1).sqrt()


def _residuals(problem: Problem, samples: Tensor) -> Float[Tensor, " checked"]:
    """|F(u; a)| / (|J| |u|) of every sample, in the largest norm; NaN for a coefficient that is not positive."""
    found = []
    for x in samples:
        if problem.given == "coefficient" and not bool((x[0] > 0).all()):
            found.append(math.nan)
            continue
        u, given = x[-1], x[0] if problem.joint else x[-1][0]
        F = problem.residual(x[None])[0]
        J = abs(problem.equation.jacobian(u, given)).sum(1).max()
        found.append(float(F.abs().max()) / max(float(J) * float(u.abs().max()), 1e-300))
    return torch.tensor(found, dtype=torch.float64)

"""Likelihoods compared with closed forms: the log-density of the noised distribution, in nats."""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Finding
from diffuscope.schedules import VP, Schedule

from .problems import OracleProblem, mixture, unequal_gaussian

LogDensity = Callable[[Denoiser, Batch, float, torch.Generator], Float[Tensor, " batch"]]

RATIO = 0.3  # noise-to-signal at which densities are compared
REPEATS = 8
EXACT = 1e-2  # nats per sample: the largest accepted error
LINE = 6.0  # half of the interval over which a density in one dimension is integrated


def likelihood_problems() -> tuple[OracleProblem, ...]:
    """Gaussians in 1, 2 and 16 dimensions, and mixtures in 1, 2 and 64."""
    spread = torch.linspace(2.0, 0.2, 16, dtype=torch.float64)
    wide = Gaussian(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64), spread)
    narrow = Gaussian.isotropic(torch.tensor([0.7], dtype=torch.float64), 0.25)
    return (
        OracleProblem("gaussian-1", "a Gaussian in one dimension", narrow),
        unequal_gaussian(),
        OracleProblem("gaussian-16", "a Gaussian in 16 dimensions", wide),
        pair_on_the_line(),
        mixture(2),
        mixture(64),
    )


def pair_on_the_line() -> OracleProblem:
    """Two components in one dimension, where the density can be integrated."""
    distribution = GaussianMixture.isotropic(
        torch.tensor([0.6, 0.4], dtype=torch.float64),
        torch.tensor([[-1.0], [1.2]], dtype=torch.float64),
        torch.tensor([0.1, 0.2], dtype=torch.float64),
    )
    return OracleProblem("mixture-1", "a Gaussian mixture in one dimension", distribution)


def certify_likelihood(
    log_density: LogDensity, schedule: Schedule | None = None, *, tolerance: float = EXACT
) -> tuple[Finding, ...]:
    """Compare `log_density(denoiser, x_t, t, generator)` with the exact log p_t(x_t), in nats.

    It is called 8 times per problem with different seeds: the mean must be within `tolerance` nats plus 4 standard
    errors of the exact value for every sample. In one dimension the density must also integrate to 1.
    """
    schedule = VP() if schedule is None else schedule
    compared = [_compared(log_density, problem, schedule, tolerance) for problem in likelihood_problems()]
    return (*compared, _normalized(log_density, pair_on_the_line(), schedule, tolerance))


def _compared(log_density: LogDensity, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:
    t = float(schedule.time_of_noise_to_signal(RATIO))
    draw = torch.Generator().manual_seed(5)
    clean = problem.distribution.sample(6, generator=draw).double()
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=draw)
    x_t = schedule.alpha(t) * clean + schedule.sigma(t) * noise
    exact = problem.distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
    runs = torch.stack(
        [_values(log_density, problem.denoiser(schedule), x_t, t, seed=k) for k in range(REPEATS)]
    ).double()
    compared = partial(Finding, name=f"likelihood.{problem.name}", title=f"Log-density of {problem.title}", unit="nats")
    if runs.shape != (REPEATS, len(x_t)):
        verdict = f"Expected one value per sample, got shape {tuple(runs.shape[1:])} for {len(x_t)} samples."
        return compared(value=math.nan, verdict=verdict, tone="alarm")
    errors, standard_errors = runs.mean(0) - exact, runs.std(0) / REPEATS**0.5
    good = bool((errors.abs() <= tolerance + 4 * standard_errors).all())
    worst = int(errors.abs().argmax())
    value, standard_error = float(errors[worst]), float(standard_errors[worst])
    chance = f" (standard error {standard_error:.2g})" if standard_error > 0 else ""
    per_dimension = value / x_t[0].numel()
    return compared(
        value=value,
        verdict=f"At worst {value:+.2g} nats from the exact value{chance}, {per_dimension:+.2g} per dimension.",
        tone="good" if good else "alarm",
        null=f"Within {tolerance} nats, plus 4 standard errors if the estimate is random.",
    )


def _values(log_density: LogDensity, denoiser: Denoiser, x_t: Batch, t: float, *, seed: int) -> Tensor:
    """`log_density` at a batch; InputError unless it returns a tensor."""
    values: object = log_density(denoiser, x_t, t, torch.Generator().manual_seed(seed))
    if not isinstance(values, Tensor):
        raise InputError(f"target: expected a tensor with one log density per sample, got {type(values).__name__}")
    return values


def _normalized(log_density: LogDensity, problem: OracleProblem, schedule: Schedule, tolerance: float) -> Finding:
    t = float(schedule.time_of_noise_to_signal(RATIO))
    grid = torch.linspace(-LINE, LINE, 241, dtype=torch.float64)[:, None]
    values = _values(log_density, problem.denoiser(schedule), grid, t, seed=0).double()
    mass = float(torch.trapezoid(values.exp(), grid[:, 0])) if values.shape == (len(grid),) else math.nan
    good = abs(mass - 1) <= max(tolerance, 0.02)
    return Finding(
        name="likelihood.mass",
        title="The density integrates to one",
        value=mass,
        unit="probability",
        verdict=f"In one dimension it integrates to {mass:.4f}.",
        tone="good" if good else "alarm",
        null="1, by the trapezoidal rule.",
    )

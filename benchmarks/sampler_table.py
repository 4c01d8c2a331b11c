r"""Every sampler at 10, 20 and 40 calls of the network, on problems that are solved exactly (under a minute).

    python benchmarks/sampler_table.py

prints the tables of the page "How to choose a sampler". Every call of the denoiser counts, the last one too, and every
run goes from pure noise to sigma = 0.

**Deterministic samplers** start from the same noise as the exact probability-flow map, on a mixture of ten Gaussians
with full, unequal covariances in 16 dimensions. The error is the mean distance of the endpoints, in units of the
data's standard deviation,

.. math::  e = \frac{\frac1n\sum_i |x_i - x_i^*|}{\sqrt{\operatorname{tr} C}} .

**Distributions**, for stochastic samplers too, on a Gaussian whose standard deviations fall from 1 to 1/64 as those of
natural signals do. There every sampler is an affine map of its start and its draws, which is read off one run, so that
mean m and covariance V of its samples are known without Monte Carlo. The error is the 2-Wasserstein (Frechet) distance
to the data N(0, C), in the same unit,

.. math::  e^2 = \frac{|m|^2 + \operatorname{tr}\left(V + C - 2(C^{1/2} V C^{1/2})^{1/2}\right)}{\operatorname{tr} C} .
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from diffuscope.certify import affine_map
from diffuscope.certify.target import sampler_target
from diffuscope.denoisers import CountingDenoiser, ExactDenoiser
from diffuscope.exact import Distribution, Gaussian, GaussianMixture
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DataAdamsBashforth,
    DormandPrince,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    DPMSolverV3,
    EDMChurn,
    Euler,
    EulerMaruyama,
    Heun,
    Langevin,
    NoiseAdamsBashforth,
    Restart,
    ReverseBridge,
    RungeKutta4,
    Sampler,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP3M,
    StochasticDDIM,
    StochasticHeun,
    StrongOrder15,
    Teleported,
    UniPC,
    estimate_statistics,
    sample,
    trajectory,
    upper_variance,
)
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times, uniform_times

BUDGETS = (10, 20, 40)
STARTS = 128
LOW = 0.01  # sigma/alpha before the step to clean data, on grids that cannot end at 0
TELEPORT = 3.0  # in standard deviations of the widest direction
FAR, NEAR = 1e3, 1e-4  # noise-to-signal ratios above and below which the exact flow is the Gaussian's, and the denoiser

Times = Float[Tensor, " times"]
Grid = Callable[[Schedule, int], Times]


def karras(schedule: Schedule, steps: int) -> Times:
    """Karras levels (rho = 7) from t_max to sigma/alpha = LOW, then to clean data."""
    return to_clean(karras_times(schedule, *finite_ends(schedule), steps - 1))


def log_snr(schedule: Schedule, steps: int) -> Times:
    """Equal steps in log-SNR from t_max to sigma/alpha = LOW, then to clean data."""
    return to_clean(log_snr_times(schedule, *finite_ends(schedule), steps - 1))


def uniform(schedule: Schedule, steps: int) -> Times:
    """Equal steps in t from t_max to 0."""
    return uniform_times(schedule.t_max, 0.0, steps)


def finite_ends(schedule: Schedule) -> tuple[float, float]:
    """t_max, or the time of sigma/alpha = 80 where t_max has no signal, and the time of LOW."""
    top = min(float(schedule.noise_to_signal(schedule.t_max)), 1e3)
    start = schedule.t_max if top < 1e3 else float(schedule.time_of_noise_to_signal(80.0))
    return start, float(schedule.time_of_noise_to_signal(LOW))


def to_clean(times: Times) -> Times:
    """`times` and a last step to t = 0."""
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])


Setting = tuple[Schedule, Grid]
SETTINGS: dict[str, Setting] = {
    "VE, Karras levels": (VE(), karras),
    "VP, equal steps": (VP(), uniform),
    "flow, equal steps": (RectifiedFlow(), uniform),
}


@dataclass(frozen=True)
class Entry:
    """A line of a table: how a sampler is written, what it is for a number of steps, and its declared order."""

    name: str
    make: Callable[[int], Sampler]

    @property
    def sampler(self) -> Sampler:
        """The sampler, to read what it declares."""
        return self.make(10)


def entry(name: str, sampler: Sampler) -> Entry:
    """A sampler that does not depend on the number of steps."""
    return Entry(name, lambda _: sampler)


def deterministic(distribution: Distribution) -> list[Entry]:
    """Those whose endpoint is compared with the exact flow; the teleported ones with the data's Gaussian."""
    gaussian = distribution.as_gaussian()
    level = TELEPORT * float(gaussian.eigenvalues.max().sqrt())
    return [
        entry("Euler()", Euler()),
        entry("DDIM()", DDIM()),
        entry("Heun()", Heun()),
        entry("RungeKutta4()", RungeKutta4()),
        entry("DPMSolverPP2S()", DPMSolverPP2S()),
        entry("DPMSolverPP2M()", DPMSolverPP2M()),
        entry("DPMSolverPP3M()", DPMSolverPP3M()),
        *(entry(f"NoiseAdamsBashforth({k})", NoiseAdamsBashforth(k)) for k in (2, 3, 4)),
        *(entry(f"DataAdamsBashforth({k})", DataAdamsBashforth(k)) for k in (2, 3, 4)),
        *(entry(f"UniPC({k})", UniPC(k)) for k in (1, 2, 3)),
        entry("DPMSolverV3(...)", solver_v3(distribution)),
        entry("Teleported(DDIM(), ...)", Teleported(DDIM(), gaussian, level)),
        entry("Teleported(UniPC(3), ...)", Teleported(UniPC(3), gaussian, level)),
    ]


def solver_v3(distribution: Distribution) -> DPMSolverV3:
    """DPM-Solver-v3 of order 3, with the model's statistics at 60 levels from 256 examples."""
    draw = torch.Generator().manual_seed(2)
    lams = torch.linspace(-math.log(200.0), -math.log(LOW / 2), 60, dtype=torch.float64)
    x_0 = distribution.sample(256, generator=draw).double()
    return DPMSolverV3(estimate_statistics(ExactDenoiser(distribution, VP()), x_0, lams, generator=draw))


def all_affine() -> list[Entry]:
    """Those whose samples of Gaussian data have an exact distribution."""
    return [
        entry("DDIM()", DDIM()),
        entry("Heun()", Heun()),
        entry("DPMSolverPP2M()", DPMSolverPP2M()),
        entry("UniPC(3)", UniPC(3)),
        entry("StochasticDDIM(eta=1)", StochasticDDIM(eta=1.0)),
        entry("DDPM()", DDPM()),
        entry("DDPM(upper_variance)", DDPM(upper_variance)),
        entry("ReverseBridge(eta=0.5)", ReverseBridge(eta=0.5)),
        entry("ReverseBridge(eta=1)", ReverseBridge(eta=1.0)),
        entry("EulerMaruyama(eta=1)", EulerMaruyama(eta=1.0)),
        entry("StochasticHeun(eta=1)", StochasticHeun(eta=1.0)),
        entry("StrongOrder15(eta=1)", StrongOrder15(eta=1.0)),
        entry("SDEDPMSolverPP2M(eta=0.5)", SDEDPMSolverPP2M(eta=0.5)),
        entry("SDEDPMSolverPP2M(eta=1)", SDEDPMSolverPP2M(eta=1.0)),
        entry("SDEDPMSolverPP3M(eta=1)", SDEDPMSolverPP3M(eta=1.0)),
        Entry("EDMChurn(s_churn=10, ...)", lambda steps: EDMChurn(10.0, steps)),
        entry("Langevin(DDIM())", Langevin(DDIM())),
        entry("Restart(DDIM(), 0.2, 1)", Restart(DDIM(), 0.2, 1.0)),
    ]


def mixture(dimension: int = 16, components: int = 10, seed: int = 1004) -> GaussianMixture:
    """Components with unequal weights and full, unequal covariances."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dimension, generator=draw, dtype=torch.float64)
    widths = 0.1 + 0.3 * torch.rand(components, dimension, generator=draw, dtype=torch.float64)
    turns = torch.linalg.qr(torch.randn(components, dimension, dimension, generator=draw, dtype=torch.float64)).Q
    weights = 0.2 + torch.rand(components, generator=draw, dtype=torch.float64)
    covariances = turns @ torch.diag_embed(widths**2) @ turns.mT
    return GaussianMixture.from_covariances(weights / weights.sum(), means, covariances)


def decaying_gaussian() -> Gaussian:
    """Seven directions with standard deviations 1, 1/2, ..., 1/64."""
    deviations = 0.5 ** torch.arange(7, dtype=torch.float64)
    return Gaussian(torch.zeros(7, dtype=torch.float64), torch.eye(7, dtype=torch.float64), deviations**2)


def pure_noise(schedule: Schedule, start: float, rows: int, dimension: int) -> Float[Tensor, "rows dimension"]:
    """sigma(start) times standard normal numbers."""
    draw = torch.Generator().manual_seed(1)
    return schedule.sigma(start) * torch.randn(rows, dimension, generator=draw, dtype=torch.float64)


def exact_end(
    distribution: Distribution, schedule: Schedule, start: float, x: Float[Tensor, "rows dimension"]
) -> Float[Tensor, "rows dimension"]:
    """The clean end of the probability flow through x at time `start`."""
    high = float(schedule.noise_to_signal(start))
    if high > FAR:  # alpha = 0, or nearly: there the data are known by their mean and covariance only
        gaussian, high = distribution.as_gaussian(), FAR
        inner = float(schedule.time_of_noise_to_signal(FAR))
        x, start = gaussian.flow(x, schedule, start, inner), inner

    def slope(log_ratio: float, flat: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(flat).reshape(x.shape)
        return (y - distribution.denoise(y, 1.0, math.exp(log_ratio))).flatten().numpy()

    span, y = (math.log(high), math.log(NEAR)), (x / schedule.alpha(start)).flatten().numpy()
    ended = solve_ivp(slope, span, y, method="DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    return distribution.denoise(torch.from_numpy(ended).reshape(x.shape), 1.0, NEAR)


def steps_for(make: Entry, schedule: Schedule, grid: Grid, dimension: int, calls: int) -> int:
    """The most steps on `grid` that take at most `calls` calls of the denoiser, counted on one that costs nothing."""
    for steps in range(2 * calls, 1, -1):
        sampler = make.make(steps)
        counting = CountingDenoiser(Nothing(schedule))
        noise = torch.Generator() if sampler.stochastic else None
        x = torch.zeros(1, dimension, dtype=torch.float64)
        for _ in trajectory(sampler, counting, x, grid(schedule, steps), noise=noise):
            if counting.calls > calls:
                break
        else:
            return steps
    raise ValueError(f"calls: expected enough for two steps of {make.name}, got {calls}")


@dataclass(frozen=True)
class Nothing:
    """A denoiser that answers zero, to count calls with."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(x_t)


def endpoint_error(make: Entry, distribution: Distribution, setting: Setting, calls: int) -> float:
    """The mean distance of the endpoints from the exact ones, in standard deviations of the data."""
    schedule, grid = setting
    gaussian = distribution.as_gaussian()
    steps = steps_for(make, schedule, grid, gaussian.dimension, calls)
    times = grid(schedule, steps)
    x, exact = starts_and_ends(distribution, schedule, float(times[0]))
    end = sample(make.make(steps), ExactDenoiser(distribution, schedule), x, times)
    return float((end - exact).norm(dim=1).mean()) / gaussian.trace**0.5


@cache
def starts_and_ends(distribution: Distribution, schedule: Schedule, start: float) -> tuple[Tensor, Tensor]:
    """Pure noise at time `start`, and the exact clean ends: the same for every sampler."""
    x = pure_noise(schedule, start, STARTS, distribution.as_gaussian().dimension)
    return x, exact_end(distribution, schedule, start, x)


def frechet_error(make: Entry, gaussian: Gaussian, setting: Setting, calls: int) -> float:
    """The Frechet distance of the samples' exact distribution to the data's, in standard deviations of the data."""
    schedule, grid = setting
    steps = steps_for(make, schedule, grid, gaussian.dimension, calls)
    return frechet_of(make.make(steps), ExactDenoiser(gaussian, schedule), grid(schedule, steps))


def frechet_of(sampler: Sampler, denoiser: ExactDenoiser, times: Times) -> float:
    """The same for one sampler on one grid, from pure noise."""
    gaussian = denoiser.distribution
    assert isinstance(gaussian, Gaussian)
    found = affine_map(sampler_target(sampler), denoiser, times)
    d, sigma = gaussian.dimension, float(denoiser.schedule.sigma(float(times[0])))
    mean, covariance = found.moments(torch.zeros(d).double(), sigma**2 * torch.eye(d).double())
    root = gaussian.eigenvectors @ torch.diag(gaussian.eigenvalues.sqrt()) @ gaussian.eigenvectors.T
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    square = (mean - gaussian.mean).square().sum() + covariance.trace() + gaussian.trace - 2 * cross
    return float(square.clamp(min=0) / gaussian.trace) ** 0.5


def number(value: float) -> str:
    """Two digits, without exponents: 0.00052, 0.13, 2.4, 310."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 1 - math.floor(math.log10(float(f"{value:.1e}"))))
    return f"{float(f'{value:.1e}'):.{places}f}"


def row(*cells: object) -> None:
    """Print one line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def table(entries: list[Entry], error: Callable[[Entry, Setting, int], float]) -> None:
    """One line per sampler: its order, its cost, and its errors in every setting at every budget."""
    heads = [f"{name}: {n}" if n == BUDGETS[0] else n for name in SETTINGS for n in BUDGETS]
    row("sampler", "order", "NFE per step", *heads)
    row("---", *["--:"] * (len(heads) + 2))
    for make in entries:
        declared = make.sampler
        cost = "varies" if declared.nfe_per_step is None else declared.nfe_per_step
        cells = [number(error(make, setting, n)) for setting in SETTINGS.values() for n in BUDGETS]
        row(f"`{make.name}`", declared.order, cost, *cells)


def grids(distribution: Distribution) -> None:
    """The same samplers at 10 and 20 calls in VP, on three grids."""
    choices: dict[str, Grid] = {"equal steps": uniform, "log-SNR": log_snr, "Karras": karras}
    row("sampler", *(f"{name}: {n}" if n == 10 else n for name in choices for n in (10, 20)))
    row("---", *["--:"] * 6)
    for make in deterministic(distribution):
        if make.name in ("DDIM()", "Heun()", "DPMSolverPP2M()", "DataAdamsBashforth(3)", "UniPC(3)"):
            cells = [
                number(endpoint_error(make, distribution, (VP(), g), n)) for g in choices.values() for n in (10, 20)
            ]
            row(f"`{make.name}`", *cells)


def adaptive(distribution: Distribution) -> None:
    """Dormand-Prince with error control in VP, from t = 1 to sigma/alpha = LOW and to clean data."""
    row("tolerance", "calls", "error")
    row("--:", "--:", "--:")
    times = karras(VP(), 2)
    x, exact = starts_and_ends(distribution, VP(), float(times[0]))
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        counting = CountingDenoiser(ExactDenoiser(distribution, VP()))
        end = sample(DormandPrince(tolerance, tolerance), counting, x, times)
        error = float((end - exact).norm(dim=1).mean()) / distribution.as_gaussian().trace ** 0.5
        row(tolerance, counting.calls, number(error))


class Damped(ExactDenoiser):
    """An exact denoiser whose answer is 10 % too small between two noise-to-signal ratios."""

    def __init__(self, distribution: Distribution, schedule: Schedule, low: float, high: float) -> None:
        super().__init__(distribution, schedule)
        self.low, self.high = low, high

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        ratio = float(self.schedule.noise_to_signal(t))
        return super().__call__(x_t, t) * (0.9 if self.low < ratio < self.high else 1.0)


def model_errors(gaussian: Gaussian) -> None:
    """What an error of the model leaves in the samples, at 200 steps in VE, where the sampler's own is small."""
    row("sampler", "exact model", "wrong above 1", "wrong from 0.05 to 1", "wrong below 0.05")
    row("---", *["--:"] * 4)
    entries = {
        "DPMSolverPP2M()": DPMSolverPP2M(),
        "Restart(DPMSolverPP2M(), 0.05, 1)": Restart(DPMSolverPP2M(), 0.05, 1.0),
        **{f"SDEDPMSolverPP2M(eta={eta:g})": SDEDPMSolverPP2M(eta=eta) for eta in (0.5, 1.0, 1.5)},
    }
    times = karras(VE(), 200)
    for name, sampler in entries.items():
        errors = [
            frechet_of(sampler, Damped(gaussian, VE(), low, high), times)
            for low, high in ((0.0, 0.0), (1.0, math.inf), (0.05, 1.0), (0.0, 0.05))
        ]
        row(f"`{name}`", *map(number, errors))


def main() -> None:
    distribution, gaussian = mixture(), decaying_gaussian()
    print("Deterministic samplers: distance of the endpoints from the exact flow's, mixture in 16 dimensions\n")
    table(deterministic(distribution), lambda make, at, n: endpoint_error(make, distribution, at, n))
    print("\nWith error control\n")
    adaptive(distribution)
    print("\nThe same samplers on three grids, VP\n")
    grids(distribution)
    print("\nAll samplers: Frechet distance of their exact distribution, Gaussian in 7 dimensions\n")
    table(all_affine(), lambda make, at, n: frechet_error(make, gaussian, at, n))
    print("\nWhat an error of the model leaves, Gaussian in 7 dimensions\n")
    model_errors(gaussian)


if __name__ == "__main__":
    main()

"""Every sampler at 10, 20 and 40 calls of the network, on problems that are solved exactly (a minute of CPU time).

    python benchmarks/sampler_table.py

prints the tables of the page "How to choose a sampler". The errors are defined in `sampler_errors.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from diffuscope.denoisers import CountingDenoiser, ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
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
    upper_variance,
)
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times, uniform_times
from sampler_errors import (
    Entry,
    Grid,
    Setting,
    Times,
    decaying_gaussian,
    endpoint_error,
    frechet_error,
    frechet_of,
    mixture,
    starts_and_ends,
)

BUDGETS = (10, 20, 40)
LOW = 0.01  # sigma/alpha before the step to clean data, on grids that cannot end at 0
TELEPORT = 3.0  # in standard deviations of the widest direction


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


SETTINGS: dict[str, Setting] = {
    "VE, Karras levels": (VE(), karras),
    "VP, equal steps": (VP(), uniform),
    "flow, equal steps": (RectifiedFlow(), uniform),
}


def entry(name: str, sampler: Sampler) -> Entry:
    """A sampler that does not depend on the number of steps."""
    return Entry(name, lambda _: sampler)


def deterministic(distribution: GaussianMixture) -> list[Entry]:
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
        entry("Teleported(NoiseAdamsBashforth(3), ...)", Teleported(NoiseAdamsBashforth(3), gaussian, level)),
    ]


def solver_v3(distribution: GaussianMixture) -> DPMSolverV3:
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


def grids(distribution: GaussianMixture) -> None:
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


def adaptive(distribution: GaussianMixture) -> None:
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


@dataclass(frozen=True, eq=False)
class GuidedMixture:
    """Classifier-free guidance toward the first half of a mixture's components: D_u + scale (D_c - D_u)."""

    unconditional: GaussianMixture
    scale: float

    @cached_property
    def conditional(self) -> GaussianMixture:
        """The first half of the components."""
        u = self.unconditional
        half = len(u.weights) // 2
        weights = u.weights[:half] / u.weights[:half].sum()
        return replace(
            u,
            weights=weights,
            means=u.means[:half],
            eigenvectors=u.eigenvectors[:half],
            eigenvalues=u.eigenvalues[:half],
            tail_variances=u.tail_variances[:half],
        )

    def denoise(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """The guided denoiser."""
        plain, of_class = (d.denoise(x_t, alpha, sigma) for d in (self.unconditional, self.conditional))
        return plain + self.scale * (of_class - plain)

    def as_gaussian(self) -> Gaussian:
        """That of all data: the unit of errors."""
        return self.unconditional.as_gaussian()


def guidance(distribution: GaussianMixture) -> None:
    """Endpoint errors at 20 calls of the guided denoiser, in VP on levels equal in log-SNR."""
    scales = (1.0, 3.0, 7.5)
    guided: list[Any] = [GuidedMixture(distribution, scale) for scale in scales]
    row("sampler", *(f"scale {scale:g}" for scale in scales))
    row("---", *["--:"] * len(scales))
    names = (
        "DDIM()",
        "Heun()",
        "DPMSolverPP2M()",
        "NoiseAdamsBashforth(3)",
        "DataAdamsBashforth(3)",
        "UniPC(2)",
        "UniPC(3)",
    )
    for make in deterministic(distribution):
        if make.name in names:
            row(f"`{make.name}`", *(number(endpoint_error(make, each, (VP(), log_snr), 20)) for each in guided))


class Damped(ExactDenoiser):
    """An exact denoiser whose answer is 10 % too small between two noise-to-signal ratios."""

    def __init__(self, distribution: Gaussian, schedule: Schedule, low: float, high: float) -> None:
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
    print("\nUnder classifier-free guidance, 20 calls, VP, log-SNR\n")
    guidance(distribution)
    print("\nAll samplers: Frechet distance of their exact distribution, Gaussian in 7 dimensions\n")
    table(all_affine(), lambda make, at, n: frechet_error(make, gaussian, at, n))
    print("\nWhat an error of the model leaves, Gaussian in 7 dimensions\n")
    model_errors(gaussian)


if __name__ == "__main__":
    main()

r"""Where the reverse process lands among finitely many data points: the SDE and the ODE land differently.

At eta = 1 the posterior weight :math:`w_i(Y_t, t)` is the probability to land on :math:`x_i` given the present, hence a
martingale, and from a start :math:`\nu` the reverse process lands with :math:`P_i = E_\nu[w_i(\cdot, T)]`. At eta = 0
the map from T to 0 keeps quantiles: it lands on :math:`x_i` from between the quantiles :math:`(i-1)/N` and
:math:`i/N` of :math:`\rho_T`, so that :math:`P_i = F_\nu(b_i) - F_\nu(b_{i-1})` with :math:`F_{\rho_T}(b_i) = i/N`.
Only the start :math:`\nu = \rho_T` gives :math:`1/N` to each.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (finite data); the two laws: derived.
"""

import math

import torch
from scipy.optimize import brentq
from torch import Tensor

from diffuscope.exact import Empirical
from diffuscope.findings import Chart, Claim, Panel, at_most, equals, groups, largest, line
from diffuscope.samplers import DDIM, MixtureTransition, instant, instants, sample, trajectory
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..four_points import HORIZON, OU, POINTS, FourPoints, distribution_function, nearest, weights

PAPER = "Cao et al. 2025, finite data"
T_MIN = 1e-4
PATHS, STARTS, ODE_STEPS, WATCHED = 400_000, 40_000, 800, 40_000
# five digits of an independent computation of the two laws
SDE_DIGITS = (0.26078, 0.25877, 0.25371, 0.22674)
ODE_DIGITS = (0.25793, 0.27317, 0.26196, 0.20695)


def sde_law() -> Tensor:
    """P_i = E[w_i(y, T)] for y ~ N(0, 1), by the trapezoidal rule (spectrally accurate)."""
    y = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    return (-(y**2) / 2).softmax(0) @ weights(y, instant(OU, HORIZON))


def ode_law() -> Tensor:
    """P_i from the quantiles b_i of rho_T."""
    T = instant(OU, HORIZON)

    def excess(x: float, level: float) -> float:
        return float(distribution_function(torch.tensor([x], dtype=torch.float64), T)) - level

    cuts = [brentq(excess, -10, 10, args=(level,), xtol=1e-14) for level in (0.25, 0.5, 0.75)]
    below = torch.special.ndtr(torch.as_tensor([-math.inf, *cuts, math.inf], dtype=torch.float64))
    return below.diff()


def even_starts(n: int) -> Tensor:
    """The midpoints of n equal shares of N(0, 1), as states (n, 1): no Monte Carlo."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]


def shares(x: Tensor, t: float) -> Tensor:
    """The share of the states that is nearest to each point."""
    return torch.bincount(nearest(x[:, 0], instant(OU, t))[1], minlength=len(POINTS)).double() / len(x)


def landing(generator: torch.Generator) -> Answer:
    """The two laws by quadrature and by samplers, and the weights on the way."""
    sde, ode = sde_law(), ode_law()
    start = torch.randn(PATHS, 1, dtype=torch.float64, generator=generator)
    to_data = torch.cat([log_snr_times(OU, HORIZON, T_MIN, 4), torch.zeros(1, dtype=torch.float64)])
    oracle = MixtureTransition(Empirical(POINTS[:, None]))
    by_sde = shares(sample(oracle, FourPoints(), start, to_data, noise=generator), 0.0)
    times = log_snr_times(OU, HORIZON, T_MIN, ODE_STEPS)
    by_ode = shares(sample(DDIM(), FourPoints(), even_starts(STARTS), times), T_MIN)
    standard_errors = ((by_sde - sde).abs() / (sde * (1 - sde) / PATHS).sqrt()).max()
    claims: tuple[Claim, ...] = (
        *_digits(sde, ode),
        at_most(
            "sde-landing",
            f"{PATHS:,} paths of the exact reverse transition, five steps: the largest deviation of the four",
            float(standard_errors),
            4.0,
            because="4 standard errors: exceeded by chance in 1 of 4,000 runs",
            source=PAPER,
            unit="standard errors",
        ),
        at_most(
            "ode-landing",
            f"DDIM in {ODE_STEPS} steps from {STARTS:,} quantiles of the start: the largest deviation of the four",
            float((by_ode - ode).abs().max()),
            7e-4,
            because=f"first order in {ODE_STEPS} steps",
            source="derived",
        ),
        equals(
            "apart",
            "SDE and ODE land differently: on the last point with probabilities that differ by",
            float(by_sde[3] - by_ode[3]),
            float(sde[3] - ode[3]),
            within=4 * float((sde[3] * (1 - sde[3]) / PATHS).sqrt()) + 7e-4,
            because="4 standard errors and the error of DDIM",
            source="derived",
        ),
    )
    claim, chart = _martingale(sde, generator)
    bars = Chart(
        "The probability to land on each point",
        (
            Panel(
                "",
                "data point",
                "probability",
                (
                    groups(
                        [f"{place:g}" for place in POINTS.tolist()],
                        {"SDE, quadrature": sde, "SDE, paths": by_sde, "ODE, quantiles": ode, "ODE, DDIM": by_ode},
                    ),
                ),
                y_range=(0.0, 0.36),
            ),
        ),
        "From N(0, 1) instead of the right start no point gets its share of ¼, and the two processes err differently.",
    )
    told = "The SDE by its posterior weights at the start, the ODE by the quantiles: not alike, and neither evenly."
    return Answer(told, (*claims, claim), (bars, chart))


def _digits(sde: Tensor, ode: Tensor) -> tuple[Claim, ...]:
    return tuple(
        at_most(
            f"{name.lower()}-digits",
            f"The {name}'s probabilities are {', '.join(f'{p:.5f}' for p in printed)}; largest difference",
            float((law - torch.tensor(printed, dtype=torch.float64)).abs().max()),
            1e-5,
            because="one in the fifth digit",
            source="derived, computed independently",
        )
        for name, law, printed in (("SDE", sde, SDE_DIGITS), ("ODE", ode, ODE_DIGITS))
    )


def _martingale(sde: Tensor, generator: torch.Generator) -> tuple[Claim, Chart]:
    """E[w_i(Y_t, t)] along both processes."""
    times = log_snr_times(OU, HORIZON, T_MIN, 30)
    stays, off = {"SDE (η = 1)": [], "ODE (η = 0)": []}, []
    oracle = MixtureTransition(Empirical(POINTS[:, None]))
    drawn = torch.randn(WATCHED, 1, dtype=torch.float64, generator=generator)
    for state in trajectory(oracle, FourPoints(), drawn, times, noise=generator):
        w = weights(state.x_t[:, 0], state.at)
        stays["SDE (η = 1)"].append(w.mean(0))
        off.append(float(((w.mean(0) - sde) / (w.std(0) / math.sqrt(WATCHED))).abs().max()))
    fine = log_snr_times(OU, HORIZON, T_MIN, 300)
    for k, state in enumerate(trajectory(DDIM(), FourPoints(), even_starts(WATCHED // 10), fine)):
        if k % 10 == 0:
            stays["ODE (η = 0)"].append(weights(state.x_t[:, 0], state.at).mean(0))
    ratios = [at.sigma / at.alpha for at in instants(OU, times)]
    panels = tuple(
        Panel(
            name,
            "σ/α",
            "mean posterior weight",
            tuple(
                line(ratios, torch.stack(means)[:, i], f"point {place:g}") for i, place in enumerate(POINTS.tolist())
            ),
            x_log=True,
            x_range=(ratios[0], ratios[-1]),
        )
        for name, means in stays.items()
    )
    claim = at_most(
        "martingale",
        f"Along {WATCHED:,} paths of the SDE no mean weight moves: the largest deviation at 31 times",
        largest(off),
        4.5,
        because="4.5 standard errors: exceeded by chance in less than 1 of 1,000 runs",
        source="derived",
        unit="standard errors",
    )
    how = (
        "Sampling runs from left to right. The mean weight of a point is the probability to land on it, as far as one "
        "knows. Along the SDE it stays: the start has decided. Along the ODE it moves to another value."
    )
    return claim, Chart("The mean posterior weights on the way", panels, how, shared_y=True)

"""How much of a wrong start each dial forgets: Gaussian data, where everything is in closed form."""

import math

import torch
from scipy.integrate import quad

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import CrankNicolson, Density, GaussianReverse, Grid, reverse_evolution
from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Panel, at_most, equals, largest, line
from diffuscope.samplers import StochasticHeun
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..moments import GaussianDenoiser, apart, law_after
from .setting import CLEAN, ETAS, HORIZON, OU, PAPER, gaussian

PUBLISHED = {0.0: (0.044069, 5e-7), 0.5: (0.014779, 5e-7), 1.0: (5.651e-4, 5e-8), 2.0: (1.22e-9, 5e-12)}


def forgetting(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """KL to the exact law on Gaussian data: closed form, its dissipation, and finite volumes."""
    claims, curves = [], []
    t = torch.linspace(HORIZON, 0.02, 75, dtype=torch.float64)
    gaps = []
    for eta in ETAS:
        flow = gaussian(eta)
        nats, half_digit = PUBLISHED[eta]
        lost, _ = quad(flow.dissipation, 0.0, HORIZON, epsabs=1e-14, epsrel=1e-13, limit=200)
        gaps.append(abs(flow.relative_entropy(HORIZON) - flow.relative_entropy(0.0) - lost))
        claims.append(
            equals(
                f"left-{eta:g}".replace(".", "-"),
                f"Relative entropy left at the end with eta = {eta:g}",
                flow.relative_entropy(0.0),
                nats,
                within=half_digit,
                because="the digits of the reference",
                source=f"derived from {PAPER}",
                unit="nats",
            )
        )
        curves.append(line(HORIZON - t, [flow.relative_entropy(float(s)) for s in t], f"eta = {eta:g}"))
    coarse, fine = (_gaussian_entropy_error(cells) for cells in (200, 400))
    claims += [
        at_most(
            "identity",
            "KL lost minus the integral of its dissipation, largest over eta",
            largest(gaps),
            1e-10,
            because="quadrature at 1e-13",
            source=PAPER,
            unit="nats",
        ),
        equals(
            "grid-order",
            "Order at which finite volumes reach the same relative entropy (eta = 1/2)",
            math.log2(coarse / fine),
            2,
            within=0.1,
            because="pre-asymptotic terms",
            source="derived",
        ),
    ]
    panel = Panel("", "reverse time T − t", "KL to the exact law, nats", tuple(curves), y_log=True)
    return Answer(
        f"Of {gaussian(0.0).relative_entropy(HORIZON):.4f} nats of a wrong start the flow keeps all, eta = 1 leaves "
        f"{gaussian(1.0).relative_entropy(0.0):.1e} and eta = 2 {gaussian(2.0).relative_entropy(0.0):.1e}.",
        tuple(claims),
        (
            Chart(
                "What each dial leaves of a wrong start",
                (panel,),
                "Generation runs to the right. The deterministic flow is level: it carries the error to the data. "
                "Noise forgets it, the faster the nearer to the data.",
            ),
        ),
    )


def _gaussian_entropy_error(cells: int) -> float:
    grid, data = Grid.line(-6, 6, cells), Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), 0.25)
    start = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 1.0)

    def averages(law: Gaussian, alpha: float, sigma: float) -> Density:
        return Density(grid, grid.averages(lambda x: law.log_prob(x, alpha, sigma), nodes=4))

    times = log_snr_times(OU, HORIZON, CLEAN, cells)
    *_, end = reverse_evolution(ExactDenoiser(data, OU), averages(start, 1.0, 1e-9), times, CrankNicolson(), eta=0.5)
    exact = averages(data, float(OU.alpha(CLEAN)), float(OU.sigma(CLEAN)))
    return abs(end.relative_entropy(exact) - gaussian(0.5).relative_entropy(CLEAN))


def hybrid(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """Stochastic first, deterministic last: closed form by parts, and a sampler's own law without Monte Carlo."""
    switch = 0.27
    early = gaussian(1.0)
    mean, variance = early.law(switch)
    late = GaussianReverse(OU, 1.3, 0.25, switch, mean, variance, 0.0)
    lost, _ = quad(early.dissipation, switch, HORIZON, epsabs=1e-14, epsrel=1e-13)
    kept = early.relative_entropy(HORIZON) - lost
    denoiser = GaussianDenoiser(OU, 1.3, 0.25)
    first, last = (log_snr_times(OU, *ends, 400) for ends in ((HORIZON, switch), (switch, CLEAN)))
    between = law_after(StochasticHeun(), denoiser, first, 0.0, 1.0)
    ended = law_after(StochasticHeun(eta=0.0), denoiser, last, *between)
    exact = late.law(CLEAN)
    off = apart(ended, exact)
    t_late, t_early = torch.linspace(CLEAN, switch, 30), torch.linspace(switch, HORIZON, 45)
    curve = [late.relative_entropy(float(t)) for t in t_late] + [early.relative_entropy(float(t)) for t in t_early]
    x = HORIZON - torch.cat([t_late, t_early])
    panel = Panel(
        "",
        "reverse time T − t",
        "KL to the exact law, nats",
        (
            line(x.flip(0), curve[::-1], "eta = 1, then 0"),
            line(
                x.flip(0),
                [gaussian(1.0).relative_entropy(HORIZON - float(s)) for s in x.flip(0)],
                "eta = 1 throughout",
                style="dotted",
            ),
            line(
                x.flip(0),
                [gaussian(0.0).relative_entropy(HORIZON - float(s)) for s in x.flip(0)],
                "eta = 0 throughout",
                style="dashed",
            ),
        ),
        y_log=True,
    )
    return Answer(
        "Noise early forgets the start, none late costs nothing: the entropy left is what it was at the switch.",
        (
            at_most(
                "hybrid",
                "KL at the end minus (KL at the start minus the dissipation while stochastic)",
                abs(late.relative_entropy(0.0) - kept),
                1e-10,
                because="quadrature at 1e-13",
                source="Chen Kai, PDE and Machine Learning (7), hybrid sampling",
                unit="nats",
            ),
            at_most(
                "sampler",
                "Mean and variance of the stochastic Heun sampler's own law against the closed form",
                off,
                1e-4,
                because="second order, 400 steps a part",
                source="derived",
            ),
        ),
        (
            Chart(
                "Stochastic early, deterministic late",
                (panel,),
                "The level part of the solid line is the deterministic end.",
            ),
        ),
    )

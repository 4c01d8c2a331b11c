"""What the reverse equation generates on a grid: the forward flow played backward, for every eta."""

import math

import torch

from diffuscope.densities import BackwardEuler, CrankNicolson, Density, Grid, reverse_equation, reverse_evolution, steps
from diffuscope.findings import Chart, HeatMap, Line, Panel, at_most, equals, largest, line, series
from diffuscope.samplers import StochasticHeun, trajectory
from diffuscope.times import log_snr_times

from ..experiment import Answer
from .setting import CLEAN, DATA, DENOISER, ETAS, HORIZON, OU, PAPER, cells_of, wrong_start


def same_law(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """From the exact start, every eta ends in the data law; and the ratio q/p stays between its bounds."""
    grids = [Grid.line(-6, 6, cells) for cells in (150, 300)]
    laws = [cells_of(grid, CLEAN) for grid in grids]
    ends = {eta: [_generated(eta, grid) for grid in grids] for eta in ETAS}
    errors = {eta: [end.l1_distance(law) for end, law in zip(ends[eta], laws, strict=True)] for eta in ETAS}
    orders = {eta: math.log2(found[0] / found[1]) for eta, found in errors.items()}
    rises = [_ratio_bounds(eta) for eta in ETAS[1:]]
    inside = grids[-1].centers().abs() < 3
    x = grids[-1].centers()[inside]
    shown = [line(x, ends[eta][-1].values[inside], f"eta = {eta:g}") for eta in ETAS]
    shown.append(line(x, laws[-1].values[inside], "data", style="dashed"))
    return Answer(
        "Every eta brings the data law back; the flow, which has no diffusion to offer the grid, at first order.",
        (
            at_most(
                "every-eta",
                "Largest L1 error of eta = 1/2, 1, 2 with 300 cells",
                largest(errors[eta][-1] for eta in ETAS[1:]),
                5e-3,
                because="second order in cells and steps",
                source=PAPER,
            ),
            equals(
                "order",
                "Order in cells and steps for eta = 1",
                orders[1.0],
                2,
                within=0.1,
                because="pre-asymptotic terms",
                source="derived",
            ),
            equals(
                "order-of-flow",
                "Order for eta = 0, where the flux is upwind",
                orders[0.0],
                1,
                within=0.15,
                because="pre-asymptotic terms",
                source="derived",
            ),
            at_most(
                "sup",
                "Largest rise of sup q/p in a step, eta = 1/2, 1, 2",
                largest(up for up, _ in rises),
                1e-12,
                because="rounding; each step averages the ratio",
                source=PAPER,
            ),
            at_most(
                "inf",
                "Largest fall of inf q/p in a step, eta = 1/2, 1, 2",
                largest(down for _, down in rises),
                1e-12,
                because="rounding; each step averages the ratio",
                source=PAPER,
            ),
        ),
        (
            Chart(
                "Every eta ends in the data",
                (Panel("", "x", "density", tuple(shown)),),
                "Finite volumes with 300 cells from the exact law at T = 1. The flow's curve is rounded off by its "
                "first-order flux, not by its equation.",
            ),
        ),
    )


def _generated(eta: float, grid: Grid) -> Density:
    times = log_snr_times(OU, HORIZON, CLEAN, grid.cells[0])
    *_, end = reverse_evolution(DENOISER, cells_of(grid, HORIZON), times, CrankNicolson(), eta=eta)
    return end


def _ratio_bounds(eta: float) -> tuple[float, float]:
    """Largest relative rise of the supremum and fall of the infimum of q/p in a step of backward Euler."""
    grid, times = Grid.line(-4, 4, 200), HORIZON - log_snr_times(OU, HORIZON, CLEAN, 100)
    q, p = Density(grid, grid.averages(wrong_start, nodes=4)).values, cells_of(grid, HORIZON).values
    ratios = [q / p]
    for step in steps(reverse_equation(DENOISER, grid, HORIZON, eta=eta), times, BackwardEuler()):
        q, p = step.apply(q), step.apply(p)
        ratios.append(q / p)
    top, bottom = (torch.stack([end(ratio) for ratio in ratios]) for end in (torch.amax, torch.amin))
    return float((top.diff() / top[:-1]).max()), float(-(bottom.diff() / bottom[:-1]).min())


def there_and_back(generator: torch.Generator) -> Answer:
    """The generated density in space and log-SNR against the forward one, with trajectories on it."""
    grid, times = Grid.line(-6.4, 6.4, 320), log_snr_times(OU, HORIZON, CLEAN, 160)
    seen = slice(80, 240)  # cells of [-3.2, 3.2]
    generated = reverse_evolution(DENOISER, cells_of(grid, HORIZON), times, CrankNicolson())
    rows = torch.stack([density.values[seen] for density in generated])[::2]
    exact = torch.stack([cells_of(grid, t).values[seen] for t in times[::2].tolist()])
    worst = float((rows - exact).abs().max() / exact.max())
    start = DATA.sample(3, generator=generator)
    noise = torch.randn(start.shape, dtype=torch.float64, generator=generator)
    start = float(OU.alpha(HORIZON)) * start + float(OU.sigma(HORIZON)) * noise
    paths: list[Line] = []
    log_snr = OU.lam(times)
    for sampler, style in ((StochasticHeun(eta=0.0), "solid"), (StochasticHeun(), "dotted")):
        path = trajectory(sampler, DENOISER, start, times, noise=generator)
        states = torch.stack([state.x_t[:, 0] for state in path])
        paths += [line(log_snr, column, style=style) for column in states.T]  # pyright: ignore[reportArgumentType]
    moments = log_snr[::2]
    edges = torch.cat([moments[:1], (moments[1:] + moments[:-1]) / 2, moments[-1:]])
    pairs = rows.reshape(len(rows), -1, 2).mean(2).T  # two cells to one of the picture
    picture = HeatMap(
        series(edges), series(torch.linspace(-3.2, 3.2, 81)), tuple(series(row.clamp(max=0.7)) for row in pairs)
    )
    return Answer(
        f"The generated density is the forward one played backward, to {worst:.1e} of its maximum at any time.",
        (
            at_most(
                "played-backward",
                "Largest difference to the forward law over space and time, in units of its maximum",
                worst,
                0.01,
                because="second order, cells of .04",
                source="derived",
            ),
        ),
        (
            Chart(
                "The generated density, with three trajectories of the flow and three of the equation with noise",
                (Panel("", "log(α/σ): noise on the left, data on the right", "x", (picture, *paths)),),
                "Color is density, cut at .7. Smooth lines follow the probability flow, dotted ones, from the same "
                "starts, Anderson's equation.",
            ),
        ),
    )

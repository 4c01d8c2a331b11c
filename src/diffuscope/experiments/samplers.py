r"""Samplers at equal cost: Euler-Maruyama, Heun, Runge-Kutta 4 and what came after, on two modes in the plane.

Data :math:`\tfrac12 N(\pm(1.3, .6), .45\,I)`, :math:`dX = -\tfrac12 X\,dt + dB` to T = 4, generation from
:math:`N(0, I)`. A step of Euler-Maruyama costs one evaluation of the score, of Heun two, of Runge-Kutta four: they are
compared at equal evaluations. The article draws its samplers with the score of the *clean* data at every time. Then the
flow contracts onto the point where :math:`x = -s_0(x)`, at :math:`m/(1 - v)` instead of m, and the equation with noise
settles at :math:`m/(1 - v/2)`: 'fewer steps to the modes' is an artifact of that.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 3 and figure 4; the settings are those of its figure.
"""

import math

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser, score_to_denoised
from diffuscope.densities import CrankNicolson, Density, ExactDivergence, Grid, reverse_evolution, transport
from diffuscope.exact import GaussianMixture
from diffuscope.findings import Chart, Claim, Line, Panel, at_least, at_most, equals, line
from diffuscope.samplers import (
    DPMSolverPP3M,
    Euler,
    EulerMaruyama,
    Heun,
    NoiseAdamsBashforth,
    RungeKutta4,
    Sampler,
    UniPC,
    sample,
    stochastic_until,
    trajectory,
)
from diffuscope.schedules import VP, Schedule
from diffuscope.times import log_snr_times, uniform_times

from .experiment import Answer, Experiment, Part

ARTICLE = "Chen Kai, PDE and Machine Learning (7), figure 4"
SCHEDULE = VP(4.0, 4.0)  # its time 1 is T = 4 at beta = 1
END = 1e-3
MODE, VARIANCE = torch.tensor([1.3, 0.6], dtype=torch.float64), 0.45
DATA = GaussianMixture.isotropic(
    torch.full((2,), 0.5, dtype=torch.float64), torch.stack([-MODE, MODE]), torch.full((2,), VARIANCE).double()
)
DENOISER = ExactDenoiser(DATA, SCHEDULE)
PARTICLES = 40_000
FAR = 1.6  # deviation of the article's start
POINTS = 64  # starts of the trajectories whose ends are compared


class CleanScore:
    """The fault: the score of the data themselves, whatever the noise."""

    schedule: Schedule = SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """The denoiser that this score would have."""
        return score_to_denoised(x_t, DATA.score(x_t, 1.0, 1e-9), self.schedule, t)


def ends(
    sampler: Sampler, denoiser: Denoiser, steps: int, generator: torch.Generator, deviation: float = 1.0
) -> Tensor:
    """Particles from N(0, deviation^2 I), equal steps in t as in the article."""
    start = deviation * torch.randn(PARTICLES, 2, dtype=torch.float64, generator=generator)
    return sample(sampler, denoiser, start, uniform_times(1.0, END, steps), noise=generator)


def right_mode(x: Tensor) -> tuple[Tensor, Tensor]:
    """An estimate of m and its standard error: tanh(m.x / v) is the expected side of x, and E[x side] = m."""
    parts = x * torch.tanh(x @ MODE / VARIANCE)[:, None]
    return parts.mean(0), parts.std(0) / math.sqrt(len(x))


def modes(generator: torch.Generator) -> Answer:
    """Where the particles of the three samplers land, at 50 evaluations."""
    found = {
        "Euler-Maruyama": ends(EulerMaruyama(), DENOISER, 50, generator),
        "Heun": ends(Heun(), DENOISER, 25, generator),
    }
    exact = right_mode(DATA.sample(PARTICLES, generator=generator))
    claims: list[Claim] = []
    for name, x in found.items():
        mean, error = right_mode(x)
        worst = int(((mean - MODE).abs() / error).argmax())
        bias = 0.03 if name == "Euler-Maruyama" else 0.01
        claims.append(
            equals(
                f"mode-{name.split('-')[0].lower()}",
                f"Mean of the right mode by {name}, 50 evaluations ({'xy'[worst]})",
                float(mean[worst]),
                float(MODE[worst]),
                within=4 * float(error[worst]) + bias,
                because=f"4 standard errors and {bias:g} for the steps and the start at T = 4",
                source=ARTICLE,
            )
        )
    claims.append(
        equals(
            "estimator",
            "The same estimate on exact samples (x)",
            float(exact[0][0]),
            float(MODE[0]),
            within=4 * float(exact[1][0]),
            because="4 standard errors",
            source="derived",
        )
    )
    paths: list[Line] = []
    start = FAR * torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    panels = []
    for name, sampler, steps in (("Euler-Maruyama, 50", EulerMaruyama(), 50), ("Heun, 25", Heun(), 25)):
        states = torch.stack(
            [s.x_t for s in trajectory(sampler, DENOISER, start, uniform_times(1.0, END, steps), noise=generator)]
        )
        paths = [line(states[:, k, 0], states[:, k, 1]) for k in range(7)]
        panels.append(Panel(name, "x", "y", tuple(paths), x_range=(-4.0, 4.0), y_range=(-3.0, 3.0), equal_scales=True))
    return Answer(
        "With the score of the noised law both samplers find the modes.",
        tuple(claims),
        (
            Chart(
                "Trajectories with the right score",
                tuple(panels),
                "From the same seven starts: noise wanders and finds a mode by chance, the flow goes straight.",
                shared_y=True,
            ),
        ),
    )


def what_goes_wrong(generator: torch.Generator) -> Answer:
    """The clean score at every time: the flow collapses beyond the mode."""
    flow = ends(Heun(), CleanScore(), 25, generator, FAR)
    noisy = ends(EulerMaruyama(), CleanScore(), 50, generator, FAR)
    side = {name: x * torch.sign(x @ MODE)[:, None] for name, x in (("flow", flow), ("noise", noisy))}
    mean = {name: x.mean(0) for name, x in side.items()}
    # the flow to the fixed point m / (1 - v) at the rate (1/v - 1)/2 over T = 4
    fixed = MODE / (1 - VARIANCE)
    left = math.exp(-(1 / VARIANCE - 1) / 2 * 4)
    settled = MODE / (1 - VARIANCE / 2)
    shown = {"right score": ends(Heun(), DENOISER, 25, generator), "clean score": flow}
    grid = torch.linspace(-4, 4, 81, dtype=torch.float64)
    u = MODE / MODE.norm()
    marks = []
    for name, x in shown.items():
        counts = torch.histogram(x @ u, grid).hist / (len(x) * (grid[1] - grid[0]))
        marks.append(line((grid[1:] + grid[:-1]) / 2, counts, name))
    z = grid[:, None]
    density = sum(torch.exp(-((z - s * MODE.norm()) ** 2) / (2 * VARIANCE)) for s in (-1, 1))
    marks.append(
        line(grid, torch.as_tensor(density)[:, 0] / 2 / math.sqrt(2 * math.pi * VARIANCE), "data", style="dashed")
    )
    return Answer(
        f"With the clean score the flow ends at ({mean['flow'][0]:.2f}, {mean['flow'][1]:.2f}) with variance "
        f"{float(side['flow'].var(0).mean()):.3f} instead of (1.30, 0.60) and 0.45: sharper, and wrong.",
        (
            *(
                equals(
                    f"collapse-{axis}",
                    f"Where the flow with the clean score ends ({axis})",
                    float(found),
                    published,
                    within=0.02,
                    because="the digits of the reference",
                    source=ARTICLE,
                )
                for axis, found, published in zip("xy", mean["flow"], (2.25, 1.04), strict=True)
            ),
            at_most(
                "toward-the-fixed-point",
                "Its distance to m / (1 - v), over what contraction near the mode leaves of the start's distance",
                float((mean["flow"] - fixed).norm() / (left * fixed.norm())),
                1.2,
                because="the rate (1/v - 1)/2 over T = 4; the valley between the modes is slower",
                source="derived",
            ),
            at_most(
                "too-narrow",
                "Largest variance of the collapsed mode",
                float(side["flow"].var(0).max()),
                0.02,
                because="reference: .01 to .02; the data have .45",
                source=ARTICLE,
            ),
            equals(
                "with-noise",
                "Where Euler-Maruyama with the clean score ends (x)",
                float(mean["noise"][0]),
                float(settled[0]),
                within=0.02,
                because="near m / (1 - v/2); the valley between the modes moves it by less than 1%",
                source=ARTICLE,
            ),
            equals(
                "noise-variance",
                "The variance of its mode",
                float(side["noise"].var(0).mean()),
                0.31,
                within=0.015,
                because="the digits of the reference, and 50 steps",
                source=ARTICLE,
            ),
        ),
        (
            Chart(
                "What goes wrong: the clean score at every time",
                (Panel("", "along the modes", "density", tuple(marks)),),
                "The flow with the clean score makes two sharp peaks beyond the modes; the right score gives the data.",
            ),
        ),
    )


def equal_cost(generator: torch.Generator) -> Answer:
    """Distance to the exact end of the same trajectory, against evaluations."""
    start = torch.randn(POINTS, 2, dtype=torch.float64, generator=generator)
    exact = transport(DENOISER, start, 1.0, END, divergence=ExactDivergence(), tolerance=1e-11).x_s
    budgets = (8, 16, 32, 64, 128)
    contenders: tuple[tuple[str, Sampler, int], ...] = (
        ("Euler", Euler(), 1),
        ("Heun", Heun(), 2),
        ("Runge-Kutta 4", RungeKutta4(), 4),
        ("DPM-Solver++ 3M", DPMSolverPP3M(), 1),
        ("UniPC", UniPC(accurate_start=False), 1),
        ("Adams-Bashforth 3, in noise", NoiseAdamsBashforth(3), 1),
    )
    errors: dict[str, list[float]] = {}
    for name, sampler, cost in contenders:
        errors[name] = []
        for budget in budgets:
            times = log_snr_times(SCHEDULE, 1.0, END, budget // cost)
            end = sample(sampler, DENOISER, start, times)
            errors[name].append(float((end - exact).square().sum(1).mean().sqrt()))
    orders = {name: math.log2(found[-2] / found[-1]) for name, found in errors.items()}
    best = min(("DPM-Solver++ 3M", "UniPC", "Adams-Bashforth 3, in noise"), key=lambda name: errors[name][1])
    ratio = min(errors[name][1] for name in ("Euler", "Heun", "Runge-Kutta 4")) / errors[best][1]
    return Answer(
        f"At 16 evaluations {best} is {ratio:.1f} times nearer to the end of the trajectory than the best of Euler, "
        "Heun and Runge-Kutta.",
        (
            *(
                equals(
                    name,
                    f"Order of {method}, 64 to 128 evaluations",
                    orders[method],
                    order,
                    within=within,
                    because="pre-asymptotic terms",
                    source="derived",
                )
                for name, method, order, within in (
                    ("euler-order", "Euler", 1, 0.1),
                    ("heun-order", "Heun", 2, 0.2),
                    ("runge-kutta", "Runge-Kutta 4", 4, 0.6),
                )
            ),
            at_least(
                "multistep",
                "At 16 evaluations: the best one-step method's error over the best multistep method's",
                ratio,
                1,
                because="a multistep method has as many steps as evaluations",
                source="derived",
            ),
        ),
        (
            Chart(
                "Error at equal cost",
                (
                    Panel(
                        "",
                        "evaluations of the score",
                        "rms distance to the exact end",
                        tuple(line(budgets, found, name) for name, found in errors.items()),
                        x_log=True,
                        y_log=True,
                    ),
                ),
                "Down is better. Steps are equal in log-SNR; the exact end is integrated to 1e-11.",
            ),
        ),
    )


def hybrid(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """Along the line of the modes the law is one-dimensional: relative entropy that each dial leaves of the start."""
    distance = float(MODE.norm())
    data = GaussianMixture.isotropic(
        torch.full((2,), 0.5).double(),
        torch.tensor([[-distance], [distance]]).double(),
        torch.full((2,), VARIANCE).double(),
    )
    grid, times = Grid.line(-7, 7, 350), log_snr_times(SCHEDULE, 1.0, 0.01, 350)

    def cells(t: float) -> Density:
        alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
        return Density(grid, grid.averages(lambda x: data.log_prob(x, alpha, sigma), nodes=4))

    start = Density(grid, grid.averages(lambda x: -(x[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2, nodes=4))
    exact = cells(0.01)
    left = {}
    for name, eta in (
        ("eta = 1", 1.0),
        ("eta = 1, then .2", _Late(float(SCHEDULE.time_of_noise_to_signal(0.8)))),
        ("eta = .2", 0.2),
    ):
        *_, end = reverse_evolution(ExactDenoiser(data, SCHEDULE), start, times, CrankNicolson(), eta=eta)
        left[name] = end.relative_entropy(exact)
    begun = start.relative_entropy(cells(1.0))
    switch = stochastic_until(SCHEDULE, 0.8)
    return Answer(
        f"Of {begun:.1e} nats between N(0, 1) and the law at T = 4, little noise leaves {left['eta = .2']:.1e}; noise "
        f"early and little late {left['eta = 1, then .2']:.1e}.",
        (
            at_most(
                "early-noise",
                "Relative entropy left by noise early, over that left by little noise throughout",
                left["eta = 1, then .2"] / left["eta = .2"],
                0.7,
                because="noise early forgets the start",
                source="Chen Kai, PDE and Machine Learning (7), hybrid sampling",
            ),
            at_most(
                "contraction",
                "Largest relative entropy at the end, over that of the start",
                max(left.values()) / begun,
                1.0,
                because="relative entropy never rises; the grid adds 1e-6 nats",
                source="Cao et al. 2025, section 2",
            ),
            equals(
                "switch",
                "sigma/alpha at which the library's own schedule of eta turns",
                float(SCHEDULE.noise_to_signal(switch.time)),
                0.8,
                within=1e-12,
                because="rounding",
                source="derived",
            ),
        ),
    )


class _Late:
    """eta = 1 until a time, .2 from there on: a grid needs a little noise."""

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self, t: float) -> float:
        return 1.0 if t > self.time else 0.2


SAMPLERS = Experiment(
    "samplers",
    "Samplers at equal cost",
    "Which sampler finds the modes, and which is nearest to the truth for its evaluations?",
    "Chen Kai, PDE and Machine Learning (7), experiment 3 and figure 4",
    15,
    (
        Part("modes", "Do the samplers find the modes?", modes),
        Part("what-goes-wrong", "What does the clean score do?", what_goes_wrong),
        Part("equal-cost", "Who is nearest at equal cost?", equal_cost),
        Part("hybrid", "Noise early, little late?", hybrid),
    ),
    settings={"modes": "±(1.3, .6)", "variance": VARIANCE, "T": 4, "beta": 1, "particles": PARTICLES},
)

r"""Samplers at equal cost: Euler-Maruyama, Heun, Runge-Kutta 4 and what came after, on two modes in the plane.

Data :math:`0.5\,N(\pm m, v I)` with m = (1.3, 0.6), v = 0.45; :math:`dX = -\tfrac12 X\,dt + dB` to T = 4,
generation from :math:`N(0, I)`. A step of Euler-Maruyama costs one evaluation of the score, of Heun two, of Runge-Kutta
four: they are compared at equal NFE. The article draws its samplers with the score of the *clean* data at every time.
Then the flow contracts onto the point where :math:`x = -s_0(x)`, at :math:`m/(1 - v)` instead of m, and the equation
with noise settles at :math:`m/(1 - v/2)`: 'fewer steps to the modes' is an artifact of that. The article's start has
the standard deviation 1.6.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 3 and figure 4; the settings are those of its figure.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser, score_to_denoised
from diffuscope.densities import CrankNicolson, Density, ExactDivergence, Grid, reverse_evolution, transport
from diffuscope.exact import GaussianMixture
from diffuscope.findings import Panel, line
from diffuscope.samplers import (
    DPMSolverPP3M,
    Euler,
    EulerMaruyama,
    Heun,
    NoiseAdamsBashforth,
    RungeKutta4,
    Sampler,
    UniPC,
    instants,
    sample,
    trajectory,
)
from diffuscope.schedules import VP, Schedule
from diffuscope.times import log_snr_times, uniform_times

from .experiment import Experiment
from .part import Part, loglog, panel

SCHEDULE = VP(4.0, 4.0)  # its time 1 is T = 4 at beta = 1
END = 1e-3
MODE, VARIANCE = torch.tensor([1.3, 0.6], dtype=torch.float64), 0.45
DATA = GaussianMixture.isotropic(
    torch.full((2,), 0.5, dtype=torch.float64),
    torch.stack([-MODE, MODE]),
    torch.full((2,), VARIANCE, dtype=torch.float64),
)
DENOISER = ExactDenoiser(DATA, SCHEDULE)
LINE = GaussianMixture.isotropic(  # along the line of the modes
    torch.full((2,), 0.5, dtype=torch.float64),
    torch.stack([-MODE.norm(), MODE.norm()])[:, None],
    torch.full((2,), VARIANCE, dtype=torch.float64),
)
PARTICLES = 40_000
FAR = 1.6  # standard deviation of the article's start
POINTS = 64  # starts of the trajectories whose ends are compared
BUDGETS = (8, 16, 32, 64, 128)
CELLS = 350  # of [-7, 7], and steps of the reverse equation
ONE_STEP: dict[str, tuple[Sampler, int]] = {
    "Euler": (Euler(), 1),
    "Heun": (Heun(), 2),
    "Runge-Kutta 4": (RungeKutta4(), 4),
}
MULTISTEP: dict[str, tuple[Sampler, int]] = {
    "DPM-Solver++ 3M": (DPMSolverPP3M(), 1),
    "UniPC": (UniPC(accurate_start=False), 1),
    "Adams-Bashforth 3, in noise": (NoiseAdamsBashforth(3), 1),
}
EXPERIMENT = Experiment(
    name="samplers",
    title="Samplers at equal cost",
    question="Which sampler finds the modes, and which is most accurate at the same NFE?",
    source="Chen Kai, PDE and Machine Learning (7), experiment 3 and figure 4",
    seconds=15,
    settings={
        "modes": "±(1.3, 0.6)",
        "variance": "0.45",
        "T": "4, down to 0.001 of it",
        "beta": "1",
        "particles": "40,000; 64 starts of trajectories",
        "NFE": "8, 16, 32, 64, 128",
        "densities": "350 cells of [-7, 7], as many steps",
    },
)


class CleanScore:
    """The fault: the score of the data themselves, whatever the noise."""

    schedule: Schedule = SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """The denoiser that this score would have."""
        return score_to_denoised(x_t, DATA.score(x_t, 1.0, 1e-9), self.schedule, t)


def ends(
    sampler: Sampler, denoiser: Denoiser, steps: int, generator: torch.Generator, deviation: float = 1.0
) -> Float[Tensor, "n 2"]:
    """Particles from N(0, deviation^2 I), equal steps in t as in the article."""
    start = deviation * torch.randn(PARTICLES, 2, dtype=torch.float64, generator=generator)
    return sample(sampler, denoiser, start, uniform_times(1.0, END, steps), noise=generator)


def right_mode(x: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """An estimate of m and its standard error: tanh(m.x / v) is the expected side of x, and E[x side] = m."""
    parts = x * torch.tanh(x @ MODE / VARIANCE)[:, None]
    return parts.mean(0), parts.std(0) / math.sqrt(len(x))


@EXPERIMENT.part("Do the samplers find the modes?")
def modes(part: Part) -> str:
    """Where the particles land, at NFE 50."""
    noisy, _ = right_mode(ends(EulerMaruyama(), DENOISER, 50, part.generator))
    flow, error = right_mode(ends(Heun(), DENOISER, 25, part.generator))
    worst = int(((flow - MODE).abs() / error).argmax())
    title = f"Mean of the right mode by Heun, NFE 50 ({'xy'[worst]})"
    because = "4 standard errors, and 0.01 for the steps and the start at T = 4"
    part.equals("mode-heun", title, float(flow[worst]), float(MODE[worst]), 4 * float(error[worst]) + 0.01, because)

    start = FAR * torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    panels = []
    for name, sampler, steps in (("Euler-Maruyama, 50 steps", EulerMaruyama(), 50), ("Heun, 25 steps", Heun(), 25)):
        states = trajectory(sampler, DENOISER, start, uniform_times(1.0, END, steps), noise=part.generator)
        x = torch.stack([state.x_t for state in states])
        paths = tuple(line(x[:, k, 0], x[:, k, 1]) for k in range(7))
        panels.append(Panel(name, "x", "y", paths, x_range=(-4.0, 4.0), y_range=(-3.0, 3.0), equal_scales=True))
    part.chart(
        "Trajectories with the right score",
        *panels,
        how_to_read="From the same seven starts: the SDE wanders to a random mode, the flow goes straight to one.",
        shared_y=True,
    )
    return (
        f"With the score of the noised distribution, yes: Euler-Maruyama is at ({noisy[0]:.2f}, {noisy[1]:.2f}), "
        f"Heun at ({flow[0]:.2f}, {flow[1]:.2f})."
    )


@EXPERIMENT.part("What does the clean score do?")
def what_goes_wrong(part: Part) -> str:
    """The clean score at every time: the flow collapses beyond the mode."""
    flow = ends(Heun(), CleanScore(), 25, part.generator, FAR)
    noisy = ends(EulerMaruyama(), CleanScore(), 50, part.generator, FAR)
    of_flow, of_noise = (x * torch.sign(x @ MODE)[:, None] for x in (flow, noisy))  # on the side of the right mode
    for axis, found, published in zip("xy", of_flow.mean(0), (2.25, 1.04), strict=True):
        title = f"Where the flow with the clean score ends ({axis})"
        part.equals(f"collapse-{axis}", title, float(found), published, 0.02, "the digits of the reference")
    title, because = "Largest variance of the collapsed mode", "reference: 0.01 to 0.02; the data have 0.45"
    part.at_most("too-narrow", title, float(of_flow.var(0).max()), 0.02, because)
    title = "Where Euler-Maruyama with the clean score ends (x)"
    because = "near m / (1 - v/2); the valley between the modes moves it by less than 1%"
    part.equals("with-noise", title, float(of_noise.mean(0)[0]), float(MODE[0] / (1 - VARIANCE / 2)), 0.02, because)
    because = "0.31 within 0.015: the digits of the reference, and 50 steps"
    part.equals("noise-variance", "The variance of its mode", float(of_noise.var(0).mean()), 0.31, 0.015, because)

    x, curves = torch.linspace(-4, 4, 81, dtype=torch.float64), []
    for name, ended in (("right score", ends(Heun(), DENOISER, 25, part.generator)), ("clean score", flow)):
        heights = torch.histogram(ended @ MODE / MODE.norm(), x, density=True).hist
        curves.append(line((x[1:] + x[:-1]) / 2, heights, name))
    data = line(x, LINE.log_prob(x[:, None], 1.0, 1e-9).exp(), "data", style="dashed")
    part.chart(
        "What goes wrong: the clean score at every time",
        panel("", "along the modes", "density", *curves, data),
        how_to_read="The flow with the clean score makes two sharp peaks beyond the modes; the right score gives the "
        "data.",
    )
    return (
        f"With the clean score the flow ends at ({of_flow.mean(0)[0]:.2f}, {of_flow.mean(0)[1]:.2f}) with variance "
        f"{float(of_flow.var(0).mean()):.3f} instead of (1.30, 0.60) and 0.45: sharper, and wrong."
    )


@EXPERIMENT.part("Which is most accurate at equal cost?")
def equal_cost(part: Part) -> str:
    """Distance to the exact end of the same trajectory, against NFE."""
    start = torch.randn(POINTS, 2, dtype=torch.float64, generator=part.generator)
    exact = transport(DENOISER, start, 1.0, END, divergence=ExactDivergence(), tolerance=1e-11).x_s
    errors: dict[str, list[float]] = {}
    for name, (sampler, cost) in (ONE_STEP | MULTISTEP).items():
        grids = (log_snr_times(SCHEDULE, 1.0, END, budget // cost) for budget in BUDGETS)
        ended = (sample(sampler, DENOISER, start, times) for times in grids)
        errors[name] = [float((x - exact).square().sum(1).mean().sqrt()) for x in ended]
    best = min(MULTISTEP, key=lambda name: errors[name][1])
    ratio = min(errors[name][1] for name in ONE_STEP) / errors[best][1]
    title = "At NFE 16: the best one-step method's error over the best multistep method's"
    because = "a multistep method has as many steps as evaluations"
    part.at_least("multistep", title, ratio, 1, because, source="derived")
    curves = (line(BUDGETS, values, name) for name, values in errors.items())
    part.chart(
        "Error at equal cost",
        loglog("", "NFE", "rms distance to the exact end", *curves),
        how_to_read="Lower is better. Steps are equal in log-SNR; the exact end is integrated to 1e-11.",
    )
    return f"At NFE 16 the error of the best of Euler, Heun and Runge-Kutta 4 is {ratio:.1f} times that of {best}."


def late(t: float) -> float:
    """eta = 1 until sigma/alpha = 0.8, 0.2 from there on: a grid needs a little noise."""
    return 1.0 if t > float(SCHEDULE.time_of_noise_to_signal(0.8)) else 0.2


def relative_entropies() -> tuple[float, dict[str, float]]:
    """Relative entropy of N(0, 1) to the density at T, and of each generated density to the one at the end."""
    grid, times = Grid.line(-7, 7, CELLS), log_snr_times(SCHEDULE, 1.0, 0.01, CELLS)
    start = Density(grid, grid.averages(lambda x: -(x[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2, nodes=4))
    first, last = (
        Density(grid, grid.averages(lambda x, at=at: LINE.log_prob(x, at.alpha, at.sigma), nodes=4))
        for at in instants(SCHEDULE, torch.tensor([1.0, 0.01], dtype=torch.float64))
    )
    left = {}
    for name, eta in (("eta = 1", 1.0), ("eta = 1, then 0.2", late), ("eta = 0.2", 0.2)):
        *_, end = reverse_evolution(ExactDenoiser(LINE, SCHEDULE), start, times, CrankNicolson(), eta=eta)
        left[name] = end.relative_entropy(last)
    return start.relative_entropy(first), left


@EXPERIMENT.part("Noise early, little late?")
def hybrid(part: Part) -> str:
    """Along the line of the modes the problem is one-dimensional: the relative entropy that each dial leaves."""
    begun, left = relative_entropies()
    title = "Relative entropy that remains with noise early, over that with little noise throughout"
    ratio, because = left["eta = 1, then 0.2"] / left["eta = 0.2"], "our bar, 0.7: early noise forgets the start"
    part.at_most("early-noise", title, ratio, 0.7, because)
    return (
        f"Of {begun:.1e} nats between N(0, 1) and the density at T = 4, little noise leaves {left['eta = 0.2']:.1e}; "
        f"noise early and little late {left['eta = 1, then 0.2']:.1e}."
    )

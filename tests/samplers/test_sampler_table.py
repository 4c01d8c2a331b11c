"""The benchmark behind "How to choose a sampler": its errors against independent ones, and the page against its output.

On N(0, v) data every sampler below maps N(0, p) to N(0, p') by a recursion of one line; the Frechet distance to the
data is then the norm of the differences of standard deviations.
"""

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from diffuscope.exact import GaussianMixture
from diffuscope.samplers import DDIM, DDPM, EulerMaruyama, Heun, Teleported, UniPC
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "choosing_a_sampler.md"


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import sampler_errors  # pyright: ignore[reportMissingImports]

    return sampler_errors


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import sampler_table  # pyright: ignore[reportMissingImports]

    return sampler_table


def levels(schedule: Schedule, times: torch.Tensor) -> list[tuple[float, ...]]:
    """(t, alpha, sigma, alpha', sigma') at every time."""
    return [
        (t, *(float(f(t)) for f in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot)))
        for t in times.tolist()
    ]


def ddim(v: float, p: float, t: tuple, s: tuple) -> float:
    (_, a_t, s_t, *_), (_, a_s, s_s, *_) = t, s
    gain = a_t * v / (a_t**2 * v + s_t**2)  # D = gain x
    return (a_s * gain + s_s / s_t * (1 - a_t * gain)) ** 2 * p


def ddpm(v: float, p: float, t: tuple, s: tuple) -> float:
    (_, a_t, s_t, *_), (_, a_s, s_s, *_) = t, s
    gain = a_t * v / (a_t**2 * v + s_t**2)
    memory = s_s * a_t / (s_t * a_s)
    kept = memory * s_s / s_t
    return (a_s * gain + kept * (1 - a_t * gain)) ** 2 * p + s_s**2 * (1 - memory**2)


def euler_maruyama(v: float, p: float, t: tuple, s: tuple) -> float:
    """dx = (f x - g^2 score) dt + g dB, written with the score of N(0, a^2 v + s^2); the ends as DDPM."""
    (time, a, sigma, a_dot, s_dot), (end, _, s_s, *_) = t, s
    if a == 0 or s_s == 0:
        return ddpm(v, p, t, s)
    f = a_dot / a
    g2 = 2 * sigma * s_dot - 2 * f * sigma**2
    h = time - end
    return (1 - h * (f + g2 / (a**2 * v + sigma**2))) ** 2 * p + g2 * h


@pytest.mark.parametrize(
    ("sampler", "recursion"), [(DDIM(), ddim), (DDPM(), ddpm), (EulerMaruyama(eta=1.0), euler_maruyama)]
)
def test_exact_frechet_errors_are_those_of_the_variance_recursions(benchmark, sampler, recursion: Callable):
    gaussian = benchmark.decaying_gaussian()
    variances = gaussian.eigenvalues.tolist()
    for schedule, grid in benchmark.SETTINGS.values():
        at = levels(schedule, grid(schedule, 10))
        square = 0.0
        for v in variances:
            p = at[0][2] ** 2
            for t, s in itertools.pairwise(at):
                p = recursion(v, p, t, s)
            square += (math.sqrt(p) - math.sqrt(v)) ** 2
        expected = math.sqrt(square / sum(variances))
        entry = benchmark.entry("one", sampler)
        assert benchmark.frechet_error(entry, gaussian, (schedule, grid), 10) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_exact_ends_on_the_line_are_quantiles(schedule: Schedule, errors):
    """In one dimension the flow keeps ranks: from pure noise F_t(x) = F_0(x_0). At alpha = 0, F_t is the normal's."""
    weights, means, widths = np.array([0.3, 0.7]), np.array([-1.0, 1.5]), np.array([0.3, 0.5])
    pair = GaussianMixture.isotropic(torch.tensor(weights), torch.tensor(means)[:, None], torch.tensor(widths).square())
    start = float(schedule.t_max)
    alpha, sigma = float(schedule.alpha(start)), float(schedule.sigma(start))
    x = torch.tensor([[-1.7], [-0.4], [0.2], [1.3]], dtype=torch.float64) * sigma
    ends = errors.exact_end(pair, schedule, start, x)
    for begin, end in zip(x.flatten().tolist(), ends.flatten().tolist(), strict=True):
        rank = float(weights @ norm.cdf((begin - alpha * means) / np.hypot(alpha * widths, sigma)))
        quantile = brentq(lambda y, rank=rank: float(weights @ norm.cdf((y - means) / widths)) - rank, -9, 9)
        assert end == pytest.approx(quantile, abs=2e-6)


def test_no_line_of_the_table_spends_more_than_its_budget(benchmark, errors):
    distribution = benchmark.mixture()
    gaussian = distribution.as_gaussian()
    for schedule, grid in benchmark.SETTINGS.values():
        steps = {
            sampler: errors.steps_for(benchmark.entry("one", sampler), schedule, grid, 16, 10)
            for sampler in (DDIM(), Heun(), UniPC(3), Teleported(DDIM(), gaussian, 3.0))
        }
        ddim_steps, heun, unipc, teleported = steps.values()
        assert (ddim_steps, heun, unipc) == (10, 5, 9)  # UniPC(3) calls once more at its start
        assert teleported > 10


def rows(text: str) -> dict[str, list[list[str]]]:
    """The lines of all tables by their first cell."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if re.match(r"\| [^-]", line):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            found.setdefault(name, []).append(cells)
    return found


def test_cells_of_the_page_are_what_the_benchmark_computes(benchmark):
    page, distribution, gaussian = rows(PAGE.read_text()), benchmark.mixture(), benchmark.decaying_gaussian()
    for entry in benchmark.deterministic(distribution)[1:8:3]:
        for column, setting in zip((2, 5, 8), benchmark.SETTINGS.values(), strict=True):
            said = float(page[f"`{entry.name}`"][0][column])
            assert benchmark.endpoint_error(entry, distribution, setting, 10) == pytest.approx(said, rel=0.06)
    for entry in benchmark.all_affine()[4:8]:
        said = float(page[f"`{entry.name}`"][-1][2])
        assert benchmark.frechet_error(entry, gaussian, benchmark.SETTINGS["VE, Karras levels"], 10) == pytest.approx(
            said, rel=0.06
        )


@pytest.mark.slow
def test_every_number_of_the_page_is_printed_by_the_benchmark():
    """Within one unit of the second digit, where another machine may round otherwise."""
    command = [sys.executable, str(ROOT / "benchmarks" / "sampler_table.py")]
    printed = rows(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    page = rows(PAGE.read_text())
    number = re.compile(r"[\d.]+")
    for name, lines in printed.items():
        for line in lines:
            assert any(
                len(said) == len(line)
                and all(
                    a == b
                    or (number.fullmatch(a) and number.fullmatch(b) and math.isclose(float(a), float(b), rel_tol=0.06))
                    for a, b in zip(said, line, strict=True)
                )
                for said in page.get(name, [])
            ), (name, line)

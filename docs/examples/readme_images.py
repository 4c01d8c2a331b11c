"""The pictures of the README, from what diffuscope computes: `python docs/examples/readme_images.py [NAME ...]`.

The pages of `report` and `samples` are photographed in Chromium (`pip install playwright`); audits that the folder
`out` has already are not repeated.
"""

import io
import math
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from diffuscope.certify import certify
from diffuscope.cli import main
from diffuscope.data import load_data
from diffuscope.denoisers import CountingDenoiser, ExactDenoiser
from diffuscope.exact import GaussianMixture
from diffuscope.experiments import reproduce
from diffuscope.findings import Panel, line
from diffuscope.physics import PROBLEMS, Sensors, named_prior, solve_inverse
from diffuscope.report.drawing import draw_panel
from diffuscope.report.theme import figure_style, heat_colormap
from diffuscope.samplers import DDIM, Heun, sample, teleport
from diffuscope.schedules import VE
from diffuscope.theory.paths import Dynamics, geometric_action
from diffuscope.times import karras_times

FOLDER = Path(__file__).parents[1] / "images"
PAPER, RED, BLUE = "#fcfcfb", "#9c2d10", "#3552a5"
WIDTH, DPI = 3.6, 200  # shown at half of their pixels


def report() -> bytes:
    """The top of the page that `make demo` writes."""
    if not Path("out/demo/report.html").exists():
        main(["audit", "--out", "out/demo"])
    return photographed("out/demo/report.html", 900, "body", 640)


def samples() -> bytes:
    """The most suspicious of 300 images of digits: 30 of them are training examples, moved by one pixel."""
    digits, generator = load_data("digits"), torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(digits.train), generator=generator)[:30]
    fresh, heldout = digits.heldout[:270], digits.heldout[270:]
    folder = Path("out/readme")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train.npy", digits.train.numpy())
    np.save(folder / "heldout.npy", heldout.numpy())
    np.save(folder / "generated.npy", torch.cat([digits.train[chosen].roll(1, -1), fresh]).numpy())
    if not (folder / "samples/report.html").exists():
        names = ("--data", "train"), ("--heldout", "heldout"), ("--samples", "generated")
        files = [word for option, name in names for word in (option, str(folder / f"{name}.npy"))]
        main(["audit", *files, "--data-range", "0", "16", "--out", str(folder / "samples")])
    return photographed(folder / "samples/report.html", 480, "figure:has-text('most suspicious samples')", 202)


def certificate() -> bytes:
    """Heun's method, and the same with a mistake that no picture of samples shows: the time of its second stage."""

    def mistaken(denoiser, x, times, generator):  # noqa: ARG001
        alpha, sigma = denoiser.schedule.alpha, denoiser.schedule.sigma
        for t, s in pairwise(times):
            first = denoiser(x, t)
            ahead = alpha(s) * first + sigma(s) / sigma(t) * (x - alpha(t) * first)
            mean = (first + denoiser(ahead, t)) / 2  # should be denoiser(ahead, s)
            x = alpha(s) * mean + sigma(s) / sigma(t) * (x - alpha(t) * mean)
        return x

    mistaken.order, mistaken.stochastic, mistaken.nfe_per_step = 2, False, 2
    curves = []
    for name, target in (("Heun", Heun()), ("one wrong time", mistaken)):
        found = certify(target)
        rows = next(iter(found.errors.values()))
        nfe, error = [row[1] for row in rows], [row[2] for row in rows]
        slope = math.log(error[-2] / error[-1]) / math.log(nfe[-1] / nfe[-2])
        curves.append(line(nfe, error, f"{name}: order {slope:.2f}, {found.verdict}"))
    return panels(Panel("Both declare order 2", "network calls", "error", tuple(curves), True, True), height=2.3)


def jump() -> bytes:
    """Digits in 4 calls: from pure noise, and after a jump with the data's Gaussian; the exact ends above."""
    generator = torch.Generator().manual_seed(0)
    digits = load_data("digits").in_range(-1, 1).train
    mixture = GaussianMixture.fit_kmeans(digits, components=10, ridge=1e-3, generator=generator)
    schedule = VE(sigma_min=0.02, sigma_max=40.0)
    model, gaussian = ExactDenoiser(mixture, schedule), mixture.as_gaussian()
    start = 40 * torch.randn(64, 1, 8, 8, generator=generator)
    few, late = (karras_times(schedule, first, schedule.t_min, 4) for first in (schedule.t_max, 2.0))
    fine = karras_times(schedule, schedule.t_max, schedule.t_min, 60)
    jumped = teleport(gaussian, schedule, start, few[0], late[0])
    rows = {}
    for name, sampler, x, times in (
        ("", DDIM(), start, few),
        ("jump, ", DDIM(), jumped, late),
        ("", Heun(), start, fine),
    ):
        counted = CountingDenoiser(model)
        exact = sample(sampler, counted, x, times)
        rows[f"{name}{counted.calls} calls"] = exact
    with figure_style():
        figure = Figure((WIDTH, 1.75), facecolor=PAPER)
        axes = figure.subplots(3, 6)
        for row, (name, images) in zip(axes, rows.items(), strict=True):
            error = float((images - exact).square().mean().sqrt())
            label = name if images is exact else f"{name}\nerror {error:.2f}"
            row[0].set_ylabel(label, rotation=0, ha="right", va="center")
            for axis, image in zip(row, images, strict=False):
                axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
                axis.set(xticks=[], yticks=[])
                axis.grid(visible=False)
        return png(figure)


def field() -> bytes:
    """A temperature from twelve readings under Poisson's equation: the mean, and where it is uncertain."""
    problem, generator = PROBLEMS["poisson-2d"](33), torch.Generator().manual_seed(0)
    truth = problem.fields(1, generator=torch.Generator().manual_seed(4))[0]
    nodes = torch.randint(2, 31, (12, 2), generator=generator)
    noise = truth[1].square().mean().sqrt().expand(12) / 20
    values = truth[1][nodes[:, 0], nodes[:, 1]] + noise * torch.randn(12, dtype=torch.float64, generator=generator)
    sensors = Sensors(points=nodes / 32.0, channels=torch.ones(12, dtype=torch.long), values=values, noise=noise)
    found = solve_inverse(problem, sensors, named_prior("gaussian", problem), samples=2)
    assert found.moments is not None
    shown = {"truth": truth[1], "from 12 readings": found.moments.mean[1], "uncertainty": found.moments.sd[1]}
    with figure_style():
        figure = Figure((WIDTH, 1.45), facecolor=PAPER)
        for axis, (title, values) in zip(figure.subplots(1, 3), shown.items(), strict=True):
            top = float(truth[1].abs().max())
            limits = {"vmin": 0, "cmap": heat_colormap()} if title == "uncertainty" else {"vmin": -top, "vmax": top}
            axis.imshow(values.T, origin="lower", **({"cmap": "RdBu_r"} | limits))
            axis.plot(*nodes.T, "k.", markersize=3)
            axis.set_title(title, fontsize=8)
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
        return png(figure)


def path() -> bytes:
    """The way out of a well of Maier and Stein's drift, and the straight way, which is no minimum of the action."""

    def drift(z, beta=10.0):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], 1)

    well, saddle, s = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 0.0]), torch.linspace(0, 1, 50)
    aside = torch.stack([s - 1, 0.3 * torch.sin(math.pi * s)], 1)
    with figure_style():
        figure = Figure((WIDTH, 2.0), facecolor=PAPER)
        axes = figure.subplots()
        grid = torch.cartesian_prod(torch.linspace(-1.2, 0.2, 18), torch.linspace(-0.15, 0.45, 8)).double()
        axes.quiver(*grid.T, *drift(grid).T, color="0.75")
        for initial, color, name in ((aside, BLUE, "most likely"), (None, RED, "no minimum")):
            found = geometric_action(Dynamics(drift, 0.5), well, saddle, initial=initial)
            axes.plot(*found.curve.T, color=color, marker="", label=f"action {found.extrapolated:.3f}, {name}")
        axes.set(title="Out of a well, over the saddle", ylim=(-0.2, 0.75))
        axes.legend(loc="upper right")
        return png(figure)


def experiment() -> bytes:
    """The experiment `boundary-map`: where between six examples the target of denoising is noise, at three levels."""
    first = next(chart for answer in reproduce("boundary-map").answers.values() for chart in answer.charts)
    return panels(*first.panels[:3], height=1.6)


def panels(*shown: Panel, height: float) -> bytes:
    with figure_style():
        figure = Figure((WIDTH, height), facecolor=PAPER)
        for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            draw_panel(axes, panel)
            if len(shown) == 1:
                axes.legend(loc="lower left")
        return png(figure)


def photographed(page: str | Path, width: int, part: str, height: int) -> bytes:
    """The upper `height` pixels of a part of a page, named by its selector, in a window of this width."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": width, "height": 844}, color_scheme="light")
        window.goto(Path(page).absolute().as_uri())
        box = window.locator(part).first.bounding_box()
        assert box is not None
        content = window.screenshot(full_page=True, clip=box | {"height": height})
        browser.close()
    return content


def png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "report": report,
    "samples": samples,
    "certificate": certificate,
    "jump": jump,
    "field": field,
    "path": path,
    "experiment": experiment,
}


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        image = Image.open(io.BytesIO(PICTURES[name]())).convert("RGB").quantize(96, dither=Image.Dither.NONE)
        image.save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}: {image.size}, {(FOLDER / f'{name}.png').stat().st_size / 1000:.0f} kB")

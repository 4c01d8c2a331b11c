"""A page with everything a report may hold, its names as hostile as a file name can be."""

import torch

from diffuscope.findings import Chart, Finding, Panel, Rule, cells, intervals, line
from diffuscope.report import Gallery, GalleryItem, Page, Picture, Section, Table, image_png

HOSTILE = "<script>alert('x')</script>&\"{{ 7 * 7 }}"

COPIES = Finding(
    name="memorized.copies",
    title="Does it reproduce training examples?",
    value=3.2,
    unit="%",
    verdict="About 3 in 100 generated samples are closer to a training example than held-out data ever are.",
    tone="alarm",
    interval=(1.9, 5.1),
    null="Held-out examples, treated as if they had been generated",
    p_value=3.1e-6,
    power="A share of 0.9% or more would have been found with probability 0.95.",
)
BIASED = Finding(
    name="memorized.bias",
    title="Are samples biased toward the training set?",
    value=0.537,
    unit="",
    verdict="Samples are slightly nearer to training than to held-out examples.",
    tone="attention",
    interval=(0.506, 0.568),
    null="One half: a sample is as often nearest to either set",
    p_value=0.0197,
    power="A share of 0.546 or more would have been found with probability 0.95.",
)
LEARNED = Finding(
    name="learned.gaussian",
    title="Which simple distribution explains it?",
    value=0.983,
    unit="",
    verdict="Above σ = 1.3 the network is a Gaussian model: it explains 98% of the variance of its score.",
    tone="neutral",
    interval=(0.979, 0.986),
    power="Differences of 0.004 between exact models would have been seen.",
)
STEPS = Finding(
    name="steps.teleport",
    title="How few steps does it need?",
    value=18.0,
    unit="NFE",
    verdict="Starting at σ = 1.9, 18 NFE reach what 64 reach from pure noise.",
    tone="good",
    interval=(16.0, 21.0),
    power="A difference of 2 NFE would have been seen.",
)


def noise_levels_chart(name: str = "digits") -> Chart:
    sigma = torch.logspace(-2, 1.9, 17, dtype=torch.float64)
    curves = []
    for label, center in (("Gaussian", 0.9), ("Mixture, 32 components", 0.25), ("Empirical", 0.05)):
        explained = 1 / (1 + (center / sigma) ** 1.7)
        band = 0.05 * (explained * (1 - explained)).sqrt() + 0.008
        curves.append(line(sigma, explained, label, low=explained - band, high=explained + band))
    title = f"Held-out examples of {name}"
    marks = (*curves, Rule(0.9), Rule(0.5, "x", 0.2))
    panel = Panel(title, "noise σ/α", "variance explained", marks, x_log=True, y_range=(0, 1.04))
    return Chart(
        "What the network agrees with, noise level by noise level",
        (panel,),
        "A curve at 1 is a model that predicts the network exactly. Bands are 95% bootstrap intervals.",
    )


def correlations_chart() -> Chart:
    names = ["isotropic", "Gaussian", "mixture", "empirical"]
    columns = ["0.01", "0.03", "0.1", "0.3", "1", "3", "10", "80"]
    values = torch.linspace(0.1, 0.6, 4)[:, None] + torch.linspace(0, 0.5, 8)[None]
    values[0, 3] = float("nan")
    return Chart(
        "Cosine between the network's score and each exact score",
        (Panel("", "noise σ/α", "", (cells(names, columns, values, color_range=(0, 1)),)),),
        "1 means the same direction. An empty cell was not measured.",
    )


def distances_chart() -> Chart:
    found = intervals({"replayed training data": (5.2, 4.0, 6.9), "samples": (1.3, 1.1, 1.5)})
    panel = Panel("", "Frechet distance, ratio", "", (found, Rule(1.0, "x", 0.5)), x_range=(0, 8))
    return Chart("How far samples are from held-out data", (panel,), "At 1 samples are as good as real data.")


def pairs_gallery() -> Gallery:
    draw = torch.Generator().manual_seed(0)
    items = []
    for k in range(6):
        image = torch.rand(1, 8, 8, generator=draw)
        near = image + 0.1 * torch.randn(1, 8, 8, generator=draw)
        items.append(
            GalleryItem(
                [
                    Picture(image_png(image.numpy(), 0, 1), "generated"),
                    Picture(image_png(near.numpy(), 0, 1), f"training #{137 * k}"),
                ],
                f"distance {0.4 + 0.1 * k:.2f}, p = {0.0005 * (k + 1):.4f}",
            )
        )
    return Gallery(
        "The samples nearest to a training example", items, "Left a generated sample, right its nearest training image."
    )


def sample_page() -> Page:
    samplers = Table(
        "Distance to the finely integrated trajectory",
        ["Sampler", "Order", "4 steps", "8 steps", "16 steps", "32 steps", "64 steps", "128 steps"],
        [
            ["Euler", 1, 0.912, 0.47, 0.239, 0.121, 0.0607, 0.0304],
            ["Heun", 2, 0.501, 0.131, 0.033, 0.00829, 0.00207, 0.00052],
            ["DPM-Solver++ 2M", 2, 0.388, 0.097, 0.0243, 0.0061, 0.00152, None],
        ],
        "Root mean square over pixels, 512 trajectories.",
    )
    trajectories = Table(
        "Every trajectory", ["number", "distance"], [[k, 0.01 * (k + 1)] for k in range(40)], folded=True
    )
    return Page(
        title="Audit of a diffusion model on handwritten digits",
        subtitle=f"runs/digits/{HOSTILE}.safetensors, 1,437 training and 360 held-out images of 8 × 8 pixels",
        headline="This model copies a few training examples. Elsewhere it is close to a Gaussian mixture, "
        "and 18 NFE are enough to sample it.",
        verdicts=[COPIES, BIASED, LEARNED, STEPS],
        sections=[
            Section(
                "learned",
                "What did it learn at each noise level?",
                "At large noise it is the Gaussian model of the data; below σ = 0.3 only a mixture explains it.",
                [noise_levels_chart(HOSTILE), correlations_chart()],
                [LEARNED],
            ),
            Section(
                "memorized",
                "Did it memorize its training data?",
                "Yes, a little: 16 of 500 samples are copies at a false-discovery rate of 5%.",
                [pairs_gallery()],
                [COPIES, BIASED],
            ),
            Section(
                "steps",
                "How few steps does it need?",
                "18 NFE, started at σ = 1.9 from the Gaussian solution.",
                [samplers, trajectories, distances_chart()],
                [STEPS],
            ),
        ],
        method=[
            "Every statistic carries its interval and its null. Held-out examples were never shown to the network.",
            Table("Versions and seeds", ["Item", "Value"], [["diffuscope", "0.1.0"], ["torch", "2.13.0"], ["Seed", 0]]),
            "Limits: distances are Euclidean in pixel space; copies that differ by a shift are not found.",
        ],
    )

"""Real digits: the exact minimizer recites its training set, and any error of it brings something new.

The denoisers are those of `digits`. Each is a pair of numbers: how far it is from the exact minimizer, and how far its
samples are from the training set. At zero error the distance is zero, to the last bit.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054 (finite data, and its conclusion that what generalizes is the
approximation); the two inexact denoisers are ours.
"""

import math

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.findings import Chart, Panel, at_least, at_most, equals, heat_map, line, points

from ..experiment import Answer
from .digits import DIGITS, PIXELS, SAMPLES, TRAINING, VE_SCHEDULE, Blurred, Digits, generated, trained
from .landing import PAPER

BLURS = (0.05, 0.15, 0.3)
SHOWN = 6


def overfitting(generator: torch.Generator) -> Answer:
    """Distances of the samples of the exact and of inexact denoisers to the training digits."""
    digits, seed = Digits.load(), generator.initial_seed()
    exact = generated(ExactDenoiser(Empirical(digits.train), VE_SCHEDULE), generator)
    networks = trained(digits, seed)
    by_network = [generated(network, generator) for network in networks]
    by_blur = [generated(Blurred(Empirical(digits.train), delta), generator) for delta in BLURS]
    of_network = [digits.distances(x) for x in by_network]
    delta, end = BLURS[0], VE_SCHEDULE.t_min
    off = nearest_neighbors(by_blur[0], digits.train, 1)[0][:, 0].square().mean().sqrt() / math.sqrt(PIXELS)
    claims = (
        at_most(
            "recites",
            f"Of {SAMPLES} samples of the exact minimizer those that are not one of the {DIGITS} digits, bit for bit",
            float((digits.distances(exact) != 0).sum()),
            0.0,
            because="the support theorem",
            source=PAPER,
        ),
        equals(
            "blur-leaves",
            f"With the score of digits blurred by δ = {delta:g} every sample is new: their root mean square distance "
            "to the digits, per pixel",
            float(off) / delta,
            1 / math.sqrt(1 + (end / delta) ** 2),
            within=4 / math.sqrt(2 * PIXELS * SAMPLES),
            because=f"4 standard errors of {SAMPLES} x {PIXELS} numbers; the last denoising takes the missing 2%",
            source="derived",
            unit="δ",
        ),
        at_least(
            "network-new",
            f"A network copies nothing after {TRAINING[-1]} training steps: its nearest sample (unseen digits: 1)",
            float(of_network[-1].min()),
            0.2,
            because="a copy would be at 0",
            source=PAPER,
        ),
        equals(
            "network-distance",
            "The median of its samples is about as far from the training digits as unseen digits are, at 1",
            float(of_network[-1].median()),
            1.0,
            within=0.5,
            because=f"half way to copies, at 0; before training it is at {float(of_network[0].median()):.2g}",
            source="derived",
        ),
    )
    errors = [digits.error(network, generator) for network in networks]
    of_blur = [digits.error(Blurred(Empirical(digits.train), delta), generator) for delta in BLURS]
    curve = Chart(
        "Any error of the minimizer takes the samples away from the training set",
        (
            Panel(
                "",
                "error of the denoiser, in deviations of the data",
                "distance to training digits (unseen: 1)",
                (
                    points([0.0], [float(digits.distances(exact).median())], "exact minimizer"),
                    line([0.0, *of_blur], [0.0, *(float(digits.distances(x).median()) for x in by_blur)], "blurred"),
                    line(errors, [float(x.median()) for x in of_network], "network in training"),
                    line([0.0, max(errors)], [1.0, 1.0], "unseen digits", style="dotted"),
                ),
            ),
        ),
        "Every mark is a denoiser: how far it is from the exact minimizer, and how far its samples are from the "
        f"training digits (median of {SAMPLES}). The network comes from the right as it trains (after "
        f"{', '.join(map(str, TRAINING))} steps). At zero error there is nothing but the training set.",
    )
    told = f"All {SAMPLES} samples are training digits, to the last bit. An inexact denoiser makes new ones."
    return Answer(told, claims, (curve, _mosaic(digits, exact, by_network[-1])))


def _mosaic(digits: Digits, exact: Tensor, by_network: Tensor) -> Chart:
    panels = []
    for title, samples in (("exact minimizer", exact), ("network", by_network)):
        few = samples[:SHOWN]
        near = digits.train[nearest_neighbors(few, digits.train, 1)[1][:, 0]]
        rows = torch.stack([few, near]).clamp(-1, 1).reshape(2, SHOWN, 8, 8)
        framed = torch.nn.functional.pad(rows, (0, 1, 0, 1), value=math.nan)  # a gap between pictures
        cells = framed.permute(0, 2, 1, 3).reshape(18, 9 * SHOWN)
        heat = heat_map(range(9 * SHOWN + 1), range(18, -1, -1), cells)
        panels.append(Panel(title, "", "", (heat,), equal_scales=True))
    how = (
        "Upper row: samples. Lower row: the training digit that is nearest to each. The exact minimizer's are the same "
        "pictures; the network's are not."
    )
    return Chart("Six samples of each", tuple(panels), how)

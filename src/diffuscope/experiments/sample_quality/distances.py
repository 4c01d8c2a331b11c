"""How far samples are from real digits: what the features see, the trained network, and what is not like digits."""

import math

import numpy as np
import torch
from torch import Tensor

from diffuscope.audit.fidelity import BAR, fidelity
from diffuscope.audit.label_balance import label_balance
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Chart, Panel, at_least, at_most, equals, frechet_distance, groups, heat_map, line

from ..experiment import Answer
from . import setting
from .setting import ASKED, DERIVED, generated, ruler, samples, untrained

ACCURACY = 0.95
RAREST = 0.25  # of its due
NOISES = (0.05, 0.1, 0.2, 0.4, 0.8)
SHOWN_COLUMNS, SHOWN_ROWS = 10, 4
BLUR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


def features(generator: torch.Generator) -> Answer:
    """The classifier's accuracy, the zero of the scale, and how noise moves digits on it."""
    found = ruler(generator.initial_seed())
    train = found.data.train
    real = found.ratio(train, generator)
    noisy = [found.ratio(train + s * torch.randn(train.shape, generator=generator), generator) for s in NOISES]
    claims = (
        at_least(
            "accuracy",
            f"The classifier names the digit on so many of {found.features.unseen} unseen images",
            found.features.accuracy,
            ACCURACY,
            because="features of a classifier that errs more would mean little",
            source=ASKED,
        ),
        equals(
            "real",
            "Training digits, drawn without replacement, are as far from unseen ones as those from each other: the "
            "ratio of the distances",
            real,
            1.0,
            within=4 * found.spread / found.real,
            because="4 deviations of single divisions of the unseen digits into halves",
            source=DERIVED,
        ),
        at_least(
            "noise",
            f"Real digits under noise of deviation {NOISES[-2]:g} (their range is 2) are no longer real: the ratio",
            noisy[-2],
            BAR,
            because="the bar that samples must reach: noise must not pass it",
            source=ASKED,
        ),
    )
    panel = Panel(
        "",
        "deviation of the noise (pixels in [-1, 1])",
        "distance, in distances between real sets",
        (
            line(NOISES, noisy, "real digits under noise"),
            line([NOISES[0], NOISES[-1]], [BAR, BAR], "the bar", style="dotted"),
            line([NOISES[0], NOISES[-1]], [1.0, 1.0], "real digits", style="dashed"),
        ),
        x_log=True,
        y_log=True,
    )
    told = (
        f"Yes: it is right on {found.features.accuracy:.1%} of unseen digits, and in its {found.unseen.shape[1]} "
        f"features training digits are {real:.2f} times as far from unseen ones as two halves of those from each other."
    )
    return Answer(
        told, claims, (Chart("What the distance makes of noise", (panel,), "It grows with the noise, from 1."),)
    )


def trained(generator: torch.Generator) -> Answer:
    """The bar: at most twice the distance between two halves of the unseen digits."""
    seed = generator.initial_seed()
    found, made = ruler(seed), samples(seed, setting.STEPS)
    distance = found.distance(made, generator)
    ratio = distance.value / found.real
    # the ruler's own error is in it
    error = fidelity(found.features(made), found.features(found.data.train), found.unseen, seed).ratio_error
    balance = label_balance(
        found.features.classes,
        found.features.label(made),
        found.features.label(found.data.heldout),
        len(found.data.train),
        np.random.default_rng(seed),
    )
    share = balance.of_samples / balance.of_unseen
    rarest = int(share.argmin())
    whole = frechet_distance(found.features(made), found.unseen)
    train = found.features(found.data.train[: len(made)])
    halves = frechet_distance(train, found.unseen)
    claims = (
        at_most(
            "bar",
            f"Frechet distance of {found.size} samples to as many unseen digits ({distance.value:.3g}, standard error "
            f"{distance.standard_error:.2g}), over that between two halves of the unseen digits ({found.real:.3g}; "
            f"single divisions spread by {found.spread:.2g})",
            ratio,
            BAR,
            because="1 would be real digits, 1.25 reciting the training half",
            source=ASKED,
        ),
        at_least(
            "every-digit",
            f"Every digit is drawn: the share of {balance.classes[rarest]} among the samples, over that among unseen "
            "digits, where it is smallest",
            float(share[rarest]),
            RAREST,
            because="a digit that is never drawn has 0; the distance hardly sees one of ten",
            source=ASKED,
        ),
    )
    told = (
        f"{ratio:.2f} times as far from real digits as these from each other (standard error {error:.2f}): "
        f"{distance.value:.2f} against {found.real:.2f}, {found.size} images a side. With all {len(made)} and the "
        f"training half in place of samples: {whole.value:.2f} ± {whole.standard_error:.2f} against "
        f"{halves.value:.2f} ± {halves.standard_error:.2f}, {whole.value / halves.value:.2f} times; the larger the "
        "sets, the less of both is the chance of drawing them."
    )
    return Answer(told, claims, (_mosaic(made, found.data.heldout),))


def controls(generator: torch.Generator) -> Answer:
    """What is not like digits must be far; two exact laws and the network before training beside the trained one."""
    seed = generator.initial_seed()
    found = ruler(seed)
    train, n = found.data.train, len(found.data.heldout)
    gaussian = Gaussian.fit([train])
    mixture = GaussianMixture.fit_kmeans(
        train, 10, rank=64, ridge=1e-4 * gaussian.trace / 64, generator=torch.Generator().manual_seed(seed)
    )
    ratios = {
        "no fours": found.ratio(train[found.features.label(train) != 4], generator),
        "trained": found.ratio(samples(seed, setting.STEPS), generator),
        "10 Gaussians": found.ratio(mixture.sample(n, generator=generator).float(), generator),
        "Gaussian": found.ratio(gaussian.sample(n, generator=generator).float(), generator),
        "blurred": found.ratio(blurred(train), generator),
        "untrained": found.ratio(generated(untrained(seed), n, generator), generator),
    }
    far = "at the bar itself the distance could not tell them from good samples"
    claims = (
        at_least(
            "gaussian",
            "Samples of the exact Gaussian with the digits' mean and covariance: the ratio",
            ratios["Gaussian"],
            BAR,
            because=far,
            source=ASKED,
        ),
        at_least(
            "blurred",
            "Real digits, blurred over 3 x 3 pixels: the ratio",
            ratios["blurred"],
            BAR,
            because=far,
            source=ASKED,
        ),
        at_least(
            "untrained",
            "Training moves the samples towards digits: the distance before it, over the distance after",
            ratios["untrained"] / ratios["trained"],
            10.0,
            because="a network that learned nothing has 1",
            source=ASKED,
        ),
    )
    panel = Panel(
        "",
        "",
        "distance, in distances between real sets",
        (
            groups(["real", *ratios], {"distance to unseen digits": [1.0, *ratios.values()]}),
            line([-0.5, len(ratios) + 0.5], [BAR, BAR], "the bar", style="dotted"),
        ),
        y_log=True,
        y_range=(0.5, 2 * ratios["untrained"]),
    )
    how = "Lower is closer to real digits; 1 is real. No fours: real digits without them."
    told = (
        f"Yes: the Gaussian of the digits is at {ratios['Gaussian']:.1f}, blurred digits at {ratios['blurred']:.0f}, "
        f"the network before training at {ratios['untrained']:.0f}. A mixture of ten Gaussians, a good law for images "
        f"so small, is at {ratios['10 Gaussians']:.2f}; the trained network at {ratios['trained']:.2f}. One digit of "
        f"ten that is missing hardly shows: real digits without the fours are at {ratios['no fours']:.2f}."
    )
    return Answer(
        told,
        claims,
        (Chart("Near and far", (panel,), how),),
    )


def blurred(images: Tensor) -> Tensor:
    """Binomial weights over 3 x 3 pixels, edges repeated."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, BLUR[None, None])


def _mosaic(made: Tensor, real: Tensor) -> Chart:
    panels = []
    for title, images in (("samples", made), ("unseen digits", real)):
        few = images[: SHOWN_COLUMNS * SHOWN_ROWS, 0].clamp(-1, 1)
        framed = torch.nn.functional.pad(few, (0, 1, 0, 1), value=math.nan)  # a gap between pictures
        cells = framed.reshape(SHOWN_ROWS, SHOWN_COLUMNS, 9, 9).transpose(1, 2).reshape(9 * SHOWN_ROWS, -1)
        heat = heat_map(range(9 * SHOWN_COLUMNS + 1), range(9 * SHOWN_ROWS, -1, -1), cells)
        panels.append(Panel(title, "", "", (heat,), equal_scales=True))
    return Chart(
        "The first forty samples, none chosen, and as many unseen digits", tuple(panels), "Could you tell them apart?"
    )

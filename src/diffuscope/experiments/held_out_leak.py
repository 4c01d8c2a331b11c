r"""The held-out leak: at noised training points the memorizer looks better than the Gaussian, at held-out ones worse.

At :math:`x_t = x_0 + \sigma\varepsilon` the mean squared error :math:`|D(x_t) - x_0|^2/D` is least for the denoiser
of the distribution that x_0 was drawn from. Where x_0 is a training example that is the empirical one, by definition;
where it is a new draw, the empirical denoiser averages the examples it knows, and the Gaussian, which knows none, can
be closer. A comparison of models at noised training points alone is therefore decided before it begins.

Differences are paired, example by example, and count from four standard errors on. Source: Wang & Vastola 2024,
https://arxiv.org/abs/2412.09726 (delta mixture and Gaussian against networks, at noised training points). Errors on
CIFAR-10 at sigma = 5 were computed independently of this library, of 128 images: 0.063 (empirical) and 0.120 (Gaussian)
at training points, 0.132 and 0.126 at held-out ones.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian
from diffuscope.findings import Numbers, Panel, Repeated, groups, line

from .cifar_images import cifar
from .experiment import Experiment
from .part import PIXEL_RANGE, Part, drawn, panel

DIGIT_LEVELS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
DIGIT_CLAIM, DIGIT_POINTS = 0.2, 512
SIGMA, POINTS, KNOWN_POINTS = 5.0, 256, 128
KNOWN = {("training", "empirical"): 0.063, ("training", "Gaussian"): 0.120}
KNOWN |= {("held-out", "empirical"): 0.132, ("held-out", "Gaussian"): 0.126}
STANDARD_ERRORS = 4
EXPERIMENT = Experiment(
    name="held-out-leak",
    title="Training points flatter the memorizer",
    question="Does it matter whether a denoiser is compared at training or at held-out points?",
    source="Wang & Vastola 2024, https://arxiv.org/abs/2412.09726",
    seconds=90,
    settings={
        "digits": "scikit-learn's, half to train, pixels in [-1, 1], 512 points of each half",
        "noise on digits": "σ = 0.1, 0.2, 0.3, 0.5, 1, 2, 5; claims at 0.2",
        "CIFAR-10": "50,000 training images, pixels in [-1, 1], σ = 5, 256 points of each set; 1.5 GB",
    },
    notes=("The part on CIFAR-10 needs the data set; without it the part says so and claims nothing.",),
)


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared error per coordinate of both models at the same points."""

    empirical: Float[Tensor, " n"]
    gaussian: Float[Tensor, " n"]

    @property
    def lead(self) -> Repeated:
        """By how much the empirical denoiser is better, paired."""
        return Repeated.of(self.gaussian - self.empirical)

    def of(self, model: str) -> Repeated:
        """Mean and standard error of one model."""
        return Repeated.of(self.empirical if model == "empirical" else self.gaussian)


def errors(
    empirical: Distribution,
    gaussian: Distribution,
    x_0: Float[Tensor, "n *event"],
    sigma: float,
    generator: torch.Generator,
) -> Errors:
    """Both models at the points `x_0` under noise sigma."""
    x_t = x_0 + sigma * torch.randn(x_0.shape, dtype=x_0.dtype, generator=generator)
    squares = ((model.denoise(x_t, 1.0, sigma) - x_0).double().square() for model in (empirical, gaussian))
    return Errors(*(square.flatten(1).mean(1) for square in squares))


def claim_flip(part: Part, data: str, found: dict[str, Errors]) -> None:
    """The empirical denoiser leads at training points, and the Gaussian at held-out points."""
    because = f"{STANDARD_ERRORS} paired standard errors"
    for name, sign, better in (("training", 1, "empirical denoiser"), ("held-out", -1, "Gaussian")):
        lead = found[name].lead
        title = f"{data}, {name} points: by how much the {better} is better"
        part.at_least(
            f"{part.name}-{name}", title, sign * lead.significance, STANDARD_ERRORS, because, unit="standard errors"
        )


@EXPERIMENT.part("Which of the two is better on digits?")
def digits(part: Part) -> str:
    """The errors of both at several levels, at training and at held-out digits."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    sets = {"training": data.train, "held-out": data.heldout}
    empirical, gaussian = Empirical(data.train), Gaussian.fit([data.train])
    points = {name: drawn(rows, DIGIT_POINTS, part.generator) for name, rows in sets.items()}
    found = {
        sigma: {name: errors(empirical, gaussian, x_0, sigma, part.generator) for name, x_0 in points.items()}
        for sigma in DIGIT_LEVELS
    }
    claim_flip(part, f"Digits, σ = {DIGIT_CLAIM:g}", found[DIGIT_CLAIM])
    part.chart(
        "Errors on digits",
        *(
            Panel(
                f"{name} points",
                "σ",
                "squared error per pixel",
                tuple(
                    line(DIGIT_LEVELS, [found[sigma][name].of(model).mean for sigma in DIGIT_LEVELS], model)
                    for model in ("empirical", "Gaussian")
                ),
                x_log=True,
                y_log=True,
                y_range=(1e-3, 1.0),
            )
            for name in sets
        ),
        how_to_read="Left: at the examples it knows the empirical denoiser's error falls without end. Right: at new "
        "ones it stops falling where the noise no longer reaches from one example to the next, and the Gaussian, "
        "which is farther from digits at middle noise, is better below.",
        shared_y=True,
    )
    return (
        f"At σ = {DIGIT_CLAIM:g} the empirical denoiser at training points ({told(found[DIGIT_CLAIM]['training'])}), "
        f"and the Gaussian at held-out points ({told(found[DIGIT_CLAIM]['held-out'])})."
    )


@EXPERIMENT.part("And on CIFAR-10?")
def images(part: Part) -> str:
    """The published comparison at σ = 5; without the data the reason, and no claims."""
    try:
        known = cifar()
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    low = known.data.data_range[0]
    gaussian = known.gaussian.rescale(known.unit, known.unit + low)
    empirical = Empirical(known.data.train)
    sets = {"training": known.data.train, "held-out": known.data.heldout}
    found = {}
    for name, rows in sets.items():
        points = drawn(rows, POINTS, part.generator)
        pixels = errors(empirical, gaussian, points, SIGMA * known.unit, part.generator)
        found[name] = Errors(pixels.empirical / known.unit**2, pixels.gaussian / known.unit**2)
    claim_flip(part, f"CIFAR-10, σ = {SIGMA:g}", found)
    for (name, model), value in KNOWN.items():
        ours = found[name].of(model)
        room = STANDARD_ERRORS * ours.error * math.sqrt(1 + POINTS / KNOWN_POINTS)
        title = f"Squared error per value, {name} points, {model}"
        because = f"{STANDARD_ERRORS} standard errors of the difference between {POINTS} and {KNOWN_POINTS} points"
        label = f"{name}-{model}".lower()
        part.equals(label, title, ours.mean, value, room, because, source="computed independently, 128 images")
    bars: dict[str, Numbers] = {
        model: [found[name].of(model).mean for name in sets] for model in ("empirical", "Gaussian")
    }
    part.chart(
        f"CIFAR-10 at σ = {SIGMA:g}",
        panel("", "", "squared error per value", groups([f"{name} points" for name in sets], bars)),
        how_to_read="The winner at training points loses at held-out points.",
    )
    return (
        f"The winner flips as well: {told(found['training'])} at training points, {told(found['held-out'])} at "
        "held-out points."
    )


def told(found: Errors) -> str:
    """Both errors in words."""
    return f"empirical {found.of('empirical').mean:.3g}, Gaussian {found.of('Gaussian').mean:.3g}"

r"""The moments of CIFAR-10, and the energy of its Gaussian denoiser and score in closed form.

For x_t = x_0 + sigma eps the second moments of the linear denoiser and score depend on mean and covariance of the data
alone, whatever else the data are:

.. math::
    E|D_G|^2 = |\mu|^2 + \sum_k \frac{\lambda_k^2}{\lambda_k + \sigma^2}, \qquad
    E|s_G|^2 = \sum_k \frac{1}{\lambda_k + \sigma^2} .

(With :math:`c_k = u_k^T(x_t - \mu)` of variance :math:`\lambda_k + \sigma^2`, the k-th coordinate of :math:`D_G - \mu`
is :math:`\lambda_k c_k/(\lambda_k + \sigma^2)` and that of :math:`s_G` is :math:`-c_k/(\lambda_k + \sigma^2)`.) The
published values of both are averages over noised training images of a network's analytic counterparts, so that they
carry a sampling error; trace, mean and spectrum are those of all 50,000 training images.

Source: the tables that accompany Wang & Vastola 2024, https://arxiv.org/abs/2412.09726, for pixels in [-1, 1]: the
square 24.7841 of the mean; :math:`E|D_G|^2` = 417.8, 264.0 and 133.6 at sigma = 5, 10 and 20, and :math:`E|s_G|^2` =
2,947, 122.3, 7.68 and 1.92 at sigma = 1, 5, 20 and 40. Computed independently from the same images: the trace 761.604
of the covariance; its leading variances 221.45, 85.70, 50.98, 28.00 and 27.49; 33, 99, 217 and 658 components for 0.8,
0.9, 0.95 and 0.99 of the variance.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Rule, largest, line
from diffuscope.findings import points as dots

from .cifar_images import cifar
from .experiment import Experiment
from .part import PIXEL_RANGE, Part, largest_difference, loglog

DRAWS = 64  # noises of every digit
DIGIT_LEVELS = (0.1, 0.5, 2.0, 10.0)
TRACE, MEAN_SQUARE = 761.604, 24.7841
SPECTRUM = (221.45, 85.70, 50.98, 28.00, 27.49)
SHARES = {0.8: 33, 0.9: 99, 0.95: 217, 0.99: 658}  # of the variance: leading components needed
DENOISED = {5.0: 417.8, 10.0: 264.0, 20.0: 133.6}
SCORE = {1.0: 2947.0, 5.0: 122.3, 20.0: 7.68, 40.0: 1.92}
INDEPENDENT = "computed independently from the same images"
EXPERIMENT = Experiment(
    name="cifar-moments",
    title="The moments of CIFAR-10, and the energy of its Gaussian denoiser",
    question="Are mean and Gaussian denoiser of CIFAR-10 the published ones, and its covariance the known one?",
    source="Wang & Vastola 2024, https://arxiv.org/abs/2412.09726",
    seconds=75,
    settings={
        "images": "all 50,000 training images, pixels in [-1, 1], neither flipped nor augmented",
        "arithmetic": "float64 in chunks; 1.5 GB",
        "digits": "scikit-learn's, each with 64 noises, at sigma = 0.1, 0.5, 2 and 10",
    },
    notes=(
        "The part on CIFAR-10 needs the data set (`diffuscope data fetch cifar10`, or a folder that DIFFUSCOPE_DATA "
        "names). Without it the part says so and claims nothing.",
    ),
)


def denoised_energy(gaussian: Gaussian, sigma: float) -> float:
    """E|D_G|^2, for a dense Gaussian."""
    values = gaussian.eigenvalues
    return float(gaussian.mean.square().sum() + (values**2 / (values + sigma**2)).sum())


def score_energy(gaussian: Gaussian, sigma: float) -> float:
    """E|s_G|^2, for a dense Gaussian."""
    return float((1 / (gaussian.eigenvalues + sigma**2)).sum())


@EXPERIMENT.part("Do the closed forms hold for data that are not Gaussian?")
def digits(part: Part) -> str:
    """Averages over noised digits against the closed forms."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    images = torch.cat([data.train, data.heldout]).flatten(1).double()
    gaussian, apart = Gaussian.fit([images]), []
    for sigma in DIGIT_LEVELS:
        noise = torch.randn(DRAWS, *images.shape, dtype=torch.float64, generator=part.generator)
        for energy, known in (
            (_energy(gaussian.denoise, images, noise, sigma), denoised_energy(gaussian, sigma)),
            (_energy(gaussian.score, images, noise, sigma), score_energy(gaussian, sigma)),
        ):
            # all digits enter every draw: what is random is the noise
            apart.append(abs(float(energy.mean()) - known) / (float(energy.std()) / math.sqrt(DRAWS)))
    title = f"Both energies at σ = {', '.join(f'{sigma:g}' for sigma in DIGIT_LEVELS)}: the largest difference"
    because = f"4.5 standard errors of {DRAWS} noises, which one of the {len(apart)} numbers exceeds once in 4,000 runs"
    part.at_most("digits", title, largest(apart), 4.5, because, source="derived", unit="standard errors")
    return "Yes: only the first two moments of the data enter, and digits have the energies of their Gaussian."


def _energy(
    answer: Callable[[Tensor, float, float], Tensor],
    images: Float[Tensor, "n D"],
    noise: Float[Tensor, "draws n D"],
    sigma: float,
) -> Float[Tensor, " draws"]:
    """The mean square length of the answer over all images, for every draw of noise."""
    return torch.stack([answer(images + sigma * eps, 1.0, sigma).square().sum(1).mean() for eps in noise])


@EXPERIMENT.part("Do CIFAR-10's images have the known moments and the published energies?")
def images(part: Part) -> str:
    """Trace, mean, spectrum and energies; without the data the reason, and no claims."""
    try:
        gaussian = cifar().gaussian
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    values, mean = gaussian.eigenvalues, float(gaussian.mean.square().sum())
    part.equals(
        "trace", "The trace of the covariance", gaussian.trace, TRACE, 5e-4, "six digits of 761.604", source=INDEPENDENT
    )
    part.equals("mean", "|μ|²", mean, MEAN_SQUARE, 5e-5, "six digits of 24.7841, as in the published table")
    apart = largest_difference(values[: len(SPECTRUM)], SPECTRUM)
    title = f"The five largest eigenvalues, {', '.join(f'{value:.2f}' for value in SPECTRUM)}: the largest difference"
    part.at_most("spectrum", title, apart, 5e-3, "two decimals", source=INDEPENDENT)
    share = values.cumsum(0) / values.sum()
    found = {level: int((share < level).sum()) + 1 for level in SHARES}
    title = f"Components for {', '.join(f'{level:.0%}' for level in SHARES)} of the variance: {list(found.values())}; "
    title += "how many of these counts differ"
    wrong = sum(found[level] != known for level, known in SHARES.items())
    part.at_most("counts", title, wrong, 0, "counts", source=INDEPENDENT)
    for name, symbol, energy, published, bound, because in (
        ("denoised", "D", denoised_energy, DENOISED, 0.02, "the sampling error of the published averages"),
        ("score", "s", score_energy, SCORE, 0.003, "three digits"),
    ):
        ours = {sigma: energy(gaussian, sigma) for sigma in published}
        given = ", ".join(f"{value:.4g} (σ = {sigma:g})" for sigma, value in ours.items())
        title = f"E|{symbol}|² of the Gaussian, {given}: the largest relative difference from the published averages"
        part.at_most(name, title, _apart(ours, published), bound, because)
    shown = torch.logspace(2, -2, 61, dtype=torch.float64)
    rule = Rule(float(values[0].sqrt()), "x")
    panels = [
        loglog(
            title,
            "σ",
            "mean square length",
            line(shown, [energy(gaussian, float(sigma)) for sigma in shown], "closed form"),
            dots(list(published), list(published.values()), "published averages"),
            rule,
        )
        for title, energy, published in (
            ("denoiser", denoised_energy, DENOISED),
            ("score", score_energy, SCORE),
        )
    ]
    part.chart(
        "Energy of the Gaussian denoiser and score of CIFAR-10",
        *panels,
        how_to_read="Vertical line: the largest standard deviation of the images. Far above it the denoiser answers "
        "the mean, far below the image.",
        shared_y=True,
    )
    lengths = loglog("", "component", "variance", line(range(1, len(values) + 1), values))
    part.chart("The spectrum of CIFAR-10", lengths, how_to_read="Eigenvalues of the covariance, for pixels in [-1, 1].")
    return (
        f"Yes: the trace is {gaussian.trace:.3f}, |μ|² is {mean:.4f}, the largest eigenvalue {float(values[0]):.2f}; "
        f"{found[0.99]} of {len(values)} components have 99% of the variance."
    )


def _apart(ours: Mapping[float, float], published: Mapping[float, float]) -> float:
    return largest_difference([ours[sigma] / known for sigma, known in published.items()], 1)

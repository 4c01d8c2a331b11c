r"""Teleport on real images: the closed-form jump over high noise, at few evaluations and at many.

The digits in [-1, 1] and a mixture of ten Gaussians around their clusters, whose exact denoiser is the "network". From
x_T at :math:`\sigma = 80` the flow of the single Gaussian with the digits' mean and covariance jumps to
:math:`\sigma_{skip}`; Heun's method on Karras' levels spends its whole budget (protocol B) on the rest. With
:math:`x_0^*` the end of the finely integrated trajectory from the same start, without a jump,

.. math::  e = \Big\langle \big(\tfrac1D |x_0 - x_0^*|^2\big)^{1/2} \Big\rangle ,

the mean over starts of the root mean square error of *each* sample: pooled before the root, the few trajectories that
end in another mode would decide the number. Two errors compete: of discretization, which falls as the range to
integrate shrinks, and of the jump, which no number of steps removes. It comes from the part of the denoiser that a
Gaussian does not explain, at :math:`\sigma_{skip}` and above,

.. math::  \mathrm{FUV} = \frac{\sum_i |D - D_G|^2}{\sum_i |D - \mu|^2} .

Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726 (the jump). For digits e with unlimited steps, 0.0021,
0.021 and 0.106 for jumps to 5, 2.5 and 1, and the FUV, 0.0037, 0.015, 0.053, 0.15 and 0.21 at 20, 10, 5, 2.5 and 1,
were computed independently of this library, of 256 starts.
"""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Rule, largest, line
from diffuscope.samplers import Heun, RungeKutta4, Sampler, sample, teleport
from diffuscope.schedules import VE
from diffuscope.streams import torch_stream
from diffuscope.theory import agreement
from diffuscope.times import karras_times

from .experiment import Experiment
from .part import PIXEL_RANGE, Part, largest_difference, loglog

SCHEDULE, HIGHEST, LOWEST = VE(), 80.0, 0.002
LEVELS = (HIGHEST, 20.0, 10.0, 5.0, 2.5, 1.0)  # of the jump; the first is no jump
BUDGETS, FINE = (9, 17, 35), 40  # NFE; Runge-Kutta steps in place of unlimited ones, accurate to 3e-5
STARTS, CLUSTERS, CLUSTERINGS, REPEATS = 512, 10, 10, 4
BIAS = {5.0: 0.0021, 2.5: 0.021, 1.0: 0.106}
UNEXPLAINED = {20.0: 0.0037, 10.0: 0.015, 5.0: 0.053, 2.5: 0.15, 1.0: 0.21}
INDEPENDENT = "computed independently, 256 starts"
EXPERIMENT = Experiment(
    name="teleport",
    title="Teleport: how far may a Gaussian jump over high noise?",
    question="Which level should the jump end at, and what does it cost?",
    source="Wang & Vastola 2024, https://arxiv.org/abs/2412.09726",
    seconds=25,
    settings={
        "data": "scikit-learn's 1,797 digits in [-1, 1]",
        "network": "the exact denoiser of 10 Gaussians around clusters, the tightest of 10 k-means",
        "sampler": "Heun, Karras levels from 80 to 0.002, then clean data; NFE 9, 17, 35",
        "jump": "to 20, 10, 5, 2.5 or 1",
        "unlimited": "Runge-Kutta 4, 40 steps, as the reference without a jump; 512 starts",
        "unexplained": "at every digit with 4 noises",
    },
)


@cache
def digits(seed: int) -> tuple[Float[Tensor, "n D"], Gaussian, GaussianMixture]:
    """All digits, their Gaussian, and the mixture of the tightest clusters of several k-means runs."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    images = torch.cat([data.train, data.heldout]).flatten(1).double()
    generator = torch_stream(seed, "teleport", "k-means")
    fits = [GaussianMixture.fit_kmeans(images, CLUSTERS, generator=generator) for _ in range(CLUSTERINGS)]
    return images, Gaussian.fit([images]), min(fits, key=lambda fit: float(fit.weights @ fit.eigenvalues.sum(1)))


def integrated(
    mixture: GaussianMixture, x: Float[Tensor, "starts D"], sigma: float, steps: int, sampler: Sampler
) -> Float[Tensor, "starts D"]:
    """From `sigma` to clean data; with Heun 2 steps - 1 evaluations."""
    times = torch.cat([karras_times(SCHEDULE, sigma, LOWEST, steps - 1), torch.zeros(1, dtype=torch.float64)])
    return sample(sampler, ExactDenoiser(mixture, SCHEDULE), x, times)


@EXPERIMENT.part("At which level is the error least, at few evaluations and at many?")
def levels(part: Part) -> str:
    """Errors of every level at every budget, and of the jump alone."""
    _, gaussian, mixture = digits(part.seed)
    x_start = HIGHEST * torch.randn(STARTS, gaussian.dimension, dtype=torch.float64, generator=part.generator)
    reference = integrated(mixture, x_start, HIGHEST, FINE, RungeKutta4())
    mean: dict[tuple[float, int], float] = {}  # 0 evaluations: unlimited
    deviation: dict[float, float] = {}  # of the mean
    for sigma in LEVELS:
        jumped = teleport(gaussian, SCHEDULE, x_start, HIGHEST, sigma)
        for nfe in BUDGETS:
            ends = integrated(mixture, jumped, sigma, (nfe + 1) // 2, Heun())
            mean[sigma, nfe] = float((ends - reference).square().mean(1).sqrt().mean())
        ends = integrated(mixture, jumped, sigma, FINE, RungeKutta4())
        rows = (ends - reference).square().mean(1).sqrt()
        mean[sigma, 0], deviation[sigma] = float(rows.mean()), float(rows.std()) / math.sqrt(STARTS)
    best = {nfe: min(LEVELS, key=lambda sigma, nfe=nfe: mean[sigma, nfe]) for nfe in BUDGETS}
    middle = BUDGETS[1]
    because = "a U-shape, 2.5 times as large at its ends; 4.1 and 3.6 were computed independently"
    title = f"NFE {middle}: the error without a jump over the least, which is at σ = {best[middle]:g}"
    part.at_least("no-jump", title, mean[HIGHEST, middle] / mean[best[middle], middle], 2.5, because)
    title = f"NFE {middle}: the error of the lowest jump, to σ = {LEVELS[-1]:g}, over the least"
    part.at_least("too-low", title, mean[LEVELS[-1], middle] / mean[best[middle], middle], 2.5, because)
    for sigma, known in BIAS.items():
        title = f"σ = {sigma:g}: what no number of steps removes (standard error {deviation[sigma]:.2g})"
        room = 0.2 * known + 3 * deviation[sigma]
        because = f"20%, and 3 standard errors of the mean over {STARTS} starts, of which few end in another mode"
        part.equals(
            f"bias-{sigma:g}".replace(".", "-"), title, mean[sigma, 0], known, room, because, source=INDEPENDENT
        )
    small = largest(mean[sigma, 0] for sigma in LEVELS if sigma not in BIAS)
    part.at_most("free", "σ = 10 and above: the same", small, 1e-3, "3e-4 at 10, less above", source=INDEPENDENT)
    curves = [line(LEVELS, [mean[sigma, nfe] for sigma in LEVELS], f"NFE {nfe}") for nfe in BUDGETS]
    limit = [sigma for sigma in LEVELS if sigma < HIGHEST]
    curves.append(line(limit, [mean[sigma, 0] for sigma in limit], "unlimited", style="dashed"))
    part.chart(
        "Error against the level of the jump",
        loglog("", "the jump ends at σ", "RMSE, mean over starts", *curves),
        how_to_read="From the right to the left the jump takes over more of the way. The error falls with what is left "
        "to integrate, until the jump's own error (dashed) takes over.",
    )
    return (
        f"Least at σ = {', '.join(f'{best[nfe]:g} (NFE {nfe})' for nfe in BUDGETS)}: the fewer the evaluations, the "
        f"lower. At NFE {middle} the best jump leaves {mean[best[middle], middle]:.3f} of {mean[HIGHEST, middle]:.3f} "
        f"without one. In the limit a jump to 10 costs {mean[10.0, 0]:.1g}, one to 1 {mean[1.0, 0]:.2g}."
    )


@EXPERIMENT.part("How much of the denoiser does the Gaussian not explain there?")
def unexplained(part: Part) -> str:
    """The centered fraction of unexplained variance at every level, at noised digits."""
    images, gaussian, mixture = digits(part.seed)
    clean = images.repeat(REPEATS, 1)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=part.generator)
    denoiser, shown = ExactDenoiser(mixture, SCHEDULE), torch.logspace(2, -1, 16, dtype=torch.float64).tolist()

    def fraction(sigma: float) -> float:
        found = agreement(denoiser, {"Gaussian": gaussian}, clean + sigma * noise, sigma, mean=gaussian.mean)
        return float(found.pooled("centered"))

    measured = {sigma: fraction(sigma) for sigma in UNEXPLAINED}
    apart = largest_difference([value / UNEXPLAINED[sigma] for sigma, value in measured.items()], 1)
    given = ", ".join(f"{value:.2g} (σ = {sigma:g})" for sigma, value in measured.items())
    because = "8%: 3% for two digits, and clusters that depend on the start of k-means"
    title = f"The largest relative difference from the known fractions; ours are {given}"
    part.at_most("fractions", title, apart, 0.08, because, source=INDEPENDENT)
    roots = gaussian.eigenvalues.sqrt()
    marks = [Rule(float(roots[k]), "x") for k in (0, 3, 15)]
    curve = line(shown, [fraction(sigma) for sigma in shown], "1 Gaussian for 10")
    part.chart(
        "What the single Gaussian does not explain",
        loglog("", "σ", "fraction of D - μ", curve, *marks),
        how_to_read="Vertical lines: standard deviations of the 1st, 4th and 16th principal component of the digits.",
    )
    return (
        f"{measured[20.0]:.1%} at σ = 20 and {measured[5.0]:.0%} at 5, three times the largest standard deviation of "
        f"the digits ({float(roots[0]):.2g}), from where a jump is nearly free."
    )

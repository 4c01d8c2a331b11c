r"""Spectral bias: in which order, and how fast, denoisers learn the components of the data.

Under gradient flow a linear denoiser learns each principal component, of variance :math:`\lambda`, along a closed-form
curve (`theory`). The curves are compared with gradient descent on real modules (`linear_training`): on the digits'
moments, which is full-batch descent on the population, and on real batches. An error is a share of the height of its
curve, the largest value that the curve takes; the bar is 1%. Denoisers of digits are made for noise levels from 0.01 to
10.

A component emerges where its generated variance crosses the geometric mean of start and end. Scaling
:math:`\lambda, \sigma_0^2, \sigma_T^2` together scales the emergence time by the inverse exactly; with the ends of the
noise fixed the exponent differs from -1 by a logarithm.

The nonlinear network is an MLP in EDM preconditioning, trained by AdamW on samples of a Gaussian with a power-law
spectrum; its exponent is measured, not predicted. The untrained denoiser generates the variance :math:`s^2` along every
component (s: `sigma_data`). Far below the spectrum (s = 0.1) all components have to grow; at the standard deviation of
the data, EDM's own choice, the small ones shrink.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206.
"""

import math
from collections.abc import Mapping
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope import theory
from diffuscope.data import load_data
from diffuscope.denoisers import MLP, LinearDenoiser, Preconditioned, SymmetricLinearDenoiser, seeded
from diffuscope.exact import Gaussian
from diffuscope.findings import Line, Panel, line, points
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times
from diffuscope.training import EDMWeight, LogNormalNoise, TrainingSettings, train

from ..experiment import Experiment
from ..part import PIXEL_RANGE, Part, largest_difference, loglog
from .linear_training import descend, gains, gauss_legendre, generated_gains, learning_rates, times_after

LEVELS, LEVEL = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64), 0.5  # LEVEL: shown, and of the real batches
DIGITS_SCHEDULE = VE(0.01, 10.0)
START, STOCHASTIC_START = 0.01, 0.05  # of P P^T; a longer wait lets the noise of batches grow
DIGITS_BATCH, BAR = 4096, 0.01  # BAR: 1% of the height
COMPONENTS, NODES, SIGMA_0, SIGMA_T, GENERATED_START, END = 32, 12, 0.03, 4.0, 0.05, 20.0  # END: training time
SHARE = {"one": 0.015, "two": 0.008}
CLOSED = {"one": theory.one_layer_generated_variance, "two": theory.two_layer_generated_variance}
VARIANCES = torch.logspace(math.log10(4.0), math.log10(0.15), 12, dtype=torch.float64)  # of the network's data
STEPS, BATCH, EXAMPLES, SAMPLES = 450, 128, 8192, 600
NETWORK_SCHEDULE, SMALL_START = VE(0.01, 20.0), 0.1
EXPERIMENT = Experiment(
    name="spectral-bias",
    title="Spectral bias: large variances are learned first",
    question="What does a denoiser learn first, and how long does the rest take?",
    source="Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206",
    seconds=20,
    settings={
        "data": "scikit-learn's digits, 64 pixels in [-1, 1]; their 32 largest variances (generated); 12 variances "
        "from 0.15 to 4 (network)",
        "noise levels": "0.2, 0.5, 1; 0.5 (stochastic); 12 from 0.03 to 4 (generated)",
        "start of two layers": "0.01; 0.05 (stochastic, generated)",
        "batches": "the population's moments; 4,096 digits with fresh noise (stochastic)",
        "training time": "to 20, in steps of 0.015 (one layer) and 0.008 (two) of the time elapsed (generated)",
        "network": "MLP of 96 x 2, 450 steps of 128 of 8,192 examples; 600 samples from σ = 20 to 0.01",
    },
)


@cache
def digits() -> Float[Tensor, "n 64"]:
    """The training half of scikit-learn's digits as vectors in [-1, 1], float64."""
    return load_data("digits").in_range(*PIXEL_RANGE).train.double().flatten(1)


def digits_gaussian() -> Gaussian:
    """Their mean and covariance (with 1/n)."""
    return Gaussian.from_covariance(digits().mean(0), torch.cov(digits().mT, correction=0))


def centered(p: Gaussian) -> Gaussian:
    """The same covariance around 0."""
    return Gaussian(torch.zeros_like(p.mean), p.eigenvectors, p.eigenvalues, p.tail_variance)


@EXPERIMENT.part("Does one layer learn as the closed form says?")
def one_layer(part: Part) -> str:
    """Weights and bias together, on digits that have a mean."""
    p, sigmas = digits_gaussian(), LEVELS.tolist()
    varying = p.eigenvalues > 1e-9  # three pixels are always blank, two more directions are rounding
    vectors, lam = p.eigenvectors[:, varying], p.eigenvalues[varying]
    learnings = [theory.AffineLearning(p, 1, sigma) for sigma in sigmas]
    rates = learning_rates(0.02, 1e-4, 0.9 * min(learning.largest_learning_rate for learning in learnings), 8.0)
    model = LinearDenoiser(DIGITS_SCHEDULE, LEVELS, event_shape=(64,), data_range=PIXEL_RANGE).double()
    zero = theory.AffineMap(torch.zeros(64, 64, dtype=torch.float64), torch.zeros(64, dtype=torch.float64))
    batch, looks, flows = theory.moment_batch(p), [], []
    for step in descend(model, LEVELS, lambda: batch, rates):
        looks.append(gains((model.map_at(sigma)[0] for sigma in sigmas), vectors))
        flows.append(gains((learning.flow(zero, float(rates[:step].sum())).weight for learning in learnings), vectors))
    trained, flow, times = torch.stack(looks), torch.stack(flows), times_after(rates)
    error = largest_error(trained, flow)
    title = "Gradient flow predicts every component's gain at every logged step: the largest error over the height"
    part.at_most("one-layer-flow", title, error, BAR, "1%, our bar; steps of 2% of the elapsed time leave 0.5%")
    without_mean = torch.stack([theory.one_layer_flow(lam, times, 0, alpha=1, sigma=sigma) for sigma in sigmas], 1)
    k = sigmas.index(LEVEL)
    title = "One layer learns the digits, component by component"
    chart_gains(part, title, times, lam, {"one layer": (trained[:, k], flow[:, k])})
    return (
        f"To {error:.1%} of their height, with the mean in the theory; the textbook curve for mean 0 is off by "
        f"{largest_difference(trained, without_mean):.2f} in a gain."
    )


@EXPERIMENT.part("And two layers with shared weights?")
def two_layers(part: Part) -> str:
    """W = P P^T on centered digits: a logistic curve for each component."""
    p, sigmas = centered(digits_gaussian()), LEVELS.tolist()
    rates, lam = learning_rates(0.015, 1e-3, 0.05, 12.0), p.eigenvalues.clamp(min=0)
    model = SymmetricLinearDenoiser(DIGITS_SCHEDULE, LEVELS, mean=p.mean, data_range=PIXEL_RANGE, start=START).double()
    model.factor.data = model.factor.data.sign() * math.sqrt(START)  # exact in float64
    batch, times, looks = theory.moment_batch(p), times_after(rates), []
    for _ in descend(model, LEVELS, lambda: batch, rates):
        looks.append(gains((model.map_at(sigma)[0] for sigma in sigmas), p.eigenvectors))
    trained = torch.stack(looks)
    flow = torch.stack([theory.two_layer_flow(lam, times, START, alpha=1, sigma=sigma) for sigma in sigmas], 1)
    error = largest_error(trained, flow)
    title = "The logistic curve predicts every component's gain at every logged step: the largest error over the height"
    part.at_most("two-layer-flow", title, error, BAR, "1%, our bar")
    k = sigmas.index(LEVEL)
    chart_gains(part, "Two layers wait, then learn at once", times, lam, {"two layers": (trained[:, k], flow[:, k])})
    return f"They follow logistic curves, to {error:.1%}: each component waits for a time ∝ 1/λ, then rises."


@EXPERIMENT.part("And on real batches?")
def stochastic(part: Part) -> str:
    """Real digits in batches, fresh noise: the same curves, in the components above the noise."""
    p, level = centered(digits_gaussian()), torch.tensor([LEVEL], dtype=torch.float64)
    rows, above = (digits() - digits().mean(0)).float(), p.eigenvalues >= LEVEL**2
    vectors, lam = p.eigenvectors[:, above], p.eigenvalues[above]
    rates = learning_rates(0.01, 1e-3, 0.01, 3.0)
    times = times_after(rates)
    one = LinearDenoiser(DIGITS_SCHEDULE, level, event_shape=(64,), data_range=PIXEL_RANGE)
    two = SymmetricLinearDenoiser(DIGITS_SCHEDULE, level, mean=p.mean, data_range=PIXEL_RANGE, start=STOCHASTIC_START)

    def batches() -> tuple[Tensor, Tensor]:
        index = torch.randint(len(rows), (DIGITS_BATCH,), generator=part.generator)
        return rows[index], torch.randn(DIGITS_BATCH, 64, generator=part.generator)

    flows = {
        "one layer": theory.one_layer_flow(lam, times, 0, alpha=1, sigma=LEVEL),
        "two layers": theory.two_layer_flow(lam, times, STOCHASTIC_START, alpha=1, sigma=LEVEL),
    }
    curves = {}
    for model, (name, flow) in zip((one, two), flows.items(), strict=True):
        looks = [gains([model.map_at(LEVEL)[0]], vectors) for _ in descend(model, level, batches, rates)]
        curves[name] = (torch.cat(looks), flow)
    errors = [largest_error(*pair) for pair in curves.values()]
    title = f"Trained on batches, two layers: the largest error of a gain over its height, the {len(lam)} components "
    title += "with λ ≥ σ², every logged step"
    because = f"1%, our bar; batches of {DIGITS_BATCH:,} leave about 0.2% at a time, and the steps 0.4%"
    part.at_most("stochastic-two", title, errors[1], BAR, because)
    chart_gains(part, "Trained on real batches", times, lam, curves)
    return f"Yes: within {errors[0]:.1%} (one layer) and {errors[1]:.1%} (two) at every logged step."


def largest_error(trained: Tensor, closed: Tensor) -> float:
    """As a share of the height of each curve; curves run along the first axis."""
    return float(((trained - closed).abs() / closed.abs().amax(0)).max())


def along_components(times: Tensor, lam: Tensor, trained: Tensor, closed: Tensor | None = None) -> list[Line]:
    """Six components, from the first to the last of `lam`, each beside its closed form."""
    lines = []
    for mode in sorted({round(place) for place in torch.linspace(0, len(lam) - 1, 6).tolist()}):
        lines.append(line(times[1:], trained[1:, mode], f"λ = {float(lam[mode]):.2g}"))
        if closed is not None:
            lines.append(line(times[1:], closed[1:, mode], style="dashed"))
    return lines


def chart_gains(
    part: Part, title: str, times: Tensor, lam: Tensor, curves: Mapping[str, tuple[Tensor, Tensor]]
) -> None:
    """The gains of networks in training, each beside gradient flow, along components of visible variance."""
    panels = []
    for name, pair in curves.items():
        lines = along_components(times, lam[lam > 1e-2], *pair)
        panels.append(Panel(name, "training time (learning rate × steps)", "gain", tuple(lines), x_log=True))
    text = f"Gain of the denoiser at σ = {LEVEL:g} along a principal component of variance λ; dashed: gradient flow."
    part.chart(title, *panels, how_to_read=text, shared_y=True)


@EXPERIMENT.part("What is generated during training, and when do components emerge?")
def generated(part: Part) -> str:
    """Variance curves and emergence times of both networks, on the digits' variances in a random basis."""
    basis = torch.linalg.qr(torch.randn(COMPONENTS, COMPONENTS, dtype=torch.float64, generator=part.generator))[0]
    p = Gaussian(torch.zeros(COMPONENTS, dtype=torch.float64), basis, digits_gaussian().eigenvalues[:COMPONENTS])
    lam, final = p.eigenvalues, theory.learned_variance(p.eigenvalues, sigma_0=SIGMA_0, sigma_T=SIGMA_T)
    curves, emergences, exponents = [], [], []
    for kind, name in {"one": "One layer", "two": "Two layers"}.items():
        times, trained, closed = train_levels(kind, p)
        error = float(((trained - closed).abs() / final).max())
        emerged, predicted = (theory.emergence_times(times, values, final) for values in (trained, closed))
        fit, power = theory.fit_power_law(lam, emerged), theory.fit_power_law(lam, predicted)
        exponents.append(f"{fit.exponent:.3f} ± {fit.interval:.3f} ({name.lower()})")
        title = f"{name}: the generated variance is the closed form at every logged step; largest error over the "
        title += "variance learned in the end"
        because = "1%, our bar; steps are a small share of the elapsed time"
        part.at_most(f"generated-{kind}", title, error, 0.01, because)
        title = f"{name}: the exponent of emergence time against variance is close to -1"
        because = "logarithmic corrections of the finite range of noise, computed in closed form: 0.03 and 0.01"
        part.equals(f"inverse-{kind}", title, fit.exponent, -1.0, 0.05, because)
        lines = along_components(times, lam, trained, closed)
        curves.append(loglog(name, "training time", "generated variance", *lines))
        power_law = line(lam, power(lam), f"λ^{power.exponent:.2f}", style="dashed")
        marks = (points(lam, emerged, "trained"), line(lam, predicted, "closed form"), power_law)
        emergences.append(loglog(name, "variance λ", "emergence time", *marks))
    text = "Variance along a component, started from pure noise; dashed: the closed form."
    part.chart("What is generated during training", *curves, how_to_read=text, shared_y=True)
    text = "The time at which the generated variance is halfway to its final value, in logarithms."
    part.chart("Emergence against variance", *emergences, how_to_read=text, shared_y=True)
    return f"Large variances first, as about 1/λ: the exponents are {', '.join(exponents)}."


def train_levels(kind: str, p: Gaussian) -> tuple[Tensor, Tensor, Tensor]:
    """Full-batch descent at all nodes, with one layer or two: times, and the generated variances beside the theory."""
    (levels, weights), schedule = gauss_legendre(NODES, SIGMA_0, SIGMA_T), VE(SIGMA_0, SIGMA_T)
    models = {
        "one": LinearDenoiser(
            schedule, levels, event_shape=(COMPONENTS,), data_range=PIXEL_RANGE, start=GENERATED_START
        ),
        "two": SymmetricLinearDenoiser(schedule, levels, mean=p.mean, data_range=PIXEL_RANGE, start=GENERATED_START),
    }
    model = models[kind].double()
    rates, batch = learning_rates(SHARE[kind], 1e-3, 0.05, END), theory.moment_batch(p)
    steps, times = descend(model, levels, lambda: batch, rates), times_after(rates)
    trained = torch.stack([SIGMA_T**2 * generated_gains(model, levels, weights, p.eigenvectors) for _ in steps])
    return times, trained, CLOSED[kind](p.eigenvalues, times, GENERATED_START, sigma_0=SIGMA_0, sigma_T=SIGMA_T)


@EXPERIMENT.part("How much of this holds for a nonlinear network?")
def network(part: Part) -> str:
    """Exponents of an MLP from two starts; a component counts where it emerged within the training."""
    final = theory.learned_variance(VARIANCES, sigma_0=NETWORK_SCHEDULE.t_min, sigma_T=NETWORK_SCHEDULE.t_max)
    fits, panels, marks = [], [], []
    for title, sigma_data in {"all components grow": SMALL_START, "EDM's start": None}.items():
        steps, curves = train_network(sigma_data, part.generator)
        emerged = theory.emergence_times(steps, curves, final)
        there = emerged.isfinite()
        fit = theory.PowerLaw(math.nan, math.nan, math.nan, int(there.sum()))
        fits.append(theory.fit_power_law(VARIANCES, emerged) if fit.count >= 3 else fit)
        panels.append(loglog(title, "training step", "generated variance", *along_components(steps, VARIANCES, curves)))
        label = f"λ^{fits[-1].exponent:.2f} ± {fits[-1].interval:.2f}"
        marks.append(points(VARIANCES[there], emerged[there], title))
        marks.append(line(VARIANCES, fits[-1](VARIANCES), label, style="dashed"))
    grown, inside = fits
    title = "An MLP whose components all have to grow, and did, learns large variances first: the upper end of the "
    title += "exponent's 95% interval"
    upper = grown.exponent + grown.interval if grown.count == len(VARIANCES) else math.nan
    because = "an interval that reaches 0 would show no order; no number unless every component emerged"
    part.at_most("network-order", title, upper, 0.0, because)
    text = "Variance of its samples along six components."
    part.chart("A small MLP in training", *panels, how_to_read=text, shared_y=True)
    text = "One point per component; dashed: the fitted power law."
    part.chart("Its emergence times", loglog("", "variance λ", "step", *marks), how_to_read=text)
    return (
        f"Only the order: exponent {grown.exponent:.2f} ± {grown.interval:.2f} if all components grow, "
        f"{inside.exponent:.2f} ± {inside.interval:.2f} from EDM's start. Published for Gaussian data: -1.05 to -1.13, "
        "with a larger network and longer training, which this does not reproduce."
    )


def train_network(sigma_data: float | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Train with `sigma_data` (None: the standard deviation of the data); steps, and the variances of its samples."""
    d = len(VARIANCES)
    noise = torch.randn(d, d, dtype=torch.float64, generator=generator)
    p = Gaussian(torch.zeros(d), torch.linalg.qr(noise)[0], VARIANCES)
    data = p.sample(EXAMPLES, generator=generator).float()
    seed = int(torch.randint(2**31, (), generator=generator))
    scale = sigma_data or float(data.std())
    with seeded(seed):
        mlp = MLP((d,), width=96, depth=2)
    model = Preconditioned(mlp, NETWORK_SCHEDULE, scale, event_shape=(d,), data_range=PIXEL_RANGE)
    levels, weight = LogNormalNoise(math.log(scale), 1.8), EDMWeight(scale)
    settings = TrainingSettings(
        steps=STEPS, batch_size=BATCH, warmup_steps=0, final_fraction=1.0, noise=levels, weight=weight, seed=seed
    )
    starts = NETWORK_SCHEDULE.t_max * torch.randn(SAMPLES, d, generator=generator)
    times = karras_times(NETWORK_SCHEDULE, NETWORK_SCHEDULE.t_max, NETWORK_SCHEDULE.t_min, 14)

    def variances() -> Tensor:
        return (sample(DPMSolverPP2M(), model, starts, times).double() @ p.eigenvectors).square().mean(0)

    logged = {round(step) for step in torch.logspace(0, math.log10(STEPS), 24).tolist()}
    steps, curves = [0.0], [variances()]
    for progress in train(model, data, settings, checkpoint=None):
        if progress.step in logged:
            steps.append(float(progress.step))
            curves.append(variances())
    return torch.tensor(steps, dtype=torch.float64), torch.stack(curves)

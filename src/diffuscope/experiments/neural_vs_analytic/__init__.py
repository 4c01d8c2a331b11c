r"""What a trained network's score is made of: a Gaussian at high noise, a mixture below, the examples never quite.

Every candidate (`theory.candidates`) is compared with the network by the fraction of its output that it leaves
unexplained (`theory.network_agreement`),

.. math::  \Big\langle \frac{|a - a_m|^2}{|a|^2} \Big\rangle, \qquad a = s \ \text{or}\ D - \mu ,

along the noise level, along training, along the sampling trajectory, and over mixtures of K Gaussians of rank r. A
small network is trained on digits here; networks on MNIST can be brought.

Along training the Gaussian's residual is not monotone: the network first learns the linear part and passes by the
Gaussian, while its distance from the empirical denoiser still falls. The turning point and its p-values are those of
`findings.turning_point`; `learning-curve` studies it with a measure that is meaningful at both ends of the noise.

On digits claims are made at the levels 2 and 1, the training is followed at 0.3, 1 and 3, and mixtures have K = 1, 2,
5, 10, 20 or 50 components of rank 0, 4, 8, 16, 32 or 64 at 0.1, 0.3 and 1; candidates have K = 5 and 20. On MNIST
claims are at 5 and 2, training at 0.3, 1, 2 and 4, K = 1, 5, 10 or 20 and ranks 0, 8, 32, 128 or 512 at 0.2, 0.5 and 1.
A turning point is significant at the level 0.01, a lead from four standard errors on.

Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726. Its networks are others, so that orders and bounds carry
over, not digits: more than 99% of the score explained by the Gaussian from sigma = 1.5 (CIFAR-10) or 5 (MNIST) on;
residuals of the isotropic Gaussian over those of the Gaussian 11 at sigma = 1 and 2, 16 at 5; the squared distance of
samples to the network's 0.0130 (Gaussian) and 0.0473 (empirical).
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.findings import largest, turning_point
from diffuscope.streams import torch_stream
from diffuscope.theory import analytic_candidates
from diffuscope.training import new_denoiser, recipe, show_progress, train

from ..brought_networks import NETWORKS, brought, data_range
from ..experiment import Experiment
from ..learning_curve import CHECKPOINTS, checkpoints
from ..part import PIXEL_RANGE, Part, drawn
from . import published
from .figures import map_chart, noise_charts, training_chart, trajectory_chart
from .measures import Compared, along, as_gaussian, mapped, measured, noised

STEPS, BATCH, LOOKS = 1200, 128, 16
POINTS, COMPONENTS = 384, (5, 20)
GRID, EVERY, LOW = 40, 4, 0.03  # steps of a trajectory; of its times every fourth is a level; the lowest
FAR, MIDDLE = 2.0, 1.0  # levels of claims on digits, whose largest standard deviation is 1.7
TRAINING_LEVELS = (0.3, 1.0, 3.0)
MAP_COMPONENTS, MAP_RANKS, MAP_LEVELS = (1, 2, 5, 10, 20, 50), (0, 4, 8, 16, 32, 64), (0.1, 0.3, 1.0)
MNIST_FAR, MNIST_MIDDLE, MNIST_LEVELS = 5.0, 2.0, (0.3, 1.0, 2.0, 4.0)
MNIST_COMPONENTS, MNIST_RANKS, MNIST_MAP_LEVELS = (1, 5, 10, 20), (0, 8, 32, 128, 512), (0.2, 0.5, 1.0)
SIGNIFICANCE, STANDARD_ERRORS = 0.01, 4
OURS = "the source's networks are others, so that this is a requirement"
EXPERIMENT = Experiment(
    name="neural-vs-analytic",
    title="Neural against analytic scores",
    question="Which analytic denoiser is a trained network closest to, and where?",
    source="Wang & Vastola 2024, https://arxiv.org/abs/2412.09726",
    seconds=60,
    settings={
        "digits": "scikit-learn's, 899 to train, pixels in [-1, 1]; MLP of 256 x 3, 1,200 steps of 128 examples, "
        "looked at after the first and 16 times from the 10th on",
        "points": f"384 of each set (digits), {published.POINTS} (MNIST)",
        "mixtures": "clusters by k-means, no EM, ridge 1e-5; the variance beyond the rank is kept",
        "trajectories": "Heun, 40 steps to σ = 0.03, every 4th a level (digits); 16 to 0.1, every 2nd (MNIST)",
        "MNIST": f"networks brought by {NETWORKS}, checkpoints by {CHECKPOINTS}",
    },
    notes=(
        f"The parts on MNIST need the data set and networks trained on it. {NETWORKS} names denoisers, as "
        f"module:object with commas between, and {CHECKPOINTS} a function that returns denoisers by their number of "
        "epochs trained; published_networks of docs/examples has both. Without them a part says so and claims nothing. "
        "Every network takes minutes more.",
    ),
)


@cache
def digit_vectors() -> dict[str, Float[Tensor, "_ D"]]:
    """Held-out and training digits as vectors in [-1, 1]."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    return {"held-out": data.heldout.flatten(1), "training": data.train.flatten(1)}


@cache
def trained(seed: int) -> dict[int, Denoiser]:
    """The network on digits at steps equally spaced in logarithm, the last at the end; shows the progress."""
    examples = digit_vectors()["training"]
    model = new_denoiser(examples, PIXEL_RANGE, seed)
    settings = recipe(float(examples.std()), steps=STEPS, batch_size=BATCH, seed=seed)
    logged = {1, *(round(step) for step in torch.logspace(1, math.log10(STEPS), LOOKS).tolist())}
    training = show_progress(train(model, examples, settings, checkpoint=None), "digits")
    return {progress.step: deepcopy(model).eval() for progress in training if progress.step in logged}


@cache
def digit_candidates(seed: int) -> dict[str, Distribution]:
    """The analytic denoisers of the training digits."""
    generator = torch_stream(seed, "neural-vs-analytic", "k-means")
    return analytic_candidates(digit_vectors()["training"], COMPONENTS, generator=generator)


@cache
def digits_compared(seed: int) -> Compared:
    """The network at the end of its training at all levels, and along its trajectories."""
    generator, network = torch_stream(seed, "neural-vs-analytic", "points"), trained(seed)[STEPS]
    sets = {name: drawn(rows, POINTS, generator) for name, rows in digit_vectors().items()}
    known = digit_candidates(seed)
    return measured(network, known, sets, unit=1.0, steps=GRID, every=EVERY, low=LOW, generator=generator)


@EXPERIMENT.part("Along the noise level: where is a network linear?")
def noise(part: Part) -> str:
    """Residuals of every candidate at every level, on three sets of points."""
    result = digits_compared(part.seed)
    far, middle, low = result.nearest(FAR), result.nearest(MIDDLE), result.nearest(LOW)
    level = float(result.levels[far])
    gaussian, isotropic = (float(result.fraction(name, "score")[far]) for name in ("Gaussian", "isotropic"))
    title = f"Held-out digits, σ = {level:.2g}: the share of the score that the Gaussian leaves unexplained"
    because = "more than 99% is explained above the largest standard deviation of the data"
    part.at_most("far", title, gaussian, 0.01, because)
    title = f"Held-out digits, σ = {level:.2g}: the residual of the isotropic Gaussian over that of the Gaussian"
    part.at_least("covariance", title, isotropic / gaussian, 3.0, f"11 on CIFAR-10, 3 here; {OURS}")
    part.charts.extend(noise_charts("Digits", result))
    at = {name: result.fraction(name, "centered") for name in result.candidates if name != "mean"}
    nearest = min(at, key=lambda name: float(at[name][middle]))
    known = result.fraction("empirical", "centered", "training")
    return (
        f"From σ = {level:.2g} on a Gaussian explains all but {gaussian:.2%} of the score. At "
        f"{float(result.levels[middle]):.2g} the closest candidate ({nearest}) leaves {float(at[nearest][middle]):.1%} "
        f"of D - μ unexplained, the Gaussian {float(at['Gaussian'][middle]):.1%}. At {float(result.levels[low]):.2g} "
        f"the empirical denoiser leaves {float(at['empirical'][low]):.0%} at held-out points, "
        f"{float(known[low]):.1%} at training points, next to the examples it knows."
    )


@EXPERIMENT.part("Along training: linear first?")
def training(part: Part) -> str:
    """Score residuals at every logged step."""
    networks = trained(part.seed)
    clean = drawn(digit_vectors()["held-out"], POINTS, part.generator)
    points = noised(networks[STEPS], clean, TRAINING_LEVELS, 1.0, part.generator)
    residuals = along(networks, digit_candidates(part.seed), points)
    middle, steps = residuals[MIDDLE], list(networks)
    claim_turning(part, "Held-out digits", MIDDLE, middle["Gaussian"], steps, "step")
    turn = int(middle["Gaussian"].mean(0).argmin())
    fall = middle["empirical"][:, turn] - middle["empirical"][:, -1]
    lead = float(fall.mean() / (fall.std() / math.sqrt(len(fall))))
    title = f"Held-out digits, σ = {MIDDLE:g}: by how much the empirical residual is lower in the end than at that step"
    because = f"{STANDARD_ERRORS} paired standard errors: only the distance from the Gaussian grows"
    part.at_least("empirical", title, lead, STANDARD_ERRORS, because, unit="standard errors")
    part.charts.append(training_chart("Digits, held-out points", residuals, steps, "training step"))
    least, last = (float(middle["Gaussian"][:, place].mean()) for place in (turn, -1))
    return (
        f"At σ = {MIDDLE:g} the Gaussian leaves least of the score unexplained at step {steps[turn]}, {least:.2%}, and "
        f"{last:.2%} in the end; the empirical denoiser {float(middle['empirical'][:, turn].mean()):.2%} and then "
        f"{float(middle['empirical'][:, -1].mean()):.2%}. This is one training run."
    )


def claim_turning(
    part: Part, data: str, level: float, residuals: Float[Tensor, "n steps"], steps: Sequence[int], unit: str
) -> None:
    """Claim that the Gaussian's residual falls and rises again."""
    turn = turning_point(residuals.numpy(), np.asarray(steps), part.rng, significance=SIGNIFICANCE)
    title = f"{data}, σ = {level:g}: the Gaussian's residual is least at {unit} {turn.step:g} ({turn.interval[0]:g} to "
    title += f"{turn.interval[1]:g}), {turn.rise:.0%} higher in the end; the larger p-value of 'no fall' and 'no rise'"
    because = f"a rise of {turn.smallest_rise:.0%} would have been found"
    part.at_most(f"{part.name}-turns", title, max(turn.p_fall, turn.p_rise), SIGNIFICANCE, because)


@EXPERIMENT.part("Along the trajectory: whose samples are nearest?")
def trajectory(part: Part) -> str:
    """Distances of states and outputs from the same starts."""
    result = digits_compared(part.seed)
    end = {name: float(result.gaps.state_quartiles(name)[1, -1]) for name in result.candidates if name != "mean"}
    title = "The end of the trajectory: median squared distance of the empirical denoiser's sample over the Gaussian's"
    part.at_least(
        "samples", title, end["empirical"] / end["Gaussian"], 1.5, f"3.6 (of means) on CIFAR-10, 1.5 here; {OURS}"
    )
    part.charts.append(trajectory_chart("Digits", result, list(end)))
    ordered = ", ".join(f"{name} {end[name]:.3f}" for name in sorted(end, key=lambda name: end[name]))
    return f"Median squared distance per pixel of the samples from the network's: {ordered}."


@EXPERIMENT.part("How many Gaussians, of which rank?")
def mixtures(part: Part) -> str:
    """Maps over K and rank at three levels."""
    sets, network = digit_vectors(), trained(part.seed)[STEPS]
    clean = drawn(sets["held-out"], POINTS, part.generator)
    points = noised(network, clean, MAP_LEVELS, 1.0, part.generator)
    mean = as_gaussian(digit_candidates(part.seed)).mean
    tables = mapped(network, sets["training"], points, mean, MAP_COMPONENTS, MAP_RANKS, part.generator)
    part.charts.append(map_chart("Digits", MAP_LEVELS, tables, MAP_COMPONENTS, MAP_RANKS))
    middle = tables[MAP_LEVELS.index(MIDDLE)]
    K, rank = divmod(int(middle.argmin()), len(MAP_RANKS))
    title = f"Held-out digits, σ = {MIDDLE:g}: the least residual of a mixture over that of one Gaussian of full rank"
    part.at_most("several", title, float(middle.min() / middle[0, -1]), 0.9, f"a tenth below, 0.9; {OURS}")
    return (
        f"At σ = {MIDDLE:g} the closest has K = {MAP_COMPONENTS[K]} and rank {MAP_RANKS[rank]}: "
        f"{float(middle.min()):.2%} of the score unexplained, {float(middle[0, -1]):.2%} with one Gaussian and "
        f"{float(middle[-1, -1]):.2%} with {MAP_COMPONENTS[-1]}, which have seen few digits each."
    )


@EXPERIMENT.part("Do published networks on MNIST agree?")
def published_networks(part: Part) -> str:
    """Residuals and trajectories of every network that is brought, and a map of the first; or the reason."""
    try:
        networks = brought()
        known = {name: published.mnist(data_range(network)) for name, network in networks.items()}
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    found = {name: published.compared(network, part.seed, part.generator) for name, network in networks.items()}
    far, told = [], []
    for name, result in found.items():
        score, places = result.fraction("Gaussian", "score"), (result.nearest(MNIST_FAR), result.nearest(MNIST_MIDDLE))
        far.append(float(score[places[0]]))
        told += [f"{name} {float(score[k]):.2g} at σ = {float(result.levels[k]):.2g}" for k in places]
        part.charts.extend(noise_charts(name, result))
        part.charts.append(trajectory_chart(name, result, [n for n in result.candidates if n != "mean"]))
    title = f"MNIST, held-out points, the level nearest to σ = {MNIST_FAR:g}: the share of the score that the Gaussian "
    title += f"leaves unexplained, the largest of {len(far)}"
    part.at_most("mnist-far", title, largest(far), 0.01, "more than 99% is explained from σ = 5 on")
    name, network = next(iter(networks.items()))
    unit, data = found[name].unit, known[name]
    clean = drawn(data.heldout, published.POINTS, part.generator)
    points = noised(network, clean, MNIST_MAP_LEVELS, unit, part.generator)
    mean = found[name].gaussian.mean
    tables = mapped(network, data.train, points, mean, MNIST_COMPONENTS, MNIST_RANKS, part.generator)
    part.charts.append(map_chart(name, MNIST_MAP_LEVELS, tables, MNIST_COMPONENTS, MNIST_RANKS))
    return f"The share of the score that the Gaussian leaves unexplained at held-out points: {'; '.join(told)}."


@EXPERIMENT.part("And along the training of a published one?")
def published_training(part: Part) -> str:
    """Score residuals along checkpoints; without checkpoints the reason, and no claims."""
    try:
        stages, data = checkpoints()
        span = data_range(next(iter(stages.values())))
        known: Mapping[str, Distribution] = published.candidates(span, part.seed)
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    clean, unit = drawn(data.heldout, published.POINTS, part.generator), (span[1] - span[0]) / 2
    points = noised(next(iter(stages.values())), clean, MNIST_LEVELS, unit, part.generator)
    residuals, epochs = along(stages, known, points), list(stages)
    claim_turning(part, "MNIST", MNIST_MIDDLE, residuals[MNIST_MIDDLE]["Gaussian"], epochs, "epoch")
    part.charts.append(training_chart("MNIST, held-out points", residuals, epochs, "epochs"))
    least = {level: epochs[int(models["Gaussian"].mean(0).argmin())] for level, models in residuals.items()}
    where = ", ".join(f"{epoch} (σ = {level:g})" for level, epoch in least.items())
    return f"The Gaussian's residual is least at epoch {where}, of {epochs[-1]}. This is one training run."

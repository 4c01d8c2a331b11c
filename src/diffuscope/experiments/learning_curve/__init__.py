r"""The learning curve: a network first approaches the Gaussian score, and then departs from it.

The residual of the Gaussian falls and then rises while a network is trained; `residuals` defines it, and
`findings.turning_point` finds its minimum with an interval. Three curves are measured: that of denoisers whose turning
point is known (`made_denoisers`), of a small network on digits from its first step, and of checkpoints of a published
convolutional network on MNIST, which the environment variable DIFFUSCOPE_CHECKPOINTS provides.

The network on digits starts as the exact denoiser of an isotropic Gaussian (EDM preconditioning with a last layer of
zeros). The curve is that of the network itself, not of the average of its weights, which lags behind. The first
checkpoint on MNIST was saved after one epoch: if the Gaussian residual only rises from there, its minimum was at or
before that epoch. Claims are made at the noise 1 (digits) and 2 (MNIST), where a lead counts from four standard errors
on.

Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726.
"""

import math
import os
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch

from diffuscope.audit import fit_references
from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.findings import Line, Panel, TurningPoint, area, bootstrap_sums, line, percentile_interval, points
from diffuscope.progress import progress_bar
from diffuscope.training import new_denoiser, recipe, show_progress, train

from ..experiment import Experiment
from ..part import PIXEL_RANGE, Part
from .made_denoisers import LEVEL, PLATEAU, POINTS, TURNING, MadeDenoisers, detect
from .made_denoisers import STEPS as MADE_STEPS
from .residuals import SIGNIFICANCE, Curves, standard_deviation, watch

REPETITIONS = 150  # of the made denoisers
COMPONENTS = 10  # of the mixture
STEPS, BATCH, LOOKS = 1500, 128, 24  # of the training on digits
DIGITS_POINTS, DIGITS_NOISE = 512, (0.1, 0.3, 1.0, 3.0)  # noise in standard deviations of the data
MNIST_POINTS, MNIST_NOISE = 256, (0.5, 2.0, 4.0, 8.0)
MNIST_TRAINING = 60_000
DIGITS_MIDDLE, MNIST_MIDDLE = 1.0, 2.0  # where the claims are made
STANDARD_ERRORS = 4  # of a lead: exceeded by chance once in 16,000
CHECKPOINTS = "DIFFUSCOPE_CHECKPOINTS"
EXPERIMENT = Experiment(
    name="learning-curve",
    title="Linear first: networks pass by the Gaussian score",
    question="Does a network approach the Gaussian score and then depart from it, and when?",
    source="Wang & Vastola 2024, https://arxiv.org/abs/2412.09726",
    seconds=45,
    settings={
        "noise": "in standard deviations of the data: 0.1, 0.3, 1, 3 (digits), 0.5, 2, 4, 8 (MNIST)",
        "digits": "scikit-learn's, 899 to train and 512 held out; MLP of 256 x 3, 1,500 steps of 128 examples, looked "
        "at after the first and 24 times from the 10th on",
        "MNIST": f"checkpoints of one training, brought by {CHECKPOINTS}; 60,000 training and 256 test images",
        "mixture": "10 components by k-means, no EM",
        "made denoisers": "150 repetitions",
    },
    notes=(
        f"The part on MNIST needs the data set and checkpoints of a network trained on it. {CHECKPOINTS} names, as "
        "module:function, a function without arguments that returns denoisers by the number of epochs they were "
        "trained for. For mnist_ddpm_cnn_trajectory_hughes_run1 it is published_networks.noise_cnn:checkpoints, of "
        "docs/examples. Without them the part says so and claims nothing.",
    ),
)


@cache
def digit_vectors() -> Mapping[str, torch.Tensor]:
    """Held-out and training digits as vectors in [-1, 1]."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    return {"held-out": data.heldout.flatten(1), "training": data.train.flatten(1)}


@EXPERIMENT.part("Is a turning point found where there is one, and only there?")
def known(part: Part) -> str:
    """Coverage of the interval, and false alarms, on denoisers whose residual is known."""
    digits = digit_vectors()
    made = MadeDenoisers(digits["training"], digits["held-out"], COMPONENTS, part.generator)
    rng, truth = part.rng, float(MADE_STEPS[TURNING.argmin()])
    pools = {"it turns": made.residuals(TURNING), "a plateau": made.residuals(PLATEAU)}
    turning, plateau = (detect(pool, rng, REPETITIONS) for pool in pools.values())
    covered = float(np.mean([truth in turn.kept for turn in turning]))  # the interval, a look wider, cannot miss
    alarms = float(np.mean([turn.p_rise <= LEVEL for turn in plateau]))
    error = 4 * math.sqrt(LEVEL * (1 - LEVEL) / REPETITIONS)
    because = f"4 standard errors of {REPETITIONS} repetitions with {POINTS} points"
    title = f"Made denoisers turn at {truth:.0f}: the share of repetitions that keep this step at 95% confidence, "
    title += "before the interval is widened by a look on either side"
    part.at_least("covers", title, covered, 0.95 - error, because, source="derived")
    title = f"Where the residual falls to a plateau, a rise is found at level {LEVEL:g} no more often than that"
    part.at_most("false-alarms", title, alarms, LEVEL + error, because, source="derived")
    part.chart(
        "Curves that are known exactly",
        *(
            residual_panel(
                title, "time", [line(MADE_STEPS.tolist(), pool.mean(0).tolist(), "exact")], turn, (0.25, 3.0)
            )
            for (title, pool), turn in zip(pools.items(), (turning[0], plateau[0]), strict=True)
        ),
        how_to_read=f"Residual of the Gaussian. The point and the shaded interval are estimates from {POINTS} points.",
        shared_y=True,
    )
    return (
        f"Yes. The true step is {truth:.0f}; it is among those kept in {covered:.0%} of {REPETITIONS} repetitions. On "
        f"a curve that falls to a plateau a rise is found in {alarms:.0%}, at level {LEVEL:.0%}."
    )


@EXPERIMENT.part("Does a network on digits learn the linear part first?")
def digits(part: Part) -> str:
    """Turning points of the Gaussian residual of a network in training, at held-out and at training digits."""
    curves, rng = watch_digits(part), part.rng
    turns = {name: [curve.turning(rng) for curve in curves[name]] for name in curves}
    place = DIGITS_NOISE.index(DIGITS_MIDDLE)
    middle, turn = curves["held-out"][place], turns["held-out"][place]
    claim_linear_first(part, "Digits", "step", middle, turn, turn.step)
    published = middle.published_turning(rng)
    for name in curves:
        part.chart(
            f"Digits, {name} points",
            *small_multiples(curves[name], turns[name], "training step", (10.0, float(STEPS)), (0.03, 12.0)),
            how_to_read="Distance from each exact model against the training step; noise in standard deviations of "
            "the data. Bands: 95% over the points. Shaded: the interval of the step where the Gaussian residual is "
            "least. At low noise the empirical model is off the scale.",
            shared_y=True,
        )
    return (
        "Yes, linear first. The Gaussian residual at held-out points: "
        f"{verdicts(curves['held-out'], turns['held-out'])}. At noise {middle.ratio:g}, its published form is least at "
        f"step {published.step:g} and {published.rise:.0%} higher in the end, where the mixture is closer. This is one "
        "training run: the intervals account for the choice of points, not for the variation between runs."
    )


def watch_digits(part: Part) -> dict[str, list[Curves]]:
    """Train a network, and look at it at steps equally spaced in logarithm."""
    data = digit_vectors()
    examples, scale = data["training"], standard_deviation(data["training"])
    references = fit_references(examples, data["held-out"], COMPONENTS, part.generator)
    model = new_denoiser(examples, PIXEL_RANGE, part.seed)
    settings = recipe(float(examples.std()), steps=STEPS, batch_size=BATCH, seed=part.seed)
    logged = {1, *(round(step) for step in torch.logspace(1, math.log10(STEPS), LOOKS).tolist())}
    training = show_progress(train(model, examples, settings, checkpoint=None), "digits")
    networks = ((progress.step, model) for progress in training if progress.step in logged)
    times = {ratio: ratio * scale for ratio in DIGITS_NOISE}
    return watch(networks, model.schedule, references, times, data, DIGITS_POINTS, part.generator)


@EXPERIMENT.part("Does a published network on MNIST do so too?")
def mnist(part: Part) -> str:
    """Turning points along the checkpoints; without checkpoints the reason, and no claims."""
    try:
        networks, data = checkpoints()
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    curves, rng = watch_mnist(networks, data, part.generator), part.rng
    turns = {name: [curve.turning(rng) for curve in curves[name]] for name in curves}
    place, epochs = MNIST_NOISE.index(MNIST_MIDDLE), list(networks)
    middle = curves["held-out"][place]
    claim_linear_first(part, "MNIST", "epoch", middle, turns["held-out"][place], epochs[0])
    nearer = [epoch for epoch in epochs if middle.lead("mixture", "Gaussian", epoch) > STANDARD_ERRORS]
    overtaken = f"from epoch {nearer[0]} on" if nearer else "at no checkpoint"
    for name in curves:
        part.chart(
            f"MNIST checkpoints, {name} points",
            *small_multiples(curves[name], turns[name], "epochs", (0.8 * epochs[0], 1.25 * epochs[-1]), (0.08, 8.0)),
            how_to_read="Distance from each exact model against the epochs trained; noise in standard deviations of "
            "the data. Bands: 95% over the points. Shaded: the interval of the epoch where the Gaussian residual is "
            "least.",
            shared_y=True,
        )
    return (
        f"Yes, at middle noise. The Gaussian residual at held-out points, against epochs: "
        f"{verdicts(curves['held-out'], turns['held-out'])}. At noise {middle.ratio:g} the mixture is closer "
        f"{overtaken}. These are {len(epochs)} checkpoints of one training run: the intervals account for the choice "
        "of points, and differences of a few percent between neighboring checkpoints may be chance."
    )


def checkpoints() -> tuple[dict[int, Denoiser], DataSet]:
    """The networks that DIFFUSCOPE_CHECKPOINTS brings, by epochs trained, and MNIST in their range.

    Raises InputError where it names no such function, and where the function or MNIST lacks a file.
    """
    spec = os.environ.get(CHECKPOINTS)
    expected = "expected a function that returns at least three denoisers, by their number of epochs trained on MNIST"
    if not spec:
        raise InputError(f"{CHECKPOINTS}: it is not set; {expected}, as module:function")
    make = load_object(spec, CHECKPOINTS)
    networks = make() if callable(make) else make
    if not isinstance(networks, Mapping) or len(networks) < 3:
        raise InputError(f"{CHECKPOINTS}: {expected}, got {spec}")
    for epoch, network in networks.items():
        if not (isinstance(epoch, int) and epoch > 0):
            raise InputError(f"{CHECKPOINTS}: {expected}, which are whole numbers from 1 on, got {epoch!r}")
        if not isinstance(network, Denoiser):
            raise InputError(f"{CHECKPOINTS}: {expected}, got a {type(network).__name__} for {epoch!r}")
    data_range = getattr(next(iter(networks.values())), "data_range", PIXEL_RANGE)
    return dict(sorted(networks.items())), load_data("mnist").in_range(*data_range)


def watch_mnist(networks: Mapping[int, Denoiser], data: DataSet, generator: torch.Generator) -> dict[str, list[Curves]]:
    """Look at every checkpoint, at the noise levels that the network knows nearest to MNIST_NOISE."""
    examples, first = data.train[:MNIST_TRAINING], next(iter(networks.values()))
    references = fit_references(examples, data.heldout[:MNIST_POINTS], COMPONENTS, generator)
    ratios = torch.tensor(MNIST_NOISE, dtype=torch.float64) * standard_deviation(examples)
    known = nearest_trained_time(first, first.schedule.time_of_noise_to_signal(ratios)).tolist()
    times, sets = dict(zip(MNIST_NOISE, known, strict=True)), {"held-out": data.heldout, "training": examples}
    shown = progress_bar(networks.items(), desc="checkpoints", unit="network", leave=False)
    return watch(shown, first.schedule, references, times, sets, MNIST_POINTS, generator)


def claim_linear_first(part: Part, data: str, unit: str, curve: Curves, turn: TurningPoint, early: float | int) -> None:
    """Claim that the residual turns, and that the Gaussian is nearer than the mixture `early` and farther in the end.

    The turning point has the p-values of 'it never fell' and 'it does not rise', at a level corrected for the noise
    levels; the two leads are in paired standard errors.
    """
    levels = len(DIGITS_NOISE if part.name == "digits" else MNIST_NOISE)
    low, high = turn.interval
    where = f"{data}, noise {curve.ratio:g}"
    part.at_most(
        f"{part.name}-middle",
        f"{where}: the Gaussian residual turns, least at {unit} {turn.step:g} ({low:g} to {high:g}) and "
        f"{turn.rise:.0%} higher in the end; the larger p-value of 'no fall' and 'no rise'",
        max(turn.p_fall, turn.p_rise),
        SIGNIFICANCE / levels,
        f"level {SIGNIFICANCE:g} over {levels} noise levels; a rise of {turn.smallest_rise:.0%} would have been found",
    )
    because, unit_of_leads = f"{STANDARD_ERRORS} paired standard errors", "standard errors"
    title = f"{where}, {unit} {early:g}: by how much the Gaussian is closer than the mixture"
    lead = curve.lead("Gaussian", "mixture", early)
    part.at_least(f"{part.name}-linear-first", title, lead, STANDARD_ERRORS, because, unit=unit_of_leads)
    title = f"{where}, {unit} {curve.steps[-1]}, the end: by how much the mixture is closer"
    lead = curve.lead("mixture", "Gaussian", curve.steps[-1])
    part.at_least(f"{part.name}-mixture-later", title, lead, STANDARD_ERRORS, because, unit=unit_of_leads)


def verdicts(curves: Sequence[Curves], turns: Sequence[TurningPoint]) -> str:
    """What was found at every noise level."""
    return "; ".join(f"noise {curve.ratio:g}: {turn.verdict}" for curve, turn in zip(curves, turns, strict=True))


def small_multiples(
    curves: Sequence[Curves],
    turns: Sequence[TurningPoint],
    x_label: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> list[Panel]:
    """A panel per noise level: the residual of every exact model, with bands over the points."""
    panels = []
    for curve, turn in zip(curves, turns, strict=True):
        lines = []
        for model, values in curve.residuals.items():
            low, high = percentile_interval(bootstrap_sums(values, np.random.default_rng(0)))
            lines.append(line(curve.steps, values.mean(0).tolist(), model, low=low.tolist(), high=high.tolist()))
        panels.append(residual_panel(f"noise {curve.ratio:g}", x_label, lines, turn, y_range, x_range))
    return panels


def residual_panel(
    title: str,
    x_label: str,
    lines: Sequence[Line],
    turn: TurningPoint,
    y_range: tuple[float, float],
    x_range: tuple[float, float] | None = None,
) -> Panel:
    """Lines, and the least residual of the Gaussian with its interval shaded where it turns."""
    marks = [*lines, points([turn.step], [turn.least], "least, Gaussian")]
    if turn.found:
        marks.append(area(turn.interval, (y_range[0],) * 2, (y_range[1],) * 2))
    return Panel(title, x_label, "residual", tuple(marks), x_log=True, y_log=True, x_range=x_range, y_range=y_range)

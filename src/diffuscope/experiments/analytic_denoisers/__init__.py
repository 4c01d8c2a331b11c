r"""Every analytic denoiser under one protocol: which one does a trained network resemble, and at what noise?

Explanations of what diffusion networks do are denoisers in closed form: the mean, the Wiener filter (a Gaussian), the
empirical denoiser (which memorizes), and those that know only patches, masks or smoothed data (`denoisers.analytic`).
Published comparisons contradict each other (a median r2 of 0.95 for local patches in one, 0.411 in another), because
the networks and protocols differ and because some implementations do not sum over all data: they keep the nearest
points, or average the answers of batches. Here every method is exact, and the shortcuts are measured beside them.

The protocol is that of `protocol`. A small network is trained on digits here; networks on MNIST can be brought.

On digits local scores know windows of 3, 5, 7, 9 or 15 pixels, compositions crops of 3, 5 or 7, and masks keep the
share 0.5, 0.8, 0.9 or 0.99; data are smoothed by 0.1, 0.3 or 1; shortcuts keep the 20 nearest images, or average
batches of 128; their cost is measured for 20 and 100 images, and for batches of 32 and 224. On MNIST windows are of 3,
5, 7, 9, 11 or 15 pixels, crops of 5, 9 or 15, shares 0.5, 0.8 or 0.95, smoothings 0.3, 1 or 2, the nearest images 200,
and batches of 1,000. Two methods are the same if they differ by at most 1e-6; a shortcut counts as different from a
median difference of 0.05 of the length of D - mu on.

Sources: Kamb & Ganguli 2024, https://arxiv.org/abs/2412.20292 (local and equivariant scores; median r2 0.94 on MNIST);
Niedoba et al. 2024, https://arxiv.org/abs/2411.19339 (composition); Lukoianov et al. 2025,
https://arxiv.org/abs/2509.09672 (PCA-local); Scarvelis et al. 2023, https://arxiv.org/abs/2310.12395 (smoothed).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.denoisers.analytic import local_score
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.findings import Panel, largest, line
from diffuscope.schedules import Schedule
from diffuscope.streams import torch_stream

from ..brought_networks import NETWORKS, brought, data_range
from ..digit_models import NETWORK, PIXELS, SIDE, digit_network
from ..experiment import Experiment
from ..part import PIXEL_RANGE, Part, drawn, largest_difference
from .figures import NOISE, Found, level_charts, shortcut_chart, table_charts
from .methods import SHORTCUTS, Sizes, all_methods
from .peers import NearestOnly, PerBatch
from .protocol import Measured, Subject, bootstrapped, compared, difference, subject

LEVELS = (0.1, 0.3, 1.0, 2.0, 4.0)
TRAINING, DIGIT_POINTS = 896, (64, 128)  # to choose by, and to report
DIGITS = Sizes(
    windows=(3, 5, 7, 9, 15), crops=(3, 5, 7), shares=(0.5, 0.8, 0.9, 0.99), smoothings=(0.1, 0.3, 1.0), draws=16,
    nearest=20, batch=128, costly_images=TRAINING, costly_queries=32,
)  # fmt: skip
MNIST = Sizes(
    windows=(3, 5, 7, 9, 11, 15), crops=(5, 9, 15), shares=(0.5, 0.8, 0.95), smoothings=(0.3, 1.0, 2.0), draws=16,
    nearest=200, batch=1000, costly_images=2000, costly_queries=4,
)  # fmt: skip
MNIST_IMAGES, MNIST_POINTS = 10_000, (4, 32)
RANKED = {
    "PCA-local": "PCA-local, per batch",
    "Wiener": "Wiener",
    "local": "local, per batch",
    "empirical": "empirical, nearest",
}
PUBLISHED = "PCA-local > Wiener > local > empirical (CIFAR-10)"
BAR = 0.94
EXACT, TOLD_APART = 1e-6, 0.05
EXPERIMENT = Experiment(
    name="analytic-denoisers",
    title="Analytic denoisers under one protocol",
    question="Which analytic denoiser does a trained network resemble, and does that depend on shortcuts?",
    source="Kamb & Ganguli 2024, https://arxiv.org/abs/2412.20292",
    seconds=60,
    settings={
        "levels": "0.1, 0.3, 1, 2, 4 (σ/α, data in [-1, 1])",
        "digits": f"scikit-learn's, 896 training images; 128 held-out images, 32 for equivariant scores; {NETWORK}",
        "MNIST": f"networks brought by {NETWORKS}; 10,000 training images, 2,000 for equivariant scores; 32 held-out "
        "images, 4 for equivariant scores",
        "choices": "patch sizes, shares and smoothings by median r2 at 64 (digits) and 4 (MNIST) other held-out "
        "images, at every level",
        "smoothed": "16 noises",
    },
    notes=(
        f"The part on MNIST needs the data set and networks trained on it: {NETWORKS} names denoisers, as "
        "module:object with commas between; published_networks of docs/examples has some. Without them it says so and "
        "claims nothing. Every network takes about five minutes.",
        "r2 compares one output with its own mean over pixels: it is undefined for a constant output, and low where "
        "the output has little contrast.",
    ),
)


@dataclass(frozen=True, eq=False)
class AsImages:
    """A denoiser of vectors, read as one of square images."""

    denoiser: Denoiser

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.denoiser(x_t.reshape(len(x_t), PIXELS), t).reshape(x_t.shape)


@cache
def digit_sets() -> dict[str, Batch]:
    """Training and held-out digits as images in [-1, 1]."""
    data = load_data("digits").in_range(*PIXEL_RANGE)
    sets = {"training": data.train[:TRAINING], "held-out": data.heldout}
    return {name: rows.double().reshape(len(rows), SIDE, SIDE) for name, rows in sets.items()}


def subject_of(
    name: str,
    network: Denoiser,
    train: Float[Tensor, "n *event"],
    heldout: Float[Tensor, "heldout *event"],
    points: tuple[int, int],
    unit: float,
    seed: int,
) -> Subject:
    """The network at held-out images, drawn with `seed`: first those to choose by, then those to report."""
    generator = torch_stream(seed, "analytic-denoisers", "points")
    clean = drawn(heldout, sum(points), generator)
    parts = clean[: points[0]], clean[points[0] :]
    return subject(name, network, train, parts, LEVELS, unit, generator)


@EXPERIMENT.part("Are the exact ones exact, and the shortcuts not?")
def exactness(part: Part) -> str:
    """On digits: a whole-image patch, any division of the data; and shortcuts against what they cut short."""
    train, heldout = digit_sets()["training"], drawn(digit_sets()["held-out"], DIGIT_POINTS[1], part.generator)
    schedule = digit_network(part.seed).schedule
    exact, whole = ExactDenoiser(Empirical(train), schedule), local_score(train, schedule, 2 * SIDE - 1)
    divided = local_score(train, schedule, 5, memory=2**20)
    at_once, mu = local_score(train, schedule, 5), train.mean(0)
    nearest = {f"{k} nearest": NearestOnly(train, schedule, k) for k in (20, 100)}
    batched = {
        f"batches of {size}": PerBatch([ExactDenoiser(Empirical(rows), schedule) for rows in train.split(size)])
        for size in (32, 224)
    }
    same: dict[str, list[float]] = {"whole": [], "divided": []}
    errors: dict[str, list[Tensor]] = {name: [] for name in (nearest | batched)}
    for level in LEVELS:
        x_t = heldout + level * torch.randn(heldout.shape, generator=part.generator, dtype=heldout.dtype)
        D = exact(x_t, level)
        same["whole"].append(largest_difference(whole(x_t, level), D))
        same["divided"].append(largest_difference(divided(x_t, level), at_once(x_t, level)))
        size = (D - mu).flatten(1).norm(dim=1)
        for name, shortcut in (nearest | batched).items():
            errors[name].append((shortcut(x_t, level) - D).flatten(1).norm(dim=1) / size)
    medians = {name: [float(row.median()) for row in rows] for name, rows in errors.items()}
    because = "the same sum in another order, in float64"
    title = "A patch that covers the image is the empirical denoiser: the largest difference at any level"
    part.at_most("whole-patch", title, largest(same["whole"]), EXACT, because)
    title = "Local patches computed in small pieces and at once: the largest difference at any level"
    part.at_most("pieces", title, largest(same["divided"]), EXACT, because)
    for claim, group in (("truncation", nearest), ("batches", batched)):
        worst = {name: largest(medians[name]) for name in group}
        name = min(worst, key=lambda name: worst[name])
        title = f"The smaller error of two shortcuts ({name}): median of |D' - D| / |D - μ| at the worst level"
        because = "more than the differences between the methods that they are used to rank"
        part.at_least(claim, title, worst[name], TOLD_APART, because)
    lines = []
    for name, rows in errors.items():
        ends = [bootstrapped(row[None], np.median, part.rng)[1:] for row in rows]
        low, high = zip(*ends, strict=True)
        lines.append(line(LEVELS, medians[name], name, low=low, high=high))
    part.chart(
        "What shortcuts change in the empirical denoiser of digits",
        Panel("", NOISE, "median of |D' - D| / |D - μ|", tuple(lines), x_log=True),
        how_to_read=f"Medians over {len(heldout)} held-out digits with 95% intervals. The nearest points miss most at "
        "high noise, where all points have weight; averages over batches at low noise, where one point has nearly all.",
    )
    highest = ", ".join(f"{largest(values):.0%} ({name})" for name, values in medians.items())
    return (
        f"Exact aggregation is exact to {largest(same['whole'] + same['divided']):.1e}. The shortcuts change D - μ by "
        f"up to {highest}."
    )


@EXPERIMENT.part("Which is closest to a network trained on digits?")
def digits(part: Part) -> str:
    """All methods against the multilayer perceptron."""
    sets, network = digit_sets(), AsImages(digit_network(part.seed))
    of = subject_of("Digits", network, sets["training"], sets["held-out"], DIGIT_POINTS, 1.0, part.seed)
    found = compared(of, all_methods(DIGITS))
    return shown(part, of, found)


def shown(part: Part, of: Subject, found: Found) -> str:
    """The charts of one network, and what they say."""
    part.charts += [*table_charts(of, found, part.rng), *level_charts(of, found, part.rng)]
    part.charts.append(shortcut_chart(of, found, part.rng))
    table = {name: at.median_r2(part.rng) for name, at in found.items() if name not in SHORTCUTS}
    ordered = sorted(table, key=lambda name: -table[name][0])
    best = ", ".join(f"{name} {table[name][0]:.3f} [{table[name][1]:.3f}, {table[name][2]:.3f}]" for name in ordered)
    sizes = ", ".join(map(str, found["local"].choices))
    return f"{of.name}, median r²: {best}. Local patches of {sizes} pixels. {ranking(part, found)}"


def ranking(part: Part, found: Found) -> str:
    """The order of the ranked methods, exactly and with shortcuts; ~ where the interval of a difference has zero."""
    exact = order({name: found[name] for name in RANKED}, part.rng)
    short = order({name: found[shortcut] for name, shortcut in RANKED.items()}, part.rng)
    survives = "the same with shortcuts" if grouped(exact) == grouped(short) else f"with shortcuts {short}"
    return f"The order is exactly {exact} (~: cannot tell), {survives}; published {PUBLISHED}."


def grouped(text: str) -> list[set[str]]:
    """The sets of names that `order` tells apart."""
    return [set(group.split(" ~ ")) for group in text.split(" > ")]


def order(found: Found, rng: np.random.Generator) -> str:
    """Names by falling median r2, > between neighbors where the 95% interval of the paired difference excludes zero."""
    names = sorted(found, key=lambda name: -median(found[name]))
    text = names[0]
    for first, second in pairwise(names):
        low = difference(found[first], found[second], rng)[1]
        text += f" {'>' if low > 0 else '~'} {second}"
    return text


@EXPERIMENT.part("And to published networks on MNIST?")
def published_networks(part: Part) -> str:
    """All methods against every network that is brought; or the reason why not."""
    try:
        networks = brought()
        known = {name: load_data("mnist").in_range(*data_range(network)) for name, network in networks.items()}
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    told, best, empirical = [], {}, {}
    for name, network in networks.items():
        low, high = data_range(network)
        train = drawn(known[name].train, MNIST_IMAGES, torch_stream(part.seed, "analytic-denoisers", "MNIST"))
        unit = (high - low) / 2
        of = subject_of(name, network, train, known[name].heldout, MNIST_POINTS, unit, part.seed)
        found = compared(of, all_methods(MNIST))
        told.append(shown(part, of, found))
        best[name], empirical[name] = bar(found), median(found["empirical"])
    claim_bar(part, best, empirical)
    return " ".join(told)


def median(at: Measured) -> float:
    """Median r2 over images and levels."""
    return float(at.r2.quantile(0.5))


def bar(found: Found) -> float:
    """The largest median r2 of a local method, over all levels."""
    return largest([median(found[name]) for name in ("local", "composition", "PCA-local")])


def claim_bar(part: Part, best: Mapping[str, float], empirical: Mapping[str, float]) -> None:
    """Claim that some network is as close to the best local method as published, and farther from the empirical one."""
    name = max(best, key=lambda name: best[name])
    title = f"Median r² of the best local method, over images and levels, with the network closest to it ({name})"
    part.at_least("mnist-local", title, best[name], BAR, "0.94 on MNIST in the source, for networks of its own")
    title = "By how much the best local method is closer than the empirical denoiser, the network where it is least"
    least = min(best[name] - empirical[name] for name in best)
    part.at_least("mnist-generalizes", title, least, 0.0, "a network that memorized would be closest to the empirical")

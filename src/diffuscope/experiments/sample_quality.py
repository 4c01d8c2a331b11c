r"""How good are the samples of a small network? Their Frechet distance to held-out digits, and its blind spots.

The library's own U-Net learns one half of scikit-learn's digits. Distances are those of the audit: between equally
large sets (half of the held-out digits), means over random draws, in the whitened features of a classifier of the
training half. Neither the network nor the classifier has seen the other half. Claims are about the ratio of a distance
to that between two halves of the held-out digits: 1 for new draws from the distribution of the data, 1.25 for a model
that only replays its training half.

Source: Heusel et al. 2017, https://arxiv.org/abs/1706.08500 (the distance); the bars are requirements of ours.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.classifier import ClassifierFeatures, fit_classifier
from diffuscope.audit.copy_search import Copies
from diffuscope.audit.copy_search import copies as search_for_copies
from diffuscope.audit.frechet_ratio import BAR, Fidelity, distance_at_size, fidelity
from diffuscope.audit.label_shares import label_balance
from diffuscope.audit.nearness import nearness
from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Preconditioned
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Panel, density_bars, exact_share_interval, frechet_distance, groups, line
from diffuscope.findings.numbers import p_relation
from diffuscope.samplers import DPMSolverPP2M, finish
from diffuscope.streams import torch_stream
from diffuscope.times import karras_times
from diffuscope.training import fit, new_denoiser, recipe

from .experiment import Experiment
from .part import PIXEL_RANGE, Part, loglog, panel
from .picture_panels import pictures

STEPS, BATCH, RATE = 2000, 64, 3e-3
NFE = 40
RAREST = 0.25  # of its due
FALSE_ENTRIES, COPIES = 0.05, 0.01  # share of a list of copies, in expectation; of the samples
NOISES = (0.05, 0.1, 0.2, 0.4, 0.8)
ASKED = "a requirement, not derived"
EXPERIMENT = Experiment(
    name="sample-quality",
    title="How good are the samples of a small network?",
    question="How far from real digits are those of a network trained for a minute?",
    source="Heusel et al. 2017, https://arxiv.org/abs/1706.08500",
    seconds=50,
    settings={
        "data": "scikit-learn's digits, half of them for training, in [-1, 1]",
        "network": "the library's U-Net, 2,000 steps of 64, learning rate 0.003",
        "samples": "DPM-Solver++ 2M, NFE 40, as many as there are held-out digits",
        "noise on real digits": "0.05, 0.1, 0.2, 0.4, 0.8",
        "copies": "5% of those listed are expected to be false; the bar is 1% of the samples",
        "rarest digit": "the bar is 0.25 of its due",
    },
)


@dataclass(frozen=True, eq=False)
class Digits:
    """The two halves of the digits, the features, and the distances between real digits in them."""

    data: DataSet
    features: ClassifierFeatures
    heldout: Float[Tensor, "n width"]
    real: Fidelity

    def fidelity(self, x: Float[Tensor, "n *event"], generator: torch.Generator) -> Fidelity:
        """The same with the images x as samples."""
        return replace(self.real, samples=distance_at_size(self.features(x), self.heldout, self.real.size, generator))


@cache
def digits(seed: int) -> Digits:
    """The digits divided by `seed` into a training and a held-out half, in [-1, 1]."""
    data = load_data("digits", seed=seed).in_range(*PIXEL_RANGE)
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    features = fit_classifier(data.train, data.train_labels, data.heldout, data.heldout_labels)
    train, heldout = features(data.train), features(data.heldout)
    return Digits(data, features, heldout, fidelity(train, train, heldout, seed))


def untrained(seed: int) -> Preconditioned:
    """The network before training: EDM's preconditioning around random weights."""
    return new_denoiser(digits(seed).data.train, PIXEL_RANGE, seed).eval()


def generated(denoiser: Preconditioned, n: int, generator: torch.Generator) -> Float[Tensor, "n 1 8 8"]:
    """n samples by DPM-Solver++ 2M at this NFE, the last one a denoise."""
    schedule = denoiser.schedule
    times = karras_times(schedule, schedule.t_max, schedule.t_min, NFE - 1)
    start = schedule.t_max * torch.randn(n, 1, 8, 8, generator=generator)
    return finish(denoiser, DPMSolverPP2M(), start, times)


@cache
def samples(seed: int) -> Float[Tensor, "n 1 8 8"]:
    """Samples of the trained network, as many as there are held-out digits; shows the progress of the training."""
    data, denoiser = digits(seed).data, untrained(seed)
    settings = replace(recipe(denoiser.sigma_data, steps=STEPS, batch_size=BATCH, seed=seed), learning_rate=RATE)
    trained = fit(denoiser, data.train, settings).eval()
    return generated(trained, len(data.heldout), torch.Generator().manual_seed(seed))


@EXPERIMENT.part("Does the distance measure how real images look?")
def features(part: Part) -> str:
    """The zero of the scale, and how noise moves digits on it."""
    found, generator = digits(part.seed), part.generator
    train = found.data.train
    real = found.fidelity(train, generator).ratio
    noisy = [found.fidelity(train + s * torch.randn(train.shape, generator=generator), generator).ratio for s in NOISES]
    title = "Distance of training digits to held-out digits, over that between two halves of the held-out digits"
    because = "4 standard deviations of single divisions of the held-out digits into halves"
    part.equals("real", title, real, 1.0, 4 * found.real.real_deviation / found.real.real, because, source="derived")
    title = f"The same ratio for real digits with noise of standard deviation {NOISES[-2]:g} (their range is 2)"
    because = "the bar for samples, which noisy digits must not pass"
    part.at_least("noise", title, noisy[-2], BAR, because, source=ASKED)
    ends = [NOISES[0], NOISES[-1]]
    curves = (
        line(NOISES, noisy, "real digits under noise"),
        line(ends, [BAR, BAR], "the bar", style="dotted"),
        line(ends, [1.0, 1.0], "real digits", style="dashed"),
    )
    x_label, y_label = "standard deviation of the noise (pixels in [-1, 1])", "distance / distance between real sets"
    text = "The distance increases with the noise, from 1."
    part.chart("The distance under noise", loglog("", x_label, y_label, *curves), how_to_read=text)
    return (
        f"Yes: the classifier is right on {found.features.accuracy:.1%} of {found.features.heldout} held-out digits. "
        f"In its {found.heldout.shape[1]} features the distance of training to held-out digits is {real:.2f} times "
        "that between two halves of the held-out digits, and noise increases it."
    )


@EXPERIMENT.part("How far are samples from real digits?")
def trained(part: Part) -> str:
    """The bar: at most twice the distance between two halves of the held-out digits."""
    found, made = digits(part.seed), samples(part.seed)
    measured, label = found.fidelity(made, part.generator), found.features.label
    distance, real, size = measured.samples, measured.real, measured.size
    title = f"Frechet distance of {size} samples to as many held-out digits ({distance.value:.3g}, standard error "
    title += f"{distance.standard_error:.2g}), over that between two halves of the held-out digits ({real:.3g}; single "
    title += f"divisions spread by {measured.real_deviation:.2g})"
    part.at_most("bar", title, measured.ratio, BAR, "1 would be real digits, 1.25 the training half", source=ASKED)
    classes, of_samples, of_heldout = found.features.classes, label(made), label(found.data.heldout)
    balance = label_balance(classes, of_samples, of_heldout, len(found.data.train), part.rng)
    share = balance.of_samples / balance.of_heldout
    rarest = int(share.argmin())
    title = f"Every digit is generated: share of the rarest, {balance.classes[rarest]}, over that in held-out digits"
    because = "0.25 of its due; 0 for a digit that is never generated, which the distance hardly notices"
    part.at_least("every-digit", title, float(share[rarest]), RAREST, because, source=ASKED)
    part.chart(
        "The first forty samples, uncurated, and forty held-out digits",
        _pictures("samples", made),
        _pictures("held-out digits", found.data.heldout),
        how_to_read="Can you tell which is which?",
    )
    whole, halves = (frechet_distance(found.features(x), found.heldout) for x in (made, found.data.train[: len(made)]))
    return (
        f"Their distance to real digits is {measured.ratio:.2f} times that between sets of real digits (standard error "
        f"{measured.ratio_error:.2f}): {distance.value:.2f} and {real:.2f}, for sets of {size} images. For sets of "
        f"{len(made)}, with less bias, it is {whole.value:.2f} ± {whole.standard_error:.2f}, "
        f"{whole.value / halves.value:.2f} times that of training digits, {halves.value:.2f} ± "
        f"{halves.standard_error:.2f}."
    )


def _pictures(title: str, images: Float[Tensor, "n 1 8 8"]) -> Panel:
    """The first forty, ten a row."""
    return pictures(title, images[:40, 0].unflatten(0, (4, 10)))


def blurred(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Binomial weights over 3 x 3 pixels, edges repeated."""
    weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, weights[None, None])


@EXPERIMENT.part("Are images that are unlike digits far from them?")
def controls(part: Part) -> str:
    """Images unlike digits must be far, and training must bring samples closer."""
    found, generator = digits(part.seed), part.generator
    train, n = found.data.train, len(found.data.heldout)
    gaussian, kmeans = Gaussian.fit([train]), torch_stream(part.seed, "sample-quality", "k-means")
    mixture = GaussianMixture.fit_kmeans(train, 10, rank=64, ridge=1e-4 * gaussian.trace / 64, generator=kmeans)

    def ratio(x: Float[Tensor, "n 1 8 8"]) -> float:
        return found.fidelity(x.float(), generator).ratio

    ratios = {
        "no fours": ratio(train[found.features.label(train) != 4]),
        "trained": ratio(samples(part.seed)),
        "10 Gaussians": ratio(mixture.sample(n, generator=generator)),
        "Gaussian": ratio(gaussian.sample(n, generator=generator)),
        "blurred": ratio(blurred(train)),
        "untrained": ratio(generated(untrained(part.seed), n, generator)),
    }
    title = "Samples of the exact Gaussian with the digits' mean and covariance: the ratio"
    because = "at the bar the distance could not distinguish them from good samples"
    part.at_least("gaussian", title, ratios["Gaussian"], BAR, because, source=ASKED)
    title = "Training moves the samples toward digits: the distance before training over the distance after"
    change, because = ratios["untrained"] / ratios["trained"], "1 for a network that learned nothing"
    part.at_least("untrained", title, change, 10.0, because, source=ASKED)
    bars = groups(["real", *ratios], {"distance to held-out digits": [1.0, *ratios.values()]})
    bar = line([-0.5, len(ratios) + 0.5], [BAR, BAR], "the bar", style="dotted")
    y_label, y_range = "distance / distance between real sets", (0.5, 2 * ratios["untrained"])
    part.chart(
        "Near and far",
        Panel("", "", y_label, (bars, bar), y_log=True, y_range=y_range),
        how_to_read="Lower is closer to real digits; 1 is real. No fours: real digits without them.",
    )
    return (
        f"Yes: the Gaussian of the digits is at {ratios['Gaussian']:.1f}, blurred digits at {ratios['blurred']:.0f}, "
        f"the network before training at {ratios['untrained']:.0f}. A mixture of ten Gaussians, a good model of such "
        f"small images, is at {ratios['10 Gaussians']:.2f}; the trained network at {ratios['trained']:.2f}. A missing "
        f"class hardly shows: real digits without fours are at {ratios['no fours']:.2f}."
    )


@EXPERIMENT.part("Are they new, or copies?")
def copies(part: Part) -> str:
    """The search for copies on the network's samples, and on samples that are copies."""
    found, made = digits(part.seed), samples(part.seed)
    train, heldout = found.data.train, found.data.heldout
    replayed = train[torch.randint(len(train), (len(made),), generator=part.generator)]
    ratio = found.fidelity(replayed, part.generator).ratio
    of_network, of_replay = (_search(x, found.data, part.seed) for x in (made, replayed))
    title = "The search for copies finds replayed training digits: the share of them that it lists"
    part.at_least("recited-found", title, of_replay.share, 0.9, "nine of ten, where every one is a copy", source=ASKED)
    title = f"Share of the trained network's {len(made)} samples that are listed as copies of a training digit"
    because = f"no copies are expected; one in {round(1 / COPIES)} allows for false entries"
    part.at_most("copies", title, of_network.share, COPIES, because, source=ASKED)
    edges = torch.linspace(0, 1.05 * float(max(of_network.distance.max(), of_network.null_distance.max())), 41)
    bars = (
        density_bars(torch.from_numpy(of_network.null_distance), edges, "held-out digits"),
        density_bars(torch.from_numpy(of_network.distance), edges, "samples"),
    )
    part.chart(
        "Distances of samples to training digits",
        panel("", "distance to the nearest training digit", "density", *bars),
        how_to_read="Copies would stand near 0. Samples as far from the training digits as held-out digits are new.",
    )
    near = nearness(made.flatten(1), train.flatten(1), heldout.flatten(1), 0.01, part.seed)
    listed = int(of_network.listed.sum())
    low, high = exact_share_interval(listed, len(made))
    medians = float(np.median(of_network.distance) / np.median(of_network.null_distance))
    return (
        f"The distance cannot detect copies: replayed training digits score {ratio:.2f}. The search for copies can: it "
        f"lists {of_replay.share:.0%} of those, and {listed} of the network's {len(made)} samples (95% interval "
        f"{low:.1%} to {high:.1%}). {near.share:.0%} of its samples are closer to training than to held-out digits "
        f"(p {p_relation(near.p_value)}; 50% without memorization), and their median distance to training digits is "
        f"{medians:.2f} times that of held-out digits."
    )


def _search(x: Float[Tensor, "n 1 8 8"], data: DataSet, seed: int) -> Copies:
    heldout = data.heldout
    return search_for_copies(x, data.train, heldout, calibration=len(heldout), rate=FALSE_ENTRIES, seed=seed)

r"""The digits, the library's own U-Net trained on half of them, its samples, and what they are measured with.

Distances are those of `audit.fidelity`: between equally large sets (half of the unseen digits), means over random
draws, in the whitened features of a classifier of the training half. Neither the network nor the classifier has seen
the other half. The ratio of a distance to that between two halves of the unseen digits is what claims are about.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.classifier import ClassifierFeatures, fit_classifier
from diffuscope.audit.fidelity import distance_at_size, distance_between_halves
from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Preconditioned
from diffuscope.findings import FrechetDistance
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.times import karras_times
from diffuscope.training import fit, new_denoiser, recipe

STEPS, BATCH, RATE = 2000, 64, 3e-3
EVALUATIONS = 40
DERIVED, ASKED = "derived", "asked for"  # a bound that no derivation gives
SOURCE = "Heusel et al. 2017, https://arxiv.org/abs/1706.08500"


@dataclass(frozen=True, eq=False)
class Ruler:
    """The unseen digits in feature space, and how far two halves of them are from each other."""

    data: DataSet = field(repr=False)
    features: ClassifierFeatures = field(repr=False)
    unseen: Float[Tensor, "n width"] = field(repr=False)
    size: int
    real: float
    spread: float  # of single divisions into halves

    def distance(self, x: Float[Tensor, "n *event"], generator: torch.Generator) -> FrechetDistance:
        """Frechet distance of the images x to unseen digits."""
        return distance_at_size(self.features(x), self.unseen, self.size, generator)

    def ratio(self, x: Float[Tensor, "n *event"], generator: torch.Generator) -> float:
        """The same, in distances between two halves of the unseen digits."""
        return self.distance(x, generator).value / self.real


@cache
def ruler(seed: int) -> Ruler:
    """The digits divided by `seed` into a training and an unseen half, in [-1, 1]."""
    data = load_data("digits", seed=seed).in_range(-1.0, 1.0)
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    features = fit_classifier(data.train, data.train_labels, data.heldout, data.heldout_labels)
    unseen, size = features(data.heldout), len(data.heldout) // 2
    return Ruler(
        data, features, unseen, size, *distance_between_halves(unseen, size, torch.Generator().manual_seed(seed))
    )


def untrained(seed: int) -> Preconditioned:
    """The network before training: EDM's preconditioning around random weights."""
    return new_denoiser(ruler(seed).data.train, (-1.0, 1.0), seed).eval()


@cache
def trained(seed: int, steps: int) -> Preconditioned:
    """`diffuscope train` with a larger learning rate, for the training half; shows its progress."""
    denoiser = new_denoiser(ruler(seed).data.train, (-1.0, 1.0), seed)
    settings = recipe(denoiser.sigma_data, steps=steps, batch_size=BATCH, seed=seed)
    return fit(denoiser, ruler(seed).data.train, replace(settings, learning_rate=RATE)).eval()


@torch.no_grad()
def generated(denoiser: Preconditioned, n: int, generator: torch.Generator) -> Float[Tensor, "n 1 8 8"]:
    """n samples by DPM-Solver++ 2M in EVALUATIONS evaluations, the last one a denoise."""
    schedule = denoiser.schedule
    times = karras_times(schedule, schedule.t_max, schedule.t_min, EVALUATIONS - 1)
    start = schedule.t_max * torch.randn(n, 1, 8, 8, generator=generator)
    return torch.cat([denoiser(sample(DPMSolverPP2M(), denoiser, x, times), times[-1]) for x in start.split(256)])


@cache
def samples(seed: int, steps: int) -> Float[Tensor, "n 1 8 8"]:
    """As many samples of the trained network as there are unseen digits."""
    generator = torch.Generator().manual_seed(seed)
    return generated(trained(seed, steps), len(ruler(seed).data.heldout), generator)

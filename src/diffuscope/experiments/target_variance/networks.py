r"""The same networks on the same batches at every M: their distance to the memorizer and to the distribution.

Each of 24 data sets has one copy of the same initial network per M, trained for 2,400 steps. All copies see the same
x_t; T_M is the mean of the *first* M of one list of posterior draws, x_0 first, so that the copies of a set differ in M
alone. Batches are small (16), since a large batch would average out the noise of the target.

Errors are those of the noise prediction, :math:`|D - D^*|^2 / (d \sigma^2)`, averaged over LEVELS: against the exact
denoiser of the training set (training error; zero is the memorizer), and against that of p (held-out error), at 128
points from every training set and 512 from p at each of 8 levels from 0.02 to 1, and 8 times during training. In the
end 1,000 samples are generated.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.schedules import as_time
from diffuscope.training import DataPosterior, averaged, train
from diffuscope.training.objective import Errors, errors_from

from ..nearness import copies
from ..side_by_side import SideBySide, stacked
from ..three_modes import MODES, as_denoiser, generated, settings, small_networks
from .targets import DIAL, EXAMPLES, FINITE, posterior_weights

SETS, STEPS, BATCH = 24, 2400, 16
SAMPLES, POINTS = 1000, 128
LEVELS = torch.logspace(math.log10(0.02), math.log10(1), 8, dtype=torch.float64)
LOOKS = 8  # during training


@dataclass(frozen=True, eq=False)
class Dialed:
    """By set and M: the share of copies (ratio) after training, and the two errors at every look."""

    copied: Float[Tensor, "sets dial"]
    train: Float[Tensor, "looks sets dial"]
    heldout: Float[Tensor, "looks sets dial"]


@dataclass(frozen=True, eq=False)
class Nested:
    """The objective of all copies: for every set one list of draws, and the mean of its first M for the copy at M."""

    examples: tuple[Float[Tensor, "n 2"], ...]

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors, whatever `data`: the sets are known."""
        del data, device
        posteriors = [DataPosterior(rows) for rows in self.examples]

        def errors(
            denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
        ) -> Float[Tensor, " batch"]:
            sigma = as_time(t).expand(len(x_0))
            # the copies of a set have one x_0; they must have one noise
            x_0, noise = (part.unflatten(1, (len(posteriors), -1))[:, :, 0] for part in (x_0, noise))
            x_t = x_0 + sigma[:, None, None].float() * noise
            rows = zip(posteriors, x_0.unbind(1), x_t.unbind(1), strict=True)
            targets = torch.stack([self.targets(*row, sigma, generator) for row in rows], 1).flatten(1, 2)
            everywhere = x_t[:, :, None].expand(-1, -1, len(DIAL), -1).flatten(1, 2)
            return errors_from(targets.to(everywhere), denoiser, everywhere, sigma)

        return errors

    @staticmethod
    def targets(
        posterior: DataPosterior, x_0: Tensor, x_t: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> Float[Tensor, "batch dial 2"]:
        """T_M for every M, nested."""
        drawn = posterior.draw(x_t, torch.ones_like(sigma), sigma, FINITE[-1] - 1, generator=generator)
        total = torch.cat([x_0[:, None].double(), posterior.examples[drawn]], 1).cumsum(1)
        exact = posterior_weights(posterior.examples, x_t.double(), sigma) @ posterior.examples
        return torch.stack([*(total[:, M - 1] / M for M in FINITE), exact], 1)


def dialed(seed: int) -> Dialed:
    """Train all copies of all sets, measure them on the way, and draw samples at the end."""
    generator = torch.Generator().manual_seed(seed)
    examples = tuple(MODES.sample(EXAMPLES, generator=generator) for _ in range(SETS))
    networks = [network for network in small_networks(SETS, seed) for _ in DIAL]
    denoiser = as_denoiser(SideBySide(networks), len(networks))
    looks = {round(STEPS * share) for share in torch.logspace(-1.2, 0, LOOKS).tolist()}
    known = [noised(Empirical(rows), rows.repeat(POINTS // EXAMPLES, 1), generator) for rows in examples]
    x_train, exact_train = (torch.stack(parts, 2) for parts in zip(*known, strict=True))
    x, exact = (part[:, :, None] for part in noised(MODES, MODES.sample(4 * POINTS, generator=generator), generator))
    data, train_errors, heldout_errors = stacked([rows for rows in examples for _ in DIAL]), [], []
    network = denoiser
    for progress in train(denoiser, data, settings(STEPS, BATCH, seed, Nested(examples)), checkpoint=None):
        if progress.step in looks:
            network = averaged(denoiser, progress.average).eval()
            train_errors.append(errors_of(network, x_train, exact_train))
            heldout_errors.append(errors_of(network, x, exact))
    starts = torch.randn(SAMPLES, SETS, 1, 2, generator=generator).expand(-1, -1, len(DIAL), -1).flatten(1, 2)
    made = generated(network, starts).unflatten(1, (SETS, len(DIAL)))
    shares = [[copies(examples[s], made[:, s, k])[1].double().mean() for k in range(len(DIAL))] for s in range(SETS)]
    copied = torch.tensor(shares, dtype=torch.float64)
    return Dialed(copied, torch.stack(train_errors), torch.stack(heldout_errors))


def noised(
    p: Empirical | GaussianMixture, x_0: Float[Tensor, "points 2"], generator: torch.Generator
) -> tuple[Float[Tensor, "levels points 2"], Float[Tensor, "levels points 2"]]:
    """x_t at every level, and the exact denoiser of p there."""
    noise = torch.randn(len(LEVELS), *x_0.shape, dtype=torch.float64, generator=generator)
    x_t = x_0 + LEVELS[:, None, None] * noise
    return x_t, torch.stack([p.denoise(x, 1.0, sigma) for x, sigma in zip(x_t, LEVELS, strict=True)])


@torch.no_grad()
def errors_of(
    network: Denoiser, x_t: Float[Tensor, "levels points _ 2"], exact: Float[Tensor, "levels points _ 2"]
) -> Float[Tensor, "sets dial"]:
    """The error of every copy, against what is exact for its set or for all."""
    total = torch.zeros(SETS, len(DIAL), dtype=torch.float64)
    for x, known, sigma in zip(x_t, exact, LEVELS, strict=True):
        columns = x[:, :, None].expand(-1, SETS, len(DIAL), -1).flatten(1, 2).float()
        off = network(columns, sigma).double().unflatten(1, (SETS, -1)) - known[:, :, None]
        total += off.square().mean((0, 3)) / sigma**2 / len(LEVELS)
    return total

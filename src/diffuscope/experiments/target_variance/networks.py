r"""The same networks on the same batches at every M: how well they know their examples, and the law, in the end.

Every data set starts one copy of a network per M. All copies see the same x_t; T_M is the mean of the *first* M of one
list of posterior draws, x_0 first, so that two settings of the dial differ in nothing but how far they average. Batches
are small (16): noise of the target is averaged over a batch like any other, and a large batch has hardly any left.

Errors are those of the noise prediction, :math:`|D - D^*|^2 / (d \sigma^2)`, in the mean over LEVELS: to the denoiser
of the training set (training error; zero is the memorizer), and to that of the law (unseen error; zero is p).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, Preconditioned
from diffuscope.exact import Empirical
from diffuscope.schedules import as_time
from diffuscope.training import DataPosterior, averaged, train
from diffuscope.training.objective import Errors, errors_from

from ..nearness import Near
from ..side_by_side import SideBySide, stacked
from ..three_modes import LAW, as_denoiser, generated, settings, small_networks
from .dial import DIAL, EXAMPLES, FINITE

SETS, STEPS, BATCH = 24, 2400, 16
SAMPLES, POINTS = 1000, 128
LEVELS = torch.logspace(math.log10(0.02), 0, 8, dtype=torch.float64)
LOOKS = 8  # during training


@dataclass(frozen=True, eq=False)
class Dialed:
    """After training, by set and M: share of copies (radius, ratio); the two errors, at every look and at the end."""

    shares: Float[Tensor, "sets dial 2"]
    train: Float[Tensor, "looks sets dial"]
    unseen: Float[Tensor, "looks sets dial"]
    examples: tuple[Float[Tensor, "n 2"], ...] = field(repr=False)
    denoiser: Preconditioned = field(repr=False)


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
            # the copies of a set have one x_0; they shall have one noise
            x_0, noise = (part.unflatten(1, (len(posteriors), -1))[:, :, 0] for part in (x_0, noise))
            x_t = x_0 + sigma[:, None, None].float() * noise
            targets = torch.stack(
                [
                    self.targets(posterior, x_0[:, s], x_t[:, s], sigma, generator)
                    for s, posterior in enumerate(posteriors)
                ],
                1,
            )
            everywhere = x_t[:, :, None].expand(-1, -1, len(DIAL), -1).flatten(1, 2)
            return errors_from(targets.flatten(1, 2).to(everywhere), denoiser, everywhere, sigma)

        return errors

    @staticmethod
    def targets(
        posterior: DataPosterior, x_0: Tensor, x_t: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> Float[Tensor, "batch dial 2"]:
        """T_M for every M, nested."""
        drawn = posterior.draw(x_t, torch.ones_like(sigma), sigma, FINITE[-1] - 1, generator=generator)
        total = torch.cat([x_0[:, None].double(), posterior.examples[drawn]], 1).cumsum(1)
        square = (x_t[:, None].double() - posterior.examples).square().sum(2)
        exact = torch.softmax(-square / (2 * sigma[:, None] ** 2), 1) @ posterior.examples
        return torch.stack([exact if math.isinf(m) else total[:, int(m) - 1] / m for m in DIAL], 1)


@lru_cache(maxsize=1)  # two parts ask for the same one
def dialed(seed: int) -> Dialed:
    """Train all copies of all sets, look at them on the way, and draw samples in the end."""
    generator = torch.Generator().manual_seed(seed)
    examples = tuple(LAW.sample(EXAMPLES, generator=generator) for _ in range(SETS))
    copies = [network for network in small_networks(SETS, seed) for _ in DIAL]
    denoiser = as_denoiser(SideBySide(copies))
    looks = {round(STEPS * share) for share in torch.logspace(-1.2, 0, LOOKS).tolist()}
    errors = _Errors.at(examples, generator)
    data, found = stacked([rows for rows in examples for _ in DIAL]), []
    network = denoiser
    for progress in train(denoiser, data, settings(STEPS, BATCH, seed, Nested(examples)), checkpoint=None):
        if progress.step in looks:
            network = averaged(denoiser, progress.average).eval()
            found.append(errors.of(network))
    starts = torch.randn(SAMPLES, SETS, 1, 2, generator=generator).expand(-1, -1, len(DIAL), -1).flatten(1, 2)
    x = generated(network, starts).unflatten(1, (SETS, len(DIAL)))
    shares = torch.stack(
        [torch.stack([Near.to(examples[s], x[:, s, k]).shares for k in range(len(DIAL))]) for s in range(SETS)]
    )
    train_errors, unseen_errors = (torch.stack(list(part)) for part in zip(*found, strict=True))
    return Dialed(shares, train_errors, unseen_errors, examples, network)


@dataclass(frozen=True, eq=False)
class _Errors:
    """Noised examples and noised draws of the law, drawn once, with the exact denoisers there."""

    x_train: Float[Tensor, "levels points sets 2"]
    train: Float[Tensor, "levels points sets 2"]
    x_unseen: Float[Tensor, "levels draws 1 2"]
    unseen: Float[Tensor, "levels draws 1 2"]

    @classmethod
    def at(cls, examples: tuple[Tensor, ...], generator: torch.Generator) -> "_Errors":
        levels = LEVELS[:, None, None]
        per_set = []
        for rows in examples:
            x_0 = rows.repeat(-(-POINTS // len(rows)), 1)[:POINTS]
            x_t = x_0 + levels * torch.randn(len(LEVELS), *x_0.shape, dtype=torch.float64, generator=generator)
            law = Empirical(rows)
            per_set.append(
                (x_t, torch.stack([law.denoise(x, 1.0, s) for x, s in zip(x_t, LEVELS, strict=True)]))
            )  # fmt: skip
        x_train, train_exact = (torch.stack(list(part), 2) for part in zip(*per_set, strict=True))
        x_0 = LAW.sample(4 * POINTS, generator=generator)
        x_t = x_0 + levels * torch.randn(len(LEVELS), *x_0.shape, dtype=torch.float64, generator=generator)
        exact = torch.stack([LAW.denoise(x, 1.0, s) for x, s in zip(x_t, LEVELS, strict=True)])
        return cls(x_train, train_exact, x_t[:, :, None], exact[:, :, None])

    @torch.no_grad()
    def of(self, network: Preconditioned) -> tuple[Float[Tensor, "sets dial"], Float[Tensor, "sets dial"]]:
        """Training and unseen error of every copy."""
        sets = self.x_train.shape[2]
        train_error, unseen_error = torch.zeros(2, sets, len(DIAL), dtype=torch.float64)
        for k, sigma in enumerate(LEVELS):
            parts = ((train_error, self.x_train[k], self.train[k]), (unseen_error, self.x_unseen[k], self.unseen[k]))
            for total, x, exact in parts:
                columns = x[:, :, None].expand(-1, sets, len(DIAL), -1).flatten(1, 2).float()
                off = network(columns, sigma).double().unflatten(1, (sets, -1)) - exact[:, :, None]
                total += off.square().mean((0, 3)) / sigma**2 / len(LEVELS)
        return train_error, unseen_error

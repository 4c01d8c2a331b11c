r"""The patch size that explains a network best, at every noise level.

With D the output of the network at x_t, :math:`D^{(k)}` that of an analytic denoiser of patch size k, and mu the mean
of the data,

.. math::
    k(t) = \arg\max_k\; \operatorname*{median}_{x_t}\;
    \frac{\langle D - \mu,\; D^{(k)} - \mu\rangle}{|D - \mu|\,|D^{(k)} - \mu|},

the smallest of equals. A chosen size is a fit: judge it at points x_t other than those it was chosen at.

Source: Kamb & Ganguli 2024, https://arxiv.org/abs/2412.20292, who choose k(t) by the median cosine as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from ..contract import Batch, Checked, Denoiser, over_events

Kind = Callable[[Batch, Schedule, int], Denoiser]


@dataclass(frozen=True, eq=False)
class PatchSizes:
    """The best size of every noise level sigma/alpha, and the cosines it was chosen by; call it with a level.

    Between levels the nearest in log(sigma/alpha) holds, beyond them the outermost.
    """

    levels: Float[Tensor, " levels"]
    candidates: Int[Tensor, " sizes"]
    cosines: Float[Tensor, "levels sizes points"]

    @property
    def medians(self) -> Float[Tensor, "levels sizes"]:
        """The median over points of every level and candidate."""
        return self.cosines.quantile(0.5, dim=-1)

    @property
    def sizes(self) -> Int[Tensor, " levels"]:
        """The candidate of the largest median at every level; the first of equals."""
        return self.candidates[self.medians.argmax(1)]

    def __call__(self, level: float | int) -> int:
        if not level >= 0:
            raise InputError(f"level: expected a noise level sigma/alpha >= 0, got {level}")
        logs = self.levels.log()
        at = torch.tensor(level, dtype=torch.float64).log().clamp(logs.min(), logs.max())
        return int(self.sizes[(logs - at).abs().argmin()])


def patch_sizes(
    network: Denoiser,
    data: Float[Tensor, "images *event"],
    clean: Float[Tensor, "points *shape"],
    times: Sequence[float],
    sizes: Sequence[int],
    *,
    kind: Kind,
    generator: torch.Generator,
) -> PatchSizes:
    """k(t) among `sizes` for the analytic denoiser `kind(data, schedule, size)`, such as `local_score`.

    The points of every time are x_t = alpha x_0 + sigma eps of the images `clean` (best ones the network has not seen),
    eps the same at all times. One pass of the network and of every size at each time. Raises InputError for no times,
    sizes or points, times at which alpha or sigma is 0, what `kind` refuses, and answers that are not finite.
    """
    for name, given in (("times", times), ("sizes", sizes), ("clean", clean)):
        if len(given) == 0:
            raise InputError(f"{name}: expected at least one, got none")
    if clean.shape[1:] != data.shape[1:]:
        raise InputError(
            f"clean: expected images of the shape {tuple(data.shape[1:])} of the data, got {tuple(clean.shape[1:])}"
        )
    if not bool(clean.isfinite().all()):
        raise InputError("clean: expected finite values, got NaN or infinity")
    schedule = network.schedule
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if not bool((alpha.isfinite() & sigma.isfinite() & (alpha > 0) & (sigma > 0)).all()):
        raise InputError(f"times: expected times at which alpha and sigma are > 0, got {list(times)}")
    ascending = sorted(set(sizes))
    denoisers = [kind(data, schedule, size) for size in ascending]
    mean = data.double().mean(0)
    eps = torch.randn(clean.shape, generator=generator, dtype=clean.dtype, device=generator.device).to(clean.device)
    cosines = torch.empty(len(t), len(ascending), len(clean), dtype=torch.float64)
    for row, time in enumerate(t):
        x_t = over_events(alpha[row], clean) * clean + over_events(sigma[row], clean) * eps
        with torch.no_grad():
            output = _direction(Checked(network)(x_t, time), mean)
            for column, denoiser in enumerate(denoisers):
                cosines[row, column] = (output * _direction(denoiser(x_t, time), mean)).sum(1)
    if not bool(cosines.isfinite().all()):
        raise InputError("network: expected finite answers, got NaN or infinity")
    return PatchSizes(sigma / alpha, torch.tensor(ascending), cosines)


def _direction(denoised: Batch, mean: Float[Tensor, "*event"]) -> Float[Tensor, "points d"]:
    """(D - mu) / |D - mu|, zero where D = mu."""
    return torch.nn.functional.normalize((denoised.double() - mean).flatten(1), eps=1e-300)

r"""The jump over high noise for samplers that take a state and a list of noise levels.

k-diffusion's `sample_*(model, x, sigmas)` and EDM's sampler have variance-exploding states at levels
:math:`\sigma_0 > \sigma_1 > \dots`. The jump is the closed-form flow of the Gaussian with the data's mean and
covariance (`samplers.gaussian_jump`) from :math:`\sigma_0` to one of them, and the sampler takes the rest:

    start = teleport_levels(x, sigmas, gaussian, noise_to_signal=10.0)
    samples = k_diffusion.sampling.sample_dpmpp_2m(model, start.x, start.sigmas)

EDM's `edm_sampler(net, latents, num_steps=N, sigma_max=...)` multiplies its latents by the first level again, so it is
given `start.x / start.sigmas[0]`, `sigma_max=start.sigmas[0]` and `num_steps=N - start.steps_saved`: the tail of its
levels is the list of its levels from there.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import teleport, truncate
from diffuscope.schedules import VE

from .teleport_grid import require_within


@dataclass(frozen=True, eq=False)
class TeleportedLevels:
    """The state `x` at the level `sigmas[0]`, the levels that remain, and the number of steps saved.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.adapters import teleport_levels
    >>> start = teleport_levels(
    ...     torch.tensor([[5.0]]), torch.tensor([7.0, 1.0, 0.5, 0.0]), Gaussian.isotropic(torch.zeros(1), 1.0),
    ...     noise_to_signal=1,
    ... )
    >>> start.sigmas.tolist(), start.steps_saved
    ([1.0, 0.5, 0.0], 1)
    """

    x: Batch
    sigmas: Float[Tensor, " levels"]
    steps_saved: int


def teleport_levels(
    x: Batch, sigmas: Float[Tensor, " levels"], gaussian: Gaussian, *, noise_to_signal: float | int
) -> TeleportedLevels:
    """Jump from `x` at `sigmas[0]` to the level nearest to `noise_to_signal` (in log), without a call of the model.

    `x` is variance exploding, x_0 + sigma noise. Dtype and device are those of `x`; at least one step remains.
    Raises InputError for levels that do not decrease, a state of another shape than the Gaussian's, and a level outside
    `sigmas`.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.adapters import teleport_levels
    >>> x, sigmas = torch.tensor([[5.0]]), torch.tensor([7.0, 1.0, 0.5, 0.0])
    >>> start = teleport_levels(x, sigmas, Gaussian.isotropic(torch.zeros(1), 1.0), noise_to_signal=1)
    >>> round(float(start.x), 6)  # 5 ((1 + 1^2) / (1 + 7^2))^(1/2)
    1.0
    """
    require_decreasing(sigmas)
    positive = sigmas[sigmas > 0]
    require_within(noise_to_signal, float(positive[-1]), float(sigmas[0]), "sigmas")
    tail = truncate(sigmas.double().cpu(), VE(), float(noise_to_signal))
    x_skip = teleport(gaussian, VE(), x.to(gaussian.mean.device), float(sigmas[0]), tail.t_skip).to(x.device)
    return TeleportedLevels(x_skip, sigmas[tail.steps_saved :], tail.steps_saved)


def require_decreasing(sigmas: Float[Tensor, " levels"]) -> None:
    """Raises InputError unless there are at least two levels, strictly decreasing, none below 0."""
    if len(sigmas) < 2 or not bool((sigmas[1:] < sigmas[:-1]).all()) or float(sigmas[-1]) < 0:
        raise InputError(f"sigmas: expected at least two decreasing noise levels >= 0, got {sigmas.tolist()}")

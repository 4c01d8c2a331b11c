r"""How far a denoiser's score is from being a gradient.

The score of a density is a gradient, so its Jacobian is symmetric. With J the Jacobian of D in x_t and
:math:`K = \alpha J` (for an exact denoiser :math:`\mathrm{Cov}(x_0|x_t)/\tilde\sigma^2`, symmetric and positive),

.. math::
    \nabla s = \frac{K - I}{\sigma^2}, \qquad
    \text{curl} = \frac{|\nabla s - \nabla s^T|_F}{|\nabla s|_F} = \frac{|K - K^T|_F}{|K - I|_F} \in [0, 2],

0 for a gradient and 2 for a pure rotation. At high noise K - I is nearly -I whatever the model learned, and the
curl relative to the denoiser's own Jacobian, :math:`|K - K^T|_F / |K|_F`, is more sensitive; at low noise the reverse
holds. For random v with :math:`E[vv^T] = I`,

.. math::
    E|Kv - K^T v|^2 = |K - K^T|_F^2, \qquad E|K^T v|^2 = |K|_F^2, \qquad E|K^T v - v|^2 = |K - I|_F^2,

in any dimension. A score with curl belongs to no density: the generated distribution then depends on the sampler (its
eta), not on the model alone.

Source: Salimans & Ho 2021 (energy-based against score models); the probes are Hutchinson's.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from .denoiser_derivatives import OneTime, checked_points, push_and_pull, signs
from .divergence import jacobian

LARGEST_BLOCK = 2**24  # entries of Jacobians held at once


@dataclass(frozen=True, eq=False)
class Curl:
    """Squared Frobenius norms at every point, exact or unbiased estimates from probes.

    >>> import torch
    >>> from diffuscope.denoisers import DataPredictor
    >>> from diffuscope.densities import curl
    >>> from diffuscope.schedules import RectifiedFlow
    >>> K = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    >>> options = {"event_shape": (2,), "data_range": (-1.0, 1.0)}
    >>> denoiser = DataPredictor(lambda x, t: x @ K.T / 0.8, RectifiedFlow(), **options)  # alpha = 0.8 at t = 0.2
    >>> found = curl(denoiser, torch.ones(1, 2, dtype=torch.float64), 0.2)
    >>> [round(value.item() ** 2, 6) for value in (found.of_score, found.of_denoiser)]  # 8 / |K - I|^2, 8 / |K|^2
    [2.0, 1.333333]
    """

    rotation: Float[Tensor, " batch"]  # |K - K^T|^2
    denoiser_size: Float[Tensor, " batch"]  # |K|^2
    score_size: Float[Tensor, " batch"]  # |K - I|^2: sigma^4 |grad s|^2
    rotation_error: Float[Tensor, " batch"]  # standard error of `rotation`; 0 where it is exact

    @property
    def of_score(self) -> Float[Tensor, " batch"]:
        """|grad s - grad s^T| / |grad s|."""
        return _ratio(self.rotation, self.score_size)

    @property
    def of_denoiser(self) -> Float[Tensor, " batch"]:
        """|J - J^T| / |J|."""
        return _ratio(self.rotation, self.denoiser_size)

    @property
    def squares(self) -> Float[Tensor, "batch 3"]:
        """Rotation, denoiser and score as columns, for `relative_curl` and for resampling."""
        return torch.stack([self.rotation, self.denoiser_size, self.score_size], 1)


def curl(denoiser: Denoiser, x_t: Batch, t: OneTime) -> Curl:
    """The curl from the full Jacobian at the points `x_t` at time `t`, exactly: for small dimensions.

    Costs one derivative per point and coordinate; memory 128 MB in float64, or one Jacobian. Raises InputError where
    the denoiser has no derivative in x_t, beyond 4096 dimensions, and for points that are empty or not finite.

    >>> import torch
    >>> from diffuscope.denoisers import DataPredictor
    >>> from diffuscope.densities import curl
    >>> from diffuscope.schedules import RectifiedFlow
    >>> K = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    >>> options = {"event_shape": (2,), "data_range": (-1.0, 1.0)}
    >>> denoiser = DataPredictor(lambda x, t: x @ K.T / 0.8, RectifiedFlow(), **options)  # alpha = 0.8 at t = 0.2
    >>> found = curl(denoiser, torch.ones(1, 2, dtype=torch.float64), 0.2)
    >>> [round(value, 6) for value in found.squares[0].tolist()]  # |K - K^T|^2, |K|^2, |K - I|^2
    [8.0, 6.0, 4.0]
    """
    x_t = checked_points(x_t, t)
    alpha, D = float(denoiser.schedule.alpha(t)), x_t[0].numel()
    parts = []
    for x in x_t.split(chunk_size(LARGEST_BLOCK, each=D**2)):
        K = alpha * jacobian(denoiser, x, t)
        unit = torch.eye(D, dtype=K.dtype, device=K.device)
        parts.append(torch.stack([_square(K - K.mT), _square(K), _square(K - unit)]))
    rotation, denoiser_size, score_size = torch.cat(parts, 1)
    return Curl(rotation, denoiser_size, score_size, torch.zeros_like(rotation))


def curl_by_probes(denoiser: Denoiser, x_t: Batch, t: OneTime, *, probes: int = 4, generator: torch.Generator) -> Curl:
    """Unbiased estimates of the curl from `probes` random sign vectors per point, two derivatives each.

    Raises InputError for fewer than two probes, where the denoiser cannot be differentiated twice, and as `curl`.

    >>> import torch
    >>> from diffuscope.denoisers import DataPredictor
    >>> from diffuscope.densities import curl_by_probes
    >>> from diffuscope.schedules import RectifiedFlow
    >>> K = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    >>> options = {"event_shape": (2,), "data_range": (-1.0, 1.0)}
    >>> denoiser = DataPredictor(lambda x, t: x @ K.T / 0.8, RectifiedFlow(), **options)  # alpha = 0.8 at t = 0.2
    >>> x_t, g = torch.ones(1, 2, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = curl_by_probes(denoiser, x_t, 0.2, generator=g)  # |K v - K^T v|^2 = 8 for all signs v
    >>> round(found.rotation.item(), 6), round(found.rotation_error.item(), 6)
    (8.0, 0.0)
    """
    if probes < 2:
        raise InputError(f"probes: expected at least 2 (their spread is the error), got {probes}")
    x_t = checked_points(x_t, t)
    alpha = float(denoiser.schedule.alpha(t))
    drawn = []
    for _ in range(probes):  # a few probes, each for all points at once
        v = signs(x_t, generator)
        pushed, pulled = (alpha * part.double() for part in push_and_pull(denoiser, x_t, t, v))
        drawn.append(torch.stack([_square(pushed - pulled), _square(pulled), _square(pulled - v.double())]))
    squares = torch.stack(drawn)
    rotation, denoiser_size, score_size = squares.mean(0)
    return Curl(rotation, denoiser_size, score_size, squares[:, 0].std(0) / math.sqrt(probes))


def relative_curl(mean_squares: Float[Tensor, "*rows three"]) -> Float[Tensor, "*rows"]:
    """Root mean square rotation over the smaller of the two Jacobians, from means of `Curl.squares`.

    The smaller one, so that at neither end of the noise range -I or I hides a learned curl.

    >>> import torch
    >>> from diffuscope.densities import relative_curl
    >>> relative_curl(torch.tensor([9.0, 16.0, 4.0])).item()  # sqrt(9 / 4)
    1.5
    """
    rotation, denoiser_size, score_size = mean_squares.unbind(-1)
    return _ratio(rotation, torch.minimum(denoiser_size, score_size))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return (numerator / denominator.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def _square(x: Tensor) -> Float[Tensor, " batch"]:
    return x.flatten(1).square().sum(1)

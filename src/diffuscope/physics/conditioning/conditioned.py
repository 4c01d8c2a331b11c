"""What every conditioned denoiser has: a prior denoiser, an observation, and y, checked once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact.distribution import per_sample
from diffuscope.physics.observations import LinearObservation, Observation, Values
from diffuscope.schedules import Schedule, as_time


@dataclass(frozen=True, eq=False)
class Conditioned:
    """The base of the conditioned denoisers: each is a Denoiser made from `denoiser`.

    `y` is one observation for all samples, (m,), or one per sample, (batch, m). Raises InputError for an observation of
    other fields than the denoiser's, for a y of another size, and for NaN.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import DPS, at_nodes
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(3), 1.0), RectifiedFlow())
    >>> guided = DPS(prior, at_nodes(torch.tensor([0, 2]), (3,), noise=0.1), torch.tensor([5.0, 7.0]))
    >>> guided.event_shape, guided.targets(torch.zeros(4, 3)).tolist()  # one row for all
    ((3,), [[5.0, 7.0]])
    >>> [level.tolist() for level in guided.levels(torch.zeros(2, 3), 0.25)]
    [[0.75, 0.75], [0.25, 0.25]]
    """

    denoiser: Denoiser
    observation: Observation
    y: Values

    def __post_init__(self) -> None:
        expected, given = _event_shape(self.denoiser), tuple(self.observation.event_shape)
        if expected is not None and expected != given:
            raise InputError(f"observation: expected one of fields {expected}, got {given}")
        m = len(self.observation.matrix) if isinstance(self.observation, LinearObservation) else None
        if self.y.ndim not in (1, 2) or (m is not None and self.y.shape[-1] != m):
            expected = "m" if m is None else m
            raise InputError(f"y: expected shape ({expected},) or (batch, {expected}), got {tuple(self.y.shape)}")
        if not bool(self.y.isfinite().all()):
            raise InputError("y: expected finite values, got NaN or infinity")

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one field."""
        return tuple(self.observation.event_shape)

    @property
    def data_range(self) -> tuple[float, float] | None:
        """That of the denoiser or of its distribution, where it is known."""
        owner = self.denoiser.distribution if isinstance(self.denoiser, ExactDenoiser) else self.denoiser
        return getattr(owner, "data_range", None)

    def targets(self, x_t: Batch) -> Float[Tensor, "#batch m"]:
        """y in float64, one row for all or one per sample of `x_t`; InputError for another number of rows."""
        rows = self.y.to(device=x_t.device, dtype=torch.float64)
        if rows.ndim == 1:
            return rows[None]
        if len(rows) not in (1, len(x_t)):
            raise InputError(f"y: expected one observation, or one per sample of a batch ({len(x_t)}), got {len(rows)}")
        return rows

    def levels(self, x_t: Batch, t: BatchTime) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """(alpha, sigma) per sample, float64."""
        time = as_time(t)
        return per_sample(self.schedule.alpha(time), x_t, "alpha"), per_sample(self.schedule.sigma(time), x_t, "sigma")

    @property
    def linear(self) -> LinearObservation:
        """The observation; InputError where it is not linear."""
        if not isinstance(self.observation, LinearObservation):
            raise InputError(f"observation: expected a LinearObservation, got {type(self.observation).__name__}")
        return self.observation


def _event_shape(denoiser: Denoiser) -> tuple[int, ...] | None:
    owner = denoiser.distribution if isinstance(denoiser, ExactDenoiser) else denoiser
    shape = getattr(owner, "event_shape", None)
    return None if shape is None else tuple(shape)

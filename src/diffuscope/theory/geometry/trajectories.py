r"""Trajectories of the probability flow with all that their geometry is made of: states, clean estimates, noise.

For any denoiser D and schedule, at decreasing times :math:`t_0 > \dots > t_n` with sigma > 0,

.. math::
    x_t, \qquad D(x_t, t), \qquad \varepsilon_t = \frac{x_t - \alpha_t D}{\sigma_t}, \qquad x_0 = D(x_{t_n}, t_n),

the last being the sample. For Gaussian data all of it is a closed form (`exact.gaussian`). A conditional model is no
special case: one at a fixed class, or guided, is a denoiser (`denoisers.OfClass`, `denoisers.Guided`).

States of two schedules differ by a factor. In the *normalized* path every state is divided by the standard deviation
of a coordinate,

.. math::  y_t = \frac{x_t}{\sqrt{\alpha_t^2 s^2 + \sigma_t^2}}, \qquad s^2 = \operatorname{tr}\Sigma / D,

so that it turns from noise to data at constant length, whatever the schedule and the units of the data.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Noise, Sampler, instants, trajectory
from diffuscope.samplers.eigenbasis import Eigenbasis
from diffuscope.schedules import Schedule

BATCH = 256


@dataclass(frozen=True, eq=False)
class Trajectories:
    """States and clean estimates of a batch of trajectories at decreasing `times`: 2 levels x batch x D numbers.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import gaussian_trajectories
    >>> times = torch.tensor([16.0, 9.0, 5.0]).double()  # sigma^2 + 144 = 20^2, 15^2, 13^2
    >>> found = gaussian_trajectories(Gaussian.isotropic(torch.zeros(1), 144.0), VE(), torch.tensor([[40.0]]), times)
    >>> [round(value, 4) for value in found.noise.flatten().tolist()]  # sigma x / (144 + sigma^2)
    [1.6, 1.2, 0.7692]
    >>> [round(value, 4) for value in found.normalized(12).flatten()[:3].tolist()]  # the flow stands still: 40 / 20
    [2.0, 2.0, 2.0]
    """

    times: Float[Tensor, " levels"]
    alphas: Float[Tensor, " levels"]
    sigmas: Float[Tensor, " levels"]
    states: Float[Tensor, "levels batch *event"]
    denoised: Float[Tensor, "levels batch *event"]

    @property
    def samples(self) -> Float[Tensor, "batch *event"]:
        """x_0, the clean estimate at the last time."""
        return self.denoised[-1]

    @property
    def ratios(self) -> Float[Tensor, " levels"]:
        """sigma/alpha, infinite where alpha = 0."""
        return self.sigmas / self.alphas

    @property
    def noise(self) -> Float[Tensor, "levels batch *event"]:
        """The noise predictions (x_t - alpha D) / sigma."""
        return (self.states - self._over(self.alphas) * self.denoised) / self._over(self.sigmas)

    @property
    def path(self) -> Float[Tensor, "points batch *event"]:
        """The states, and the sample behind them."""
        return torch.cat([self.states, self.denoised[-1:]])

    @property
    def path_alphas(self) -> Float[Tensor, " points"]:
        """alpha along the path, 1 at its end."""
        return torch.cat([self.alphas, self.alphas.new_ones(1)])

    @property
    def path_sigmas(self) -> Float[Tensor, " points"]:
        """sigma along the path, 0 at its end."""
        return torch.cat([self.sigmas, self.sigmas.new_zeros(1)])

    def normalized(self, scale: float | int) -> Float[Tensor, "points batch *event"]:
        """The path over sqrt(alpha^2 scale^2 + sigma^2), `scale` the standard deviation of a coordinate of the data.

        Raises InputError unless scale > 0.
        """
        if not scale > 0:
            raise InputError(f"scale: expected the standard deviation of the data, > 0, got {scale}")
        return self.path / self._over(torch.hypot(self.path_alphas * scale, self.path_sigmas))

    def _over(self, values: Tensor) -> Tensor:
        return values.to(self.states).reshape(-1, *[1] * (self.states.ndim - 1))


@torch.no_grad()
def follow(
    denoiser: Denoiser,
    sampler: Sampler,
    x_start: Batch,
    times: Float[Tensor, " levels"],
    *,
    noise: torch.Generator | Noise | None = None,
) -> Trajectories:
    """The trajectories of `sampler` through `x_start` at `times[0]`, with one more evaluation at every time.

    Raises InputError for fewer than three times and for a last one without noise, where the denoiser has no answer.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import follow
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.full((1,), 2.0), 0.0), VE())  # D = 2: straight lines to 2
    >>> found = follow(point, DDIM(), torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]).double())
    >>> [round(value, 6) for value in found.states.flatten().tolist()], float(found.samples)  # 2 + 8 sigma / 4
    ([10.0, 6.0, 4.0], 2.0)
    """
    _require_levels(denoiser.schedule, times)
    states, denoised = [], []
    for part in x_start.split(BATCH):
        passed = list(trajectory(sampler, denoiser, part, times, noise=noise))
        states.append(torch.stack([state.x_t for state in passed]))
        denoised.append(torch.stack([denoiser(state.x_t, state.t) for state in passed]))
    return _at(denoiser.schedule, times, torch.cat(states, 1), torch.cat(denoised, 1))


def gaussian_trajectories(
    gaussian: Gaussian, schedule: Schedule, x_start: Batch, times: Float[Tensor, " levels"]
) -> Trajectories:
    """The same of Gaussian data, in closed form and without error of a sampler. Raises InputError as `follow`.

    In whitened coordinates the flow stands still (`samplers.eigenbasis`): one product with the eigenvectors at the
    start, and one for all states. The arithmetic is float64, the result in the dtype of `x_start`.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import gaussian_trajectories
    >>> times = torch.tensor([16.0, 9.0, 5.0]).double()  # sigma^2 + 144 = 20^2, 15^2, 13^2
    >>> found = gaussian_trajectories(Gaussian.isotropic(torch.ones(1), 144.0), VE(), torch.tensor([[41.0]]), times)
    >>> [round(x, 4) for x in found.states.flatten().tolist()]  # 1 + 40 / 20 of 20, 15, 13
    [41.0, 31.0, 27.0]
    >>> [round(x, 4) for x in found.denoised.flatten().tolist()]  # 1 + 144 (x - 1) / (144 + sigma^2)
    [15.4, 20.2, 23.1538]
    """
    _require_levels(schedule, times)
    basis, grid = Eigenbasis.of(gaussian), instants(schedule, times)
    rows = x_start.double().flatten(1) - grid[0].alpha * basis.mean
    z = basis.coordinates(rows) / basis.spread(grid[0])

    def states_of(gains: list[Tensor], means: Tensor) -> Tensor:
        moved = basis.rows(torch.cat([gain * z for gain in gains])).reshape(len(gains), len(z), -1)
        return (moved + means[:, None, None] * basis.mean).reshape(len(gains), *x_start.shape).to(x_start)

    alphas = torch.tensor([at.alpha for at in grid], dtype=torch.float64)
    states = states_of([basis.spread(at) for at in grid], alphas)
    denoised = states_of([basis.gain(at) for at in grid], torch.ones_like(alphas))
    return _at(schedule, times, states, denoised)


def _at(schedule: Schedule, times: Tensor, states: Tensor, denoised: Tensor) -> Trajectories:
    return Trajectories(times, schedule.alpha(times), schedule.sigma(times), states, denoised)


def _require_levels(schedule: Schedule, times: Tensor) -> None:
    if len(times) < 3 or not float(schedule.sigma(times[-1])) > 0:
        given = f"{len(times)} times, the last with sigma = {float(schedule.sigma(times[-1])) if len(times) else 0:g}"
        raise InputError(f"times: expected at least three, the last with sigma > 0, got {given}")

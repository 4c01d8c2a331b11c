r"""How far a network's probability-flow trajectories leave those of analytic denoisers, from the same starts.

Every trajectory begins at the same x_T and visits the same times. At each of them the state and the denoiser's output
*on its own trajectory* are compared,

.. math::
    \frac1D |x_t - x_t^m|^2, \qquad \frac1D |D(x_t, t) - D_m(x_t^m, t)|^2 ,

both at one time t, so that they are not a step apart. The quartiles are those over the starts: a mean would be that of
the few trajectories that end in another mode.

A Gaussian's trajectory is the closed form, any other's is integrated by the sampler that integrates the network's
(`geometry.trajectories`). The network's own error of discretization is part of its distance to a Gaussian, and enters
twice where both are integrated: refine the grid until the quartiles no longer change.

Source: Wang & Vastola 2023, https://arxiv.org/abs/2311.10892 (theory against DDIM, per step).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.samplers import Sampler

from .geometry import Trajectories, follow, gaussian_trajectories

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryGaps:
    """Squared distances over D at every time of the grid: of states and of denoiser outputs, by candidate.

    `network` are the network's own states and outputs.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory import trajectory_gaps
    >>> network, times = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 0.0), VE()), torch.tensor([4.0, 2.0, 1.0])
    >>> models, starts = {"wide": Gaussian.isotropic(torch.zeros(1), 9.0)}, torch.tensor([[10.0], [20.0], [30.0]])
    >>> gaps = trajectory_gaps(network, models, starts, times.double(), DDIM())
    >>> [round(value, 4) for value in gaps.denoised_quartiles("wide")[:, 0].tolist()]  # 0.36^2 of 250, 400, 650
    [32.4, 51.84, 84.24]
    """

    times: Float[Tensor, " times"]
    ratios: Float[Tensor, " times"]  # sigma/alpha
    states: Mapping[str, Float[Tensor, "times n"]]
    denoised: Mapping[str, Float[Tensor, "times n"]]
    network: Trajectories

    def state_quartiles(self, candidate: str) -> Float[Tensor, "3 times"]:
        """Lower quartile, median and upper quartile of the states' distance at every time."""
        return _quartiles(self.states[candidate])

    def denoised_quartiles(self, candidate: str) -> Float[Tensor, "3 times"]:
        """The same of the denoisers' outputs."""
        return _quartiles(self.denoised[candidate])


@torch.no_grad()
def trajectory_gaps(
    denoiser: Denoiser,
    candidates: Mapping[str, Distribution],
    x_start: Batch,
    times: Float[Tensor, " times"],
    sampler: Sampler,
) -> TrajectoryGaps:
    """The network's and every candidate's trajectory from `x_start` at `times[0]`, by a deterministic sampler.

    The last time must have noise left, as outputs are compared there too. Memory: six times the states of all
    trajectories. Raises InputError for a stochastic sampler, without candidates, and for a grid of fewer than three
    times or one that ends at sigma = 0.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory import trajectory_gaps
    >>> network, times = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 0.0), VE()), torch.tensor([4.0, 2.0, 1.0])
    >>> models, starts = {"wide": Gaussian.isotropic(torch.zeros(1), 9.0)}, torch.tensor([[10.0]])
    >>> gaps = trajectory_gaps(network, models, starts, times.double(), DDIM())
    >>> round(float(gaps.states["wide"][2]), 4)  # 10 (1 / 4) away from 10 sqrt((9 + 1) / (9 + 16))
    14.6272
    """
    schedule = denoiser.schedule
    if sampler.stochastic:
        raise InputError(f"sampler: expected a deterministic one, got {type(sampler).__name__}")
    if not candidates:
        raise InputError("candidates: expected at least one analytic denoiser, got none")
    own = follow(denoiser, sampler, x_start, times)
    states, outputs = {}, {}
    for name, model in candidates.items():
        if isinstance(model, Gaussian):
            other = gaussian_trajectories(model, schedule, x_start, times)
        else:
            other = follow(ExactDenoiser(model, schedule), sampler, x_start, times)
        states[name] = _distance(own.states, other.states)
        outputs[name] = _distance(own.denoised, other.denoised)
    ratios = schedule.noise_to_signal(times)
    return TrajectoryGaps(times=times, ratios=ratios, states=states, denoised=outputs, network=own)


def _distance(a: Tensor, b: Tensor) -> Float[Tensor, "times n"]:
    return (a.double() - b.double()).flatten(2).square().mean(2)


def _quartiles(values: Float[Tensor, "times n"]) -> Float[Tensor, "3 times"]:
    return torch.quantile(values, torch.tensor(QUARTILES, dtype=torch.float64), dim=1)

r"""Variations of one sample: its latent moved along the principal directions of its own trajectory.

The noise predictions :math:`\varepsilon_1, \dots, \varepsilon_m` of one trajectory are centered in time; their right
singular vectors :math:`v_1, v_2, \dots` are the directions in which this generation moved. A variation adds
:math:`s\,v_i` to the state after step k and goes on,

.. math::  x_{t_k} \to x_{t_k} + s\,\sqrt{\alpha_{t_k}^2 + \sigma_{t_k}^2}\; v_i ,

the root being 1 in a variance-preserving schedule, in whose units s is. Random unit directions are the control: of D
dimensions they meet those of the data in few. For Gaussian data the variation is known (`pushes`): the sample
moves by :math:`s \sum_k g_k (u_k^T v_i) u_k` with the gains :math:`g_k` at that time.

Source: Wang & Vastola 2023, https://arxiv.org/abs/2303.02490 (whose distance is a perceptual one; ours is the root mean
square per coordinate).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Sampler, finish
from diffuscope.samplers.eigenbasis import Eigenbasis
from diffuscope.schedules import Schedule, Time, as_time

from .pushes import require_like, sample_gain
from .trajectories import Trajectories


def principal_directions(points: Float[Tensor, "points *event"], count: int) -> Float[Tensor, "count *event"]:
    """The leading principal directions of the points of one trajectory, centered in time: unit vectors, float64.

    Raises InputError for more directions than points - 1 or coordinates.

    >>> import torch
    >>> from diffuscope.theory.geometry import principal_directions
    >>> points = 5 + torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    >>> [round(value, 6) + 0.0 for value in principal_directions(points, 1)[0].abs().tolist()]  # up to the sign
    [0.0, 1.0]
    """
    rows = points.double().flatten(1)
    most = min(len(rows) - 1, rows.shape[1])
    if not 1 <= count <= most:
        raise InputError(f"count: expected 1 .. {most} directions of {len(rows)} points, got {count}")
    vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh
    return vectors[:count].reshape(count, *points.shape[1:])


def random_directions(
    count: int, event_shape: tuple[int, ...], *, generator: torch.Generator
) -> Float[Tensor, "count *event"]:
    """Independent random unit vectors, float64.

    >>> import torch
    >>> from diffuscope.theory.geometry import random_directions
    >>> v = random_directions(2000, (2, 3), generator=torch.Generator().manual_seed(0))
    >>> bool((v.square().sum((1, 2)) - 1).abs().max() < 1e-12)
    True
    >>> bool((v.square().mean(0) - 1 / 6).abs().max() < 5 * 0.0042)  # five standard errors
    True
    """
    drawn = torch.randn(count, *event_shape, dtype=torch.float64, generator=generator)
    return drawn / drawn.flatten(1).norm(dim=1).reshape(-1, *[1] * len(event_shape))


def variations(
    denoiser: Denoiser,
    sampler: Sampler,
    trajectories: Trajectories,
    directions: Float[Tensor, "k *event"],
    *,
    size: float | int,
    step: int,
    which: int = 0,
) -> Float[Tensor, "k *event"]:
    """The samples after `size` times each direction is added to trajectory `which` after `step` steps.

    `denoiser` and `sampler` are those of the trajectories, and the sampler a one-step method (a multistep one starts
    anew). Raises InputError for a step or a trajectory that is not there.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.samplers import DDIM
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.geometry import follow, variations
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.ones(1), 9.0), VE())
    >>> times = torch.tensor([4.0, 2.0, 1.0]).double()
    >>> found = follow(model, DDIM(), torch.tensor([[5.0]]).double(), times)
    >>> varied = variations(model, DDIM(), found, torch.tensor([[1.0]]), size=2, step=1)
    >>> round(float(varied - found.samples[0]), 6)  # 2 sqrt(1 + 2^2) (11 / 13) (9 / 10)
    3.405704
    """
    last, batch = len(trajectories.times) - 1, trajectories.states.shape[1]
    if not 0 <= step < last:
        raise InputError(f"step: expected 0 .. {last - 1} of the {last} steps of the trajectory, got {step}")
    if not 0 <= which < batch:
        raise InputError(f"which: expected 0 .. {batch - 1} of {batch} trajectories, got {which}")
    require_like(directions, trajectories.states[step])
    state = trajectories.states[step, which]
    pushed = state + size * _unit(trajectories, step) * directions.to(state)
    return finish(denoiser, sampler, pushed, trajectories.times[step:])


def gaussian_variation(
    gaussian: Gaussian, schedule: Schedule, t: Time, directions: Float[Tensor, "k *event"], size: float | int
) -> Float[Tensor, "k *event"]:
    """By how much each variation at time t moves a sample of Gaussian data.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.geometry import gaussian_variation
    >>> data = Gaussian.isotropic(torch.ones(1), 3.0)
    >>> moved = gaussian_variation(data, RectifiedFlow(), 0.2, torch.tensor([[1.0]]), size=2)
    >>> round(float(moved), 6)  # 2 sqrt(0.8^2 + 0.2^2) sqrt(3 / (0.64 x 3 + 0.04))
    2.040408
    """
    t = as_time(t)
    size = size * float(torch.hypot(schedule.alpha(t), schedule.sigma(t)))
    basis = Eigenbasis.of(gaussian)
    moved = basis.coordinates(directions.double().flatten(1)) * sample_gain(basis.variances, schedule, t)
    return (size * basis.rows(moved)).reshape(directions.shape)


def distances(samples: Float[Tensor, "k *event"], unperturbed: Float[Tensor, "*event"]) -> Float[Tensor, " k"]:
    """The root mean square difference per coordinate of every sample from the unperturbed one.

    >>> import torch
    >>> from diffuscope.theory.geometry import distances
    >>> round(float(distances(torch.tensor([[4.0, -3.0]]), torch.tensor([1.0, 1.0]))), 6)  # sqrt((3^2 + 4^2) / 2)
    3.535534
    """
    return (samples - unperturbed).double().flatten(1).square().mean(1).sqrt()


def _unit(trajectories: Trajectories, step: int) -> float:
    return float(torch.hypot(trajectories.alphas[step], trajectories.sigmas[step]))

r"""A path of given duration as a curve of given energy: where the direct method is too stiff to begin with.

The duration of the curve that minimizes :math:`W_E` decreases with its energy E, so that the energy of a duration T is
a root of :math:`T(E) = T`, and :math:`S = W_E - E\,T` is the least action. A fast passage between slow states, which on
equal times lies between two nodes or moves along the time axis at almost no cost, is resolved by nodes at equal
distances. `stiff_least_action` ends with the direct method, from this path and on times adapted to it: half of the
nodes are spread over the time and half over the length of the curve,

.. math::  \tfrac12 \frac{t}{T} + \tfrac12 \frac{s(t)}{s(T)} = \frac{k}{N}, \qquad k = 0, \dots, N ,

so that neither the passage nor the wait is missed, and a passage that moves along the time axis leaves its nodes.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from torch import Tensor

from diffuscope.checked_numbers import require_count, require_positive
from diffuscope.errors import InputError

from .adapted_mesh import spread
from .discrete_action import MIDPOINT, Mesh, edgewise
from .dynamics import Dynamics
from .geometric_action import CurveDensity, GeometricAction, geometric_action
from .least_action import LeastAction, least_action

LOWEST = 1e-12  # energy, as a share of that of free motion over the same distance in the same time
INTERVALS = 400
STRIDE = 1.0  # of the logarithm of the energy while a bracket is looked for
MATCHED = 1e-8  # error of the logarithm of the energy
CERTAIN = 0.01  # change of the duration, of itself, when the nodes are doubled


def curve_of_duration(
    dynamics: Dynamics,
    start: Float[Tensor, "..."],
    end: Float[Tensor, "..."],
    duration: float | int,
    intervals: int = INTERVALS,
    *,
    initial: Float[Tensor, "..."] | None = None,
) -> GeometricAction:
    """The curve of least action among those that take `duration`, with its energy; S is `action - energy * duration`.

    Raises InputError as `geometric_action` does, where the energy would not be positive (slower than the drift), and
    where doubling the nodes changes the duration by more than 1 %: near a fixed point the mesh then decides it.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, curve_of_duration
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> found = curve_of_duration(wind, torch.tensor([1.0]), torch.tensor([5.0]), 2, intervals=4)
    >>> S = found.action - found.energy * found.duration
    >>> round(found.energy, 6), round(S, 6)  # (2^2 - 0.5^2) / (4 x 0.25), (2 - 0.5)^2 2 / (4 x 0.25)
    (3.75, 4.5)
    """
    found = _curve(dynamics, start, end, duration, intervals, initial)
    if not found.duration_change <= CERTAIN * found.duration:
        raise _uncertain(found, duration, intervals)
    return found


def _uncertain(found: GeometricAction, duration: float | int, intervals: int) -> InputError:
    return InputError(
        f"duration: expected one that {intervals} intervals resolve to {CERTAIN:.0%}, got {duration:g}; doubling them "
        f"changes {found.duration:.3g} by {found.duration_change:.2g}; use more intervals, or least_action"
    )


def timed(dynamics: Dynamics, found: GeometricAction, times: Mesh) -> Float[Tensor, "nodes d"]:
    """States of the curve at `times`, which are scaled to its duration.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, curve_of_duration, timed
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)  # a straight line at constant speed
    >>> found = curve_of_duration(wind, torch.tensor([1.0]), torch.tensor([5.0]), 2, intervals=4)
    >>> [round(x, 6) for x in timed(wind, found, torch.tensor([0.0, 0.5, 2.0])).flatten().tolist()]
    [1.0, 2.0, 5.0]
    """
    reached = _reached(dynamics, found)
    share = ((times - times[0]) / (times[-1] - times[0])).numpy()
    states = PchipInterpolator(reached / reached[-1], found.curve.numpy())(share)
    return torch.from_numpy(states)


def adapted_times(dynamics: Dynamics, found: GeometricAction, duration: float | int, intervals: int) -> Mesh:
    """Times from 0 to `duration`, half of them spread over the time and half over the length of the curve.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, adapted_times, geometric_action
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> found = geometric_action(spring, torch.tensor([3.0]), torch.tensor([1.0]), 200)  # x = 3 exp(-t), T = log 3
    >>> t = adapted_times(spring, found, math.log(3), 4)
    >>> [round(k, 3) for k in (t / math.log(3) / 2 + (3 - 3 * torch.exp(-t)) / 4).tolist()]  # half t / T, half s / s(T)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    share = torch.linspace(0, 1, len(found.curve), dtype=torch.float64)
    reached = _reached(dynamics, found)
    return duration * torch.from_numpy(spread(reached / reached[-1], share.numpy(), intervals))


def stiff_least_action(
    dynamics: Dynamics,
    start: Float[Tensor, "..."],
    end: Float[Tensor, "..."],
    duration: float | int,
    intervals: int = INTERVALS,
    *,
    initial: Float[Tensor, "..."] | None = None,
) -> LeastAction:
    """`least_action` of the Freidlin-Wentzell functional on adapted times, from the curve of the same duration.

    `initial` is a curve. The curve is only where it begins, so that its duration need not be certain. Raises InputError
    as `curve_of_duration` and `least_action` do.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, stiff_least_action
    >>> spring = Dynamics(lambda x: 2 + 0 * x, 0.5)
    >>> found = stiff_least_action(spring, torch.tensor([2.0]), torch.tensor([9.0]), 1.0, 20)
    >>> round(float(found.action), 6)  # (7 - 2)^2 / (4 x 0.5)
    12.5
    """
    require_count("intervals", intervals, 2)
    found = _curve(dynamics, start, end, duration, INTERVALS, initial)
    times = adapted_times(dynamics, found, duration, intervals)
    return least_action(dynamics, start, end, times, initial=timed(dynamics, found, times)[None])


def _reached(dynamics: Dynamics, found: GeometricAction) -> Float[np.ndarray, " nodes"]:
    """The time at which the nodes of the curve are reached."""
    mesh = torch.linspace(0, 1, len(found.curve), dtype=torch.float64)
    pace = edgewise(CurveDensity(dynamics, found.energy).duration, found.curve[None], mesh, MIDPOINT)[0].detach()
    return np.r_[0, (pace * mesh.diff()).numpy().cumsum()]


def _curve(
    dynamics: Dynamics, start: Tensor, end: Tensor, duration: float | int, intervals: int, initial: Tensor | None
) -> GeometricAction:
    """The curve of a duration, whether the mesh resolves that or not."""
    require_positive(duration=duration)
    K = dynamics.precision_at(start.double()[None], torch.zeros(1, dtype=torch.float64))[0].detach()
    way = (end - start).detach().double()
    free = float(way @ K @ way) / (4 * duration**2)
    if free == 0:
        raise InputError("end: expected another state than start, got the same")
    known: dict[float, GeometricAction] = {}

    def excess(log_energy: float) -> float:
        if log_energy not in known:
            nearest = min(known, key=lambda other: abs(other - log_energy), default=None)
            begin = initial if nearest is None else known[nearest].curve
            energy = math.exp(log_energy)
            known[log_energy] = geometric_action(dynamics, start, end, intervals, energy=energy, initial=begin)
        return math.log(known[log_energy].duration / duration)

    low = high = math.log(free)
    while excess(high) > 0:
        low, high = high, high + STRIDE
    while excess(low) < 0:
        if low < math.log(free * LOWEST):
            if not known[low].duration_change <= CERTAIN * known[low].duration:
                raise _uncertain(known[low], duration, intervals)  # it might be infinite
            raise InputError(
                f"duration: expected at most {known[low].duration:.4g}, the duration at vanishing energy, got "
                f"{duration:g}; use least_action for a longer one"
            )
        low, high = low - STRIDE, low
    root = float(brentq(excess, low, high, xtol=MATCHED, rtol=MATCHED))  # pyright: ignore[reportArgumentType]
    excess(root)
    return known[root]

r"""How often a metastable state is left: the rate, with its prefactor, from a stable point a over a saddle s.

In the limit of weak noise

.. math::
    k = \frac{\lambda_+}{2\pi}\,\sqrt{\frac{\det H_a}{|\det H_s|}}\;
        \exp\!\Big(-\!\int (\nabla\cdot f + \operatorname{tr} D H)\,dt\Big)\; e^{-\Delta S},

with :math:`\lambda_+` the unstable eigenvalue at the saddle, :math:`\Delta S` the least action (the quasipotential, D
included), and H its Hessian along the most likely path (`riccati`). In a gradient system, :math:`f = -D\,\nabla U`,
H is that of U, the integrand vanishes, and the formula is that of Eyring and Kramers; for a particle of mass 1 in a
potential U with friction gamma and temperature T, noise in the velocity alone, it is Kramers',

.. math::
    k = \frac{\sqrt{\gamma^2/4 + |\lambda_s|} - \gamma/2}{2\pi}\,
        \sqrt{\frac{\det\nabla\nabla U_a}{|\det\nabla\nabla U_s|}}\; e^{-\Delta U/T},

:math:`\lambda_s` the negative eigenvalue of the Hessian at the saddle. If all of D is multiplied by c, the prefactor
stays and the exponent is divided by c; the relative error of the formula is of order c. Over several saddles rates add.

Sources: Kramers 1940, https://doi.org/10.1016/S0031-8914(40)90098-2; Maier & Stein 1997,
https://doi.org/10.1137/S0036139994271753; Bouchet & Reygner 2016, https://doi.org/10.1007/s00023-016-0507-4.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics
from .fixed_points import FixedPoint, fixed_point
from .instanton import Instanton, instanton
from .riccati import curvatures

Potential = Callable[[Tensor], Tensor]
State = Float[Tensor, " d"]


@dataclass(frozen=True, eq=False)
class Rate:
    """k = prefactor exp(-barrier): a prefactor in inverse units of time, and a barrier without unit.

    >>> import math
    >>> from diffuscope.theory.paths import Rate
    >>> slow = Rate(prefactor=2.0, barrier=3.0)
    >>> round(slow.rate / math.exp(-3), 6), round(slow.at(0.5) / math.exp(-6), 6)  # half the noise, twice the exponent
    (2.0, 2.0)
    """

    prefactor: float
    barrier: float

    @property
    def rate(self) -> float:
        """Transitions per unit of time from the one state."""
        return self.at(1.0)

    def at(self, noise: float | int) -> float:
        """The rate where all of D is multiplied by `noise` > 0."""
        if not (noise > 0 and math.isfinite(noise)):
            raise InputError(f"noise: expected a finite number > 0, got {noise}")
        return self.prefactor * math.exp(-self.barrier / noise)


@dataclass(frozen=True, eq=False)
class Transition(Rate):
    """A rate with its parts: the ends, the path between them, the Hessian at the saddle, and the three factors.

    prefactor = `growth` / (2 pi) * `curvature_ratio` * exp(-`expansion`).

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, transition_rate
    >>> wells = Dynamics(lambda x: -x * (x - 1) * (x - 4), 0.5)  # U'' = 4 at 0 and -3 at 1
    >>> found = transition_rate(wells, torch.tensor([0.0]), torch.tensor([1.0]))
    >>> round(found.growth, 6), abs(found.curvature_ratio - (4 / 3) ** 0.5) < 2e-3, abs(found.expansion) < 2e-3
    (3.0, True, True)
    """

    stable: FixedPoint
    saddle: FixedPoint
    path: Instanton
    growth: float
    curvature_ratio: float
    expansion: float


def transition_rate(
    dynamics: Dynamics, stable: State, saddle: State, *, initial: Float[Tensor, "nodes d"] | None = None
) -> Transition:
    """The rate from the stable fixed point near `stable` over the saddle near `saddle`, for a constant D.

    `initial` is a curve to begin the path with, as in `geometric_action`. Raises InputError for a D that depends on the
    state, ends of another kind, where no path is found, and where the quasipotential is not smooth along it.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, transition_rate
    >>> wells = Dynamics(lambda x: -x * (x - 1) * (x - 4), 0.5)  # U = x^4 / 4 - 5 x^3 / 3 + 2 x^2
    >>> found = transition_rate(wells, torch.tensor([0.0]), torch.tensor([1.0]))
    >>> round(found.barrier, 4)  # U(1) / D
    1.1667
    >>> abs(found.prefactor / (3 / (2 * math.pi) * (4 / 3) ** 0.5) - 1) < 1e-3  # of Eyring and Kramers
    True
    """
    if not dynamics.constant:
        raise InputError("diffusion: expected a constant D, got a function of the state")
    a, s = _end(dynamics, stable, "stable"), _end(dynamics, saddle, "saddle")
    path = instanton(dynamics, a, s, initial)
    found = curvatures(dynamics, a, s, path)
    growth = float(s.eigenvalues.real.max())
    ratio = math.sqrt(float(torch.linalg.det(found.at_stable) / torch.linalg.det(found.at_saddle).abs()))
    prefactor = growth / (2 * math.pi) * ratio * math.exp(-found.expansion)
    return Transition(prefactor, found.barrier, a, s, path, growth, ratio, found.expansion)


def eyring_kramers(potential: Potential, diffusion: float | int | Tensor, stable: State, saddle: State) -> Rate:
    """The rate of dX = -D grad U dt + G dW, D = G G^T / 2, with U (n, d) -> (n,) in units of the noise.

    Raises InputError unless the ends are a minimum of U and a point where exactly one direction falls.

    >>> import torch
    >>> from diffuscope.theory.paths import eyring_kramers
    >>> U = lambda x: (x**4 / 4 - 5 * x**3 / 3 + 2 * x**2).sum(1)  # U'' = 4 at 0 and -3 at 1
    >>> found = eyring_kramers(U, 0.5, torch.tensor([0.0]), torch.tensor([1.0]))
    >>> round(found.barrier, 6), round(found.prefactor, 6)  # U(1) - U(0), 0.5 x 3 / (2 pi) sqrt(4 / 3)
    (0.583333, 0.275664)
    """
    D = Dynamics(torch.zeros_like, diffusion).matrix_at(stable[None], torch.zeros(1))[0]
    H_s, barrier, ratio = _curvatures(potential, stable, saddle)
    growth = float(torch.linalg.eigvals(-D @ H_s).real.max())
    return Rate(growth / (2 * math.pi) * ratio, barrier)


def kramers(
    potential: Potential, friction: float | int, temperature: float | int, stable: State, saddle: State
) -> Rate:
    """The rate of a particle of mass 1: dx = v dt, dv = -(grad U + gamma v) dt + sqrt(2 gamma T) dW.

    `stable` and `saddle` are positions. Raises InputError for a friction or temperature that is not positive, and as
    `eyring_kramers`.

    >>> import torch
    >>> from diffuscope.theory.paths import kramers
    >>> U = lambda x: (x**4 / 4 - 5 * x**3 / 3 + 2 * x**2).sum(1)  # U'' = 4 at 0 and -3 at 1
    >>> found = kramers(U, 2.0, 0.25, torch.tensor([0.0]), torch.tensor([1.0]))
    >>> round(found.barrier, 6), round(found.prefactor, 6)  # U(1) / 0.25, (sqrt(1 + 3) - 1) / (2 pi) sqrt(4 / 3)
    (2.333333, 0.183776)
    """
    for name, value in (("friction", friction), ("temperature", temperature)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name}: expected a finite number > 0, got {value}")
    H_s, barrier, ratio = _curvatures(potential, stable, saddle)
    falling = -float(torch.linalg.eigvalsh(H_s)[0])
    growth = math.sqrt(friction**2 / 4 + falling) - friction / 2
    return Rate(growth / (2 * math.pi) * ratio, barrier / temperature)


def _end(dynamics: Dynamics, guess: State, name: str) -> FixedPoint:
    found = fixed_point(dynamics, guess, name)
    if found.kind == "degenerate" or found.unstable_directions != (name == "saddle"):
        expected = "a stable fixed point" if name == "stable" else "a saddle with one unstable direction"
        shown = ", ".join(f"{value:.3g}" for value in found.eigenvalues.real.tolist())
        raise InputError(f"{name}: expected {expected}, got eigenvalues with the real parts {shown}")
    return found


def _curvatures(potential: Potential, stable: State, saddle: State) -> tuple[Tensor, float, float]:
    """The Hessian of U at the saddle, the difference of U, and sqrt(det / |det|) of the Hessians."""
    ends = torch.stack([stable.double(), saddle.double()])
    U = potential(ends)
    if tuple(U.shape) != (2,) or not bool(torch.isfinite(U).all()):
        raise InputError(f"potential: expected one finite number per state, got shape {tuple(U.shape)} for 2 states")
    H_a, H_s = (torch.autograd.functional.hessian(lambda x: potential(x[None])[0], x) for x in ends)  # pyright: ignore
    for name, H, falling in (("stable", H_a, 0), ("saddle", H_s, 1)):
        eigenvalues = torch.linalg.eigvalsh(H)  # pyright: ignore
        if int((eigenvalues < 0).sum()) != falling or bool((eigenvalues == 0).any()):
            expected = "a minimum" if falling == 0 else "a point where one direction falls"
            raise InputError(f"{name}: expected {expected}, got a Hessian with the eigenvalues {eigenvalues.tolist()}")
    ratio = math.sqrt(float(torch.linalg.det(H_a) / torch.linalg.det(H_s).abs()))  # pyright: ignore
    return H_s, float((U[1] - U[0]).detach()), ratio  # pyright: ignore

r"""A few-step sampler fitted to one model: Adams-Bashforth about the Gaussian, with calibrated weights and levels.

In the whitened coordinates z of `eigenbasis` only the residual :math:`\Delta = D - D_G` moves the state. With levels
:math:`w_0 < w_1 < \dots < w_{n-1}` of :math:`w = \alpha/\sigma` and one evaluation at each,

.. math::
    z_0 = z_T + b, \qquad
    z_{i+1} = z_i + \kappa(w_i, w_{i+1})\sum_{j=0}^{3} a_{ij}\,\Delta_{i-j}, \qquad
    u_k^T(x_0 - \mu) = g_{end} z_{n-1} + \sum_{j=0}^3 a_{n-1,j}\,\Delta_{n-1-j} + c\,(g_{n-1} - g_{end})\, z_{n-1},

where :math:`g z` is the Gaussian's denoiser, at the last level and at the end of the schedule. The first equation is
the teleport (no evaluation; b is the model's mean departure from the Gaussian up to w_0). The last is a denoise: with
a = (1, 0, 0, 0) and c = 1 exactly D. The usual Adams-Bashforth weights :math:`a_{ij}` are those of polynomial
extrapolation in log w; `calibration.calibrate` fits these scalars to trajectories of the model itself.

On Gaussian data Delta = 0, and every choice of weights and levels is exact. Calibrated coefficients belong to one
model: with another they are a solver of order 1 at best. `plain` names a plain solver that did better in validation;
it then makes the steps.
"""

import bisect
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.files import save_arrays

from .adams_bashforth import DataAdamsBashforth, NoiseAdamsBashforth
from .contract import Evaluation, Sampler, State, sample
from .ddim import DDIM
from .dpm_solver import DPMSolverPP2M, DPMSolverPP3M
from .eigenbasis import Eigenbasis
from .noise import Noise
from .schedule_values import Instant
from .unipc import UniPC

HISTORY = 4  # residuals that a step combines
SCALARS = ("end", "jumps", "carry", "error", "reference_error", "evaluations")  # saved as they are
EIGENPAIRS = ("mean", "eigenvectors", "eigenvalues")  # of the Gaussian
SAME_LEVEL = 1e-4  # in lambda: levels closer than this are one

PLAIN: Mapping[str, Sampler] = {
    "DDIM": DDIM(),
    "DPM-Solver++ 2M": DPMSolverPP2M(),
    "DPM-Solver++ 3M": DPMSolverPP3M(),
    "data Adams-Bashforth 2": DataAdamsBashforth(2),
    "data Adams-Bashforth 3": DataAdamsBashforth(3),
    "noise Adams-Bashforth 2": NoiseAdamsBashforth(2),
    "noise Adams-Bashforth 3": NoiseAdamsBashforth(3),
    "UniPC 2": UniPC(2),
    "UniPC 3": UniPC(3, accurate_start=False),
}
"""The plain solvers that a calibration competes with, each with one evaluation per step."""


@dataclass(frozen=True, eq=False, slots=True)
class Residual(Evaluation):
    """An evaluation with D - D_G in the Gaussian's eigenbasis."""

    delta: Float[Tensor, "batch m"]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The sampler that `calibrate` fits; use it on the grid `times(denoiser)`, or call `sample`.

    `gaussian` is the one about which the steps expand: the data's or an isotropic one.
    `levels` are log(alpha/sigma) from the start on (-inf where it has alpha = 0): the first is the start, and if
    `jumps`, the second is the end of the teleport; one evaluation at each but the start of a jump. `end` is the level
    of the end of the model's schedule. `weights` is a_ij, latest residual first; `carry` is c; `shift` is b, as a
    vector of the data space.

    Measured in the calibration, as mean endpoint distance over sqrt(D) on held-out starts: `error` of this sampler and
    `plain_errors` of every plain solver on its best grid; `reference_error` is the distance of the reference
    trajectories from those of half as many steps. `evaluations` is the cost of the calibration, in single-sample calls.
    Raises InputError for an unknown `plain` solver and for levels that do not increase.

    >>> import math, torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Calibrated
    >>> data, model = Gaussian.isotropic(torch.tensor([2.0]), 3.0), Gaussian.isotropic(torch.tensor([1.0]), 3.0)
    >>> measured = {"plain": None, "error": 0.0, "plain_errors": {}, "reference_error": 0.0, "evaluations": 0}
    >>> steps = {"levels": (-math.log(13) / 2, 0.0), "end": 5.0, "jumps": True, "shift": torch.zeros(1)}
    >>> sampler = Calibrated(data, weights=torch.tensor([[1.0, 0.0, 0.0, 0.0]]), carry=1.0, **steps, **measured)
    >>> x = sampler.sample(ExactDenoiser(model, VE()), torch.tensor([[10.0]]))
    >>> sampler.nfe, round(float(x), 4)  # the jump to 2 + 8 (4 / 16)^(1/2) = 6, where D = 1 + 3/4 (6 - 1)
    (1, 4.75)
    """

    gaussian: Gaussian
    levels: tuple[float, ...]
    end: float
    jumps: bool
    weights: Float[Tensor, "n 4"]
    carry: float
    shift: Float[Tensor, "*event"]
    plain: str | None
    error: float
    plain_errors: Mapping[str, float]
    reference_error: float
    evaluations: int
    _tables: dict = field(default_factory=dict, init=False, repr=False)  # cached coefficients of the steps

    order = 1
    stochastic = False

    def __post_init__(self) -> None:
        if self.plain is not None and self.plain not in PLAIN:
            raise InputError(f"plain: expected one of {', '.join(PLAIN)}, got {self.plain!r}")
        if not all(a < b for a, b in itertools.pairwise(self.levels)):
            raise InputError(f"levels: expected increasing log(alpha/sigma), got {list(self.levels)}")

    @property
    def nfe(self) -> int:
        """Evaluations per trajectory, the final denoise included."""
        return len(self.levels) - self.jumps

    @property
    def nfe_per_step(self) -> int | None:
        """One, but for the jump, which costs none."""
        return None if self.jumps else 1

    @property
    def gain(self) -> float:
        """Error of the best plain solver over ours, in validation: 1 where a plain solver makes the steps."""
        best = min(self.plain_errors.values(), default=math.nan)
        return best / self.error if self.error > 0 else 1.0 if best == 0 else math.inf

    def times(self, denoiser: Denoiser) -> Float[Tensor, " times"]:
        """The levels as times of the denoiser's schedule, and the time of clean data after them."""
        schedule = denoiser.schedule
        inner = nearest_trained_time(denoiser, schedule.time_of_lambda(torch.tensor(self.levels, dtype=torch.float64)))
        return torch.cat([inner, schedule.time_of_lambda(math.inf).reshape(1)])

    def sample(self, denoiser: Denoiser, x_start: Batch) -> Batch:
        """Clean data from states at the start of the schedule, in `nfe` evaluations."""
        return sample(self, denoiser, x_start, self.times(denoiser))

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """From one of the levels to the next, or from the last to clean data; InputError for any other step."""
        if self.plain is not None:
            return PLAIN[self.plain].step(denoiser, state, s, noise)
        t, x_t = state.at, state.x_t
        table = self._table(self._index(t, s), t, s, x_t)
        basis = table.basis
        noised = basis.coordinates_about(table.start, x_t.flatten(1))
        if isinstance(table, _Jump):
            coordinates, history = torch.addcmul(table.shift, table.kept, noised), ()
        else:
            denoised = denoiser(x_t, t.t)
            centered = basis.coordinates_about(table.mean, denoised.flatten(1))
            residual = Residual(t, x_t, denoised, torch.addcmul(centered, table.gaussian, noised, value=-1))
            history = (*state.history[-HISTORY + 1 :], residual)
            coordinates = table.kept * noised
            for weight, past in zip(table.weights, reversed(history), strict=False):
                assert isinstance(past, Residual)
                coordinates = torch.addcmul(coordinates, weight, past.delta)
        return State(s, basis.rows_about(table.arrival, coordinates).reshape(x_t.shape), history)

    def _index(self, t: Instant, s: Instant) -> int:
        """The number of the step, from its two ends."""
        i = bisect.bisect_left(self.levels, t.lam - SAME_LEVEL)
        following = (*self.levels, math.inf)
        if i < len(self.levels) and _same(following[i], t.lam) and _same(following[i + 1], s.lam):
            return i
        raise InputError(
            f"times: a calibrated sampler walks its own `times(denoiser)` only, got a step from {t.t:g} to {s.t:g}"
        )

    def _table(self, i: int, t: Instant, s: Instant, x_t: Batch) -> "_Step | _Jump":
        key = (i, t.alpha, x_t.dtype, x_t.device)
        if key not in self._tables:
            self._tables[key] = self._computed_table(i, t, s, x_t)
        return self._tables[key]

    def _computed_table(self, i: int, t: Instant, s: Instant, x_t: Batch) -> "_Step | _Jump":
        basis = Eigenbasis.of(self.gaussian)
        same = (table.basis for key, table in self._tables.items() if key[2:] == (x_t.dtype, x_t.device))
        shared = next(same, None) or basis.to(x_t)
        mean, whiten, n = basis.coordinates(basis.mean[None]), 1 / basis.spread(t), i - self.jumps
        start, arrival = (t.alpha * mean).to(x_t), (s.alpha * basis.mean[None]).to(x_t)
        if n < 0:
            shift = basis.spread(s) * basis.coordinates(self.shift.to(basis.mean).reshape(1, -1))
            return _Jump(shared, start, arrival, (basis.spread(s) * whiten).to(x_t), shift.to(x_t))
        if n < self.nfe - 1:
            kept = basis.spread(s) * whiten
            weights = [a * basis.spread(s) * basis.kernel(t, s) for a in self.weights[n].tolist()]
        else:
            end = basis.gain_at(self.end)
            kept = (end + self.carry * (basis.gain(t) - end)) * whiten
            weights = [a * torch.ones_like(kept) for a in self.weights[n].tolist()]
        gaussian = basis.gain(t) * whiten
        return _Step(
            shared, start, arrival, kept.to(x_t), mean.to(x_t), gaussian.to(x_t), [weight.to(x_t) for weight in weights]
        )

    def save(self, path: str | Path) -> None:
        """Write a .npz file of plain arrays."""
        tensors = {"weights": self.weights, "shift": self.shift}
        tensors |= {name: getattr(self.gaussian, name) for name in EIGENPAIRS}
        arrays = {
            "kind": np.array("Calibrated"),
            "levels": np.array(self.levels),
            "plain": np.array(self.plain or ""),
            "plain_names": np.array(list(self.plain_errors), dtype=np.str_),
            "plain_errors": np.array(list(self.plain_errors.values()), dtype=float),
            "tail_variance": np.array(self.gaussian.tail_variance),
        }
        arrays |= {name: np.array(getattr(self, name)) for name in SCALARS}
        save_arrays(Path(path), arrays | {name: tensor.cpu().numpy() for name, tensor in tensors.items()})

    @classmethod
    def load(cls, path: str | Path) -> "Calibrated":
        """Read what `save` wrote, without pickle. Raises InputError for a file that is missing or something else."""
        name = Path(path).name
        try:
            with np.load(path, allow_pickle=False) as file:
                if "kind" not in file or str(file["kind"]) != "Calibrated":
                    raise InputError(f"path: expected a saved calibration, got {name}, which is none")
                a = dict(file)
            mean, eigenvectors, eigenvalues = (torch.tensor(a[name]) for name in EIGENPAIRS)
            return cls(
                gaussian=Gaussian(mean, eigenvectors, eigenvalues, float(a["tail_variance"])),
                levels=tuple(a["levels"].tolist()),
                weights=torch.tensor(a["weights"]),
                shift=torch.tensor(a["shift"]),
                plain=str(a["plain"]) or None,
                plain_errors=dict(zip(a["plain_names"].tolist(), a["plain_errors"].tolist(), strict=True)),
                **{name: a[name].item() for name in SCALARS},
            )
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"path: cannot read {name} as a saved calibration ({error})") from error


@dataclass(frozen=True, eq=False)
class _Jump:
    """The coefficients of the teleport. `start` and `arrival` are alpha mu, as coordinates and as a row."""

    basis: Eigenbasis
    start: Float[Tensor, "1 m"]
    arrival: Float[Tensor, "1 D"]
    kept: Float[Tensor, " m"]
    shift: Float[Tensor, "1 m"]


@dataclass(frozen=True, eq=False)
class _Step:
    """The coefficients of a step: `kept` and `gaussian` (for D_G - mu) of the state, `weights` of the residuals."""

    basis: Eigenbasis
    start: Float[Tensor, "1 m"]
    arrival: Float[Tensor, "1 D"]
    kept: Float[Tensor, " m"]
    mean: Float[Tensor, "1 m"]
    gaussian: Float[Tensor, " m"]
    weights: list[Tensor]


def _same(a: float, b: float) -> bool:
    return a == b or abs(a - b) < SAME_LEVEL

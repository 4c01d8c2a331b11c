r"""Calibrating a sampler to one model: levels and weights fitted to a few of the model's own trajectories.

Half of the starts fit, the other half validate and choose.

1. **Reference.** Every start is carried to the end with `reference_steps` evaluations, by the calibrated sampler's own
   scheme with plain Adams-Bashforth weights of order 4.
2. **Weights for given levels**, one step after the other, by least squares on the states that the *fitted* steps
   before have reached, so that a step also corrects what they left:

   .. math::  \min_a \sum_m q_m \left|\,W\left(z^{ref}_{i+1} - z_i - \kappa\sum_j a_j\Delta_{i-j}\right)_m\right|^2
              + \text{ridge towards Adams-Bashforth}, \qquad W_k^2 = \lambda_k + \tfrac{3}{10}\tilde\sigma_{i+1}^2 .

   W measures z by what it moves at the end. The error of interest is the mean distance, not its square, so the fit is
   repeated with :math:`q_m = 1/(\text{distance}_m + \tfrac1{10}\text{mean distance})`: trajectories that choose
   another mode must not rule the rest.
3. **Levels** from a family of grids: the first level (the teleport), the last, and how they crowd.
4. **All together**: weights and levels by Gauss-Newton on the distance at the end, with the same q, derivatives by
   differences; a round that does not improve both halves is damped or refused.
5. **Plain solvers** on grids of the same kind compete in validation, and win where they are better.

Sources of the ideas: reference trajectories and per-step coefficients, Shaul et al. 2024, *Bespoke Non-Stationary
Solvers* (arXiv:2403.01329); levels fitted too, Tong et al. 2024, *Learning to Discretize* (arXiv:2405.15506); the
Gaussian as the part that is known, Wang & Vastola 2024 (arXiv:2412.09726).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule

from .adams_bashforth import interpolation_weights
from .calibrated import HISTORY, PLAIN, SAME_LEVEL, Calibrated
from .contract import sample
from .eigenbasis import Eigenbasis
from .schedule_values import Instant, instants

FAR = 300.0  # sigma/alpha in deviations of the data, above which a grid of finite levels does not start
RIDGE = 1e-6  # of the mean square of a feature
NEGLIGIBLE = 1e-9  # a feature this much smaller than the largest is rounding
HIGH_NOISE_SHARE = 0.3
OUTLIERS = 0.1  # share of the mean distance below which a trajectory weighs no more
DIFFERENCE = 1e-3  # step of the numerical derivatives, in weights and in log(alpha/sigma)
CLOSEST = 0.02  # levels keep this distance in log(alpha/sigma)
CHUNK = 512  # samples in one call of the denoiser

FIRST_LEVELS = (math.inf, 20.0, 5.0, 2.5, 1.5)  # sigma/alpha in units of the largest standard deviation
LAST_LEVELS = (0.4, 0.15, 0.05, 0.015)  # and of the mean one
CROWDING = (2.0, 4.0, 7.0, math.inf)  # rho of Karras' grids; infinity is uniform in log(sigma/alpha)


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    gaussian: Gaussian,
    nfe: int,
    *,
    starts: Batch,
    reference_steps: int = 160,
    rounds: int = 4,
) -> Calibrated:
    """The sampler of `nfe` evaluations fitted to `denoiser`, from states `starts` at the start of its schedule.

    `starts` are noise of the model's highest level, in the dtype that it works in; 256 are plenty in high dimension,
    1,000 do not hurt in two. `gaussian` has the mean and covariance of the data. `rounds` of Gauss-Newton (0: the
    sequential fit alone) each cost about 2 nfe^2 evaluations per start, the search of levels 30 nfe, the reference
    1.5 reference_steps; a model of 1,000 discrete times keeps its levels at trained ones. Deterministic; the result
    carries what it cost. Memory: reference_steps states per start.

    Raises InputError for nfe < 2, fewer than 8 starts, starts that do not fit the Gaussian or are not finite, a
    reference shorter than 2 nfe steps, and a denoiser that answers NaN or infinity.
    """
    if nfe < 2:
        raise InputError(f"nfe: expected at least 2 evaluations, got {nfe}")
    if len(starts) < 8 or tuple(starts.shape[1:]) != gaussian.event_shape:
        raise InputError(f"starts: expected (8 or more, *{gaussian.event_shape}), got {tuple(starts.shape)}")
    if not bool(torch.isfinite(starts).all()):
        raise InputError("starts: expected finite values, got NaN or infinity")
    if reference_steps < 2 * nfe:
        raise InputError(f"reference_steps: expected at least 2 nfe = {2 * nfe}, got {reference_steps}")
    if rounds < 0:
        raise InputError(f"rounds: expected 0 or more, got {rounds}")
    model = _Model.of(denoiser, gaussian, starts)
    reference = _reference(model, starts, reference_steps)
    check = _reference(model, starts[: max(8, len(starts) // 4)], reference_steps // 2)
    reference_error = model.distance(check.end, reference.end[: len(check.end)])
    fitting, validating = reference.part(slice(0, None, 2)), reference.part(slice(1, None, 2))

    best = _searched(model, fitting, validating, nfe)
    best = _polished(model, fitting, validating, best, rounds)
    plain = _plain_solvers(model, starts[1::2], validating, nfe)
    name = min(plain, key=lambda key: plain[key].error)
    shared = {
        "gaussian": gaussian,
        "end": model.end.lam,
        "plain_errors": {key: solver.error for key, solver in plain.items()},
        "reference_error": reference_error,
    }
    start = model.start.lam
    if plain[name].error < best.error:
        return Calibrated(
            levels=tuple(at.lam for at in plain[name].levels),
            jumps=False,
            weights=torch.zeros(nfe, HISTORY, dtype=torch.float64),
            carry=0.0,
            shift=torch.zeros_like(gaussian.mean),
            plain=name,
            error=plain[name].error,
            evaluations=model.evaluations,
            **shared,
        )
    plan = best.plan
    jumps = plan.levels[0].lam > start + SAME_LEVEL
    return Calibrated(
        levels=((start,) if jumps else ()) + tuple(at.lam for at in plan.levels),
        jumps=jumps,
        weights=plan.weights[:, :HISTORY].cpu(),
        carry=float(plan.weights[-1, HISTORY]),
        shift=model.basis.rows(plan.shift[None]).reshape(gaussian.event_shape).cpu(),
        plain=None,
        error=best.error,
        evaluations=model.evaluations,
        **shared,
    )


class _Model:
    """The denoiser as the residual that moves z, counting its evaluations."""

    def __init__(self, denoiser: Denoiser, basis: Eigenbasis, like: Batch) -> None:
        schedule = denoiser.schedule
        self.denoiser, self.basis, self.like, self.evaluations = denoiser, basis, like, 0
        ends = nearest_trained_time(denoiser, torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64))
        self.start, self.end = instants(schedule, ends)
        self.deviation = float(basis.variances.sum() / like[0].numel()) ** 0.5
        self.largest = float(basis.variances.max()) ** 0.5

    @classmethod
    def of(cls, denoiser: Denoiser, gaussian: Gaussian, starts: Batch) -> "_Model":
        return cls(denoiser, Eigenbasis.of(gaussian, starts.device), starts)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D(x_t, t), counted and checked: what a plain solver sees."""
        self.evaluations += len(x_t)
        denoised = torch.cat([self.denoiser(part, t) for part in x_t.split(CHUNK)])
        if denoised.shape != x_t.shape or not bool(torch.isfinite(denoised).all()):
            raise InputError(f"denoiser: expected finite values of shape {tuple(x_t.shape)} at time {float(t):g}")
        return denoised

    def residual(self, z: Float[Tensor, "M m"], at: Instant) -> Float[Tensor, "M m"]:
        """Delta at the state z."""
        rows = self.basis.rows(self.basis.spread(at) * z) + at.alpha * self.basis.mean
        denoised = self(rows.reshape(-1, *self.like.shape[1:]).to(self.like.dtype), at.t)
        return self.basis.coordinates(denoised.double().flatten(1) - self.basis.mean) - self.basis.gain(at) * z

    def whitened(self, x_start: Batch) -> Float[Tensor, "M m"]:
        """z of states at the start."""
        rows = x_start.double().flatten(1) - self.start.alpha * self.basis.mean
        return self.basis.coordinates(rows) / self.basis.spread(self.start)

    def levels(self, lams: Sequence[float]) -> tuple[Instant, ...] | None:
        """The trained levels nearest to `lams`; None where they leave the model's range or come too close."""
        if not (lams[0] >= self.start.lam and lams[-1] <= self.end.lam + 1e-9):
            return None
        times = self.schedule.time_of_lambda(torch.tensor(lams, dtype=torch.float64))
        times = nearest_trained_time(self.denoiser, times)
        if lams[0] <= self.start.lam + SAME_LEVEL:
            times[0] = self.start.t
        if not bool((times[1:] < times[:-1]).all()):
            return None
        levels = instants(self.schedule, times)
        apart = all(b.lam - a.lam >= CLOSEST for a, b in itertools.pairwise(levels))
        return levels if apart or self.discrete else None

    def distance(self, a: Float[Tensor, "M m"], b: Float[Tensor, "M m"]) -> float:
        """Mean distance over sqrt(D). At low rank too: the rest is orthogonal to the eigenvectors."""
        return float((a - b).norm(dim=1).mean()) / len(self.basis.mean) ** 0.5

    @property
    def discrete(self) -> bool:
        """Whether the model knows some times only."""
        middle = (self.start.t + self.end.t) / 2 + math.sqrt(2) / 1e3 * (self.start.t - self.end.t)
        return float(nearest_trained_time(self.denoiser, middle)) != middle


class _Plan(NamedTuple):
    """Levels of evaluation, a row of weights for each (latest residual first; the carry last), the shift b."""

    levels: tuple[Instant, ...]
    weights: Float[Tensor, "n 5"]
    shift: Float[Tensor, " m"]


class _Judged(NamedTuple):
    """A plan and its validation error."""

    error: float
    plan: _Plan


class _JudgedSolver(NamedTuple):
    """A plain solver's levels and their validation error."""

    error: float
    levels: tuple[Instant, ...]


@dataclass(frozen=True, eq=False)
class _Trajectories:
    """Reference states z at increasing levels, and where they end."""

    lams: Float[Tensor, " levels"]
    z: Float[Tensor, "levels M m"]
    end: Float[Tensor, "M m"]

    def at(self, lam: float) -> Float[Tensor, "M m"]:
        """z at any level, by the cubic through the four nearest."""
        if lam <= float(self.lams[0]) + SAME_LEVEL:
            return self.z[0].double()
        first_finite = int(not math.isfinite(float(self.lams[0])))
        right = int(torch.searchsorted(self.lams, lam))
        first = max(first_finite, min(right - 2, len(self.lams) - 4))
        nodes = self.lams[first : first + 4].tolist()
        z = torch.zeros_like(self.z[0], dtype=torch.float64)
        for j, node in enumerate(nodes):
            others = [other for i, other in enumerate(nodes) if i != j]
            z = z + math.prod((lam - other) / (node - other) for other in others) * self.z[first + j]
        return z

    def part(self, which: slice) -> "_Trajectories":
        """Some of the trajectories."""
        return _Trajectories(self.lams, self.z[:, which], self.end[which])


def _reference(model: _Model, starts: Batch, steps: int) -> _Trajectories:
    """The scheme itself on `steps` levels (fewer where the model has fewer), with plain weights."""
    lam_start = max(model.start.lam, -math.log(FAR * model.largest))
    lams = torch.linspace(lam_start, model.end.lam, steps, dtype=torch.float64)
    times = nearest_trained_time(model.denoiser, model.schedule.time_of_lambda(lams))
    times[0], times[-1] = (model.start.t if model.start.lam == lam_start else times[0]), model.end.t
    if model.start.lam < lam_start:
        times = torch.cat([times.new_tensor([model.start.t]), times])
    levels = instants(model.schedule, torch.unique_consecutive(times))
    plan = _Plan(levels, _plain_weights(levels), torch.zeros_like(model.basis.variances))
    walk = _walk(model, plan, model.whitened(starts))
    states = torch.stack([state.to(starts.dtype) for state in walk.states])
    return _Trajectories(torch.tensor([at.lam for at in levels], dtype=torch.float64), states, walk.end)


def _plain_weights(levels: Sequence[Instant]) -> Float[Tensor, "n 5"]:
    """Adams-Bashforth of order up to 4, the residual a polynomial in log w; a plain denoise at the end."""
    weights = torch.zeros(len(levels), HISTORY + 1, dtype=torch.float64)
    for i in range(len(levels) - 1):
        past = [at.lam for at in reversed(levels[max(0, i - HISTORY + 1) : i + 1]) if math.isfinite(at.lam)]
        if math.isfinite(levels[i].lam):
            row = interpolation_weights(tuple(past), levels[i].lam, levels[i + 1].lam, rate=0.0, power=0.0)
            weights[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        else:
            weights[i, 0] = 1.0
    weights[-1, 0] = 1.0
    return weights


class _Walk(NamedTuple):
    """A walk of a plan: the states z at its levels, the residuals there, the features of each step, the end."""

    states: list[Tensor]
    residuals: list[Tensor]
    features: list[list[Tensor]]
    end: Tensor


def _features(model: _Model, levels: Sequence[Instant], i: int, z: Tensor, residuals: Sequence[Tensor]) -> list[Tensor]:
    """What step i combines: transported residuals, latest first, and at the end the carry."""
    latest = residuals[i::-1][:HISTORY] if i < HISTORY else residuals[i : i - HISTORY : -1]
    if i < len(levels) - 1:
        kernel = model.basis.kernel(levels[i], levels[i + 1])
        return [kernel * delta for delta in latest]
    return [*latest, (model.basis.gain(levels[i]) - model.basis.gain(model.end)) * z]


def _base(model: _Model, levels: Sequence[Instant], i: int, z: Tensor) -> Tensor:
    """What Gaussian data would do: stand still, and be denoised at the end."""
    return z if i < len(levels) - 1 else model.basis.gain(model.end) * z


def _combined(base: Tensor, weights: Tensor, features: Sequence[Tensor], last: bool) -> Tensor:
    """base + sum_j a_j F_j; the carry is the last feature of the last step."""
    row = weights.tolist()
    if last:
        row = [*row[: len(features) - 1], row[HISTORY]]
    for weight, feature in zip(row, features, strict=False):
        if weight:
            base = base.add(feature, alpha=weight)
    return base


def _walk(model: _Model, plan: _Plan, z_start: Tensor, known: _Walk | None = None, since: int = 0) -> _Walk:
    """The walk of `plan`; with `known`, its states up to level `since` and residuals before it are taken over."""
    levels, last = plan.levels, len(plan.levels) - 1
    states = [z_start + plan.shift] if known is None else list(known.states[: since + 1])
    residuals = [] if known is None else list(known.residuals[:since])
    features = [] if known is None else list(known.features[:since])
    for i in range(since, last + 1):
        z = states[i]
        residuals.append(model.residual(z, levels[i]))
        features.append(_features(model, levels, i, z, residuals))
        states.append(_combined(_base(model, levels, i, z), plan.weights[i], features[i], i == last))
    return _Walk(states[:-1], residuals, features, states[-1])


def _fitted(model: _Model, reference: _Trajectories, levels: tuple[Instant, ...]) -> tuple[_Plan, _Walk]:
    """Step after step, the weights that bring the walk back to the reference."""
    last = len(levels) - 1
    weights = _plain_weights(levels)
    shift = _mean_departure(reference.at(levels[0].lam) - reference.z[0])
    states, residuals, all_features = [reference.z[0].double() + shift], [], []
    for i, at in enumerate(levels):
        z = states[i]
        residuals.append(model.residual(z, at))
        features = _features(model, levels, i, z, residuals)
        all_features.append(features)
        plain = _combined(_base(model, levels, i, z), weights[i], features, i == last)
        if i < last:
            ratio = levels[i + 1].sigma / levels[i + 1].alpha
            metric = (model.basis.variances + HIGH_NOISE_SHARE * ratio**2).sqrt()
            missing = reference.at(levels[i + 1].lam) - plain
        else:
            metric, missing = torch.ones_like(model.basis.variances), reference.end - plain
        found = _robust_least_squares([metric * feature for feature in features], metric * missing)
        columns = [*range(len(features) - 1), HISTORY] if i == last else list(range(len(features)))
        weights[i, columns] += found.to(weights.device)
        states.append(_combined(_base(model, levels, i, z), weights[i], features, i == last))
    return _Plan(levels, weights, shift), _Walk(states[:-1], residuals, all_features, states[-1])


def _mean_departure(departure: Float[Tensor, "M m"]) -> Float[Tensor, " m"]:
    """The mean over trajectories, each coordinate shrunk by how well it is known (positive-part James-Stein)."""
    mean = departure.mean(0)
    noise = departure.var(0) / len(departure)
    return mean * (1 - noise / mean.square().clamp(min=torch.finfo(torch.float64).tiny)).clamp(min=0)


def _influence(missing: Float[Tensor, "M m"]) -> Float[Tensor, "M 1"]:
    """sqrt(q_m): least squares with these weights minimizes distances, not their squares."""
    distance = missing.norm(dim=1, keepdim=True)
    return (distance + OUTLIERS * distance.mean() + torch.finfo(torch.float64).tiny).rsqrt()


def _robust_least_squares(features: Sequence[Tensor], missing: Float[Tensor, "M m"]) -> Float[Tensor, " F"]:
    """The combination of the features closest to `missing`, twice: the second time outliers count less."""
    influence = torch.ones_like(missing[:, :1])
    found = missing.new_zeros(len(features))
    for _ in range(2):
        A = torch.stack([(influence * feature).flatten() for feature in features])
        size = A.norm(dim=1)
        size = size.clamp(min=max(float(size.max()) * NEGLIGIBLE, torch.finfo(torch.float64).tiny))
        A = A / size[:, None]
        normal = A @ A.T + RIDGE * torch.eye(len(A), dtype=A.dtype, device=A.device)
        found = torch.linalg.solve(normal, A @ (influence * missing).flatten()) / size
        rest = missing - sum(a * feature for a, feature in zip(found, features, strict=True))
        influence = _influence(rest)
    return found


def _searched(model: _Model, fitting: _Trajectories, validating: _Trajectories, nfe: int) -> _Judged:
    """The best of a family of grids: coarse choices of the two ends, then crowding, then finer ends."""
    best: _Judged | None = None
    choice = (math.inf, 0.1, 7.0)

    def attempt(first: float, last: float, rho: float) -> None:
        nonlocal best, choice
        levels = model.levels(_grid(model, first * model.largest, last * model.deviation, rho, nfe))
        if levels is None:
            return
        plan, _ = _fitted(model, fitting, levels)
        error = model.distance(_walk(model, plan, validating.z[0].double()).end, validating.end)
        if best is None or error < best.error:
            best, choice = _Judged(error, plan), (first, last, rho)

    for first in FIRST_LEVELS:
        for last in LAST_LEVELS:
            attempt(first, last, 7.0)
    for rho in CROWDING:
        attempt(choice[0], choice[1], rho)
    for _ in range(2):
        first, last, rho = choice
        for factor in (0.7, 1.4):
            attempt(first * factor, last, rho)
        first, last, rho = choice
        for factor in (0.7, 1.4):
            attempt(first, last * factor, rho)
    if best is None:
        raise InputError(f"nfe: expected no more levels than the model has between its ends, got {nfe}")
    return best


def _grid(model: _Model, first: float, last: float, rho: float, count: int) -> list[float]:
    """`count` values of log(alpha/sigma) from sigma/alpha = `first` (or the start) to `last` (or the end)."""
    start, end = math.exp(min(700.0, -model.start.lam)), math.exp(-model.end.lam)
    if first >= start * math.exp(-CLOSEST):
        if start > FAR * model.largest * (1 + 1e-9):
            return [model.start.lam, *_grid(model, 20 * model.largest, last, rho, count - 1)]
        first = start
    return [-math.log(ratio) for ratio in _crowded(first, min(max(last, end), first / 2), rho, count)]


def _crowded(first: float, last: float, rho: float, count: int) -> list[float]:
    """Equal steps in ratio^(1/rho)."""
    shares = [i / max(1, count - 1) for i in range(count)]
    if math.isinf(rho):
        return [first * (last / first) ** share for share in shares]
    a, b = first ** (1 / rho), last ** (1 / rho)
    return [(a + share * (b - a)) ** rho for share in shares]


def _polished(
    model: _Model, fitting: _Trajectories, validating: _Trajectories, judged: _Judged, rounds: int
) -> _Judged:
    """Gauss-Newton on the distance at the end, over all weights and, where times are continuous, all levels."""
    plan, best = judged.plan, judged
    z_fit, z_val = fitting.z[0].double(), validating.z[0].double()
    damping = 1e-2
    for _ in range(rounds):
        walk = _walk(model, plan, z_fit)
        missing = fitting.end - walk.end
        names, columns = _derivatives(model, plan, z_fit, walk)
        influence = _influence(missing)
        A = torch.stack([(influence * column).flatten() for column in columns])
        normal, right = A @ A.T, A @ (influence * missing).flatten()
        scale = normal.diagonal().mean() * torch.eye(len(A), dtype=A.dtype, device=A.device)
        error = model.distance(walk.end, fitting.end)
        improved = False
        for _ in range(5):
            step = torch.linalg.solve(normal + damping * scale, right)
            moved = _moved(model, plan, names, step)
            if moved is not None and model.distance(_walk(model, moved, z_fit).end, fitting.end) < error:
                validated = model.distance(_walk(model, moved, z_val).end, validating.end)
                if validated < best.error:
                    plan, best, improved = moved, _Judged(validated, moved), True
                    damping = max(damping / 4, 1e-6)
                    break
            damping *= 5
        if not improved:
            break
    return best


def _derivatives(model: _Model, plan: _Plan, z: Tensor, walk: _Walk) -> tuple[list[tuple[int, int]], list[Tensor]]:
    """d end / d parameter by forward differences; a parameter is (row, column of weights) or (level, -1)."""
    names, columns = [], []
    last = len(plan.levels) - 1
    for i in range(last + 1):
        features = walk.features[i]
        for j, feature in enumerate(features):
            column = HISTORY if i == last and j == len(features) - 1 else j
            names.append((i, column))
            if i == last:
                columns.append(feature)
                continue
            nudged = walk._replace(states=[*walk.states[: i + 1], walk.states[i + 1] + DIFFERENCE * feature])
            columns.append((_walk(model, plan, z, nudged, i + 1).end - walk.end) / DIFFERENCE)
        if not model.discrete and math.isfinite(plan.levels[i].lam):
            change = DIFFERENCE if i == 0 else -DIFFERENCE
            moved = _moved(model, plan, [(i, -1)], torch.tensor([change]))
            if moved is None:
                continue
            since = max(0, i - 1)
            known = walk if i > 0 else None
            end = _rewalked(model, moved, z, known, since)
            names.append((i, -1))
            columns.append((end - walk.end) / change)
    return names, columns


def _rewalked(model: _Model, plan: _Plan, z: Tensor, known: _Walk | None, since: int) -> Tensor:
    """The end of `plan`, which differs from the one of `known` in the level after `since` first."""
    if known is None:
        return _walk(model, plan, z).end
    features = _features(model, plan.levels, since, known.states[since], known.residuals[: since + 1])
    base = _base(model, plan.levels, since, known.states[since])
    state = _combined(base, plan.weights[since], features, last=False)
    return _walk(model, plan, z, known._replace(states=[*known.states[: since + 1], state]), since + 1).end


def _moved(model: _Model, plan: _Plan, names: Sequence[tuple[int, int]], step: Tensor) -> _Plan | None:
    """The plan with its parameters changed by `step`; None where the levels leave their order."""
    weights, lams = plan.weights.clone(), [at.lam for at in plan.levels]
    for (i, column), change in zip(names, step.tolist(), strict=True):
        if column < 0:
            lams[i] += change
        else:
            weights[i, column] += change
    levels = plan.levels if all(column >= 0 for _, column in names) else model.levels(lams)
    return None if levels is None else _Plan(levels, weights, plan.shift)


def _plain_solvers(model: _Model, starts: Batch, validating: _Trajectories, nfe: int) -> dict[str, _JudgedSolver]:
    """Every plain solver on its best grid, by validation error."""
    clean = model.schedule.time_of_lambda(math.inf).reshape(1)
    found: dict[str, _JudgedSolver] = {}
    for rho in (7.0, math.inf):
        for last in (0.0, *LAST_LEVELS[1:]):
            levels = model.levels(_grid(model, math.inf, last * model.deviation, rho, nfe))
            if levels is None:
                continue
            times = torch.cat([torch.tensor([at.t for at in levels], dtype=torch.float64), clean])
            for name, solver in PLAIN.items():
                ended = sample(solver, model, starts, times).double().flatten(1) - model.basis.mean
                error = model.distance(model.basis.coordinates(ended), validating.end)
                if name not in found or error < found[name].error:
                    found[name] = _JudgedSolver(error, levels)
    return found

r"""Classifier-free guidance between two Gaussians, with its probability flow.

For data :math:`N(\mu_c, \Sigma_c)` with the condition and :math:`N(\mu_u, \Sigma_u)` without it,
:math:`D_w = D_u + w (D_c - D_u)` is linear in x. With equal covariances it is the denoiser of
:math:`N(\mu_u + w(\mu_c - \mu_u), \Sigma)`. Otherwise the covariances do not commute, D_w is the denoiser of no
distribution, and its flow is a linear ODE.

Let V be an orthonormal basis of span(U_u, U_c, mu_c - mu_u), of m <= k_u + k_c + 1 dimensions. Where both covariances
have the same tail variance tau, D_u and D_c agree outside V, so that the complement moves by
:math:`\sqrt{(\alpha_s^2\tau + \sigma_s^2)/(\alpha_t^2\tau + \sigma_t^2)}`. Inside V, in units of some length l, let

.. math::  z = \frac{V^T(x - \alpha\mu_u)}{l\,r}, \quad r = \sqrt{\alpha^2 + \sigma^2/l^2}, \quad
           \cos\theta = \frac{\alpha}{r}, \quad \sin\theta = \frac{\sigma}{l\,r} .

Every schedule is the same path in theta, from pi/2 (alpha = 0) to 0 (sigma = 0), with
:math:`dz/d\theta = (\cos\theta\, z - D)/\sin\theta`. With :math:`S = V^T\Sigma V/l^2 = P\,\mathrm{diag}(a)\,P^T` for
each Gaussian and :math:`d = V^T(\mu_c - \mu_u)/l` this is

.. math::
    \frac{dz}{d\theta} = (1 - w)\, P_u h(a_u) P_u^T z + w\, P_c\left[h(a_c) P_c^T z - q(a_c) P_c^T d\right], \qquad
    q(a) = \frac{\sin\theta}{a\cos^2\theta + \sin^2\theta}, \quad h(a) = (1 - a)\cos\theta\, q(a),

smooth on the closed interval unless a variance is zero. Its flow map, m x (m + 1) numbers, is integrated by DOP853 and
kept for every pair of levels.

Source: Ho & Salimans 2022 (arXiv:2207.12598); the equal-covariance case Wang & Vastola 2024 (arXiv:2412.09726).
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time

from .distribution import Batch, Level, checked_levels
from .gaussian import Gaussian

EQUAL = 1e-12  # tail variances, relative to the mean variance, that differ by rounding
NULL = 1e-10  # singular values of [U_u, U_c, mu_c - mu_u], relative to the largest, that add no direction
RTOL, ATOL = 1e-11, 1e-13
MOST = 512  # dimensions of the span: a flow of 257 takes 1 s to a teleport's level and 13 s to the end


def with_equal_tails(first: Gaussian, second: Gaussian) -> tuple[Gaussian, Gaussian]:
    """The two Gaussians with the mean of their tail variances: outside their eigenvectors they then agree.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, with_equal_tails
    >>> first, second = Gaussian.isotropic(torch.zeros(3), 1.0), Gaussian.isotropic(torch.ones(3), 4.0)
    >>> [one.tail_variance for one in with_equal_tails(first, second)]
    [2.5, 2.5]
    """
    tail = (first.tail_variance + second.tail_variance) / 2
    return replace(first, tail_variance=tail), replace(second, tail_variance=tail)


@dataclass(frozen=True, eq=False)
class GuidedGaussian:
    """D_u + scale (D_c - D_u), guidance from `unconditional` toward `conditional`, and its probability flow.

    Raises InputError for two shapes, for a scale that is not finite, for tail variances that differ (see
    `with_equal_tails`), and for more than MOST eigenvectors of both together (see `Gaussian.truncate`).

    >>> import torch
    >>> from diffuscope.exact import Gaussian, GuidedGaussian
    >>> narrow, wide = (Gaussian.from_covariance(torch.zeros(1), torch.tensor([[v]])) for v in (0.25, 1.0))
    >>> x_t = torch.tensor([[10.0]], dtype=torch.float64)
    >>> round(GuidedGaussian(narrow, wide, 3.0).denoise(x_t, alpha=2.0, sigma=1.0).item(), 6)  # 4 + 3 (2.5 - 4)
    -0.5
    """

    conditional: Gaussian
    unconditional: Gaussian
    scale: float | int
    _maps: dict[tuple[float, float], tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        first, second = self.conditional, self.unconditional
        if first.event_shape != second.event_shape:
            raise InputError(
                f"conditional: expected the shape of the unconditional Gaussian, {second.event_shape}, got "
                f"{first.event_shape}"
            )
        if not math.isfinite(self.scale):
            raise InputError(f"scale: expected a finite number, got {self.scale}")
        if self.closed_form is not None:
            return
        complement = self._frame.basis.shape[1] < second.dimension
        if complement and abs(first.tail_variance - second.tail_variance) > EQUAL * second.trace / second.dimension:
            raise InputError(
                f"conditional: expected the tail variance of the unconditional Gaussian, {second.tail_variance:g}, got "
                f"{first.tail_variance:g}; with_equal_tails(conditional, unconditional) makes them agree"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of both."""
        return self.unconditional.event_shape

    @cached_property
    def closed_form(self) -> Gaussian | None:
        """The Gaussian of which D_w is the denoiser, where scale is 0 or 1 or the covariances are the same tensors."""
        c, u, w = self.conditional, self.unconditional, self.scale
        if w in (0, 1):
            return c if w == 1 else u
        same = c.tail_variance == u.tail_variance and len(c.eigenvalues) == len(u.eigenvalues)
        if not same or not torch.equal(c.eigenvalues, u.eigenvalues) or not torch.equal(c.eigenvectors, u.eigenvectors):
            return None
        return replace(u, mean=u.mean + w * (c.mean - u.mean))

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """D_u + scale (D_c - D_u)."""
        free = self.unconditional.denoise(x_t, alpha, sigma)
        return free + self.scale * (self.conditional.denoise(x_t, alpha, sigma) - free)

    def flow(self, x_t: Batch, schedule: Schedule, t: Time, s: Time) -> Batch:
        """The probability-flow map of D_w from time t to time s, in either direction, one time for all samples.

        sigma must be positive at t; at s it may be zero, unless a variance is zero. Raises InputError for these.
        """
        closed = self.closed_form
        if closed is not None:
            return closed.flow(x_t, schedule, t, s)
        levels = [(float(schedule.alpha(time)), float(schedule.sigma(time))) for time in (t, s)]
        checked_levels(x_t, *levels[0], self.event_shape)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = levels
        frame, mean = self._frame, self.unconditional.mean.flatten()
        e = x_t.double().flatten(1) - alpha_t * mean
        angles, radii = zip(*(frame.polar(*level) for level in levels), strict=True)
        turn, shift = self._map(*angles)
        z = e @ frame.basis
        moved = (z @ turn.T) * (radii[1] / radii[0]) + radii[1] * shift
        tail = self.unconditional.tail_variance
        rest = math.sqrt((alpha_s**2 * tail + sigma_s**2) / (alpha_t**2 * tail + sigma_t**2))
        result = rest * e + (moved - rest * z) @ frame.basis.T + alpha_s * mean
        return result.reshape(x_t.shape).to(x_t.dtype)

    def flow_denoised(self, x_t: Batch, schedule: Schedule, t: Time, s: Time) -> Batch:
        """D_w at time s on the trajectory through x_t at time t; sigma(s) > 0."""
        x_s = self.flow(x_t.double(), schedule, t, s)
        return self.denoise(x_s, float(schedule.alpha(s)), float(schedule.sigma(s))).to(x_t.dtype)

    @cached_property
    def _frame(self) -> "_Frame":
        return _Frame.of(self.conditional, self.unconditional)

    def _map(self, start: float, end: float) -> tuple[Tensor, Tensor]:
        """(A, b): z(end) = A z(start) + b, for z in units of `length` (b already multiplied by it)."""
        if (start, end) not in self._maps:
            self._maps[start, end] = self._frame.integrated(float(self.scale), start, end)
        return self._maps[start, end]


@dataclass(frozen=True, eq=False)
class _Frame:
    """Both covariances in the basis V, which is turned so that the unconditional one is diagonal."""

    basis: Float[Tensor, "D m"]
    length: float
    free: Float[np.ndarray, " m"]
    conditioned: Float[np.ndarray, " m"]
    turn: Float[np.ndarray, "m m"]
    offset: Float[np.ndarray, " m"]

    @classmethod
    def of(cls, conditional: Gaussian, unconditional: Gaussian) -> "_Frame":
        d = (conditional.mean - unconditional.mean).flatten()
        size = float(d.norm())
        columns = [unconditional.eigenvectors, conditional.eigenvectors]
        if size > 0:
            columns.append(d[:, None] / size)
        left, singular, _ = torch.linalg.svd(torch.cat(columns, 1), full_matrices=False)
        V = left[:, singular > NULL * float(singular.max())] if len(singular) else left
        if V.shape[1] > MOST:
            raise InputError(
                f"conditional, unconditional: expected Gaussians of at most {MOST} eigenvectors together, got "
                f"{V.shape[1]}; truncate(rank) both"
            )
        length = math.sqrt(unconditional.trace / unconditional.dimension) or 1.0
        (free, P), (conditioned, R) = (
            torch.linalg.eigh(_inside(gaussian, V) / length**2) for gaussian in (unconditional, conditional)
        )
        basis = V @ P
        arrays = free.clamp(min=0), conditioned.clamp(min=0), P.T @ R, basis.T @ d / length
        return cls(basis, length, *(array.cpu().numpy() for array in arrays))

    def polar(self, alpha: float, sigma: float) -> tuple[float, float]:
        """(theta, r) of a level; r in the units of z."""
        return math.atan2(sigma / self.length, alpha), math.hypot(alpha, sigma / self.length)

    def integrated(self, w: float, start: float, end: float) -> tuple[Tensor, Tensor]:
        """The flow map from angle `start` to `end`."""
        if end == 0 and min(self.free.min(initial=1.0), self.conditioned.min(initial=1.0)) <= 0:
            raise InputError("s: expected sigma > 0 at the end of a guided flow where a variance is zero, got 0")
        m, offset = len(self.free), self.turn.T @ self.offset

        def q(a: np.ndarray, theta: float) -> np.ndarray:
            sine, cosine = math.sin(theta), math.cos(theta)
            return sine / (a * cosine**2 + sine**2)

        def slope(theta: float, flat: np.ndarray) -> np.ndarray:
            state = flat.reshape(m, m + 1)  # the map and, in the last column, the offset
            of_free = (1 - w) * math.cos(theta) * (1 - self.free) * q(self.free, theta)
            gain = q(self.conditioned, theta)
            turned = (math.cos(theta) * (1 - self.conditioned) * gain)[:, None] * (self.turn.T @ state)
            turned[:, -1] -= gain * offset
            return (of_free[:, None] * state + w * (self.turn @ turned)).ravel()

        initial = np.eye(m, m + 1)
        solved = scipy.integrate.solve_ivp(slope, (start, end), initial.ravel(), method="DOP853", rtol=RTOL, atol=ATOL)
        if not solved.success:
            raise InputError(f"s: the guided flow cannot be integrated to there ({solved.message})")
        state = torch.from_numpy(solved.y[:, -1].reshape(m, m + 1).copy())
        return state[:, :-1].to(self.basis.device), self.length * state[:, -1].to(self.basis.device)


def _inside(gaussian: Gaussian, V: Float[Tensor, "D m"]) -> Float[Tensor, "m m"]:
    """V^T Sigma V."""
    along = gaussian.eigenvectors.T @ V
    identity = torch.eye(V.shape[1], dtype=V.dtype, device=V.device)
    return (
        along.T @ ((gaussian.eigenvalues - gaussian.tail_variance)[:, None] * along) + gaussian.tail_variance * identity
    )

r"""A distribution on a curve, with Gaussian jitter: its diffusion by quadrature along the curve, to a stated accuracy.

:math:`x_0 = c(v) + \tau z` with v of density q on [0, 1]. Jitter and noise add up to noise of standard deviation
:math:`\rho = \sqrt{\alpha^2\tau^2 + \sigma^2}`, and

.. math::
    p(x_t) = \int_0^1 q(v)\, N(x_t; \alpha c(v), \rho^2 I)\, dv
    \approx \sum_k w_k q(v_k)\, N(x_t; \alpha c(v_k), \rho^2 I)

with the nodes and weights of Fejer's first rule: a Gaussian mixture of variances tau^2. (Gauss-Legendre's rule is as
accurate on paper, but its weights near the ends are known only to 1e-10, Fejer's to rounding.) The integrand is a bell
of width :math:`h = \rho/\alpha` along the curve, and the error is about exp(-2 pi^2 (h/d)^2) for nodes at distance d:
negligible for d < 3 h / 4. On the outer side of an arc of curvature kappa, at distance r, the bell is narrower, and h
becomes :math:`h / \sqrt{1 + \kappa r}`.

The number of nodes is adaptive: it grows until doubling it changes log p by less than `accuracy` (1 + |log p|) at
points all around the curve, up to the distance `reach`, at the smallest possible h; larger h and nearer points only
help (at h' the same accuracy holds up to reach (h'/h)^2). Beyond that distance all values stay finite, and are those of
the mixture. Samples are drawn from the curve itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Level, checked_levels
from .mixture import GaussianMixture, MixturePosteriorCovariance

SIZES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)  # SIZES[k] = 2 SIZES[k-2]
ROUNDING = 1e-13  # the smallest accuracy that can be verified


@dataclass(frozen=True, eq=False)
class Curve:
    """x_0 = point(quantile(u)) + jitter z for u uniform on [0, 1], on a smooth `point` from [0, 1] to the plane.

    `density` is that of v = quantile(u), smooth too; both default to uniform. `smallest_noise` is the least sigma/alpha
    in use; with jitter it may be 0. `nodes` and `error` (of log p, in nats) are results. Inputs (batch, 2); float64
    inside. Raises InputError where jitter and smallest_noise are both 0 or not finite, where 2,048 nodes do not reach
    `accuracy`, and for levels below `smallest_noise` where there is no jitter.

    >>> import math, torch
    >>> from diffuscope.exact import Curve
    >>> def circle(v):
    ...     return 2 * torch.stack([(2 * math.pi * v).cos(), (2 * math.pi * v).sin()], 1)
    >>> x_t = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    >>> D = Curve(circle, smallest_noise=1.0).denoise(x_t, alpha=0.5, sigma=1.0)
    >>> round(D[0, 0].item(), 6)  # 2 I_1(2) / I_0(2), as of `Ring`
    1.395549
    """

    point: Callable[[Float[Tensor, " n"]], Float[Tensor, "n 2"]]
    density: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] = torch.ones_like
    quantile: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] = torch.clone
    jitter: float | int = field(default=0.0, kw_only=True)
    smallest_noise: float | int = field(default=0.0, kw_only=True)
    accuracy: float = field(default=1e-12, kw_only=True)
    reach: float | int = field(default=5.0, kw_only=True)
    nodes: int = field(init=False)
    error: float = field(init=False)
    mixture: GaussianMixture = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("jitter", "smallest_noise"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name}: expected a finite number >= 0, got {getattr(self, name)}")
        if self.least == 0:
            raise InputError("smallest_noise: expected a number > 0 for a curve without jitter, got 0")
        if not (math.isfinite(self.reach) and self.reach > 0):
            raise InputError(f"reach: expected a finite number > 0, got {self.reach}")
        if not ROUNDING <= self.accuracy < 1:
            raise InputError(f"accuracy: expected {ROUNDING:g} <= accuracy < 1, got {self.accuracy:g}")
        nodes, error = self._resolved()
        centers, log_weights = self._quadrature(nodes)
        weights = log_weights.exp()
        if not abs(float(weights.sum()) - 1) < 1e-9:
            raise InputError(f"density: expected the integral 1 over [0, 1], got {float(weights.sum()):g}")
        variances = torch.full_like(weights, float(self.jitter) ** 2)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "error", error)
        object.__setattr__(self, "mixture", GaussianMixture.isotropic(weights, centers, variances))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(2,)"""
        return (2,)

    @property
    def least(self) -> float:
        """The smallest h = rho / alpha: jitter and the smallest noise together."""
        return math.hypot(self.jitter, self.smallest_noise)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """n independent draws from the curve itself, not from its nodes; float64."""
        uniform = torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        noise = torch.randn(n, 2, dtype=torch.float64, generator=generator, device=generator.device)
        return self.point(self.quantile(uniform)) + self.jitter * noise

    def denoise(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, "batch 2"]:
        """E[x_0 | x_t]."""
        return self.mixture.denoise(x_t, *self._levels(x_t, alpha, sigma))

    def score(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, "batch 2"]:
        """grad log p(x_t)."""
        return self.mixture.score(x_t, *self._levels(x_t, alpha, sigma))

    def log_prob(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t), in nats."""
        return self.mixture.log_prob(x_t, *self._levels(x_t, alpha, sigma))

    def posterior_covariance(
        self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level
    ) -> MixturePosteriorCovariance:
        """Cov(x_0 | x_t)."""
        return self.mixture.posterior_covariance(x_t, *self._levels(x_t, alpha, sigma))

    def _levels(self, x_t: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor]:
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        # 1e-9 allows for the rounding of a schedule
        unresolved = torch.hypot(sigmas, alphas * self.jitter) < alphas * self.least * (1 - 1e-9)
        if bool(unresolved.any()):
            worst = float((sigmas / alphas)[unresolved].min())
            raise InputError(f"sigma: expected sigma/alpha >= smallest_noise ({self.smallest_noise:g}), got {worst:g}")
        return alphas, sigmas

    def _quadrature(self, nodes: int) -> tuple[Float[Tensor, "nodes 2"], Float[Tensor, " nodes"]]:
        """The curve's points and log weights at the nodes of Fejer's first rule on [0, 1]."""
        angle = (torch.arange(nodes, dtype=torch.float64) + 0.5) * (math.pi / nodes)
        orders = torch.arange(1, nodes // 2 + 1, dtype=torch.float64)
        weights = 1 - 2 * (2 * angle[:, None] * orders).cos() @ (1 / (4 * orders**2 - 1))
        v = (angle / 2).sin() ** 2
        return self.point(v), (weights / nodes * self.density(v)).log()

    def _resolved(self) -> tuple[int, float]:
        """The number of nodes, and the change of log p at the probes when it is doubled."""
        probes = self._probes()
        known = [self._log_prob(probes, nodes) for nodes in SIZES[:2]]
        error = math.inf
        for nodes, twice in zip(SIZES, SIZES[2:], strict=False):
            known.append(self._log_prob(probes, twice))
            error = float(((known[-1] - known[-3]).abs() / (1 + known[-1].abs())).max())
            if error <= self.accuracy:
                return nodes, error
        raise InputError(
            f"accuracy: expected at least {error:.1e}, which {SIZES[-3]} nodes reach at total noise {self.least:g}, "
            f"got {self.accuracy:g}"
        )

    def _probes(self) -> Float[Tensor, "probes 2"]:
        """Points all around the curve: on it, in the tails of its smallest noise, and as far as `reach`."""
        v = torch.linspace(0, 1, 29, dtype=torch.float64)
        angles = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
        compass = torch.stack([angles.cos(), angles.sin()], 1)
        distances = torch.tensor([0, 2 * self.least, 6 * self.least, float(self.reach)], dtype=torch.float64)
        offsets = (distances[:, None, None] * compass).reshape(-1, 2)
        return (self.point(v)[:, None] + offsets).reshape(-1, 2)

    def _log_prob(self, x: Float[Tensor, "n 2"], nodes: int) -> Float[Tensor, " n"]:
        """log p at (alpha, rho) = (1, least), without its constant."""
        centers, log_weights = self._quadrature(nodes)
        # distances by matrix products would be faster but cancel
        slow = "donot_use_mm_for_euclid_dist"
        exponents = [(torch.cdist(part, centers, compute_mode=slow) / self.least) ** 2 / 2 for part in x.split(256)]
        return torch.cat([torch.logsumexp(log_weights - part, 1) for part in exponents])

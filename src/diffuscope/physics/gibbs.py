r"""Gibbs sampling of a Levy process given linear Gaussian data, with the error of everything it estimates.

With jumps u, variances v of a Gaussian scale mixture, L the cumulative sum, G = H L and y = G u + r eps, alternate

.. math::
    u \mid v, y &\sim N\bigl(V G^T S^{-1} y,\; V - V G^T S^{-1} G V\bigr), \qquad S = G V G^T + r^2 I, \\
    v \mid u &\sim \text{the law's conditional of its scales (inverse Gaussian, gamma)}.

The first is an exact draw by perturbation: from a draw (u_0, eps_0) of the prior, u = u_0 + V G^T S^{-1} (y - G u_0 -
r eps_0), one Cholesky factorization of m x m; no variance is divided by, so v = 0 is allowed. For Bernoulli-Gauss jumps
v given u is degenerate, and v given y is drawn with u integrated out (`indicators.py`). Chains and problems are one
batch.

Means and variances are Rao-Blackwellized: averages of the conditional means m and covariances K,

.. math::  E[x \mid y] \approx \overline{m}, \qquad \mathrm{Cov}(x \mid y) \approx \overline{K} + \overline{m m^T} -
    \overline{m}\,\overline{m}^T .

Source: Bohra et al. 2023 (arXiv:2203.15172); the perturbation is Papandreou & Yuille 2010.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.streams import torch_stream

from .indicators import sweep
from .levy import BernoulliGaussJumps, LevyProcess
from .mixing import effective_sample_size, split_r_hat, standard_error
from .observations import LinearObservation, Values

R_HAT, LEAST_ESS = 1.02, 100.0  # Vehtari et al. 2021 advise 1.01 and 100 per chain; both are checked per coordinate


@dataclass(frozen=True, eq=False, kw_only=True)
class GibbsPosterior:
    """Chains of x given y for several problems, after `burn_in` discarded sweeps each."""

    x: Float[Tensor, "problems chains sweeps n"]
    means: Float[Tensor, "problems chains sweeps n"]  # E[x | v, y] of every sweep
    variances: Float[Tensor, "problems chains sweeps n"]
    covariances: Float[Tensor, "problems n n"]  # the mean of Cov(x | v, y)
    burn_in: int

    @property
    def mean(self) -> Float[Tensor, "problems n"]:
        """E[x | y]."""
        return self.means.mean((1, 2))

    @property
    def mean_error(self) -> Float[Tensor, "problems n"]:
        """Its standard error."""
        return standard_error(self.means.permute(0, 3, 1, 2))

    @property
    def _squares(self) -> Tensor:
        return self.variances + (self.means - self.mean[:, None, None]).square()

    @property
    def variance(self) -> Float[Tensor, "problems n"]:
        """Var(x | y), coordinate by coordinate."""
        return self._squares.mean((1, 2))

    @property
    def variance_error(self) -> Float[Tensor, "problems n"]:
        """Its standard error."""
        return standard_error(self._squares.permute(0, 3, 1, 2))

    @property
    def covariance(self) -> Float[Tensor, "problems n n"]:
        """Cov(x | y)."""
        centered = (self.means - self.mean[:, None, None]).flatten(1, 2)
        return self.covariances + centered.mT @ centered / centered.shape[1]

    def quantiles(self, levels: tuple[float, ...]) -> Float[Tensor, "levels problems n"]:
        """Of x given y, from the draws."""
        return torch.quantile(self.x.flatten(1, 2), torch.tensor(levels, dtype=torch.float64), dim=1)

    def draws(self, count: int) -> Float[Tensor, "count problems n"]:
        """At most `count` draws, evenly from all chains and sweeps."""
        pooled = self.x.flatten(1, 2)
        return pooled[:, torch.linspace(0, pooled.shape[1] - 1, count).round().long()].transpose(0, 1)

    @property
    def r_hat(self) -> Float[Tensor, "problems n"]:
        """Split R-hat of x."""
        return split_r_hat(self.x.permute(0, 3, 1, 2))

    @property
    def effective_sample_size(self) -> Float[Tensor, "problems n"]:
        """Of x."""
        return effective_sample_size(self.x.permute(0, 3, 1, 2))

    @property
    def mixed(self) -> bool:
        """Whether every coordinate of every problem has R-hat <= 1.02 and ESS >= 100."""
        return bool((self.r_hat <= R_HAT).all() and (self.effective_sample_size >= LEAST_ESS).all())

    def require_mixed(self) -> "GibbsPosterior":
        """Itself; raises InputError ("cannot tell") where the chains have not mixed."""
        if not self.mixed:
            raise InputError(
                f"sweeps: cannot tell what the posterior is: R-hat {float(self.r_hat.max()):.3f} (expected at most "
                f"{R_HAT}), {float(self.effective_sample_size.min()):.0f} effective draws (expected at least "
                f"{LEAST_ESS:.0f}) from {self.x.shape[1]} chains of {self.x.shape[2]} sweeps; give more sweeps"
            )
        return self


def gibbs(
    process: LevyProcess,
    observation: LinearObservation,
    y: Values,
    *,
    chains: int = 4,
    burn_in: int = 200,
    sweeps: int = 1000,
    seed: int = 0,
) -> GibbsPosterior:
    """The posterior of `process` given y = H x + r eps, for one y (m,) or one per problem (problems, m).

    Chains start from variances of the prior. Memory: 3 problems x chains x sweeps x length numbers.
    Raises InputError for shapes that do not fit, for jumps with an atom under r = 0, and for fewer than 2 chains or
    4 sweeps.

    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.levy import GaussianJumps
    >>> one = at_nodes(torch.tensor([0]), (1,), noise=1.0)
    >>> posterior = gibbs(LevyProcess(GaussianJumps(), 1), one, torch.ones(1), sweeps=4, burn_in=0)
    >>> posterior.mean.tolist(), posterior.variance.tolist()
    ([[0.5]], [[0.5]])
    """
    if tuple(observation.event_shape) != process.event_shape:
        raise InputError(f"observation: expected fields of shape {process.event_shape}, got {observation.event_shape}")
    y = torch.atleast_2d(y).double()
    if y.shape[1] != len(observation.matrix):
        raise InputError(f"y: expected {len(observation.matrix)} values per problem, got {y.shape[1]}")
    if observation.noise == 0 and process.law.atom > 0:
        raise InputError("observation: expected noise > 0 with jumps that may be 0, got 0")
    if chains < 2 or sweeps < 4 or burn_in < 0:
        raise InputError(f"chains, sweeps: expected at least 2 and 4, got {chains} and {sweeps} (burn-in {burn_in})")
    problems, n, generator = len(y), process.length, torch_stream(seed, "gibbs")
    G = observation.matrix.flip(1).cumsum(1).flip(1)  # H L
    data = y.repeat_interleave(chains, 0)
    v = process.law.draw_variances((len(data), n), generator=generator)
    kept = [torch.empty(problems, chains, sweeps, n, dtype=torch.float64) for _ in range(3)]
    covariances = torch.zeros(problems, n, n, dtype=torch.float64)
    for k in range(-burn_in, sweeps):
        conditional = jumps_given(v, data, G, observation.noise, generator=generator)
        if k >= 0:
            covariance = conditional.covariance().cumsum(1).cumsum(2)
            parts = (conditional.draw.cumsum(1), conditional.mean.cumsum(1), covariance.diagonal(dim1=1, dim2=2))
            for store, part in zip(kept, parts, strict=True):
                store[:, :, k] = part.unflatten(0, (problems, chains))
            covariances += covariance.unflatten(0, (problems, chains)).mean(1) / sweeps
        v = variances_given(process, v, conditional.draw, data, G, observation.noise, generator=generator)
    x, means, variances = kept
    return GibbsPosterior(x=x, means=means, variances=variances, covariances=covariances, burn_in=burn_in)


@dataclass(frozen=True, eq=False)
class JumpConditional:
    """u given v and y: a draw, the mean, and what the covariance V - W^T W is made of."""

    draw: Float[Tensor, "batch n"]
    mean: Float[Tensor, "batch n"]
    v: Float[Tensor, "batch n"]
    whitened: Float[Tensor, "batch m n"]

    def covariance(self) -> Float[Tensor, "batch n n"]:
        """Cov(u | v, y)."""
        return torch.diag_embed(self.v) - self.whitened.mT @ self.whitened


def jumps_given(
    v: Float[Tensor, "batch n"],
    y: Float[Tensor, "batch m"],
    G: Float[Tensor, "m n"],
    noise: float,
    *,
    generator: torch.Generator,
) -> JumpConditional:
    """u from N(V G^T S^{-1} y, V - V G^T S^{-1} G V)."""
    GV = G * v[:, None]
    S = GV @ G.T + noise**2 * torch.eye(len(G), dtype=torch.float64)
    factor = torch.linalg.cholesky(S)
    u = v.sqrt() * torch.randn(v.shape, dtype=torch.float64, generator=generator)
    eps = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    misfits = torch.stack([y, y - u @ G.T - noise * eps], 2)
    whitened = torch.linalg.solve_triangular(factor, torch.cat([GV, misfits], 2), upper=False)
    W, e = whitened[:, :, :-2], whitened[:, :, -2:]
    mean, change = (W.mT @ e).unbind(2)
    return JumpConditional(u + change, mean, v, W)


def variances_given(
    process: LevyProcess,
    v: Float[Tensor, "batch n"],
    u: Float[Tensor, "batch n"],
    y: Float[Tensor, "batch m"],
    G: Float[Tensor, "m n"],
    noise: float,
    *,
    generator: torch.Generator,
) -> Float[Tensor, "batch n"]:
    """New variances: given the jumps u; for Bernoulli-Gauss jumps given the old ones and y, with u integrated out."""
    law = process.law
    if isinstance(law, BernoulliGaussJumps):
        return law.scale**2 * sweep((v > 0).double(), y, G, noise, law, generator=generator)
    return law.variances_given(u, generator=generator)

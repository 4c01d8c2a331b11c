r"""The exact posterior of a field given an observation: a distribution again, whose diffusion is known.

**Gaussian**, y = H x + r eps: a Gaussian, by the singular value decomposition of what H sees (`observed`).

**Gaussian mixture**: every component as above, weights :math:`\pi_j N(y; H\mu_j, H\Sigma_jH^T + r^2 I)`, for r = 0 in
the limit r -> 0: the components in which y is confined to the fewest dimensions win.

**Kernel density** of fields, y = H x + r eps: its own `given`.

**Finite set**, any observation: the same points with weights :math:`w_i\, p(y \mid x_i)`.
"""

import math
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture
from diffuscope.memory import chunk_size

from .kernel_prior import KernelPrior
from .levy_distribution import LevyDistribution
from .observations import LinearObservation, Observation, Values
from .observed import Observed
from .regression import require_consistent

Prior = TypeVar("Prior", bound=Distribution)
CHUNK = 2**22  # values of the fields in one call of an observation
MET = 1e-9  # of 1 + max |y|: a hard constraint is met by a point (as in `log_likelihood`)


def posterior(distribution: Prior, observation: Observation, y: Values) -> Prior:
    """p(x | y), exactly: of a Gaussian, a mixture, a kernel density for a linear observation, of a finite set for any.

    `y` is one observation, (m,) or (1, m). The posterior is of the prior's kind and a prior again: condition on several
    observations in turn. Raises InputError for other distributions, an observation of other fields, a y of another
    size or with NaN, and a hard constraint that the prior contradicts.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes, posterior
    >>> prior = Gaussian.isotropic(torch.zeros(1), 1.0)
    >>> exact = posterior(prior, at_nodes(torch.tensor([0]), (1,), noise=0.3), torch.tensor([1.0]))
    >>> round(float(exact.mean), 3), round(exact.trace, 4)  # 1 / 1.09, 0.09 / 1.09
    (0.917, 0.0826)
    """
    return cast(Prior, _posterior(distribution, observation, y))


def _posterior(distribution: Distribution, observation: Observation, y: Values) -> Distribution:
    if isinstance(distribution, LevyDistribution):
        return distribution.given(_linear(distribution, observation), y)
    y = _one(_require_y(observation, y, distribution))
    if isinstance(distribution, KernelPrior):
        return distribution.given(_linear(distribution, observation), y)
    if isinstance(distribution, Empirical):
        weights = posterior_weights(distribution, observation, y)
        return Empirical(distribution.points, weights[distribution.weights > 0])
    H = _linear(distribution, observation)
    if isinstance(distribution, Gaussian):
        seen = Observed(distribution, H)
        require_consistent(seen.contradiction(y[None]), "the prior")
        return seen.posterior(y)
    if isinstance(distribution, GaussianMixture):
        return _mixture(distribution, H, y)
    raise _unknown(distribution)


def posterior_means(distribution: Gaussian, observation: LinearObservation, y: Values) -> Float[Tensor, "batch *event"]:
    """The means of the posteriors of a Gaussian given each y of a batch, whose covariance is one: that of `posterior`.

    Raises InputError as `posterior`.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes, posterior_means
    >>> prior, seen = Gaussian.isotropic(torch.tensor([2.0]), 3.0), at_nodes(torch.tensor([0]), (1,), noise=1.0)
    >>> means = posterior_means(prior, seen, torch.tensor([[6.0], [10.0]]))
    >>> [round(mean, 6) for mean in means.flatten().tolist()]  # 2 + 3 (y - 2) / (3 + 1)
    [5.0, 8.0]
    """
    rows = _require_y(observation, y, distribution)
    seen = Observed(distribution, _linear(distribution, observation))
    require_consistent(seen.contradiction(rows), "the prior")
    return seen.mean(rows).reshape(-1, *distribution.event_shape)


def log_evidence(distribution: Distribution, observation: Observation, y: Values) -> float:
    """log p(y), in nats, of one observation; for r = 0 its density on the values that the prior can take.

    Of a finite set and r = 0 it is the log of the weight of the points that meet the constraint. Raises InputError as
    `posterior`.

    >>> import math, torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes, log_evidence
    >>> prior, seen = Gaussian.isotropic(torch.zeros(1), 3.0), at_nodes(torch.tensor([0]), (1,), noise=1.0)
    >>> round(log_evidence(prior, seen, torch.tensor([2.0])) + math.log(8 * math.pi) / 2, 6)  # log N(2; 0, 3 + 1)
    -0.5
    """
    y = _one(_require_y(observation, y, distribution))
    if isinstance(distribution, Empirical):
        joint = _log_joint(distribution, observation, y[None])[0]
        return float(joint.logsumexp(0))
    H = _linear(distribution, observation)
    if isinstance(distribution, KernelPrior):
        return _kernel_evidence(distribution, H, y)
    if isinstance(distribution, Gaussian):
        seen = Observed(distribution, H)
        require_consistent(seen.contradiction(y[None]), "the prior")
        return float(seen.log_evidence(y[None]))
    if isinstance(distribution, GaussianMixture):
        return float(_components(distribution, H, y)[1].logsumexp(0))
    raise _unknown(distribution)


def posterior_weights(distribution: Empirical, observation: Observation, y: Values) -> Float[Tensor, "*batch points"]:
    """w_i p(y | x_i), normalized, float64: one per point as given, for one y (m,) or for a batch (batch, m).

    The observation is called once per point, in chunks. Raises InputError where h of a point is not finite and where
    a hard constraint is met by no point.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.physics import at_nodes, posterior_weights
    >>> prior = Empirical(torch.tensor([[0.0], [1.0]]), torch.tensor([0.75, 0.25]))
    >>> first, second = posterior_weights(prior, at_nodes(torch.tensor([0]), (1,), noise=1.0), torch.tensor([2.0]))
    >>> round(float(second / first), 6), round(float(first + second), 6)  # 0.25 exp(-1/2) / (0.75 exp(-2))
    (1.493896, 1.0)
    """
    rows = _require_y(observation, y, distribution)
    weights = torch.zeros(len(rows), len(distribution), dtype=torch.float64, device=rows.device)
    weights[:, distribution.weights > 0] = _log_joint(distribution, observation, rows).softmax(1)
    return weights if y.ndim > 1 else weights[0]


def _kernel_evidence(prior: KernelPrior, H: LinearObservation, y: Tensor) -> float:
    """log p(y), given what the prior has been given already, whose joint density is in units of the first noise."""
    joint = prior.given(H, y).log_evidence
    if prior.observation is None:
        return joint
    units = math.log(prior.observation.noise / H.noise) if H.noise > 0 else 0.0
    return joint + len(y) * units - prior.log_evidence


def _components(mixture: GaussianMixture, H: LinearObservation, y: Tensor) -> tuple[list[Observed], Tensor]:
    """The components that allow y, and log(pi_j p_j(y)) of each, minus infinity where another is confined further."""
    seen = [Observed(_component(mixture, j), H) for j in range(len(mixture.weights))]
    size = torch.cat([one.contradiction(y[None]) for one in seen])
    allowed = (size == 0) & (mixture.weights > 0)
    if not bool(allowed.any()):
        require_consistent(size[mixture.weights > 0].amin(0, keepdim=True), "a component of the prior")
    which = allowed.nonzero()[:, 0].tolist()
    joint = torch.cat([mixture.weights[j].log() + seen[j].log_evidence(y[None]) for j in which])
    if H.noise == 0:
        ranks = torch.tensor([seen[j].regression.rank for j in which], device=joint.device)
        joint = torch.where(ranks == ranks.min(), joint, -math.inf)
    return [seen[j] for j in which], joint


def _component(mixture: GaussianMixture, j: int) -> Gaussian:
    tail = float(mixture.tail_variances[j])
    return Gaussian(mixture.means[j], mixture.eigenvectors[j], mixture.eigenvalues[j], tail)


def _mixture(mixture: GaussianMixture, H: LinearObservation, y: Tensor) -> GaussianMixture:
    seen, joint = _components(mixture, H, y)
    weights = joint.softmax(0)
    positive = weights > 0
    parts = [one.posterior(y) for one, keep in zip(seen, positive.tolist(), strict=True) if keep]
    rank = max(len(part.eigenvalues) for part in parts)
    parts = [_of_rank(part, rank) for part in parts]
    return GaussianMixture(
        weights[positive],
        torch.stack([part.mean for part in parts]),
        torch.stack([part.eigenvectors for part in parts]),
        torch.stack([part.eigenvalues for part in parts]),
        weights.new_tensor([part.tail_variance for part in parts]),
    )


def _of_rank(gaussian: Gaussian, rank: int) -> Gaussian:
    """The same Gaussian with more eigenpairs, which have the tail's variance."""
    more = rank - len(gaussian.eigenvalues)
    if more == 0:
        return gaussian
    k = len(gaussian.eigenvalues)
    beside = torch.linalg.qr(gaussian.eigenvectors, mode="complete")[0][:, k:rank]
    tail = gaussian.eigenvalues.new_full((more,), gaussian.tail_variance)
    vectors = torch.cat([gaussian.eigenvectors, beside], 1)
    return Gaussian(gaussian.mean, vectors, torch.cat([gaussian.eigenvalues, tail]), gaussian.tail_variance)


def _log_joint(prior: Empirical, observation: Observation, y: Tensor) -> Float[Tensor, "batch kept"]:
    """log(w_i p(y | x_i)) of the points of positive weight, for every y; InputError for rows without any."""
    points, r, m = prior.points, float(observation.noise), y.shape[1]
    size = chunk_size(CHUNK, each=points[0].numel())
    log_weights = prior.weights[prior.weights > 0].log()
    joint, nearest = [], torch.full((len(y),), math.inf, dtype=torch.float64, device=y.device)
    with torch.no_grad():
        for part, logs in zip(points.split(size), log_weights.split(size), strict=True):
            values = observation(part.double()).double()
            if values.shape[1] != m:
                raise InputError(f"y: expected {values.shape[1]} values, as the observation gives, got {m}")
            if not bool(values.isfinite().all()):
                raise InputError("observation: expected finite values of every point of the prior, got NaN or infinity")
            if r == 0:
                misses = torch.stack([(values - row).abs().amax(1) for row in y])
                nearest = torch.minimum(nearest, misses.amin(1))
                met = misses <= MET * (1 + y.abs().amax(1, keepdim=True))
                joint.append(torch.where(met, logs, -math.inf))
            else:
                squares = torch.stack([((values - row) / r).square().sum(1) for row in y])
                joint.append(logs - squares / 2 - m * (math.log(r) + 0.5 * math.log(2 * math.pi)))
    total = torch.cat(joint, 1)
    none = total.amax(1) == -math.inf
    if bool(none.any()):
        raise InputError(
            f"y: expected values that some point of the prior has exactly (noise 0), got some that the nearest point "
            f"misses by {float(nearest[none].max()):.3g}"
        )
    return total


def _require_y(observation: Observation, y: Tensor, distribution: Distribution) -> Float[Tensor, "batch m"]:
    shape = tuple(observation.event_shape)
    if not isinstance(distribution, (Empirical, Gaussian, GaussianMixture, KernelPrior)):
        raise _unknown(distribution)
    if shape != tuple(distribution.event_shape):
        raise InputError(f"observation: expected one of fields {tuple(distribution.event_shape)}, got {shape}")
    rows = y.double().reshape(-1, y.shape[-1]) if y.ndim in (1, 2) else None
    m = len(observation.matrix) if isinstance(observation, LinearObservation) else None
    if rows is None or (m is not None and rows.shape[1] != m):
        expected = "m" if m is None else m
        raise InputError(f"y: expected shape ({expected},) or (batch, {expected}), got {tuple(y.shape)}")
    if not bool(rows.isfinite().all()):
        raise InputError("y: expected finite values, got NaN or infinity")
    return rows


def _one(rows: Tensor) -> Float[Tensor, " m"]:
    if len(rows) != 1:
        raise InputError(f"y: expected one observation, got {len(rows)}")
    return rows[0]


def _linear(distribution: Distribution, observation: Observation) -> LinearObservation:
    if not isinstance(observation, LinearObservation):
        kind = type(distribution).__name__
        raise InputError(f"observation: expected a LinearObservation of a {kind}, got {type(observation).__name__}")
    return observation


def _unknown(distribution: object) -> InputError:
    known = "a Gaussian, a GaussianMixture, a KernelPrior or an Empirical"
    return InputError(f"distribution: expected {known}, whose posterior is known, got {type(distribution).__name__}")

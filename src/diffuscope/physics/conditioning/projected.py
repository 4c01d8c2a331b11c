r"""Hard linear constraints, exact to rounding at every call: the denoiser's output projected onto {x : H x = y}.

.. math::
    P(D) = D + M H^T (H M H^T)^{+} (y - H D),

the nearest point in the norm of :math:`M^{-1}`: orthogonal for M = I; for the covariance M of the fields the correction
is as smooth as they are. A prior that is supported on C x = d needs no projection: C D(x, t) = d at every x and t, as
D is a mean over the support. For any other prior the projected field meets the constraint, and is *not* a sample of
the posterior: the correction lacks the change of C_t with the noise level (`gaussian_guide`).
"""

from dataclasses import dataclass

from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics.posterior import observed_basis
from diffuscope.physics.regression import Regression, contradiction, require_consistent

from .conditioned import Conditioned


@dataclass(frozen=True, eq=False)
class Projected(Conditioned):
    """The projection of a denoiser onto H x = y; the observation's noise is not used.

    `metric` is a Gaussian whose covariance is M (its mean is not used); None is the orthogonal projection. Rows of H
    that repeat each other are fine. Raises InputError where they contradict each other, where the metric has no
    variance in a direction that H sees, and for an observation that is not linear.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.schedules import VE
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    >>> Projected(prior, at_nodes(torch.tensor([0]), (2,)), torch.tensor([3.0]))(torch.ones(1, 2), 1.0)
    tensor([[3.0000, 0.5000]])
    """

    metric: Gaussian | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        H = self.require_linear().matrix.to(self.y.device)
        orthogonal = _regression(H, None)
        y = self.y.to(H).reshape(-1, len(H))
        require_consistent(contradiction(orthogonal[1], y, y.abs()), "the rows of the observation")
        factors = orthogonal if self.metric is None else _regression(H, self.metric)
        if factors[1].rank < orthogonal[1].rank:
            raise InputError(
                f"metric: expected variance in all {orthogonal[1].rank} directions that the constraint fixes, got "
                f"{factors[1].rank}"
            )
        object.__setattr__(self, "_factors", factors)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """P(D(x_t)), in the dtype of x_t."""
        rows = self.denoiser(x_t, t).double().flatten(1)
        y, H = self.targets(x_t), self.require_linear().matrix.to(rows)
        for _ in range(2):  # once more for what rounding has left
            rows = rows + self._project(y - rows @ H.T)
        return rows.reshape(x_t.shape).to(x_t.dtype)

    def _project(self, e: Tensor) -> Tensor:
        vectors, regression = self._factors
        z = regression.mean(e)
        return z if vectors is None else z @ vectors.T


def _regression(H: Tensor, metric: Gaussian | None) -> tuple[Tensor | None, Regression]:
    """L (None for the identity) with L L^T = M on what H sees, and the regression with A = H L and r = 0."""
    if metric is None:
        return None, Regression.of(H, H.abs(), H.new_ones(H.shape[1]), 0.0)
    vectors, variances = observed_basis(metric, H)
    root = variances.sqrt()
    return vectors * root, Regression.of(H @ vectors, H.abs() @ vectors.abs(), root, 0.0)

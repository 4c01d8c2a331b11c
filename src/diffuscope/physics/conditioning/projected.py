r"""Hard linear constraints, exact to rounding at every call: the denoiser's output projected onto {x : H x = y}.

.. math::
    P(D) = D + M H^T (H M H^T)^{+} (y - H D),

the nearest point in the norm of :math:`M^{-1}`: orthogonal for M = I; for the covariance M of the fields the correction
is as smooth as they are. Below the highest noise the projected field meets the constraint and is *not* a sample of the
posterior, whose correction follows C_t instead of M (`gaussian_guide`); the two agree where all noise hides the field.

A prior that is supported on C x = d needs no projection: D is a mean over the support, hence C D(x, t) = d at every x
and t.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics.observed import observed_basis
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
        H = self.linear.matrix.to(self.y.device)
        _, orthogonal = _factors(H, None)
        y = self.y.to(H).reshape(-1, len(H))
        require_consistent(contradiction(orthogonal, y, y.abs()), "the rows of the observation")
        _, regression = self._projection
        if regression.rank < orthogonal.rank:
            raise InputError(
                f"metric: expected variance in all {orthogonal.rank} directions that the constraint fixes, got "
                f"{regression.rank}"
            )

    @cached_property
    def _projection(self) -> tuple[Tensor | None, Regression]:
        return _factors(self.linear.matrix.to(self.y.device), self.metric)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """P(D(x_t)), in the dtype of x_t."""
        rows = self.denoiser(x_t, t).double().flatten(1)
        y, H, (root, regression) = self.targets(x_t), self.linear.matrix.to(rows), self._projection
        for _ in range(2):  # once more for what rounding has left
            z = regression.mean(y - rows @ H.T)
            rows = rows + (z if root is None else z @ root.T)
        return rows.reshape(x_t.shape).to(x_t.dtype)


def _factors(H: Tensor, metric: Gaussian | None) -> tuple[Tensor | None, Regression]:
    """L (None for the identity) with L L^T = M on what H sees, and the regression with A = H L and r = 0."""
    if metric is None:
        return None, Regression.of(H, H.abs(), H.new_ones(H.shape[1]), 0.0)
    vectors, variances = observed_basis(metric, H)
    deviations = variances.sqrt()
    return vectors * deviations, Regression.of(H @ vectors, H.abs() @ vectors.abs(), deviations, 0.0)

r"""Linear regression with a standard normal prior, by the singular value decomposition.

.. math::
    e = A z + r\varepsilon, \quad z \sim N(0, I_k), \qquad A = P S Q^T
    \quad\Rightarrow\quad
    E[z \mid e] = Q\,\frac{S}{S^2 + r^2}\,P^T e, \qquad
    \mathrm{Cov}[z \mid e] = Q\,\frac{r^2}{S^2 + r^2}\,Q^T + (I - Q Q^T) .

A covariance is never subtracted from another, so that r = 0 is no special case but for the rank: singular values that
are rounding count as zero, and e must lie in the range of A. The unit in which a row of A = H V diag(d) has rounding
errors is the norm of the row of \|H\| \|V\| diag(d), not of the row itself, which may cancel (a Laplacian of a smooth
field); hard constraints are scaled by it.

The log evidence of r = 0 is the density of e on the range of A. As r -> 0 the density in all m dimensions tends to it
times :math:`N(0; 0, r^2 I_{m-q})`, q the rank.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

CONTRADICTION = 1e-9  # of a row's size, above which what is left of e is not rounding
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Regression:
    """The decomposition of A with the rows divided by `unit`: q singular values, those that are not rounding."""

    left: Float[Tensor, "m q"]
    values: Float[Tensor, " q"]
    right: Float[Tensor, "k q"]
    unit: Float[Tensor, " m"]
    noise: float

    @classmethod
    def of(
        cls,
        HV: Float[Tensor, "m k"],
        size: Float[Tensor, "m k"],
        deviations: Float[Tensor, " k"],
        noise: float | int,
    ) -> "Regression":
        """Of A = HV diag(deviations); `size` is \\|H\\| \\|V\\|."""
        A, unit = HV * deviations, (size * deviations).norm(dim=1)
        unit = torch.where(unit > 0, unit, 1.0) if noise == 0 else torch.ones_like(unit)
        left, values, right = torch.linalg.svd(A / unit[:, None], full_matrices=False)
        largest = float(values[0]) if len(values) else 0.0
        kept = values > max(A.shape) * torch.finfo(A.dtype).eps * largest
        return cls(left[:, kept], values[kept], right[kept].T, unit, float(noise))

    @property
    def rank(self) -> int:
        """q."""
        return len(self.values)

    def mean(self, e: Float[Tensor, "batch m"]) -> Float[Tensor, "batch k"]:
        """E[z | e]."""
        gain = self.values / (self.values**2 + self.noise**2)
        return (((e / self.unit) @ self.left) * gain) @ self.right.T

    @property
    def deviations(self) -> Float[Tensor, " q"]:
        """r / sqrt(S^2 + r^2): the standard deviations of z given e along `right`; they are 1 beside it."""
        return self.noise / torch.hypot(self.values, self.values.new_tensor(self.noise))

    def left_over(self, e: Float[Tensor, "batch m"]) -> Float[Tensor, "batch m"]:
        """The part of e outside the range of A, in the units of e."""
        scaled = e / self.unit
        return (scaled - (scaled @ self.left) @ self.left.T) * self.unit

    def log_evidence(self, e: Float[Tensor, "batch m"]) -> Float[Tensor, " batch"]:
        """log N(e; 0, A A^T + r^2 I); for r = 0 the density on the range of A, of an e that lies in it."""
        m, r = e.shape[1], self.noise
        if r == 0:
            sizes = torch.linalg.svdvals(self.unit[:, None] * self.left * self.values)
            twice = self.mean(e).square().sum(1) + 2 * sizes.log().sum() + self.rank * LOG_2PI
            return -twice / 2
        spread = self.values**2 + r**2
        twice = ((e @ self.left) ** 2 / spread).sum(1) + (self.left_over(e) / r).square().sum(1)
        return -(twice + spread.log().sum() + 2 * (m - self.rank) * math.log(r) + m * LOG_2PI) / 2


def contradiction(
    regression: Regression, e: Float[Tensor, "batch m"], scale: Float[Tensor, "batch m"]
) -> Float[Tensor, " batch"]:
    """How far e lies outside the range of A where r = 0, in the units of e; 0 up to rounding and for r > 0.

    `scale` is the size of the numbers that e is the difference of.
    """
    if regression.noise > 0 or e.shape[1] == 0:
        return e.new_zeros(len(e))
    rest = regression.left_over(e).abs()
    return torch.where(rest > CONTRADICTION * (scale + regression.unit), rest, 0.0).amax(1)


def require_consistent(size: Float[Tensor, " batch"], what: str) -> None:
    """InputError where a hard constraint is contradicted by `what`, with the largest `size` of the contradiction."""
    if bool((size > 0).any()):
        raise InputError(
            f"y: expected values that {what} can take exactly (noise 0), got some that miss them by "
            f"{float(size.max()):.3g}"
        )

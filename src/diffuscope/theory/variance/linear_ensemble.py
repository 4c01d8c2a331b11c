r"""An ensemble of linear denoisers, every one trained on draws of its own: the score fields that they are.

A model is :math:`D(x, t) = W \varphi(x, t)`, trained by ridge regression on P draws
:math:`x_0 \sim p_0,\ t \sim U(t_{min}, t_{max}),\ x = \alpha_t x_0 + \sigma_t \varepsilon`:

.. math::
    W = \arg\min_W \frac1P \sum_n \lambda_n |x_{0,n} - W \varphi_n|^2 + \rho |W|^2, \qquad
    \lambda = \frac{\alpha^2}{\sigma^2} .

With the rows :math:`\psi_n = \sqrt{\lambda_n / P}\,\varphi_n` of :math:`\Psi` and :math:`y_n = \sqrt{\lambda_n / P}\,
x_{0,n}` the solution is

.. math::
    W^T = (\Psi^T \Psi + \rho I)^{-1} \Psi^T y = \Psi^T (\Psi \Psi^T + \rho I)^{-1} y,

and the smaller of the two systems is solved. The score :math:`(\alpha D - x)/\sigma^2` is linear in W: the average of
the ensemble's scores is the score of its average W.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Figures 2 and 3).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.memory import chunk_size
from diffuscope.schedules import Schedule

from .features import Features, Products

Time = Float[Tensor, ""] | float | int
FieldPoints = Float[Tensor, "fields batch d"]
TRAINING_NUMBERS = 2**22  # features of one chunk of models in training: 32 MB, and three such arrays
BLOCK = 2**15  # numbers in one block of an evaluation: it stays in the cache


@dataclass(frozen=True, eq=False)
class LinearEnsemble:
    """Linear denoisers of common features, each at points of its own. An ensemble of one takes any number of fields.

    InputError for weights that do not fit the features.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, LinearEnsemble
    >>> w = torch.tensor([[[1.0, 0.5]], [[5.0, 1.5]]])  # D = 1 + x / 2 and 5 + 3 x / 2
    >>> two = LinearEnsemble(Affine(), RectifiedFlow(), w)
    >>> two(torch.full((2, 1, 1), 4.0), 0.5).flatten().tolist()  # (D / 2 - 4) / 0.25
    [-10.0, 6.0]
    >>> two.mean().weights.tolist()
    [[[3.0, 1.0]]]
    """

    features: Features
    schedule: Schedule
    weights: Float[Tensor, "models d F"]

    def __post_init__(self) -> None:
        if self.weights.shape[-1] != self.features.number or len(self.weights) == 0:
            shape = tuple(self.weights.shape)
            raise InputError(f"weights: expected models of {self.features.number} weights per coordinate, got {shape}")

    def __len__(self) -> int:
        return len(self.weights)

    def mean(self) -> "LinearEnsemble":
        """The one model whose score is the average score."""
        return replace(self, weights=self.weights.mean(0, keepdim=True))

    def leave_out(self, groups: int) -> "LinearEnsemble":
        """The average model without the g-th of so many equal groups of models, for every g: a jackknife of `mean`.

        InputError unless the groups are at least two and divide the number of models.
        """
        if not 2 <= groups <= len(self) or len(self) % groups != 0:
            raise InputError(f"groups: expected a divisor >= 2 of the {len(self)} models, got {groups}")
        means = self.weights.reshape(groups, -1, *self.weights.shape[1:]).mean(1)
        return replace(self, weights=(groups * self.weights.mean(0) - means) / (groups - 1))

    def denoise(self, x: FieldPoints, t: Time) -> FieldPoints:
        """W phi(x, t). Memory beyond input and output: a few blocks of 256 kB for each function of an axis."""
        weights = self._fitting(x)
        features = self.features
        if not isinstance(features, Products):
            return _in_blocks(lambda part: features(part, t) @ weights.mT, x)
        spatial = features.at(weights, t)
        return _in_blocks(lambda part: features.combine(spatial, part), x)

    def __call__(self, x: FieldPoints, t: Time) -> FieldPoints:
        """The scores (alpha D - x) / sigma^2."""
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return self.denoise(x, t).mul_(alpha).sub_(x).div_(sigma**2)

    def _fitting(self, x: Tensor) -> Tensor:
        models, d, _ = self.weights.shape
        if x.shape[2] != d or models not in (1, len(x)):
            raise InputError(f"x: expected (models, batch, d) = ({models}, any, {d}), got {tuple(x.shape)}")
        return self.weights.to(x.dtype).expand(len(x), -1, -1)


def _in_blocks(function: Callable[[FieldPoints], FieldPoints], x: FieldPoints) -> FieldPoints:
    """The function of all points, a few of every field at a time."""
    out = torch.empty_like(x)
    rows = chunk_size(BLOCK, each=x[:, :1].numel())
    for part, place in zip(x.split(rows, dim=1), out.split(rows, dim=1), strict=True):
        place.copy_(function(part))
    return out


def train_linear(
    data: Distribution,
    schedule: Schedule,
    features: Features,
    *,
    samples: int,
    models: int,
    ridge: float | int = 0.1,
    generator: torch.Generator,
) -> LinearEnsemble:
    """Train `models` by ridge regression, each on its own `samples` draws of (x_0, t, noise), in float64.

    The default ridge is the published one. Raises InputError for numbers below 1, a ridge that is not a finite number
    >= 0, and a ridge of 0 where the system is singular (fewer samples than features always are).

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VP
    >>> from diffuscope.theory.variance import Affine, train_linear
    >>> point, stream = Gaussian.isotropic(torch.tensor([2.0]), 0.0), torch.Generator().manual_seed(0)
    >>> found = train_linear(point, VP(), Affine(), samples=20, models=1, ridge=0, generator=stream)
    >>> [round(w, 6) + 0.0 for w in found.weights.flatten().tolist()]  # D = 2 + 0 x
    [2.0, 0.0]
    """
    require_count("samples", samples, 1)
    require_count("models", models, 1)
    if not 0 <= ridge < math.inf:
        raise InputError(f"ridge: expected a finite number >= 0, got {ridge}")
    x_0 = data.sample(models * samples, generator=generator).double().reshape(models, samples, -1)
    uniform = torch.rand(models, samples, dtype=torch.float64, generator=generator)
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * uniform
    alpha, sigma = schedule.alpha(t)[..., None], schedule.sigma(t)[..., None]
    x = alpha * x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    root = alpha / sigma / math.sqrt(samples)
    chunk = chunk_size(TRAINING_NUMBERS, each=samples * features.number)
    parts = zip(*(tensor.split(chunk) for tensor in (x, t, x_0, root)), strict=True)
    weights = [
        ridge_regression(features(x_c, t_c).mul_(root_c), root_c * x_0_c, ridge) for x_c, t_c, x_0_c, root_c in parts
    ]
    return LinearEnsemble(features, schedule, torch.cat(weights).mT.contiguous())


def ridge_regression(
    Psi: Float[Tensor, "models P F"], y: Float[Tensor, "models P d"], ridge: float | int
) -> Float[Tensor, "models F d"]:
    """argmin |y - Psi W|^2 + ridge |W|^2 of every model; the smaller system. InputError where it is singular."""
    P, F = Psi.shape[1:]
    dual = ridge > 0 and P < F
    gram = Psi @ Psi.mT if dual else Psi.mT @ Psi
    gram.diagonal(dim1=1, dim2=2).add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed.any()):
        raise InputError(f"ridge: expected a larger one, the system of {F} features and {P} samples is singular")
    if dual:
        return Psi.mT @ torch.cholesky_solve(y, factor)
    return torch.cholesky_solve(Psi.mT @ y, factor)

r"""How much of a network's output an analytic denoiser explains, at one noise level.

With D the network's output, D_m that of candidate m, mu the mean of the data and s = (alpha D - x_t) / sigma^2, the
*fraction of unexplained variance* of a quantity a, one of D, D - mu ("centered") and s, is

.. math::
    \mathrm{FUV} = \frac{\sum_i |a_i - a_i^m|^2}{\sum_i |a_i|^2} \ (\text{pooled}), \qquad
    \frac1n \sum_i \frac{|a_i - a_i^m|^2}{|a_i|^2}\ (\text{per sample}), \qquad
    s - s_m = \frac{\alpha}{\sigma^2} (D - D_m) .

It is 0 where the candidate is the network; the constant answer mu has 1 for D - mu. Two of the three are vacuous at one
end of the noise: D at low noise, where every denoiser returns its input, and s at high noise, where every score is
-x_t / sigma^2. The cosine compares directions only,

.. math::  \cos = \frac1n\sum_i \frac{\langle D_i - \mu, D^m_i - \mu\rangle}{|D_i - \mu||D^m_i - \mu|} ,

and along the principal components u_k of the data, alone or in bands,
:math:`\sum_i \langle D_i - D_i^m, u_k\rangle^2 / \sum_i \langle D_i - \mu, u_k\rangle^2`.

Noised training points favor whatever knows the training examples: measure at held-out points and on the network's own
trajectories as well. Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution

Quantity = Literal["denoised", "centered", "score"]
ROWS = 256  # points that the network is asked at once
TINY = torch.finfo(torch.float64).tiny  # turns 0/0 into 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Sums of squares over coordinates, per point: of the network's output, and of its difference from each candidate.

    `bands` are those of |D - mu|^2 along the principal components, `gap_bands` of |D - D_m|^2.

    >>> import torch
    >>> from diffuscope.theory import compared
    >>> x_t, D, of_model = torch.tensor([[4.0, 2.0]]), torch.tensor([[3.0, 5.0]]), torch.tensor([[3.0, 1.0]])
    >>> found = compared(x_t, D, [of_model], mean=torch.tensor([0.0, 1.0]), basis=torch.eye(2), alpha=1, sigma=2)
    >>> [round(float(found.pooled(of)), 6) for of in ("denoised", "centered", "score")]  # 16 / 34, 16 / 25, 16 / 10
    [0.470588, 0.64, 1.6]
    >>> found.by_band.tolist(), round(float(found.cosine), 6)  # D - mu = (3, 4), D_m - mu = (3, 0)
    ([[0.0, 1.0]], 0.6)
    """

    denoised: Float[Tensor, " n"]
    centered: Float[Tensor, " n"]
    score: Float[Tensor, " n"]
    gap: Float[Tensor, "n candidates"]
    score_gap: Float[Tensor, "n candidates"]
    dot: Float[Tensor, "n candidates"]
    candidate: Float[Tensor, "n candidates"]
    bands: Float[Tensor, "n bands"]
    gap_bands: Float[Tensor, "n candidates bands"]

    def per_sample(self, of: Quantity = "centered") -> Float[Tensor, "n candidates"]:
        """|a_i - a_i^m|^2 / |a_i|^2 at every point; their mean over points is the per-sample fraction."""
        return self._gap(of) / self._size(of).clamp(min=TINY)[:, None]

    def pooled(self, of: Quantity = "centered") -> Float[Tensor, " candidates"]:
        """The ratio of the sums over points."""
        return self._gap(of).sum(0) / self._size(of).sum().clamp(min=TINY)

    @property
    def cosine(self) -> Float[Tensor, " candidates"]:
        """Mean cosine of D - mu and D_m - mu; 0 for a candidate that answers mu."""
        lengths = (self.centered[:, None] * self.candidate).sqrt()
        return (self.dot / lengths.clamp(min=TINY)).mean(0)

    @property
    def by_band(self) -> Float[Tensor, "candidates bands"]:
        """The pooled fraction of D - mu in every band of principal components."""
        return self.gap_bands.sum(0) / self.bands.sum(0).clamp(min=TINY)

    def _size(self, of: Quantity) -> Float[Tensor, " n"]:
        return {"denoised": self.denoised, "centered": self.centered, "score": self.score}[of]

    def _gap(self, of: Quantity) -> Float[Tensor, "n candidates"]:
        return self.score_gap if of == "score" else self.gap


def agreement(
    denoiser: Denoiser,
    candidates: Mapping[str, Distribution],
    x_t: Batch,
    t: float | int,
    *,
    mean: Float[Tensor, "*event"],
    basis: Float[Tensor, "D k"] | None = None,
    bands: Int[Tensor, " k"] | None = None,
) -> Agreement:
    """The network and every candidate at the points `x_t` of time `t`, the candidates in the order of the mapping.

    `mean` and `basis` are those of the data (of a `Gaussian` fitted to them; without a basis there are no bands), and
    `bands` numbers the band of every basis vector, by default each its own. The network is evaluated in batches,
    without gradients. Memory: n (candidates + 1) (D + bands) numbers. Raises InputError without candidates.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory import agreement
    >>> mean = torch.tensor([0.0])
    >>> network = ExactDenoiser(Gaussian.isotropic(mean, 3.0), RectifiedFlow())  # at t = 0.5: D = 1.5 x_t
    >>> x_t, models = torch.tensor([[2.0], [8.0]]), {"white": Gaussian.isotropic(mean, 1.0)}  # and D_m = x_t
    >>> round(float(agreement(network, models, x_t, 0.5, mean=mean).pooled()), 6)  # (0.5 / 1.5)^2
    0.111111
    """
    if not candidates:
        raise InputError("candidates: expected at least one analytic denoiser, got none")
    alpha, sigma = (float(level) for level in (denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)))
    with torch.no_grad():
        denoised = torch.cat([denoiser(rows, torch.tensor(t, dtype=torch.float64)) for rows in x_t.split(ROWS)])
    exact = [model.denoise(x_t, alpha, sigma) for model in candidates.values()]
    onto = None if basis is None else basis.to(x_t)
    return compared(x_t, denoised, exact, mean.to(x_t), onto, alpha, sigma, bands=bands)


def compared(
    x_t: Batch,
    denoised: Batch,
    exact: Sequence[Batch],
    mean: Float[Tensor, "*event"],
    basis: Float[Tensor, "D k"] | None,
    alpha: float | int,
    sigma: float | int,
    *,
    bands: Int[Tensor, " k"] | None = None,
) -> Agreement:
    """`agreement` of outputs that are known already: D = `denoised`, and D_m = `exact` of every candidate.

    Differences are taken in the precision given; everything after them is float64.

    >>> import torch
    >>> from diffuscope.theory import compared
    >>> x_t, D, of_model = torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [6.0]]), torch.tensor([[2.0], [6.0]])
    >>> found = compared(x_t, D, [of_model], mean=torch.tensor([1.0]), basis=None, alpha=1, sigma=1)
    >>> found.per_sample().mean(0).tolist(), round(float(found.pooled()), 6)  # 1 / 4 and 0; 1 / (4 + 25)
    ([0.125], 0.034483)
    """
    centered, known = _rows(denoised - mean), [_rows(answer - mean) for answer in exact]
    gaps = [denoised - answer for answer in exact]
    gap = torch.stack([_squares(difference) for difference in gaps], 1)
    if basis is None:
        basis, onto = x_t.new_zeros(centered.shape[1], 0), centered.new_zeros(0, 0)
    else:
        number = torch.arange(basis.shape[1]) if bands is None else bands
        onto = torch.nn.functional.one_hot(number).to(centered)
    return Agreement(
        denoised=_squares(denoised),
        centered=centered.square().sum(1),
        score=_squares(alpha * denoised - x_t) / sigma**4,
        gap=gap,
        score_gap=gap * (alpha / sigma**2) ** 2,
        dot=torch.stack([(centered * answer).sum(1) for answer in known], 1),
        candidate=torch.stack([answer.square().sum(1) for answer in known], 1),
        bands=_in_bands(denoised - mean, basis, onto),
        gap_bands=torch.stack([_in_bands(difference, basis, onto) for difference in gaps], 1),
    )


def _rows(x: Tensor) -> Float[Tensor, "n D"]:
    return x.flatten(1).double()


def _squares(x: Tensor) -> Float[Tensor, " n"]:
    return _rows(x).square().sum(1)


def _in_bands(difference: Tensor, basis: Tensor, onto: Tensor) -> Float[Tensor, "n bands"]:
    """Squared coordinates along the basis, summed over every band."""
    return (difference.flatten(1) @ basis).double().square() @ onto

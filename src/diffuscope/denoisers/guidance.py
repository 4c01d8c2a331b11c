r"""Classes: a conditional denoiser at a fixed class, and guidance toward it. Both are denoisers themselves.

A conditional denoiser estimates :math:`D(x_t, t, y) = E[x_0 \mid x_t, y]`, and without y the unconditional
:math:`D(x_t, t) = E[x_0 \mid x_t]`. Guidance of scale w extrapolates from the second through the first,

.. math::  D_w = D_u + w\,(D_c - D_u), \qquad
           s_w = w\, \nabla\log p_t(x \mid y) + (1 - w)\, \nabla\log p_t(x) .

At every t this is the score of the tilted distribution :math:`\propto p_t(x|y)^w p_t(x)^{1-w}`. But these distributions
are not the marginals of one diffusion, and the samples do *not* follow :math:`p_0(x|y)^w p_0(x)^{1-w}`. For centered
Gaussians of variances :math:`v_c, v_u` (alpha = 1) the flow of :math:`D_w` from sigma = T to 0 multiplies x by

.. math::  \left(\frac{v_c}{v_c + T^2}\right)^{w/2} \left(\frac{v_u}{v_u + T^2}\right)^{(1-w)/2},

so that the variance of the samples tends, as T grows, to the geometric mean :math:`v_c^w v_u^{1-w}`, while that of the
tilted distribution is :math:`1 / (w / v_c + (1 - w) / v_u)`, if positive. For two Gaussians of equal covariance both
agree, and D_w is the exact denoiser of the mean :math:`m_u + w (m_c - m_u)`.

Sources: Ho & Salimans 2022 (arXiv:2207.12598), whose w is smaller by one; Bradley & Nakkiran 2024 (arXiv:2408.09000):
guidance does not sample the tilted distribution.
"""

import math
from typing import Any, Protocol, runtime_checkable

import torch

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .contract import Batch, BatchTime, Denoiser
from .predictors import Classes, checked_classes, classes_of

_KNOWN = ("event_shape", "data_range", "one_step")


@runtime_checkable
class ConditionalDenoiser(Protocol):
    """A denoiser with one class 0 .. classes - 1 per sample as a third argument; `classes` itself means none.

    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import MLP, ConditionalDenoiser, DataPredictor
    >>> model = DataPredictor(MLP((2,), width=4, classes=3), VE(), event_shape=(2,), data_range=(-1.0, 1.0))
    >>> isinstance(model, ConditionalDenoiser), model.classes
    (True, 3)
    """

    @property
    def schedule(self) -> Schedule: ...

    @property
    def classes(self) -> int: ...

    def __call__(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch: ...


class OfClass:
    """E[x_0 | x_t, y]: `denoiser` conditioned on the class `y`, one for all samples or one per sample.

    It has the denoiser's `event_shape`, `data_range` and `one_step`. Raises InputError for a denoiser without classes
    and for a class that it does not have.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import OfClass
    >>> class Points:  # class y is one point, x_0 = y + 5
    ...     schedule, classes = VE(), 3
    ...     def __call__(self, x_t, t, y=None):
    ...         return torch.zeros_like(x_t) + y[:, None] + 5
    >>> OfClass(Points(), torch.tensor([2, 0]))(torch.zeros(2, 1), 1.0).tolist()
    [[7.0], [5.0]]
    """

    def __init__(self, denoiser: ConditionalDenoiser, y: Classes) -> None:
        self.denoiser, self.y = denoiser, None if y is None else torch.as_tensor(y)
        checked_classes(self.y, 1 if self.y is None else self.y.numel(), classes_of(denoiser))

    @property
    def schedule(self) -> Schedule:
        """The denoiser's."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.denoiser(x_t, t, self.y)

    def __getattr__(self, name: str) -> Any:
        return _of(self, "denoiser", name)


class Guided:
    """D_u + scale (D_c - D_u): guidance from `unconditional` toward `conditional`, two evaluations per call.

    scale = 1 is the conditional denoiser, 0 the unconditional one. With a worse model of the same data as
    `unconditional` it is autoguidance (Karras et al. 2024, arXiv:2406.02507). It has the `event_shape`, `data_range`
    and `one_step` of `conditional`. Raises InputError for a scale that is not finite and for two different schedules.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.denoisers import Guided
    >>> conditional, free = (ExactDenoiser(Gaussian.isotropic(torch.tensor([m]), 3.0), VE()) for m in (2.0, 1.0))
    >>> Guided(conditional, free, scale=5.0)(torch.tensor([[10.0]]), 1.0)  # of N(1 + 5 (2 - 1), 3): 6 + 3/4 (10 - 6)
    tensor([[9.]])
    """

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, scale: float | int) -> None:
        if not math.isfinite(scale):
            raise InputError(f"scale: expected a finite number, got {scale}")
        if conditional.schedule != unconditional.schedule:
            raise InputError(
                f"unconditional: expected the schedule of the conditional denoiser, {conditional.schedule}, "
                f"got {unconditional.schedule}"
            )
        self.conditional, self.unconditional, self.scale = conditional, unconditional, scale

    @property
    def schedule(self) -> Schedule:
        """That of both."""
        return self.conditional.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        free = self.unconditional(x_t, t)
        return free + self.scale * (self.conditional(x_t, t) - free)

    def __getattr__(self, name: str) -> Any:
        return _of(self, "conditional", name)


def _of(wrapper: object, inner: str, name: str) -> Any:
    """The attribute of the wrapped denoiser, for the names that describe a denoiser and no others."""
    if name in _KNOWN and inner in wrapper.__dict__:
        return getattr(wrapper.__dict__[inner], name)
    raise AttributeError(f"{type(wrapper).__name__} has no {name}")

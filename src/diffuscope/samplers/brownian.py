r"""One Brownian path over a clock: finer steps resolve the same path in more detail.

The pair :math:`(W, \int W)` is a Markov process, so the path inside an interval depends only on its two ends.
Over an interval of length L keep the standardized displacement and area,

.. math::  w = \frac{W_q - W_p}{\sqrt L}, \qquad a = \frac{1}{L^{3/2}}\int_p^q (W_u - W_p)\,du, \qquad
           \mathrm{Cov}(w, a) = \begin{pmatrix} 1 & 1/2 \\ 1/2 & 1/3 \end{pmatrix} .

Intervals join by Chen's relation: displacements add, and
:math:`A_{[p, r]} = A_{[p, q]} + A_{[q, r]} + (r - q)\,\Delta W_{[p, q]}`.

An interval is split at :math:`u = p + \theta L` by the exact conditional distribution of the left part. In units of the
whole, with :math:`\phi = 1 - \theta` and :math:`n_1, n_2 \sim N(0, I)`,

.. math::
    w_\theta &= \theta(3\theta - 2)\,w + 6\theta\phi\,a
                + \sqrt{3\theta\phi}\,(\tfrac12 - \theta)\,n_1 + \tfrac12\sqrt{\theta\phi}\,n_2, \\
    a_\theta &= -\theta^2\phi\,w + \theta^2(3 - 2\theta)\,a + \tfrac{1}{\sqrt 3}(\theta\phi)^{3/2}\,n_1 .

(The means are cubic Hermite interpolation of the area.) The right part follows from Chen's relation, written out so
that nothing cancels however short it is:

.. math::
    w - w_\theta &= \phi(4 - 3\phi)\,w - 6\theta\phi\,a
                    - \sqrt{3\theta\phi}\,(\tfrac12 - \theta)\,n_1 - \tfrac12\sqrt{\theta\phi}\,n_2, \\
    a - a_\theta - \phi w_\theta &= 2\phi^2\theta\,w + \phi^2(4\phi - 3)\,a
                - \phi\sqrt{\theta\phi}\left[\left(\tfrac{\sqrt 3}{2} - \tfrac{2\theta}{\sqrt 3}\right) n_1
                + \tfrac12 n_2\right] .

Source: derived here from the Gaussian covariances of Brownian motion and its integral.
"""

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError

from .noise import Noise


@dataclass(frozen=True, eq=False)
class _Piece:
    """The path over an interval: its length, w and a (float64)."""

    length: float
    w: Tensor
    a: Tensor

    def joined(self, after: "_Piece") -> "_Piece":
        """This piece and the one after it as one, by Chen's relation."""
        length = self.length + after.length
        left, right = self.length / length, after.length / length
        w = math.sqrt(left) * self.w + math.sqrt(right) * after.w
        a = left**1.5 * self.a + right**1.5 * after.a + right * math.sqrt(left) * self.w
        return _Piece(length, w, a)

    def reversed(self) -> "_Piece":
        """The same interval from its end to its start: displacement -w, area about the value at the end."""
        return _Piece(self.length, -self.w, self.a - self.w)

    def split(self, left: float, right: float, n_1: Tensor, n_2: Tensor) -> tuple["_Piece", "_Piece"]:
        """The parts of lengths `left` and `right`, by the conditional distribution; each in units of its own length."""
        theta, phi = left / (left + right), right / (left + right)
        root = math.sqrt(theta * phi)
        fresh = math.sqrt(3) * root * (0.5 - theta) * n_1 + root / 2 * n_2
        w_left = theta * (3 * theta - 2) * self.w + 6 * theta * phi * self.a + fresh
        a_left = -(theta**2) * phi * self.w + theta**2 * (3 - 2 * theta) * self.a + root**3 / math.sqrt(3) * n_1
        w_right = phi * (4 - 3 * phi) * self.w - 6 * theta * phi * self.a - fresh
        a_right = 2 * phi**2 * theta * self.w + phi**2 * (4 * phi - 3) * self.a
        a_right = a_right - phi * root * ((math.sqrt(3) / 2 - 2 * theta / math.sqrt(3)) * n_1 + n_2 / 2)
        piece = _Piece(left, w_left / theta**0.5, a_left / theta**1.5)
        return piece, _Piece(right, w_right / phi**0.5, a_right / phi**1.5)


class BrownianPath(Noise):
    """Noise whose increments are those of one path, drawn where it is first needed.

    Increments over adjoining intervals add up and their areas obey Chen's relation, to rounding. Queries in any order
    have the same distribution, and a repeated query has the same result, in any dtype (the path is kept in float64).
    `normal` and `uniform` remain fresh draws from the same generator. An interval from b to a is the one from a to b
    run backward.

    Memory: two float64 tensors of the state's size for each interval between neighboring query times. A query that
    spans n of them costs n joins. Raises InputError for a state of another shape than the first, and for two equal
    or infinite times.

    >>> import torch
    >>> from diffuscope.samplers import BrownianPath
    >>> path, like = BrownianPath(torch.Generator().manual_seed(0)), torch.zeros(2, 3, dtype=torch.float64)
    >>> whole = 3 * path.increment(like, 0.0, 9.0)  # W(9) - W(0), and then its parts
    >>> parts = 2 * path.increment(like, 0.0, 4.0) + 5**0.5 * path.increment(like, 4.0, 9.0)
    >>> torch.allclose(whole, parts)
    True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self._times: list[float] = []
        self._pieces: list[_Piece] = []  # between neighboring times
        self._shape: tuple[int, ...] | None = None

    def increment(self, like: Batch, a: float, b: float) -> Batch:
        """xi = (W_b - W_a) / sqrt|b - a|."""
        return self.increment_and_area(like, a, b)[0]

    def increment_and_area(self, like: Batch, a: float, b: float) -> Sequence[Batch]:
        """(xi, zeta): int_a^b (W_u - W_a) |du| = |b - a|^{3/2} / 2 (xi + zeta / sqrt 3)."""
        self._shape = tuple(like.shape) if self._shape is None else self._shape
        if tuple(like.shape) != self._shape:
            raise InputError(f"like: expected the shape {self._shape} that this path has, got {tuple(like.shape)}")
        if a == b or not (math.isfinite(a) and math.isfinite(b)):
            raise InputError(f"a, b: expected two different finite times of the clock, got {a} and {b}")
        low, high = sorted((a, b))
        self._insert(low)
        self._insert(high)
        first, last = bisect.bisect_left(self._times, low), bisect.bisect_left(self._times, high)
        piece = functools.reduce(_Piece.joined, self._pieces[first:last])
        if a > b:
            piece = piece.reversed()
        zeta = math.sqrt(3) * (2 * piece.a - piece.w)
        return piece.w.to(like), zeta.to(like)

    def _insert(self, time: float) -> None:
        """Add `time` to the times of the path: a split inside, an extension beyond either end."""
        at = bisect.bisect_left(self._times, time)
        if at < len(self._times) and self._times[at] == time:
            return
        if self._times:
            if at == 0:
                self._pieces.insert(0, self._fresh(self._times[0] - time))
            elif at == len(self._times):
                self._pieces.append(self._fresh(time - self._times[-1]))
            else:
                left, right = time - self._times[at - 1], self._times[at] - time
                self._pieces[at - 1 : at] = self._pieces[at - 1].split(left, right, self._draw(), self._draw())
        self._times.insert(at, time)

    def _fresh(self, length: float) -> _Piece:
        """An interval beyond the ends of the path: w = n_1, a = (n_1 + n_2 / sqrt 3) / 2."""
        n_1, n_2 = self._draw(), self._draw()
        return _Piece(length, n_1, (n_1 + n_2 / math.sqrt(3)) / 2)

    def _draw(self) -> Tensor:
        shape, device = self._shape or (), self.generator.device
        return torch.randn(shape, dtype=torch.float64, device=device, generator=self.generator)

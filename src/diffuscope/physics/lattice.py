r"""Exact posteriors of random walks: forward and backward messages on a lattice, convolutions by FFT.

For x_i = x_{i-1} + u_i with independent jumps of any law, seen through independent factors
:math:`\ell_i(x_i) = \exp(-\tfrac{p_i}{2}(x_i - c_i)^2)` (denoising, point observations; p_i = 0 where nothing is seen),

.. math::
    f_i(x) = \ell_i(x) \int p_u(x - x') f_{i-1}(x')\,dx', \qquad b_{i-1}(x) = \int p_u(x' - x)\,\ell_i(x') b_i(x')\,dx',
    \qquad p(x_i \mid y) \propto f_i b_i .

The jump law is replaced by a law on the lattice h Z with the same integrals of smooth functions up to O(h^6) (or to
all orders where its density is smooth): the weights h p_u(k h), the atom at 0 kept as it is, and the kink of a Laplace
density corrected by Euler & Maclaurin,

.. math::
    \Delta w_0 = -\frac{h^2}{12 b^2} + \frac{h^4}{720 b^4} - \frac{h^2}{120 b^2}, \qquad
    \Delta w_{\pm 1} = \frac{h^2}{240 b^2}.

Everything else is exact on the lattice. Each x_i has a window of K nodes, shifted by whole nodes from sample to sample,
so that an atom needs no interpolation. The covariance with a direction v is carried by first-moment messages,

.. math::
    F_i = \ell_i\,(w * F_{i-1}) + v_i (x - m_i) f_i, \qquad
    \mathrm{Cov}(x)v\,|_i = \frac{\sum_x (x - m_i)(F_i b_i + f_i B_i)}{\sum_x f_i b_i} .

Cost: 4 n FFTs of length 2K per sample (n of them for the kernels). Derived here; message passing is Pearl 1988.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError

from .levy import JumpLaw


@dataclass(frozen=True, eq=False, kw_only=True)
class Chain:
    """The posterior of x_1 .. x_n on the lattice h Z; node k of the window of x_i is (start_i + k) h."""

    law: "LatticeLaw"
    start: Int[Tensor, "batch n"]
    kernels: Tensor  # (n, batch, K + 1): Fourier transforms of the lattice law between consecutive windows
    factors: Float[Tensor, "n batch K"]
    forward: Float[Tensor, "n batch K"]
    backward: Float[Tensor, "n batch K"]
    norms: Float[Tensor, "n batch"]  # what the messages were divided by, (forward, backward)
    backward_norms: Float[Tensor, "n batch"]

    @property
    def nodes(self) -> Float[Tensor, "n batch K"]:
        """x."""
        return self.law.h * (self.start.T[:, :, None] + torch.arange(self.law.K)).double()

    @property
    def marginals(self) -> Float[Tensor, "n batch K"]:
        """p(x_i | y) on the nodes, summing to 1."""
        product = self.forward * self.backward
        return product / product.sum(2, keepdim=True)

    @property
    def mean(self) -> Float[Tensor, "batch n"]:
        """E[x_i | y]."""
        return (self.marginals * self.nodes).sum(2).T

    @property
    def variance(self) -> Float[Tensor, "batch n"]:
        """Var(x_i | y)."""
        centered = self.nodes - self.mean.T[:, :, None]
        return (self.marginals * centered.square()).sum(2).T

    @property
    def log_evidence(self) -> Float[Tensor, " batch"]:
        """log of the integral of p(x) prod_i l_i(x_i)."""
        return self.norms.log().sum(0) + self.forward[-1].sum(1).log()

    @property
    def edge_mass(self) -> float:
        """The largest posterior probability of the outer 1/64 of a window at either end: what truncation may lose."""
        outer = max(1, self.forward.shape[2] // 64)
        p = self.marginals
        return float(torch.maximum(p[:, :, :outer].sum(2), p[:, :, -outer:].sum(2)).max())

    def quantiles(self, levels: tuple[float, ...]) -> Float[Tensor, "levels batch n"]:
        """Of x_i given y: its distribution function is the sum of masses, interpolated by cubics of the right slopes; a
        posterior atom is spread over 2 h."""
        p, x = self.marginals, self.nodes
        slope = torch.nn.functional.pad(p[:, :, 2:] - p[:, :, :-2], (1, 1))
        F = p.cumsum(2) - p / 2 - slope / 24  # Euler & Maclaurin: the end of the trapezoidal rule
        wanted = torch.tensor(levels, dtype=p.dtype).expand(*p.shape[:2], -1).contiguous()
        left = (torch.searchsorted(F, wanted) - 1).clamp(0, F.shape[2] - 2)
        F0, F1, p0, p1 = (array.gather(2, left + step) for array in (F, p) for step in (0, 1))
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):  # bisection of the cubic
            s = (low + high) / 2
            cubic = F0 + s * p0 + s**2 * (3 * (F1 - F0) - 2 * p0 - p1) + s**3 * (2 * (F0 - F1) + p0 + p1)
            low, high = torch.where(cubic < wanted, s, low), torch.where(cubic < wanted, high, s)
        return (x.gather(2, left) + low * self.law.h).permute(2, 1, 0)

    def covariance_times(self, v: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Cov(x | y) v."""
        n = len(self.forward)
        centered = self.nodes - self.mean.T[:, :, None]
        tilt = v.T[:, :, None].double() * centered
        F = tilt * self.forward
        for i in range(1, n):
            F[i] += self.factors[i] * _push(self.kernels[i], F[i - 1]) / self.norms[i][:, None]
        B = torch.zeros_like(self.forward[0])
        products = torch.empty_like(v, dtype=torch.float64)
        for i in range(n - 1, -1, -1):
            joint = F[i] * self.backward[i] + self.forward[i] * B
            products[:, i] = (centered[i] * joint).sum(1) / (self.forward[i] * self.backward[i]).sum(1)
            if i > 0:
                step = self.factors[i] * (B + tilt[i] * self.backward[i])
                B = _pull(self.kernels[i], step) / self.backward_norms[i - 1][:, None]
        return products

    def draws(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "count n"]:
        """Independent draws of the posterior of the first sample, backward from x_n: p(x_{i-1} | x_i) ~ w f_{i-1}."""
        places = torch.empty(count, len(self.forward), dtype=torch.int64)
        weights = self.forward[-1, :1].expand(count, -1)
        for i in range(len(self.forward) - 1, -1, -1):
            below = weights.cumsum(1)
            u = torch.rand(count, 1, dtype=torch.float64, generator=generator) * below[:, -1:]
            places[:, i] = torch.searchsorted(below, u, right=True)[:, 0].clamp(max=self.law.K - 1) + self.start[0, i]
            if i > 0:
                jumps = places[:, i, None] - self.start[0, i - 1] - torch.arange(self.law.K)
                weights = self.law.of(jumps) * self.forward[i - 1, :1]
        return self.law.h * places.double()


def chain(
    weights: "LatticeLaw",
    start: Int[Tensor, "batch n"],
    precision: Float[Tensor, " n"],
    center: Float[Tensor, "batch n"],
) -> Chain:
    """Forward and backward messages in the windows that begin at `start`; InputError where a density underflows."""
    (batch, n), K, h = start.shape, weights.K, weights.h
    steps = torch.diff(start, dim=1, prepend=torch.zeros_like(start[:, :1]))
    jumps = steps.T[:, :, None] + torch.arange(-(K - 1), K)
    jumps[0] += K - 1  # x_0 = 0 is node 0, not a window: its kernel begins at the window of x_1
    w = weights.of(jumps)
    kernels = torch.fft.rfft(w, 2 * K)
    x = h * (start.T[:, :, None] + torch.arange(K)).double()
    factors = torch.exp(-0.5 * precision[:, None, None] * (x - center.T[:, :, None]).square())
    forward, backward = torch.empty_like(factors), torch.ones_like(factors)
    norms, backward_norms = torch.ones(n, batch, dtype=torch.float64), torch.ones(n, batch, dtype=torch.float64)
    for i in range(n):
        f = factors[i] * (w[0, :, :K] if i == 0 else _push(kernels[i], forward[i - 1]).clamp(min=0))
        norms[i] = f.amax(1)
        forward[i] = f / norms[i][:, None]
    for i in range(n - 1, 0, -1):
        b = _pull(kernels[i], factors[i] * backward[i]).clamp(min=0)
        backward_norms[i - 1] = b.amax(1)
        backward[i - 1] = b / backward_norms[i - 1][:, None]
    if not bool(((forward * backward).sum(2) > 0).all()):
        raise InputError("center: expected values that the jumps reach, got a path whose density is 0 in float64")
    return Chain(
        law=weights, start=start, kernels=kernels, factors=factors, forward=forward, backward=backward, norms=norms,
        backward_norms=backward_norms,
    )  # fmt: skip


@dataclass(frozen=True)
class LatticeLaw:
    """The jump law on h Z, for windows of K nodes; `cells` integrates it over cells instead, for h above its scale."""

    law: JumpLaw
    h: float
    K: int
    cells: bool = False

    def of(self, jumps: Tensor) -> Tensor:
        """The weights of many jumps k h, by a table where it has at most one number more than they are."""
        low, high = int(jumps.min()), int(jumps.max())
        if high - low > jumps.numel():
            return self.weights(jumps)
        return self.weights(torch.arange(low, high + 1))[jumps - low]

    def weights(self, k: Int[Tensor, "*jumps"]) -> Float[Tensor, "*jumps"]:
        """Of the jumps k h."""
        u, h = self.h * k.double(), self.h
        if self.cells:
            w = self.law.cdf(u + h / 2) - self.law.cdf(u - h / 2)
        else:
            w, q = h * self.law.density(u), (h * self.law.kink) ** 2
            w = w + (k == 0) * (-q / 12 + q**2 / 720 - q / 120) + (k.abs() == 1) * (q / 240)
        return w + self.law.atom * (k == 0)


def _push(kernel: Tensor, f: Tensor) -> Tensor:
    """sum_b w(x_a - x'_b) f(x'_b)."""
    K = f.shape[-1]
    return torch.fft.irfft(kernel * torch.fft.rfft(f, 2 * K), 2 * K)[..., K - 1 : 2 * K - 1]


def _pull(kernel: Tensor, g: Tensor) -> Tensor:
    """sum_a w(x_a - x'_b) g(x_a)."""
    K = g.shape[-1]
    return torch.fft.irfft(kernel * torch.fft.rfft(g, 2 * K).conj(), 2 * K)[..., :K].flip(-1)

r"""The heat equation on a periodic box, solved exactly: every Fourier mode decays independently.

.. math::
    \partial_t p = \nabla\cdot(D\nabla p), \qquad
    \hat p_t(k) = e^{-t\sum_j D_j k_j^2}\,\hat p_0(k), \qquad k_j = 2\pi m_j / L_j .

Time is exact, so the only error is the grid's: the spectrum of :math:`p_0` above Nyquist's frequency (`unresolved`)
and, where the whole space is meant rather than the periodic box, the mass that would have left the box
(`mass_outside`, with variance 2 D t). The kernel on the line is the Gaussian of variance 2 D t. On a circle of length L
it is a theta function: two series, equal by Poisson summation, one of which converges at once on either side of
:math:`4\pi D t = L^2`,

.. math::
    \sum_n \frac{e^{-(x + nL)^2/4Dt}}{\sqrt{4\pi D t}}
    = \frac1L\Big[1 + 2\sum_{n\ge1} e^{-D(2\pi n/L)^2 t}\cos\frac{2\pi n x}{L}\Big] .
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .density import Density
from .grid import Grid

Number = Float[Tensor, ""] | float | int
TERMS = 4  # of either series: the first term left out is at most e^(-20 pi) of the sum


def heat_flow(density: Density, t: Number, *, diffusivity: Number | Float[Tensor, " d"] = 1.0) -> Density:
    """The density after a time t >= 0 of heat flow on the periodic box; one `diffusivity` for all axes or one per axis.

    Differentiable in the values, t and the diffusivity. Mass is conserved to rounding, positivity up to what is
    `unresolved`: values below zero by more than rounding mean that the grid is too coarse.
    Raises InputError for a negative or non-finite t or diffusivity.

    >>> import math
    >>> from diffuscope.densities import Density, Grid, heat_flow
    >>> grid = Grid.line(0, 2 * math.pi, 16)
    >>> mode = (2 * grid.centers()).cos()
    >>> flowed = heat_flow(Density(grid, 1 + 0.5 * mode), 0.5, diffusivity=0.25)
    >>> round(flowed.l1_distance(Density(grid, 1 + 0.5 * math.exp(-0.25 * 2**2 * 0.5) * mode)), 6)
    0.0
    """
    times = torch.as_tensor(t, dtype=torch.float64).reshape(1)
    return Density(density.grid, heat_flows(density.values, density.grid, times, diffusivity=diffusivity)[0])


def heat_flows(
    values: Float[Tensor, "*shape"],
    grid: Grid,
    times: Float[Tensor, " times"],
    *,
    diffusivity: Number | Float[Tensor, " d"] = 1.0,
) -> Float[Tensor, "times *shape"]:
    """Heat flow of a batch (*batch, *cells) on `grid` to each of `times`, as `heat_flow`, in float64.

    Memory: twice the result. Raises InputError as `heat_flow`, and for values whose last axes are not the grid's.

    >>> import math, torch
    >>> from diffuscope.densities import Grid, heat_flows
    >>> grid = Grid.line(0, 2 * math.pi, 16)
    >>> mode = (2 * grid.centers()).cos()
    >>> flowed = heat_flows(mode, grid, torch.tensor([0.5, 1.0]), diffusivity=0.25)
    >>> [round(value, 6) for value in (2 * (flowed * mode).mean(1)).log().tolist()]  # amplitudes e^(-D k^2 t)
    [-0.5, -1.0]
    """
    d = grid.dimensions
    if tuple(values.shape[-d:]) != grid.cells or values.ndim < d:
        raise InputError(f"values: expected shape (..., {', '.join(map(str, grid.cells))}), got {tuple(values.shape)}")
    times = torch.as_tensor(times, dtype=torch.float64)
    D = torch.as_tensor(diffusivity, dtype=torch.float64)
    if D.ndim and tuple(D.shape) != (d,):
        raise InputError(f"diffusivity: expected one number or {d}, one per axis, got shape {tuple(D.shape)}")
    for name, given in (("t", times), ("diffusivity", D)):
        if not bool((torch.isfinite(given) & (given >= 0)).all()):
            raise InputError(f"{name}: expected finite values >= 0 (heat flows forward), got {given.tolist()}")
    decay = torch.ones(len(times), *[1] * d, dtype=torch.float64)
    for axis, (n, h, diffusivity_k) in enumerate(zip(grid.cells, grid.widths, D.expand(d), strict=True)):
        frequency = torch.fft.rfftfreq if axis == d - 1 else torch.fft.fftfreq
        k = 2 * math.pi * frequency(n, h, dtype=torch.float64).reshape(-1, *[1] * (d - 1 - axis))
        decay = decay * torch.exp(-diffusivity_k * times.reshape(-1, *[1] * d) * k**2)
    axes = tuple(range(-d, 0))
    spectrum = torch.fft.rfftn(values.double(), dim=axes)
    batch = [1] * (values.ndim - d)
    decayed = spectrum * decay.reshape(len(times), *batch, *decay.shape[1:])
    return torch.fft.irfftn(decayed, s=grid.cells, dim=axes)


def heat_kernel(x: Float[Tensor, "*points"], t: Number, *, diffusivity: Number = 1.0) -> Float[Tensor, "*points"]:
    """N(x; 0, 2 D t), the heat kernel on the line, for t > 0; in space it is the product over coordinates.

    Raises InputError for t or diffusivity not finite and above zero.

    >>> import torch
    >>> from diffuscope.densities import heat_kernel
    >>> round(heat_kernel(torch.tensor(3.0), 0.5, diffusivity=4.0).item(), 6)  # N(3; 0, 4) = e^(-9/8) / sqrt(8 pi)
    0.064759
    """
    Dt = _positive(t, diffusivity)
    return torch.exp(-(x.double() ** 2) / (4 * Dt)) / (4 * math.pi * Dt).sqrt()


def periodic_heat_kernel(
    x: Float[Tensor, "*points"], t: Number, *, length: float | int, diffusivity: Number = 1.0
) -> Float[Tensor, "*points"]:
    """The heat kernel on the circle of `length`, for t > 0, everywhere with a relative error of rounding.

    Raises InputError for t, diffusivity or length not above zero.

    >>> import math, torch
    >>> from diffuscope.densities import periodic_heat_kernel
    >>> density = periodic_heat_kernel(torch.tensor(math.pi / 2), 0.5, length=2 * math.pi, diffusivity=2.0)
    >>> round(density.item(), 6)  # the modes 2, 4 and 6: (1 - 2 e^-4 + 2 e^-16 - 2 e^-36) / 2 pi
    0.153325
    """
    if not (math.isfinite(length) and length > 0):
        raise InputError(f"length: expected a finite length > 0, got {length}")
    Dt = _positive(t, diffusivity)
    x = x.double() - length * torch.round(x.double() / length)
    n = torch.arange(1, TERMS + 1, dtype=torch.float64)
    if 4 * math.pi * float(Dt.detach()) < length**2:
        shifts = length * torch.cat([-n, n.new_zeros(1), n])
        return (torch.exp(-((x[..., None] + shifts) ** 2) / (4 * Dt)) / (4 * math.pi * Dt).sqrt()).sum(-1)
    k = 2 * math.pi / length * n
    return (1 + 2 * (torch.exp(-Dt * k**2) * torch.cos(k * x[..., None])).sum(-1)) / length


def _positive(t: Number, diffusivity: Number) -> Tensor:
    t, D = torch.as_tensor(t, dtype=torch.float64), torch.as_tensor(diffusivity, dtype=torch.float64)
    if not all(bool(torch.isfinite(number) & (number > 0)) for number in (t, D)):
        raise InputError(f"t: expected t and diffusivity finite and > 0, got {t.item():g} and {D.item():g}")
    return t * D

"""Darcy flow: exact solutions across jumps, conservation, random media, refusals."""

import math

import numpy as np
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import Darcy, Grid
from diffuscope.physics.operators import LogNormal, SmoothField, TwoPhase


def test_without_sources_nodes_are_exact_where_jumps_lie_halfway_between_them() -> None:
    # three layers of conductivities 1, 0.05, 3 in series: the flux is the same in all, and u is linear in each
    n = 21
    grid = Grid((n,), (2.0,))
    x, h = grid.along(0), grid.spacing[0]
    jumps = (float(x[6]) + h / 2, float(x[13]) + h / 2)
    a = 1.0 - 0.95 * (x > jumps[0]).double() + 2.95 * (x > jumps[1]).double()
    widths = (jumps[0], jumps[1] - jumps[0], 2.0 - jumps[1])
    resistance = widths[0] / 1.0 + widths[1] / 0.05 + widths[2] / 3.0
    upstream = x.clamp(max=jumps[0]) + (x - jumps[0]).clamp(0, widths[1]) / 0.05
    exact = 0.3 + (upstream + (x - jumps[1]).clamp(min=0) / 3.0) / resistance
    values = torch.zeros(n, dtype=torch.float64)
    values[0], values[-1] = 0.3, 1.3
    torch.testing.assert_close(Darcy(grid, values).solve(a[None])[0], exact, rtol=0, atol=1e-13)


def test_with_sources_the_error_across_a_jump_is_of_order_two() -> None:
    # -(a u')' = 1 on (0, 1), u = 0 at both ends, a = 1 left and 0.05 right of 1/2: the flux is x - c
    errors, spacings = [], []
    for n in (32, 64, 128):  # an even number of nodes has 1/2 halfway between two of them
        grid = Grid((n,))
        x = grid.along(0)
        left, right = 1.0, 0.05
        c = (1 / 8 / left + 3 / 8 / right) / (1 / 2 / left + 1 / 2 / right)
        low, high = x.clamp(max=0.5), x.clamp(min=0.5)
        exact = (c * low - low**2 / 2) / left + (c * (high - 0.5) - (high**2 - 0.25) / 2) / right
        assert float(exact[-1]) == pytest.approx(0, abs=1e-14)
        a = left + (right - left) * (x > 0.5).double()
        errors.append(float((Darcy(grid).solve(a[None])[0] - exact).abs().max()))
        spacings.append(grid.spacing[0])
    orders = np.diff(np.log(errors)) / np.diff(np.log(spacings))
    assert orders == pytest.approx([2, 2], abs=0.1)


@pytest.mark.parametrize("axis", [0, 1])
def test_layers_in_series_and_in_parallel_have_their_harmonic_and_arithmetic_conductivity(axis: int) -> None:
    # a pressure drop along `axis` of an elongated box that is periodic across it
    shape = (9, 8) if axis == 0 else (8, 9)
    around = (axis == 1, axis == 0)
    grid = Grid(shape, (2.0, 0.5), around)
    values = torch.zeros(shape, dtype=torch.float64)
    values.index_fill_(axis, torch.tensor([8]), 1.0)
    darcy = Darcy(grid, values)
    layers = 1 - 0.8 * (torch.arange(8).double() % 2)
    parallel = (layers if axis == 0 else layers[:, None]).expand(shape)[None]
    u = darcy.solve(parallel)[0]
    drop = grid.along(axis) / grid.lengths[axis]
    torch.testing.assert_close(u, (drop[:, None] if axis == 0 else drop).expand(shape), rtol=0, atol=1e-13)
    in_series = 1 - 0.8 * (torch.arange(9).double() % 2)
    in_series = (in_series[:, None] if axis == 0 else in_series).expand(shape)[None]
    # 8 faces with the harmonic mean of 1 and 0.2, 1/3, in series: u is linear at the nodes
    torch.testing.assert_close(darcy.solve(in_series)[0], u, rtol=0, atol=1e-13)
    cond = darcy.form.conductance(in_series)[axis]
    assert cond[0].flatten()[0].item() == pytest.approx(1 / 3)


def test_what_the_sources_put_in_leaves_through_the_boundary() -> None:
    grid = Grid((15, 12), (1.0, 1.7))
    darcy = Darcy(grid, 1.3, media=TwoPhase(high=1.0, low=0.01))
    a = darcy.draw(3, generator=torch.Generator().manual_seed(0))
    u = darcy.solve(a)
    hx, hy = grid.spacing
    harmonic = lambda p, q: 2 * p * q / (p + q)  # noqa: E731
    out = (harmonic(a[:, 0], a[:, 1]) * u[:, 1] / hx * hy).sum(1) + (
        harmonic(a[:, -1], a[:, -2]) * u[:, -2] / hx * hy
    ).sum(1)
    out += (harmonic(a[:, :, 0], a[:, :, 1]) * u[:, :, 1] / hy * hx).sum(1)
    out += (harmonic(a[:, :, -1], a[:, :, -2]) * u[:, :, -2] / hy * hx).sum(1)
    sources = 1.3 * hx * hy * 13 * 10
    torch.testing.assert_close(out, torch.full((3,), sources, dtype=torch.float64), rtol=1e-12, atol=0)


def test_fields_factored_together_are_those_factored_alone() -> None:
    darcy = Darcy(Grid((16, 17)))
    a = darcy.draw(40, generator=torch.Generator().manual_seed(0))  # 40 x 272 nodes: two factorizations
    alone = torch.cat([darcy.solve(one[None]) for one in a])
    torch.testing.assert_close(darcy.solve(a), alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(darcy.solve(2 * a.requires_grad_()), alone / 2, rtol=0, atol=1e-12)
    assert not darcy.solve(a[:0]).numel()


def test_an_insulated_medium_takes_sources_of_mean_zero_only() -> None:
    grid = Grid((9, 9))
    f = torch.cos(2 * math.pi * grid.coordinates[..., 0]) - 0.1 * torch.cos(math.pi * grid.coordinates[..., 1])
    u = Darcy(grid, f, "neumann").solve(torch.full((1, 9, 9), 0.5))
    assert float((grid.weights * u).sum()) == pytest.approx(0, abs=1e-15)
    with pytest.raises(InputError, match=r"forcing: expected one of mean zero .* got a mean of 0.25"):
        Darcy(grid, f + 0.25, "neumann")


@pytest.mark.parametrize("bad", [0.0, -0.3, math.nan, math.inf])
def test_a_coefficient_that_is_not_positive_is_refused_with_its_place(bad: float) -> None:
    a = torch.ones(3, 5, 5)
    a[2, 3, 4] = bad
    with pytest.raises(InputError, match=rf"got {bad:.6g} at node \(3, 4\) of field 2 \(1 such") as error:
        Darcy(Grid((5, 5))).solve(a)
    assert "\n" not in str(error.value)


def test_a_forcing_of_another_shape_and_media_that_are_not_positive_are_refused() -> None:
    with pytest.raises(InputError, match=r"forcing: expected a number or a field of \(5, 5\), got one of \(4, 5\)"):
        Darcy(Grid((5, 5)), torch.zeros(4, 5))
    for make, message in [
        (lambda: TwoPhase(high=1.0, low=0.0), "high, low: .* got 1.0 and 0.0"),
        (lambda: TwoPhase(high=math.inf, low=0.1), "high, low: .* got inf and 0.1"),
        (lambda: LogNormal(std=-1), "std: .* got -1"),
        (lambda: SmoothField(tau=0), "tau: .* got 0"),
        (lambda: SmoothField(alpha=math.nan), "alpha: .* got nan"),
    ]:
        with pytest.raises(InputError, match=message):
            make()


@pytest.mark.parametrize("periodic", [False, True])
def test_media_have_their_phases_in_equal_shares_and_log_normal_ones_their_variance(periodic: bool) -> None:
    grid, n = Grid((12, 10), periodic=(periodic, False)), 4000
    generator = torch.Generator().manual_seed(1)
    phases = TwoPhase(high=2.0, low=0.1).draw(grid, n, generator=generator)
    assert set(phases.unique().tolist()) == {2.0, 0.1}
    share = (phases == 2.0).double().flatten(1).mean(1)
    assert float(share.mean()) == pytest.approx(0.5, abs=3 * float(share.std()) / math.sqrt(n))
    g = LogNormal(std=0.7).draw(grid, n, generator=generator).log() / 0.7
    assert float((grid.weights * g).sum((1, 2)).abs().max()) < 1e-13  # no constant mode
    variance = g.square().mean((1, 2))
    assert float(variance.mean()) == pytest.approx(1, abs=3 * float(variance.std()) / math.sqrt(n))


def test_the_spectrum_of_media_is_that_of_the_power_of_the_operator() -> None:
    grid, n = Grid((16,)), 20_000
    g = SmoothField(alpha=2.0, tau=3.0).draw(grid, n, generator=torch.Generator().manual_seed(2))
    x = grid.along(0)
    power = []
    for k in (1, 2, 3):
        phi = (k * math.pi * x).cos()
        coefficient = (grid.weights * g * phi).sum(1) / float((grid.weights * phi * phi).sum())
        power.append(float(coefficient.square().mean() * phi.square().mean()))
    around = SmoothField().draw(Grid((16,), periodic=(True,)), n, generator=torch.Generator().manual_seed(3))
    z = (around.square().mean(0) - 1) / math.sqrt(2 / n)  # the same at every node
    assert float(z.abs().max()) < 4
    for k in (2, 3):
        expected = ((math.pi**2 + 9) / ((k * math.pi) ** 2 + 9)) ** 2
        assert power[k - 1] / power[0] == pytest.approx(expected, rel=3 * 2 / math.sqrt(n))

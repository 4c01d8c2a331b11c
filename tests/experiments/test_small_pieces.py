"""What experiments count, compare and draw, at numbers that are known."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from answering import answered, planted

from chart_reading import marks_of
from diffuscope.experiments import (
    Part,
    burgers_sparse,
    dps_is_biased,
    feature_kernel,
    gap_filling,
    naive_variance,
    painters,
    path_panels,
    poisson,
    sparse_fields,
    variance_on_digits,
)
from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.memorization_transition.ladder import Ladder
from diffuscope.experiments.part import KOLMOGOROV, drawn
from diffuscope.experiments.record import Record
from diffuscope.experiments.side_by_side import SideBySide
from diffuscope.experiments.sparse_fields import DPS_BEST, GP, OURS, Comparison, Inferred
from diffuscope.experiments.three_modes import as_denoiser, generated, small_networks
from diffuscope.findings import AGREES, Arrows, Line, Repeated
from diffuscope.physics.kernel_prior import KernelPrior
from diffuscope.theory.paths import Dynamics, Lagrangian
from diffuscope.theory.variance import LinearFeatures, Population

DOUBLE = torch.float64


def a_part() -> Part:
    return Part("an-experiment", "a-part", "its source", 3)


def failing(part: Part) -> set[str]:
    return {claim.name for claim in part.claims if not claim.holds}


# parts


@pytest.mark.parametrize("bias", [0.0, 0.03])
def test_the_bound_of_a_distribution_is_that_of_kolmogorov_and_the_bias(bias):
    """50 draws at the middles of 50 equal shares of [0, 1]: the distance is 1/100."""
    part = a_part()
    middles = (torch.arange(50, dtype=DOUBLE) + 0.5) / 50
    part.follows_distribution("uniform", "t", middles, lambda x: x, bias=bias)
    (claim,) = part.claims
    assert claim.value == pytest.approx(0.01, abs=1e-12)
    assert claim.required == pytest.approx(KOLMOGOROV / math.sqrt(50) + bias, rel=1e-12)
    assert ("0.03 more for the steps" in claim.because) == (bias > 0)
    assert claim.source == "its source"


def test_the_bound_of_a_mean_is_that_of_its_repetitions():
    part, mean = a_part(), Repeated(0.25, 0.5, 7)
    part.agrees("mean", "t", mean, 0.75, source="s", unit="nats")
    (claim,) = part.claims
    assert (claim.value, claim.required, claim.tolerance) == (0.25, 0.75, mean.room(AGREES))
    assert (claim.source, claim.unit) == ("s", "nats")
    assert claim.because == "Student's interval of 7 repetitions, left once in 10,000 by chance"


def test_rows_are_drawn_without_replacement_and_by_the_generator():
    rows = torch.arange(12, dtype=DOUBLE).reshape(6, 2)
    some = drawn(rows, 4, torch.Generator().manual_seed(2))
    assert len({tuple(row) for row in some.tolist()}) == 4
    assert all(any(torch.equal(row, known) for known in rows) for row in some)
    assert torch.equal(some, drawn(rows, 4, torch.Generator().manual_seed(2)))
    assert sorted(drawn(rows, 9, torch.Generator().manual_seed(2))[:, 0].tolist()) == rows[:, 0].tolist()


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (0.0, "exact"),
        (0.25, "25% of its tolerance"),
        (1.0, "100% of its tolerance"),
        (1.5, "1.5x its tolerance"),
        (math.inf, "out of bounds"),
    ],
)
def test_how_close_a_claim_is_in_words(used, words):
    def kept(held: int) -> Record:
        return Record(name="n", title="t", held=held, claims=3, used=used, closest="c", seconds=1.0, seed=0, code="x")

    assert kept(2).margin == words
    assert not kept(2).passed
    assert kept(3).passed


# figures of paths


def test_arrows_are_the_drift_with_the_longest_as_long_as_their_spacing():
    """f = (x + exp(t), 3) on a lattice of [0, 11] x [-1, 10], t = 0: spacing 1, the longest f at x = 11."""
    shown = path_panels.field(
        Dynamics(lambda x, t: torch.stack([x[:, 0] + t.exp(), 3 + 0 * t], 1), 1.0), (0.0, 11.0, -1.0, 10.0)
    )
    assert isinstance(shown, Arrows)
    longest = math.hypot(12, 3)
    assert (len(shown.x), max(shown.x), min(shown.y), max(shown.y)) == (144, 11.0, -1.0, 10.0)
    assert list(shown.dx) == pytest.approx([(x + 1) / longest for x in shown.x], rel=1e-12)
    assert list(shown.dy) == pytest.approx([3 / longest] * 144, rel=1e-12)


def test_the_box_around_paths_leaves_a_tenth_of_the_longer_side_and_three_above():
    """Two paths from -1 to 3 across and from 2 to 4 upward: 0.4 on all sides."""
    one = torch.tensor([[0.0, 4.0], [1.0, 3.5], [3.0, 3.0]], dtype=DOUBLE)
    other = torch.tensor([[-1.0, 2.5], [0.0, 2.0]], dtype=DOUBLE)
    assert path_panels.box_around(one, other) == pytest.approx((-1.4, 3.4, 1.6, 5.2), rel=1e-12)


def test_paths_have_their_ends_and_references_are_dotted():
    one = torch.tensor([[0.0, 1.0], [0.5, 2.0], [3.0, -1.0]], dtype=DOUBLE)
    shown = path_panels.plane("t", {"a": one, "b": one + 1}, (-1.0, 5.0, -2.0, 4.0), dotted=("b",))
    assert (shown.x_range, shown.y_range, shown.equal_scales) == ((-1.0, 5.0), (-2.0, 4.0), True)
    a, b, ends = shown.marks
    assert isinstance(a, Line)
    assert isinstance(b, Line)
    assert (list(a.x), list(a.y), a.label, a.style) == ([0.0, 0.5, 3.0], [1.0, 2.0, -1.0], "a", "solid")
    assert (b.label, b.style) == ("b", "dotted")
    assert set(zip(ends.x, ends.y, strict=True)) == {(0, 1), (3, -1), (1, 2), (4, 0)}  # type: ignore[union-attr]
    over = path_panels.along("t", "E", {"a": (one[:, 0], one[:, 1])}, ("a",)).marks[0]
    assert isinstance(over, Line)
    assert (list(over.x), list(over.y), over.style) == ([0.0, 0.5, 3.0], [1.0, 2.0, -1.0], "dotted")


# the most likely reverse path


@pytest.mark.parametrize("functional", ["OM", "FW"])
def test_the_density_in_closed_form_is_the_lagrangian_of_the_score(functional):
    case = bridge.mixture_case()
    x, v, u = bridge.random_points(case, torch.Generator().manual_seed(3))
    exact = Lagrangian(case.reverse, functional)(x.requires_grad_(), v, u).detach()
    torch.testing.assert_close(bridge.digit_density(case, functional)(x.detach(), v, u), exact, rtol=1e-9, atol=1e-9)


def test_the_ends_of_the_path_to_a_digit_are_noise_and_the_digit_with_noise():
    case = bridge.digit_case(torch.Generator().manual_seed(0))
    assert (float(case.levels[0]), float(case.levels[-1])) == pytest.approx((8.0, 0.3), rel=1e-12)
    assert len(case.levels) == bridge.DIGIT_INTERVALS + 1
    assert float(case.start.std()) == pytest.approx(8, rel=0.35)  # four standard errors of 64 numbers
    assert float((case.end - case.data.means[0]).std()) == pytest.approx(0.3, rel=0.35)  # type: ignore[attr-defined]


# memorization


def test_every_network_of_a_ladder_takes_its_own_column_of_starts():
    networks = small_networks(6, 1)
    ladder = Ladder((8, 16, 32), ((torch.zeros(1, 2),) * 3,) * 2, as_denoiser(SideBySide(networks), 6))
    starts = torch.randn(5, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    made = ladder.generated(starts)
    assert made.shape == starts.shape
    for which in range(ladder.sets):
        for rung in range(3):
            alone = generated(ladder.alone(which, rung), starts[:, which, rung])
            assert torch.allclose(made[:, which, rung], alone, rtol=1e-4, atol=1e-5)


# shares and medians


def test_the_gaps_are_open_intervals():
    x = torch.tensor([[0.25, -0.25, 0.75, -0.75, 0.0, 0.5, -0.7, 0.9]], dtype=DOUBLE)[..., None]
    assert gap_filling.gap_mass(x).tolist() == [2 / 8]


def shares_with(counts: tuple[int, int, int], first: float, two: float) -> dict[str, torch.Tensor]:
    """States, increments and noise that need so many components for 99.9%, with the first shares of the states."""

    def needing(count: int) -> torch.Tensor:
        row = torch.zeros(8, dtype=DOUBLE)
        row[:count] = 1 / count
        return row.expand(3, 8).clone()

    names: list[str] = ["states", "increments", "noise"]
    found = dict(zip(names, map(needing, counts), strict=True))
    if counts[0] == 2:
        found["states"][:, :2] = torch.tensor([first, two - first], dtype=DOUBLE)
        found["states"][:, 2] = 1 - two
    return found


@pytest.mark.parametrize(
    ("counts", "first", "two", "failing_claims"),
    [
        ((2, 4, 5), 0.981, 0.9996, set()),
        ((2, 3, 5), 0.981, 0.9996, {"dimensions"}),
        ((2, 5, 5), 0.981, 0.9996, {"dimensions"}),
        ((1, 4, 5), 0.981, 0.9996, {"dimensions", "first", "two"}),
        ((2, 4, 4), 0.981, 0.9996, {"noise-dimension"}),
        ((2, 4, 5), 0.981 + 0.0121, 0.9996, {"first"}),
        ((2, 4, 5), 0.981 - 0.0119, 0.9996, set()),
        ((2, 4, 5), 0.981, 0.99971, {"two"}),
        ((2, 4, 5), 0.981, 0.99951, set()),
    ],
)
def test_the_dimensions_of_trajectories_are_those_of_their_shares(counts, first, two, failing_claims):
    part = a_part()
    painters.claim_shares(part, shares_with(counts, first, two))
    assert failing(part) == failing_claims


@dataclass(frozen=True, eq=False)
class Known(feature_kernel.Compared):
    """A comparison that is known: its median over both times, at the first one, without the misfit, and the error."""

    over_both: float
    first: float
    without: float
    error: float

    def ratios(self, kernel):
        at_first = self.first if kernel is self.kernel else self.without
        return torch.tensor([at_first, 9.0], dtype=DOUBLE), torch.tensor([self.error, 9.0], dtype=DOUBLE)

    @property
    def ratio(self):
        return self.over_both


@cache
def a_kernel() -> LinearFeatures:
    population = Population.of(feature_kernel.THREE, feature_kernel.SCHEDULE, (0.1, 1.0), time_nodes=4, nodes=16)
    return LinearFeatures.of(population, feature_kernel.bumps_of(4), samples=64, ridge=0.1)


def compared(over_both: float, first: float, without: float, error: float, share: int = 4) -> Known:
    nothing = torch.zeros(2, 17, dtype=DOUBLE)
    return Known(replace(a_kernel(), samples=16 * share), nothing, nothing[None], over_both, first, without, error)


@pytest.mark.parametrize(
    ("change", "failing_claims"),
    [
        ({}, set()),
        ({"last": 1.049}, set()),
        ({"last": 0.949}, {"first-order"}),
        ({"few": 1.42 + 4.01 * math.sqrt(2) * 0.01}, {"ratio-4"}),
        ({"few": 1.42 - 3.99 * math.sqrt(2) * 0.01}, set()),
        ({"more": 1.10 - 4.01 * math.sqrt(2) * 0.01}, {"ratio-16"}),
        ({"without": 2 + 1.95 * 0.01}, {"misfit"}),
        ({"without": 2 + 1.97 * 0.01}, set()),
    ],
)
def test_ratios_of_variances_are_claimed_at_the_first_time_within_their_errors(change, failing_claims):
    values = {"last": 1.02, "few": 1.42, "more": 1.1, "without": 5.0} | change
    found: dict[int, list[feature_kernel.Compared]] = {
        16: [compared(9, 9, 9, 9), compared(9, 9, 9, 9), compared(9, 9, values["without"], 0.01)],
        64: [compared(9, 9, 9, 9), compared(9, 9, 9, 9), compared(values["last"], 9, 9, 9)],
        256: [compared(9, values["few"], 9, 0.01), compared(9, values["more"], 9, 0.01, 16), compared(9, 9, 9, 9)],
    }
    part = a_part()
    feature_kernel.claim_ratios(part, found)
    assert failing(part) == failing_claims


def test_copies_are_counted_by_thirds_of_the_predicted_spread():
    predicted = torch.tensor([5.0, 1.0, 3.0, 6.0, 2.0, 4.0], dtype=DOUBLE)
    copied = torch.tensor([0.25, 1.0, 0.5, 0.0, 0.75, 0.5], dtype=DOUBLE)
    found = variance_on_digits.copied_by_thirds(predicted, copied, np.random.default_rng(0))
    assert [share for share, _, _ in found.values()] == [0.875, 0.5, 0.125]
    (_, low, high), *_ = found.values()
    assert (low, high) == (0.75, 1.0)  # a quarter of the resamples is twice the same


# fields from few nodes


def inferred(*errors: float, covered: tuple[float, float] = (0.5, 1.0)) -> Inferred:
    nodes = torch.arange(4).expand(2, 2, 4).reshape(2, 8)
    inside = torch.stack([nodes[c] < 4 * share for c, share in enumerate(covered)])
    return Inferred(
        torch.tensor(errors, dtype=DOUBLE), inside, torch.zeros(2, 8, dtype=DOUBLE), torch.zeros(1, 2, 8, dtype=DOUBLE)
    )


def test_errors_advantage_and_coverage_are_means_over_problems_with_their_errors():
    ours = [inferred(0.16, 1.0), inferred(0.64, 4.0, covered=(1.0, 0.25))]
    other = [inferred(0.26, 2.0), inferred(0.94, 3.0)]
    fields = torch.randn(6, 2, 2, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    data = sparse_fields.Data(fields, fields, fields, ("a", "b"), observed=1, seen=7, noise=0.1)
    nothing = Comparison(data, 0.5, 0.1, [], {OURS: ours, GP: other, DPS_BEST: other}, KernelPrior(fields, 0.0))
    assert nothing.rms(OURS, 0) == pytest.approx(math.sqrt(0.4), rel=1e-12)
    assert nothing.rms(GP, 1) == pytest.approx(math.sqrt(2.5), rel=1e-12)
    # differences -0.1 and -0.3: mean -0.2, standard deviation 0.2 / sqrt(2), standard error 0.1
    assert nothing.advantage(GP, 0) == pytest.approx(-2, rel=1e-9)
    assert nothing.advantage(DPS_BEST, 1) == pytest.approx(0, abs=1e-12)
    assert nothing.coverage(OURS, 0) == pytest.approx((0.75, 0.25), rel=1e-12)
    assert nothing.coverage(OURS, 1) == pytest.approx((0.625, 0.375), rel=1e-12)
    below = replace(nothing, results={OURS: [inferred(-0.5, 1.0)]})
    assert below.rms(OURS, 0) == 0.0  # a corrected square error may be negative


def test_every_channel_counts_in_units_of_its_variance():
    errors = [torch.tensor([2.0, 3.0], dtype=DOUBLE), torch.tensor([4.0, 9.0], dtype=DOUBLE)]
    scale = torch.tensor([4.0, 0.5], dtype=DOUBLE)
    assert sparse_fields.scored(errors, scale) == pytest.approx((2 / 4 + 3 / 0.5 + 4 / 4 + 9 / 0.5) / 4, rel=1e-12)


def test_nodes_are_of_the_observed_channel_and_none_is_seen_twice():
    fields = torch.arange(2 * 2 * 5 * 3, dtype=DOUBLE).reshape(2, 2, 5, 3)
    data = sparse_fields.Data(fields, fields, fields, ("a", "b"), observed=1, seen=7, noise=1e-9)
    problem = sparse_fields.sense(data, fields[1], torch.Generator().manual_seed(0))
    seen = problem.y.round().tolist()
    assert len(set(seen)) == 7
    assert set(seen) <= set(fields[1, 1].flatten().tolist())


def test_the_residual_of_a_solution_is_rounding_and_that_of_another_field_is_not():
    u = burgers_sparse.EQUATION.solve(burgers_sparse.EQUATION.draw(3, generator=torch.Generator().manual_seed(0)))
    assert float(burgers_sparse.residual(u[:, None]).max()) < 1e-8
    assert float(burgers_sparse.residual(1.1 * u[:, None]).min()) > 1e-5


# tolerances that follow from a number of draws


def test_tolerances_of_shares_are_standard_errors_of_a_binomial_share():
    with planted("diffuscope.experiments.poisson.PROBLEMS", 40), planted("diffuscope.experiments.poisson.STEPS", 12):
        covers = answered(poisson.EXPERIMENT, "intervals").claims
    assert {claim.name for claim in covers} == {"cover-2", "cover-4"}
    for claim in covers:
        assert (claim.required, claim.tolerance) == pytest.approx((0.9, 3 * math.sqrt(0.9 * 0.1 / 40)), rel=1e-12)
    sizes = {"PROBLEMS": 50, "SAMPLES": 30, "STEPS": 8}
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(dps_is_biased, name, size)
        covers = {claim.name: claim for claim in answered(dps_is_biased.EXPERIMENT, "intervals").claims}
    for name, share in (("covers-exact", 0.9), ("covers-dps", dps_is_biased.coverage(0.3))):
        error = math.sqrt((share * (1 - share) + 1 / 8) / 50)
        assert (covers[name].required, covers[name].tolerance) == pytest.approx((share, 4 * error), rel=1e-12)


def test_the_band_of_a_share_is_two_of_its_errors(monkeypatch):
    """The naive model's samples: at every step both ends are equally far from the share."""
    for name, value in {"KAPPAS": (0.0, 2.0), "SAMPLES": 200, "STEPS": 40, "CELLS": 200, "DENSITY_STEPS": 30}.items():
        monkeypatch.setattr(naive_variance, name, value)
    found = answered(naive_variance.EXPERIMENT, "gap")
    lines = [mark for chart in found.charts for panel in chart.panels for mark in marks_of(panel, Line)]
    banded = [mark for mark in lines if mark.low]
    assert banded
    for mark in banded:
        middle = [(low + high) / 2 for low, high in zip(mark.low, mark.high, strict=True)]
        assert middle == pytest.approx(list(mark.y), abs=1e-9)

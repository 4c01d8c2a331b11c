"""Memorization: the chance of looking like a copy, networks side by side, and faults that their claims must catch."""

import math
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from answering import answered, failures, planted
from conftest import monte_carlo

from diffuscope.denoisers import MLP, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, GaussianMixture, nearest_other_neighbors
from diffuscope.experiments import find, nearness
from diffuscope.experiments.memorization_transition import EXPERIMENT, gaps, ladder
from diffuscope.experiments.nearness import chance, copies
from diffuscope.experiments.side_by_side import SideBySide, stacked
from diffuscope.experiments.three_modes import MODES, SCHEDULE, as_denoiser, generated, small_networks
from diffuscope.findings import Repeated, jackknife
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times

HERE = "diffuscope.experiments.memorization_transition"
PARTS = [part.name for part in EXPERIMENT.parts]


SMALLER = {
    "ladder.SIZES": (8, 16, 64, 512),
    "ladder.SETS": 4,
    "ladder.STEPS": 2,
    "SAMPLES": 800,
    "STARTS": 300,
}


@cache
def by_chance(n):
    """The integrals for the modes of the experiment, once for all tests."""
    return chance(MODES, n)


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Networks that hardly learn, for tests that put known denoisers in their place; full size for the slow ones."""
    if request.node.originalname != "test_every_claim_holds_at_full_size":
        for name, value in SMALLER.items():
            monkeypatch.setattr(f"{HERE}.{name}", value)
        monkeypatch.setattr(f"{HERE}.chance", lambda p, n: by_chance(n))  # noqa: ARG005
    ladder.climbed.cache_clear()
    yield
    ladder.climbed.cache_clear()


def known(self, which, rung):
    """The memorizer up to 16 examples, from there on the exact denoiser of the modes."""
    p = Empirical(self.examples[which][rung]) if self.sizes[rung] <= 16 else MODES
    return ExactDenoiser(p, SCHEDULE)


def made_by_known(self, starts):
    """Samples of the `known` denoisers."""
    made = torch.zeros(starts.shape, dtype=torch.float64)
    for s in range(self.sets):
        for k in range(len(self.sizes)):
            made[:, s, k] = generated(known(self, s, k), starts[:, s, k].double())
    return made


def drawn_by_known(self, starts):
    """Their ends without a flow: examples up to 16, fresh draws from there on."""
    copied, fresh = copier(self, starts), independent(self, starts)
    return torch.where(torch.tensor(self.sizes)[:, None] <= 16, copied, fresh)


@contextmanager
def known_networks(part):
    """A ladder whose transition is known; only `agreement` asks for the same sample from the same start."""
    made = made_by_known if part == "agreement" else drawn_by_known
    with planted(f"{HERE}.ladder.Ladder.generated", made), planted(f"{HERE}.ladder.Ladder.alone", known):
        yield


def test_it_is_found_by_its_name():
    assert find("memorization-transition") is EXPERIMENT


# what asks for standard errors over the sets is a matter of their number, which is small here
FEW = {"power", "network-opens", "network-closed", "fresh"}


@pytest.mark.parametrize(
    ("part", "failing"),
    [
        ("share", set()),
        pytest.param("losses", set(), marks=pytest.mark.slow),
        pytest.param("agreement", set(), marks=pytest.mark.slow),
    ],
)
def test_a_known_transition_is_recognized(part, failing):
    """Memorizers that turn into models of the distribution beyond 16 examples."""
    with known_networks(part):
        assert failures(EXPERIMENT, part) - FEW == failing


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_at_full_size(seed):
    for part in PARTS:
        answer = answered(EXPERIMENT, part, seed)
        assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


# the chance of an independent draw


def test_one_example_is_within_r_as_often_as_a_gaussian_difference():
    """x - y ~ N(0, 2 v I) for one mode: P(|x - y| < r) = 1 - exp(-r^2 / 4 v)."""
    v, one = 0.3, torch.ones(1, dtype=torch.float64)
    p = GaussianMixture.isotropic(one, torch.zeros(1, 2, dtype=torch.float64), v * one)
    assert float(chance(p, 1)[0]) == pytest.approx(
        -math.expm1(-(nearness.RADIUS**2) / (4 * v)), rel=1e-6
    )  # as precise as `chndtr`


def test_the_ratio_of_neighbors_in_a_flat_plane_is_its_square():
    """P(d_1 < c d_2) -> c^2 in two dimensions: 1/9."""
    assert float(chance(MODES, 20_000)[1]) == pytest.approx(1 / 9, rel=2e-3)


@pytest.mark.parametrize("n", [2, 30])
def test_chance_is_the_share_of_independent_draws(n, generator):
    """4,000 training sets of their own: both criteria within 4 standard errors."""
    x, y = MODES.sample(4000, generator=generator), MODES.sample(4000 * n, generator=generator).reshape(4000, n, 2)
    d = (x[:, None] - y).norm(dim=2).topk(2, largest=False).values
    with planted("diffuscope.experiments.nearness.RADIUS", 0.1):
        radius, ratio = chance(MODES, n).tolist()
    assert monte_carlo((d[:, 0] < 0.1).double()).agrees_with(radius, standard_errors=4)
    assert monte_carlo((d[:, 0] < d[:, 1] / 3).double()).agrees_with(ratio, standard_errors=4)


def test_the_quadrature_has_converged():
    coarse = chance(MODES, 300)
    with planted("diffuscope.experiments.nearness.NODES", 22), planted("diffuscope.experiments.nearness.PER_FOLD", 90):
        fine = chance(MODES, 300)
    assert torch.allclose(coarse, fine, rtol=5e-4, atol=0)


def test_by_radius_chance_grows_with_the_number_of_examples():
    """Without it the radius would call independent draws copies, the more the more examples there are."""
    shares = [float(by_chance(n)[0]) for n in (8, 64, 512)]
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.05


def test_the_samples_of_the_exact_denoiser_of_the_modes_look_like_copies_as_often_as_by_chance(generator):
    """4.5 standard errors over 32 training sets of 64 examples; and samples that are stretched do not."""
    starts = torch.randn(32 * 200, 2, dtype=torch.float64, generator=generator)
    made = generated(ExactDenoiser(MODES, SCHEDULE), starts)
    sets = MODES.sample(32 * 64, generator=generator).split(64)

    def deviations(samples):
        rows = zip(sets, samples.split(200), strict=True)
        found = torch.stack([copies(examples, x).double().mean(1) for examples, x in rows])
        expected = by_chance(64)
        # where almost none is a copy the standard error of the chance itself is the safer one
        binomial = (expected * (1 - expected) / len(samples)).sqrt()
        return (found.mean(0) - expected).abs() / torch.maximum(found.std(0) / len(sets) ** 0.5, binomial)

    assert float(deviations(made).max()) <= 4.5
    assert float(deviations(1.3 * made).max()) > 4.5


def test_every_sample_of_the_exact_memorizer_is_a_copy_by_both_criteria(generator):
    """Its ODE ends on the examples, the last noise is 1e-5; where the denoiser is not theirs, no sample is."""
    schedule, examples = VE(1e-5, 10.0), MODES.sample(16, generator=generator)
    times = karras_times(schedule, schedule.t_max, schedule.t_min, 30)
    start = schedule.t_max * torch.randn(50, 2, dtype=torch.float64, generator=generator)
    for p, share in ((Empirical(examples), 1.0), (Shifted(examples), 0.0)):
        x = sample(DPMSolverPP2M(), ExactDenoiser(p, schedule), start, times)
        by_radius, by_ratio = copies(examples, ExactDenoiser(p, schedule)(x, schedule.t_min)).double().mean(1)
        assert float(by_radius) == share
        assert float(by_ratio) == 1.0 or share == 0.0


def test_a_sample_on_an_example_is_a_copy_and_one_between_two_is_none():
    examples = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    samples = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.015, 0.0], [0.2, 0.0]], dtype=torch.float64)
    by_radius, by_ratio = copies(examples, samples)
    assert by_radius.tolist() == [True, False, True, False]
    assert by_ratio.tolist() == [True, False, True, True]


# networks side by side


def test_networks_side_by_side_are_the_networks_alone_and_so_are_their_gradients(generator):
    networks = small_networks(3, 5)
    for network in networks:  # the last layer starts at zero: move it
        for values in network.parameters():
            values.data += 0.1 * torch.randn(values.shape, generator=generator)
    together = SideBySide(networks)
    x, label = torch.randn(40, 3, 2, generator=generator), torch.randn(40, generator=generator)
    target = torch.randn(40, 3, 2, generator=generator)
    (together(x, label) - target).square().mean().backward()
    for k, network in enumerate(networks):
        answer = network(x[:, k], label)
        assert torch.allclose(together(x, label)[:, k], answer, atol=1e-5)
        assert torch.equal(together.alone(k)(x[:, k], label), answer)
        (answer - target[:, k]).square().mean().backward()
        for values, grown in zip(network.parameters(), together.weights, strict=True):
            assert grown.grad is not None
            assert values.grad is not None
            assert torch.allclose(grown.grad[k], values.grad / 3, atol=1e-6)


def test_samples_of_a_ladder_are_those_of_its_networks_alone(generator):
    sizes, examples = (1, 3), [torch.randn(n, 2, generator=generator) for n in (1, 3)]
    networks = small_networks(4, 5)
    for network in networks:  # the last layer starts at zero: move it
        for values in network.parameters():
            values.data += 0.1 * torch.randn(values.shape, generator=generator)
    climbed = ladder.Ladder(sizes, ((*examples,), (*examples,)), as_denoiser(SideBySide(networks), 4).eval())
    starts = torch.randn(5, 2, 2, 2, generator=generator, dtype=torch.float64)
    made = climbed.generated(starts)
    for s in range(climbed.sets):
        for k in range(2):
            alone = generated(climbed.alone(s, k), starts[:, s, k].float())
            torch.testing.assert_close(made[:, s, k], alone, rtol=0, atol=1e-3)
            assert float((made[:, s, k] - starts[:, s, k]).abs().max()) > 0.1


def test_networks_with_buffers_are_refused():
    with pytest.raises(InputError, match=r"^networks: expected networks without buffers, got frequencies$"):
        SideBySide([MLP((2,), width=8, fourier=4) for _ in range(2)])


def test_sets_of_several_sizes_are_repeated_to_one_length():
    sets = [torch.arange(2.0)[:, None], torch.arange(3.0)[:, None]]
    assert stacked(sets)[:, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert stacked(sets)[:, 1, 0].tolist() == [0, 1, 2, 0, 1, 2]


# means over few runs


def test_students_interval_misses_as_often_as_it_says(generator):
    """Of 4,000 means of 6 normal numbers 0.1% miss, within 4 standard errors."""
    found = [Repeated.of(values) for values in torch.randn(4_000, 6, generator=generator, dtype=torch.float64)]
    missed = sum(not one.low <= 0 <= one.high for one in found)
    assert abs(missed - 4) < 4 * math.sqrt(4)
    assert missed == sum(abs(one.significance) > one.seen for one in found)


def test_no_difference_without_error_is_not_significant():
    assert math.isnan(Repeated(0.0, 0.0, 5).significance)
    assert Repeated(-1.0, 0.0, 5).significance == -math.inf


def test_the_jackknife_of_a_mean_is_the_mean(generator):
    values = torch.randn(9, generator=generator, dtype=torch.float64)
    found, mean = jackknife(lambda kept: values[kept].mean(), 9), Repeated.of(values)
    assert (found.mean, found.error) == (pytest.approx(mean.mean), pytest.approx(mean.error))


def test_a_gap_that_is_a_power_of_sigma_opens_where_it_is_one():
    assert float(gaps.opening((0.2 / gaps.LEVELS) ** 3)) == pytest.approx(0.2, rel=1e-12)
    assert math.isnan(float(gaps.opening(0.5 * torch.ones(len(gaps.LEVELS), dtype=torch.float64))))


def test_the_exact_memorizers_gap_opens_at_one_multiple_of_half_the_distance_of_neighbors(generator):
    """At 64 and at 1024 examples, within 25% of the mean multiple, though the distance itself falls fourfold."""
    noised = [
        MODES.sample(1500, generator=generator) + s * torch.randn(1500, 2, generator=generator) for s in gaps.LEVELS
    ]
    exact = [MODES.denoise(x, 1.0, s) for x, s in zip(noised, gaps.LEVELS, strict=True)]
    levels = list(zip(noised, gaps.LEVELS, strict=True))
    floor = torch.stack([MODES.posterior_covariance(x, 1.0, s).trace().mean() / 2 for x, s in levels])
    opened, marker = torch.zeros(2, 2, dtype=torch.float64)
    for k, n in enumerate((64, 1024)):
        gap = torch.zeros(2, len(gaps.LEVELS), dtype=torch.float64)
        for row in gap:
            examples = MODES.sample(n, generator=generator)
            p, repeated = Empirical(examples), examples.repeat(-(-512 // n), 1)
            marker[k] += nearest_other_neighbors(examples, 1)[0].mean() / 2 / len(gap)
            for j, s in enumerate(gaps.LEVELS):
                x_t = repeated + s * torch.randn(repeated.shape, dtype=torch.float64, generator=generator)
                excess = (p.denoise(noised[j], 1.0, s) - exact[j]).square().mean()
                row[j] = 1 + (excess - p.posterior_covariance(x_t, 1.0, s).trace().mean() / 2) / floor[j]
        opened[k] = gaps.opening(gap.mean(0))
    multiple = opened / marker
    center = multiple.log().mean().exp()
    assert float((multiple / center).log().abs().max()) <= math.log(1.25)
    assert 1 <= float(center) <= 2
    assert float(marker[0] / marker[-1]) > 3
    assert float(opened[0] / opened[-1]) > 1.25**2


def made_up_gaps(of_memorizers, of_networks, at_end=0.0):
    """Gaps (m sigma_* / sigma)^2 that open at given multiples m of the marker; networks' only above sigma = 0.1."""

    def made(known, generator):
        sets, sizes = known.sets, known.sizes
        marker = 1 / torch.tensor(sizes, dtype=torch.float64).sqrt() * torch.ones(sets, 1, dtype=torch.float64)
        jitter = 1 + 0.01 * torch.randn(sets, 1, 1, dtype=torch.float64, generator=generator)
        one = jitter * (marker[:, :, None] / gaps.LEVELS).square()
        network = of_networks**2 * one * torch.where(gaps.LEVELS > 0.1, 1.0, 0.0)
        network[:, -1] = at_end * jitter[:, 0]
        nothing, unit = torch.zeros_like(one), torch.ones(len(gaps.LEVELS), dtype=torch.float64)
        return gaps.Gaps(nothing, network, nothing, of_memorizers**2 * one, unit, marker)

    return made


@pytest.mark.parametrize(
    ("made_up", "failing"),
    [
        (made_up_gaps(1.6, 1.2), set()),
        (made_up_gaps(0.8, 0.8), {"marker"}),
        (made_up_gaps(2.3, 2.0), {"marker"}),
        (made_up_gaps(1.6, 0.4), {"network-opens"}),
        (made_up_gaps(1.6, 1.2, at_end=0.5), {"network-closed"}),
    ],
    ids=["as-it-is", "too-low", "too-high", "elsewhere", "open"],
)
def test_where_gaps_open_is_read_off_made_up_ones(made_up, failing):
    with planted(f"{HERE}.measured", made_up), known_networks("losses"):
        answer = answered(EXPERIMENT, "losses")
    assert {claim.name for claim in answer.claims if not claim.holds} == failing
    assert ("opens elsewhere" in answer.text) == ("network-opens" in failing)
    assert ("perhaps still" in answer.text) == ("network-closed" in failing)


# faults


def independent(_, starts):
    """A network that makes fresh draws at every size."""
    return MODES.sample(starts[..., 0].numel(), generator=torch.Generator().manual_seed(3)).reshape(starts.shape)


def copier(self, starts):
    """A network that repeats its examples at every size."""
    made = torch.zeros(starts.shape, dtype=torch.float64)
    for s, rungs in enumerate(self.examples):
        for k, examples in enumerate(rungs):
            made[:, s, k] = examples[torch.arange(len(made)) % len(examples)]
    return made


def own_starts(self, starts):
    """Two networks from different noise."""
    turned = torch.stack([starts[:, s].roll(s, 0) for s in range(starts.shape[1])], 1)
    return made_by_known(self, turned)


def memorizer(self, which, rung):
    return ExactDenoiser(Empirical(self.examples[which][rung]), SCHEDULE)


class Shifted(Empirical):
    """An exact denoiser whose examples are not the examples."""

    def denoise(self, x_t, alpha, sigma):
        return super().denoise(x_t, alpha, sigma) + 0.05


QUICK = {"small-ratio", "large"}
FAULTS = [
    ("share", f"{HERE}.ladder.Ladder.generated", independent, {"small-ratio"}),
    ("share", f"{HERE}.ladder.Ladder.generated", copier, {"large"}),
    ("losses", f"{HERE}.ladder.Ladder.alone", memorizer, {"network-closed"}),
    ("agreement", f"{HERE}.ladder.Ladder.generated", copier, {"fresh"}),
    ("agreement", f"{HERE}.ladder.Ladder.generated", own_starts, {"agree"}),
]


@pytest.mark.parametrize(
    ("part", "target", "mutant", "claims"),
    [
        pytest.param(*fault, marks=() if min(fault[3]) in QUICK else pytest.mark.slow, id=f"{fault[0]}-{min(fault[3])}")
        for fault in FAULTS
    ],
)
def test_a_planted_fault_makes_its_claims_fail(part, target, mutant, claims):
    with known_networks(part), planted(target, mutant):
        assert claims <= failures(EXPERIMENT, part)


@pytest.mark.slow
def test_too_few_samples_are_reported_as_a_lack_of_power():
    with known_networks("share"), planted(f"{HERE}.SAMPLES", 40):
        assert "power" in failures(EXPERIMENT, "share")

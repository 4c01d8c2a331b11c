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
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.experiments import find, nearness
from diffuscope.experiments.memorization_transition import MEMORIZATION_TRANSITION, ladder, losses
from diffuscope.experiments.nearness import Near, chance
from diffuscope.experiments.side_by_side import SideBySide, stacked
from diffuscope.experiments.three_modes import LAW, SCHEDULE, generated, small_networks
from diffuscope.findings import Repeated, jackknife

HERE = "diffuscope.experiments.memorization_transition"
PARTS = [part.name for part in MEMORIZATION_TRANSITION.parts]


SMALLER = {
    "ladder.SIZES": (8, 16, 64, 512),
    "ladder.SETS": 4,
    "ladder.STEPS": 2,
    "share.SAMPLES": 1200,
    "share.RECITED": 20,
    "share.RECITED_STEPS": 30,
    "share.INNOCENT_SETS": 32,
    "share.INNOCENT": 60,
    "losses.POINTS": 512,
    "losses.UNSEEN": 3000,
    "losses.DRAWN": 2000,
    "agreement.STARTS": 300,
}


@cache
def by_chance(n):
    """The integrals for the law of the experiment, once for all tests."""
    return chance(LAW, n)


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Networks that hardly learn, for tests that put known denoisers in their place; full size for the slow ones."""
    if request.node.originalname != "test_every_claim_holds_at_full_size":
        for name, value in SMALLER.items():
            monkeypatch.setattr(f"{HERE}.{name}", value)
        monkeypatch.setattr(f"{HERE}.share.chance", lambda law, n: by_chance(n))  # noqa: ARG005
    ladder.climbed.cache_clear()
    yield
    ladder.climbed.cache_clear()


def known(self, which, rung):
    """The memorizer up to 16 examples, from there on the law."""
    law = Empirical(self.examples[which][rung]) if self.sizes[rung] <= 16 else LAW
    return ExactDenoiser(law, SCHEDULE)


def made_by_known(self, starts):
    """Samples of the `known` denoisers."""
    made = torch.zeros(starts.shape, dtype=torch.float64)
    for s in range(self.sets):
        for k in range(len(self.sizes)):
            made[:, s, k] = generated(known(self, s, k), starts[:, s, k].double())
    return made


def drawn_by_known(self, starts):
    """Their ends without a flow: examples up to 16, fresh draws from there on."""
    copied, fresh = copier(self, starts), innocents(self, starts)
    return torch.where(torch.tensor(self.sizes)[:, None] <= 16, copied, fresh)


@contextmanager
def known_networks(part):
    """A ladder whose transition is known; only `agreement` asks for the same sample from the same start."""
    made = made_by_known if part == "agreement" else drawn_by_known
    with planted(f"{HERE}.ladder.Ladder.generated", made), planted(f"{HERE}.ladder.Ladder.alone", known):
        yield


def test_it_is_found_by_its_name():
    assert find("memorization-transition") is MEMORIZATION_TRANSITION


# what asks for standard errors over the sets is a matter of their number, which is small here
FEW = {"power", "network-opens", "network-closed", "fresh"}


@pytest.mark.parametrize(
    ("part", "failing"),
    [
        ("share", set()),
        pytest.param("losses", {"network-blind"}, marks=pytest.mark.slow),
        pytest.param("agreement", set(), marks=pytest.mark.slow),
    ],
)
def test_a_known_transition_is_recognized(part, failing):
    """Memorizers that turn into the law beyond 16 examples; but they resolve every noise level, as no network does."""
    with known_networks(part):
        assert failures(MEMORIZATION_TRANSITION, part) - FEW == failing


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_at_full_size(seed):
    for part in PARTS:
        answer = answered(MEMORIZATION_TRANSITION, part, seed)
        assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


# the chance of an innocent sample


def test_one_example_is_within_r_as_often_as_a_gaussian_difference():
    """x - y ~ N(0, 2 v I) for one mode: P(|x - y| < r) = 1 - exp(-r^2 / 4 v)."""
    v, one = 0.3, torch.ones(1, dtype=torch.float64)
    law = GaussianMixture.isotropic(one, torch.zeros(1, 2, dtype=torch.float64), v * one)
    assert float(chance(law, 1)[0]) == pytest.approx(
        -math.expm1(-(nearness.RADIUS**2) / (4 * v)), rel=1e-6
    )  # as precise as `chndtr`


def test_the_ratio_of_neighbors_in_a_flat_plane_is_its_square():
    """P(d_1 < c d_2) -> c^2 in two dimensions: 1/9."""
    assert float(chance(LAW, 20_000)[1]) == pytest.approx(1 / 9, rel=2e-3)


@pytest.mark.parametrize("n", [2, 30])
def test_chance_is_the_share_of_independent_draws(n, generator):
    """4,000 training sets of their own: both criteria within 4 standard errors."""
    x, y = LAW.sample(4000, generator=generator), LAW.sample(4000 * n, generator=generator).reshape(4000, n, 2)
    d = (x[:, None] - y).norm(dim=2).topk(2, largest=False).values
    with planted("diffuscope.experiments.nearness.RADIUS", 0.1):
        radius, ratio = chance(LAW, n).tolist()
    assert monte_carlo((d[:, 0] < 0.1).double()).agrees_with(radius, standard_errors=4)
    assert monte_carlo((d[:, 0] < d[:, 1] / 3).double()).agrees_with(ratio, standard_errors=4)


def test_the_quadrature_has_converged():
    coarse = chance(LAW, 300)
    with planted("diffuscope.experiments.nearness.NODES", 22), planted("diffuscope.experiments.nearness.PER_FOLD", 90):
        fine = chance(LAW, 300)
    assert torch.allclose(coarse, fine, rtol=5e-4)


def test_a_sample_on_an_example_is_a_copy_and_one_between_two_is_none():
    examples = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    samples = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.015, 0.0], [0.2, 0.0]], dtype=torch.float64)
    near = Near.to(examples, samples)
    assert near.radius.tolist() == [True, False, True, False]
    assert near.ratio.tolist() == [True, False, True, True]


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
    assert float(losses.opening((0.2 / losses.LEVELS) ** 3)) == pytest.approx(0.2, rel=1e-12)
    assert math.isnan(float(losses.opening(0.5 * torch.ones(len(losses.LEVELS), dtype=torch.float64))))


def made_up_gaps(of_memorizers, of_networks, at_end=0.0, fine=0.0):
    """Gaps (m sigma_* / sigma)^2 that open at given multiples m of the marker; networks' only above sigma = .1."""

    def gaps(known, generator):
        sets, sizes = known.sets, known.sizes
        marker = 1 / torch.tensor(sizes, dtype=torch.float64).sqrt() * torch.ones(sets, 1, dtype=torch.float64)
        jitter = 1 + 0.01 * torch.randn(sets, 1, 1, dtype=torch.float64, generator=generator)
        one = jitter * (marker[:, :, None] / losses.LEVELS).square()
        network = of_networks**2 * one * torch.where(losses.LEVELS > 0.1, 1.0, fine)
        network[:, -1] = at_end * jitter[:, 0]
        nothing, unit = torch.zeros_like(one), torch.ones(len(losses.LEVELS), dtype=torch.float64)
        return losses.Gaps(nothing, network, nothing, of_memorizers**2 * one, unit, marker)

    return gaps


@pytest.mark.parametrize(
    ("gaps", "failing"),
    [
        (made_up_gaps(1.6, 1.2), set()),
        (made_up_gaps(0.8, 0.8), {"marker-low"}),
        (made_up_gaps(2.3, 2.0), {"marker-high"}),
        (made_up_gaps(1.6, 0.4), {"network-opens"}),
        (made_up_gaps(1.6, 1.2, at_end=0.5), {"network-closed"}),
        (made_up_gaps(1.6, 1.2, fine=1.0), {"network-blind"}),
    ],
    ids=["as-it-is", "too-low", "too-high", "elsewhere", "open", "resolved"],
)
def test_where_gaps_open_is_read_off_made_up_ones(gaps, failing):
    with planted(f"{HERE}.losses._gaps", gaps), known_networks("losses"):
        answer = answered(MEMORIZATION_TRANSITION, "losses")
    assert {claim.name for claim in answer.claims if not claim.holds} == failing
    assert ("opens elsewhere" in answer.text) == ("network-opens" in failing)
    assert ("perhaps still" in answer.text) == ("network-closed" in failing)


# faults


def innocents(_, starts):
    """A network that makes fresh draws at every size."""
    return LAW.sample(starts[..., 0].numel(), generator=torch.Generator().manual_seed(3)).reshape(starts.shape)


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


def stretched(denoiser, starts):
    return 1.3 * generated(denoiser, starts)


def of_more_examples(law, n):
    return chance(law, n + n // 2)


class Shifted(Empirical):
    """An exact denoiser whose examples are not the examples."""

    def denoise(self, x_t, alpha, sigma):
        return super().denoise(x_t, alpha, sigma) + 0.05


def same_for_all(points, k):
    return torch.full((len(points), k), 0.2, dtype=torch.float64), torch.zeros(len(points), k, dtype=torch.int64)


def per_event(*arguments):
    """A loss summed where it should be averaged."""
    return 2 * losses_denoising_loss(*arguments)


losses_denoising_loss = losses.denoising_loss

QUICK = {"chance-of-draws", "small-radius"}
FAULTS = [
    ("share", f"{HERE}.share.Empirical", Shifted, {"memorizer"}),
    ("share", f"{HERE}.share.chance", of_more_examples, {"chance-of-draws"}),
    ("share", f"{HERE}.share.generated", stretched, {"chance-of-flow"}),
    ("share", f"{HERE}.ladder.Ladder.generated", innocents, {"small-radius", "small-ratio", "trend"}),
    ("share", f"{HERE}.ladder.Ladder.generated", copier, {"large", "large-radius", "radius-misleads"}),
    ("losses", f"{HERE}.losses.denoising_loss", per_event, {"loss-is-excess-and-floor"}),
    ("losses", f"{HERE}.losses.nearest_other_neighbors", same_for_all, {"widest", "narrowest"}),
    ("losses", f"{HERE}.ladder.Ladder.alone", memorizer, {"network-closed"}),
    ("agreement", f"{HERE}.ladder.Ladder.generated", copier, {"leave", "fresh"}),
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
        assert claims <= failures(MEMORIZATION_TRANSITION, part)


@pytest.mark.slow
def test_too_few_samples_are_told_as_a_lack_of_power():
    with known_networks("share"), planted(f"{HERE}.share.SAMPLES", 40):
        assert "power" in failures(MEMORIZATION_TRANSITION, "share")

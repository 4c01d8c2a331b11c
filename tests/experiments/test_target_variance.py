"""The dial of averaged targets: every claim holds for another seed, and a planted fault makes its claim fail."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.experiments import find, target_variance
from diffuscope.experiments.side_by_side import SideBySide
from diffuscope.experiments.target_variance import EXPERIMENT, gradients, left_at_equal_error, networks
from diffuscope.experiments.target_variance.networks import Nested
from diffuscope.experiments.target_variance.targets import DIAL, targets_of
from diffuscope.experiments.three_modes import MODES, SCHEDULE, as_denoiser, small_networks
from diffuscope.training import DataPosterior

HERE = "diffuscope.experiments.target_variance"
DRAW = "diffuscope.training.target_average.DataPosterior.draw"
NOISE_FREE = "diffuscope.training.target_average.Empirical"
FULL = {name: getattr(networks, name) for name in ("SETS", "SAMPLES")}  # before they are made smaller
sound_draw, sound_targets = DataPosterior.draw, Nested.targets


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer draws and sets; the bars stay."""
    with (
        planted(f"{HERE}.DRAWS", 8_000),
        planted(f"{HERE}.gradients.SAMPLES", 500),
        planted(f"{HERE}.gradients.STEPS", 30),
        planted(f"{HERE}.networks.SETS", 2),
        planted(f"{HERE}.networks.SAMPLES", 50),
    ):
        yield


def test_it_is_found_by_its_name():
    assert find("target-variance") is EXPERIMENT


@pytest.mark.parametrize("part", ["identity", "gradient"])
def test_every_claim_of_an_identity_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_the_copies_of_a_set_differ_in_their_targets_alone():
    """Trained on equal targets they stay equal: they share initial weights, x_0, noise and levels. Sets differ."""
    with planted(f"{HERE}.networks.Nested.targets", staticmethod(all_denoise)), planted(f"{HERE}.networks.STEPS", 20):
        found = networks.dialed(1)
    for errors in (found.train, found.heldout):
        assert torch.allclose(errors, errors[..., :1].expand_as(errors), rtol=1e-4, atol=0)  # of float32
        assert not torch.allclose(errors[:, 0], errors[:, 1], rtol=1e-2, atol=1e-8)


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_errors_are_those_of_the_noise_prediction(off, generator):
    """D = D* + c sigma has the error c^2 at every level, for every copy."""
    known = ExactDenoiser(MODES, SCHEDULE)

    class Beside:
        schedule = SCHEDULE

        def __call__(self, x_t, t):
            return known(x_t.double().flatten(0, 1), t).reshape(x_t.shape) + off * t

    x_t, exact = (part[:, :, None] for part in networks.noised(MODES, MODES.sample(50, generator=generator), generator))
    found = networks.errors_of(Beside(), x_t, exact)
    assert torch.allclose(found, torch.full((2, len(DIAL)), off**2, dtype=torch.float64), atol=1e-9)  # x_t in float32


def made_up(turned: float, by_speed: bool) -> networks.Dialed:
    """Twelve sets whose errors follow 1/M with the slope `turned`, by speed on one common way or beside it."""
    generator = torch.Generator().manual_seed(0)
    sets = torch.randn(12, 1, dtype=torch.float64, generator=generator)
    noise = 0.02 * torch.randn(12, len(DIAL), dtype=torch.float64, generator=generator)
    progress = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None, None] * (
        1 - 0.3 * turned * target_variance.INVERSE
    )
    train = 1 - 0.5 * progress + 0.01 * noise
    heldout = progress + 0.3 * sets + noise if by_speed else 1 - turned * target_variance.INVERSE + 0.3 * sets + noise
    copied = 0.3 - 0.1 * turned * target_variance.INVERSE + 0.1 * sets + 0.1 * noise
    return networks.Dialed(copied, train, heldout.expand(9, -1, -1))


@pytest.mark.parametrize(
    ("turned", "by_speed", "failing"),
    [
        (1.0, True, set()),
        (1.0, False, {"speed"}),
        (0.0, True, {"learned", "unseen", "copies", "dial"}),
        (-1.0, True, {"learned", "unseen", "copies", "dial"}),
    ],
    ids=["by-speed", "beside-it", "no-dial", "turned-round"],
)
def test_what_a_dial_does_is_read_off_made_up_numbers(turned, by_speed, failing):
    with planted(f"{HERE}.dialed", lambda seed: made_up(turned, by_speed)):  # noqa: ARG005
        found = failures(EXPERIMENT, "generalization")
    assert found - {"speed", "reached"} == failing - {"speed"}
    assert ("reached" in found) == (turned < 0) or turned == 0  # there chance decides
    assert turned < 1 or ("speed" in found) == ("speed" in failing)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_at_full_size(seed):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FULL.items():
            patch.setattr(f"{HERE}.networks.{name}", value)
        answer = answered(EXPERIMENT, "generalization", seed)
        assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def noised(n: int, generator: torch.Generator):
    """Examples, and n of them noised at one level each: data, x_0, sigma, noise."""
    data = MODES.sample(16, generator=generator)
    x_0 = data[torch.randint(16, (n,), generator=generator)]
    sigma = 0.05 + torch.rand(n, dtype=torch.float64, generator=generator)
    return data, x_0, sigma, torch.randn(n, 2, dtype=torch.float64, generator=generator)


def test_targets_are_read_off_exactly_at_both_ends_of_the_dial(generator):
    data, x_0, sigma, noise = noised(50, generator)
    x_t = x_0 + sigma[:, None] * noise
    exact = Empirical(data).denoise(x_t, 1.0, sigma)
    read = [targets_of(M, data, x_0, sigma, noise, generator=generator) for M in (1, math.inf)]
    assert torch.allclose(read[0], x_0, atol=1e-14)
    assert torch.allclose(read[1], exact, atol=1e-13)
    with planted(NOISE_FREE, Shifted):
        assert not torch.allclose(targets_of(math.inf, data, x_0, sigma, noise, generator=generator), exact, atol=0.04)


def test_an_averaged_target_is_a_mean_of_examples_with_x_0_among_them(generator):
    """4 T_4 - x_0 is a sum of three examples: of the 816 sums one is met, to rounding."""
    data, x_0, sigma, noise = noised(50, generator)
    rest = 4 * targets_of(4, data, x_0, sigma, noise, generator=generator) - x_0
    sums = data[torch.combinations(torch.arange(16), 3, with_replacement=True)].sum(1)
    assert float(torch.cdist(rest, sums, compute_mode="donot_use_mm_for_euclid_dist").amin(1).max()) < 1e-12


def test_the_copies_of_a_set_have_the_targets_of_the_library(generator):
    """The ends are x_0 and the exact denoiser; between them M T_M - x_0 is the sum of the first M - 1 draws."""
    data, x_0, sigma, noise = noised(60, generator)
    x_t = x_0 + sigma[:, None] * noise
    posterior, ones = DataPosterior(data), torch.ones(60, dtype=torch.float64)
    made = Nested.targets(posterior, x_0, x_t, sigma, torch.Generator().manual_seed(4))
    drawn = data[posterior.draw(x_t, ones, sigma, 31, generator=torch.Generator().manual_seed(4))]
    assert torch.allclose(made[:, 0], x_0, atol=1e-14)
    assert torch.allclose(made[:, -1], Empirical(data).denoise(x_t, 1.0, sigma), atol=1e-12)
    for k, m in enumerate(DIAL[1:-1], start=1):
        assert torch.allclose(m * made[:, k] - x_0, drawn[:, : int(m) - 1].sum(1), atol=1e-12)


def test_what_is_left_at_equal_training_error_is_between_the_looks():
    """Two ways of one shape: nothing is left; one that is worse by 0.5 everywhere: 0.5."""
    train = torch.linspace(1, 0, 5, dtype=torch.float64)[:, None, None].expand(5, 3, 2).clone()
    train[:, :, 0] = 0.6 + 0.4 * train[:, :, 0]  # the first has come to 0.6
    heldout = 1 - train
    assert left_at_equal_error(train, heldout).tolist() == pytest.approx([0] * 3, abs=1e-12)
    heldout[:, :, 1] += 0.5
    assert left_at_equal_error(train, heldout).tolist() == pytest.approx([0.5] * 3)


def test_sets_whose_noise_free_network_never_comes_so_far_are_left_out_on_both_sides():
    """The two that never do have by far the most to lose: nothing of it is in what is left, nor in its share."""
    made = made_up(1.0, by_speed=True)
    train, heldout = made.train.clone(), made.heldout.clone()
    train[:, :2, -1], heldout[:, :2, -1] = 2.0, 100.0
    stuck = networks.Dialed(made.copied, train, heldout)
    assert left_at_equal_error(train, heldout).isnan().tolist() == [True] * 2 + [False] * 10
    with planted(f"{HERE}.dialed", lambda seed: stuck):  # noqa: ARG005
        found = {claim.name: claim for claim in answered(EXPERIMENT, "generalization").claims}
    with planted(f"{HERE}.dialed", lambda seed: made):  # noqa: ARG005
        whole = {claim.name: claim for claim in answered(EXPERIMENT, "generalization").claims}
    assert not found["reached"].holds
    assert found["reached"].value == pytest.approx(10 / 12)
    assert found["speed"].value == pytest.approx(whole["speed"].value, rel=0.5)


def test_the_share_along_the_mean_gradient_is_its_square_in_the_mean(generator):
    """E[|g|^2 - 2 gbar.g] = E|g|^2 - 2 |gbar|^2."""
    found = gradients.sample_gradients(generator)
    assert torch.allclose((found.squares - found.influence).mean(1), 2 * found.mean, rtol=1e-9, atol=0)


def test_an_answer_follows_its_claims():
    assert answered(EXPERIMENT, "identity").text.startswith("Yes")
    with planted(DRAW, only_once):
        assert answered(EXPERIMENT, "identity").text.startswith("No")


# faults


def from_the_prior(self, x_t, alpha, sigma, draws, *, generator):  # noqa: ARG001
    return torch.randint(len(self.examples), (len(x_t), draws), generator=generator)


def too_cold(self, x_t, alpha, sigma, draws, *, generator):
    return sound_draw(self, x_t, alpha, 0.8 * sigma, draws, generator=generator)


def only_once(self, x_t, alpha, sigma, draws, *, generator):
    """One draw, counted often."""
    return sound_draw(self, x_t, alpha, sigma, 1, generator=generator).expand(-1, draws)


class Warmer(Empirical):
    def posterior_covariance(self, x_t, alpha, sigma):
        return super().posterior_covariance(x_t, alpha, 1.3 * sigma)


class Shifted(Empirical):
    def denoise(self, x_t, alpha, sigma):
        return super().denoise(x_t, alpha, sigma) + 0.05


def all_denoise(posterior, x_0, x_t, sigma, generator):
    return sound_targets(posterior, x_0, x_t, sigma, generator)[:, :1].expand(-1, len(DIAL), -1)


def turned_round(posterior, x_0, x_t, sigma, generator):
    return sound_targets(posterior, x_0, x_t, sigma, generator).flip(1)


FAULTS = [
    ("identity", DRAW, from_the_prior, {"target-covariance"}),
    ("identity", DRAW, too_cold, {"target-covariance"}),
    ("identity", DRAW, only_once, {"target-covariance"}),
    ("gradient", f"{HERE}.gradients.Empirical", Shifted, {"total-variance"}),
    ("gradient", DRAW, from_the_prior, {"total-variance"}),
    ("gradient", DRAW, only_once, {"total-variance"}),
    ("gradient", f"{HERE}.gradients.Empirical", Warmer, {"total-variance"}),
]


@pytest.mark.parametrize(
    ("part", "target", "mutant", "claims"), FAULTS, ids=[f"{f[0]}-{f[2].__name__}" for f in FAULTS]
)
def test_a_planted_fault_makes_its_claims_fail(part, target, mutant, claims):
    with planted(target, mutant):
        assert claims <= failures(EXPERIMENT, part)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [all_denoise, turned_round])
def test_a_dial_that_turns_nothing_or_the_other_way_is_caught(mutant):
    """In training: where nothing is turned no difference is significant, however small its error."""
    with (
        planted(f"{HERE}.networks.Nested.targets", staticmethod(mutant)),
        planted(f"{HERE}.networks.SETS", 12),
        planted(f"{HERE}.networks.STEPS", 1200),
    ):
        assert {"learned", "unseen", "copies", "dial"} <= failures(EXPERIMENT, "generalization")


def test_errors_of_networks_carry_no_gradient(generator):
    """They are measures: no graph is kept of the networks."""
    count = networks.SETS * len(DIAL)
    network = as_denoiser(SideBySide(small_networks(count, 1)), count)
    x_t = torch.randn(len(networks.LEVELS), 3, networks.SETS, 2, dtype=torch.float64, generator=generator)
    assert not networks.errors_of(network, x_t, torch.zeros_like(x_t)).requires_grad

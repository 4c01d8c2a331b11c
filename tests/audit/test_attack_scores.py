"""Membership scores: the optimum for Gaussians, exact p-values under exchange of labels, groups as units."""

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.attack_scores import ATTACKS, Attack, PairedLosses, attacks, group_means, log_losses, residuals
from diffuscope.audit.difficulty import difficulty, fit_difficulty
from diffuscope.audit.roc import auc
from diffuscope.audit.subject import Levels, noise_levels
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE

VARIANCES = torch.linspace(2, 0.05, 10).double()
TRUTH = Gaussian(torch.zeros(10), torch.eye(10), VARIANCES, 0.0)


def simulated(shift, covariance, pairs, seed, references=1):
    """Log losses of Gaussian shape: training examples have lower ones by `shift`."""
    rng = np.random.default_rng(seed)
    rows = rng.multivariate_normal(np.zeros(len(shift)), covariance, size=(2, pairs))
    easy = rng.normal(size=(2, pairs, len(shift), references))
    rows[0] -= shift
    return PairedLosses(rows, easy)


def losses_of(denoiser, pairs, seed, train=None):
    """What the audit measures, for `pairs` training and held-out examples that are independent draws."""
    generator = torch.Generator().manual_seed(seed)
    x = TRUTH.sample(2 * pairs, generator=generator).float()
    if train is not None:
        x[::2] = train[:pairs]
    noise = torch.randn(pairs, 10, generator=generator).repeat_interleave(2, 0)
    levels = noise_levels(denoiser, 1.0, 12)
    levels = Levels(levels.times[4:9], levels.ratios[4:9])
    squares = torch.stack([(denoiser(x + r * noise, t) - x).square().sum(1) for t, r in levels], 1).numpy()
    easy = log_losses(difficulty(x, noise, levels, denoiser.schedule).numpy(), 10.0)
    model = log_losses(squares, 10.0)
    return PairedLosses(np.stack([model[::2], model[1::2]]), np.stack([easy[::2], easy[1::2]]))


def test_p_values_are_uniform_for_the_denoiser_of_the_true_distribution():
    """It has seen neither set: of 60 runs, the p-value of all attacks and of each has the uniform distribution."""
    denoiser = ExactDenoiser(TRUTH, VE())
    p_values = []
    for seed in range(60):
        found, p_value = attacks(losses_of(denoiser, 30, seed), np.random.default_rng(seed), 99)
        p_values.append([p_value, *(found[name].p_value for name in ATTACKS)])
    for column in np.array(p_values).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert (column <= 0.05).mean() <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


def test_every_attack_finds_the_exact_memorizer():
    train = TRUTH.sample(60, generator=torch.Generator().manual_seed(1)).float()
    found, p_value = attacks(
        losses_of(ExactDenoiser(Empirical(train), VE()), 60, 2, train), np.random.default_rng(0), 199
    )
    assert p_value == pytest.approx(1 / 200)
    for name in ATTACKS:
        assert found[name].area > 0.95


def test_the_likelihood_ratio_tends_to_that_of_two_gaussians():
    """The optimal area for a shift d under the covariance S is Phi(|S^(-1/2) d| / sqrt 2); the loss alone has less."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    shift = np.array([0.5, -0.3])  # a fingerprint across levels whose mean is small
    best = stats.norm.cdf(np.sqrt(shift @ np.linalg.solve(covariance, shift) / 2))
    loss = stats.norm.cdf(shift.sum() / np.sqrt(2 * covariance.sum()))
    found, _ = attacks(simulated(shift, covariance, 4000, 3), np.random.default_rng(0), 1)
    error = 0.5 / (3 * 4000) ** 0.5 * 1.5  # a bound of the standard error: that at 1/2, and of the weights
    assert found["likelihood ratio"].area == pytest.approx(best, abs=4 * error)
    assert found["loss"].area == pytest.approx(loss, abs=4 * error)


def test_the_relative_loss_takes_out_what_the_references_know():
    """Losses that are easy to predict, and a small shift: Phi(d / (s sqrt 2)) for what is left of deviation s."""
    rng = np.random.default_rng(4)
    easy = rng.normal(size=(2, 3000, 1, 2))
    model = 3 * easy[..., 0] - 2 * easy[..., 1] + 0.5 * rng.normal(size=(2, 3000, 1))
    model[0] -= 0.4
    found, _ = attacks(PairedLosses(model, easy), rng, 1)
    assert found["relative loss"].area == pytest.approx(stats.norm.cdf(0.4 / 0.5 / 2**0.5), abs=4 * 0.006)
    assert found["loss"].area == pytest.approx(stats.norm.cdf(0.4 / (13.25 * 2) ** 0.5), abs=4 * 0.0075)


def test_residuals_are_orthogonal_to_the_references():
    losses = simulated(np.zeros(3), np.eye(3), 50, 5, references=2)
    rows, easy = losses.model.reshape(-1, 3), losses.references.reshape(-1, 3, 2)
    left = residuals(rows, easy)
    assert np.abs(left.mean(0)).max() < 1e-12
    assert np.abs(np.einsum("nl,nlr->lr", left, easy)).max() < 1e-9


def test_labels_exchanged_in_all_pairs_turn_the_areas_around():
    losses = simulated(np.array([0.4, 0.2]), np.eye(2), 80, 6)
    turned = PairedLosses(losses.model[::-1].copy(), losses.references[::-1].copy())
    found, back = (attacks(x, np.random.default_rng(0), 1)[0] for x in (losses, turned))
    for name in ("loss", "relative loss"):
        assert back[name].area == pytest.approx(1 - found[name].area, abs=1e-12)
    # its weights turn too, so that it finds the same
    assert back["likelihood ratio"].area == pytest.approx(found["likelihood ratio"].area, abs=1e-12)


def test_difficulty_does_not_depend_on_which_examples_are_training_examples():
    """Exchanged examples have exchanged difficulties, to rounding; fitted to the training part they would not."""
    x = TRUTH.sample(200, generator=torch.Generator().manual_seed(7)).float()
    noise = torch.randn(100, 10, generator=torch.Generator().manual_seed(8)).repeat_interleave(2, 0)
    levels = noise_levels(ExactDenoiser(TRUTH, VE()), 1.0, 4)
    order = torch.arange(200).reshape(100, 2).flip(1).flatten()
    here, there = (difficulty(rows, noise, levels, VE()) for rows in (x, x[order]))
    assert torch.allclose(here[order], there, rtol=1e-5, atol=0)


def test_the_references_of_difficulty_have_the_moments_of_the_examples():
    x = torch.randn(500, 3, 2, generator=torch.Generator().manual_seed(9)) * torch.tensor([3.0, 1.0]) + 1
    isotropic, few = fit_difficulty(x, components=2)
    full = Gaussian.fit([x])
    for made in (isotropic, few):
        assert torch.allclose(made.mean, full.mean, atol=1e-6)
        assert made.trace == pytest.approx(full.trace, rel=1e-6)
    assert torch.allclose(few.eigenvalues, full.truncate(2).eigenvalues, rtol=1e-6, atol=0)


def test_groups_are_averaged_over_as_many_examples_on_both_sides():
    """Training groups 1 (three examples), 2 (one); held-out 5 (two), 6 (one); 9 is in both sets and left out."""
    train, held = np.array([1, 2, 1, 9, 1]), np.array([5, 9, 6, 5])
    means = group_means(
        (np.array([1.0, 10.0, 3.0, 99.0, 50.0]), np.array([7.0, 99.0, 20.0, 8.0])), (train, held),
        np.random.default_rng(0),
    )  # fmt: skip
    assert means.tolist() == [[2.0, 10.0], [7.5, 20.0]]


def test_p_values_are_uniform_for_groups_of_unequal_sizes():
    """A person's examples share a level of loss: examples as units would reject in many of 100 runs; groups do not."""
    p_groups, p_examples = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        ids = [rng.choice(40, 300, p=rng.dirichlet(np.full(40, 2.0))) + 100 * k for k in (0, 1)]
        rows = [rng.normal(size=200)[own - 100 * k] + 0.3 * rng.normal(size=300) for k, own in enumerate(ids)]
        both = group_means((rows[0][:, None], rows[1][:, None]), (ids[0], ids[1]), rng)
        easy = rng.normal(size=(*both.shape, 1))
        p_groups.append(attacks(PairedLosses(both, easy), rng, 99)[1])
        p_examples.append(stats.mannwhitneyu(rows[0], rows[1], alternative="less").pvalue)
    assert stats.kstest(p_groups, "uniform").pvalue > 1e-3
    assert (np.array(p_examples) < 0.05).mean() > 0.2


def test_areas_of_scores_are_those_of_the_plain_definition():
    losses = simulated(np.array([0.3, 0.1]), np.eye(2), 30, 10)
    found, _ = attacks(losses, np.random.default_rng(0), 3)
    for attack in found.values():
        assert attack.area == pytest.approx(auc(attack.members, attack.others), abs=1e-12)


def test_the_p_value_of_an_area_counts_the_permuted_ones_that_are_as_large_and_itself():
    attack = Attack(np.zeros(4), np.zeros(4), 0.7, np.array([0.6, 0.7, 0.8, 0.69]))
    assert attack.p_value == (1 + 2) / (1 + 4)
    # the variance of the area of exchangeable scores of n and n examples is (2 n + 1) / (12 n^2)
    assert attack.widening == 1.0
    wide = Attack(np.zeros(4), np.zeros(4), 0.7, np.array([0.0, 1.0]))
    assert wide.widening == pytest.approx(0.5 / (9 / 192) ** 0.5)

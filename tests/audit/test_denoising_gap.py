"""The gap between training and held-out errors: size, p-value, power, calibration."""

from functools import partial

import numpy as np
import pytest
import torch
from results_at_levels import measures_of
from scipy import stats
from sklearn.datasets import load_digits

from audit_subjects import digits
from diffuscope.audit.denoising_gap import denoising_gap, gap_finding, pairs_of_cells
from diffuscope.exact import Gaussian
from diffuscope.findings import bootstrap_sums, paired_permutation


@pytest.fixture
def _fewer_permutations(monkeypatch):
    """P-values of 999 are as valid, in steps of 0.001. Intervals, of 20 resamples, are not read."""
    fewer = partial(paired_permutation, permutations=999)
    monkeypatch.setattr("diffuscope.audit.denoising_gap.paired_permutation", fewer)
    monkeypatch.setattr("diffuscope.audit.denoising_gap.bootstrap_sums", partial(bootstrap_sums, resamples=20))


def test_the_gap_of_the_control_is_a_share_of_its_held_out_error():
    errors = np.ones((4, 2))
    measures = measures_of(errors, errors)
    for level, (train, heldout) in zip(measures.sums, ((1.0, 4.0), (3.0, 2.0)), strict=True):
        level["training.control_error"], level["heldout.control_error"] = np.full(4, train), np.full(4, heldout)
    assert denoising_gap(measures, 0.01, np.random.default_rng(0)).control.tolist() == [0.75, -0.5]


def test_a_known_gap_is_measured_with_its_size_and_found():
    rng = np.random.default_rng(0)
    heldout = rng.gamma(20, 0.05, size=(400, 3))
    train = rng.gamma(20, 0.05, size=(400, 3)) * 0.8
    result = denoising_gap(measures_of(train, heldout), 0.01, rng)
    # the ratio of two means of 400 gamma(20) draws has the standard error 0.8 sqrt(2/400/20) = 0.0126
    error = 0.8 * (2 / 400 / 20) ** 0.5
    assert np.abs(result.share - 0.2).max() < 4 * error
    assert (result.low < result.share).all()
    assert (result.share < result.high).all()
    # an end is a quantile of 1,000 resamples (0.085 standard errors) of 400 pairs (another 0.085): 4 times both
    assert np.abs(result.share - result.low - 1.96 * error).max() < 0.48 * error
    assert np.abs(result.high - result.share - 1.96 * error).max() < 0.48 * error
    assert result.p_value < 1e-3
    assert gap_finding(result, 0.01).tone == "attention"


@pytest.mark.usefixtures("_fewer_permutations")
def test_the_stated_share_of_remembered_examples_is_found_with_at_least_the_stated_probability():
    """Remember the share the result calls detectable; the overall test must find it in at least 95% of draws."""
    rng = np.random.default_rng(1)

    def errors():
        return rng.gamma(20, 0.05, size=(300, 4))

    detectable = denoising_gap(measures_of(errors(), errors()), 0.01, rng).detectable
    found = []
    for _ in range(100):
        train = errors() * (rng.random((300, 1)) >= detectable)
        found.append(denoising_gap(measures_of(train, errors()), 0.01, rng).p_value < 0.01)
    # a remembered example helps all four levels, the power is stated for one: 95% is a lower bound (less 4 errors)
    assert np.mean(found) > 0.95 - 4 * (0.95 * 0.05 / 100) ** 0.5


@pytest.mark.usefixtures("_fewer_permutations")
def test_p_values_are_uniform_over_200_audits_of_a_model_that_saw_neither_set():
    x = digits(1)
    model = Gaussian.fit([x[:597]])
    pool = x[597:]
    generator = torch.Generator().manual_seed(2)
    rng = np.random.default_rng(3)
    overall, single = [], []
    for _ in range(200):
        chosen = pool[torch.randperm(len(pool), generator=generator)]
        noise = torch.randn(150, 1, 8, 8, generator=generator)
        errors = {"train": [], "heldout": []}
        for sigma in (2.0, 1.0, 0.5, 0.25):
            for name, clean in (("train", chosen[:150]), ("heldout", chosen[150:300])):
                denoised = model.denoise(clean + sigma * noise, 1.0, sigma)
                errors[name].append((denoised - clean).flatten(1).double().square().sum(1).numpy())
        train, heldout = (np.stack(found, 1) for found in errors.values())
        result = denoising_gap(measures_of(train, heldout), 0.01, rng)
        overall.append(result.p_value)
        single.append(result.p_values[1])
    assert stats.kstest(overall, "uniform").pvalue > 0.01
    assert stats.kstest(single, "uniform").pvalue > 0.01


def test_equal_errors_are_no_gap():
    rng = np.random.default_rng(0)
    errors = rng.gamma(20, 0.05, size=(200, 2))
    result = denoising_gap(measures_of(errors, errors), 0.01, rng)
    assert result.mean_share == 0
    assert result.p_value == pytest.approx(1)
    assert gap_finding(result, 0.01).tone == "good"


def test_a_model_that_knows_both_sets_by_heart_has_no_gap():
    """All errors are zero: 0/0 is neither a warning nor a share that is not a number."""
    none = np.zeros((200, 2))
    result = denoising_gap(measures_of(none, none), 0.01, np.random.default_rng(0))
    assert (result.share == 0).all()
    assert (result.low, result.high, result.mean_share) == (pytest.approx([0, 0]), pytest.approx([0, 0]), 0)


def test_another_mix_of_classes_is_not_called_memorization():
    """Training digits are mostly small, held-out ones mostly large; the model knows other digits of the former mix."""
    labels = torch.from_numpy(load_digits(return_X_y=True)[1])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    x = digits(1)
    model = Gaussian.fit([x[:597][labels[:597] < 5], x[:50]])
    small, large = ((597 + (chosen[597:]).nonzero()[:, 0]) for chosen in (labels < 5, labels >= 5))
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    parts = (slice(0, 250), slice(0, 50)), (slice(250, 300), slice(50, 300))
    train, heldout = (x[torch.cat([small[a], large[b]])[order]] for a, b in parts)
    noise = torch.randn(train.shape, generator=torch.Generator().manual_seed(3))

    errors = {"train": [], "heldout": []}
    for sigma in (2.0, 1.0, 0.5, 0.25):
        for name, clean in (("train", train), ("heldout", heldout)):
            denoised = model.denoise(clean + sigma * noise, 1.0, sigma)
            errors[name].append((denoised - clean).flatten(1).double().square().sum(1).numpy())
    measures = measures_of(np.stack(errors["train"], 1), np.stack(errors["heldout"], 1))
    rng = np.random.default_rng(0)
    assert denoising_gap(measures, 0.01, rng).p_value < 0.01
    of_train, of_heldout = (torch.cat([labels[small[a]], labels[large[b]]])[order].numpy() for a, b in parts)
    within = pairs_of_cells(of_train, of_heldout, rng)
    assert (of_train[within[0]] == of_heldout[within[1]]).all()
    assert denoising_gap(measures, 0.01, rng, within).p_value > 0.01
    same = pairs_of_cells(of_train, of_train[::-1].copy(), rng)
    assert (same[0] == np.arange(300)).all()
    assert (same[1] == np.arange(300)).all()

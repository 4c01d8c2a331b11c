"""A perfect generator: samples, training and held-out rows from one distribution, many times. Are p-values uniform?

For a share of `draws` below u the standard error is sqrt(u (1 - u) / draws); bounds are four of these.
"""

import numpy as np
import pytest
import torch

from diffuscope.audit.standard_names import standard_measures

LEVELS = (0.05, 0.1, 0.25, 0.5)


def rows_of(rng, n, kind):
    if kind == "continuous":
        return torch.from_numpy(rng.normal(size=(n, 4))).float()
    return torch.from_numpy(rng.integers(3, size=(n, 3))).float()  # 27 different rows: many identical matches


def patients_of(rng, n):
    """Five rows of every patient, near a center of its own, and the number of the patient."""
    of = np.repeat(np.arange(n // 5), 5)
    centers = torch.from_numpy(rng.normal(size=(n // 5, 4))).float()
    return centers[torch.from_numpy(of)] + 0.2 * torch.from_numpy(rng.normal(size=(n, 4))).float(), of


def one_draw(kind, seed):
    rng = np.random.default_rng(seed)
    if kind != "patients":
        return standard_measures(rows_of(rng, 50, kind), rows_of(rng, 60, kind), rows_of(rng, 70, kind), rng)
    (samples, _), (train, of_train), (heldout, of_heldout) = (patients_of(rng, n) for n in (300, 150, 200))
    # fresh rows: one of each of many more patients
    return standard_measures(samples[::5], train, heldout, rng, train_groups=of_train, heldout_groups=1000 + of_heldout)


def check(kind, draws):
    found = {}
    for seed in range(draws):
        for m in one_draw(kind, seed):
            found.setdefault(m.name, []).append((m.value, m.null, m.low, m.high, m.p_value))
    for name, of_draws in found.items():
        value, null, low, high, p_value = (np.array(column, dtype=float) for column in zip(*of_draws, strict=True))
        known = np.isfinite(value)
        value, null, low, high, p_value = (x[known] for x in (value, null, low, high, p_value))
        error = (value - null).std() / len(value) ** 0.5
        assert abs((value - null).mean()) <= 4 * error + 1e-12, f"{name}: the stated null"
        inside = ((low <= value) & (value <= high)).mean()
        assert inside >= 0.95 - 4 * (0.05 * 0.95 / len(value)) ** 0.5, f"{name}: the range of the null, {inside}"
        if np.isnan(p_value).all():
            continue  # a control
        for level in LEVELS:
            below = (p_value <= level).mean()
            bound = 4 * (level * (1 - level) / len(value)) ** 0.5
            assert below <= level + bound, f"{name}: P(p <= {level}) = {below}"
            if kind == "continuous" and not name.startswith(("IMS", "share with")):  # few distinct values
                assert below >= level - bound - 0.05, f"{name}: P(p <= {level}) = {below}"


@pytest.fixture(autouse=True)
def _fewer_permutations(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.exchanged_names.PERMUTATIONS", 199)
    monkeypatch.setattr("diffuscope.audit.feature_likelihood.PERMUTATIONS", 39)
    monkeypatch.setattr("diffuscope.audit.feature_likelihood.MOST", 50)


def test_p_values_are_uniform_and_nulls_are_right_for_a_perfect_generator():
    check("continuous", 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "discrete", "patients"])
def test_p_values_are_uniform_over_many_draws(kind):
    check(kind, 400)

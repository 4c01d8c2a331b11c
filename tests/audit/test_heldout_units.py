"""Held-out examples in other units than training examples are told, and honest splits are not accused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_subjects import digits
from diffuscope.audit import Settings, Subject, audit_model, audit_samples
from diffuscope.audit.heldout_units import ALIKE, HeldoutUnits, heldout_units, heldout_units_finding
from diffuscope.audit.no_model import NoModel
from diffuscope.by_parts import extremes
from diffuscope.data import DataSet
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

HONEST = 20  # splits of each kind and size


def ring(n, seed):
    """Eight clusters of deviation 0.06 on a circle of radius 0.75."""
    rng = np.random.default_rng(seed)
    angle = rng.integers(0, 8, n) * np.pi / 4
    center = 0.75 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return torch.from_numpy(center + 0.06 * rng.standard_normal((n, 2))).float()


def compared(train, heldout, **groups):
    return heldout_units(Subject(NoModel(), train, heldout, **groups), extremes(train), np.random.default_rng(0))


def told(train, heldout, **groups):
    found = heldout_units_finding(compared(train, heldout, **groups), "wiring")
    assert found.name == "wiring.heldout_units"
    return found.tone, found.verdict


@pytest.mark.parametrize(("after", "value"), [(0.5, 6.0), (0.0, 3e6)])
def test_the_number_of_the_card_is_how_much_nearer_the_map_brings_them(after, value):
    """Of distances that were 3; examples that repeat training examples under the map are not infinitely nearer."""
    units = replace(ALIKE, name="values in [0, 1]", written="data = value", nearer=1.0, before=3.0, after=after)
    card = heldout_units_finding(HeldoutUnits(units=units, shifted=(0, 100), spread=(0, 100)), "wiring")
    assert card.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_forgotten_conversion_of_either_file_is_told(exchanged):
    """Mean and spread about the mean of the training examples are nearly theirs: distances tell."""
    files = ring(2000, 0), (ring(2000, 1) + 1) / 2
    tone, verdict = told(*(files[::-1] if exchanged else files))
    assert tone == "alarm"
    assert f"nearer to these if read as values in {'[-1, 1]' if exchanged else '[0, 1]'} (data = " in verdict


@pytest.mark.parametrize(
    ("change", "text"),
    [(lambda x: 0.5 * x, "their spread is 0.5"), (lambda x: 2.5 * x, "their spread is 2.5"),
     (lambda x: x + 3, "their mean is off by +")],
)  # fmt: skip
def test_another_spread_or_mean_is_told(change, text):
    points = torch.randn(900, 6, generator=torch.Generator().manual_seed(0))
    tone, verdict = told(points[:500], change(points[500:]))
    assert tone == "alarm"
    assert text in verdict
    assert verdict.endswith("one of the files may be in other units.")
    assert told(points[:500], points[500:])[0] == "good"


def test_images_that_are_turned_or_inverted_or_in_bytes_are_told():
    train, heldout = digits(0)[:900], digits(0)[900:1500]
    assert told(train, heldout)[0] == "good"
    for changed in (heldout.transpose(2, 3), heldout.flip(2), -heldout, (heldout + 1) / 2, 255 * (heldout + 1) / 2):
        assert told(train, changed.contiguous())[0] == "alarm"


def test_groups_are_the_independent_examples():
    """Forty held-out scans of two patients with another mean say little of the mean; those of twenty say it."""
    points = torch.randn(540, 3, generator=torch.Generator().manual_seed(0))
    train, heldout = points[:500], points[500:] + 4

    def of(patients):
        return compared(
            train, heldout, train_groups=torch.arange(500) // 2, heldout_groups=1000 + torch.arange(40) % patients
        )

    assert of(2).shifted == (2, 2)
    assert not of(2).off_center
    assert of(20).off_center


def splits(rng, n):
    """Honest data of several kinds, in an order that is random but for the last two."""
    normal = rng.standard_normal((n, 2))
    yield normal
    yield rng.standard_t(3, (n, 2))
    yield np.exp(normal)
    yield np.exp(2 * normal)
    yield (rng.random((n, 10)) < 0.05).astype(float)
    yield rng.choice([-1, 1], (n, 1)) + 0.1 * normal  # the median is in either cluster
    group = np.sort(rng.integers(0, 26, n))  # a quarter of the variance is that of the groups: the last are held out
    yield 0.5 * rng.standard_normal((26, 2))[group] + 0.75**0.5 * normal
    yield np.linspace(0, 1, n)[:, None] + normal  # a drift of one deviation in time


@pytest.mark.parametrize("count", [20, 200])
def test_honest_splits_are_not_accused(count):
    for seed in range(HONEST):
        for kind, x in enumerate(splits(np.random.default_rng([count, seed]), 300 + count)):
            rows = torch.from_numpy(x).float()
            assert not compared(rows[:300], rows[300:]).fault, (kind, seed)


def test_a_column_that_is_nearly_always_the_same_is_no_fault():
    """Of 300 training examples at most 150 are compared with: they may all be 0."""
    for seed in range(20):
        train, heldout = torch.zeros(300, 1), torch.zeros(100, 1)
        train[seed], heldout[: 1 + seed % 3] = 1.0, 1.0
        assert not heldout_units(Subject(NoModel(), train, heldout), extremes(train), np.random.default_rng(seed)).fault


QUICK = Settings(levels=4, points=32, trajectories=8, generated=50, components=1, step_seeds=8)


def test_a_model_is_not_called_a_copier_of_what_heldout_examples_of_other_units_make_of_it():
    train, heldout = ring(400, 0), (ring(400, 1) + 1) / 2
    model = ExactDenoiser(Gaussian.fit([train]), VE())
    result = audit_model(Subject(model, train, heldout), QUICK)
    assert result.verdict.word == "broken"
    assert result.verdict.sentence.startswith("The held-out examples are not in the units of the training examples")
    assert [finding.name for finding in result.verdicts] == ["wiring.verdict"]
    assert "agreement" not in result.findings  # there is no second model: nothing is left unanswered
    assert "Do two models" not in result.unanswered
    assert result.unanswered.startswith("Not answered: the set of held-out examples is not what it is taken for")
    assert "Did it memorize?" in result.unanswered


def test_samples_alone_are_not_compared_with_heldout_examples_of_other_units():
    train, heldout = ring(400, 0), (ring(400, 1) + 1) / 2
    index = torch.arange(400)
    data = DataSet("made", train, heldout, (-1.0, 1.0), "made", index, index, kind="vectors")
    result = audit_samples(ring(200, 2), data, QUICK)
    assert result.verdict.word == "broken"
    assert result.verdict.sentence.startswith("The held-out examples are not in the units of the training examples")
    assert list(result.findings) == ["samples", "memorized", "quality", "diversity"]
    assert [finding.name for finding in result.verdicts] == ["samples.verdict"]

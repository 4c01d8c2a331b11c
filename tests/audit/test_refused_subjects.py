"""What an audit refuses before any work is one sentence; what it takes is kept as it was given."""

import math
import re

import numpy as np
import pytest
import torch

from diffuscope.audit import Settings, Subject, reading_search
from diffuscope.audit.conventions import PLANTED
from diffuscope.audit.no_model import NoModel
from diffuscope.audit.originals import Originals
from diffuscope.audit.reading_search import DOUBT, FAULT, SIGNIFICANT, _smallest_seen, decisive_levels
from diffuscope.audit.subject import FEWEST, noise_levels, require_samples
from diffuscope.data.canaries import Canaries
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

TRAIN = torch.arange(44.0).reshape(22, 2)
HELDOUT = TRAIN[:20] + 0.5
NAMES = torch.arange(22)


def rows(n, *shape):
    return torch.arange(float(n * math.prod(shape))).reshape(n, *shape)


def canaries(*shape):
    included = torch.tensor([True] * 10 + [False] * 10)
    return Canaries(examples=rows(20, *shape), included=included, data_range=(-1.0, 1.0))


def originals(train, heldout):
    return Originals(train=rows(train, 1, 2, 2), heldout=rows(heldout, 1, 2, 2))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"train": rows(19, 2)}, "train: expected at least 20 examples, got 19"),
        ({"train": TRAIN.log()}, "train: expected finite values, got NaN or infinity"),
        ({"heldout": torch.ones(21, 2)}, "heldout: expected examples that vary, got 21 that are all the same"),
        ({"canaries": canaries(3)}, "canaries: expected examples of shape (2,) as in train, got (3,)"),
        ({"originals": originals(21, 20)}, "originals: expected 22 train examples, one for each, got 21"),
        ({"originals": originals(22, 21)}, "originals: expected 20 heldout examples, one for each, got 21"),
        ({"train_labels": NAMES.float()}, "train_labels: expected integers, got torch.float32"),
        ({"train_labels": NAMES.to(torch.complex64)}, "train_labels: expected integers, got torch.complex64"),
        ({"heldout_labels": NAMES[:20] > 3}, "heldout_labels: expected integers, got torch.bool"),
        ({"train_owners": NAMES[:20]}, "train_owners: expected one for each example (22), got 20"),
        ({"heldout_owners": NAMES}, "heldout_owners: expected one for each example (20), got 22"),
        ({"heldout_groups": NAMES[:20]}, "train_groups: expected groups of both parts, got heldout_groups alone"),
        ({"train_groups": NAMES}, "heldout_groups: expected groups of both parts, got train_groups alone"),
        (
            {"train_groups": NAMES, "heldout_groups": NAMES[:20] + 19},
            "heldout_groups: expected groups that are not in train_groups, got 3 that are",
        ),
    ],
)
def test_a_subject_that_cannot_be_audited_is_refused(given, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        Subject(**{"denoiser": NoModel(), "train": TRAIN, "heldout": HELDOUT} | given)


def test_a_subject_with_everything_that_an_audit_takes_is_kept_as_it_is():
    held = originals(22, 20)
    whole = Subject(
        NoModel(), TRAIN, HELDOUT, train_labels=NAMES, heldout_labels=NAMES[:20], train_groups=NAMES,
        heldout_groups=NAMES[:20] + 22, train_owners=NAMES, heldout_owners=NAMES[:20], canaries=canaries(2),
        originals=held,
    )  # fmt: skip
    assert whole.originals is held
    assert not whole.has_model
    assert whole.maker is whole.denoiser
    model = ExactDenoiser(Gaussian.fit([TRAIN]), VE())
    assert Subject(model, TRAIN, HELDOUT).has_model
    assert Subject(NoModel(), TRAIN, HELDOUT, sampled=model).maker is model
    assert Subject(model, TRAIN, HELDOUT).scale == pytest.approx(float(TRAIN.var(0, correction=0).mean() ** 0.5))


def test_samples_are_as_many_as_examples_must_be_and_of_their_shape():
    require_samples(TRAIN[:FEWEST], like=HELDOUT)
    with pytest.raises(InputError, match=re.escape("samples: expected examples of shape (2,), got (3,)")):
        require_samples(rows(30, 3), like=HELDOUT)
    with pytest.raises(InputError, match="samples: expected at least 20 examples, got 19"):
        require_samples(TRAIN[:19], like=HELDOUT)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"levels": 3}, "levels: expected a whole number from 4 to 1,000, got 3"),
        ({"points": 10**7 + 1}, "points: expected a whole number from 8 to 10,000,000, got 10000001"),
        ({"generated": 10**7 + 1}, "generated: expected a whole number from 20 to 10,000,000, got 10000001"),
        ({"trajectories": 10**6 + 1}, "trajectories: expected a whole number from 8 to 1,000,000, got 1000001"),
        ({"step_seeds": 7}, "step_seeds: expected a whole number from 8 to 1,000,000, got 7"),
        ({"components": 1001}, "components: expected a whole number from 1 to 1,000, got 1001"),
        ({"references": 10**9 + 1}, "references: expected a whole number from 20 to 1,000,000,000, got 1000000001"),
        ({"consistency_steps": 0}, "consistency_steps: expected a whole number from 1 to 1,000, got 0"),
        ({"delta": -0.5}, "delta: expected a number from 0 up to, not including, 1, got -0.5"),
        ({"skip_tolerance": math.inf}, "skip_tolerance: expected a finite number > 0, got inf"),
        ({"features": ()}, "features: expected one or several different ones, got None"),
        ({"features": ("pca", "pca")}, "features: expected one or several different ones, got pca pca"),
        (
            {"features": ("pixel",)},
            "features: expected 'pixels', 'pca', 'patches', 'clusters', 'classifier' or module:object, got 'pixel'",
        ),
    ],
)
def test_settings_outside_their_ranges_are_refused(given, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        Settings(**given)


def test_levels_reach_from_three_hundredths_to_a_hundred_deviations_and_are_geometric():
    model = ExactDenoiser(Gaussian.fit([TRAIN]), VE(1e-6, 1e6))
    found = noise_levels(model, 2.0, 5).ratios
    assert found.tolist() == pytest.approx([2 * 0.03 * (100 / 0.03) ** (k / 4) for k in (4, 3, 2, 1, 0)])


@pytest.mark.parametrize(
    ("cost", "p_value", "seen"),
    [
        (FAULT, 0.0, (PLANTED[0], PLANTED[0])),
        (FAULT, SIGNIFICANT, (math.inf, math.inf)),
        (FAULT - 1e-9, 0.0, (math.inf, PLANTED[0])),
        (DOUBT - 1e-9, 0.0, (math.inf, math.inf)),
    ],
)
def test_a_level_told_wrong_is_seen_from_the_cost_of_a_fault_on_and_below_the_level_of_the_test(
    monkeypatch, cost, p_value, seen
):
    """As the reading itself is judged: a cost of FAULT is a fault, a p-value of SIGNIFICANT is not significant."""
    monkeypatch.setattr(reading_search, "error_ratio", lambda *_: cost)
    monkeypatch.setattr(reading_search, "larger_p_value", lambda *_: p_value)
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE(1e-3, 1e3))
    levels = decisive_levels(model, 1.0)
    clean = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    variances = torch.ones(2, dtype=torch.float64)
    assert _smallest_seen(model, variances, levels, clean, clean.flip(0), np.random.default_rng(0)) == seen

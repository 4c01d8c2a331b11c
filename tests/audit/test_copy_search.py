"""Copies are found, innocents are not accused, p-values mean what they say, and so do statements of power."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401
from scipy import stats

from audit_subjects import QUICK, SMALL, asked, digits, exact_subject
from diffuscope.audit import audit_model
from diffuscope.audit.copy_queries import Search
from diffuscope.audit.copy_search import CopySearch, copies, copies_finding
from diffuscope.audit.leaked import find_leaked
from diffuscope.audit.memorization import Memorization, verdict
from diffuscope.audit.nearness import nearness
from diffuscope.audit.planting import modifications, smallest_share_found
from diffuscope.audit.transformations import NAMES, transformations
from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, nearest_neighbors
from diffuscope.findings import conformal_p_values, false_discovery
from diffuscope.report import Gallery

IMAGES = transformations(NAMES, (1, 8, 8))
searched = partial(copies, calibration=10_000, rate=0.05, seed=0)


def split(seed, *sizes):
    """Disjoint random parts of the digits."""
    return torch.split(digits(seed)[: sum(sizes)], list(sizes))


def noisy(x, share):
    """Noise of this share of the range."""
    return x + 2 * share * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def _little_power(monkeypatch):
    """What is on a list depends on no planted copies, which take most of the time of a search."""
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 2)


@pytest.fixture(scope="module", params=[(), IMAGES], ids=["vectors", "images"])
def fresh(request):
    """Held-out digits as queries, the radius of repeats, the training digits and the search."""
    train, heldout = split(0, 797, 1000)
    search = Search(train, lambda x: x.flatten(1), request.param)
    queries = search(heldout)
    leaked, radius = find_leaked(queries)
    assert not leaked.any()
    return queries.statistic(radius), radius, train, search


def test_a_list_of_fresh_digits_is_seldom_not_empty_and_their_p_values_are_uniform(fresh):
    statistic, *_ = fresh
    rng = np.random.default_rng(0)
    p_values, nonempty = [], 0
    for _ in range(200):
        order = rng.permutation(len(statistic))
        p = conformal_p_values(statistic[order[:200]], statistic[order[200:]])
        nonempty += false_discovery(p, 0.05).any()
        p_values.append(p[0])
    # at most 5% in expectation, and three standard errors
    assert nonempty <= 200 * (0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5)
    steps = np.round(np.array(p_values) * 801) - rng.random(200)  # of the discrete uniform distribution
    assert stats.kstest(steps / 801, "uniform").pvalue > 0.01


def test_the_changes_of_planted_copies_are_drawn_by_the_seed(monkeypatch):
    """Not by another number at hand, so that audits with two seeds are independent."""
    drawn_by = []

    def recorded(train, generator, table):
        drawn_by.append(generator.initial_seed())
        return modifications(train, generator, table)

    monkeypatch.setattr("diffuscope.audit.copy_search.modifications", recorded)
    train, heldout = split(0, 60, 60)
    for seed in (3, 2**40 + 5):
        CopySearch(train, heldout, calibration=50, seed=seed)
    assert drawn_by == [3, 2**40 + 5]


def test_the_share_of_false_entries_is_at_most_the_stated_one(fresh):
    statistic, *_ = fresh
    rng, shares = np.random.default_rng(1), []
    for _ in range(200):
        order = rng.permutation(len(statistic))
        observed = np.concatenate([np.zeros(30), statistic[order[:170]]])
        listed = false_discovery(conformal_p_values(observed, statistic[order[170:]]), 0.05)
        shares.append(listed[30:].sum() / max(1, listed.sum()))
    assert np.mean(shares) <= 0.05 + 4 * np.std(shares) / 200**0.5


def test_planted_copies_of_the_stated_share_are_found_in_at_least_90_of_100_draws(fresh):
    """For every modification whose power is stated, with new sources and other fresh digits in each draw."""
    statistic, radius, train, search = fresh
    rng, samples = np.random.default_rng(2), 200
    null, others = statistic[200:], statistic[:200]
    for name, modified in modifications(train, torch.Generator().manual_seed(1)).items():
        sources = train[torch.from_numpy(rng.permutation(len(train))[:400])]
        p_values = conformal_p_values(search(modified(sources)).statistic(radius), null)
        share = smallest_share_found(p_values[:100], samples, 0.05, rng)
        if share > 1:
            assert name != "exact"
            continue
        found = []
        for _ in range(100):
            p = conformal_p_values(rng.permutation(others)[:samples], null)
            planted = rng.random(samples) < share
            p[planted] = rng.choice(p_values[100:], int(planted.sum()))
            found.append(false_discovery(p, 0.05)[planted].any())
        assert np.mean(found) >= 0.9, name


@pytest.mark.usefixtures("_little_power")
def test_repeats_in_the_training_set_do_not_hide_copies_and_are_listed():
    """Five images twenty times each, a quarter of the samples copies of them: exact repeats, and nearly exact ones."""
    train, heldout, others = split(8, 600, 900, 150)
    for noise in (0.0, 0.02):
        repeated = noisy(train[:5].repeat(20, 1, 1, 1), noise)
        copied = noisy(train[:5].repeat(10, 1, 1, 1), noise)
        found = searched(torch.cat([copied, others]), torch.cat([train, repeated]), heldout, chosen=IMAGES)
        assert found.listed[:50].all()
        assert set(range(5)) <= {int(group[0]) for group in found.repeats.groups if len(group) >= 20}


@pytest.mark.usefixtures("_little_power")
def test_modified_copies_are_found_with_the_transformation_that_undoes_them():
    train, heldout, others = split(9, 700, 900, 150)
    found = searched(torch.cat([train[:50].flip(3), others]), train, heldout, chosen=IMAGES)
    assert found.listed[:50].all()
    assert all("mirrored" in name for name in found.transformation[:10])
    assert not searched(torch.cat([train[:50].flip(3), others]), train, heldout).listed[:50].any()


@pytest.mark.usefixtures("_little_power")
@pytest.mark.parametrize("change", [lambda x: x, lambda x: noisy(x, 0.01), lambda x: x + 0.3], ids=["=", "noise", "+"])
def test_leaked_heldout_examples_are_found_and_do_not_hide_copies(change):
    """A tenth of the held-out examples repeat training ones."""
    train, heldout, others = split(10, 700, 700, 150)
    leaking = torch.cat([change(train[:80]), heldout])
    found = searched(torch.cat([train[100:120], others]), train, leaking, chosen=IMAGES)
    assert found.leaked == {i: i for i in range(80)}
    assert found.calibration == 700
    assert found.listed[:20].all()


@pytest.mark.usefixtures("_little_power")
def test_examples_that_coincide_by_chance_are_not_leaked():
    """Throws of three dice repeat each other as often in both sets, and no sample is accused of it."""
    generator = torch.Generator().manual_seed(0)
    train, heldout, samples = (torch.randint(6, (n, 3), generator=generator).float() for n in (500, 500, 100))
    found = searched(samples, train, heldout)
    assert not found.leaked
    assert not found.listed.any()


@pytest.mark.usefixtures("_little_power")
@pytest.mark.parametrize("chosen", [(), IMAGES], ids=["vectors", "images"])
def test_what_is_no_copy_is_not_accused(chosen):
    """Smooth samples, noise of any size, constant images, fresh digits under noise, held-out examples themselves."""
    train, heldout, others = split(7, 600, 600, 597)
    smooth = others[nearest_neighbors(others[:150], others, 3)[1]].mean(1)
    noise = noisy(torch.zeros_like(smooth), 0.5)
    innocent = (smooth, noise, 100 * noise, torch.zeros_like(noise), noisy(others[:150], 0.1), heldout[:150])
    search = CopySearch(train, heldout, calibration=10_000, seed=0, chosen=chosen)
    for samples in innocent:
        assert search(samples, 0.05).listed.mean() < 0.01


@pytest.mark.parametrize(
    "heldout",
    [torch.zeros(300, 1, 8, 8), digits(1)[:1].expand(300, 1, 8, 8).clone(), digits(1)[:25]],
    ids=["constant", "one example", "few"],
)
def test_heldout_examples_that_tell_nothing_give_no_verdict(heldout):
    train, samples = split(11, 700, 200)
    finding = copies_finding(searched(samples, train, heldout), "pixels")
    assert finding.tone == "unknown"


def test_one_training_example_gives_no_verdict():
    (heldout,) = split(12, 500)
    found = searched(heldout[:100], heldout[:1].repeat(50, 1, 1, 1), heldout[100:])
    assert not found.listed.any()
    assert copies_finding(found, "pixels").tone == "unknown"


@pytest.mark.usefixtures("_little_power")
def test_the_p_value_of_the_finding_is_below_the_rate_exactly_if_a_sample_is_listed():
    train, heldout, others = split(13, 600, 600, 200)
    search = CopySearch(train, heldout, calibration=10_000, seed=0)
    for copied in range(0, 24, 3):
        found = search(torch.cat([train[:copied], others[copied:]]), 0.05)
        assert (found.p_value <= 0.05) == found.listed.any()
        assert found.p_value >= found.p_values.min()


@pytest.mark.slow  # 784 pixels; by default every modification is planted among the 64 of digits
@pytest.mark.usefixtures("shared_data")
def test_modified_copies_of_mnist_are_found():
    """4,000 training images, 1,000 held-out ones; 20 copies among 300 samples, modified in one way at a time."""
    data = load_data("mnist").in_range(-1.0, 1.0)
    train, heldout = data.train[:4000], data.heldout[:1000]
    search = Search(train, lambda x: x.flatten(1), transformations(NAMES, (1, 28, 28)))
    fresh = search(heldout)
    leaked, radius = find_leaked(fresh)
    statistic = fresh.statistic(radius)
    assert leaked.sum() <= 1
    sources, generator = train[::200], torch.Generator().manual_seed(0)
    for name, modified in modifications(train, generator).items():
        planted = search(modified(sources)).statistic(radius)
        p_values = conformal_p_values(np.concatenate([planted, statistic[:280]]), statistic[280:])
        assert false_discovery(p_values, 0.05)[:20].mean() >= 0.9, name


@pytest.fixture(scope="module")
def copying():
    """An audit of samples of which a quarter are mirrored training digits, with and without pictures of the data."""
    train, heldout, others = split(14, 300, 600, 150)
    samples = torch.cat([train[:50].flip(3), others])
    subject = exact_subject(Gaussian.fit([others]).truncate(40), train, heldout)
    with asked("memorized"), pytest.MonkeyPatch.context() as patch:
        shown = audit_model(subject, SMALL, samples=samples)
        patch.setattr("diffuscope.audit.copy_search.PLANTED", 2)  # power is looked at in the first alone
        return shown, audit_model(subject, replace(SMALL, examples=False), samples=samples)


def test_the_report_shows_which_transformation_matched(copying):
    shown, _ = copying
    assert shown["memorized"].findings[0].verdict.startswith("Copies training examples")
    entries = shown.as_json()["copies"]["pixels"]
    assert {entry["sample"] for entry in entries} >= set(range(50))
    assert sum("mirrored" in entry["transformation"] for entry in entries) >= 45
    (gallery,) = [block for block in shown["memorized"].blocks if isinstance(block, Gallery)]
    assert "matches when mirrored" in gallery.items[0].caption
    planted = shown.as_json()["planted"]["pixels"]
    assert planted["exact"] < 0.2


def test_without_examples_no_picture_of_the_data_is_in_the_report(copying):
    shown, hidden = copying
    assert not [block for block in hidden["memorized"].blocks if isinstance(block, Gallery)]
    assert hidden.as_json()["copies"] == shown.as_json()["copies"]


def test_unknown_transformations_are_refused_before_any_work():
    with pytest.raises(InputError, match="transformations: expected mirror"):
        replace(QUICK, transformations=("sideways",))


def test_the_verdict_is_cannot_tell_where_planted_copies_would_not_be_found(copying):
    """Twenty-five held-out examples: neither copies nor their absence show, whatever the other tests say."""
    train, samples = split(15, 600, 200)
    near = nearness(samples.flatten(1), train.flatten(1), digits(15)[800:1400].flatten(1), 0.01, 0)
    found = searched(samples, train, digits(15)[800:825])
    gap = replace(copying[0]["memorized"].result.gap, p_value=0.5)
    unknown = verdict(Memorization(gap, {"pixels": near}, {"pixels": found}), 0.01)
    assert unknown.tone == "unknown"
    assert unknown.verdict.startswith("Cannot tell")
    biased = verdict(Memorization(replace(gap, p_value=0.001), {"pixels": near}, {"pixels": found}), 0.01)
    assert biased.tone == "attention"
    assert "no sample is a copy" not in biased.verdict
    # the number shown is the one that decides
    assert (biased.value, biased.p_value) == (100 * gap.mean_share, 0.001)
    leaning = verdict(Memorization(gap, {"pixels": replace(near, p_value=1e-4)}, {"pixels": found}), 0.01)
    assert (leaning.value, leaning.p_value) == (100 * near.share, 1e-4)

"""Memorization by networks whose samples and losses are known: what is claimed, shown and said."""

import math
from types import SimpleNamespace

import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.experiments import Part
from diffuscope.experiments import memorization_transition as transition
from diffuscope.experiments.memorization_transition.gaps import LEVELS, Gaps
from diffuscope.findings import Repeated, Rule, jackknife
from numbers_in_tests import double

DOUBLE = torch.float64


def made_ladder(sizes=(8, 64, 512), sets: int = 3, generated=None):
    examples = tuple(tuple(torch.full((n, 2), float(s), dtype=DOUBLE) for n in sizes) for s in range(sets))
    return SimpleNamespace(sizes=sizes, sets=sets, examples=examples, generated=generated)


def test_shares_of_copies_are_claimed_against_chance_and_held_out_examples(monkeypatch):
    """By ratio 60% to 80% of samples copy 8 examples and 20% 512; of held-out sets 20% at every size."""
    asked = []

    def copies(examples, x):
        n, s = len(examples), float(examples[0, 0])
        asked.append((n, tuple(x.shape)))
        known = s in (0.0, 1.0, 2.0) and bool((examples == s).all())
        share = {8: 0.6 + 0.1 * s, 64: 0.4, 512: 0.2}[n] if known else 0.2
        by_ratio = torch.arange(10) < round(10 * share)
        return torch.stack([by_ratio if n < 512 else torch.arange(10) < (5 if known else 3), by_ratio])

    ladder = made_ladder(generated=lambda starts: starts)
    monkeypatch.setattr(transition, "climbed", lambda _: ladder)
    monkeypatch.setattr(transition, "SAMPLES", 10)
    monkeypatch.setattr(transition, "copies", copies)
    monkeypatch.setattr(transition, "chance", lambda _, n: double(0.01 * n / 8, 0.11))
    part = Part("memorization-transition", "share", "s", 1)
    text = transition.share(part)
    assert {shape for _, shape in asked} == {(10, 2)}
    assert len(asked) == 3 * 3 * (1 + transition.HELD_OUT_SETS)
    claims = {claim.name: claim for claim in part.claims}
    few = Repeated.of(double(0.6, 0.7, 0.8))
    assert (claims["small-ratio"].value, claims["small-ratio"].required) == pytest.approx((few.low, 0.22))
    assert (claims["large"].value, claims["large"].required) == pytest.approx((0.0, 0.0))
    assert claims["power"].value == pytest.approx(0, abs=1e-12)
    radius, ratio = part.charts[0].panels
    of_train = lines_of(ratio)["training examples"]
    assert of_train.x == (8, 64, 512)
    assert of_train.y == pytest.approx((0.7, 0.4, 0.2))
    assert (*of_train.low, *of_train.high) == pytest.approx((0.0, 0.4, 0.2, 1.0, 0.4, 0.2))
    assert lines_of(ratio)["held-out examples"].y == pytest.approx((0.2, 0.2, 0.2))
    assert lines_of(radius)["held-out examples"].y == pytest.approx((0.2, 0.2, 0.3))
    assert lines_of(radius)["by chance"].y == pytest.approx((0.01, 0.08, 0.64))
    assert lines_of(radius)["training examples"].y[-1] == pytest.approx(0.5)
    assert [rule.at for rule in marks_of(ratio, Rule)] == [1.0]
    assert text.startswith("From 70% of the samples at n = 8 (by chance 11%) to 20.0% at 512 (by chance 11.0%;")


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_gaps_open_at_multiples_of_the_marker_and_of_the_memorizer(factor, monkeypatch):
    """Gaps that fall like the square of sigma, from a memorizer's opening at 1.5 and 1.2 times the marker."""
    marker = double(0.5, 0.2, 0.1, 0.05).expand(3, -1)
    nothing = torch.zeros(3, 4, len(LEVELS), dtype=DOUBLE)
    floor = torch.ones(len(LEVELS), dtype=DOUBLE)
    at = marker * double(9.0, 1.5, 1.5, 1.2)
    memorizer = (at[..., None] / LEVELS) ** 2
    network = memorizer * factor**2
    network[:, -1] = double(0.1, 0.101, 0.102)[:, None]
    found = Gaps(nothing, network, nothing, memorizer, floor, marker)
    monkeypatch.setattr(transition, "climbed", lambda _: made_ladder((8, 64, 128, 512)))
    monkeypatch.setattr(transition, "measured", lambda *_: found)
    part = Part("memorization-transition", "losses", "s", 1)
    text = transition.losses(part)
    claims = {claim.name: claim for claim in part.claims}
    assert claims["marker"].value == pytest.approx((1.5 * 1.5 * 1.2) ** (1 / 3))  # from 64 examples on
    assert "1.20 to 1.50 over the sizes" in claims["marker"].because
    assert claims["network-opens"].value == pytest.approx(math.log(2))
    assert claims["network-opens"].required == pytest.approx(math.log(3))
    assert claims["network-closed"].value == pytest.approx(Repeated.of(double(0.1, 0.101, 0.102)).high)
    assert "opens near its memorizer's at n = 64 and at no level at 512." in text


def of_pairs(kept) -> list[int]:
    """Which of the pairs (0, 1), (0, 2), (1, 2) are of these sets."""
    return [k for k, pair in enumerate(((0, 1), (0, 2), (1, 2))) if {*pair} <= {*kept.tolist()}]


@pytest.mark.parametrize("last", [0.9, 1.1])
def test_networks_of_disjoint_sets_are_compared_over_all_pairs(last, monkeypatch):
    """Samples of set s at the k-th size are at s (3 - k) / 2, and those of other noise 10 away from them."""
    starts = []

    def generated(given):
        starts.append(given)
        n, sets, sizes, _ = given.shape
        x = torch.zeros(given.shape, dtype=DOUBLE)
        x[..., 0] = torch.arange(sets)[:, None] * (3 - torch.arange(sizes)) * 0.5
        x[..., 1] = 10 * (torch.arange(n) % 2)[:, None, None]
        return x

    monkeypatch.setattr(transition, "climbed", lambda _: made_ladder(generated=generated))
    monkeypatch.setattr(transition, "STARTS", 6)
    monkeypatch.setattr(transition, "RECALLED", 4)
    monkeypatch.setattr(transition, "_recalled", lambda ladder, given, which: torch.stack(  # noqa: ARG005
        [double(0.0, 10.0 * (k % 2)) + double(which, 0.0) for k in range(len(given))]
    )[:, None].expand(-1, 3, -1))  # fmt: skip
    near = {8: 0.4, 64: 0.9, 512: last}

    def nearest(x, examples):
        """Of samples; of fresh draws it is one. The last size has a little spread over the sets."""
        spread = 0.0001 * (float(examples[0, 0]) - 1) if len(examples) == 512 else 0.0
        return double(near[len(examples)] + spread if len(x) == 6 else 1.0)[0]

    monkeypatch.setattr(transition, "_nearest", nearest)
    part = Part("memorization-transition", "agreement", "s", 1)
    text = transition.agreement(part)
    assert torch.equal(starts[0][:, 0, 0], starts[0][:, 2, 1])  # one start for all
    of = lambda off: off / math.hypot(off, 10)  # noqa: E731
    pairs = {k: [of(0.5 * (3 - k) * d) for d in (1, 2, 1)] for k in range(3)}
    panel = part.charts[0].panels[0]
    a, b, recalled = (
        lines_of(panel)[name]
        for name in (
            "a: two networks from the same noise",
            "b: sample to nearest training example",
            "a: two exact memorizers",
        )
    )
    assert a.y == pytest.approx([sum(pairs[k]) / 3 for k in range(3)])
    assert (a.low, a.high) == (
        pytest.approx([min(pairs[k]) for k in range(3)]),
        pytest.approx([max(pairs[k]) for k in range(3)]),
    )
    assert b.y == pytest.approx((0.4, 0.9, last))
    assert recalled.y == pytest.approx([of(1.0)] * 3)
    claims = {claim.name: claim for claim in part.claims}
    far = Repeated.of(double(last - 0.0001, last, last + 0.0001))
    assert claims["fresh"].value == pytest.approx(0.1 + far.mean - far.low)
    assert claims["fresh"].required == 0.15
    fell = jackknife(lambda kept: 1 - double(*[pairs[2][int(k)] for k in of_pairs(kept)]).mean()
                     / double(*[pairs[0][int(k)] for k in of_pairs(kept)]).mean(), 3)  # fmt: skip
    assert claims["agree"].value == pytest.approx(fell.low)
    assert f"a falls from {a.y[0]:.2f} to {a.y[-1]:.2f}" in text
    assert f"b rises from 0.40 to {last:.2f}" in text
    assert claims["agree"].required == 0.5

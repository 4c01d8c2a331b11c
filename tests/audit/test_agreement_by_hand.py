"""Agreement of two models: sums of scores, calls of the network, and every doubt at its limit, of few examples."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import made
from results_at_levels import agreeing, compared_by_hand, gap

from counting_denoisers import Always
from diffuscope.audit.agreement import (
    Agreement,
    Pair,
    _share,
    measure_samples,
    measure_scores,
    network_calls,
)
from diffuscope.audit.agreement_charts import agreement_chart, covariance_chart, gallery
from diffuscope.audit.agreement_doubts import _doubt, compared, undeserved
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.second_model import SecondModel, Translated
from diffuscope.audit.session import Session
from diffuscope.audit.subject import Levels
from diffuscope.exact import Empirical, Gaussian
from diffuscope.report import Gallery
from numbers_in_tests import rng

GENERATOR = torch.Generator().manual_seed(0)
TRAIN, HELDOUT, OTHER = torch.randn(5 + 6 + 4, 2, generator=GENERATOR).split([5, 6, 4])
RATIOS = torch.tensor([3.0, 1.5, 0.4]).double()


def audited(first, trajectories, points=6, known=OTHER, levels=RATIOS):
    """A session and a pair of which the second level is not shared."""
    heldout, noise = HELDOUT.repeat(points // len(HELDOUT) + 1, 1)[:points], torch.ones(points, 2)
    session = made(
        Session,
        settings=SimpleNamespace(trajectories=trajectories, sampler=None),
        references=SimpleNamespace(
            gaussian=Gaussian.fit([TRAIN.double()]),
            train=Empirical(TRAIN),
            heldout=Empirical(HELDOUT),
            mean=TRAIN.mean(0),
        ),
        points=(TRAIN[[0, 1, 2, 3, 4] * (points // 5 + 1)][:points], heldout, noise),
        generated={"states": torch.stack([ratio * torch.ones(trajectories, 2) for ratio in levels]).float().numpy()},
        torch_stream=lambda _: torch.Generator().manual_seed(1),
    )
    kept = torch.tensor([True, False, True])[: len(levels)]
    second = Translated(Always(2.0, -1.0), first.schedule)
    return session, Pair(
        first, second, SecondModel(second.denoiser, known), kept.numpy(), Levels(levels[kept], levels[kept])
    )


@pytest.mark.parametrize(("trajectories", "points"), [(3, 6), (130, 6), (3, 258)])
def test_the_network_calls_are_those_that_are_made(trajectories, points):
    first = Always(0.5, 0.5)
    session, pair = audited(first, trajectories, points)
    samples, sums = measure_samples(session, pair), measure_scores(session, pair)
    assert len(samples["first"]) == len(sums["path"]) == min(trajectories, 128)
    assert len(sums["heldout"]) == min(points, 256)
    made = sum(n for n, _ in first.asked + pair.second.denoiser.asked)  # pyright: ignore[reportAttributeAccessIssue]
    assert network_calls(session, pair) == made


def trace(examples, x_t, sigma):
    """tr Cov(x_0 | x_t) of equally likely examples."""
    weights = (-(x_t[:, None] - examples).square().sum(2) / (2 * sigma**2)).double().softmax(1)
    mean = weights @ examples.double()
    return weights @ examples.double().square().sum(1) - mean.square().sum(1), mean


def test_the_sums_of_scores_are_squared_distances_of_the_answers():
    session, pair = audited(Always(0.5, 0.5), 3)
    sums = measure_scores(session, pair)
    split = (1.5**2 + 1.5**2) / 2  # half of |(0.5, 0.5) - (2, -1)|^2
    assert sums["path"].shape == (3, 2, 3)
    assert sums["path"][..., 0] == pytest.approx(split)
    assert sums["heldout"][..., 0] == pytest.approx(split)
    for name, x in (("heldout", session.points[1]), ("training", session.points[0])):
        error = (x - torch.tensor([2.0, -1.0])).square().sum(1)
        assert sums[f"{name}_error"] == pytest.approx(error[:, None].expand(-1, 2).numpy(), rel=1e-6)
    for place, sigma in enumerate((3.0, 0.4)):
        on_path = sigma * torch.ones(3, 2)
        (noise, one), (_, other) = (trace(of, on_path, sigma) for of in (TRAIN, OTHER))
        assert sums["path"][:, place, 1] == pytest.approx(noise.numpy(), rel=1e-4)
        assert sums["path"][:, place, 2] == pytest.approx((one - other).square().sum(1).numpy() / 2, rel=1e-4)
        at_heldout = trace(TRAIN, HELDOUT + sigma, sigma)[0]
        assert sums["heldout"][:, place, 1] == pytest.approx(at_heldout.numpy(), rel=1e-4)


def test_without_data_of_the_second_model_heldout_examples_are_its_memorizer():
    session, pair = audited(Always(0.5, 0.5), 3, known=None)
    first, second = pair.memorizers(session)
    assert torch.equal(first.points, TRAIN)
    assert torch.equal(second.points, HELDOUT)


def test_a_second_model_is_known_by_its_data_and_its_answers():
    def digest(first=0.5, second=2.0, known=OTHER):
        session, pair = audited(Always(first, 0.5), 3, known=known)
        pair.second.denoiser.point[0] = second  # pyright: ignore[reportAttributeAccessIssue]
        return pair.digest(session)

    assert len(digest()) == 16
    assert digest() == digest(first=0.7) == digest()
    assert len({digest(), digest(second=2.5), digest(known=None), digest(known=OTHER + 1)}) == 4


def test_the_largest_mismatch_of_all_levels_is_told():
    off = torch.tensor([1.2, 3.5]).double()
    second = SimpleNamespace(mismatch=lambda times: off[: len(times)])
    assert made(Pair, second=second, levels=Levels(RATIOS[:2], RATIOS[:2])).mismatch == 3.5


# reductions


def test_answers_are_the_same_up_to_a_billionth_of_the_targets_variance():
    for path, heldout, same in ((1e-9, 1e-9, True), (1.001e-9, 0.0, False), (0.0, 1.001e-9, False)):
        found = made(Agreement, path=np.array([[[path, 1.0, 5.0]]]), heldout=np.array([[[heldout, 1.0]]]))
        assert found.same == same


def test_a_position_is_known_where_a_millionth_is_left_and_its_rounding_is_not():
    below = np.array([1 - 1.05e-6, 1 - 0.99e-6])
    assert np.isnan(_share(np.ones(2), below)).tolist() == [False, True]
    assert _share(0.7 + 1e-12, 0.4).item() == 0.5
    assert np.isnan(_share(1.0, 1.0))


def test_the_ratio_of_every_level_has_the_intervals_of_its_points():
    """Two points of ratios 1/4 and 3: resampled twice the first, one of each, or twice the second."""
    path = np.array([[[1.0, 4.0, 0.0]], [[3.0, 1.0, 0.0]]])
    curve = made(Agreement, path=path, heldout=path[..., :2]).curves(rng())["trajectories"]
    assert curve.value.tolist() == [[4 / 5]]
    assert (curve.low.tolist(), curve.high.tolist()) == ([[1 / 4]], [[3.0]])
    found = made(Agreement, path=path, matter=np.array([True])).averaged(rng())
    assert found == (4 / 5, 1 / 4, 3.0)


def test_samples_at_different_starts_are_apart_without_the_diagonal():
    cosines = np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.4], [0.5, 0.6, 0.7]])
    found = made(Agreement, cosines=cosines)
    assert found.apart == pytest.approx(2.1 / 6)
    assert found.agree.tolist() == [0.9, 0.8, 0.7]
    tied = made(Agreement, cosines=np.full((3, 3), 0.1))  # sums of tenths are not all rounded alike
    assert tied.p_value(rng()) == 1.0


def test_stored_samples_are_compared_without_the_mean_of_the_data():
    mean = torch.tensor([1.0, 1.0])
    train, heldout = torch.tensor([[2.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    session = made(
        Session,
        references=SimpleNamespace(mean=mean), subject=SimpleNamespace(train=train, scale=1.3),
        points=(train, heldout, heldout), measures=SimpleNamespace(matter=np.array([True, False, True])),
    )  # fmt: skip
    samples = {
        "first": [[4.0, 1.0], [2.0, 2.0]], "second": [[1.0, 2.0], [1.0, 5.0]],
        "first_memorizer": [[2.0, 1.0], [3.0, 1.0]], "second_memorizer": [[3.0, 3.0], [0.0, 1.0]],
    }  # fmt: skip
    pair = made(Pair, levels=Levels(RATIOS[[0, 2]], RATIOS[[0, 2]]), kept=np.array([True, False, True]))
    scores = {"path": np.zeros((2, 2, 3)), "heldout": np.ones((2, 2, 2))}
    arrays = {name: np.array(rows, dtype=np.float32) for name, rows in samples.items()}
    found = Agreement.of(session, pair, arrays, scores)
    root = 0.5**0.5
    assert found.cosines == pytest.approx(np.array([[0.0, 0.0], [root, root]]))
    assert found.memorizers == pytest.approx([root, -1.0])
    assert found.nearest == pytest.approx([1.0, root])  # to (1, 0) and (0, -1)
    assert found.second_nearest == pytest.approx([0.0, 0.0], abs=1e-15)
    assert found.heldout_nearest == pytest.approx([0.0, -root], abs=1e-15)
    assert found.matter.tolist() == [True, True]
    assert found.ratios == pytest.approx([3.0, 0.4], rel=1e-6)


# doubts


def doubt(heldout=1000, significance=0.01, **changes):
    session = made(
        Session, subject=SimpleNamespace(heldout=np.zeros(heldout)), settings=SimpleNamespace(significance=significance)
    )
    return _doubt(compared_by_hand(**changes), session)


@pytest.mark.parametrize(
    ("below", "beyond", "told"),
    [
        ({"loss": (1.4, 1.0, 1.5)}, {"loss": (1.4, 1.0001, 1.5)}, "does not denoise these data"),
        (
            {"repeated": 13},
            {"repeated": 14},
            "14 of the second model's 1,300 training examples are the first one's too",
        ),
        ({"nearly_repeated": 0.01}, {"nearly_repeated": 0.0104}, "1.0% of the second model's training examples are"),
        ({"heldout_known": 10}, {"heldout_known": 11}, "11 held-out examples are training examples of the second"),
        ({"gap": gap(p_value=0.01)}, {"gap": gap(p_value=0.0099)}, "by 5.5% on average (p = 0.0099; a control too"),
    ],
)
def test_what_makes_agreement_mean_something_else_is_told_beyond_its_limit_alone(below, beyond, told):
    well = {"gap": gap(p_value=0.3)}
    assert doubt(**(well | below)) == ""
    assert told in doubt(**(well | beyond))


def test_the_first_doubt_is_told_and_the_control_is_its_mean():
    well = {"gap": gap(p_value=0.001, control=np.array([0.01, 0.02, 0.06])), "heldout_known": 11}
    assert doubt(**well).startswith("11 held-out examples")
    assert "too small to memorize: 3.0%)" in doubt(**(well | {"heldout_known": 10}))
    same = agreeing(path=np.zeros((4, 3, 3)), heldout=np.zeros((4, 3, 2)))
    assert doubt(agreement=same).endswith("they answer alike at every point, and their cosine is 0.85")
    assert doubt(repeated=None, gap=gap(p_value=0.3)) == ""


def test_two_memorizers_must_leave_three_standard_errors():
    """a - m is +d and -d from its mean in two of four starts each: the standard error is d / 2."""

    def told(room, deviation):
        memorizers = 1 - room - deviation * np.array([1.0, -1.0, 1.0, -1.0])
        made = agreeing(cosines=np.full((4, 4), 0.97), memorizers=memorizers)
        return doubt(agreement=made, gap=gap(p_value=0.3))

    assert told(0.031, 0.02) == ""
    assert told(0.029, 0.02) == "two memorizers would agree as well (mean cosine 0.971), so that nothing could be told"
    assert told(1.05e-6, 0.0) == ""
    assert "mean cosine 1.000" in told(0.99e-6, 0.0)


def test_models_of_a_formula_or_nearer_than_independent_trainings_earn_nothing():
    assert undeserved(compared_by_hand()) == ""
    low = (0.5, 0.4, 0.6)
    for over, name in ((((0.9, 0.8, 0.99), low), "first"), ((low, (0.9, 0.8, 0.99)), "second")):
        assert undeserved(compared_by_hand(over_formula=over)).startswith(f"the {name} model has learned little: its")
    assert undeserved(compared_by_hand(over_formula=(low, (0.9, 0.8, 0.9899)))) == ""
    assert undeserved(compared_by_hand(averaged=(0.0009, 0.0, 0.001))) == ""
    nearer = undeserved(compared_by_hand(averaged=(0.0009, 0.0, 0.00099)))
    assert "differ by 0.0009 of the target's variance, and those of independent trainings by 0.001 at least" in nearer


def test_losses_of_two_models_are_compared_over_the_levels_that_matter():
    """Of three levels the last two are shared and the first two matter for the first model."""
    models, n = ("isotropic", "Gaussian", "empirical"), 6
    errors = {"heldout.error": (2.0, 3.0, 5.0), "training.error": (1.0, 1.0, 1.0)}
    exact = np.array([[7.0, 1.0, 4.0], [6.0, 1.0, 9.0], [8.0, 1.0, 2.0]])
    sums = [
        {key: np.full(n, values[level]) for key, values in errors.items()}
        | {"heldout.exact_error": np.tile(exact[level], (n, 1)), "training.exact_error": np.zeros((n, 3))}
        | {"training.control_error": np.ones(n), "heldout.control_error": np.ones(n)}
        for level in range(3)
    ]
    measures = LevelMeasures(ratios=np.array([3.0, 1.5, 0.4]), scale=1.0, dimension=2, models=models, sums=sums)
    object.__setattr__(measures, "matter", np.array([True, True, False]))
    train, other = torch.arange(40.0).reshape(20, 2), torch.arange(100.0, 150.0).reshape(25, 2)
    session = made(
        Session,
        measures=measures, settings=SimpleNamespace(significance=0.01), numpy_stream=lambda _: rng(),
        torch_stream=lambda _: torch.Generator().manual_seed(0), references=SimpleNamespace(mean=torch.ones(2)),
        subject=SimpleNamespace(train=train, heldout=other[:10], scale=1.0), points=(train[:n], other[:n], other[:n]),
    )  # fmt: skip
    kept = np.array([False, True, True])
    levels = Levels(RATIOS[1:], RATIOS[1:])
    scores = {
        "training_error": np.full((n, 2), 10.0), "heldout_error": np.tile([12.0, 20.0], (n, 1)),
        "path": np.ones((n, 2, 3)), "heldout": np.ones((n, 2, 2)),
    }  # fmt: skip
    samples = {name: other[:n].numpy() for name in ("first", "second", "first_memorizer", "second_memorizer")}
    places = np.arange(n), np.arange(n)

    def found(data):
        pair = made(Pair, kept=kept, levels=levels, given=SimpleNamespace(train=data))
        return compared(session, pair, samples, scores, places)

    result = found(torch.cat([other, train[:5]]))
    # of the shared levels the second matters: 12 of the second model, and the worse of a formula's 6 and a lookup's 9
    assert result.loss == pytest.approx((12 / 9,) * 3)
    assert result.over_formula[0] == pytest.approx((5 / 6,) * 3)  # (2 + 3) of the first model
    assert result.over_formula[1] == pytest.approx((12 / 6,) * 3)
    assert result.relative_loss == pytest.approx((12 / 5,) * 3)
    assert result.gap.share == pytest.approx([1 / 6, 1 / 2])
    assert result.least == pytest.approx((1 / 20 + 1 / 30) / 2)
    assert (result.repeated, result.heldout_known, result.memorized) == (5, 10, 30)
    assert result.nearly_repeated == pytest.approx(5 / 30)
    assert result.doubt.startswith("the second model does not denoise")
    unknown = found(None)
    assert unknown.least == 1 / 40
    assert (unknown.repeated, unknown.nearly_repeated, unknown.heldout_known, unknown.memorized) == (None, 0.0, 0, 10)


# charts


def test_the_bars_of_cosines_begin_at_the_least_one():
    cosines = np.full((4, 4), 0.1)
    cosines[0, 0] = -0.7
    _, single = agreement_chart(agreeing(cosines=cosines), rng()).panels
    assert single.marks[0].edges[0] == -0.7  # pyright: ignore[reportAttributeAccessIssue]
    ones = agreement_chart(agreeing(nearest=np.ones(4)), rng()).panels[1].marks[2]
    assert math.isclose(sum(ones.heights) * (ones.edges[1] - ones.edges[0]), 1.0)  # pyright: ignore


def test_the_axis_of_covariances_begins_below_the_least():
    for share, least in ((0.5, 0.1), (0.004, 0.001), (0.1, 0.1), (1e-4 / 3, 1e-5)):
        made = agreeing(path=np.tile([[share, 1.0, 1.0]], (4, 1, 1)).repeat(3, 1), heldout=np.ones((4, 3, 2)))
        (panel,) = covariance_chart(made, rng()).panels
        assert panel.y_range == (pytest.approx(least), 100.0)


def test_eight_samples_of_either_model_are_shown():
    images = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    samples = {"first": images.numpy(), "second": (images / 2).numpy()}

    def shown(originals, samples=samples):
        session = made(Session, subject=SimpleNamespace(train=images, originals=originals))
        return gallery(session, samples)

    (block,) = shown(None)
    assert isinstance(block, Gallery)
    assert [item.caption for item in block.items] == [f"start {i}" for i in range(8)]  # pyright: ignore
    assert [picture.label for picture in block.items[0].pictures] == ["first", "second"]  # pyright: ignore
    assert shown(images) == []
    assert shown(None, {name: x.reshape(9, 64) for name, x in samples.items()}) == []

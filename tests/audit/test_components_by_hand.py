"""Components of trajectories of a model that answers one point, and of the noise levels where they are decided."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import made

from counting_denoisers import Always
from diffuscope.audit.component_levels import ComponentLevels, jump_level, measure_components
from diffuscope.audit.session import Session
from diffuscope.audit.subject import Levels
from diffuscope.exact import Gaussian


def session(deviations, levels, states=3, **parts):
    d = len(deviations)
    gaussian = Gaussian(torch.zeros(d).double(), torch.eye(d).double(), torch.tensor(deviations).double() ** 2)
    times = torch.tensor(levels).double()
    return made(
        Session,
        subject=SimpleNamespace(denoiser=Always(*range(1, d + 1)), train=torch.zeros(4, d), scale=1.0, sampled=None),
        references=SimpleNamespace(gaussian=gaussian), levels=Levels(times, times),
        generated={"states": torch.randn(len(levels), states, d, generator=torch.Generator().manual_seed(0)).numpy()},
        **parts,
    )  # fmt: skip


def test_components_beyond_twice_the_lowest_level_are_measured():
    """Twice 0.5 is the deviation of the second: it is not beyond."""
    found = measure_components(session([4.0, 1.0, 0.2], [3.0, 0.5]))
    assert found["variances"].tolist() == [16.0]
    assert found["squares"].shape == (3, 2, 1)
    assert found["squares"].tolist() == [[[1.0]] * 2] * 3  # the first coordinate of (1, 2, 3)
    both = measure_components(session([4.0, 1.0, 0.2], [3.0, 0.499]))
    assert both["variances"].tolist() == [16.0, 1.0]
    assert both["squares"][0, 0].tolist() == [1.0, 4.0]
    many = measure_components(session([20.0 - k for k in range(19)], [3.0, 0.1]))
    assert many["squares"].shape == (3, 2, 16)


@pytest.mark.parametrize(
    ("dimension", "levels", "states", "followed"), [(3, 8, 5, 5), (3, 7, 5, 0), (2, 8, 5, 0), (3, 8, 65, 64)]
)
def test_the_shape_of_trajectories_is_that_of_eight_levels_in_three_dimensions(dimension, levels, states, followed):
    ratios = np.geomspace(5.0, 0.1, levels).tolist()
    found = measure_components(session([4.0, 2.0, 1.0][:dimension], ratios, states))
    for name in ("shares", "gaussian_shares"):
        assert found[name].shape == (followed, levels + 1)
        assert found[name].sum(1) == pytest.approx([1.0] * followed)


def levels_by_hand(squares, variances=(9.0, 1.0)):
    return ComponentLevels(
        ratios=np.array([8.0, 2.0, 0.5]), scale=1.0, variances=np.array(variances), squares=np.array(squares),
        shares=np.zeros((0, 4)), gaussian_shares=np.zeros((0, 4)), dimension=2, skip=8.0, tolerance=0.05,
    )  # fmt: skip


def test_a_component_emerges_relative_to_its_mean_square_at_the_lowest_level():
    """Mean squares 1, 4, 16 and 4, 4, 4 of two trajectories."""
    squares = [[[0.0, 4.0], [2.0, 3.0], [12.0, 8.0]], [[2.0, 4.0], [6.0, 5.0], [20.0, 0.0]]]
    found = levels_by_hand(squares)
    assert found.emerged.tolist() == [[0.25, 1.0], [0.5, 1.0], [1.0, 1.0]]
    assert found.bound.tolist() == [4.0, 2.0]
    # a Gaussian's share is lam / (lam + r^2), in roots and over that at 0.5
    share = np.array([[lam / (lam + r**2) for lam in (9.0, 1.0)] for r in (8.0, 2.0, 0.5)])
    assert found.predicted == pytest.approx(np.sqrt(share / share[-1]))
    assert found.gaussian_levels == pytest.approx([(9 + 2 / 4) ** 0.5, (1 + 2 / 4) ** 0.5])
    assert np.isnan(found.levels).tolist() == [False, True]
    assert found.known.tolist() == [True, False]
    assert 0.5 < found.levels[0] < 2.0


@pytest.mark.parametrize(
    ("high", "variances", "told"), [(0.5, (1.0, 1.0), True), (0.49, (1.0, 1.0), False), (0.9, (90.0, 90.0), False)]
)
def test_a_model_that_decides_all_at_once_is_one_step_where_a_gaussian_would_not(high, variances, told):
    """The mean square at the highest level is at least a half of the lowest one's: 1 / sqrt 2 in roots."""
    squares = [[[2 * high, 2 * high], [2.0, 2.0], [2.0, 2.0]]]
    assert levels_by_hand(squares, variances).one_step == told


def test_the_jump_ends_where_the_question_of_steps_measured_it():
    asked = session([4.0, 1.0], [3.0, 0.5], answers={"steps": SimpleNamespace(result=SimpleNamespace(skip=2.5))})
    assert jump_level(asked) == 2.5
    guided = session(
        [4.0, 1.0], [3.0, 0.5], answers={"steps": SimpleNamespace(result=SimpleNamespace(skip=2.5))},
        settings=SimpleNamespace(step_seeds=5, skip_tolerance=0.05), torch_stream=lambda _: torch.Generator(),
    )  # fmt: skip
    vars(guided.subject)["sampled"] = guided.subject.denoiser
    assert jump_level(guided) == 3.0  # one point is no Gaussian: nowhere

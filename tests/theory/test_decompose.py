"""The decomposition of a deviation: it adds up, and each term is zero where it must be."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VP
from diffuscope.theory.variance import AveragedFields, GaussianBumps, LinearEnsemble, Products, decompose, train_linear
from diffuscope.theory.variance.decompose import true_score

DOUBLE = torch.float64
DATA = Gaussian.isotropic(torch.tensor([0.5], dtype=DOUBLE), 0.3)
SCHEDULE = VP(2.0, 2.0, 0.05)  # alpha = exp(-t)
MODELS = 20
COARSE = torch.linspace(1, 0.05, 6, dtype=DOUBLE)
FINE = torch.linspace(1, 0.05, 41, dtype=DOUBLE)


class Shifted:
    """Scores that differ from the true one by a constant of each model; their average differs by the mean of those."""

    def __init__(self, shifts, scale=None):
        self.schedule, self.shifts = SCHEDULE, shifts
        self.scale = torch.zeros_like(shifts) if scale is None else scale
        self.exact = true_score(DATA, SCHEDULE)

    def __call__(self, x, t):
        shifts, scale = self.shifts[:, None, None], self.scale[:, None, None]
        return self.exact(x, t) + shifts + scale * x

    def mean(self):
        return Shifted(self.shifts.mean(0, keepdim=True), self.scale.mean(0, keepdim=True))

    def leave_out(self, groups):
        def without(values):
            means = values.reshape(groups, -1).mean(1)
            return (groups * values.mean() - means) / (groups - 1)

        return Shifted(without(self.shifts), without(self.scale))


def first_moment(x):
    return x.mean((1, 2))


def second_moment(x):
    return x.square().mean((1, 2))


def starts(batch=50):
    return torch.randn(MODELS, batch, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def drawn(scale):
    return scale * torch.randn(MODELS, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("statistic", [first_moment, second_moment])
def test_the_terms_add_up_to_the_total(statistic):
    found = decompose(Shifted(0.1 + drawn(0.2), drawn(0.2)), DATA, statistic, starts(), times=COARSE, fine=FINE)
    assert sum(term.mean for term in found.terms.values()) == pytest.approx(found.total.mean, abs=1e-12)
    assert found.bias.mean + found.variance.mean == pytest.approx(found.remaining.mean, abs=1e-12)


def test_the_true_score_has_neither_bias_nor_variance_nor_interaction():
    fields = Shifted(torch.zeros(MODELS, dtype=DOUBLE))
    found = decompose(fields, DATA, second_moment, starts(), times=COARSE, fine=FINE)
    for name in ("bias", "variance", "interaction"):
        assert abs(found.terms[name].mean) < 1e-14
        assert found.terms[name].error < 1e-14
    assert found.discretization.mean == found.total.mean != 0


def test_equal_models_have_no_variance():
    found = decompose(
        Shifted(torch.full((MODELS,), 0.4, dtype=DOUBLE)), DATA, second_moment, starts(), times=COARSE, fine=FINE
    )
    assert abs(found.variance.mean) < 1e-14
    assert found.bias.mean > 0.01


def flow_of_a_shift():
    """The true flow is affine with the slope sqrt(v_eps / v_t), v_t = alpha^2 v + sigma^2: a shift c of the score moves
    the end by c int sqrt(v_eps / v_t) D dt, here with D = 1."""
    t = torch.linspace(0.05, 1, 20_001, dtype=DOUBLE)
    v = torch.exp(-2 * t) * 0.3 + 1 - torch.exp(-2 * t)
    return float(torch.trapezoid((v[0] / v).sqrt(), t))


def test_bias_is_the_closed_form_of_a_shifted_score():
    """Heun's error at 40 steps is below 1e-3 of it. The same shift from every start: no error over starts."""
    fields = Shifted(torch.full((MODELS,), 0.3, dtype=DOUBLE))
    found = decompose(fields, DATA, first_moment, starts(20), times=COARSE, fine=FINE)
    assert found.bias.mean == pytest.approx(0.3 * flow_of_a_shift(), rel=1e-3)
    assert found.bias.error < 1e-12


def test_shifts_that_average_to_zero_are_variance_alone():
    """They move the second moment by the square of the slope times their mean square, within 4 standard errors."""
    shifts = drawn(0.5)
    ensemble = Shifted(shifts - shifts.mean())
    found = decompose(ensemble, DATA, second_moment, starts(2000), times=COARSE, fine=FINE)
    expected = flow_of_a_shift() ** 2 * float(ensemble.shifts.square().mean())
    of_starts = 2 * flow_of_a_shift() * float(ensemble.shifts.square().mean().sqrt()) / math.sqrt(MODELS * 2000)
    assert abs(found.bias.mean) < 1e-13
    assert found.variance.mean == pytest.approx(expected, abs=4 * of_starts + 2e-3 * expected)
    assert expected > 40 * of_starts


def test_discretization_vanishes_with_the_steps_at_order_one():
    errors = []
    for steps in (20, 40):
        times = torch.linspace(1, 0.05, steps + 1, dtype=DOUBLE)
        fields = Shifted(torch.zeros(MODELS, dtype=DOUBLE))
        errors.append(decompose(fields, DATA, second_moment, starts(), times=times, fine=FINE).discretization.mean)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.2)


def test_the_limit_is_resolved_at_order_two_and_a_third_of_its_change_is_left():
    """The true flow is affine: from mean and variance at t = 1 to those at 0.05. Half the steps: a quarter, 0.5."""
    fields, x = Shifted(torch.zeros(MODELS, dtype=DOUBLE)), starts(10)
    t = torch.tensor([1, 0.05], dtype=DOUBLE)
    mean, variance = 0.5 * torch.exp(-t), torch.exp(-2 * t) * 0.3 + 1 - torch.exp(-2 * t)
    exact = second_moment(mean[1] + (variance[1] / variance[0]).sqrt() * (x - mean[0])).mean()
    found = [
        decompose(fields, DATA, second_moment, x, times=COARSE, fine=torch.linspace(1, 0.05, n + 1, dtype=DOUBLE))
        for n in (20, 40)
    ]
    assert found[0].unresolved / found[1].unresolved == pytest.approx(4, abs=0.5)
    for each in found:
        assert abs(each.true.mean - float(exact)) == pytest.approx(each.unresolved / 3, rel=0.1)


def test_the_error_of_a_bias_is_that_of_the_average_of_the_models():
    """A first moment is linear in the shifts, where the jackknife is exact: the slope times the error of their mean."""
    shifts = drawn(0.5)
    found = decompose(Shifted(shifts), DATA, first_moment, starts(10), times=COARSE, fine=FINE)
    slope = decompose(
        Shifted(torch.ones(MODELS, dtype=DOUBLE)), DATA, first_moment, starts(10), times=COARSE, fine=FINE
    ).bias.mean
    groups = shifts.reshape(10, 2).mean(1)
    expected = abs(slope) * float(groups.std()) / math.sqrt(10)
    assert found.bias.error == pytest.approx(expected, rel=1e-9)


def test_a_linear_ensemble_can_be_decomposed(generator):
    """With every term: trained on 5 draws by a strong ridge, models are biased towards 0 and differ."""
    features = Products((GaussianBumps(-2, 2, 5, height=1),), GaussianBumps(0, 1, 2, height=1))
    ensemble = train_linear(DATA, SCHEDULE, features, samples=5, models=MODELS, ridge=0.5, generator=generator)
    assert isinstance(ensemble, AveragedFields)
    assert isinstance(ensemble, LinearEnsemble)
    found = decompose(ensemble, DATA, first_moment, starts(), times=COARSE, fine=FINE)
    assert found.bias.mean < -4 * found.bias.error
    assert sum(term.mean for term in found.terms.values()) == pytest.approx(found.total.mean, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"x": starts()[:7]}, "x"),
        ({"x": starts()[:5]}, "x"),
        ({"fine": FINE[1:]}, "fine"),
        ({"fine": FINE[:-1]}, "fine"),
        ({"fine": FINE[[0, -1]]}, "fine"),
        ({"statistic": lambda x: x.mean()}, "statistic"),
        ({"statistic": lambda x: x.mean((1, 2)) * math.nan}, "statistic"),
        ({"times": COARSE.flip(0), "fine": FINE.flip(0)}, "times"),
        ({"x": starts() * math.inf}, "x"),
    ],
)
def test_a_mistake_is_named(change, argument):
    given = {"x": starts(), "statistic": first_moment, "times": COARSE, "fine": FINE} | change
    fields = Shifted(torch.zeros(len(given["x"]), dtype=DOUBLE))
    with pytest.raises(InputError, match=rf"^{argument}: expected"):
        decompose(fields, DATA, given["statistic"], given["x"], times=given["times"], fine=given["fine"])

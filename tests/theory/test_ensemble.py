"""The covariance of an ensemble: exact members of known covariance, leave-one-out, coverage, and semiclassical ends."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, Schedule
from diffuscope.theory.variance import (
    Affine,
    AveragedFields,
    Ensemble,
    Jackknifed,
    LinearEnsemble,
    Quenched,
    decompose,
    member_ends,
    quenched_sample,
    semiclassical_quenched,
    split_variance,
)

SCHEDULE = VP()
T, U = 0.4, 0.7


@dataclass(frozen=True)
class OfScore:
    """The denoiser whose score is `function(x, t)`."""

    function: Callable[[Tensor, float], Tensor]
    schedule: Schedule = SCHEDULE

    def __call__(self, x_t, t):
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return (x_t + sigma**2 * self.function(x_t, t)) / alpha


def linear(W):
    return OfScore(lambda x, t: (1 + t) * x @ W.T)


def normal(generator, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_linear_members_have_the_covariance_of_their_weights(generator):
    """s = (1 + t) W x with W_ab ~ N(0, v): Cov(s_a(x, t), s_b(y, u)) = v (1 + t)(1 + u) x.y delta_ab, 4.5 errors."""
    v, members = 0.3, 500
    ensemble = Ensemble([linear(math.sqrt(v) * normal(generator, 3, 3)) for _ in range(members)])
    x, y = normal(generator, 10, 3), normal(generator, 10, 3)
    exact = v * (1 + T) * (1 + U) * (x * y).sum(1)[:, None, None] * torch.eye(3, dtype=torch.float64)
    size = v * (1 + T) * (1 + U) * x.norm(dim=1) * y.norm(dim=1)
    error = (size[:, None, None].square() + exact.square()).div(members).sqrt()
    found = ensemble.covariance(x, T, y, U)
    assert float(((found - exact) / error).abs().max()) <= 4.5
    jackknifed = ensemble.jackknife(x, T, y, U)
    assert torch.allclose(jackknifed.value, found, rtol=1e-13, atol=0)
    assert float((jackknifed.error / error).log().abs().max()) <= math.log(1.5)
    assert isinstance(ensemble, Quenched)


def of_weights(weights):
    """Networks with the weights of a linear ensemble, one by one."""
    alone = [LinearEnsemble(Affine(), SCHEDULE, row[None]) for row in weights]
    return Ensemble([OfScore(lambda x, t, one=one: one(x[None], t)[0]) for one in alone])


def test_networks_as_fields_their_mean_and_their_groups_are_those_of_a_linear_ensemble(generator):
    """Averages of scores that are linear in the weights are scores of averaged weights."""
    weights, x = normal(generator, 6, 1, 2), normal(generator, 6, 5, 1)
    networks, linear = of_weights(weights).fields(), LinearEnsemble(Affine(), SCHEDULE, weights)
    assert isinstance(networks, AveragedFields)
    torch.testing.assert_close(networks(x, T), linear(x, T), rtol=0, atol=1e-12)
    torch.testing.assert_close(networks.mean()(x, T), linear.mean()(x, T), rtol=0, atol=1e-12)
    for groups in (2, 3, 6):
        found, exact = networks.leave_out(groups), linear.leave_out(groups)
        torch.testing.assert_close(found(x[:groups], T), exact(x[:groups], T), rtol=0, atol=1e-12)
        torch.testing.assert_close(found.weights.sum(1), torch.ones(groups).double(), rtol=0, atol=1e-15)


def test_networks_decompose_as_a_linear_ensemble(generator):
    weights, x = 0.3 * normal(generator, 10, 1, 2), normal(generator, 10, 4, 1)
    times, fine = (torch.linspace(0.9, 0.1, n).double() for n in (4, 9))
    data = Gaussian.isotropic(torch.tensor([0.5]), 0.3)
    networks, linear = (
        decompose(models, data, lambda x: x.square().mean((1, 2)), x, times=times, fine=fine)
        for models in (of_weights(weights).fields(), LinearEnsemble(Affine(), SCHEDULE, weights))
    )
    for name, term in linear.terms.items():
        assert networks.terms[name].mean == pytest.approx(term.mean, abs=1e-10)
        assert networks.terms[name].error == pytest.approx(term.error, abs=1e-10)
    assert linear.terms["variance"].mean != 0


def test_the_jackknife_error_is_that_of_leaving_every_member_out(generator):
    members = [linear(normal(generator, 2, 2)) for _ in range(7)]
    x = normal(generator, 4, 2)
    whole = Ensemble(members).trace(x, T)
    without = torch.stack([Ensemble(members[:i] + members[i + 1 :]).trace(x, T).value for i in range(7)])
    error = (6 / 7 * (without - without.mean(0)).square().sum(0)).sqrt()
    assert torch.allclose(whole.error, error, rtol=1e-12, atol=0)
    direct = torch.stack([member.function(x, T) for member in members]).var(0).sum(1)
    assert torch.allclose(whole.value, direct, rtol=1e-12, atol=0)


@pytest.mark.parametrize("members", [8, 16, 32])
def test_the_interval_of_a_trace_covers_at_its_nominal_rate(members, generator):
    """Gaussian members that are independent from point to point, d = 4: 95% of 2,000 points, within 3 errors of it."""
    points = 2000
    tables = normal(generator, members, points, 4)
    ensemble = Ensemble([OfScore(lambda x, t, own=own: own) for own in tables])  # noqa: ARG005
    low, high = ensemble.trace(torch.zeros(points, 4, dtype=torch.float64), T).interval()
    covered = float(((low <= 4) & (high >= 4)).double().mean())
    assert abs(covered - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / points)


def test_the_interval_is_narrower_for_less_confidence(generator):
    one = Jackknifed.of(normal(generator, 9, 1).square())
    (low, high), (wide_low, wide_high) = one.interval(0.5), one.interval(0.99)
    assert wide_low < low < one.value < high < wide_high


def test_equal_members_have_no_variance_and_an_interval_without_width():
    low, high = Ensemble([linear(torch.eye(2, dtype=torch.float64))] * 3).trace(X[:, :2], T).interval()
    assert torch.equal(low, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(high, low)


def test_fields_have_the_mean_and_the_covariance_of_the_ensemble(generator):
    """5,000 fields, each at the same two points: 4.5 standard errors."""
    ensemble, fields = Ensemble([linear(normal(generator, 2, 2)) for _ in range(5)]), 5000
    x = normal(generator, 2, 2)
    drawn = ensemble.draw(fields, generator=generator)(x.expand(fields, -1, -1), T)
    i, j = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    exact = ensemble.covariance(x[i], T, x[j], T)
    own = ensemble.covariance(x, T, x, T).diagonal(dim1=1, dim2=2)
    error = ((own[i][:, :, None] * own[j][:, None, :] + exact.square()) / fields).sqrt()
    deviations = drawn - drawn.mean(0)
    found = torch.einsum("fpa,fpb->pab", deviations[:, i], deviations[:, j]) / (fields - 1)
    assert float(((found - exact) / error).abs().max()) <= 4.5
    assert float(((drawn.mean(0) - ensemble.score(x, T)) / (own / fields).sqrt()).abs().max()) <= 4.5


def test_half_the_squared_difference_of_two_members_is_the_variance_on_average(generator):
    """400 pairs of linear members at one point: (1 + t)^2 v d |x|^2 within 4 standard errors."""
    x, v = normal(generator, 1, 3), 0.2
    pairs = [[linear(math.sqrt(v) * normal(generator, 3, 3)) for _ in range(2)] for _ in range(400)]
    found = torch.cat([split_variance(first, second, x, T) for first, second in pairs])
    assert monte_carlo(found).agrees_with(float((1 + T) ** 2 * v * 3 * x.square().sum()))


def curved(generator, size):
    """A member that is a nonlinear function of x, at the distance `size` from the common one."""
    W, V = normal(torch.Generator().manual_seed(1), 2, 2), size * normal(generator, 2, 2)
    return OfScore(lambda x, t: -torch.tanh(x @ W.T) / (1 + t) + torch.sin(x @ V.T))


def test_semiclassical_ends_of_members_are_those_of_the_quenched_kernel(generator):
    ensemble, x = Ensemble([curved(generator, 0.5) for _ in range(5)]), normal(generator, 6, 2)
    times = torch.linspace(1, 0.1, 12, dtype=torch.float64)
    ends, theory = member_ends(ensemble, x, times), semiclassical_quenched(ensemble, x, times)
    assert torch.allclose(ends.covariance, theory.covariance, rtol=1e-11, atol=1e-14)
    assert torch.allclose(ends.mean, theory.mean, rtol=1e-13, atol=0)
    assert torch.allclose(ends.variance.value, theory.covariance.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-11, atol=0)


def test_the_error_of_semiclassical_ends_is_of_second_order(generator):
    """Members at half the distance: a quarter of the error, within 15%."""
    x, times = normal(generator, 6, 2), torch.linspace(1, 0.1, 12, dtype=torch.float64)

    def error(size):
        members = [curved(torch.Generator().manual_seed(7 + i), size) for i in range(4)]
        ensemble = Ensemble(members)
        ends = member_ends(ensemble, x, times)

        def each(points, t):
            return torch.stack([member.function(own, float(t)) for member, own in zip(members, points, strict=True)])

        exact = quenched_sample(each, SCHEDULE, x.expand(4, -1, -1), times)
        return float((ends.mean + ends.deviations - exact).norm())

    assert error(0.02) / error(0.01) == pytest.approx(4, rel=0.15)


def test_the_trace_along_a_trajectory_is_the_drift_variance(generator):
    """V = (g^2 / 2)^2 Cov at every state."""
    ensemble, states = Ensemble([linear(normal(generator, 2, 2)) for _ in range(4)]), normal(generator, 3, 5, 2)
    times = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    along = ensemble.along(states, times)
    for k, t in enumerate(times):
        V = (SCHEDULE.g_squared(t) / 2) ** 2 * ensemble.covariance(states[k], t, states[k], t)
        assert torch.allclose(along.value[k], V.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-12, atol=0)


class WithoutGradient(OfScore):
    @torch.no_grad()
    def __call__(self, x_t, t):
        return super().__call__(x_t.detach(), t)


ONE = OfScore(lambda x, t: x)  # noqa: ARG005
X, TIMES = torch.ones(2, 3, dtype=torch.float64), torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([ONE, ONE]), r"^denoisers: expected at least 3, got 2$"),
        (lambda: Ensemble([ONE, ONE, OfScore(torch.mul, VE(0.1, 5.0))]), r"^denoisers: expected one schedule"),
        (lambda: Ensemble([OfScore(lambda x, t: x / 0)] * 3).score(X, T), r"^denoisers: expected finite answers"),  # noqa: ARG005
        (lambda: Ensemble([ONE] * 3).score(X, 0.0), r"^t: expected a time with sigma > 0, got 0$"),
        (lambda: Ensemble([ONE] * 3).draw(0, generator=torch.Generator()), r"^fields: expected at least 1, got 0$"),
        (lambda: Ensemble([ONE] * 3).trace(X, T).interval(1.0), r"^confidence: expected a number between 0 and 1"),
        (lambda: Jackknifed.of(X), r"^members: expected at least 3 for a standard error, got 2$"),
        (lambda: split_variance(ONE, OfScore(torch.mul, VE(0.1, 5.0)), X, T), r"^second: expected the schedule"),
        (lambda: member_ends(Ensemble([ONE] * 3), X / 0, TIMES), r"^x: expected finite points"),
        (
            lambda: member_ends(Ensemble([WithoutGradient(ONE.function)] * 3), X, TIMES),
            r"^denoisers: expected ones that autograd can differentiate",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_fields_of_another_number_are_refused(generator):
    fields = of_weights(normal(generator, 6, 1, 2)).fields()
    with pytest.raises(InputError, match="x: expected points of 6 members, got 5"):
        fields(normal(generator, 5, 2, 1), T)
    with pytest.raises(InputError, match="x: expected points of 3 fields, got 2"):
        fields.leave_out(3)(normal(generator, 2, 2, 1), T)
    for groups in (1, 4, 7):
        with pytest.raises(InputError, match=f"groups: expected a divisor >= 2 of the 6 members, got {groups}"):
            fields.leave_out(groups)

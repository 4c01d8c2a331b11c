"""Every identity between alpha, sigma, their derivatives, lambda and the SDE's coefficients."""

import decimal
import math
from collections.abc import Callable
from decimal import Decimal

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import (
    VE,
    VP,
    Cosine,
    DiscreteVP,
    GeometricVE,
    Karras,
    RectifiedFlow,
    Schedule,
    Sigmoid,
    ZeroTerminalVP,
)

# as coarse as can be, so that many of the times below lie in its last step
ZERO_TERMINAL = ZeroTerminalVP((0.1, 0.3, 0.6, 1.0))
SCHEDULES = [
    VE(),
    GeometricVE(),
    Karras(),
    VP(),
    DiscreteVP.linear(),
    ZERO_TERMINAL,
    Cosine(),
    Sigmoid(),
    Sigmoid(start=0.0, end=3.0, tau=0.7),
    RectifiedFlow(),
]
VARIANCE_PRESERVING = [VP(), DiscreteVP.linear(), ZERO_TERMINAL, Cosine(), Sigmoid()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)


def interior(schedule: Schedule) -> Tensor:
    """Times strictly inside the range; never at the kinks that a discrete chain has at whole steps."""
    share = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    times = schedule.t_min + share * (schedule.t_max - schedule.t_min)
    return times + 0.123 * (times == times.round())


def slope(function: Callable[[Tensor], Tensor], times: Tensor) -> Tensor:
    """d function / dt by automatic differentiation, time by time."""
    t = times.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(t).sum(), t)
    return gradient


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float(((value - truth).abs() / truth.abs().clamp(min=1e-300)).nan_to_num(0.0).max())


@every_schedule
def test_alpha_dot_and_sigma_dot_are_the_derivatives(schedule):
    t = interior(schedule)
    flat = torch.zeros_like(t) if isinstance(schedule, VE | GeometricVE | Karras) else slope(schedule.alpha, t)
    assert relative_error(schedule.alpha_dot(t), flat) < 1e-10
    assert relative_error(schedule.sigma_dot(t), slope(schedule.sigma, t)) < 1e-10


@every_schedule
def test_f_is_the_derivative_of_log_alpha(schedule):
    t = interior(schedule)
    truth = (
        torch.zeros_like(t) if bool((schedule.alpha_dot(t) == 0).all()) else slope(lambda u: schedule.alpha(u).log(), t)
    )
    assert relative_error(schedule.f(t), truth) < 1e-10


@every_schedule
def test_g_squared_is_minus_two_sigma_squared_lambda_dot(schedule):
    t = interior(schedule)
    assert relative_error(schedule.g_squared(t), -2 * schedule.sigma(t) ** 2 * slope(schedule.lam, t)) < 1e-10


@every_schedule
def test_lambda_decreases_and_its_inverse_returns_the_time(schedule):
    t = interior(schedule)
    lam = schedule.lam(t)
    assert bool((lam[1:] < lam[:-1]).all())
    assert relative_error(schedule.time_of_lambda(lam), t) < 1e-10
    assert relative_error(schedule.time_of_noise_to_signal(schedule.noise_to_signal(t)), t) < 1e-10


@every_schedule
def test_the_inverse_of_lambda_has_the_inverse_derivative(schedule):
    t = interior(schedule)
    lam = schedule.lam(t).detach()
    assert relative_error(slope(schedule.time_of_lambda, lam), 1 / slope(schedule.lam, t)) < 1e-8


@every_schedule
def test_noise_grows_signal_shrinks_and_every_answer_is_float64(schedule):
    t = interior(schedule)
    assert bool((schedule.sigma(t).diff() > 0).all())
    assert bool((schedule.alpha(t).diff() <= 0).all())
    for function in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot, schedule.lam):
        assert function(t.float()).dtype == torch.float64
        assert function(0.5 * (schedule.t_min + schedule.t_max)).dtype == torch.float64


@every_schedule
def test_sampling_stops_with_noise_left_and_starts_with_noise(schedule):
    assert 0 < float(schedule.sigma(schedule.t_min)) < float(schedule.sigma(schedule.t_max)) < math.inf
    assert float(schedule.alpha(schedule.t_min)) > 0


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING, ids=lambda schedule: type(schedule).__name__)
def test_variance_is_preserved(schedule):
    t = interior(schedule)
    assert float((schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 - 1).abs().max()) < 1e-14


def test_vp_is_the_ornstein_uhlenbeck_process_with_linear_beta():
    t = interior(VP())
    beta = 0.1 + 19.9 * t
    assert relative_error(VP().f(t), -beta / 2) < 1e-13
    assert relative_error(VP().g_squared(t), beta) < 1e-12
    # log alpha(1) = -(0.1 + 19.9 / 2) / 2
    assert relative_error(VP().alpha(1.0), torch.tensor(math.exp(-5.025), dtype=torch.float64)) < 1e-14


def test_a_chain_of_zero_terminal_snr_is_ddpms_chain_until_a_last_step_to_pure_noise():
    t = torch.tensor([0.0, 0.5, 1.0, 2.25, 3.0], dtype=torch.float64)
    chain = DiscreteVP(ZERO_TERMINAL.betas[:-1])
    assert torch.equal(ZERO_TERMINAL.alpha(t), chain.alpha(t))
    assert torch.equal(ZERO_TERMINAL.sigma(t), chain.sigma(t))
    end = ZERO_TERMINAL.t_max
    assert (float(ZERO_TERMINAL.alpha(end)), float(ZERO_TERMINAL.sigma(end)), end) == (0.0, 1.0, 4.0)
    assert float(ZERO_TERMINAL.time_of_noise_to_signal(math.inf)) == end
    # alpha falls linearly there
    assert float(ZERO_TERMINAL.alpha(3.75)) == pytest.approx(float(ZERO_TERMINAL.alpha(3.0)) / 4, rel=1e-14)
    assert float(ZERO_TERMINAL.alpha_dot(end)) == pytest.approx(-float(ZERO_TERMINAL.alpha(3.0)), rel=1e-14)
    # where the last step begins, the derivative is that of the step
    assert float(ZERO_TERMINAL.alpha_dot(3.0)) == -float(ZERO_TERMINAL.alpha(3.0))
    for betas in ((0.1, 0.2), (1.0,), (0.1, 1.0, 1.0), (0.1, 0.0, 1.0)):
        with pytest.raises(InputError, match="betas: expected at least two steps"):
            ZeroTerminalVP(betas)


def test_ddpm_chain_has_its_known_signal_levels():
    chain = DiscreteVP.linear()
    # the published entries 100, 300, 500 of the table count from zero: one more step each
    alpha_bar = chain.alpha(torch.tensor([101.0, 301.0, 501.0, 1000.0], dtype=torch.float64)) ** 2
    assert [round(value, 4) for value in alpha_bar[:3].tolist()] == [0.8951, 0.3940, 0.0778]
    assert f"{float(alpha_bar[3]):.2e}" == "4.04e-05"


def test_discrete_chain_at_whole_steps_is_the_cumulative_product():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    chain = DiscreteVP(tuple(betas.tolist()))
    alpha_bar = (1 - betas).cumprod(0)
    steps = torch.arange(1, 1001, dtype=torch.float64)
    assert relative_error(chain.alpha(steps) ** 2, alpha_bar) < 1e-12
    assert relative_error(chain.time_of_lambda(chain.lam(steps)), steps) < 1e-12
    assert float(chain.alpha(0)) == 1
    assert float(chain.sigma(0)) == 0
    # the first step adds exactly beta_1
    assert relative_error(chain.sigma(1.0) ** 2, betas[0]) < 1e-14


def test_sigmoid_signal_decreases_from_one_to_exactly_zero():
    for schedule in (Sigmoid(), Sigmoid(start=-2.0, end=5.0, tau=0.4)):
        assert float(schedule.alpha(0.0)) == pytest.approx(1, abs=1e-15)
        assert float(schedule.alpha(1.0)) == 0
        assert float(schedule.sigma(0.0)) == 0
        assert float(schedule.sigma(1.0)) == pytest.approx(1, abs=1e-15)


def test_sigmoid_leaves_pure_noise_with_infinite_alpha_dot_and_finite_sigma_dot():
    schedule = Sigmoid()
    # alpha^2 ~ c (1 - t) near t = 1, so alpha' = -inf and sigma' = c / 2 with c = S'(end) / (S(end) - S(start))
    logistic = 1 / (1 + math.exp(-3))
    c = logistic * (1 - logistic) * 6 / (2 * logistic - 1)
    assert float(schedule.alpha_dot(1.0)) == -math.inf
    assert float(schedule.sigma_dot(1.0)) == pytest.approx(c / 2, rel=1e-14)


def test_cosine_signal_falls_from_one_to_exactly_zero():
    schedule = Cosine()
    assert float(schedule.alpha(0.0)) == pytest.approx(1, abs=1e-15)
    assert float(schedule.alpha(1.0)) == 0
    assert float(schedule.sigma(0.0)) == 0
    assert float(schedule.sigma(1.0)) == pytest.approx(1, abs=1e-15)
    # midway, by the definition: cos((1/2 + s)/(1 + s) pi/2) / cos(s/(1 + s) pi/2)
    midway = math.cos(0.508 / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert float(schedule.alpha(0.5)) == pytest.approx(midway, rel=1e-14)


def test_rectified_flow_is_straight():
    schedule = RectifiedFlow()
    assert float(schedule.alpha(0.25)) == 0.75
    assert float(schedule.sigma(0.25)) == 0.25
    assert float(schedule.alpha(1.0)) == 0
    assert float(schedule.time_of_lambda(-math.inf)) == 1
    assert float(schedule.time_of_lambda(math.inf)) == 0


def test_karras_and_geometric_schedules_reach_their_levels():
    for schedule in (VE(0.002, 80.0), Karras(0.002, 80.0), GeometricVE(0.002, 80.0)):
        assert float(schedule.sigma(schedule.t_min)) == pytest.approx(0.002, rel=1e-13)
        assert float(schedule.sigma(schedule.t_max)) == pytest.approx(80, rel=1e-13)


def decimal_cos(x: Decimal) -> Decimal:
    """cos by its Taylor series, to the working precision."""
    term, total, n = Decimal(1), Decimal(1), 0
    while abs(term) > Decimal(10) ** -60:
        n += 2
        term *= -x * x / (n * (n - 1))
        total += term
    return total


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def decimal_logistic(u: Decimal) -> Decimal:
    return 1 / (1 + (-u).exp())


def vp_variance(t: Decimal) -> Decimal:
    return 1 - (-(Decimal(VP().beta_min) * t + (Decimal(VP().beta_max) - Decimal(VP().beta_min)) * t * t / 2)).exp()


def cosine_variance(t: Decimal) -> Decimal:
    s = Decimal(Cosine().s)
    a, b = (t + s) / (1 + s) * PI / 2, s / (1 + s) * PI / 2
    return 1 - (decimal_cos(a) / decimal_cos(b)) ** 2


def sigmoid_variance(t: Decimal) -> Decimal:
    low, high = decimal_logistic(Decimal(-3)), decimal_logistic(Decimal(3))
    return 1 - (high - decimal_logistic(-3 + 6 * t)) / (high - low)


@pytest.mark.parametrize(
    ("schedule", "variance"),
    [(VP(), vp_variance), (Cosine(), cosine_variance), (Sigmoid(), sigmoid_variance)],
    ids=["VP", "Cosine", "Sigmoid"],
)
def test_sigma_keeps_full_precision_near_clean_data(schedule, variance):
    with decimal.localcontext() as context:
        context.prec = 60
        for t in (1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.7):
            exact = float(variance(Decimal(t)).sqrt())
            assert float(schedule.sigma(t)) == pytest.approx(exact, rel=4e-15), t


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VE(80.0, 0.002), "sigma_min, sigma_max: expected 0 < minimum < maximum"),
        (lambda: VE(0.0, 1.0), "sigma_min, sigma_max: expected 0 < minimum < maximum"),
        (lambda: VE(1.0, 1.0), "sigma_min, sigma_max: expected 0 < minimum < maximum"),
        (lambda: GeometricVE(0.0, 1.0), "sigma_min, sigma_max: expected 0 < minimum < maximum"),
        (lambda: GeometricVE(0.1, math.inf), "sigma_min, sigma_max: .*finite"),
        (lambda: Karras(0.0, 1.0), "sigma_min, sigma_max: expected 0 < minimum < maximum"),
        (lambda: Karras(rho=0.0), "rho: expected a finite number > 0"),
        (lambda: Karras(rho=math.inf), "rho: expected a finite number > 0"),
        (lambda: VP(0.0, 1.0), "beta_min, beta_max: expected 0 < minimum <= maximum"),
        (lambda: VP(2.0, 1.9), "beta_min, beta_max: expected 0 < minimum <= maximum"),
        (lambda: VP(2.0, math.inf), "beta_min, beta_max: .*finite"),
        (lambda: DiscreteVP((0.1, 1.0)), "betas: expected .*0 < beta < 1"),
        (lambda: DiscreteVP((0.1, 0.0)), "betas: expected .*0 < beta < 1"),
        (lambda: DiscreteVP(()), "betas: expected at least one step"),
        (
            lambda: DiscreteVP((0.95, 0.4, 0.02)),
            r"betas: expected a first step that leaves most of the signal, got 0\.95 falling to 0\.02; of products",
        ),
        (lambda: Sigmoid(start=3.0, end=-3.0), "start, end, tau: expected finite start < end"),
        (lambda: Sigmoid(start=3.0, end=3.0), "start, end, tau: expected finite start < end"),
        (lambda: Sigmoid(start=-math.inf), "start, end, tau: expected finite start < end"),
        (lambda: Sigmoid(end=math.inf), "start, end, tau: expected finite start < end"),
        (lambda: Sigmoid(tau=math.inf), "start, end, tau: .* tau > 0"),
        (lambda: Sigmoid(tau=0.0), "start, end, tau: .* tau > 0"),
        (lambda: Sigmoid(tau=math.nan), "start, end, tau: .* tau > 0"),
        (lambda: Cosine(s=-0.1), "s: expected a finite number >= 0, got -0.1"),
        (lambda: Cosine(s=math.inf), "s: expected a finite number >= 0"),
        (lambda: VP(epsilon=-0.1), "epsilon: expected 0 <= epsilon < 1"),
        (lambda: Cosine(epsilon=math.nan), "epsilon: expected 0 <= epsilon < 1"),
        (lambda: Sigmoid(epsilon=1.0), "epsilon: expected 0 <= epsilon < 1"),
        (lambda: RectifiedFlow(epsilon=2.0), "epsilon: expected 0 <= epsilon < 1"),
    ],
)
def test_schedules_that_cannot_be_are_refused_with_the_argument(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_what_lies_just_at_the_bound_is_accepted():
    assert VP(2.0, 2.0).beta_max == 2.0
    assert DiscreteVP((0.5,)).t_max == 1.0
    assert Cosine(s=0.0, epsilon=0.0).t_min == 0.0
    assert (ZeroTerminalVP((0.5, 1.0)).t_max, ZeroTerminalVP((0.5, 1.0)).t_min) == (2.0, 1.0)
    assert DiscreteVP((1e-12, 1 - 1e-12)).t_max == 2.0
    assert DiscreteVP((0.9, 0.5)).t_max == DiscreteVP((0.95, 0.9)).t_max == 2.0
    for kind in (VE, GeometricVE, Karras):
        narrow = kind(1.0, 1.0 + 1e-12)
        assert narrow.t_min < narrow.t_max
    assert Karras(rho=1e-3).rho == 1e-3
    assert Sigmoid(start=-3.0, end=-3.0 + 1e-9, tau=1e-9).end < 0
    assert RectifiedFlow(epsilon=1 - 1e-12).t_min < 1


def test_defaults_are_those_of_the_publications():
    """Karras et al. 2022; Song et al. 2021; Ho et al. 2020; Nichol & Dhariwal 2021; Chen 2023."""
    assert (VE().sigma_min, VE().sigma_max) == (0.002, 80.0) == (Karras().sigma_min, Karras().sigma_max)
    assert Karras().rho == 7.0
    assert (GeometricVE().sigma_min, GeometricVE().sigma_max) == (0.01, 50.0)
    assert (VP().beta_min, VP().beta_max) == (0.1, 20.0)
    assert (Cosine().s, Sigmoid().start, Sigmoid().end, Sigmoid().tau) == (0.008, -3.0, 3.0, 1.0)
    betas = DiscreteVP.linear().betas
    assert (len(betas), betas[0], betas[-1]) == (1000, 1e-4, 0.02)
    assert betas[499] + betas[500] == pytest.approx(0.0201, rel=1e-12)
    assert [schedule().t_min for schedule in (VP, Cosine, Sigmoid, RectifiedFlow)] == [1e-3] * 4
    for schedule in (GeometricVE, Karras, VP, Cosine, Sigmoid, RectifiedFlow):
        assert schedule().t_max == 1.0
    assert (GeometricVE().t_min, Karras().t_min, VE().t_min, VE().t_max) == (0.0, 0.0, 0.002, 80.0)


@every_schedule
def test_the_inverse_of_lambda_ends_where_the_signal_does(schedule):
    """Pure noise is at the last time of a schedule that has it, to rounding and not beyond."""
    end = schedule.time_of_lambda(-math.inf)
    if float(schedule.alpha(schedule.t_max)) == 0:
        assert schedule.t_max - 1e-14 <= float(end) <= schedule.t_max
    # as rounding leaves lambda, a little off
    lam = schedule.lam(interior(schedule)[-1]) * (1 + 1e-13)
    assert schedule.t_min <= float(schedule.time_of_lambda(lam)) <= schedule.t_max

"""Samplers as shipped, with plans made by hand: DDIM at given levels, whose moments on a Gaussian are products."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.certify import flow
from diffuscope.certify.as_shipped import (
    Errors,
    Plan,
    Shipped,
    affine,
    ddim,
    ddim_moments,
    distinct,
    errors_of,
    marginal,
    noise,
    shipped_gaussian,
    shipped_mixture,
    signal,
)
from diffuscope.certify.as_shipped_certificate import certify_as_shipped
from diffuscope.certify.as_shipped_questions import Trial, branching, convergence, end, levels, runs, start, tried
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.findings import Finding
from numbers_in_tests import double

M, V = 0.5, 0.25
LINE = Gaussian(torch.tensor([M]).double(), torch.ones(1, 1).double(), torch.tensor([V]).double())
AT, TOLD, END = (3.0, 1.0, 0.3), (2.5, 1.2, 0.3), 0.1
AFTER = math.nextafter(1, 2)  # times a number: the next one


def parts(ratio: float) -> tuple[float, float]:
    """a and b as cosine and sine of the angle of r = b/a."""
    return math.cos(math.atan(ratio)), math.sin(math.atan(ratio))


def planned(
    attributed: Sequence[float] = AT, told: Sequence[float] | None = None, *, end: float = END, **given: Any
) -> Plan:
    """DDIM over the attributed levels, whose network answers for those `told`."""
    asked, all_levels = told or attributed, [*attributed, end]

    def denoise(distribution: Distribution, x: Tensor, i: int) -> Tensor:
        return distribution.denoise(x, *parts(asked[i]))

    def run(distribution: Distribution, x: Tensor, generator: torch.Generator | None) -> Tensor:  # noqa: ARG001
        for i, (now, then) in enumerate(pairwise(map(parts, all_levels))):
            clean = denoise(distribution, x, i)
            x = then[0] * clean + then[1] * (x - now[0] * clean) / now[1]
        return x

    prepared: dict[str, Any] = {
        "timesteps": double(*range(len(attributed), 0, -1)), "attributed": double(*attributed),
        "told": double(*asked), "off": torch.zeros(len(attributed)).double(), "start": 1.0, "end": end,
        "end_scale": 1.0, "draws": 0, "run": run, "denoise": denoise,
    }  # fmt: skip
    return Plan(**(prepared | given))


def moments(attributed: Sequence[float], told: Sequence[float], end: float) -> tuple[float, float, float]:
    """Slope, mean and variance of DDIM's sample from the exact start on LINE, one step after another."""
    a, b = parts(attributed[0])
    slope, mean, variance = 1.0, a * M, a * a * V + b * b
    for (now, then), asked in zip(pairwise([*attributed, end]), told, strict=True):
        (a, b), (a_next, b_next), (a_told, b_told) = parts(now), parts(then), parts(asked)
        gain = a_told * V / (a_told**2 * V + b_told**2)
        weight = a_next - a * b_next / b
        k = b_next / b + weight * gain
        slope, mean, variance = slope * k, k * mean + weight * (1 - gain * a_told) * M, k * k * variance
    return slope, mean, variance


def of(steps: int = 50, **given: float) -> Errors:
    """Small errors, but for those given."""
    small = {"discretization": 0.001, "ideal": 0.001, "told": 0.001, "mean_bias": 0.0, "spread_bias": 0.0, "misfit": 0}
    return Errors(steps=steps, **{name: float(value) for name, value in (small | given).items()})


def trial(steps: int = 50, plan: Plan | None = None, **given: float) -> Trial:
    return Trial(steps, plan or planned(), of(steps, **given))


def test_signal_and_noise_are_cosine_and_sine_up_to_infinity() -> None:
    for r in (0.0, 0.3, 1.0, 40.0, math.inf):
        assert (float(signal(r)), float(noise(r))) == pytest.approx(parts(r), abs=1e-15)


def test_the_data_are_as_described() -> None:
    data, mixture = shipped_gaussian(), shipped_mixture()
    covariance = data.eigenvectors @ torch.diag(data.eigenvalues) @ data.eigenvectors.T
    assert data.eigenvalues.sqrt().tolist() == pytest.approx([0.4, 0.2])
    assert data.mean.tolist() == [0.5, -0.3]
    assert torch.allclose(data.eigenvectors.T @ data.eigenvectors, torch.eye(2).double(), atol=1e-15)
    assert torch.allclose(marginal(data, 0.0)[1], covariance, atol=1e-15)
    assert bool((covariance[0, 1] != 0) & (data.mean.abs() + 3 * covariance.diagonal().sqrt() < 1.8).all())
    drawn = mixture.sample(1000, generator=torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) < 1.5


@pytest.mark.parametrize("told", [AT, TOLD])
def test_errors_are_those_of_the_moments_of_ddim_step_by_step(told: Sequence[float]) -> None:
    plan = planned(AT, told, start=0.8, off=double(0.0, 0.011, 0.0))
    found, (a, b) = errors_of(plan, LINE, 7), parts(END)
    exact_mean, exact_variance = a * M, a * a * V + b * b

    def distance(asked: Sequence[float]) -> float:
        _, mean, variance = moments(AT, asked, END)
        return max(abs(mean - exact_mean) / exact_variance**0.5, abs(variance / exact_variance - 1))

    slope = moments(AT, told, END)[0]
    a, b = parts(AT[0])
    assert found.steps == 7
    assert found.discretization == pytest.approx(distance(told), rel=1e-9)
    assert found.told == pytest.approx(distance(told), rel=1e-9)
    assert found.ideal == pytest.approx(distance(AT), rel=1e-9)
    assert found.mean_bias == pytest.approx(slope * a * M / exact_variance**0.5, rel=1e-9)
    assert found.spread_bias == pytest.approx(slope**2 * (0.8**2 - a * a * V - b * b) / exact_variance, rel=1e-9)
    assert found.misfit < 1e-12
    same = errors_of(dataclasses.replace(plan, off=double(0.0, -0.01, 0.0)), LINE, 7)  # the same to a hundredth
    assert (same.told, same.discretization) == (found.ideal, found.discretization)


def test_the_bias_of_the_spread_is_the_largest_with_its_sign() -> None:
    data = Gaussian(double(0.5, -0.75), torch.eye(2).double(), double(4.0, 0.25))
    plan = planned((1.0, 0.5), end=0.0)
    found, exact = errors_of(plan, data, 2), marginal(data, 0.0)[1].diagonal()
    factors = [moments_of(v)[0] for v in (4.0, 0.25)]
    biases = [k * k * (1 - (v + 1) / 2) / float(exact.max()) for k, v in zip(factors, (4.0, 0.25), strict=True)]
    assert biases[0] < 0 < biases[1] < -biases[0]
    assert found.spread_bias == pytest.approx(biases[0], rel=1e-9)
    means = [k * 0.5**0.5 * m / 2 for k, m in zip(factors, (0.5, 0.75), strict=True)]
    assert found.mean_bias == pytest.approx(max(means), rel=1e-9)
    mean, covariance = ddim_moments(plan, data)
    assert mean.tolist() == pytest.approx([0.5, -0.75])
    variances = [k * k * (v + 1) / 2 for k, v in zip(factors, (4.0, 0.25), strict=True)]
    assert covariance.diagonal().tolist() == pytest.approx(variances)


def moments_of(v: float) -> tuple[float, ...]:
    """The factor of two steps from r = 1 over 1/2 to 0, of deviations along variance v."""
    a, b = parts(0.5)
    first = (a * v + b) / (v + 1) * 2**0.5
    return (first * a * v / (a * a * v + b * b),)


def test_an_affine_run_is_read_off_with_its_draws_and_any_other_has_a_misfit() -> None:
    A, c, B = torch.tensor([[1.0, 2.0], [-0.5, 3.0]]).double(), double(0.3, -0.7), torch.diag(double(0.1, 0.2))
    center = double(0.4, -0.2)

    def run(x: Tensor, generator: torch.Generator | None) -> Tensor:
        torch.randn(3, generator=generator)  # of another shape: no part of the state
        ends = x @ A.T + c
        for weight in (2, 5):
            ends = ends + weight * torch.randn(x.shape, dtype=torch.float64, generator=generator) @ B.T
        return ends

    found = affine(run, center, 3)
    torch.testing.assert_close(found.A, A)
    torch.testing.assert_close(found.b, c)
    torch.testing.assert_close(found.C, torch.cat([torch.zeros(2, 2), 2 * B, 5 * B], 1).double())
    assert found.misfit < 1e-12
    assert affine(run, center, 2).C.shape == (2, 4)  # a third draw is zero

    given: list[Tensor] = []

    def cubed(x: Tensor, _: torch.Generator | None) -> Tensor:
        given.append(x)
        return x**3

    found = affine(cubed, center, 0)
    x, u = given[0], (given[0][-1] - center) * 4
    assert float(u.abs().max()) <= 1
    assert len(x) == 4
    assert float(((x - center).abs() * 4).max()) <= 1 + 1e-12
    A = torch.diag(3 * center**2 + 3 * center / 4 + 1 / 16)
    predicted, actual = A @ u, ((center + u / 4) ** 3 - center**3) * 4
    torch.testing.assert_close(found.A, A)
    assert affine(lambda x, _: -(x**3), center, 0).misfit == pytest.approx(found.misfit)
    assert found.misfit == pytest.approx(float((actual - predicted).abs().max() / (1e-3 + predicted.abs().max())))


def test_levels_that_repeat_are_stepped_over_once() -> None:
    plan = planned((3.0, 3.0, 1.0, 0.5, 0.5), told=(2.0, 3.0, 1.0, 0.5, 0.4))
    calls, at = distinct(plan)
    assert calls == [0, 2, 3]
    assert at.tolist() == [3.0, 1.0, 0.5, END]
    x = torch.linspace(-2, 2, 6).double().reshape(3, 2)
    data, once = shipped_gaussian(), planned((3.0, 1.0, 0.5))
    torch.testing.assert_close(ddim(plan, data, x, told=False), once.run(data, x, None))
    torch.testing.assert_close(
        ddim(plan, data, x, told=True), planned((3.0, 1.0, 0.5), (2.0, 1.0, 0.5)).run(data, x, None)
    )


def raising(error: Exception) -> Callable[..., Tensor]:
    def run(*_: object) -> Tensor:
        raise error

    return run


def test_what_a_library_raises_is_recorded_and_what_it_refuses_is_a_limit() -> None:
    def refused(_: int) -> Plan:
        raise InputError("steps: at most 9")

    def of_plan(plan: Plan) -> Trial:
        return tried(Shipped("mine", stochastic=False, plan=lambda _: plan), 20, LINE)

    limited = tried(Shipped("mine", stochastic=False, plan=refused), 20, LINE)
    assert (limited.refused, limited.raised, limited.plan) == ("steps: at most 9", "", None)
    fallen = of_plan(planned(run=raising(IndexError("out\nof bounds"))))
    assert (fallen.raised, fallen.refused, fallen.errors) == ("IndexError: out", "", None)
    assert fallen.plan is not None
    assert of_plan(planned(run=raising(InputError("x: wrong")))).raised == "InputError: x: wrong"
    silent = of_plan(planned(run=raising(KeyError())))
    assert silent.raised == "KeyError: no message"
    good = of_plan(planned())
    wild = trial(30, discretization=math.inf)
    assert good.errors == errors_of(planned(), LINE, 20)
    assert runs([good]).verdict == "Runs at 20 steps."
    assert (runs([good]).tone, runs([good]).value) == ("good", 0)
    assert runs([good, limited]).verdict == "Runs at 20 steps; refuses 20: steps: at most 9"
    assert (runs([good, limited]).tone, runs([limited]).tone) == ("good", "unknown")
    assert runs([limited]).verdict.startswith("Runs at no steps")
    assert (runs([good, wild]).tone, runs([good, wild]).verdict) == ("alarm", "NaN or infinity at 30 steps.")
    both = runs([limited, wild, fallen, silent])
    assert (both.tone, both.value) == ("alarm", 3)
    assert both.verdict == "Raises at 20, 20 steps: IndexError: out"
    assert runs([silent]).tone == "alarm"


@pytest.mark.parametrize(
    ("off", "tone"),
    [(0.51, "good"), (0.51 * AFTER, "attention"), (1 + 1e-3, "attention"), ((1 + 1e-3) * AFTER, "alarm")],
)
def test_levels_may_be_rounded_to_half_a_training_step_and_are_wrong_beyond_one(off: float, tone: str) -> None:
    found = levels([trial(4, planned(told=TOLD, off=double(0.0, -off, 0.1)))])
    assert (found.tone, found.value) == (tone, off)
    assert tone == "good" or "call 2 of 3 at 4 steps (timestep 2): state at 1, its timestep at 1.2" in found.verdict


def test_the_level_farthest_off_is_named_and_few_steps_are_left_out() -> None:
    near, far = (planned(told=TOLD, off=double(off, 0.0, 0.0)) for off in (0.1, 0.3))
    assert levels([trial(4, near), trial(5, far), trial(6, near)]).value == 0.3
    assert levels([trial(3, far)]).tone == "unknown"
    assert math.isnan(levels([Trial(20, raised="KeyError: 1")]).value)
    lost = levels([trial(4, near), trial(20, planned(off=double(0.0, 0.2, math.nan)))])
    assert lost.tone == "alarm"
    assert "call 3 of 3 at 20 steps" in lost.verdict
    repeated = double(5.0, 5.0, 5.0)
    twice = [trial(n, planned(timesteps=steps)) for n, steps in ((20, double(5.0, 5.0, 4.0)), (30, repeated))]
    assert "2 of 30 timesteps repeat the one before." in levels([*twice, trial(40)]).verdict
    assert "repeat" not in levels([trial(20, planned((1.0, 1.0, 1.0), timesteps=repeated))]).verdict


@pytest.mark.parametrize(
    ("mean", "spread", "tone"),
    [(0.01, -0.01, "good"), (0.01 * AFTER, 0.0, "attention"), (0.0, -0.0101, "attention"), (-0.0101, 0.0, "attention")],
)
def test_a_start_may_move_the_samples_by_a_hundredth(mean: float, spread: float, tone: str) -> None:
    found = start([trial(20, mean_bias=mean, spread_bias=spread)])
    assert (found.tone, found.value) == (tone, mean)
    assert f"At 20 steps the start at sigma/alpha = 3 moves the samples: mean by {mean:.2g}" in found.verdict
    assert f"variance by {100 * spread:+.2g}%." in found.verdict


def test_the_start_is_that_nearest_fifty_steps_and_the_worst_is_named() -> None:
    far = planned((7.0, 1.0))
    trials = [trial(20, far, mean_bias=0.1, spread_bias=0.2), trial(45, mean_bias=0.002), trial(60, mean_bias=0.003)]
    found = start(trials)
    assert (found.value, found.tone) == (0.002, "attention")
    assert found.verdict.endswith(" At 20, from 7: 0.1 and +20%.")
    assert "At 45" not in start([trial(45, mean_bias=0.1)]).verdict.removeprefix("At 45 steps")
    assert start([trial(19)]).tone == start([trial(20, mean_bias=math.inf)]).tone == "unknown"
    assert math.isnan(start([Trial(20, raised="KeyError: 1")]).value)


@pytest.mark.parametrize(("size", "tone"), [(0.9, "good"), (0.8999, "alarm"), (1.1, "good"), (1.1001, "alarm")])
def test_a_start_has_the_noise_of_its_first_level(size: float, tone: str) -> None:
    found = start([trial(20, planned((math.inf, 1.0), start=size))])
    assert found.tone == tone
    assert tone == "good" or f"The start has {size:.3g} times the noise of its first level." in found.verdict
    assert start([trial(20, planned((1.0,), start=0.9 * 0.5**0.5))]).tone == "good"
    assert start([trial(20, planned((1.0,), start=0.899 * 0.5**0.5))]).tone == "alarm"


def ended(left: float, shift: float, last: float = 0.0, scale: float = 1.0, steps: int = 50) -> Finding:
    """Of a plan that ends `shift` away from a single point, with `left` of its first noise."""

    def run(distribution: Distribution, x: Tensor, generator: torch.Generator | None) -> Tensor:  # noqa: ARG001
        assert isinstance(distribution, Gaussian)
        return (distribution.mean + double(0.0, shift) + left * x) / scale

    return end([trial(steps, planned((math.inf, 1.0), end=last, end_scale=scale, run=run))])


@pytest.mark.parametrize(
    ("left", "shift", "last", "tone"),
    [
        (0.99e-3, -0.99e-3, 0.0, "good"), (1.01e-3, 0.0, 0.0, "alarm"), (0.0, 1.01e-3, 0.0, "alarm"),
        (0.1995, 0.0, 0.1, "attention"), (0.2002, 0.0, 0.1, "alarm"),  # 2 b + 1e-3 = 0.20001
        (0.0, -0.1052, 0.1, "attention"), (0.0, 0.1057, 0.1, "alarm"),  # 1 - a + b + 1e-3 = 0.10547
    ],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_noise_left_is_that_of_the_declared_last_level(
    left: float, shift: float, last: float, tone: str, scale: float
) -> None:
    if scale == 1 or last == 0:
        found = ended(left, shift, last, scale=1.0)
        assert found.tone == tone
        assert found.value == pytest.approx(left, abs=1e-9)
    a, b = parts(0.1)
    for change, expected in ((-1e-4, "attention"), (1e-4, "alarm")):
        assert ended(2 * scale * b + 1e-3 + change, 0.0, 0.1, scale).tone == expected
        assert ended(0.0, abs(scale * a - 1) + scale * b + 1e-3 + change, 0.1, scale).tone == expected


def test_the_end_is_that_nearest_fifty_steps() -> None:
    assert ended(0.3, 0.2, 0.1).verdict == (
        "A single point ends with noise 0.3, 0.2 away; the last level is 0.1. (50 steps)"
    )
    quiet, loud = (trial(n, planned(end=last)) for n, last in ((45, 0.0), (60, 0.1)))
    assert (end([quiet, loud]).tone, end([loud, trial(30, planned(end=0.0))]).tone) == ("good", "attention")
    assert end([loud]).value == pytest.approx(parts(0.1)[1], rel=1e-6)
    assert ended(0.0, 0.0, steps=20).tone == "good"
    assert ended(0.0, 0.0, steps=19).tone == end([Trial(20, planned(), raised="KeyError: 1")]).tone == "unknown"
    assert math.isnan(end([Trial(20, raised="KeyError: 1")]).value)


def falling(rate: float, *, told: float = 0.0, size: float = 0.5) -> list[Trial]:
    """Errors that fall by a power of the number of steps and are more than twice DDIM's."""
    return [trial(n, discretization=size * (n / 20) ** -rate, ideal=1e-4, told=told) for n in (20, 80)]


@pytest.mark.parametrize(
    ("rate", "stochastic", "tone", "says"),
    [
        (0.69, False, "alarm", "Does not converge"), (0.71, False, "attention", "More than 2 times DDIM's error."),
        (0.49, True, "alarm", "Does not converge"), (0.51, True, "attention", "Converges slowly"),
        (0.69, True, "attention", "Converges slowly"), (0.71, True, "good", "Error of mean and covariance"),
    ],
)  # fmt: skip
def test_an_error_beyond_ddims_converges_at_the_rate_of_its_order(rate, stochastic, tone, says) -> None:
    found = convergence(falling(rate), stochastic=stochastic)
    assert found.tone == tone
    assert found.verdict.startswith(says)
    assert f"rate {rate:.2f}." in found.verdict
    assert found.value == pytest.approx(0.5 * 4**-rate / 1e-3)  # of DDIM's error, at least a thousandth


def test_errors_are_compared_with_twice_ddims_and_the_rounding_of_the_tables() -> None:
    limit = 2 * 0.25 + 1e-3

    def tone(size: float, **given: Any) -> str:
        return convergence([trial(n, discretization=size, **given) for n in (20, 50)], stochastic=False).tone

    assert tone(limit, ideal=0.25, told=0.0) == "good"
    assert tone(limit * AFTER, ideal=0.25, told=0.0) == "alarm"
    assert tone(limit, ideal=0.0, told=0.25) == "attention"  # what the rounding of timesteps explains
    assert tone(limit * AFTER, ideal=0.0, told=0.25) == "alarm"
    assert "rounding of its timesteps costs accuracy" in convergence(falling(0.0, told=1.0), stochastic=True).verdict
    assert tone(0.0, ideal=0.0, told=0.0) == "good"
    assert tone(0.001, misfit=1e-3) == "good"
    assert tone(0.001, misfit=1e-3 * AFTER) == "unknown"
    early = [trial(20, discretization=0.5, ideal=1e-4, told=1e-4), trial(200, discretization=1e-3)]
    assert convergence(early, stochastic=False).verdict.startswith("More than 2 times")
    few = convergence([trial(19), trial(20), Trial(50)], stochastic=False)
    assert (few.tone, few.verdict) == ("unknown", "Too few runs to judge.")
    assert math.isnan(few.value)
    found = convergence([trial(n, discretization=1 / n, ideal=2 / n) for n in (20, 30, 50, 100)], stochastic=False)
    assert "0.05 (0.1) at 20, 0.02 (0.04) at 50, 0.01 (0.02) at 100 steps; rate 1.00." in found.verdict
    assert found.value == pytest.approx(0.5)


@pytest.mark.parametrize("last", [0.0, 0.05])
def test_endpoints_on_a_mixture_are_compared_with_ddims_on_the_same_levels(last: float) -> None:
    high, low, known = 5.0, max(last, 1e-3), list[Tensor]()

    def exact(distribution: Distribution, x: Tensor, generator: torch.Generator | None) -> Tensor:  # noqa: ARG001
        if not known:  # of the same points
            y = flow(distribution, x / parts(high)[0], high, low)
            known.append(parts(last)[0] * (y if last else distribution.denoise(y, 1.0, low)))
        return known[0]

    def of_run(run: Callable[..., Tensor]) -> Finding:
        return branching([trial(50, planned((high, 1.0, 0.2), end=last, run=run))])

    nothing = of_run(lambda _, x, __: 0 * x)  # relative to the size of the endpoints: an error of 1
    theirs = 1 / nothing.value
    assert 0.01 < theirs < 0.5
    limit = 2 * theirs + 0.01
    for size, tone in ((limit - 1e-6, "good"), (limit + 1e-6, "attention")):
        assert of_run(lambda d, x, g, size=size: (1 + size) * exact(d, x, g)).tone == tone
    assert f"At 50 steps 1 from the exact endpoints, {theirs:.2g} by DDIM" in nothing.verdict


def test_endpoints_are_those_nearest_fifty_steps() -> None:
    infinite = planned((math.inf, 1.0, 0.2))
    assert branching([trial(20, infinite)]).value == pytest.approx(1.0, rel=1e-3)
    nearest = branching([trial(20, planned((2.0, 0.5))), trial(81, infinite)])
    assert nearest.value == pytest.approx(1.0, rel=1e-9)
    assert "At 20 steps" in nearest.verdict
    assert branching([trial(19)]).tone == branching([Trial(50, planned())]).tone == "unknown"
    assert math.isnan(branching([Trial(50)]).value)


def test_a_certificate_has_every_question_and_its_table() -> None:
    titles: list[str] = []
    mine = Shipped("mine", stochastic=False, plan=lambda n: planned([5 / k for k in range(1, n + 1)], end=0.0))
    found = certify_as_shipped(mine, steps=(20, 22), few=(2,), advance=titles.append)
    assert titles == ["2 steps", "20 steps", "22 steps", "Questions"]
    names = [finding.name for finding in found.findings]
    assert names == [f"shipped.{name}" for name in ("runs", "levels", "start", "end", "convergence", "mixture")]
    assert [each.steps for each in found.errors] == [2, 20, 22]
    assert found.sufficient
    page, written = found.page(), found.as_json()
    assert [section.anchor for section in page.sections] == ["questions", "errors"]
    (table,) = page.sections[1].blocks
    first = found.errors[0]
    row = [first.steps, first.discretization, first.ideal, first.told, first.mean_bias, first.spread_bias]
    assert table.rows[0] == row  # pyright: ignore[reportAttributeAccessIssue]
    assert page.subtitle.startswith("a deterministic sampler")
    assert page.verdicts[0].verdict.startswith("mine")
    assert (written["target"], written["stochastic"]) == ("mine", False)
    assert written["errors"] == [dataclasses.asdict(each) for each in found.errors]
    noisy = certify_as_shipped(dataclasses.replace(mine, stochastic=True), steps=(20, 22), few=())
    assert noisy.page().subtitle.startswith("a stochastic sampler")
    assert [finding.name for finding in noisy.findings] == names[:-1]
    assert not certify_as_shipped(mine, steps=(), few=()).sufficient

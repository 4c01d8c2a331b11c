"""The edges of what is accepted in paths: the last value that is, and the first that is not."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import first_calls
from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    Quasipotential,
    Rate,
    absorbed_mean,
    absorbed_paths,
    conditioned_paths,
    curve_of_duration,
    eyring_kramers,
    find_symmetries,
    fixed_point,
    fixed_points,
    geometric_action,
    kramers,
    least_action,
    linear_bridge,
    most_likely_path,
    quasipotential,
    shoot,
    stiff_least_action,
    string,
    translation,
    violation,
)
from diffuscope.theory.paths.conditioned import ConditionedPaths
from diffuscope.theory.paths.instanton import stationary_covariance
from diffuscope.theory.paths.lagrangian import Lagrangian
from numbers_in_tests import double, seeded

TINY = 5e-324  # the least number above 0
FALLING = Dynamics(lambda x: -x, 0.5)
WIND = Dynamics(lambda x: torch.tensor([1.0, 0.0]).double().expand_as(x), 1.0)


def points() -> Tensor:
    return torch.randn(2, 1, generator=seeded()).double()


HERE, THERE = double(-1.0, 0.5), double(1.0, 2.0)
TIMES = double(0.0, 0.3, 1.0)
MANY = torch.linspace(0, 1, 9, dtype=torch.float64)


def flat(x: Tensor) -> Tensor:
    return (x[:, 0] ** 2 - 1) ** 2 / 4


def mean(start: float = 0.5, times: tuple[float, ...] = (0.25,), diffusion: float = 0.5) -> Tensor:
    return absorbed_mean(start, 1.0, double(*times), bounds=(-1.0, 2.0), diffusion=diffusion)


def bounded(x: float) -> Dynamics:
    """Whose domain has the state HERE at an edge, less x."""
    return Dynamics(lambda x: -x, 1.0, domain=(double(-1.0 + x, 0.5), double(4.0, 4.0)))


def below(intervals: int = 6, energy: float = 0.0, **options: Tensor) -> object:
    return geometric_action(WIND, HERE, THERE, intervals, energy=energy, **options)


def near(segments: int) -> object:
    return shoot(FALLING, least_action(FALLING, HERE, THERE, torch.linspace(0, 1, 8).double()), segments=segments)


def grid(nodes: int = 9, box: tuple[float, float, float, float] = (-2.0, 2.0, -2.0, 2.0)) -> Quasipotential:
    return quasipotential(FALLING, double(0.0, 0.0), box, nodes)


def summed(weight: float) -> Dynamics:
    """Whose drift depends on the squares of all rows: more of them, and it is larger, or smaller."""
    return Dynamics(lambda x: -x + weight * x.square().sum(), 1.0)


def kept(window: float = 9.0, attempts: int = 4) -> object:
    return conditioned_paths(FALLING, HERE, THERE, TIMES, window=window, attempts=attempts, generator=seeded())


ACCEPTED: list[Callable[[], object]] = [
    # dynamics
    lambda: [Dynamics(lambda x: x, D) for D in (TINY, double(0.0, TINY), torch.diag(double(1.0, -1e-13)))],
    lambda: Dynamics(lambda x: x, torch.tensor([[1.0, 0.5 + 1e-14], [0.5, 1.0]], dtype=torch.float64)),
    lambda: least_action(bounded(0.0), HERE, THERE, TIMES),
    lambda: [fixed_points(FALLING, HERE[None]), fixed_point(FALLING, HERE)],
    # least action
    lambda: [least_action(FALLING, HERE, THERE, TIMES), least_action(FALLING, HERE, THERE, TIMES * 1e-3)],
    lambda: [near(1), near(3)],
    lambda: [most_likely_path(FALLING, HERE, THERE, duration, 3) for duration in (1e-3, 1.0)],
    lambda: below(2, energy=0.5),
    lambda: below(energy=-0.2),
    lambda: below(initial=torch.stack([HERE, double(0.0, 2.0), THERE]), energy=0.5),
    lambda: curve_of_duration(WIND, HERE, THERE, 0.1, 40),
    # ensembles
    lambda: [kept(attempts=2, window=1e300), kept(window=9.0)],
    lambda: linear_bridge(FALLING, HERE, THERE, TIMES).sample(2, seeded()),
    lambda: [ConditionedPaths(TIMES, torch.zeros(2, 3, 1).double(), 2).quantile(p) for p in (TINY, 1 - 1e-16)],
    lambda: [mean(math.nextafter(-1, 0)), mean(math.nextafter(2, 0))],
    lambda: [mean(times=(1e-3, 1 - 1e-3)), mean(diffusion=1e-3)],
    # rates and the quasipotential
    lambda: [Rate(2.0, 0.0).at(TINY), Rate(2.0, 3.0).at(1e308)],
    lambda: [kramers(lambda x: flat(x), value, value, double(-1.0), double(0.0)) for value in (1e-100, 1e100)],
    lambda: [grid(9).at(double(x, y)) for x, y in ((0.0, 0.5), (-0.5, -0.25))],
    lambda: find_symmetries(Lagrangian(FALLING), points(), points(), torch.zeros(2).double(),
                            [translation([1.0])]),
]  # fmt: skip


@pytest.mark.parametrize("call", ACCEPTED)
def test_the_last_value_inside_is_accepted(call: Callable[[], object]) -> None:
    call()


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Dynamics(lambda x: x, 0.0), "diffusion: expected D = G G"),
    (lambda: Dynamics(lambda x: x, double(1.0, -1e-11)), "diffusion: expected D = G G.*eigenvalue -1e-11"),
    (lambda: Dynamics(lambda x: x, torch.diag(double(1.0, -1e-11))), "diffusion: expected D = G G"),
    (lambda: Dynamics(lambda x: x, double(0.0, 0.0)), "diffusion: expected D = G G"),
    (lambda: Dynamics(lambda x: x, math.nan), "diffusion: expected finite numbers"),
    (lambda: Dynamics(lambda x: x, torch.ones(2, 3)), r"diffusion: expected a number.*got shape \(2, 3\)"),
    (lambda: Dynamics(lambda x: x, torch.ones(2, 2, 2)), r"diffusion: expected a number.*got shape \(2, 2, 2\)"),
    (
        lambda: Dynamics(lambda x: x, torch.tensor([[1.0, 0.5 + 1e-11], [0.5, 1.0]], dtype=torch.float64)),
        "diffusion: expected a symmetric matrix",
    ),
    (lambda: Dynamics(lambda: double(0.0), 1.0), "drift: expected a function of .* got one of 0 arguments"),
    (lambda: Dynamics(lambda x, y, z: x, 1.0), "drift: expected .* got one of 3 arguments"),  # noqa: ARG005
    (
        lambda: least_action(Dynamics(lambda x: -x, lambda x: x), HERE, THERE, TIMES),
        r"diffusion: expected matrices of shape \(\d, 2, 2\) back, got \(\d, 2\)",
    ),
    (lambda: Dynamics(lambda x: x[:, :1], 1.0).drift_at(HERE[None], TIMES[:1]), r"drift: .*\(1, 2\) .* \(1, 1\)"),
    (
        lambda: least_action(Dynamics(lambda x: x / 0, 1.0), double(*[2.0] * 8), double(*[1.0] * 8), TIMES),
        r"drift: expected finite .* \(inf, inf, inf, inf, inf, inf, inf, inf\) at x = \(2, 2, 2, 2, 2, 2, 2, 2\)",
    ),
    (
        lambda: least_action(Dynamics(lambda x: x / 0, 1.0), double(*[2.0] * 9), double(*[1.0] * 9), TIMES),
        r"drift: .*got \(inf, inf, inf, inf, inf, inf, inf, inf, \.\.\.\) at x = \(2, 2, 2, 2, 2, 2, 2, 2, \.\.\.\)",
    ),
    (lambda: least_action(bounded(1e-12), HERE, THERE, TIMES), "start: expected a state in the domain"),
    (lambda: least_action(summed(0.1), HERE, THERE, MANY), "drift: expected a function of each row alone"),
    (lambda: least_action(summed(-0.1), HERE, THERE, MANY), "drift: expected a function of each row alone"),
    (lambda: fixed_points(FALLING, HERE[None][:0]), "guesses: expected finite states"),
    (lambda: fixed_points(FALLING, HERE[None] / 0), "guesses: expected finite states"),
    (lambda: fixed_points(Dynamics(lambda x, t: x * t[:, None], 1.0), HERE[None]), "drift: expected a function of"),
    (lambda: fixed_point(FALLING, HERE / 0, "here"), "here: expected one finite state"),
    (lambda: least_action(FALLING, HERE, THERE, TIMES[:2]), "times: expected at least three"),
    (lambda: least_action(FALLING, HERE, THERE, double(0.0, 0.5, 0.5)), "times: expected increasing.*0.5 before 0.5"),
    (lambda: least_action(FALLING, HERE, THERE, double(0.0, 0.5, math.inf)), "times: expected finite times"),
    (lambda: least_action(FALLING, HERE, THERE, TIMES, initial=torch.zeros(1, 3, 2) / 0), "initial: expected finite"),
    (
        lambda: least_action(
            FALLING, torch.stack([HERE] * 2), torch.stack([THERE] * 2), TIMES, initial=torch.zeros(1, 3, 2)
        ),
        r"initial: expected shape \(2, 3, 2\), got \(1, 3, 2\)",
    ),
    (lambda: near(0), "segments: expected at least 1, got 0"),
    (lambda: near(4), r"segments: expected 1 to 3 .*got 4"),
    (lambda: most_likely_path(FALLING, HERE, THERE, 1.0, 2), "nodes: expected at least 3, got 2"),
    (lambda: most_likely_path(FALLING, HERE, THERE, 0.0), "duration: expected a positive number, got 0"),
    (lambda: most_likely_path(FALLING, HERE, THERE, math.inf), "duration: expected a positive number, got inf"),
    (lambda: most_likely_path(FALLING, HERE, THERE, None, 9, "OM"), "functional: expected 'FW' where the duration"),
    (lambda: most_likely_path(FALLING, HERE, HERE, None, 9), "end: expected another state than start"),
    (lambda: below(1), "intervals: expected at least 2, got 1"),
    (lambda: string(FALLING, HERE, THERE, 1), "intervals: expected at least 2, got 1"),
    (lambda: stiff_least_action(WIND, HERE, THERE, 1.0, 1), "intervals: expected at least 2, got 1"),
    (lambda: quasipotential(FALLING, HERE, (-2.0, 2.0, -2.0, 2.0), 9, reach=0), "reach: expected at least 1, got 0"),
    (lambda: absorbed_mean(0.5, 0.0, double(0.25), bounds=(-1.0, 2.0), diffusion=0.5), "duration: expected a positive"),
    (lambda: below(energy=-0.26), r"energy: expected at least -\|f\|\^2 / 4 along the curve, -0.25, got -0.26"),
    (lambda: below(initial=torch.stack([HERE, THERE])), r"initial: expected finite states of a curve, \(nodes, 2\)"),
    (lambda: curve_of_duration(WIND, HERE, THERE, 0.0, 40), "duration: expected a positive number, got 0"),
    (lambda: curve_of_duration(WIND, HERE, THERE, math.inf, 40), "duration: expected a positive number, got inf"),
    (lambda: curve_of_duration(WIND, HERE, HERE, 1.0, 40), "end: expected another state than start"),
    (lambda: kept(window=0.0), "window: expected a positive number, got 0"),
    (lambda: kept(window=math.inf), "window: expected a positive number, got inf"),
    (lambda: kept(attempts=1), "attempts: expected at least 2, got 1"),
    (lambda: kept(window=1e-9), "attempts: expected more, or a wider window: 0 of 4"),
    (lambda: linear_bridge(FALLING, HERE, THERE, TIMES).sample(1, seeded()), "count: expected at least 2, got 1"),
    (lambda: ConditionedPaths(TIMES, torch.zeros(2, 3, 1).double(), 2).quantile(0.0), "share: expected"),
    (lambda: ConditionedPaths(TIMES, torch.zeros(2, 3, 1).double(), 2).quantile(1.0), "share: expected"),
    (lambda: mean(-1.0), "start: expected a state between the bounds -1 and 2, got -1"),
    (lambda: mean(2.0), "start: expected a state between the bounds -1 and 2, got 2"),
    (lambda: mean(times=(0.0, 0.5)), "times: expected times between 0 and the duration 1"),
    (lambda: mean(times=(0.5, 1.0)), "times: expected times between 0 and the duration 1"),
    (lambda: mean(diffusion=0.0), "diffusion: expected a positive number, got 0"),
    (
        lambda: absorbed_paths(FALLING, HERE, TIMES, lambda x: x[:, 0] > 0, since=0.0, attempts=9, generator=seeded()),
        "dynamics: expected a domain",
    ),
    (lambda: Rate(2.0, 1.0).at(0), "noise: expected a finite number > 0, got 0"),
    (lambda: Rate(2.0, 1.0).at(math.inf), "noise: expected a finite number > 0, got inf"),
    (lambda: kramers(flat, 0, 1, double(-1.0), double(0.0)), "friction: expected a finite number > 0, got 0"),
    (lambda: kramers(flat, math.inf, 1, double(-1.0), double(0.0)), "friction: expected .* got inf"),
    (lambda: kramers(flat, 1, 0, double(-1.0), double(0.0)), "temperature: expected a finite number > 0, got 0"),
    (lambda: eyring_kramers(flat, 1.0, double(-1.0, 0.0), double(0.0, 0.0)), r"stable: .*minimum.*\[0.0, 2.0\]"),
    (
        lambda: eyring_kramers(lambda x: -flat(x) - x[:, 1] ** 2, 1.0, double(0.0, 0.0), double(-1.0, 0.0)),
        "stable: expected a minimum",
    ),
    (
        lambda: eyring_kramers(lambda x: flat(x) + x[:, 1] ** 2, 1.0, double(1.0, 0.0), double(-1.0, 0.0)),
        "saddle: expected a point where one direction falls",
    ),
    (lambda: eyring_kramers(lambda x: x, 1.0, double(-1.0), double(0.0)), r"potential: expected one .* shape \(2, 1\)"),
    (lambda: eyring_kramers(lambda x: flat(x) / 0, 1.0, double(-1.0), double(0.0)), "potential: expected one finite"),
    (lambda: grid(8), "nodes: expected at least 9, got 8"),
    (lambda: grid(9, (1.0, 1.0, -2.0, 2.0)), "box: expected x0 < x1"),
    (lambda: grid(9, (-2.0, 2.0, 1.0, 1.0)), "box: expected x0 < x1 and y0 < y1"),
    (lambda: grid(9, (-0.25, 3.75, -2.0, 2.0)), "box: expected the fixed point at least two nodes from the edge"),
    (lambda: grid(9, (-3.75, 0.25, -2.0, 2.0)), "box: expected the fixed point at least two nodes from the edge"),
    (lambda: grid(9).at(double(2.01, 0.0)), "state: expected coordinates in the box, -2 to 2, got 2.01"),
    (lambda: grid(9).at(double(0.0, -2.01)), "state: expected coordinates in the box, -2 to 2, got -2.01"),
    (
        lambda: find_symmetries(
            Lagrangian(FALLING), torch.ones(1, 1).double(), torch.ones(1, 1).double(), torch.zeros(1).double(),
            [translation([1.0])],
        ),
        "x: expected",
    ),
    (
        lambda: violation(
            Lagrangian(FALLING), translation([0.0]), torch.ones(3, 1).double(), torch.ones(3, 1).double(),
            torch.zeros(3).double(),
        ),
        "symmetry: translation moves nothing at these points",
    ),
    (
        lambda: stationary_covariance(-torch.eye(2).double().numpy(), torch.diag(double(1.0, 0.0)).numpy()),
        "diffusion: expected noise that reaches every direction through the drift",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_the_first_value_outside_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        call()


BOX = (-2.0, 2.0, -2.0, 2.0)
SIMULATED = {"window": 9.0, "attempts": 4, "generator": seeded()}
OF_ANOTHER_TYPE: list[tuple[Callable[..., object], tuple[object, ...], Mapping[str, object], str]] = [
    (most_likely_path, (FALLING, HERE, THERE, "1"), {}, "duration: expected a positive number, got '1'"),
    (most_likely_path, (FALLING, HERE, THERE, 1.0, 41.0), {}, "nodes: expected a whole number, got 41.0"),
    (most_likely_path, (FALLING, HERE, THERE, None, "41"), {}, "nodes: expected a whole number, got '41'"),
    (curve_of_duration, (WIND, HERE, THERE, "1"), {}, "duration: expected a positive number, got '1'"),
    (curve_of_duration, (WIND, HERE, THERE, 1.0, 40.0), {}, "intervals: expected a whole number, got 40.0"),
    (stiff_least_action, (WIND, HERE, THERE, "1"), {}, "duration: expected a positive number, got '1'"),
    (stiff_least_action, (WIND, HERE, THERE, 1.0, 40.0), {}, "intervals: expected a whole number, got 40.0"),
    (geometric_action, (WIND, HERE, THERE, 40.0), {}, "intervals: expected a whole number, got 40.0"),
    (string, (FALLING, HERE, THERE, 40.0), {}, "intervals: expected a whole number, got 40.0"),
    (quasipotential, (FALLING, HERE, BOX, 9.0), {}, "nodes: expected a whole number, got 9.0"),
    (quasipotential, (FALLING, HERE, BOX, 9), {"reach": 2.0}, "reach: expected a whole number, got 2.0"),
    (shoot, (FALLING, least_action(FALLING, HERE, THERE, TIMES)), {"segments": 1.0}, "segments: expected a whole"),
    (conditioned_paths, (FALLING, HERE, THERE, TIMES), SIMULATED | {"window": "9"}, "window: expected a positive"),
    (conditioned_paths, (FALLING, HERE, THERE, TIMES), SIMULATED | {"attempts": 4.0}, "attempts: expected a whole"),
    (Dynamics, (3.0, 1.0), {}, r"drift: expected a function of \(x\) or of \(x, t\), got float"),
    (absorbed_mean, (0.5, "1", TIMES), {"bounds": (-1.0, 2.0), "diffusion": 0.5}, "duration: expected a positive"),
]


@pytest.mark.parametrize(("function", "given", "options", "message"), OF_ANOTHER_TYPE)
def test_a_text_for_a_duration_and_a_fraction_for_a_count_are_one_line(
    function: Callable[..., object],
    given: tuple[object, ...],
    options: Mapping[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_calls, "CALLS", 0)  # as outside of tests, without checks of the annotated types
    with pytest.raises(InputError, match=f"^{message}"):
        function(*given, **options)


def test_states_on_the_bounds_of_a_box_lie_in_it() -> None:
    box = Dynamics(lambda x: x, 1.0, domain=(-1.0, 2.0))
    x = double(-1.0, 2.0, math.nextafter(-1, -2), math.nextafter(2, 3))
    assert box.inside(x[:, None]).tolist() == [True, True, False, False]
    assert box.inside(torch.stack([x, x.flip(0)], 1)).tolist() == [False] * 4  # every coordinate


def test_paths_that_leave_at_the_very_node_since_count() -> None:
    """The same paths from the time 2 on and from just after it: those that only the first keeps left at 2."""
    walk, t = Dynamics(torch.zeros_like, 0.5, domain=(-1.0, 1.0)), double(0.0, 1.0, 2.0, 4.0)

    def left(since: float) -> Tensor:
        leaves = lambda x: x[:, 0] < 0  # noqa: E731
        return absorbed_paths(walk, double(0.0), t, leaves, since=since, attempts=200, generator=seeded()).states

    here, after = left(2.0), left(math.nextafter(2, 3))
    outside = (here[:, :, 0].abs() > 1).int().argmax(1)
    assert len(after) == int((outside > 2).sum()) < len(here)
    assert bool((outside >= 2).all())
    assert bool((here[:, -1] < -1).all())  # and through the lower bound alone
    assert torch.equal(here[outside == 2][:, 2], here[outside == 2][:, 3])  # where they rest

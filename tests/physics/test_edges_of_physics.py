"""The edges of what is accepted: the last value that is, and the first that is not, of every number in the physics."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import (
    DPS,
    AdvectionDiffusion,
    Burgers,
    CovarianceGuided,
    Darcy,
    GaussNewtonProjected,
    Grid,
    Heat,
    Helmholtz,
    KernelPrior,
    LinearObservation,
    Matern,
    NonlinearObservation,
    NormalizedDPS,
    PiGDM,
    Poisson,
    Prior,
    Problem,
    Projected,
    ReactionDiffusion,
    ResidualGuided,
    Sensors,
    SquaredExponential,
    at_nodes,
    averages,
    gaussian_prior,
    log_likelihood,
    posterior,
    process_prior,
    sequential_monte_carlo,
    sine_forcing,
    sine_prior,
    solve_inverse,
)
from diffuscope.physics.conditioning import affine
from diffuscope.physics.example_readings import example_readings
from diffuscope.physics.gibbs import gibbs
from diffuscope.physics.grading.case import Case, resampled
from diffuscope.physics.grading.levy import levy_case
from diffuscope.physics.grading.metrics import Marginals, crps, multinomial_test, order_interval
from diffuscope.physics.grading.scores import Grader
from diffuscope.physics.levy import (
    BernoulliGaussJumps,
    GaussianJumps,
    LaplaceJumps,
    LevyProcess,
    StudentJumps,
)
from diffuscope.physics.levy_distribution import LevyDistribution
from diffuscope.physics.operators import LogNormal, SmoothField, TwoPhase, fisher
from diffuscope.physics.sensors import require_readings
from diffuscope.physics.walk_posterior import pointwise, walk_posterior
from diffuscope.schedules import VE
from numbers_in_tests import double

TINY = 5e-324  # the least number above 0
HUGE = 1e150  # its square is a number too
BELOW_ONE = math.nextafter(1, 0)
TIMES = Grid((3, 4), (1.0, 1.0), (False, True))  # time, and a periodic axis of space


PRIOR = ExactDenoiser(Gaussian(double(0.5, -1.0), torch.eye(2, dtype=torch.float64), double(2.0, 0.3)), VE())
FIRST = at_nodes(torch.tensor([0]), (2,), 0.5)
EXACT = at_nodes(torch.tensor([0]), (2,))
Y = double(1.0)
FIELDS = double(0.0, 1.0, 3.0, 7.0)[:, None] * double(1.0, -2.0)
POISSON = Problem(name="poisson-1d", title="", equation=Poisson(Grid((5,))), given="forcing")
DARCY = Problem(name="darcy", title="", equation=Darcy(Grid((3, 4), (2.0, 3.0))), given="coefficient")


def readings(x: float = 0.5, value: float = 1.0, noise: float = 0.1, channel: int = 1) -> Sensors:
    return Sensors(
        points=double(x)[:, None], channels=torch.tensor([channel]), values=double(value), noise=double(noise)
    )


def read(**change: float) -> Sensors:
    return require_readings(readings(**change), POISSON, "data")  # pyright: ignore


def coefficient(value: float, y: float = 1.0) -> Sensors:
    sensors = Sensors(
        points=double(1.0, y)[None], channels=torch.zeros(1, dtype=torch.long), values=double(value), noise=double(0.1)
    )
    return require_readings(sensors, DARCY, "data")


def squared(sign: float) -> object:
    """At (-1, 2): 1 and 4 in place of -1 and 2."""
    return affine(NonlinearObservation(lambda x: sign * x**2, (2,), noise=0.1))


def case(weights: Tensor | None, reference: Tensor = FIELDS) -> Case:
    return Case(
        name="a", family="a", denoiser=PRIOR, observation=FIRST, y=Y, exact=resampled(FIELDS), reference=reference,
        weights=weights,
    )  # fmt: skip


def chains(count: int = 2, sweeps: int = 4, burn_in: int = 0, noise: float = 1.0) -> object:
    one = at_nodes(torch.tensor([0]), (2,), noise)
    return gibbs(LevyProcess(GaussianJumps(), 2), one, Y, chains=count, sweeps=sweeps, burn_in=burn_in)


def weighed(particles: int = 2, replicas: int = 2, y: Tensor = Y, observation: LinearObservation = FIRST) -> object:
    return sequential_monte_carlo(PRIOR, observation, y, particles=particles, replicas=replicas, steps=2)


def solved(samples: int) -> object:
    prior = Prior(name="p", words="p", fields=torch.stack([torch.ones(2, 5), 2 * torch.ones(2, 5)]).double())
    return solve_inverse(POISSON, readings(), prior, samples=samples)


def sine(**change: float) -> object:
    return sine_prior(Grid((5, 6)), 2, **change)  # pyright: ignore


ACCEPTED: list[Callable[[], object]] = [
    # grids and random fields
    lambda: Grid((3,), (TINY,)),
    lambda: coefficient(1.0, y=3 + 2e-9),  # rounded: by a billionth of the box, whose length is 3
    lambda: Grid((3,), (1e308,)),
    lambda: SquaredExponential(TINY, TINY),
    lambda: Matern(TINY, TINY, 1e308),
    lambda: [process_prior(Grid((64,)), Matern(0.3)), sine_prior(Grid((5,)), 3), sine_prior(Grid((5,)), 1)],
    lambda: [sine(boundary_modes=0), sine(boundary_modes=3), sine(boundary_variance=0), sine(boundary_variance=TINY)],
    # equations
    lambda: AdvectionDiffusion(TIMES, (-2.0,), 0.0),
    lambda: AdvectionDiffusion(TIMES, (0.0,), 1e308),
    lambda: [Burgers(TIMES, TINY), Heat(TIMES, TINY), ReactionDiffusion(TIMES, TINY, fisher())],
    lambda: [Poisson(Grid((3,)), screening=0), Poisson(Grid((3,)), screening=HUGE)],
    lambda: [SmoothField(TINY, TINY), TwoPhase(TINY, TINY), TwoPhase(1e308, 1e308), LogNormal(0), LogNormal(1e308)],
    lambda: Darcy(Grid((3,))).solve(torch.full((1, 3), 1e-100, dtype=torch.float64)),
    # observations and readings
    lambda: [LinearObservation(torch.ones(1, 2), (2,), 0.0), NonlinearObservation(torch.sin, (2,), 1e308)],
    lambda: [at_nodes(torch.tensor([0, 1]), (2,)), averages([torch.tensor([True, False])])],
    lambda: [log_likelihood(FIRST, FIELDS, y) for y in (Y, Y.expand(4, 1))],
    lambda: [read(x=0.0), read(x=1.0), read(x=-1e-9), read(x=1 + 1e-9), read(noise=0.0), read(value=-1e308)],
    lambda: [coefficient(TINY), coefficient(1.0, y=3.0)],
    lambda: example_readings(POISSON, torch.ones(2, 5), 0.0),
    lambda: solved(2),
    # processes
    lambda: [GaussianJumps(TINY), LaplaceJumps(TINY), StudentJumps(TINY, TINY), LevyProcess(LaplaceJumps(), 1)],
    lambda: [BernoulliGaussJumps(TINY), BernoulliGaussJumps(BELOW_ONE)],
    lambda: [chains(2, 4, 0), chains(3, 5, 1), chains(noise=0.0)],
    # posteriors
    lambda: [KernelPrior(FIELDS[:2], 0.0), KernelPrior(FIELDS, BELOW_ONE)],
    lambda: [DPS(PRIOR, FIRST, Y, 0.0), NormalizedDPS(PRIOR, FIRST, Y, 0.0), DPS(PRIOR, FIRST, Y, 1e308)],
    lambda: [CovarianceGuided(PRIOR, FIRST, Y, 1, TINY), PiGDM(PRIOR, FIRST, Y, TINY), PiGDM(PRIOR, FIRST, Y, 1e308)],
    lambda: GaussNewtonProjected(PRIOR, FIRST, Y, 1, 1, TINY),
    lambda: [ResidualGuided(PRIOR, POISSON, TINY), ResidualGuided(PRIOR, POISSON, 1e308)],
    lambda: [DPS(PRIOR, FIRST, y)(FIELDS, 1.0) for y in (Y, Y[None], Y.expand(4, 1))],
    lambda: weighed(2, 2),
    # grading
    lambda: [case(None), case(double(0, 0, 0, 1)), Grader(case(None)).values(FIELDS[:2])],
    lambda: [order_interval(FIELDS, level) for level in (1e-12, BELOW_ONE)],
    lambda: multinomial_test(torch.tensor([1, 0]), double(0.5, 0.5)),
]


@pytest.mark.parametrize("call", ACCEPTED)
def test_the_last_value_inside_is_accepted(call: Callable[[], object]) -> None:
    call()


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Grid((2,)), r"shape: expected at least 3 nodes along every axis, got \(2,\)"),
    (lambda: Grid((4, 2)), r"shape: expected at least 3 nodes along every axis, got \(4, 2\)"),
    (lambda: Grid(()), "shape: expected"),
    (lambda: Grid((3,), (0.0,)), "lengths: expected positive"),
    (lambda: Grid((3,), (math.inf,)), "lengths: expected positive"),
    (lambda: Grid((3, 3), (1.0,)), r"lengths: expected one per axis \(2\)"),
    (lambda: Grid((3, 3), (1.0, 1.0), (True,)), r"periodic: expected one per axis \(2\)"),
    (lambda: Grid((3, 3), origin=(1.0,)), r"origin: expected one per axis \(2\)"),
    (lambda: SquaredExponential(0), "length: expected a positive number, got 0"),
    (lambda: SquaredExponential(1, 0), "variance: expected a positive number, got 0"),
    (lambda: SquaredExponential(math.inf), "length: expected a positive number, got inf"),
    (lambda: Matern(0), "length: expected a positive number, got 0"),
    (lambda: Matern(1, 0), "smoothness: expected a positive number, got 0"),
    (lambda: Matern(1, 1, 0), "variance: expected a positive number, got 0"),
    (lambda: process_prior(Grid((4097,)), Matern(0.3)), "grid: expected at most 4096 nodes.*got 4097"),
    (lambda: sine_prior(Grid((5,)), 4), r"modes: expected 1 to 3 \(the inner nodes of an axis\), got 4"),
    (lambda: sine_prior(Grid((5,)), 0), "modes: expected 1 to 3.*got 0"),
    (lambda: sine_prior(Grid((3, 3, 3)), 1), "grid: expected one or two axes, got 3"),
    (lambda: sine(boundary_modes=-1), "boundary_modes: expected 0 to 3.*got -1"),
    (lambda: sine(boundary_modes=5), "boundary_modes: expected 0 to 3.*got 5"),
    (lambda: sine(boundary_variance=-TINY), "boundary_variance: expected"),
    (lambda: sine(boundary_variance=math.inf), "boundary_variance: expected"),
    (lambda: gaussian_prior(Poisson(Grid((6,))), sine_forcing(Grid((5,)), 2)), r"forcing: .*\(6,\), got \(5,\)"),
    (lambda: AdvectionDiffusion(TIMES, (1.0, 2.0)), "velocity: expected 1 finite numbers"),
    (lambda: AdvectionDiffusion(TIMES, (math.inf,)), "velocity: expected 1 finite numbers"),
    (lambda: AdvectionDiffusion(TIMES, (1.0,), -TINY), "diffusivity: expected a number >= 0"),
    (lambda: AdvectionDiffusion(TIMES, (1.0,), math.inf), "diffusivity: expected a number >= 0"),
    (lambda: Burgers(TIMES, 0), "viscosity: expected a positive number, got 0"),
    (lambda: Burgers(Grid((3, 3, 3)), 1), "grid: expected one axis of time and one of space"),
    (lambda: Heat(TIMES, 0), "diffusivity: expected a positive number, got 0"),
    (lambda: Heat(Grid((3,))), "grid: expected a first axis of time"),
    (lambda: Heat(Grid((3, 3), periodic=(True, False))), "grid: expected a first axis of time"),
    (lambda: Heat(TIMES, source=torch.zeros(3, 5)), r"source: expected values on the grid \(3, 4\), got \(3, 5\)"),
    (lambda: Heat(Grid((3, 4)), boundary="robin"), "boundary: expected"),
    (lambda: Heat(Grid((3, 4)), boundary=("neumann", "neumann")), "boundary: expected"),
    (lambda: ReactionDiffusion(TIMES, 0, fisher()), "diffusivity: expected a positive number, got 0"),
    (lambda: Poisson(Grid((3,)), screening=-TINY), "screening: expected"),
    (lambda: Poisson(Grid((3,)), screening=math.inf), "screening: expected"),
    (lambda: Helmholtz(Grid((9,)), 0), "wavenumber: expected a positive number, got 0"),
    (lambda: SmoothField(0), "alpha: expected a positive number, got 0"),
    (lambda: SmoothField(1, 0), "tau: expected a positive number, got 0"),
    (lambda: TwoPhase(0), "high, low: expected"),
    (lambda: TwoPhase(1, 0), "high, low: expected"),
    (lambda: TwoPhase(math.inf), "high, low: expected"),
    (lambda: TwoPhase(1, math.inf), "high, low: expected"),
    (lambda: LogNormal(-TINY), "std: expected"),
    (lambda: LogNormal(math.inf), "std: expected"),
    (lambda: Darcy(Grid((3,))).solve(double(1, 0, 1)[None]), r"given: .*coefficient, got 0 at node \(1,\)"),
    (lambda: Darcy(Grid((3,))).solve(double(1, 1, math.inf)[None]), r"given: .* got inf at node \(2,\)"),
    (lambda: Darcy(Grid((3,)), torch.ones(4).double()), r"forcing: expected a number or a field of \(3,\)"),
    (lambda: Heat(TIMES).solve(double(0, 0, 0, math.nan)[None]), "given: expected a finite initial condition"),
    (lambda: Poisson(Grid((3,))).solve(double(0, math.inf, 0)[None]), r"given: expected finite.*inf at node \(1,\)"),
    (lambda: LinearObservation(torch.ones(1, 3), (2,)), "matrix: expected 2 columns.*got 3"),
    (lambda: LinearObservation(torch.ones(1, 2), (2,), -TINY), "noise: expected a standard deviation >= 0"),
    (lambda: NonlinearObservation(torch.sin, (2,), math.inf), "noise: expected a standard deviation >= 0, got inf"),
    (lambda: at_nodes(torch.tensor([2]), (2,)), "nodes: expected indices from 0 to 1, got 2 to 2"),
    (lambda: at_nodes(torch.tensor([-1, 1]), (2,)), "nodes: expected indices from 0 to 1, got -1 to 1"),
    (lambda: averages([]), "masks: expected at least one"),
    (lambda: averages([torch.tensor([True]), torch.tensor([False])]), "masks: expected at least one, and a node"),
    (lambda: averages([torch.tensor([True]), torch.tensor([True, False])]), "masks: expected one shape"),
    (lambda: log_likelihood(FIRST, FIELDS, Y.expand(2)), r"y: expected shape \(1,\) or \(4, 1\).*got \(2,\)"),
    (lambda: read(x=1.01), "data: given, row 1: expected x in the domain, 0 to 1, got 1.01"),
    (lambda: read(x=-0.01), "data: given, row 1: expected x in the domain, 0 to 1, got -0.01"),
    (lambda: read(x=1 + 2e-9), "data: given, row 1: expected x in the domain, 0 to 1, got 1"),
    (lambda: read(x=math.nan), "data: given, row 1: expected finite x, got nan"),
    (lambda: read(value=math.inf), "data: given, row 1: expected a finite value, got inf"),
    (lambda: read(noise=-TINY), "data: given, row 1: expected noise >= 0"),
    (lambda: read(noise=math.inf), "data: given, row 1: expected noise >= 0"),
    (lambda: coefficient(0.0), "data: given, row 1: expected a positive coefficient, got 0"),
    (lambda: coefficient(1.0, y=3 + 4e-9), "data: given, row 1: expected y in the domain, 0 to 3, got 3"),
    (lambda: squared(1.0), "observation: expected an affine function, got one that is off by 2"),
    (lambda: squared(-1.0), "observation: expected an affine function, got one that is off by 2"),
    (lambda: coefficient(1.0, y=3.1), "data: given, row 1: expected y in the domain, 0 to 3, got 3.1"),
    (lambda: example_readings(POISSON, torch.ones(2, 5), -TINY), "noise: expected a standard deviation >= 0"),
    (lambda: solved(1), "samples: expected at least 2, got 1"),
    (lambda: GaussianJumps(math.inf), "scale: expected a positive number, got inf"),
    (lambda: LaplaceJumps(0.0), "scale: expected a positive number, got 0"),
    (lambda: StudentJumps(1.0, 0.0), "scale: expected a positive number, got 0"),
    (lambda: BernoulliGaussJumps(0.0), "rate: expected"),
    (lambda: BernoulliGaussJumps(0.5, 0.0), "scale: expected"),
    (lambda: chains(1), "chains, sweeps: expected at least 2 and 4, got 1 and 4"),
    (lambda: chains(2, 3), "chains, sweeps: expected at least 2 and 4, got 2 and 3"),
    (lambda: chains(burn_in=-1), r"chains, sweeps: expected.*\(burn-in -1\)"),
    (
        lambda: gibbs(LevyProcess(BernoulliGaussJumps(), 2), EXACT, Y, sweeps=4),
        "observation: expected noise > 0 with jumps that may be 0, got 0",
    ),
    (lambda: gibbs(LevyProcess(GaussianJumps(), 3), FIRST, Y, sweeps=4), r"observation: .* shape \(3,\)"),
    (lambda: gibbs(LevyProcess(GaussianJumps(), 2), FIRST, Y.expand(2)), "y: expected 1 values per problem, got 2"),
    (lambda: pointwise(EXACT, Y), "observation: expected noisy values of single entries"),
    (lambda: pointwise(LinearObservation(torch.ones(1, 2), (2,), 1.0), Y), "observation: expected noisy values"),
    (lambda: LevyDistribution(LevyProcess(GaussianJumps(), 3)).given(FIRST, Y), "observation: expected fields"),
    (lambda: LevyDistribution(LevyProcess(GaussianJumps(), 2)).given(FIRST, Y.expand(2)), "observation: expected"),
    (
        lambda: LevyDistribution(LevyProcess(GaussianJumps(), 2)).denoise(double(0, math.nan)[None], 1.0, 1.0),
        "x_t: expected finite values",
    ),
    (
        lambda: walk_posterior(LevyProcess(GaussianJumps(), 1), double(1.0), double(1e17)[None]),
        r"center: expected values within .*, got 1e\+17",
    ),
    (lambda: KernelPrior(FIELDS[:1], 0.0), "fields: expected at least 2, got 1"),
    (lambda: KernelPrior(FIELDS, 1.0), "a: expected 0 <= a < 1, got 1"),
    (lambda: KernelPrior(FIELDS, -TINY), "a: expected 0 <= a < 1"),
    (lambda: KernelPrior(FIELDS, 0.5, at_nodes(torch.tensor([0]), (3,)), Y), "observation: expected one of fields"),
    (lambda: KernelPrior(FIELDS, 0.5, FIRST), r"y: expected shape \(1,\), got None"),
    (lambda: KernelPrior(FIELDS, 0.5, FIRST, Y.expand(2)), r"y: expected shape \(1,\), got \(2,\)"),
    (lambda: KernelPrior(FIELDS, 0.5, FIRST, Y / 0), "y: expected finite values"),
    (lambda: KernelPrior(FIELDS, 0.5, FIRST, Y).given(EXACT, Y), "observation: expected all with noise or all without"),
    (lambda: posterior(Empirical(FIELDS), FIRST, Y / 0), "y: expected finite values"),
    (lambda: posterior(Empirical(FIELDS), FIRST, Y.expand(2, 1)), "y: expected one observation, got 2"),
    (lambda: posterior(Empirical(FIELDS), EXACT, double(0.5)), "y: expected values that some point.*misses by 0.5"),
    (lambda: posterior(Empirical(FIELDS), at_nodes(torch.tensor([0]), (3,)), Y), "observation: expected one of fields"),
    (lambda: DPS(PRIOR, FIRST, Y, -TINY), "weight: expected a finite number >= 0"),
    (lambda: DPS(PRIOR, FIRST, Y, math.inf), "weight: expected a finite number >= 0"),
    (lambda: DPS(PRIOR, EXACT, Y), "observation: expected noise > 0"),
    (lambda: NormalizedDPS(PRIOR, FIRST, Y, -TINY), "zeta: expected a finite number >= 0"),
    (lambda: NormalizedDPS(PRIOR, FIRST, Y, math.inf), "zeta: expected a finite number >= 0"),
    (lambda: CovarianceGuided(PRIOR, FIRST, Y, 0), "iterations: expected at least 1, got 0"),
    (lambda: CovarianceGuided(PRIOR, FIRST, Y, 1, 0), "tolerance: expected a number > 0, got 0"),
    (lambda: PiGDM(PRIOR, FIRST, Y, 0), "variance: expected"),
    (lambda: PiGDM(PRIOR, FIRST, Y, math.inf), "variance: expected"),
    (lambda: PiGDM(PRIOR, NonlinearObservation(torch.sin, (2,), 1.0), Y), "observation: expected a LinearObservation"),
    (lambda: GaussNewtonProjected(PRIOR, FIRST, Y, 0), "^steps: expected at least 1, got 0$"),
    (lambda: GaussNewtonProjected(PRIOR, FIRST, Y, 1, 0), "^iterations: expected at least 1, got 0$"),
    (lambda: GaussNewtonProjected(PRIOR, FIRST, Y, 1, 1, 0), "tolerance: expected a number > 0, got 0"),
    (lambda: ResidualGuided(PRIOR, POISSON, 0), "weight: expected a finite number > 0"),
    (lambda: ResidualGuided(PRIOR, POISSON, math.inf), "weight: expected a finite number > 0"),
    (lambda: DPS(PRIOR, at_nodes(torch.tensor([0]), (3,), 1.0), Y), r"observation: expected one of fields \(2,\)"),
    (lambda: DPS(PRIOR, FIRST, Y.expand(2)), r"y: expected shape \(1,\) or \(batch, 1\), got \(2,\)"),
    (lambda: DPS(PRIOR, FIRST, Y / 0), "y: expected finite values"),
    (lambda: DPS(PRIOR, FIRST, Y.expand(3, 1))(FIELDS, 1.0), r"y: expected one observation, or one per.*\(4\), got 3"),
    (
        lambda: Projected(PRIOR, at_nodes(torch.tensor([0, 0]), (2,)), double(1.0, 2.0)),
        "y: expected values that the rows of the observation can take",
    ),
    (lambda: weighed(1), "particles, replicas: expected at least 2, got 1 and 2"),
    (lambda: weighed(2, 1), "particles, replicas: expected at least 2, got 2 and 1"),
    (lambda: weighed(observation=EXACT), "observation: expected noise > 0"),
    (lambda: weighed(y=Y[None]), r"y: expected one observation \(m,\) of finite values, got shape \(1, 1\)"),
    (lambda: weighed(y=Y / 0), "y: expected one observation"),
    (lambda: case(None, FIELDS[:, :1]), r"reference: expected fields of \(2,\), got \(1,\)"),
    (lambda: case(double(1, 1, 1, -TINY)), "weights: expected 4 numbers >= 0"),
    (lambda: case(double(0, 0, 0, 0)), "weights: expected 4 numbers >= 0 with a positive sum"),
    (lambda: Grader(case(None)).values(FIELDS[:1]), r"draws: expected \(n, \*\(2,\)\), n >= 2, got \(1, 2\)"),
    (lambda: Grader(case(None)).values(FIELDS / 0), "draws: expected finite numbers, got NaN or infinity in a"),
    (lambda: order_interval(FIELDS, 0.0), "level: expected"),
    (lambda: order_interval(FIELDS, 1.0), "level: expected"),
    (lambda: crps(FIELDS[:1], Marginals(FIELDS.T, torch.ones(4).double() / 4)), "draws: expected at least two, got 1"),
    (lambda: multinomial_test(torch.tensor([0, 0]), double(0.5, 0.5)), "counts: expected"),
    (lambda: levy_case("cauchy", "points"), "jumps, seen: expected one of.*got cauchy and points"),
    (lambda: levy_case("laplace", "far"), "jumps, seen: expected.*got laplace and far"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_the_first_value_outside_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        call()


def test_a_draw_far_from_every_point_of_a_finite_set_stays_where_it_is():
    near, far = FIELDS[1] + 1e-12, double(50.0, 50.0)
    assert torch.equal(Grader(case(None))._on_points(torch.stack([near, far])), torch.stack([FIELDS[1], far]))

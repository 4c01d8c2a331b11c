"""The edges of what is accepted: the last value that is, and the first that is not, of every number in the theory."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Heun
from diffuscope.schedules import VE, VP
from diffuscope.theory import (
    AffineLearning,
    checkpoints,
    copied,
    copies_surely,
    emergence_times,
    fit_power_law,
    forecast_onset,
    learned_variance,
    one_layer_flow,
    optimal_weights,
    two_layer_flow,
)
from diffuscope.theory.geometry import (
    Trajectories,
    components_for,
    displacements,
    emerged_share,
    feature_coordinates,
    follow,
    gaussian_trajectories,
    principal_directions,
    principal_shares,
    variations,
)
from diffuscope.theory.memorization_onset import chance_is_small
from diffuscope.theory.variance import (
    Affine,
    Bins,
    Ensemble,
    FieldRuns,
    Fourier,
    GaussianBumps,
    Jackknifed,
    LinearEnsemble,
    LinearFeatures,
    Naive,
    Population,
    RBFKernel,
    closure_report,
    effective_white_sample,
    matched_gaussian,
    quenched_sample,
    run_fields,
    train_linear,
)
from diffuscope.theory.variance.closure import cumulants, shares
from diffuscope.theory.variance.naive import gaussian_variance
from numbers_in_tests import double, seeded

TINY = 5e-324  # the least number above 0
BELOW_ONE = math.nextafter(1, 0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


DATA = Gaussian(double(0.5, -1.0), torch.eye(2, dtype=torch.float64), double(2.0, 0.3))
LINE = Gaussian(double(0.5), torch.eye(1, dtype=torch.float64), double(2.0))
DENOISER = ExactDenoiser(DATA, VE())
START = double(3.0, 4.0)[None] * double(1.0, -2.0)[:, None]
TIMES = double(3.0, 2.0, 1.0)
POPULATION = Population.of(LINE, VE(), (0.5, 1.0), time_nodes=2, nodes=2)
POINTS = double(1.0, 2.0)[:, None]


def path() -> Trajectories:
    return gaussian_trajectories(DATA, VE(), START, TIMES)


def runs(count: int, trajectories: int = 5) -> FieldRuns:
    return FieldRuns(normal(count, 2), normal(count, trajectories, 1, seed=1))


def linear(models: int) -> LinearEnsemble:
    return LinearEnsemble(Affine(1), VE(), normal(models, 1, 2))


def trained(samples: int = 4, models: int = 1, ridge: float = 0.1) -> LinearEnsemble:
    made = train_linear(LINE, VE(0.5, 2.0), Affine(1), samples=samples, models=models, ridge=ridge, generator=seeded())
    assert len(made) == models
    return made


def sampled_fields(number: int, trajectories: int) -> FieldRuns:
    return run_fields(
        lambda x, t: -x,  # noqa: ARG005
        number,
        VE(),
        double(2.0, 1.0),
        trajectories=trajectories,
        probes=[(POINTS, 1.0)],
        generator=seeded(),
    )


ACCEPTED: list[Callable[[], object]] = [
    # learning curves
    lambda: one_layer_flow(double(0.0), double(0.0), 0.5, alpha=0, sigma=TINY**0.5),
    lambda: two_layer_flow(double(1.0), double(1.0), 0.0, alpha=1, sigma=1),
    lambda: optimal_weights(double(1.0), 1e100, 1e-100),
    lambda: learned_variance(double(1.0), sigma_0=BELOW_ONE, sigma_T=1.0),
    lambda: AffineLearning(DATA, 0.0, 1e-3).rates,
    # emergence
    lambda: emergence_times(double(0.0, 1.0, 2.0), double(1.0, 2.0, 4.0)[:, None], double(4.0)),
    lambda: fit_power_law(double(1.0, 2.0, 4.0), double(3.0, 5.0, 9.0)),
    # copying
    lambda: copied(double(0.1, 0.9)[:, None], double(0.0, 1.0)[:, None]),
    lambda: [copies_surely(0, 1), copies_surely(1, 1), chance_is_small(0, 1), chance_is_small(1, 1)],
    lambda: checkpoints(50),
    lambda: forecast_onset([2, 1023], [TINY, 1e300], 1024),
    # geometry
    lambda: principal_shares(normal(3, 1, 2)),
    lambda: [components_for(double(0.6, 0.4)[None], share) for share in (TINY, BELOW_ONE)],
    lambda: emerged_share(double(TINY), double(1.0)),
    lambda: [feature_coordinates(path(), DATA, count) for count in (1, 2)],
    lambda: [principal_directions(normal(3, 2), count) for count in (1, 2)],
    lambda: principal_directions(normal(3, 5), 2),
    lambda: displacements(DENOISER, Heun(), START, TIMES, torch.eye(2, dtype=torch.float64), size=1e-300),
    lambda: path().normalized(TINY),
    lambda: follow(DENOISER, Heun(), START, double(3.0, 2.0, 1e-9)),
    lambda: [
        variations(DENOISER, Heun(), path(), torch.eye(2, dtype=torch.float64), size=1, step=step, which=which)
        for step, which in ((0, 0), (1, 1))
    ],
    # features
    lambda: GaussianBumps(-1, 1, 2, height=TINY),
    lambda: Fourier(TINY, cosines=0, sines=0),
    lambda: Bins(1.0, math.nextafter(1.0, 2), 1),
    lambda: RBFKernel(TINY, math.inf),
    # ensembles
    lambda: Jackknifed.of(normal(3, 2).square()),
    lambda: [Jackknifed.of(normal(3, 2).square()).interval(level) for level in (1e-9, BELOW_ONE)],
    lambda: Ensemble([DENOISER] * 3).draw(1, generator=seeded()),
    lambda: [linear(4).leave_out(groups) for groups in (2, 4)],
    lambda: trained(samples=2, ridge=0.0),
    lambda: trained(samples=1, ridge=1e-300 + 1e-3),
    lambda: matched_gaussian(linear(2), 1, generator=seeded()),
    lambda: LinearFeatures.of(POPULATION, Affine(1), samples=1, ridge=0.0).draw(1, generator=seeded()),
    lambda: sampled_fields(1, 1),
    # closure
    lambda: [
        closure_report(runs(4), runs(4), tolerance=tolerance, generator=seeded()) for tolerance in (TINY, BELOW_ONE)
    ],
    lambda: cumulants(normal(4, 2), generator=seeded()),
    lambda: shares(normal(2, 3), double(0.0)),
    # sampling
    lambda: quenched_sample(lambda x, t: -x, VE(), START[None], double(2.0, 1.0), trajectories=1),  # noqa: ARG005
    lambda: effective_white_sample(
        Naive(POINTS, VE(), 0.0), POINTS, double(2.0, 1.0), trajectories=1, generator=seeded()
    ),
    lambda: [gaussian_variance(TINY**0.25, 0.0, 1.0, 0.0), gaussian_variance(1.0, 2.0, 1.0, BELOW_ONE)],
    lambda: Population.of(LINE, VE(), (0.5, 0.5), time_nodes=2, nodes=2),
    lambda: Population.of(POINTS[:1], VE(), (0.5, 1.0), time_nodes=2, nodes=2),
]


@pytest.mark.parametrize("call", ACCEPTED)
def test_the_last_value_inside_is_accepted(call: Callable[[], object]) -> None:
    call()


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: one_layer_flow(double(1.0), double(1.0), 0.5, alpha=-TINY, sigma=1), "alpha, sigma"),
    (lambda: one_layer_flow(double(1.0), double(1.0), 0.5, alpha=math.inf, sigma=1), "alpha, sigma"),
    (lambda: one_layer_flow(double(1.0), double(1.0), 0.5, alpha=1, sigma=math.inf), "alpha, sigma"),
    (lambda: one_layer_flow(double(1.0), double(1.0), 0.5, alpha=1e300, sigma=1), "alpha, sigma: .*got 1e\\+300 and 1"),
    (lambda: one_layer_flow(double(0.0), double(1.0), 0.5, alpha=0, sigma=1e-200), "alpha, sigma"),
    (lambda: one_layer_flow(double(1e300), double(1.0), 0.5, alpha=1e10, sigma=1), "alpha, sigma"),
    (lambda: one_layer_flow(double(1.0), double(1.0), 0.5, alpha=1, sigma=-1), "alpha, sigma"),
    (lambda: one_layer_flow(double(1.0), double(1.0, -TINY), 0.5, alpha=1, sigma=1), "times"),
    (lambda: AffineLearning(DATA, 1.0, 0.0), "alpha, sigma"),
    (lambda: learned_variance(double(1.0), sigma_0=0.0, sigma_T=1.0), "sigma_0, sigma_T"),
    (lambda: learned_variance(double(1.0), sigma_0=1.0, sigma_T=1.0), "sigma_0, sigma_T"),
    (lambda: learned_variance(double(1.0), sigma_0=1.0, sigma_T=math.inf), "sigma_0, sigma_T"),
    (lambda: emergence_times(double(0.0, 1.0), torch.ones(2, 1).double(), double(1.0)), "times: expected at least"),
    (lambda: emergence_times(double(-TINY, 1.0, 2.0), torch.ones(3, 1).double(), double(1.0)), "times: expected"),
    (lambda: emergence_times(double(0.0, 1.0, 2.0), torch.ones(3, 1).double(), double(0.0)), "curves: expected"),
    (lambda: emergence_times(double(0.0, 1.0, 2.0), double(1.0, 0.0, 1.0)[:, None], double(1.0)), "curves: expected"),
    (lambda: fit_power_law(double(2.0, 2.0, 2.0), double(1.0, 2.0, 3.0)), "x, y: expected.*of different x, got 3"),
    (lambda: fit_power_law(double(0.0, 1.0, 2.0), double(1.0, 2.0, 3.0)), "x, y: expected.*got 2"),
    (lambda: fit_power_law(double(1.0, 2.0, 3.0), double(1.0, 0.0, 3.0)), "x, y: expected.*got 2"),
    (lambda: copies_surely(0, 0), "copies: expected"),
    (lambda: chance_is_small(0, 0), "copies: expected"),
    (lambda: chance_is_small(2, 1), "copies: expected.*number of samples 1, got 2"),
    (lambda: copies_surely(-1, 1), "copies: expected.*got -1"),
    (lambda: forecast_onset([1, 64], [1, 2], 128), "sizes: expected pilots of 2 to 127 examples, got 1, 64"),
    (lambda: forecast_onset([2, 128], [1, 2], 128), "sizes: expected pilots of 2 to 127 examples, got 2, 128"),
    (lambda: forecast_onset([2, 64], [0, 2], 128), "onsets: expected finite numbers > 0, got 0, 2"),
    (lambda: forecast_onset([2, 64], [1, math.inf], 128), "onsets: expected finite numbers > 0, got 1, inf"),
    (lambda: principal_shares(normal(2, 1, 2)), "points: expected at least three.*got 2"),
    (lambda: components_for(double(1.0)[None], 0.0), "share: expected"),
    (lambda: components_for(double(1.0)[None], 1.0), "share: expected"),
    (lambda: emerged_share(double(0.0), double(1.0)), "variances: expected"),
    (lambda: feature_coordinates(path(), DATA, 0), r"components: expected 1 \.\. 2, got 0"),
    (lambda: feature_coordinates(path(), DATA, 3), r"components: expected 1 \.\. 2, got 3"),
    (lambda: principal_directions(normal(3, 2), 0), r"count: expected 1 \.\. 2 directions of 3 points, got 0"),
    (lambda: principal_directions(normal(3, 5), 3), r"count: expected 1 \.\. 2 directions of 3 points, got 3"),
    (lambda: principal_directions(normal(9, 2), 3), r"count: expected 1 \.\. 2 directions of 9 points, got 3"),
    (
        lambda: displacements(DENOISER, Heun(), START, TIMES, torch.eye(2, dtype=torch.float64), size=0),
        "size: expected",
    ),
    (lambda: path().normalized(0), "scale: expected"),
    (lambda: follow(DENOISER, Heun(), START, double(3.0, 2.0, 0.0)), "times: expected at least three.*sigma = 0"),
    (
        lambda: variations(DENOISER, Heun(), path(), torch.eye(2, dtype=torch.float64), size=1, step=2),
        r"step: expected 0 \.\. 1 of the 2 steps of the trajectory, got 2",
    ),
    (
        lambda: variations(DENOISER, Heun(), path(), torch.eye(2, dtype=torch.float64), size=1, step=-1),
        r"step: expected 0 \.\. 1 .*got -1",
    ),
    (
        lambda: variations(DENOISER, Heun(), path(), torch.eye(2, dtype=torch.float64), size=1, step=0, which=2),
        r"which: expected 0 \.\. 1 of 2 trajectories, got 2",
    ),
    (
        lambda: variations(DENOISER, Heun(), path(), torch.eye(2, dtype=torch.float64), size=1, step=0, which=-1),
        r"which: expected 0 \.\. 1 .*got -1",
    ),
    (lambda: GaussianBumps(-1, 1, 1), "number: expected at least 2, got 1"),
    (lambda: GaussianBumps(1, 1, 2), "low, high: expected"),
    (lambda: GaussianBumps(-math.inf, 1, 2), "low, high: expected"),
    (lambda: GaussianBumps(-1, math.inf, 2), "low, high: expected"),
    (lambda: GaussianBumps(-1, 1, 2, height=0), "height: expected"),
    (lambda: GaussianBumps(-1, 1, 2, height=math.inf), "height: expected"),
    (lambda: Fourier(0), "period: expected"),
    (lambda: Fourier(math.inf), "period: expected"),
    (lambda: Fourier(1, cosines=-1), "cosines: expected at least 0, got -1"),
    (lambda: Fourier(1, sines=-1), "^sines: expected at least 0, got -1"),
    (lambda: Bins(1, 1, 1), "low, high: expected"),
    (lambda: Bins(0, 1, 0), "number: expected at least 1, got 0"),
    (lambda: RBFKernel(0), "length: expected a number > 0, got 0"),
    (lambda: RBFKernel(math.inf), "length: expected a finite number"),
    (lambda: RBFKernel(1, 0), "time_length: expected a number > 0, got 0"),
    (lambda: Jackknifed.of(normal(2, 2)), "members: expected at least 3.*got 2"),
    (lambda: Jackknifed.of(normal(3, 2).square()).interval(0.0), "confidence: expected"),
    (lambda: Jackknifed.of(normal(3, 2).square()).interval(1.0), "confidence: expected"),
    (lambda: Ensemble([DENOISER] * 2), "denoisers: expected at least 3, got 2"),
    (lambda: Ensemble([DENOISER] * 3).draw(0, generator=seeded()), "fields: expected at least 1, got 0"),
    (lambda: Ensemble([DENOISER] * 3).scores(START, 0.0), "t: expected a time with sigma > 0, got 0"),
    (lambda: linear(4).leave_out(1), "groups: expected a divisor >= 2 of the 4 models, got 1"),
    (lambda: linear(4).leave_out(8), "groups: expected.*got 8"),
    (lambda: trained(samples=0), "samples: expected at least 1, got 0"),
    (lambda: trained(models=0), "models: expected at least 1, got 0"),
    (lambda: trained(ridge=-TINY), "ridge: expected a finite number >= 0"),
    (lambda: trained(ridge=math.inf), "ridge: expected a finite number >= 0, got inf"),
    (lambda: trained(samples=1, ridge=0.0), "ridge: expected a larger one, the system of 2 features and 1 samples"),
    (lambda: matched_gaussian(linear(1), 1, generator=seeded()), "models of the ensemble: expected at least 2, got 1"),
    (lambda: matched_gaussian(linear(2), 0, generator=seeded()), "fields: expected at least 1, got 0"),
    (lambda: LinearFeatures.of(POPULATION, Affine(1), samples=0), "samples: expected at least 1, got 0"),
    (lambda: LinearFeatures.of(POPULATION, Affine(1), samples=1, ridge=-TINY), "ridge: expected a finite number >= 0"),
    (lambda: LinearFeatures.of(POPULATION, Affine(1), samples=1, ridge=math.inf), "ridge: expected.*got inf"),
    (
        lambda: LinearFeatures.of(POPULATION, Affine(1), samples=1).draw(0, generator=seeded()),
        "fields: expected at least 1, got 0",
    ),
    (lambda: sampled_fields(0, 1), "number: expected at least 1, got 0"),
    (lambda: sampled_fields(1, 0), "trajectories: expected at least 1, got 0"),
    (lambda: closure_report(runs(3), runs(4), generator=seeded()), "trained, gaussian: expected.*got 3 and 4"),
    (lambda: closure_report(runs(4), runs(3), generator=seeded()), "trained, gaussian: expected.*got 4 and 3"),
    (lambda: closure_report(runs(4), runs(4), tolerance=1, generator=seeded()), "tolerance: expected.*got 1"),
    (lambda: cumulants(normal(3, 2), generator=seeded()), "values: expected at least 4 runs, got 3"),
    (lambda: shares(normal(2, 3), double(0.0, 0.0)), "edges: expected"),
    (lambda: shares(normal(2, 3), double()), "edges: expected"),
    (lambda: shares(normal(2, 3), double(0.0, math.inf)), "edges: expected"),
    (lambda: quenched_sample(lambda x, t: -x, VE(), START[None], double(2.0)), "times: expected"),  # noqa: ARG005
    (
        lambda: quenched_sample(lambda x, t: -x, VE(), START[None], double(2.0, 2.0)),  # noqa: ARG005
        "times: expected",
    ),
    (lambda: Naive(POINTS, VE(), -TINY), "kappa: expected"),
    (lambda: gaussian_variance(0.0, 1.0, 1.0, 0.0), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(math.inf, 1.0, 1.0, 0.0), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(1.0, -TINY, 1.0, 0.0), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(1.0, math.inf, 1.0, 0.0), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(1.0, 1.0, 1.0, 1.0), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(1.0, 1.0, 1.0, -TINY), "v, kappa, start, end: expected"),
    (lambda: gaussian_variance(1.0, 1.0, math.inf, 0.0), "v, kappa, start, end: expected"),
    (lambda: Population.of(LINE, VE(), (0.5, 1.0), time_nodes=1), "time_nodes: expected at least 2, got 1"),
    (lambda: Population.of(LINE, VE(), (0.5, 1.0), nodes=1), "nodes: expected at least 2, got 1"),
    (lambda: Population.of(LINE, VE(), (0.0, 1.0)), "times: expected finite 0 <= epsilon <= T with sigma > 0"),
    (lambda: Population.of(LINE, VE(), (1.0, 0.5)), "times: expected finite 0 <= epsilon <= T"),
    (lambda: Population.of(LINE, VE(), (0.5, math.inf)), "times: expected finite 0 <= epsilon <= T"),
    (lambda: Population.of(torch.zeros(0, 2), VE(), (0.5, 1.0)), "data: expected rows"),
    (lambda: Population.of(torch.zeros(2, 0), VE(), (0.5, 1.0)), "data: expected rows"),
    (lambda: Population.of(normal(4, 3), VP(), (0.5, 1.0)), "generator: expected one for data of 3 > 2 coordinates"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_the_first_value_outside_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        call()

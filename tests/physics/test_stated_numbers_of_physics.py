"""The numbers that the texts state are those of the code."""

import math
from types import ModuleType

import pytest
import torch

from diffuscope.physics.grading.levy import BLUR, EVERY, JUMP, LAWS, LENGTH, blurred
from stated_numbers import parts_of, said, short

finite_prior, gibbs, particles, random_fields, solution, walk_posterior, weighted_draws = parts_of(
    "physics",
    ("finite_prior", "gibbs", "particles", "random_fields", "solution", "walk_posterior", "weighted_draws"),
)
chains, moments, levy = parts_of("physics", ("prior_chains", "solution_moments", "grading.levy"))
gaussian, metrics, run, scores = parts_of(
    "physics", ("grading.gaussian", "grading.metrics", "grading.run", "grading.scores")
)
darcy, burgers, helmholtz = parts_of("physics", ("operators.darcy", "problems.burgers", "problems.helmholtz"))


STATED = [
    (walk_posterior, f"a coarse lattice of {walk_posterior.COARSE} nodes"),
    (walk_posterior, f"more than {walk_posterior.LARGEST:,} nodes"),
    (walk_posterior, f"as wide as the factors ({walk_posterior.WIDE:g}/sqrt(p_i)"),
    (weighted_draws, f"**Above se(log Z) = {weighted_draws.TRUSTED:g} no error is stated**"),
    (finite_prior, f"gives more than {short(finite_prior.NEGLIGIBLE)} enter the sums"),
    (gibbs, f"R-hat <= {gibbs.R_HAT:g} and ESS >= {gibbs.LEAST_ESS:g}"),
    (chains, rf"\quad \epsilon = {chains.UNGUIDED:g},"),
    (chains, f"about {1 - chains.UNGUIDED:g} for a Gaussian p"),
    (random_fields, f"more than {random_fields.MOST_IMAGES:,} images"),
    (random_fields, f"at most 2^{math.log2(random_fields.MOST_NODES):g} nodes"),
    (darcy, f"as many fields as have 2^{math.log2(darcy.NODES):g} nodes"),
    (burgers, f"u_t + u u_x = {burgers.VISCOSITY:g} u_xx"),
    (burgers, f"To time {burgers.END:g} on a period"),
    (helmholtz, f"k = {helmholtz.WAVENUMBER:g} on the unit square"),
    (solution, f"less probable under the prior than {1 - moments.SURPRISING:.0%} of simulated ones"),
    (run, f"p < {run.LEVEL:g} / (scores x methods)"),
    (run, f"find a planted fault of at most {run.DETECTABLE:.0%}"),
    (scores, f"which hold {scores.SHARE:.0%} of its trace"),
    (metrics, f"pooled to {metrics.EXPECTED:g} expected"),
    (gaussian, f"in one dimension (65 nodes, {gaussian.MODES[1]} modes)"),
    (gaussian, f"in two (17 x 17 nodes, {gaussian.MODES[2]} x {gaussian.MODES[2]} modes)"),
    (levy, f"a Levy process of length {LENGTH}"),
    (levy, f"Student jumps ({LAWS['student'].dof:g} degrees of freedom)"),  # pyright: ignore
]


@pytest.mark.parametrize(("part", "words"), STATED, ids=[words for _, words in STATED])
def test_the_text_and_the_code_say_the_same_number(part: ModuleType, words: str) -> None:
    assert words in said(part)


def test_numbers_that_are_said_in_words() -> None:
    assert particles.RESAMPLE_BELOW == 1 / 2  # "below half of their number"
    assert (levy.POINTS, EVERY) == (12, 4)  # "twelve noisy points", "at every fourth place"
    assert round(2 / (1 - moments.LEVEL), 9) == solution.ENOUGH  # the ends are the lowest and the highest field
    assert [*moments.LEVELS] == pytest.approx([*(k / 10 for k in range(1, 10)), 0.95])
    assert (moments.LEVEL, moments.NOISIER) == (0.9, 5)
    assert [grid.shape for grid in gaussian.GRIDS] == [(65,), (17, 17)]
    assert [fault / smaller for fault, smaller in zip(run.PLANTED, run.PLANTED[1:], strict=False)] == [2, 2, 2, 2]


def test_levy_processes_are_in_units_of_their_root_mean_square_standard_deviation() -> None:
    """Var(x_i) = i Var(u), whose mean over i is 1."""
    assert JUMP**2 * sum(range(1, LENGTH + 1)) / LENGTH == pytest.approx(1, rel=1e-12)
    assert [law.variance for law in LAWS.values()] == pytest.approx([JUMP**2] * 3, rel=1e-12)


def test_a_blur_is_two_places_wide() -> None:
    """About its own place a row has the second moment of a Gaussian of that width, but at the ends."""
    rows, i = blurred().matrix, torch.arange(float(LENGTH), dtype=torch.float64)
    centers = torch.arange(float(EVERY // 2), LENGTH, EVERY, dtype=torch.float64)
    spread = (rows * (i - centers[:, None]).square()).sum(1)[4:-4]
    assert spread.tolist() == pytest.approx([4.0] * len(spread), rel=1e-6)
    assert BLUR == 2

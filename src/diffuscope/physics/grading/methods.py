r"""The methods that are graded: each draws n fields from p(x | y), given the prior's denoiser and the observation.

Guided denoisers are sampled by the same sampler on the same noise levels, from the same start. A method that needs
moments of the prior takes those of `PRIOR_DRAWS` draws of it, as a practitioner would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian
from diffuscope.physics.conditioning import DPS, CovarianceGuided, GaussianGuide, NormalizedDPS, PiGDM, Projected
from diffuscope.physics.exact_posterior import posterior
from diffuscope.physics.finite_prior import PointSet
from diffuscope.physics.observations import Observation, log_likelihood, observe
from diffuscope.physics.particles import sequential_monte_carlo
from diffuscope.samplers import generate
from diffuscope.streams import torch_stream

from .metrics import energy_score

Draws = Float[Tensor, "n *event"]
PRIOR_DRAWS = 1000
WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of DPS, to be chosen from
TUNING = (4, 8)  # problems drawn from the prior, and draws for each
PARTICLES, REPLICAS, LEVELS = 256, 4, 8
BEYOND = ("expected finite samples", "center: expected values")  # said of states that have left every scale


class DivergedError(Exception):
    """The draws are not finite."""


@runtime_checkable
class Method(Protocol):
    """`method(denoiser, observation, y, n, seed=0, steps=50)`: n draws, or (draws, log weights) of any number.

    `denoiser` has `.schedule` and, where the prior is known, `.distribution`; `observation` has `.event_shape`,
    `.noise`, and is a `LinearObservation` with `.matrix` where it is linear.

    >>> from diffuscope.physics.grading import METHODS, Method
    >>> isinstance(METHODS["dps"].method, Method)
    True
    """

    def __call__(
        self, denoiser: Denoiser, observation: Observation, y: Float[Tensor, " m"], n: int, *, seed: int, steps: int
    ) -> Tensor | tuple[Tensor, Tensor]: ...


def distribution_of(denoiser: Denoiser) -> Distribution:
    """The prior itself. Raises InputError where the denoiser does not know it."""
    if not isinstance(found := getattr(denoiser, "distribution", None), Distribution):
        raise InputError("denoiser: expected one with a distribution, got one without")
    return found


def matched_gaussian(denoiser: Denoiser, seed: int) -> Gaussian:
    """The Gaussian of the prior's mean and covariance: itself where it is one, else that of some of its draws."""
    distribution = distribution_of(denoiser)
    if isinstance(distribution, Gaussian):
        return distribution
    if isinstance(distribution, Empirical):
        x = distribution.points.double()
    else:
        x = distribution.sample(PRIOR_DRAWS, generator=torch_stream(seed, "moments")).double()
    flat, mean = x.flatten(1), x.flatten(1).mean(0)
    left, values, right = torch.linalg.svd(flat - mean, full_matrices=False)
    del left
    return Gaussian(mean.reshape(x.shape[1:]), right.T, values.square() / len(x))


def exact_denoiser(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Draws:
    """The probability flow of the exact posterior's denoiser: only discretization is left."""
    distribution = distribution_of(denoiser)
    exact = posterior(distribution, observation, y)
    if isinstance(exact, Empirical):
        exact = PointSet.of(exact)
    return generate(
        ExactDenoiser(exact, denoiser.schedule), n, steps=steps, seed=seed, event_shape=tuple(observation.event_shape)
    )


def prior(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Draws:
    """Samples of the prior, whatever y."""
    del y
    return generate(denoiser, n, steps=steps, seed=seed, event_shape=tuple(observation.event_shape))


def gaussian_guide(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Draws:
    """The exact guide of the Gaussian with the prior's mean and covariance: its denoiser and its correction."""
    gaussian = ExactDenoiser(matched_gaussian(denoiser, seed), denoiser.schedule)
    return generate(GaussianGuide(gaussian, observation, y), n, steps=steps, seed=seed)


def gaussian_process(
    denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int
) -> Draws:
    """Gaussian-process regression with the prior's mean and covariance: draws in closed form, no diffusion."""
    del steps
    exact = posterior(matched_gaussian(denoiser, seed), observation, y)
    return exact.sample(n, generator=torch_stream(seed, "process"))


def nearest(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Draws:
    """The likeliest of the prior's points or draws, n times."""
    del steps
    distribution = distribution_of(denoiser)
    if isinstance(distribution, Empirical):
        x = distribution.points
    else:
        x = distribution.sample(PRIOR_DRAWS, generator=torch_stream(seed, "candidates"))
    return x[int(log_likelihood(observation, x, y).argmax())].expand(n, *x.shape[1:]).clone()


def guided(guide: Callable[..., Denoiser], **options: Any) -> Callable[..., Tensor]:
    """The method that samples a guided denoiser."""

    def method(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Tensor:
        try:
            return generate(guide(denoiser, observation, y, **options), n, steps=steps, seed=seed)
        except InputError as error:
            if any(said in str(error) for said in BEYOND):
                raise DivergedError from error
            raise

    return method


def tuned_dps(denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int) -> Draws:
    """DPS with the weight of the least energy score on problems that are drawn from the prior."""
    generator = torch_stream(seed, "tuning")
    problems, each = TUNING
    truths = distribution_of(denoiser).sample(problems, generator=generator).double()
    values = observe(observation, truths, generator=generator).repeat_interleave(each, 0)
    scores = {}
    for weight in WEIGHTS:
        try:
            found = guided(DPS, weight=weight)(denoiser, observation, values, problems * each, seed=seed, steps=steps)
        except DivergedError:
            scores[weight] = torch.inf
            continue
        ensembles = found.double().reshape(problems, each, -1)
        one = torch.ones(1, dtype=torch.float64)
        scores[weight] = sum(
            energy_score(draws, truth.reshape(1, -1), one) for draws, truth in zip(ensembles, truths, strict=True)
        )
    best = min(scores, key=scores.__getitem__)
    return guided(DPS, weight=best)(denoiser, observation, y, n, seed=seed, steps=steps)


def particles(
    denoiser: Denoiser, observation: Observation, y: Tensor, n: int, *, seed: int, steps: int, bootstrap: bool
) -> Draws:
    """n draws from weighted particles; where the prior's chain is exact, so are they at any number of levels."""
    del steps
    found = sequential_monte_carlo(
        denoiser, observation, y, particles=PARTICLES, replicas=REPLICAS, steps=LEVELS, seed=seed,
        proposal=denoiser if bootstrap else None,
    )  # fmt: skip
    return found.draws(n, generator=torch_stream(seed, "draws"))


@dataclass(frozen=True)
class Entry:
    """A method with what it is called in the table; `None` in place of the method are the case's own exact draws.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.grading import METHODS
    >>> from diffuscope.schedules import VP
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VP())
    >>> seen = at_nodes(torch.tensor([0]), (1,), noise=1.0)
    >>> x = METHODS["gaussian-process"].method(prior, seen, torch.tensor([2.0]), 4000, seed=0, steps=1)
    >>> bool((x.mean() - 1.5).abs() < 4 * 0.0137), bool((x.var() - 0.75).abs() < 4 * 0.0168)  # standard errors
    (True, True)
    """

    name: str
    title: str
    method: Method | None


METHODS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("exact", "Exact draws", None),
        Entry("exact-denoiser", "Exact posterior denoiser", exact_denoiser),
        Entry("smc-twisted", "Sequential Monte Carlo, twisted", partial(particles, bootstrap=False)),
        Entry("smc-bootstrap", "Sequential Monte Carlo, bootstrap", partial(particles, bootstrap=True)),
        Entry("covariance-guided", "Posterior-covariance guidance", guided(CovarianceGuided)),
        Entry("gaussian-guide", "Gaussian guide", gaussian_guide),
        Entry("gaussian-process", "Gaussian-process regression", gaussian_process),
        Entry("pigdm", "PiGDM", guided(PiGDM)),
        Entry("dps", "DPS, weight 1", guided(DPS)),
        Entry("dps-tuned", "DPS, tuned weight", tuned_dps),
        Entry("dps-normalized", "DPS, published step", guided(NormalizedDPS)),
        Entry("projected", "Projection onto the data", guided(Projected)),
        Entry("nearest", "Likeliest field of the prior", nearest),
        Entry("prior", "Prior, unconditional", prior),
    )
}

"""A prior by name: generated fields, the Gaussian of the problem, public fields, or an object of the user's own."""

import math

from diffuscope.denoisers import Denoiser, Weights, given_weights, load_network, loaded_weights
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.streams import torch_stream

from .kernel_prior import KernelPrior
from .operators.laplacian import ShiftedLaplacian
from .prior_fields import Prior, Remember, forget, generated_fields
from .priors import joint_prior, sine_forcing
from .problem import Problem
from .public_fields import NAMES, PublicFields

MODES = 8  # of the random forcing, along an axis: as `random_sources` draws them
TRUTHS = 400
LARGEST = 4096  # values of a field whose covariance is formed
WORDS = ("generated", "gaussian", "open-boundary")


def named_prior(
    name: str,
    problem: Problem,
    *,
    fields: int = 4000,
    seed: int = 0,
    remember: Remember = forget,
    progress: bool = False,
    weights: Weights | None = None,
) -> Prior:
    """The prior called `name` of a problem's fields.

    `generated`: a finite set of random fields. `gaussian`: the exact distribution of the same fields where the equation
    is linear, otherwise the Gaussian of their mean and covariance. `open-boundary`: as `gaussian` with unknown boundary
    values of standard deviation 1, for Poisson's equation. `module:object`: a Distribution whose posterior is known
    (Gaussian, GaussianMixture, KernelPrior, Empirical) or a Denoiser, whose `weights` may be in a file of their own,
    also as `module:object?weights=FILE&prefix=P`. Raises InputError for others.

    >>> import math
    >>> from diffuscope.physics import PROBLEMS, named_prior
    >>> prior = named_prior("gaussian", PROBLEMS["poisson-1d"](nodes=17))
    >>> prior.words
    'the exact Gaussian of solutions under random forcing, zero on the boundary'
    >>> expected = 8 * (1 + (32 * math.sin(math.pi / 32)) ** -4)  # the first mode of f, and of u = f / lambda_1
    >>> round(float(prior.distribution.eigenvalues[0]) / expected, 6)
    1.0
    """
    if name == "generated":
        drawn = generated_fields(problem, fields, seed=seed, remember=remember, progress=progress)
        mend = "use more of them (--fields {more}) or --prior gaussian"
        return Prior(name=name, words=f"a finite set of {fields:,} generated fields", fields=drawn, mend=mend)
    if name == "gaussian":
        return _gaussian(problem, fields, seed, remember, progress)
    if name == "open-boundary":
        return _open_boundary(problem, seed)
    if ":" not in name:
        raise InputError(f"prior: expected {', '.join(WORDS)}, {', '.join(NAMES)}, or module:object, got {name!r}")
    named, _, options = name.partition("?")
    try:
        asked, rest = given_weights(options, weights and weights.path, weights and weights.prefix)
        if rest:
            raise InputError(f"prior: expected {named}?weights=FILE&prefix=PREFIX, got {rest!r}")
        found = load_network(named, asked, "prior")
    except InputError as error:
        if weights is None and str(error).startswith("weights"):  # that were named with the prior
            raise InputError(f"prior: {error}") from error
        raise
    return own_prior(found, named)


def own_prior(found: object, name: str) -> Prior:
    """A distribution or a denoiser of the user's.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.physics import own_prior
    >>> own_prior(Empirical(torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]])), "mine:fields").words
    'mine:fields, your own: a finite set of 3 fields'
    """
    words = f"{name}, your own"
    if isinstance(found, Empirical):
        return Prior(name=name, words=f"{words}: a finite set of {len(found):,} fields", fields=found.points.double())
    if isinstance(found, Gaussian):
        truths = found.sample(TRUTHS, generator=torch_stream(0, "solve", "truths"))
        return Prior(name=name, words=f"{words}: a Gaussian", distribution=found, truths=truths)
    if isinstance(found, (GaussianMixture, KernelPrior)):
        kind = "a Gaussian mixture" if isinstance(found, GaussianMixture) else "a kernel density of fields"
        return Prior(name=name, words=f"{words}: {kind}", distribution=found)
    if isinstance(found, Denoiser):
        kept = "".join(f"; {loaded.note}" for loaded in loaded_weights(found))
        return Prior(name=name, words=f"{words}: a denoiser, guided by its posterior covariance{kept}", denoiser=found)
    known = "a Gaussian, a GaussianMixture, a KernelPrior, an Empirical or a Denoiser"
    raise InputError(f"prior: expected {known}, got {type(found).__name__} from {name}")


def public_prior(public: PublicFields) -> Prior:
    """The finite set of public training fields."""
    return Prior(
        name=public.name, words=public.words, fields=public.train,
        mend="use fewer readings, or --prior gaussian, which approximates our own fields",
        residual_words="Not checked: the public fields were computed on a finer grid, by a scheme that is not ours.",
    )  # fmt: skip


def _gaussian(problem: Problem, fields: int, seed: int, remember: Remember, progress: bool) -> Prior:
    if isinstance(problem.equation, ShiftedLaplacian):
        forcing = sine_forcing(problem.equation.grid, MODES, boundary_variance=0)
        truths = generated_fields(problem, TRUTHS, seed=seed, stream="truths", remember=remember)
        return Prior(
            name="gaussian", words="the exact Gaussian of solutions under random forcing, zero on the boundary",
            distribution=joint_prior(problem.equation, forcing), truths=truths,
        )  # fmt: skip
    size = math.prod(problem.event_shape)
    if size > LARGEST:
        raise InputError(f"nodes: expected at most {LARGEST:,} values of a field for the prior gaussian, got {size:,}")
    drawn = generated_fields(problem, fields, seed=seed, remember=remember, progress=progress)
    truths = generated_fields(problem, TRUTHS, seed=seed, stream="truths", remember=remember, progress=progress)
    return Prior(
        name="gaussian", words=f"the Gaussian of mean and covariance of {fields:,} generated fields, an approximation",
        distribution=Gaussian.fit([drawn]), truths=truths,
    )  # fmt: skip


def _open_boundary(problem: Problem, seed: int) -> Prior:
    if not problem.name.startswith("poisson"):
        raise InputError(f"prior: expected open-boundary with poisson-1d or poisson-2d, got {problem.name}")
    forcing = sine_forcing(problem.equation.grid, MODES, boundary_variance=1.0)
    distribution = joint_prior(problem.equation, forcing)
    generator = torch_stream(seed, "solve", "truths")
    return Prior(
        name="open-boundary",
        words="the exact Gaussian of solutions under random forcing and boundary values of standard deviation 1",
        distribution=distribution, truths=distribution.sample(TRUTHS, generator=generator),
    )  # fmt: skip

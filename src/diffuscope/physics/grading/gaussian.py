r"""Cases with a Gaussian prior and a linear observation: Poisson fields in one and two dimensions.

The posterior is Gaussian, in closed form. Its reference points are draws with exactly its mean and covariance: standard
normal coordinates Z (K x k) in antithetic pairs, times :math:`(Z^T Z / K)^{-1/2}`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics.exact_posterior import posterior
from diffuscope.physics.grid import Grid
from diffuscope.physics.observations import LinearObservation, at_nodes, observe
from diffuscope.physics.priors import sine_prior
from diffuscope.schedules import VP
from diffuscope.streams import torch_stream

from .case import Case

GRIDS = (Grid((65,)), Grid((17, 17)))  # in turn
MODES = {1: 8, 2: 4}  # along each axis
BOUNDARY = 0.003  # variance of the boundary values, of the order of that of the solution
SENSORS, NOISE = (4, 12), (0.05, 0.3)  # ranges; the noise is relative to the root mean square of the field
REFERENCE = 4096


def poisson_cases(problems: int, seed: int) -> list[Case]:
    """Solutions of -Lap u = f with random f and boundary values, at random sensors with random noise.

    In turn in one dimension (65 nodes, 8 modes) and in two (17 x 17 nodes, 4 x 4 modes).

    >>> from diffuscope.physics import posterior
    >>> from diffuscope.physics.grading import poisson_cases
    >>> case, = poisson_cases(1, seed=0)
    >>> exact = posterior(case.denoiser.distribution, case.observation, case.y)
    >>> bool((case.reference.mean(0) - exact.mean).abs().max() < 1e-12), case.event_shape  # 65 nodes, then 17 x 17
    (True, (65,))
    """
    priors = [_unit(sine_prior(grid, MODES[grid.axes], boundary_variance=BOUNDARY, boundary_modes=2)) for grid in GRIDS]
    cases = []
    for index in range(problems):
        prior = priors[index % len(priors)]
        generator = torch_stream(seed, "gaussian", str(index))
        sensors = int(torch.randint(SENSORS[0], SENSORS[1] + 1, (1,), generator=generator))
        noise = float(NOISE[0] + (NOISE[1] - NOISE[0]) * torch.rand(1, generator=generator))
        nodes = torch.randperm(prior.dimension, generator=generator)[:sensors]
        observation = at_nodes(nodes, prior.event_shape, noise)
        y = observe(observation, prior.sample(1, generator=generator), generator=generator)[0]
        cases.append(gaussian_case(f"poisson-{len(prior.event_shape)}d-{index}", prior, observation, y, seed=seed))
    return cases


def gaussian_case(
    name: str, prior: Gaussian, observation: LinearObservation, y: Float[Tensor, " m"], *, seed: int = 0
) -> Case:
    """The case of a Gaussian prior without variance outside its eigenvectors. Raises InputError for another prior.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.grading import gaussian_case
    >>> prior = Gaussian(torch.zeros(1), torch.eye(1), torch.tensor([3.0]))
    >>> case = gaussian_case("one", prior, at_nodes(torch.tensor([0]), (1,), noise=1.0), torch.tensor([2.0]))
    >>> x = case.reference
    >>> round(float(x.mean()), 6), round(float(x.var(correction=0)), 6)  # 3 x 2 / (3 + 1), 3 x 1 / (3 + 1)
    (1.5, 0.75)
    """
    exact = posterior(prior, observation, y)
    if not isinstance(exact, Gaussian) or exact.tail_variance > 0:
        raise InputError("prior: expected a Gaussian without variance outside its eigenvectors")
    return Case(
        name=name,
        family="gaussian",
        denoiser=ExactDenoiser(prior, VP()),
        observation=observation,
        y=y,
        exact=lambda n, generator: exact.sample(n, generator=generator),
        reference=moment_matched(exact, REFERENCE, generator=torch_stream(seed, "reference", name)),
    )


def moment_matched(gaussian: Gaussian, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
    """n draws, not independent: their mean and covariance (1/n) are those of the Gaussian, to rounding."""
    z = torch.randn(n // 2, len(gaussian.eigenvalues), dtype=torch.float64, generator=generator)
    L = torch.linalg.cholesky(z.T @ z / len(z))
    z = torch.linalg.solve_triangular(L, z.T, upper=False).T
    fields = (torch.cat([z, -z]) * gaussian.eigenvalues.sqrt()) @ gaussian.eigenvectors.T
    return gaussian.mean + fields.reshape(-1, *gaussian.event_shape)


def _unit(prior: Gaussian) -> Gaussian:
    """The prior in units of its root mean square standard deviation."""
    scale = math.sqrt(prior.trace / prior.dimension)
    return Gaussian(prior.mean / scale, prior.eigenvectors, prior.eigenvalues / scale**2)

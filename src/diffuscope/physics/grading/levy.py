r"""Cases whose prior is a Levy process of length 64, in units of its root mean square standard deviation.

Four problems in turn: Laplace jumps seen at twelve noisy points, spike-and-slab jumps through a blur at every fourth
place, spike-and-slab jumps at twelve points, and Student jumps (4 degrees of freedom) through the same blur. The
prior's denoiser is exact to 2e-3 posterior standard deviations for all. Given points, the posterior is drawn
independently, backward through exact messages on a lattice; given a blur, by Gibbs sampling, whose chains are refused
("cannot tell") where they have not mixed.

The cost of not knowing the posterior mean is the optimality gap of Bohra et al. 2023 (arXiv:2203.15172),

.. math::  10 \log_{10} \frac{E\|\hat x(y) - x\|^2}{E\|E[x \mid y] - x\|^2}
    = 10 \log_{10}\Bigl(1 + \frac{E\|\hat x(y) - E[x \mid y]\|^2}{E\,\mathrm{tr}\,\mathrm{Cov}(x \mid y)}\Bigr) ,

computed by the right side, which needs no truth and has no noise of its own. The mean of n exact draws has
10 log10(1 + 1/n).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.gibbs import gibbs
from diffuscope.physics.levy import BernoulliGaussJumps, JumpLaw, LaplaceJumps, LevyProcess, StudentJumps
from diffuscope.physics.levy_distribution import LevyDistribution, levy_denoiser
from diffuscope.physics.observations import LinearObservation, at_nodes, observe
from diffuscope.schedules import VE
from diffuscope.streams import torch_stream

from .case import Case, resampled

LENGTH, POINTS, NOISE = 64, 12, 0.1
BLUR, EVERY = 2.0, 4  # standard deviation of the kernel in places, and one value in so many
REFERENCE = 4096
SIGMA_MAX = 200.0  # at 20, what the start misses of the posterior mean is 1.7 Monte-Carlo standard errors of 128 draws
RESOLUTION = 1.5  # of the lattice of the denoiser: 2e-3 posterior standard deviations, at 60% of the cost of 2
CHAINS, BURN_IN, SWEEPS = 16, 100, 400
JUMP = math.sqrt(2 / (LENGTH + 1))  # standard deviation of a jump: the mean over i of JUMP^2 i is 1
RATE = 0.1
LAWS: dict[str, JumpLaw] = {
    "laplace": LaplaceJumps(JUMP / math.sqrt(2)),
    "student": StudentJumps(4.0, JUMP / math.sqrt(2)),
    "spike-and-slab": BernoulliGaussJumps(RATE, JUMP / math.sqrt(RATE)),
}
PROBLEMS = (("laplace", "points"), ("spike-and-slab", "blur"), ("spike-and-slab", "points"), ("student", "blur"))


def levy_cases(problems: int, seed: int) -> list[Case]:
    """The problems in turn, with paths and noise of their own."""
    return [levy_case(*PROBLEMS[index % len(PROBLEMS)], index=index, seed=seed) for index in range(problems)]


def levy_case(jumps: str, seen: str, *, index: int = 0, seed: int = 0) -> Case:
    """One problem; InputError for an unknown law, and for what is seen other than "points" and "blur"."""
    if jumps not in LAWS or seen not in ("points", "blur"):
        raise InputError(f"jumps, seen: expected one of {', '.join(LAWS)} and points or blur, got {jumps} and {seen}")
    name = f"levy-{jumps}-{seen}-{index}"
    generator = torch_stream(seed, name)
    process = LevyProcess(LAWS[jumps], LENGTH)
    observation = _points(generator) if seen == "points" else blurred()
    y = observe(observation, process.draw(1, generator=generator), generator=generator)[0]
    sample = _by_messages if seen == "points" else _by_chains
    reference = sample(process, observation, y, torch_stream(seed, name, "reference"))
    return Case(
        name=name,
        family="levy",
        denoiser=levy_denoiser(process, VE(sigma_max=SIGMA_MAX), resolution=RESOLUTION),
        observation=observation,
        y=y,
        exact=resampled(reference),
        reference=reference,
    )


def blurred(noise: float = NOISE) -> LinearObservation:
    """A Gaussian blur, its rows of sum 1, at every fourth place."""
    i = torch.arange(LENGTH, dtype=torch.float64)
    kernel = torch.exp(-0.5 * ((i[EVERY // 2 :: EVERY, None] - i) / BLUR).square())
    return LinearObservation(kernel / kernel.sum(1, keepdim=True), (LENGTH,), noise)


def optimality_gap(cases: Sequence[Case], means: Sequence[Float[Tensor, " n"]]) -> float:
    """Of estimates of the posterior means, in dB over all cases; 0 for the posterior means themselves."""
    excess, least = 0.0, 0.0
    for case, mean in zip(cases, means, strict=True):
        center = case.masses @ case.reference
        excess += float((mean.double() - center).square().sum())
        least += float(case.masses @ (case.reference - center).square().sum(1))
    return 10 * math.log10(1 + excess / least)


def _points(generator: torch.Generator) -> LinearObservation:
    """Random places, the last among them, so that no heavy tail is left open."""
    chosen = torch.randperm(LENGTH - 1, generator=generator)[: POINTS - 1].sort().values
    return at_nodes(torch.cat([chosen, torch.tensor([LENGTH - 1])]), (LENGTH,), NOISE)


def _by_messages(
    process: LevyProcess, observation: LinearObservation, y: Tensor, generator: torch.Generator
) -> Float[Tensor, "K n"]:
    return LevyDistribution(process).given(observation, y).sample(REFERENCE, generator=generator)


def _by_chains(
    process: LevyProcess, observation: LinearObservation, y: Tensor, generator: torch.Generator
) -> Float[Tensor, "K n"]:
    stream = int(torch.randint(2**31, (1,), generator=generator))
    for sweeps in (SWEEPS, 4 * SWEEPS):
        chains = gibbs(process, observation, y, chains=CHAINS, burn_in=BURN_IN, sweeps=sweeps, seed=stream)
        if chains.mixed:
            break
    return chains.require_mixed().draws(REFERENCE)[:, 0]

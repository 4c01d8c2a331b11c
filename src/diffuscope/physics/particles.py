r"""Sequential Monte Carlo: a guided sampler whose weights correct it, asymptotically exact.

Let the prior be a chain :math:`p(x_{t_0}) \prod_k p(x_{t_k} | x_{t_{k-1}})\, p(x_0 | x_{t_K})` (`prior_chains`). With
twisting functions :math:`\psi_k(x) \approx p(y | x_{t_k} = x)` the intermediate targets are the prior chain up to k
times :math:`\psi_k(x_{t_k})`; the last is the prior chain times the **likelihood** :math:`p(y | x_0)`. A particle moves
by a proposal q and has its weight multiplied by

.. math::
    \frac{p(x_{t_k} | x_{t_{k-1}})\, \psi_k(x_{t_k})}{q(x_{t_k} | x_{t_{k-1}})\, \psi_{k-1}(x_{t_{k-1}})},
    \qquad \text{at the end by} \quad \frac{p(y | x_0)}{\psi_K(x_{t_K})} .

Whatever is positive may stand for psi, and any guided denoiser for the proposal: they decide how even the weights are,
not what is sampled. That is the posterior of the prior *chain*: :math:`p_0(x_0) p(y | x_0) / p(y)` where the chain is
exact (an `ExactDenoiser` of a Gaussian, a mixture or a finite set: at any number of steps), and for another denoiser
the posterior whose prior is what DDPM with these steps generates. That error of discretization remains, and no number
of particles removes it.

Particles are resampled (systematically, within their replica) where the effective sample size
:math:`(\sum w)^2/\sum w^2` falls below half of their number. The product of the mean weights between resamplings is an
unbiased estimate of the evidence p(y), adaptive resampling included (Whiteley, Lee & Heine 2016).

Estimates from the particles and their errors: `weighted_draws`.

Sources: Wu, Trippe, Naesseth, Blei & Cunningham 2023 (arXiv:2306.17775); Whiteley, Lee & Heine 2016 (Bernoulli 22).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.memory import require_memory
from diffuscope.samplers.generation import model_times
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import Instant, instants
from diffuscope.streams import require_seed, torch_stream

from .finite_prior import FiniteTwist, PointSet
from .observations import Observation, log_likelihood
from .prior_chains import ExactChain, PriorChain, prior_chain, propose
from .twisting import PilotTwist
from .weighted_draws import Particles, effective_sample_size, systematic

Twist = Callable[[Batch, Batch, float], Float[Tensor, " batch"]]  # (x_t, D(x_t, t), t) -> log psi(x_t)
RESAMPLE_BELOW = 0.5


def sequential_monte_carlo(
    denoiser: Denoiser,
    observation: Observation,
    y: Float[Tensor, "..."],
    *,
    particles: int = 256,
    replicas: int = 8,
    steps: int = 50,
    times: Float[Tensor, " times"] | None = None,
    seed: int = 0,
    proposal: Denoiser | None = None,
    twist: Twist | None = None,
    chain: PriorChain | None = None,
    event_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1024,
) -> Particles:
    r"""Weighted draws from p(x_0 | y): `replicas` independent runs of `particles` each, over `steps` noise levels.

    The prior is the `chain` of the `denoiser` (by default `prior_chain`: exact where it can be). The `twist` gets
    (x_t, D(x_t, t), t) and returns the log of psi; by default the exact one of a finite set (`FiniteTwist`),
    and else a Gaussian in h(D) with the covariance of h(x_0) - h(D) measured on a pilot run (`PilotTwist`). The
    `proposal` is a guided denoiser, such as `DPS` or `CovarianceGuided`; by default the denoiser guided by the gradient
    of the twist, :math:`D + (\sigma^2/\alpha)\nabla\log\psi`, as in Wu et al.; the denoiser itself makes it a bootstrap
    filter.
    NFE: particles x replicas x (steps + 1), and those of the proposal and of the twist.

    Raises InputError for fewer than 2 particles or replicas, for noise 0 (a hard constraint has no density to weigh
    by; use `Projected` or `posterior`), a y that is not one
    observation of finite values, a denoiser without `event_shape` unless it is given, weights that all vanish.

    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VP
    >>> from diffuscope.physics import at_nodes
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VP())
    >>> found = sequential_monte_carlo(prior, at_nodes(torch.tensor([0]), (1,), noise=1.0), torch.tensor([2.0]))
    >>> mean, error = found.mean()
    >>> bool((mean - 1).abs() < 4 * error)
    True
    """
    if min(particles, replicas) < 2:
        raise InputError(f"particles, replicas: expected at least 2, got {particles} and {replicas}")
    if observation.noise == 0:
        raise InputError("observation: expected noise > 0 (a hard constraint has no density to weigh by), got 0")
    if y.ndim != 1 or not bool(y.isfinite().all()):
        raise InputError(f"y: expected one observation (m,) of finite values, got shape {tuple(y.shape)}")
    require_seed(seed)
    chain = prior_chain(denoiser) if chain is None else chain
    shape = tuple(observation.event_shape) if event_shape is None else event_shape
    n = particles * replicas
    require_memory(40.0 * n * math.prod(shape), "particles", f"{n:,} particles of shape {shape}")
    times = model_times(denoiser, steps) if times is None else times
    levels = instants(denoiser.schedule, times)
    noise = Noise(torch_stream(seed, "particles"))
    like = torch.empty(n, *shape, dtype=dtype or torch.get_default_dtype())
    pilot = None
    prior = getattr(chain.denoiser, "distribution", None)
    if twist is None and isinstance(chain, ExactChain) and isinstance(prior, PointSet):
        twist = FiniteTwist.of(prior, chain.schedule, observation, y)
    if twist is None:
        pilot = PilotTwist.measured(chain, observation, y, levels, like[:1], torch_stream(seed, "pilot"))
    run = _Run(chain, chain.denoiser if proposal is denoiser else proposal, twist or pilot, batch_size)  # pyright: ignore
    x = chain.start(like, levels[0], noise)
    state = run.looked(x, levels[0])
    log_weights = state.log_psi.reshape(replicas, particles)
    ess, resampled = [], []

    def weighed() -> None:
        size = effective_sample_size(log_weights)
        if not bool(torch.isfinite(log_weights.amax(1)).all()):
            raise InputError("particles: expected a positive weight in every replica, got none (NaN or all zero)")
        ess.append(size)
        resampled.append(size < RESAMPLE_BELOW * particles)

    weighed()
    for t, s in itertools.pairwise(levels):
        log_weights, state = _resampled(log_weights, resampled[-1], state, noise.generator)
        x, log_ratio = run.moved(state, t, s, noise)
        after = run.looked(x, s)
        log_weights = log_weights + (log_ratio + after.log_psi - state.log_psi).reshape(replicas, particles)
        state = after
        weighed()
    log_weights, state = _resampled(log_weights, resampled[-1], state, noise.generator)
    x_0 = chain.finish(state.x_t, state.denoised, levels[-1], noise)
    likelihood = log_likelihood(observation, x_0, y)
    log_weights = log_weights + (likelihood - state.log_psi).reshape(replicas, particles)
    weighed()
    resampled[-1] = torch.zeros_like(resampled[-1])
    return Particles(
        x_0.reshape(replicas, particles, *shape), log_weights, torch.stack(ess), torch.stack(resampled),
        n * len(levels) + (pilot.nfe if pilot else 0),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _State:
    """Particles at one level, what the prior's denoiser makes of them, the twist, and the proposal's denoised - D."""

    x_t: Batch
    denoised: Batch
    log_psi: Float[Tensor, " batch"]
    shift: Batch | None

    def __getitem__(self, index: Tensor) -> "_State":
        shift = None if self.shift is None else self.shift[index]
        return _State(self.x_t[index], self.denoised[index], self.log_psi[index], shift)


@dataclass(frozen=True)
class _Run:
    chain: PriorChain
    proposal: Denoiser | None
    twist: Twist
    batch_size: int

    def looked(self, x: Batch, at: Instant) -> _State:
        """The state of particles x at a level, in batches."""
        parts = [self._looked(part, at) for part in x.split(self.batch_size)]
        shift = None if parts[0].shift is None else torch.cat([part.shift for part in parts])  # pyright: ignore
        return _State(x, torch.cat([p.denoised for p in parts]), torch.cat([p.log_psi for p in parts]), shift)

    def _looked(self, x: Batch, at: Instant) -> _State:
        denoiser = self.chain.denoiser
        if self.proposal is None:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                denoised = denoiser(x, at.t)
                log_psi = self.twist(x, denoised, at.t)
                (gradient,) = torch.autograd.grad(log_psi.sum(), x)
            # at alpha = 0 the state says nothing, and there is no gradient to follow
            shift = gradient * (at.sigma**2 / at.alpha if at.alpha > 0 else 0.0)
            return _State(x, denoised.detach(), log_psi.detach().double(), shift)
        with torch.no_grad():
            denoised = denoiser(x, at.t)
            log_psi = self.twist(x, denoised, at.t).double()
            shift = None if self.proposal is self.chain.denoiser else self.proposal(x, at.t) - denoised
        return _State(x, denoised, log_psi, shift)

    def moved(self, state: _State, t: Instant, s: Instant, noise: Noise) -> tuple[Batch, Float[Tensor, " batch"]]:
        """The particles at the next level, and log p - log q of their moves."""
        if state.shift is None:
            x_s = self.chain.step(state.x_t, state.denoised, t, s, noise)
            return x_s, torch.zeros(len(x_s), dtype=torch.float64)
        return propose(self.chain, state.x_t, state.denoised, state.shift, t, s, noise)


def _resampled(
    log_weights: Float[Tensor, "replicas particles"], chosen: Tensor, state: _State, generator: torch.Generator
) -> tuple[Tensor, _State]:
    """Equal weights, of the same mean, in the chosen replicas."""
    if not bool(chosen.any()):
        return log_weights, state
    R, N = log_weights.shape
    index = torch.where(chosen[:, None], systematic(log_weights, generator), torch.arange(N))
    level = log_weights.logsumexp(1, keepdim=True) - math.log(N)
    equal = torch.where(chosen[:, None], level, log_weights)
    return equal, state[(index + N * torch.arange(R)[:, None]).flatten()]

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

**Error.** R replicas with N particles each run independently, in one batch. Replica r gives unbiased
:math:`Z_r` and :math:`Z_r f_r` for p(y) and :math:`p(y) E[f | y]`. So

.. math::
    \hat Z = \tfrac1R\sum_r Z_r, \qquad \hat f = \frac{\sum_r Z_r f_r}{\sum_r Z_r}, \qquad
    \mathrm{se}(\hat f)^2 = \frac{R}{R-1}\, \frac{\sum_r Z_r^2 (f_r - \hat f)^2}{(\sum_r Z_r)^2}, \qquad
    \mathrm{se}(\log \hat Z)^2 = \frac{1}{R(R-1)} \sum_r \left(\frac{Z_r}{\hat Z} - 1\right)^2

(the variance of a ratio of means to first order). Replicas share no ancestor, so that this holds whatever resampling
does to the ancestry inside one. Errors are Student's with R - 1 degrees of freedom as long as the Z_r are of similar
size. Where they are not, the ratio is biased, its error too small by any factor, and both depend on replicas that were
not drawn. **Above se(log Z) = 0.25 no error is stated**: it is infinite, with a warning. (For R = 8 and log-normal Z_r
whose logarithm has a correlation of 0.7 with f_r, at most 10% of runs state a 95% interval that misses, whatever the
spread of the Z_r; without the rule, up to 86%.) What no particle has seen is in no error: n independent draws miss an
event of probability p with probability :math:`(1 - p)^n`.

Sources: Wu, Trippe, Naesseth, Blei & Cunningham 2023 (arXiv:2306.17775); Whiteley, Lee & Heine 2016 (Bernoulli 22).
"""

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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

Twist = Callable[[Batch, Batch, float], Float[Tensor, " batch"]]  # (x_t, D(x_t, t), t) -> log psi(x_t)
RESAMPLE_BELOW = 0.5
TRUSTED = 0.25  # the largest standard error of log Z at which the errors of ratios to Z are stated


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted draws of x_0 given y: R replicas of N particles.

    `log_weights` has the evidence in it: the mean of exp(log_weights) over a replica is its estimate Z_r of p(y).
    `ess` is the effective sample size in every replica after every weighting, the last by the likelihood of x_0;
    `resampled` says after which of them it was below half of N.
    """

    x: Float[Tensor, "replicas particles *event"]
    log_weights: Float[Tensor, "replicas particles"]
    ess: Float[Tensor, "stages replicas"]
    resampled: Tensor
    nfe: int

    @property
    def log_evidences(self) -> Float[Tensor, " replicas"]:
        """log Z_r."""
        return self.log_weights.logsumexp(1) - math.log(self.log_weights.shape[1])

    @property
    def log_evidence(self) -> float:
        """log of the mean of the Z_r, which is unbiased for p(y)."""
        return float(self.log_evidences.logsumexp(0)) - math.log(len(self.x))

    @property
    def log_evidence_error(self) -> float:
        """Its standard error."""
        R = len(self.x)
        relative = (self.log_evidences - self.log_evidence).exp() - 1
        return float((relative.square().sum() / (R * (R - 1))).sqrt())

    @property
    def replica_ess(self) -> float:
        """(sum Z_r)^2 / sum Z_r^2: how many replicas the estimates rest on, R at best."""
        share = self.log_evidences.softmax(0)
        return float(1 / share.square().sum())

    @property
    def trusted(self) -> bool:
        """Whether the replicas agree on Z well enough for errors to be stated: se(log Z) <= 0.25."""
        return self.log_evidence_error <= TRUSTED

    @property
    def weights(self) -> Float[Tensor, "replicas particles"]:
        """Of all particles; their sum is 1."""
        return self.log_weights.flatten().softmax(0).reshape(self.log_weights.shape)

    def expectation(self, f: Callable[[Batch], Tensor]) -> tuple[Tensor, Tensor]:
        """E[f(x_0) | y] for a function of a batch of fields, and its standard error; float64.

        The error is infinite, with a RuntimeWarning, where the estimates are not `trusted`.
        """
        R, N = self.log_weights.shape
        values = f(self.x.flatten(0, 1)).double().reshape(R, N, -1)
        shape = f(self.x[0, :1]).shape[1:]
        share = self.log_evidences.softmax(0)  # Z_r / sum Z
        within = torch.einsum("rn,rnk->rk", self.log_weights.softmax(1), values)
        mean = share @ within
        squared = share.square() @ (within - mean).square()
        error = (squared * R / (R - 1)).sqrt() if self.trusted else torch.full_like(mean, math.inf)
        if not self.trusted:
            warnings.warn(
                f"particles: cannot tell the error, as {R} replicas count as {self.replica_ess:.1f} (log p(y) is "
                f"uncertain by {self.log_evidence_error:.2g}, at most {TRUSTED} is needed); take more particles",
                RuntimeWarning,
                stacklevel=2,
            )
        return mean.reshape(shape), error.reshape(shape)

    def mean(self) -> tuple[Tensor, Tensor]:
        """Of every value of the field, and its standard error."""
        return self.expectation(lambda x: x)

    def variance(self) -> tuple[Tensor, Tensor]:
        """Of every value of the field, and its standard error: the mean about which it is taken adds none to it."""
        mean, _ = self.mean()
        return self.expectation(lambda x: (x.double() - mean).square())

    def quantile(self, p: float) -> tuple[Tensor, Tensor]:
        """The p-quantile of every value of the field, and its standard error, (Q(p + 2e) - Q(p - 2e)) / 4.

        e is the standard error of the distribution function at Q(p) (Woodruff 1952). The slope of Q is read off few
        particles: this error is itself uncertain by tens of percent.
        """
        flat = self.x.flatten(0, 1).double().flatten(1)
        ordered, order = flat.sort(0)
        cumulative = self.weights.flatten()[order].cumsum(0)
        at = _inverse(ordered, cumulative, torch.full_like(ordered[0], p))
        _, error = self.expectation(lambda x: (x.double().flatten(1) <= at).double())
        low, high = (_inverse(ordered, cumulative, p + sign * error) for sign in (-2, 2))
        shape = self.x.shape[2:]
        slope = torch.where(error.isfinite(), (high - low) / 4, math.inf)
        return at.reshape(shape), slope.reshape(shape)

    def draws(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n fields of equal weight, by systematic resampling of all particles, in random order."""
        index = systematic(self.weights.reshape(1, -1).log(), generator, n)[0]
        return self.x.flatten(0, 1)[index[torch.randperm(n, generator=generator)]]


def _inverse(ordered: Tensor, cumulative: Tensor, p: Tensor) -> Tensor:
    """The least value of every column whose cumulative weight reaches p."""
    row = torch.searchsorted(cumulative.T.contiguous(), p[:, None].clamp(0, 1)).T.clamp_max(len(ordered) - 1)
    return ordered.gather(0, row)[0]


def systematic(
    log_weights: Float[Tensor, "replicas particles"], generator: torch.Generator, n: int | None = None
) -> Int[Tensor, "replicas n"]:
    """Indices of n particles per replica: one uniform number u, the particles at (u + i) / n of the total weight."""
    n = log_weights.shape[1] if n is None else n
    cumulative = log_weights.double().softmax(1).cumsum(1)
    u = torch.rand(len(log_weights), 1, dtype=torch.float64, generator=generator)
    points = (u + torch.arange(n)) / n * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).clamp_max(log_weights.shape[1] - 1)


def effective_sample_size(log_weights: Float[Tensor, "replicas particles"]) -> Float[Tensor, " replicas"]:
    """(sum w)^2 / sum w^2."""
    return 1 / log_weights.softmax(1).square().sum(1)


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


@dataclass(frozen=True)
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
            return _State(x.detach(), denoised.detach(), log_psi.detach().double(), shift)
        with torch.no_grad():
            denoised = denoiser(x, at.t)
            log_psi = self.twist(x, denoised, at.t).double()
            shift = None if self.proposal is self.chain.denoiser else self.proposal(x, at.t) - denoised
        return _State(x, denoised, log_psi, shift)

    @torch.no_grad()
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

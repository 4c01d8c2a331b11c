r"""The two chains that are used in practice, found inside the explicit solution: DDPM at eta = 1, DDIM at eta = 0.

For :math:`a = \alpha_t/\alpha_s`, :math:`b = 1 - a^2` and a variance-preserving schedule, eta = 1 is the posterior

.. math::  q(x_s | x_t, x_0) = N\!\left(\frac{a\sigma_s^2}{\sigma_t^2} x_t + \frac{\alpha_s b}{\sigma_t^2} x_0,\;
           \tilde\beta = \frac{b\,\sigma_s^2}{\sigma_t^2}\right),

and in the Ornstein-Uhlenbeck process :math:`U = Y - \alpha x_0` keeps :math:`\sinh s/\sinh t` over a step and gains
the variance :math:`2\sinh s\,\sinh(t - s)/\sinh t`. In between, DDIM's eta is that of the reverse family only when

.. math::  \eta_{DDIM}^2 = \frac{1 - e^{-2\eta^2 h}}{1 - e^{-2h}} .

Sources: Cao et al. 2025, https://arxiv.org/abs/2501.17054; Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239
(eq. 6-7); Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502 (eq. 12 and 16).
"""

import math
from decimal import Decimal, localcontext

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import GaussianMixture
from diffuscope.findings import Chart, Panel, at_least, at_most, equals, largest, line
from diffuscope.samplers import DDIM, DDPM, ReverseBridge, State, StochasticDDIM
from diffuscope.schedules import DiscreteVP
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..moments import GaussianDenoiser, apart, at_ratios, law_after
from .explicit import CLEAN, NOISY, OU, PAPER, POINT, SCHEDULES, START, explicit_law, from_the_start

HO = "Ho et al. 2020, eq. 6-7"
SONG = "Song et al. 2021, eq. 12 and 16"


def textbook_posterior(betas: tuple[float, ...]) -> list[tuple[float, float]]:
    """Mean and variance of q(x_{k-1} | x_k, x_0), k = 2 .. K, by Ho's formulas in 50 decimal digits."""
    with localcontext(prec=50):
        bar, found = 1 - Decimal(betas[0]), []
        point, start = Decimal(POINT), Decimal(START)
        for beta in map(Decimal, betas[1:]):
            below, bar = bar, bar * (1 - beta)
            mean = below.sqrt() * beta / (1 - bar) * point + (1 - beta).sqrt() * (1 - below) / (1 - bar) * start
            found.append((float(mean), float((1 - below) / (1 - bar) * beta)))
    return found


def ddpm_inside(_: torch.Generator) -> Answer:
    """At eta = 1: DDPM's posterior on its own chain, the same chain inside the Ornstein-Uhlenbeck process."""
    chain = DiscreteVP.linear()
    textbook = textbook_posterior(chain.betas)
    steps = torch.arange(1, len(chain.betas) + 1, dtype=torch.float64)
    ou_times = OU.time_of_lambda(chain.lam(steps)).tolist()
    identity, ou_identity, sinh_form = [], [], []
    for k in range(2, len(chain.betas) + 1, 9):
        posterior = textbook[k - 2]
        for sampler in (ReverseBridge(1.0), DDPM()):
            identity.append(apart(posterior, from_the_start(sampler, chain, float(k), float(k - 1))))
        t, s = ou_times[k - 1], ou_times[k - 2]
        ou_identity.append(apart(posterior, from_the_start(ReverseBridge(1.0), OU, t, s)))
        kept = math.sinh(s) / math.sinh(t)
        mean = math.exp(-s) * POINT + kept * (START - math.exp(-t) * POINT)
        sinh_form.append(apart(posterior, (mean, 2 * kept * math.sinh(t - s))))
    claims = (
        at_most(
            "ddpm-posterior",
            "At η = 1 a step is DDPM's posterior, mean and variance, at every ninth of the 1,000 steps",
            largest(identity),
            1e-14,
            because="rounding of numbers up to 2",
            source=f"{PAPER}; {HO}",
        ),
        at_most(
            "ou-chain",
            "The chain is the Ornstein-Uhlenbeck process dX = -X dt + √2 dB, read at the times where ∫2dt = -Σ ln(1-β)",
            largest(ou_identity),
            1e-13,
            because="rounding of the times, up to 5, in their exponentials",
            source=PAPER,
        ),
        at_most(
            "hyperbolic-form",
            "There the step keeps sinh s / sinh t of U = Y - αx₀ and adds the variance 2 sinh s sinh(t - s) / sinh t",
            largest(sinh_form),
            1e-13,
            because="rounding of the times, up to 5, in their exponentials",
            source=PAPER,
        ),
    )
    told = "Yes: DDPM's chain is this process at η = 1, variance included."
    return Answer(told, claims)


def ddim_inside(generator: torch.Generator) -> Answer:
    """eta = 0 is DDIM, which on any data is Euler's method in sigma/alpha; Song's eta in between is something else."""
    mixture = GaussianMixture.isotropic(*(torch.tensor(v).double() for v in ([0.3, 0.7], [[-1.0], [1.2]], [0.05, 0.2])))
    euler, on_a_point = [], []
    for schedule in SCHEDULES:
        denoiser = ExactDenoiser(mixture, schedule)
        t, s = at_ratios(schedule, NOISY, 0.3)
        x = torch.randn(1000, 1, dtype=torch.float64, generator=generator)
        noise = (x - t.alpha * denoiser(x, t.t)) / t.sigma
        expected = s.alpha * (x / t.alpha + (s.sigma / s.alpha - t.sigma / t.alpha) * noise)
        euler.append(float((DDIM().step(denoiser, State(t, x), s).x_t - expected).abs().max()))
        ddim = from_the_start(DDIM(), schedule, t.t, s.t)
        on_a_point.append(apart(ddim, explicit_law(t, s, 0.0)))
    claims = (
        at_most(
            "ddim-point",
            "At η = 0 a step of any size is DDIM's, and exact",
            largest(on_a_point),
            1e-13,
            because="rounding",
            source=PAPER,
        ),
        at_most(
            "ddim-euler",
            "On any data DDIM is Euler's method in σ/α: x_s = α_s [x_t/α_t + (σ_s/α_s - σ_t/α_t) ε]",
            largest(euler),
            1e-12,
            because="rounding",
            source="derived",
        ),
    )
    return Answer("DDIM is the other end, η = 0, and on any data it is Euler's method in σ/α.", claims)


def song_of(eta: Tensor, h: float) -> Tensor:
    """The DDIM-eta whose single step of length h is the reverse family's at `eta`."""
    return (torch.expm1(-2 * eta**2 * h) / math.expm1(-2 * h)).sqrt()


def song_family(_: torch.Generator) -> Answer:
    """The two families with an eta: equal at 0, at 1 and for small steps, apart everywhere else."""
    t, s = at_ratios(OU, NOISY, CLEAN)
    h, half = s.lam - t.lam, torch.tensor(0.5, dtype=torch.float64)
    converted = apart(from_the_start(StochasticDDIM(float(song_of(half, h))), OU, t.t, s.t), explicit_law(t, s, 0.5))
    gaps = [float(song_of(half, small)) ** 2 - 0.25 for small in (1e-2, 1e-3)]
    counts = [1, 2, 3, 5, 8, 16, 32, 64, 128]
    memory = {"reverse family": [], "DDIM's": []}
    for count in counts:
        times = log_snr_times(OU, t.t, s.t, count)
        for name, sampler in (("reverse family", ReverseBridge(0.5)), ("DDIM's", StochasticDDIM(0.5))):
            high, low = (
                law_after(sampler, GaussianDenoiser(OU, POINT), times, x, 0.0)[0] for x in (START, START - t.sigma)
            )
            memory[name].append((high - low) / s.sigma)
    kept = math.exp(-0.25 * h)
    claims = (
        at_most(
            "song-converted",
            "A step of DDIM with η² = (1 - exp(-2η²h)) / (1 - exp(-2h)) is the reverse family's at η",
            converted,
            1e-13,
            because="rounding",
            source="derived",
        ),
        equals(
            "song-order",
            "For small steps the two agree: the difference of η² falls like h",
            math.log10(gaps[0] / gaps[1]),
            1.0,
            within=0.01,
            because="the next term of the expansion, at h = 0.01",
            source="derived",
        ),
        at_most(
            "memory-fixed",
            "At η = ½ the reverse family keeps exp(-η²h) of the start's residual, in 1 step or 128",
            largest(abs(m - kept) for m in memory["reverse family"]),
            1e-12,
            because="rounding of 128 steps",
            source=PAPER,
        ),
        equals(
            "memory-moves",
            "With DDIM's η = ½ a single step keeps √(1 - η²(1 - exp(-2h))) of it, which is another number",
            memory["DDIM's"][0],
            math.sqrt(1 + 0.25 * math.expm1(-2 * h)),
            within=1e-12,
            because="rounding",
            source=SONG,
        ),
        at_least(
            "memory-gap",
            "That is more than the reverse family keeps, so what DDIM's η means depends on the steps",
            memory["DDIM's"][0] - kept,
            0.1,
            because="a difference that a reader can see below",
            source="derived",
        ),
    )
    etas = torch.linspace(0, 1, 101, dtype=torch.float64)
    curves = tuple(line(etas, song_of(etas, step), f"h = {step:g}") for step in (4.0, 1.0, 0.25))
    chart = Chart(
        "Two families called η",
        (
            Panel("one step of length h", "η of the reverse family", "DDIM's η of the same step", curves),
            Panel(
                "from σ/α = 4 to 0.05 at η = ½",
                "number of steps",
                "residual of the start kept",
                tuple(line(counts, kept_by, name) for name, kept_by in memory.items()),
                x_log=True,
                y_range=(0.0, 1.0),
            ),
        ),
        "Left: on the diagonal the two would be one family; long steps are far from it. Right: the reverse family at a "
        "fixed η is one process, whatever the steps; DDIM at a fixed η is another process for every number of steps.",
    )
    return Answer(
        "No. They share 0 and 1 and the limit of small steps; in between DDIM's η is tied to the step.",
        claims,
        (chart,),
    )

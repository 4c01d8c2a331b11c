r"""DPS is not a posterior sampler, even for a Gaussian: its bias in closed form, beside the exact guide and Pi-GDM.

Prior N(0, 1), :math:`y = x_0 + r\varepsilon`. Given :math:`x_t = x_0 + \sqrt s\,\varepsilon` the mean of x_0 is
:math:`D = x_t/(1 + s)`, its variance :math:`C = s/(1 + s)`, and :math:`\log p(y \mid x_t) = \log N(y; D, C + r^2)`. DPS
leaves C out. With its score the reverse equations of the family
:math:`dx = \left[-\kappa\,\mathrm{score}\right] ds + \eta\,dB`, :math:`\kappa = (1 + \eta^2)/2`, are linear, and in
:math:`q = 1/(1 + s)` they end at

.. math::
    \mathrm{Var} = [\eta = 0]\, e^{-1/r^2} + \eta^2 \int_0^1 q^{2\kappa - 2} e^{-2\kappa (1 - q)/r^2}\,dq, \quad
    \mathrm{mean} = \frac{\kappa y}{r^2} \int_0^1 q^{\kappa - 1} e^{-\kappa (1 - q)/r^2}\,dq .

For the SDE (eta = 1): variance :math:`\frac{r^2}{2}(1 - e^{-2/r^2})`, mean :math:`y\,(1 - e^{-1/r^2})`, where the
posterior has :math:`r^2/(1 + r^2)` and :math:`y/(1 + r^2)`. For precise data DPS keeps half of the variance. With y
drawn from the model, its interval of 90% covers with probability :math:`\mathrm{erf}(1.6448536\, s / \sqrt{2 e})`, s^2
its variance and :math:`e = e^{-2/r^2} + r^2 (1 - e^{-1/r^2})^2` the mean square error of its mean.

A step of Euler's method on the SDE in :math:`\sigma = \sqrt s`, from :math:`\sigma` to :math:`\rho\sigma`, multiplies
an error by :math:`1 - 2 (1 - \rho)[s/(1 + s) + s/((1 + s)^2 r^2)]`, at s = 1 larger than 1 in size unless :math:`1 -
\rho < 4 r^2/(1 + 2 r^2)`: precise data need many steps, but only with DPS. The exact guide's factor has :math:`C + r^2`
in place of :math:`r^2`, and is at most 1 in size for any rho. Both are compared at an NFE of 25, 50, 100, 200, 400, 800
and 1,600; sizes of errors are claimed at 100, the order from 800 to 1,600.

Source of DPS: Chung et al. 2023, https://arxiv.org/abs/2209.14687; of Pi-GDM: Song et al. 2023. Derived here.
"""

import math

import torch
from jaxtyping import Float
from scipy.integrate import quad
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Panel, Rule, groups, largest, line
from diffuscope.physics import LinearObservation, at_nodes
from diffuscope.physics.conditioning import DPS, CovarianceGuided, GaussianGuide, PiGDM
from diffuscope.physics.exact_posterior import posterior
from diffuscope.samplers import StochasticHeun, finish
from diffuscope.times import log_snr_times

from .affine_steps import HIGH, LEFT, LOW, SCHEDULE, euler, extrapolated
from .experiment import Experiment
from .part import Part, largest_difference, loglog, panel

Y, R = 1.0, 0.3
ETAS = (0.0, 0.5, 1.0)
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)
STEPS, SAMPLES, PROBLEMS = 200, 4000, 4000
BUDGETS = (25, 50, 100, 200, 400, 800, 1600)
EQUAL = 100  # NFE at which the guides are compared
RHO = 0.9  # correlation of the prior in the plane
QUANTILE = 1.6448536
SPEC = "printed with three decimals"
FOUR = "four standard errors, exceeded once in 16,000"
MODES, WIDTH, BETWEEN, COARSE = 1.0, 0.05, 0.2, 0.5  # a mixture: modes at +-1, variance, y, r
EXPERIMENT = Experiment(
    name="dps-is-biased",
    title="DPS is not a posterior sampler",
    question="Which distribution does diffusion posterior sampling end at, for data where the posterior is known?",
    source="Chung et al. 2023, https://arxiv.org/abs/2209.14687",
    seconds=20,
    settings={
        "prior": "N(0, 1); in the plane correlation 0.9; two modes at ±1 of variance 0.05, y = 0.2, r = 0.5",
        "observation": "y = 1, r = 0.3, and r = 0.03, 0.1, 0.3, 1, 3",
        "eta": "0, 0.5, 1",
        "schedule": f"alpha = 1, sigma = t from {HIGH:,g} to {LOW:g}, steps of equal ratio",
        "samples": "4,000 (two modes), or one for each of 4,000 problems (coverage), in 200 steps of order 2; "
        "elsewhere moments without a draw",
    },
)


def observe(noise: float, *coordinates: float) -> LinearObservation:
    """One number: a weighted sum of the coordinates."""
    return LinearObservation(torch.tensor([coordinates], dtype=torch.float64), (len(coordinates),), noise)


def prior(variance: float = 1.0) -> ExactDenoiser:
    """N(0, variance)."""
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), variance), SCHEDULE)


def value(y: float) -> Float[Tensor, "1"]:
    """One observation."""
    return torch.tensor([y], dtype=torch.float64)


def exact_moments(r: float) -> tuple[float, float]:
    """Mean and variance of the posterior."""
    return Y / (1 + r**2), r**2 / (1 + r**2)


def limit(r: float, eta: float) -> tuple[float, float]:
    """Mean and variance at which DPS ends."""
    kappa = (1 + eta**2) / 2

    def decay(q: float) -> float:
        return math.exp(-kappa * (1 - q) / r**2)

    low = max(0.0, 1 - 100 * r**2)  # below it the integrands, concentrated at q = 1, are at most e^-50
    mean = kappa * Y / r**2 * float(quad(lambda q: q ** (kappa - 1) * decay(q), low, 1, limit=200)[0])
    if eta == 0:
        return mean, math.exp(-1 / r**2)
    variance = eta**2 * float(quad(lambda q: q ** (2 * kappa - 2) * decay(q) ** 2, low, 1, limit=200)[0])
    return mean, variance


def coverage(r: float) -> float:
    """The probability that DPS's 90% interval covers, over problems."""
    spread, keep = limit(r, 1.0)[1], 1 - math.exp(-1 / r**2)
    return math.erf(QUANTILE * math.sqrt(spread / (2 * ((1 - keep) ** 2 + keep**2 * r**2))))


def drawn(denoiser: Denoiser, n: int, generator: torch.Generator) -> Tensor:
    """Samples of the reverse SDE, by a method of order 2."""
    start = HIGH * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    times = log_snr_times(SCHEDULE, HIGH, LOW, STEPS)
    return finish(denoiser, StochasticHeun(1.0), start, times, noise=generator, batch_size=n)


@EXPERIMENT.part("What does DPS end at instead of the posterior?")
def one_number(part: Part) -> str:
    """The limit of many steps against the closed form, along the whole family of reverse equations."""
    observation = at_nodes(torch.tensor([0]), (1,), R)
    dps, exact = DPS(prior(), observation, value(Y)), GaussianGuide(prior(), observation, value(Y))
    known = posterior(prior().distribution, observation, value(Y))
    assert isinstance(known, Gaussian)
    mean, variance = exact_moments(R)
    off = largest_difference([float(known.mean), known.trace], [mean, variance])
    title = f"The posterior has mean {mean:.3f} and variance {variance:.4f}: distance from Bayes' rule"
    part.at_most("posterior", title, off, 1e-14, "rounding", source="Bayes' rule")
    part.equals("mean", "Mean at which DPS ends (SDE)", limit(R, 1.0)[0], 1.000, 5e-4, "three decimals", source=SPEC)
    part.equals("variance", "Its variance", limit(R, 1.0)[1], 0.045, 5e-4, "0.045 to three decimals", source=SPEC)
    for name, guide, wanted in (
        ("DPS", dps, {eta: limit(R, eta) for eta in ETAS}),
        ("the exact guide", exact, dict.fromkeys(ETAS, (mean, variance))),
    ):
        used = []
        for eta in ETAS:
            end, change = extrapolated(guide, 1, eta)
            used.append(abs(float(end.mean) - wanted[eta][0]) / (float(change.mean) + LEFT))
            used.append(abs(float(end.covariance) - wanted[eta][1]) / (float(change.covariance) + LEFT))
        law = "the closed form" if name == "DPS" else "the posterior"
        title = f"Euler's method with {name} ends at {law} for η = 0, 1/2 and 1: largest distance in units of its bound"
        because = f"what the last doubling of the steps changed, and {LEFT:g} for the finite ends of the noise levels"
        part.at_most(f"family-{name.split()[-1].lower()}", title, largest(used), 1, because, source="derived")
    x = torch.linspace(0, 1.8, 181, dtype=torch.float64)
    curves = [line(x, normal(x, mean, variance), "posterior")]
    curves += [line(x, normal(x, *limit(R, eta)), f"DPS, η = {eta:g}") for eta in ETAS if eta > 0]
    ode = limit(R, 0.0)
    part.chart(
        "Where DPS ends",
        panel("", "x", "density", *curves, Rule(ode[0], axis="x", label="DPS, η = 0")),
        how_to_read=f"Prior N(0, 1), y = {Y:g}, r = {R:g}. The probability-flow ODE (η = 0) of DPS ends at one "
        f"point, of variance {ode[1]:.1e}. A true score would end at one distribution for every η.",
    )
    return (
        f"The SDE ends at mean {limit(R, 1.0)[0]:.3f} and variance {limit(R, 1.0)[1]:.4f}, where the posterior has "
        f"{mean:.3f} and {variance:.4f}; the ODE at mean {ode[0]:.3f} and variance {ode[1]:.1e}. More steps do not "
        "help."
    )


def normal(x: Float[Tensor, " n"], mean: float, variance: float) -> Float[Tensor, " n"]:
    """The density of N(mean, variance)."""
    return (-((x - mean) ** 2) / (2 * variance)).exp() / math.sqrt(2 * math.pi * variance)


@EXPERIMENT.part("How often do its intervals cover?")
def intervals(part: Part) -> str:
    """Coverage over problems whose truth is drawn from the prior, for DPS and for the exact guide."""
    g, observation, shares = part.generator, at_nodes(torch.tensor([0]), (1,), R), {}
    x = torch.randn(PROBLEMS, 1, dtype=torch.float64, generator=g)
    y = x + R * torch.randn(PROBLEMS, 1, dtype=torch.float64, generator=g)
    wanted = {"exact guide": 0.9, "DPS": coverage(R)}
    made = {"exact guide": GaussianGuide(prior(), observation, y), "DPS": DPS(prior(), observation, y)}
    for name, guide in made.items():
        ends = drawn(guide, PROBLEMS, g)
        keep = float((ends * y).sum() / y.square().sum())  # the mean of the samples is linear in y
        spread = float((ends - keep * y).std())
        shares[name] = float(((x - keep * y).abs() <= QUANTILE * spread).double().mean())
        # binomial, and a share of a half of the error of the spread, 1/sqrt(2n): phi(z) z < 1/4
        error = math.sqrt((wanted[name] * (1 - wanted[name]) + 1 / 8) / PROBLEMS)
        title = f"Coverage of 90% intervals of {name}, over {PROBLEMS:,} problems"
        because = "four standard errors, of the share and of the estimated width"
        key = "covers-" + name.split()[0].lower()
        part.equals(key, title, shares[name], wanted[name], 4 * error, because, source="derived")
    r = torch.logspace(-2, 1, 61).tolist()
    variances = [limit(each, 1.0)[1] / exact_moments(each)[1] for each in r]
    part.chart(
        "Too narrow wherever the data say something",
        Panel("variance over that of the posterior", "r", "ratio", (line(r, variances),), x_log=True),
        Panel("coverage of 90% intervals", "r", "share", (line(r, [coverage(each) for each in r]),), x_log=True),
        how_to_read="DPS with the SDE, closed forms. For precise data (left end) it keeps half of the variance, and "
        "its intervals of 90% cover 75%.",
    )
    return f"In {shares['DPS']:.1%} of {PROBLEMS:,} problems; the exact guide's in {shares['exact guide']:.1%}."


@EXPERIMENT.part("How many network calls does each guide need?")
def equal_cost(part: Part) -> str:
    """Errors of Euler's method at equal NFE, without a draw, over the noise of the observation."""
    errors = {name: {r: [error_of(name, r, n) for n in BUDGETS] for r in NOISES} for name in ("exact guide", "DPS")}
    at, exact = BUDGETS.index(EQUAL), errors["exact guide"]
    title = "The largest error of the variance over r with the exact guide: ratio when the steps are doubled"
    ratio = max(exact[r][-2] for r in NOISES) / max(exact[r][-1] for r in NOISES)
    part.equals("order", title, ratio, 2.0, 0.1, "first order", source="derived")
    title = f"Its largest relative error over r at {EQUAL} NFE"
    first = max(exact[r][-1] for r in NOISES) * BUDGETS[-1] / EQUAL
    because = f"first order, from the error at {BUDGETS[-1]:,} NFE, and half as much again for the second"
    part.at_most("equal", title, max(exact[r][at] for r in NOISES), 1.5 * first, because, source="derived")
    small = NOISES[0]
    needed = math.log(HIGH / LOW) / -math.log1p(-4 * small**2 / (1 + 2 * small**2))
    title = f"r = {small:g}: variance of DPS at {EQUAL} NFE, relative error"
    because = f"errors grow in some steps unless there are {needed:,.0f}; our bar for growth"
    part.at_least("explodes", title, errors["DPS"][small][at], 1e3, because, source="derived")
    panels = []
    for name, table in errors.items():
        marks = [line(BUDGETS, [min(e, 1e6) for e in table[r]], f"r = {r:g}") for r in NOISES]
        panels.append(loglog(name, "NFE", "relative error of the variance", *marks))
    part.chart(
        "At equal cost",
        *panels,
        how_to_read="Euler's method on the reverse SDE; exact moments, no sampling error; errors above 10⁶ are cut. "
        "The exact guide: first order for every r. DPS: a plateau is its bias, and where steps are too long for "
        "precise data it explodes.",
        shared_y=True,
    )
    return (
        f"With the exact guide {EQUAL} calls leave at most {max(exact[r][at] for r in NOISES):.1%} of the variance, "
        f"for r from {small:g} to {NOISES[-1]:g}. DPS ends at its bias, and r = {small:g} needs {needed:,.0f} steps."
    )


def error_of(name: str, r: float, steps: int) -> float:
    """|variance / posterior variance - 1| after Euler steps."""
    observation = at_nodes(torch.tensor([0]), (1,), r)
    guide = {"exact guide": GaussianGuide, "DPS": DPS}[name](prior(), observation, value(Y))
    return abs(float(euler(guide, 1, steps).covariance) / exact_moments(r)[1] - 1)


@EXPERIMENT.part("What happens to what is not observed?")
def in_the_plane(part: Part) -> str:
    """A correlated Gaussian whose first coordinate is observed: the guides' covariances in the limit of many steps."""
    S = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)
    plane = ExactDenoiser(Gaussian.from_covariance(torch.zeros(2, dtype=torch.float64), S), SCHEDULE)
    observation = observe(R, 1.0, 0.0)
    exact = S - torch.outer(S[0], S[0]) / (1 + R**2)
    made = {
        "exact guide": GaussianGuide(plane, observation, value(Y)),
        "covariance by CG": CovarianceGuided(plane, observation, value(Y)),
        "Pi-GDM": PiGDM(plane, observation, value(Y)),
        "DPS": DPS(plane, observation, value(Y)),
    }
    ends = {name: extrapolated(guide, 2) for name, guide in made.items()}
    found = {name: end.covariance for name, (end, _) in ends.items()}
    for name in list(made)[:2]:
        off = largest_difference(found[name], exact)
        bound = float(ends[name][1].covariance.max()) + LEFT
        title = f"Covariance with the {name}: largest distance from the posterior's"
        because = f"what the last doubling of the steps changed, and {LEFT:g} for the finite ends of the noise levels"
        part.at_most("plane-" + name.split()[0], title, off, bound, because, source="derived")
    for name in list(made)[2:]:
        key = "biased-" + name.lower()
        off = largest_difference(found[name] / exact, 1)
        title = f"Covariance with {name}: largest relative distance from the posterior's"
        part.at_least(key, title, off, 0.1, "our bar for a bias: 10%", source="measured here")
    names = list(made)
    heights = {
        label: [float(found[name][i, i]) for name in names] + [float(exact[i, i])]
        for i, label in enumerate(("observed", "not observed"))
    }
    part.chart(
        "Variances in the plane",
        panel("", "", "variance", groups([*names, "posterior"], heights)),
        how_to_read=f"Prior of variances 1 and correlation {RHO:g}; the first coordinate is observed with r = {R:g}. "
        "Limits of many steps, without sampling error. Pi-GDM takes the covariance to be a multiple of I, which is "
        "exact for N(0, 1) alone.",
    )
    told = "; ".join(f"{name} {float(found[name][1, 1]):.3f}" for name in names)
    return f"Its variance given y is {float(exact[1, 1]):.3f}. In the limit of many steps: {told}."


@EXPERIMENT.part("And where the prior has two modes?")
def two_modes(part: Part) -> str:
    """The weight of the nearer mode: the exact posterior's denoiser against guides, none of which is exact here."""
    both = GaussianMixture.isotropic(
        torch.full((2,), 0.5, dtype=torch.float64),
        torch.tensor([[-MODES], [MODES]], dtype=torch.float64),
        torch.full((2,), WIDTH, dtype=torch.float64),
    )
    mixture, observation, y = ExactDenoiser(both, SCHEDULE), at_nodes(torch.tensor([0]), (1,), COARSE), value(BETWEEN)
    wanted = 1 / (1 + math.exp(-2 * MODES * BETWEEN / (WIDTH + COARSE**2)))
    made = {
        "exact posterior": ExactDenoiser(posterior(both, observation, y), SCHEDULE),
        "posterior covariance": CovarianceGuided(mixture, observation, y),
        "Pi-GDM": PiGDM(mixture, observation, y),
        "DPS": DPS(mixture, observation, y),
    }
    known = posterior(both, observation, y)
    ends = {name: drawn(guide, SAMPLES, part.generator)[:, 0] for name, guide in made.items()}
    error = math.sqrt(wanted * (1 - wanted) / (SAMPLES))
    # the modes are 8 standard deviations apart: the sign is the mode
    shares = {name: float((x > 0).double().mean()) for name, x in ends.items()}
    off = (shares["exact posterior"] - wanted) / error
    title = f"Share of samples of the exact posterior's denoiser in the nearer mode, against {wanted:.3f}"
    part.at_most("weight", title, abs(off), 4, FOUR, source="Bayes' rule", unit="standard errors")
    off = (shares["DPS"] - wanted) / error
    part.at_least("dps-weight", "The same for DPS", abs(off), 10, "our bar for a bias: ten", source="measured here",
                  unit="standard errors")  # fmt: skip
    assert isinstance(known, GaussianMixture)
    part.chart(
        "The weight of the nearer mode",
        panel("", "", "share", groups([*shares, "Bayes' rule"], {"nearer mode": [*shares.values(), wanted]})),
        how_to_read=f"Modes at ±{MODES:g} of variance {WIDTH:g}, y = {BETWEEN:g}, r = {COARSE:g}; {SAMPLES:,} samples "
        f"each, standard error {error:.4f}. A likelihood that is Gaussian given x_t is an approximation here.",
    )
    told = "; ".join(f"{name} {share:.3f}" for name, share in shares.items())
    return f"The nearer mode has weight {wanted:.3f}. Shares of samples: {told}."

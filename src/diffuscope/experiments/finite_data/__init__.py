r"""Finite data: where the exact reverse process ends, how close to the data, and what it never generates.

**Landing.** At eta = 1 the posterior weight :math:`w_i(Y_t, t)` is the probability of landing on :math:`x_i` given the
present, hence a martingale: from a start :math:`\nu` the SDE lands with :math:`P_i = E_\nu[w_i(\cdot, T)]`. At eta = 0
the map from T to 0 keeps quantiles, so that :math:`P_i = F_\nu(b_i) - F_\nu(b_{i-1})` with
:math:`F_{\rho_T}(b_i) = i/N`. Only the start :math:`\nu = \rho_T` gives :math:`1/N` to each.

**Distance.** The SDE is :math:`\sigma_t\varepsilon` away from a point. A path of the ODE that starts at y, with
:math:`u = N F_{\rho_T}(y)`, keeps the constant

.. math::  \frac{x_t - \alpha_t x_i}{\sigma_t} \to \Phi^{-1}(u - \lfloor u \rfloor) \qquad (t \to 0),

so that its distance falls like :math:`\sigma_t \approx \sqrt{2t}`. A last denoising puts both exactly on a data point,
once all weights but one are zero in floating point.

**Loss.** No denoiser has a lower noise loss than

.. math::  \min E|\varepsilon - \hat\varepsilon|^2 = \frac{\alpha^2}{\sigma^2}\,E\,\mathrm{tr\,Cov}(x_0 | x_t) .

**Likelihood.** The score of the digits *blurred* by :math:`\delta` generates :math:`p_\delta`, with

.. math::  \log p_\delta(x) = \log\frac1N\sum_i N(x; x_i, \delta^2 I)
           \to -\frac{d}{2}\log 2\pi\delta^2 - \log N - \frac{\min_i |x - x_i|^2}{2\delta^2} \qquad (\delta \to 0),

which grows without bound on the training digits and falls without bound on all others.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (finite data, and its conclusion that
what generalizes is the approximation). The probabilities, the constant and the likelihoods are derived here.
"""

import math

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Blurred, Empirical, nearest_neighbors
from diffuscope.findings import Numbers, Panel, groups, largest, line, points
from diffuscope.samplers import DDIM, Instant, MixtureTransition, RungeKutta4, instant, instants, sample, trajectory
from diffuscope.times import log_snr_times

from ..experiment import Experiment
from ..four_points import HORIZON, OU, POINTS, FourPoints, distribution_function, nearest, weights
from ..part import Part, largest_difference, loglog, panel
from ..picture_panels import pictures
from . import digits
from .digits import Digits

T_MIN = 1e-4
PATHS, STARTS, ODE_STEPS, WATCHED = 400_000, 40_000, 800, 40_000  # of the landing
TIMES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
NEAR_PATHS, NEAR_STARTS, NEAR_STEPS = 40_000, 2_000, 120  # of the distance
RATIOS = (0.1, 0.14, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5, 5.0)  # sigma/alpha of the loss
DRAWS = 100_000
MEAN, VARIANCE = float(POINTS.mean()), float(POINTS.var(correction=0))
BLURS = (0.05, 0.15, 0.3)  # of the denoisers
WIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)  # blurs of the likelihoods
SHOWN = 6
ORACLE = MixtureTransition(Empirical(POINTS[:, None]))
EXPERIMENT = Experiment(
    name="finite-data",
    title="Finite data: the exact minimizer generates its training set",
    question="What does a perfectly trained diffusion model generate from finitely many examples?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, finite data",
    seconds=20,
    settings={
        "four points": "-1.5, -0.2, 0.4, 2",
        "process": f"dX = -X dt + √2 dB, T = {HORIZON:g}, start N(0, 1)",
        "landing": "400,000 paths; 40,000 quantiles of the start by DDIM in 800 steps to t = 1e-4; "
        "mean weights: 40,000 paths, 4,000 quantiles",
        "distance": "at t = 0.01, 0.001, 1e-4, 1e-5, 1e-6; 40,000 paths, 2,000 quantiles in 120 steps to each",
        "loss": "100,000 draws at each σ/α = 0.1, 0.14, 0.2, 0.35, 0.5, 0.7, 1, 1.5, 2.5, 5",
        "digits": "200 of scikit-learn's, 8 x 8 pixels in [-1, 1]; held out is its other half; 6 of 200 samples are "
        "shown",
        "blurs": "0.05, 0.15, 0.3 (denoisers); 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5 (likelihoods)",
        "network": "MLP of 128 x 2, after 1, 100, 400 and 1,600 training steps of 64 examples",
        "RMS error of a denoiser": "at σ = 0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12",
        "sampler of the digits": "DPM-Solver++ 2M, 60 steps from σ = 40 to 0.01 and a last denoising",
    },
)


def sde_probabilities() -> Float[Tensor, "4"]:
    """P_i = E[w_i(y, T)] for y ~ N(0, 1), by the trapezoidal rule (spectrally accurate)."""
    y = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    return (-(y**2) / 2).softmax(0) @ weights(y, instant(OU, HORIZON))


def ode_probabilities() -> Float[Tensor, "4"]:
    """P_i from the quantiles b_i of rho_T."""
    T = instant(OU, HORIZON)

    def excess(x: float, level: float) -> float:
        return float(distribution_function(torch.tensor([x], dtype=torch.float64), T)) - level

    cuts = [brentq(excess, -10, 10, args=(level,), xtol=1e-14) for level in (0.25, 0.5, 0.75)]
    return torch.special.ndtr(torch.as_tensor([-math.inf, *cuts, math.inf], dtype=torch.float64)).diff()


def even_starts(n: int) -> Float[Tensor, "n 1"]:
    """The midpoints of n equal shares of N(0, 1): no Monte Carlo."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]


def shares(x: Float[Tensor, "n 1"], t: float) -> Float[Tensor, "4"]:
    """The share of the states that is nearest to each point."""
    return torch.bincount(nearest(x[:, 0], instant(OU, t))[1], minlength=len(POINTS)).double() / len(x)


@EXPERIMENT.part("On which points does it land, and how often?")
def landing(part: Part) -> str:
    """The probabilities by quadrature and by samplers, and the weights on the way."""
    sde, ode = sde_probabilities(), ode_probabilities()
    start = torch.randn(PATHS, 1, dtype=torch.float64, generator=part.generator)
    to_data = torch.cat([log_snr_times(OU, HORIZON, T_MIN, 4), torch.zeros(1, dtype=torch.float64)])
    by_sde = shares(sample(ORACLE, FourPoints(), start, to_data, noise=part.generator), 0.0)
    times = log_snr_times(OU, HORIZON, T_MIN, ODE_STEPS)
    by_ode = shares(sample(DDIM(), FourPoints(), even_starts(STARTS), times), T_MIN)

    title = f"{PATHS:,} paths of the exact reverse transition, five steps: the largest deviation of the four"
    deviation = float(((by_sde - sde).abs() / (sde * (1 - sde) / PATHS).sqrt()).max())
    because = "4 standard errors: exceeded by chance in 1 of 4,000 runs"
    part.at_most("sde-landing", title, deviation, 4.0, because, unit="standard errors")
    title = f"DDIM in {ODE_STEPS} steps from {STARTS:,} quantiles of the start: the largest deviation of the four"
    because = f"first order: 7e-4 in {ODE_STEPS} steps"
    part.at_most("ode-landing", title, largest_difference(by_ode, ode), 7e-4, because, source="derived")

    bars: dict[str, Numbers] = {
        "SDE, quadrature": sde,
        "SDE, paths": by_sde,
        "ODE, quantiles": ode,
        "ODE, DDIM": by_ode,
    }
    part.chart(
        "The probability of landing on each point",
        panel("", "data point", "probability", groups([f"{place:g}" for place in POINTS.tolist()], bars)),
        how_to_read="Started from N(0, 1) instead of ρ_T, no point receives its share of ¼, and the errors of the two "
        "processes differ.",
    )
    show_weights(part)
    return (
        f"The SDE lands on the last point with probability {float(sde[3]):.5f}, by its posterior weights at the start; "
        f"the ODE with {float(ode[3]):.5f}, by the quantiles. The two differ, and neither is uniform."
    )


def show_weights(part: Part) -> None:
    """E[w_i(Y_t, t)] along both processes."""
    times = log_snr_times(OU, HORIZON, T_MIN, 30)
    drawn = torch.randn(WATCHED, 1, dtype=torch.float64, generator=part.generator)
    along_sde = trajectory(ORACLE, FourPoints(), drawn, times, noise=part.generator)
    fine = log_snr_times(OU, HORIZON, T_MIN, 300)
    along_ode = list(trajectory(DDIM(), FourPoints(), even_starts(WATCHED // 10), fine))[::10]
    ratios = [at.sigma / at.alpha for at in instants(OU, times)]
    panels = []
    for title, states in (("SDE (η = 1)", along_sde), ("ODE (η = 0)", along_ode)):
        means = torch.stack([weights(state.x_t[:, 0], state.at).mean(0) for state in states])
        curves = (line(ratios, means[:, i], f"point {place:g}") for i, place in enumerate(POINTS.tolist()))
        x_range = (ratios[0], ratios[-1])
        panels.append(Panel(title, "σ/α", "mean posterior weight", tuple(curves), x_log=True, x_range=x_range))
    part.chart(
        "The mean posterior weights on the way",
        *panels,
        how_to_read="Sampling runs from left to right. The mean weight of a point is the probability of landing on it, "
        "given the present. Along the SDE it is constant: the start fixes it. Along the ODE it drifts.",
        shared_y=True,
    )


@EXPERIMENT.part("How close to the data does it come?")
def distance(part: Part) -> str:
    """Root mean square of the SDE, every single path of the ODE, and the last denoising."""
    x = torch.randn(NEAR_PATHS, 1, dtype=torch.float64, generator=part.generator)
    starts = moved = even_starts(NEAR_STARTS)
    u = len(POINTS) * distribution_function(starts[:, 0], instant(OU, HORIZON))
    constants = torch.special.ndtri(u - u.floor()).abs()
    of_sde, of_ode, begin = [], [], HORIZON
    for t in TIMES:
        x = sample(ORACLE, FourPoints(), x, log_snr_times(OU, begin, t, 3), noise=part.generator)
        moved = sample(RungeKutta4(), FourPoints(), moved, log_snr_times(OU, begin, t, NEAR_STEPS))
        of_sde.append(float(nearest(x[:, 0], instant(OU, t))[0].square().mean().sqrt()))
        of_ode.append(float(nearest(moved[:, 0], instant(OU, t))[0].max()))
        begin = t
    last = torch.cat([FourPoints()(x, TIMES[-1]), FourPoints()(moved, TIMES[-1])])

    title = "η = 0: the largest distance falls like the root of t: the slope from t = 0.001 to 0.000001"
    slope = math.log(of_ode[1] / of_ode[-1]) / math.log(TIMES[1] / TIMES[-1])
    part.equals("ode-slope", title, slope, 0.5, 1e-3, "σ = √(1 - exp(-2t)) is not yet √(2t) at t = 0.001")
    title = "The largest distance of all paths, SDE and ODE, after denoising once at t = 0.000001"
    because = "the weight of every other point is below the smallest number"
    part.at_most("after-denoising", title, float((last - POINTS).abs().amin(1).max()), 0.0, because)

    sigmas, few, many = [instant(OU, t).sigma for t in TIMES], slice(0, None, 25), slice(0, None, 5)
    curves = (line(TIMES, of_sde, "SDE, root mean square"), line(TIMES, of_ode, "ODE, largest"))
    off = nearest(moved[:, 0], instant(OU, TIMES[-1]))[0] / sigmas[-1]
    paths = points(starts[few, 0], off[few], "paths")
    expected = line(starts[many, 0], constants[many], "|Φ⁻¹(u - ⌊u⌋)|", style="dashed")
    part.chart(
        "The distance to the nearest data point",
        loglog("", "time t", "distance", *curves, line(TIMES, sigmas, "σ", style="dotted")),
        panel("ODE at t = 10⁻⁶, path by path", "start y", "distance / σ", paths, expected),
        how_to_read="Left: slope one half, like σ. Right: the position of the start between the quantiles determines "
        "the distance; at the boundaries of the four basins it is unbounded, so the largest depends on the starts.",
    )
    return (
        f"As close as the remaining noise ({of_sde[-1] / sigmas[-1]:.3f} σ in root mean square at t = 0.000001), and "
        "exactly on a data point after a last denoising."
    )


def floor(at: Instant) -> float:
    """(alpha/sigma)^2 E Var(x_0|x_t), by a quadrature around every point."""
    z = torch.linspace(-10, 10, 401, dtype=torch.float64)
    share = (-(z**2) / 2).softmax(0) / len(POINTS)
    w = weights((at.alpha * POINTS[:, None] + at.sigma * z).reshape(-1), at)
    variance = (w * (POINTS - (w @ POINTS)[:, None]) ** 2).sum(1)
    return (at.alpha / at.sigma) ** 2 * float((share.repeat(len(POINTS)) * variance).sum())


@EXPERIMENT.part("What is the lowest loss that training can reach?")
def loss(part: Part) -> str:
    """The losses of the minimizer and of a Gaussian model by Monte Carlo, beside the floor."""
    deviations, floors, measured, of_gaussian = [], [], [], []
    for at in instants(OU, OU.time_of_noise_to_signal(torch.tensor(RATIOS, dtype=torch.float64))):
        x_0 = POINTS[torch.randint(len(POINTS), (DRAWS,), generator=part.generator)][:, None]
        noise = torch.randn(DRAWS, 1, dtype=torch.float64, generator=part.generator)
        x_t = at.alpha * x_0 + at.sigma * noise
        gain = at.alpha * VARIANCE / (at.alpha**2 * VARIANCE + at.sigma**2)
        gaussian = MEAN + gain * (x_t - at.alpha * MEAN)
        exact, other = (((x_t - at.alpha * D) / at.sigma - noise) ** 2 for D in (FourPoints()(x_t, at.t), gaussian))
        floors.append(floor(at))
        measured.append(float(exact.mean()))
        of_gaussian.append(float(other.mean()))
        error = float(exact.std()) / math.sqrt(DRAWS) + 1e-15  # rounding, where the losses hardly vary
        deviations.append(abs(measured[-1] - floors[-1]) / error)
    title = f"The noise loss of the exact minimizer is (α/σ)² E Var(x₀|x_t) ({DRAWS:,} draws at each of ten levels)"
    because = "4.5 standard errors: exceeded by chance in less than 1 of 10,000 runs"
    part.at_most("noise-loss", title, largest(deviations), 4.5, because, unit="standard errors")
    curves = (line(RATIOS, floors, "floor"), points(RATIOS, measured, "exact minimizer, measured"))
    gaussian = line(RATIOS, of_gaussian, "Gaussian model", style="dashed")
    part.chart(
        "The noise loss on four data points",
        Panel("", "noise-to-signal ratio σ/α", "loss", (*curves, gaussian), x_log=True),
        how_to_read="The floor is not zero: no model can tell which of several data points x_t came from. Only a model "
        "that has memorized the points reaches the floor.",
    )
    return "The posterior variance, at every noise level; only the denoiser that has memorized the data reaches it."


@EXPERIMENT.part("What does it generate from real digits?")
def overfitting(part: Part) -> str:
    """The errors of the exact minimizer, of exact denoisers of blurred digits and of a network; how new samples are."""
    data, generator = Digits.load(), part.generator
    exact = digits.generated(ExactDenoiser(Empirical(data.train), digits.SCHEDULE), generator)
    networks = digits.trained(data, part.seed)
    by_network = [digits.generated(network, generator) for network in networks.values()]
    blurred = [ExactDenoiser(Blurred(Empirical(data.train), delta), digits.SCHEDULE) for delta in BLURS]
    by_blurred = [digits.generated(denoiser, generator) for denoiser in blurred]

    title = f"How many of {len(exact)} samples of the exact minimizer are not among its {digits.DIGITS} training digits"
    part.at_most("recites", title, float((data.distances(exact) != 0).sum()), 0.0, "the support theorem, bit for bit")
    nearest_sample = float(data.distances(by_network[-1]).min())
    title = f"A network copies nothing after {max(networks)} training steps: its nearest sample (held-out digits: 1)"
    part.at_least("network-new", title, nearest_sample, 0.2, "a copy would be at 0")

    off_network = [data.error(network, generator) for network in networks.values()]
    off_blurred = [data.error(denoiser, generator) for denoiser in blurred]
    of_network, of_blurred = ([float(data.distances(x).median()) for x in made] for made in (by_network, by_blurred))
    marks = (
        points([0.0], [float(data.distances(exact).median())], "exact minimizer"),
        line([0.0, *off_blurred], [0.0, *of_blurred], "exact for blurred digits"),
        line(off_network, of_network, "network in training"),
        line([0.0, max(off_network)], [1.0, 1.0], "held-out digits", style="dotted"),
    )
    x_label, y_label = "error of the denoiser, in standard deviations of the data", "distance to training digits"
    part.chart(
        "Any error of the denoiser moves the samples away from the training set",
        panel("", x_label, f"{y_label} (held-out: 1)", *marks),
        how_to_read="Every mark is a denoiser: how far it is from the exact minimizer, and how far its samples are "
        f"from the training digits (median of {len(exact)}). Training moves the network from right to left (after "
        f"{', '.join(map(str, networks))} steps). At zero error all samples are training digits.",
    )
    part.chart(
        "Six samples of each",
        *(_pictures(title, x[:SHOWN], data) for title, x in (("exact minimizer", exact), ("network", by_network[-1]))),
        how_to_read="Upper row: samples. Lower row: the training digit nearest to each. Those of the exact minimizer "
        "are the same pictures; those of the network are not.",
    )
    return (
        f"All {len(exact)} samples of the exact minimizer are training digits, to the last bit. An inexact denoiser "
        f"makes new ones: half of the network's are farther than {of_network[-1]:.2f} from the training digits, where "
        "held-out digits are at 1."
    )


def _pictures(title: str, samples: Float[Tensor, "n 64"], data: Digits) -> Panel:
    """Samples over the training digits that are nearest to them."""
    near = data.train[nearest_neighbors(samples, data.train, 1)[1][:, 0]]
    return pictures(title, torch.stack([samples, near]).unflatten(2, (8, 8)))


@EXPERIMENT.part("Are held-out digits likely under the exact score?")
def unseen(part: Part) -> str:
    """The likelihood of held-out digits under the distribution that the score of blurred digits generates."""
    data = Digits.load()
    p = Empirical(data.train)
    of_train, of_heldout = (
        [float(p.log_prob(x, 1.0, delta).mean()) / digits.PIXELS for delta in WIDTHS]
        for x in (data.train, data.heldout)
    )
    best = max(range(len(WIDTHS)), key=lambda k: of_heldout[k])
    title = "The blur that makes held-out digits most likely is not the smallest"
    part.at_least("best-blur", title, WIDTHS[best], 0.2, "ten times the smallest", source="derived")
    curves = (
        line(WIDTHS[2:], values[2:], name)
        for name, values in (("training digits", of_train), ("held-out digits", of_heldout))
    )
    part.chart(
        "The likelihood of training and of held-out digits",
        panel("", "blur δ of the score", "log-likelihood per pixel, nats", *curves),
        how_to_read="Both are closed form. The smaller the error of the score, the more likely its training digits, "
        "without bound; held-out digits become impossible. They are most likely in between.",
    )
    return (
        f"No. They are most likely at a blur of δ = {WIDTHS[best]:g}; at δ = {WIDTHS[0]:g} their log-likelihood is "
        f"{of_heldout[best] - of_heldout[0]:.0f} nats per pixel lower, that of the training digits "
        f"{of_train[0] - of_train[best]:.1f} higher."
    )

r"""Entropy along a diffusion: what the forward process destroys, and what a wrong score costs.

.. math::
    \dot H = d f + \tfrac12 g^2 J, \qquad J = E|s|^2 \le \frac{d}{\sigma^2}, \qquad
    \frac{d}{dt}\mathrm{KL}(p_t\|q_t) = -\tfrac12 g^2\, E_{p_t}|s_p - s_q|^2 .

The first is de Bruijn's identity. The last holds for any two solutions of one forward equation; integrated, it says
that a model with the score of another distribution q pays for it in relative entropy, noise level by noise level, which
is what the training loss adds up. For the Ornstein-Uhlenbeck process both the relative entropy to equilibrium and the
transport distance contract, by :math:`e^{-2t}` and :math:`e^{-t}`.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054; Stam 1959 (de Bruijn's identity);
Song et al. 2021, https://arxiv.org/abs/2101.09258, theorem 1.
"""

import math

import torch
from scipy.integrate import quad
from torch import Tensor

from diffuscope.densities import Grid, entropy_rate
from diffuscope.densities.grid_integrals import (
    entropy,
    expectation,
    fisher_information,
    relative_entropy,
    relative_fisher,
)
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Panel, largest, line
from diffuscope.schedules import VP

from .experiment import Experiment
from .part import Part, panel

PAPER = "Cao et al. 2025, entropy"
OU = VP(2.0, 2.0)  # dX = -X dt + sqrt 2 dB
GRID = Grid.line(-12, 12, 4096)
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-2.0], [1.5]], dtype=torch.float64),
    torch.tensor([0.1, 0.3], dtype=torch.float64),
)
EQUILIBRIUM = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 1.0)
TIMES = torch.linspace(0.01, 2.0, 41, dtype=torch.float64)
EXPERIMENT = Experiment(
    name="entropy",
    title="Entropy, forward and in reverse",
    question="What does noise destroy, how fast, and what does a wrong score cost?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054; de Bruijn (Stam 1959); Song et al. 2021",
    seconds=2,
    settings={
        "modes": "-2, 1.5",
        "weights": "0.3, 0.7",
        "variances": "0.1, 0.3",
        "grid": "4,096 cells of [-12, 12]",
        "times": "41 from 0.01 to 2",
    },
)


def level(t: float) -> tuple[float, float]:
    """alpha and sigma at time t."""
    return float(OU.alpha(t)), float(OU.sigma(t))


@EXPERIMENT.part("Is the entropy's rate the Fisher information?")
def de_bruijn(part: Part) -> str:
    """The entropy's derivative by differences of order 4 against the identity, and Fisher's bound."""
    h, H, rates, shares, gaps = 1e-3, [], [], [], []
    for t in TIMES[1:].tolist():
        J = fisher_information(PAIR, *level(t), GRID)
        near = {k: entropy(PAIR, *level(t + k * h), GRID) for k in (-2, -1, 0, 1, 2)}
        H.append(near[0])
        rates.append(entropy_rate(OU, t, J, 1))
        shares.append(J * level(t)[1] ** 2)
        if t >= 0.2:
            gaps.append(abs((8 * (near[1] - near[-1]) - (near[2] - near[-2])) / (12 * h) - rates[-1]))
    title = "Rate of the entropy against the identity, t from 0.2 to 2"
    because, unit = "differences of order 4 with step 0.001, and quadrature at rounding", "nats per unit of t"
    part.at_most("de-bruijn", title, largest(gaps), 1e-9, because, source="Stam 1959", unit=unit)
    part.at_most("fisher", "Largest sigma^2 J", largest(shares), 1.0, "J <= d / sigma^2", source=PAPER)
    part.chart(
        "Entropy along the forward process",
        panel("entropy", "t", "nats", line(TIMES[1:], H, "H")),
        panel("its rate", "t", unit, line(TIMES[1:], rates, "−1 + J")),
        panel("Fisher information", "t", "σ² J", line(TIMES[1:], shares, "σ² J, at most 1")),
        how_to_read="Two narrow modes first spread, and the entropy overshoots; then the drift contracts them.",
    )
    return "Yes, at every time: the rate is the mean square of the score, less 1 for the contraction by the drift."


@EXPERIMENT.part("How fast is equilibrium reached?")
def contraction(part: Part) -> str:
    """Relative entropy and transport distance to equilibrium against their exponential bounds."""
    kl = [relative_entropy(PAIR, EQUILIBRIUM, *level(t), GRID) for t in TIMES.tolist()]
    w2 = [transport_distance(t) for t in TIMES.tolist()]
    start, panels = TIMES[0].item(), []
    for name, symbol, unit, power, values, because in (
        ("entropy", "KL", "nats", 2, kl, "logarithmic Sobolev inequality"),
        ("distance", "W2", "W2", 1, w2, "the same noise drives both"),
    ):
        shares = [v * math.exp(power * (t - start)) / values[0] for t, v in zip(TIMES.tolist(), values, strict=True)]
        exponent, bound = f"{power}t".removeprefix("1"), values[0] * torch.exp(-power * (TIMES - start))
        title = f"Largest {symbol}(t) e^({exponent}) over its value at the start"
        part.at_most(f"{name}-contracts", title, largest(shares[1:]), 1.0, because, source=PAPER)
        curves = line(TIMES, values, symbol), line(TIMES, bound, f"e^(−{exponent}), the bound", style="dashed")
        panels.append(Panel(f"{symbol} to N(0, 1)", "t", unit, curves, y_log=True))
    part.chart("Relaxation to equilibrium", *panels, how_to_read="Solid lines stay below the dashed bounds.")
    return "Both distances to equilibrium fall at least as fast as the theorem says."


def transport_distance(t: float) -> float:
    """W2 between p_t and N(0, 1), by the monotone map: W2^2 = E (x - quantile of N(0, 1) at F(x))^2."""
    alpha, sigma = level(t)
    deviations = (alpha**2 * PAIR.tail_variances + sigma**2).sqrt()

    def square(x: Tensor) -> Tensor:
        z = (x - alpha * PAIR.means[:, 0]) / deviations
        below, above = torch.special.ndtr(z) @ PAIR.weights, torch.special.ndtr(-z) @ PAIR.weights
        tail = torch.special.ndtri(torch.minimum(below, above).clamp_min(1e-300))  # accurate at both ends
        return (x[:, 0] - tail * (above - below).sign()) ** 2

    return math.sqrt(float(expectation(PAIR, alpha, sigma, GRID, square)))


@EXPERIMENT.part("Does the score obey its identities?")
def moments(part: Part) -> str:
    """Integration by parts: E x s = -1 and E s^2 = -E s' under the distribution of the score."""
    position, square = zip(*(score_moments(t) for t in (0.05, 0.2, 0.7, 1.5)), strict=True)
    part.at_most("position", "|E x s + 1|", largest(position), 1e-10, "quadrature at rounding", source=PAPER)
    part.at_most("square", "|E s^2 + E s'|", largest(square), 1e-10, "quadrature at rounding", source=PAPER)
    return "Yes: integration by parts holds to ten digits."


def score_moments(t: float) -> tuple[float, float]:
    """|E x s + 1| and |E s^2 + E s'| at time t."""
    alpha, sigma = level(t)

    def score(x: Tensor) -> Tensor:
        return PAIR.score(x, alpha, sigma)[:, 0]

    def slope(x: Tensor) -> Tensor:
        return ((alpha / sigma) ** 2 * PAIR.posterior_covariance(x, alpha, sigma).trace() - 1) / sigma**2

    functions = (lambda x: x[:, 0] * score(x), lambda x: score(x) ** 2, slope)
    position, square, slopes = (float(expectation(PAIR, alpha, sigma, GRID, f)) for f in functions)
    return abs(position + 1), abs(square + slopes)


@EXPERIMENT.part("What does a wrong score cost?")
def wrong_score(part: Part) -> str:
    """A Gaussian's score in place of the mixture's: the entropy it costs, level by level."""
    model, start, end = PAIR.as_gaussian(), 0.02, 2.0

    def rate(t: float) -> float:
        return float(OU.g_squared(t)) / 2 * relative_fisher(PAIR, model, *level(t), GRID)

    paid, _ = quad(rate, start, end, epsabs=1e-11, epsrel=1e-11, limit=200)
    cost, rest = (relative_entropy(PAIR, model, *level(t), GRID) for t in (start, end))
    because = "quadrature in t at 1e-11 and in x at rounding"
    source = "Song et al. 2021, theorem 1 (equality: both distributions solve the forward equation)"
    title = "Relative entropy of the model at t = 0.02"
    part.equals("girsanov", title, cost, paid + rest, 1e-8, because, source=source, unit="nats")
    t = torch.logspace(math.log10(start), math.log10(end), 61, dtype=torch.float64)
    curve = line(t, [rate(s) * s for s in t.tolist()], "½ g² E|s − s_model|²")
    part.chart(
        "Where a Gaussian model pays",
        Panel("", "t", "nats per e-fold of t", (curve,), x_log=True),
        how_to_read="The area under the curve, over log t, is the relative entropy between data and model.",
    )
    return f"A model that learned only mean and variance loses {cost:.3f} nats, most of it where the modes separate."

r"""Entropy along a diffusion: what the forward process destroys, and what a wrong score costs.

.. math::
    \dot H = d f + \tfrac12 g^2 J, \qquad J = E|s|^2 \le \frac{d}{\sigma^2}, \qquad
    \frac{d}{dt}\mathrm{KL}(p_t\|q_t) = -\tfrac12 g^2\, E_{p_t}|s_p - s_q|^2 .

The first is de Bruijn's identity. The last holds for any two solutions of one forward equation; integrated, it says
that a model whose score is that of another law q is paid for in relative entropy, noise level by noise level, which is
what the training loss adds up. For the Ornstein-Uhlenbeck process both the relative entropy to equilibrium and the
transport distance contract, by :math:`e^{-2t}` and :math:`e^{-t}`.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054; Stam 1959 (de Bruijn's identity);
Song et al. 2021, https://arxiv.org/abs/2101.09258, theorem 1.
"""

import math

import torch
from scipy.integrate import quad
from torch import Tensor

from diffuscope.densities import Grid, entropy_rate
from diffuscope.densities.expectations import (
    entropy,
    expectation,
    fisher_information,
    relative_entropy,
    relative_fisher,
)
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Chart, Panel, at_most, equals, largest, line
from diffuscope.schedules import VP

from .experiment import Answer, Experiment, Part

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


def level(t: float) -> tuple[float, float]:
    """alpha and sigma at time t."""
    return float(OU.alpha(t)), float(OU.sigma(t))


def de_bruijn(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The entropy's derivative by differences of order 4 against the identity, and Fisher's bound."""
    h = 1e-3
    gaps, entropies, rates, bounds = [], [], [], []
    for t in TIMES[1:].tolist():
        fisher = fisher_information(PAIR, *level(t), GRID)
        identity = entropy_rate(OU, t, fisher, 1)
        H = {k: entropy(PAIR, *level(t + k * h), GRID) for k in (-2, -1, 0, 1, 2)}
        difference = (8 * (H[1] - H[-1]) - (H[2] - H[-2])) / (12 * h)
        gaps.append(abs(difference - identity))
        entropies.append(H[0])
        rates.append(identity)
        bounds.append(fisher * level(t)[1] ** 2)
    later = [k for k, t in enumerate(TIMES[1:].tolist()) if t >= 0.2]
    panels = (
        Panel("entropy", "t", "nats", (line(TIMES[1:], entropies, "H"),)),
        Panel("its rate", "t", "nats per unit of t", (line(TIMES[1:], rates, "−1 + J"),)),
        Panel("Fisher information", "t", "σ² J", (line(TIMES[1:], bounds, "σ² J, at most 1"),)),
    )
    return Answer(
        "The entropy's rate is the score's mean square less what the drift pulls together, at every time.",
        (
            at_most(
                "de-bruijn",
                "Rate of entropy against the identity, t from .2 to 2",
                largest(gaps[k] for k in later),
                1e-9,
                because="differences of order 4 with step .001, and quadrature at rounding",
                source="Stam 1959",
                unit="nats per unit of t",
            ),
            at_most("fisher", "Largest sigma^2 J", largest(bounds), 1.0, because="J <= d / sigma^2", source=PAPER),
        ),
        (
            Chart(
                "Entropy along the forward process",
                panels,
                "Two narrow modes first spread, and the entropy overshoots; then the drift gathers them.",
            ),
        ),
    )


def contraction(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """Relative entropy and transport distance to equilibrium against their exponential bounds."""
    start = TIMES[0].item()
    kl = [relative_entropy(PAIR, EQUILIBRIUM, *level(t), GRID) for t in TIMES.tolist()]
    w2 = [_transport_distance(t) for t in TIMES.tolist()]
    share = [k * math.exp(2 * (t - start)) / kl[0] for k, t in zip(kl, TIMES.tolist(), strict=True)]
    share_w2 = [w * math.exp(t - start) / w2[0] for w, t in zip(w2, TIMES.tolist(), strict=True)]
    panels = (
        Panel(
            "relative entropy to N(0, 1)",
            "t",
            "nats",
            (
                line(TIMES, kl, "KL"),
                line(TIMES, kl[0] * torch.exp(-2 * (TIMES - start)), "e^(−2t), the bound", style="dashed"),
            ),
            y_log=True,
        ),
        Panel(
            "transport distance",
            "t",
            "W₂",
            (
                line(TIMES, w2, "W₂"),
                line(TIMES, w2[0] * torch.exp(start - TIMES), "e^(−t), the bound", style="dashed"),
            ),
            y_log=True,
        ),
    )
    return Answer(
        "Both distances to equilibrium fall at least as fast as the theorem says.",
        (
            at_most(
                "entropy-contracts",
                "Largest KL(t) e^(2t) over its value at the start",
                largest(share[1:]),
                1.0,
                because="logarithmic Sobolev inequality",
                source=PAPER,
            ),
            at_most(
                "distance-contracts",
                "Largest W2(t) e^t over its value at the start",
                largest(share_w2[1:]),
                1.0,
                because="one noise for both",
                source=PAPER,
            ),
        ),
        (Chart("The way to equilibrium", panels, "Solid lines stay below the dashed bounds."),),
    )


def _transport_distance(t: float) -> float:
    """W2 between the noised law and N(0, 1), by the monotone map: W2^2 = E (x - quantile of N(0, 1) at F(x))^2."""
    alpha, sigma = level(t)
    deviations = (alpha**2 * PAIR.tail_variances + sigma**2).sqrt()

    def square(x: Tensor) -> Tensor:
        z = (x - alpha * PAIR.means[:, 0]) / deviations
        below, above = torch.special.ndtr(z) @ PAIR.weights, torch.special.ndtr(-z) @ PAIR.weights
        tail = torch.special.ndtri(torch.minimum(below, above).clamp_min(1e-300))  # accurate at both ends
        return (x[:, 0] - torch.where(below < above, tail, -tail)) ** 2

    return math.sqrt(float(expectation(PAIR, alpha, sigma, GRID, square)))


def moments(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The identities that every score obeys under its own law."""
    worst: dict[str, list[float]] = {"mean": [], "position": [], "square": []}
    for t in (0.05, 0.2, 0.7, 1.5):
        alpha, sigma = level(t)

        def score(x: Tensor, alpha: float = alpha, sigma: float = sigma) -> Tensor:
            return PAIR.score(x, alpha, sigma)[:, 0]

        def slope(x: Tensor, alpha: float = alpha, sigma: float = sigma) -> Tensor:
            trace = PAIR.posterior_covariance(x, alpha, sigma).trace()
            return ((alpha / sigma) ** 2 * trace - 1) / sigma**2

        mean, position, square, slopes = (
            float(expectation(PAIR, alpha, sigma, GRID, f))
            for f in (score, lambda x: x[:, 0] * score(x), lambda x: score(x) ** 2, slope)
        )
        worst["mean"].append(abs(mean))
        worst["position"].append(abs(position + 1))
        worst["square"].append(abs(square + slopes))
    return Answer(
        "Integration by parts, three times over, to ten digits.",
        (
            at_most("mean", "|E s|", largest(worst["mean"]), 1e-10, because="quadrature at rounding", source=PAPER),
            at_most(
                "position",
                "|E x s + 1|",
                largest(worst["position"]),
                1e-10,
                because="quadrature at rounding",
                source=PAPER,
            ),
            at_most(
                "square",
                "|E s^2 + E s'|",
                largest(worst["square"]),
                1e-10,
                because="quadrature at rounding",
                source=PAPER,
            ),
        ),
    )


def wrong_score(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """A Gaussian's score in place of the mixture's: the entropy it costs, level by level."""
    model = PAIR.as_gaussian()
    start, end = 0.02, 2.0

    def rate(t: float) -> float:
        return float(OU.g_squared(t)) / 2 * relative_fisher(PAIR, model, *level(t), GRID)

    paid, _ = quad(rate, start, end, epsabs=1e-11, epsrel=1e-11, limit=200)
    ends = {t: relative_entropy(PAIR, model, *level(t), GRID) for t in (start, end)}
    t = torch.logspace(math.log10(start), math.log10(end), 60, dtype=torch.float64)
    rates = [rate(s) * s for s in t.tolist()]
    panel = Panel("", "t", "nats per e-fold of t", (line(t, rates, "½ g² E|s − s_model|²"),), x_log=True)
    return Answer(
        f"A model that learned only mean and variance loses {ends[start]:.3f} nats, most of it where the modes part.",
        (
            equals(
                "girsanov",
                "Relative entropy of the model at t = .02",
                ends[start],
                paid + ends[end],
                within=1e-8,
                because="quadrature in t at 1e-11 and in x at rounding",
                source="Song et al. 2021, theorem 1 (equality: both laws solve the forward equation)",
                unit="nats",
            ),
        ),
        (
            Chart(
                "Where a Gaussian model pays",
                (panel,),
                "The area under the curve, over log t, is the relative entropy between data and model.",
            ),
        ),
    )


ENTROPY = Experiment(
    "entropy",
    "Entropy, forward and in reverse",
    "What does noise destroy, how fast, and what does a wrong score cost?",
    "Cao et al. 2025, https://arxiv.org/abs/2501.17054; de Bruijn (Stam 1959); Song et al. 2021",
    2,
    (
        Part("de-bruijn", "Is the entropy's rate the Fisher information?", de_bruijn),
        Part("contraction", "How fast is equilibrium reached?", contraction),
        Part("moments", "Does the score obey its identities?", moments),
        Part("wrong-score", "What does a wrong score cost?", wrong_score),
    ),
    settings={"modes": "-2, 1.5", "weights": ".3, .7"},
)

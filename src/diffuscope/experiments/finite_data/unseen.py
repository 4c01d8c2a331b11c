r"""What unseen digits are worth under the law that a blurred score generates: closed form, and best at a blur.

.. math::  \log p_\delta(x) = \log\frac1N\sum_i N(x; x_i, \delta^2 I)
           \to -\frac{d}{2}\log 2\pi\delta^2 - \log N - \frac{\min_i |x - x_i|^2}{2\delta^2} \qquad (\delta \to 0)

grows without bound on the training digits and falls without bound on all others: the exact score explains nothing that
it has not seen.

Source: derived.
"""

import math

import torch

from diffuscope.exact import Empirical, nearest_neighbors
from diffuscope.findings import Chart, Claim, Panel, at_least, equals, line

from ..experiment import Answer
from .digits import DIGITS, PIXELS, Digits

BLURS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


def unseen_likelihood(_: torch.Generator) -> Answer:
    """What unseen digits are worth under the law that the blurred score generates."""
    digits = Digits.load()
    law = Empirical(digits.train)
    unseen, seen = (
        [float(law.log_prob(x, 1.0, delta).mean()) / PIXELS for delta in BLURS] for x in (digits.unseen, digits.train)
    )
    best = max(range(len(BLURS)), key=lambda k: unseen[k])
    square = nearest_neighbors(digits.unseen, digits.train, 1)[0].square().mean()
    smallest = BLURS[0]
    constant = -math.log(smallest * math.sqrt(2 * math.pi)) - math.log(DIGITS) / PIXELS
    claims: tuple[Claim, ...] = (
        at_least(
            "best-blur",
            "The blur that makes unseen digits most likely is not the smallest",
            BLURS[best],
            0.2,
            because="ten times the smallest",
            source="derived",
        ),
        at_least(
            "gain",
            "Against the smallest blur it gains, in nats per pixel",
            unseen[best] - unseen[0],
            100.0,
            because="half the square of a distance over a blur, per pixel, is that large",
            source="derived",
            unit="nats",
        ),
        equals(
            "collapse",
            f"Towards the exact score it falls like -|x - nearest|²/2δ² for unseen digits: at δ = {smallest:g}",
            unseen[0],
            constant - float(square) / (2 * smallest**2 * PIXELS),
            within=1e-3,
            because="the second nearest digit adds nothing",
            source="derived",
            unit="nats per pixel",
        ),
        at_least(
            "seen",
            "While that of the training digits grows: from the best blur to the smallest",
            seen[0] - seen[best],
            1.0,
            because="log of the ratio of the blurs, per pixel",
            source="derived",
            unit="nats per pixel",
        ),
    )
    shown = slice(2, None)
    chart = Chart(
        "What the generated law is worth on seen and on unseen digits",
        (
            Panel(
                "",
                "blur δ of the score",
                "log-likelihood per pixel, nats",
                (
                    line(BLURS[shown], seen[shown], "training digits"),
                    line(BLURS[shown], unseen[shown], "unseen digits"),
                ),
            ),
        ),
        "Both are closed form. The smaller the error of the score, the better it explains what it has seen, without "
        "bound; unseen digits become impossible. Their best is in between.",
    )
    told = f"No. The best blur for them is δ = {BLURS[best]:g}; the exact score gives them no chance."
    return Answer(told, claims, (chart,))

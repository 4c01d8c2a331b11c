r"""What a half-trained linear denoiser generates, and when each component emerges.

The digits' 32 largest variances in a random basis. The noise levels of the table are Gauss-Legendre nodes in
:math:`\log\sigma`, where the map of the probability-flow ODE from :math:`\sigma_T` to :math:`\sigma_0` is

.. math::  G = \exp\Big[\sum_i \omega_i (W_{\sigma_i} - I)\Big], \qquad
           \tilde\lambda_k = \sigma_T^2\, u_k^T G G^T u_k

(the W commute). Emergence is where :math:`\tilde\lambda_k` crosses the geometric mean of start and end. Scaling
:math:`\lambda, \sigma_0^2, \sigma_T^2` together scales :math:`\tau^*` by the inverse exactly; with the ends of the
noise fixed the exponent differs from -1 by a logarithm.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206; its Lemma 4.1 prints G with the other sign.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Claim, Line, Panel, at_most, equals, line, points
from diffuscope.schedules import VE
from diffuscope.theory import (
    PowerLaw,
    emergence_times,
    fit_power_law,
    learned_variance,
    moment_batch,
    one_layer_generated_variance,
    two_layer_generated_variance,
)

from ..experiment import Answer
from .setting import PAPER, LinearModel, descend, digits_law, learning_rates, spread, times_after

COMPONENTS, NODES = 32, 12
SIGMA_0, SIGMA_T, START = 0.03, 4.0, 0.05
END = 20.0  # training time
SHARE = {"one": 0.015, "two": 0.008}
SHOWN = 6
CLOSED = {"one": one_layer_generated_variance, "two": two_layer_generated_variance}
WORDS = {"one": "One layer", "two": "Two layers"}


@dataclass(frozen=True, eq=False)
class Nodes:
    """Noise levels and their weights in log sigma."""

    levels: Float[Tensor, " nodes"]
    weights: Float[Tensor, " nodes"]

    @classmethod
    def gauss_legendre(cls) -> "Nodes":
        u, weights = np.polynomial.legendre.leggauss(NODES)
        middle, half = math.log(SIGMA_0 * SIGMA_T) / 2, math.log(SIGMA_T / SIGMA_0) / 2
        return cls(torch.from_numpy(np.exp(middle + half * u)), torch.from_numpy(half * weights))

    def generated(self, model: LinearModel, vectors: Tensor) -> Float[Tensor, " modes"]:
        """The variance along every component, started from N(0, SIGMA_T^2)."""
        eye = torch.eye(len(vectors), dtype=torch.float64)
        maps = torch.stack([model.map_at(level)[0] - eye for level in self.levels.tolist()])
        moved = torch.linalg.matrix_exp(torch.einsum("n,nde->de", self.weights, maps))
        return SIGMA_T**2 * (moved.T @ vectors).square().sum(0)


@dataclass(frozen=True, eq=False)
class Learned:
    """Generated variance against training time: of a trained network, and in closed form."""

    variances: Float[Tensor, " modes"]
    times: Float[Tensor, " times"]
    trained: Float[Tensor, "times modes"]
    closed: Float[Tensor, "times modes"]

    @property
    def error(self) -> float:
        """The largest difference over the variance that is learned in the end."""
        final = learned_variance(self.variances, sigma_0=SIGMA_0, sigma_T=SIGMA_T)
        return float(((self.trained - self.closed).abs() / final).max())

    def emergence(self, curves: Tensor) -> tuple[Tensor, PowerLaw]:
        """Times and their power law."""
        final = learned_variance(self.variances, sigma_0=SIGMA_0, sigma_T=SIGMA_T)
        found = emergence_times(self.times, curves, final)
        return found, fit_power_law(self.variances, found)


def learned(kind: str, law: Gaussian) -> Learned:
    """Train every level of one kind of network, "one" layer or "two", by full-batch gradient descent."""
    nodes, schedule = Nodes.gauss_legendre(), VE(SIGMA_0, SIGMA_T)
    common = {"data_range": (-1.0, 1.0), "start": START}
    if kind == "one":
        model = LinearDenoiser(schedule, nodes.levels, event_shape=(COMPONENTS,), **common).double()
    else:
        model = SymmetricLinearDenoiser(schedule, nodes.levels, mean=law.mean, **common).double()
    rates = learning_rates(SHARE[kind], 1e-3, 0.05, END)
    batch, vectors = moment_batch(law), law.eigenvectors
    steps = descend(model, nodes.levels, lambda: batch, rates)
    trained = torch.stack([nodes.generated(model, vectors) for _ in steps])
    times = times_after(rates)
    closed = CLOSED[kind](law.eigenvalues, times, START, sigma_0=SIGMA_0, sigma_T=SIGMA_T)
    return Learned(law.eigenvalues, times, trained, closed)


def generated(generator: torch.Generator) -> Answer:
    """Variance curves and emergence times of both networks."""
    claims: list[Claim] = []
    basis = torch.linalg.qr(torch.randn(COMPONENTS, COMPONENTS, dtype=torch.float64, generator=generator))[0]
    law = Gaussian(torch.zeros(COMPONENTS, dtype=torch.float64), basis, digits_law().eigenvalues[:COMPONENTS])
    curves, emergences, exponents = [], [], {}
    for kind in ("one", "two"):
        found = learned(kind, law)
        (times, fit), (predicted, closed_fit) = found.emergence(found.trained), found.emergence(found.closed)
        exponents[kind] = fit
        claims += _claims(kind, found, fit, closed_fit)
        marks: list[Line] = []
        for mode in spread(SHOWN, COMPONENTS):
            marks.append(line(found.times[1:], found.trained[1:, mode], f"λ = {float(found.variances[mode]):.2g}"))
            marks.append(line(found.times[1:], found.closed[1:, mode], style="dashed"))
        panel = Panel(WORDS[kind], "training time", "generated variance", tuple(marks), x_log=True, y_log=True)
        curves.append(panel)
        power = line(found.variances, closed_fit(found.variances), f"λ^{closed_fit.exponent:.2f}", style="dashed")
        marked = (points(found.variances, times, "trained"), line(found.variances, predicted, "closed form"), power)
        emergences.append(Panel(WORDS[kind], "variance λ", "emergence time", marked, x_log=True, y_log=True))
    told = ", ".join(f"{fit.exponent:.3f} ± {fit.interval:.3f} ({WORDS[kind]})" for kind, fit in exponents.items())
    return Answer(
        f"Large variances first, as about 1/λ: the exponents are {told.lower()}.",
        tuple(claims),
        (
            Chart(
                "What is generated during training",
                tuple(curves),
                "Variance along a component, started from pure noise; dashed: the closed form.",
                shared_y=True,
            ),
            Chart(
                "Emergence against variance",
                tuple(emergences),
                "When the generated variance passes half of its way, in logarithms.",
                shared_y=True,
            ),
        ),
    )


def _claims(kind: str, found: Learned, fit: PowerLaw, closed: PowerLaw) -> list[Claim]:
    return [
        at_most(
            f"generated-{kind}",
            f"{WORDS[kind]}: the generated variance is the closed form at every logged step; largest error over the "
            "variance learned in the end",
            found.error,
            0.01,
            because="1%, asked for; steps are a small share of the time passed",
            source=PAPER,
        ),
        equals(
            f"exponent-{kind}",
            f"{WORDS[kind]}: the exponent of emergence time against variance is that of the closed form",
            fit.exponent,
            closed.exponent,
            within=fit.interval + closed.interval + 0.002,
            because="both 95% intervals of the fit, and a first-order step size",
            source=PAPER,
        ),
        equals(
            f"inverse-{kind}",
            f"{WORDS[kind]}: it is close to -1",
            fit.exponent,
            -1.0,
            within=0.05,
            because="logarithmic corrections of the finite range of noise, computed in closed form: 0.03 and 0.01",
            source=PAPER,
        ),
    ]

r"""How far a denoiser in training is from each exact model, at the same noised points at every step.

.. math::
    x_i = \alpha x_0^i + \sigma\varepsilon_i, \qquad
    r_i^m = \frac{|D(x_i) - D_m(x_i)|^2}{\min\big(\langle|D_G - \mu|^2\rangle, \langle|D_G - x/\alpha|^2\rangle\big)},
    \qquad R^m = \langle r_i^m\rangle ,

for the exact models m of `audit.fit_references`, G the Gaussian. The denominator is how much the Gaussian's own answer
moves, away from the mean or away from the input, whichever is less. It does not depend on the step, so that a minimum
of R is one of the distance itself, and it is meaningful at both ends of the noise. Because
:math:`s - s_m = \alpha (D - D_m)/\sigma^2`, the score has the same minimum. The published form divides every point by
the network's own score,

.. math::
    \Big\langle\frac{|s - s_m|^2}{|s|^2}\Big\rangle = \Big\langle\frac{|D - D_m|^2}{|D - x/\alpha|^2}\Big\rangle ,

which is near 0 for any model at high noise, because there every score is :math:`-x/\sigma^2`. A turning point is
significant at the level 0.01.

Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726 (score residuals against training).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.audit import References
from diffuscope.denoisers import Denoiser
from diffuscope.findings import TurningPoint, turning_point
from diffuscope.schedules import Schedule

SIGNIFICANCE = 0.01
CHUNK = 256  # points


class Probe:
    """Noised examples of one set at the noise level of time t, and the answer of every exact model to them."""

    def __init__(self, schedule: Schedule, references: References, t: float, x_0: Tensor, noise: Tensor) -> None:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        self.t, self.x_t = t, alpha * x_0 + sigma * noise
        self.clean = self.x_t / alpha  # the answer of a denoiser that does nothing
        self.exact = {name: model.denoise(self.x_t, alpha, sigma) for name, model in references.models.items()}
        moves = (squares(self.exact["Gaussian"] - other).mean() for other in (references.mean, self.clean))
        self.unit = float(min(moves))

    @torch.no_grad()
    def distances(self, denoiser: Denoiser) -> Float[Tensor, "n answers"]:
        """|D - D_m|^2 for every exact model, and last |D - x_t/alpha|^2, the square of the score up to a factor."""
        t = torch.tensor(self.t, dtype=torch.float64)
        answer = torch.cat([denoiser(rows, t) for rows in self.x_t.split(CHUNK)])
        return torch.stack([squares(answer - other) for other in (*self.exact.values(), self.clean)], 1)


@dataclass(frozen=True, eq=False)
class Curves:
    """The residuals at one noise level, in standard deviations of the data, over all logged steps."""

    ratio: float
    steps: tuple[int, ...]
    residuals: Mapping[str, Float[ndarray, "n steps"]]  # by exact model
    published: Float[ndarray, "n steps"]  # of the Gaussian, over the network's own score

    def turning(self, rng: np.random.Generator) -> TurningPoint:
        """The turning point of the Gaussian residual."""
        return turning_point(self.residuals["Gaussian"], np.asarray(self.steps), rng, significance=SIGNIFICANCE)

    def published_turning(self, rng: np.random.Generator) -> TurningPoint:
        """The turning point in the published form."""
        return turning_point(self.published, np.asarray(self.steps), rng, significance=SIGNIFICANCE)

    def lead(self, near: str, far: str, step: float | int) -> float:
        """By how many standard errors `near` is nearer than `far` at a logged step."""
        place = self.steps.index(int(step))
        more = self.residuals[far][:, place] - self.residuals[near][:, place]
        return float(more.mean() / (more.std(ddof=1) / np.sqrt(len(more))))


def watch(
    networks: Iterable[tuple[int, Denoiser]],
    schedule: Schedule,
    references: References,
    times: Mapping[float, float],
    data: Mapping[str, Float[Tensor, "_ *event"]],
    points: int,
    generator: torch.Generator,
) -> dict[str, list[Curves]]:
    """The curves of every noise level (`times` by ratio) for each set in `data`, at `points` of its examples.

    `networks` are pairs of step and denoiser; one denoiser may be yielded again and again while it is trained.
    """
    noise = torch.randn(points, *references.mean.shape, generator=generator)
    examples = {name: rows[torch.randperm(len(rows), generator=generator)[:points]] for name, rows in data.items()}
    probes = {
        (name, ratio): Probe(schedule, references, t, x_0, noise)
        for name, x_0 in examples.items()
        for ratio, t in times.items()
    }
    distances: dict[tuple[str, float], list[Tensor]] = {key: [] for key in probes}
    steps = []
    for step, network in networks:
        steps.append(step)
        for key, probe in probes.items():
            distances[key].append(probe.distances(network))
    curves: dict[str, list[Curves]] = {name: [] for name in data}
    for (name, ratio), probe in probes.items():
        *models, score = torch.stack(distances[name, ratio], 1).unbind(2)
        by_model = dict(zip(probe.exact, models, strict=True))
        residuals = {model: (values / probe.unit).numpy() for model, values in by_model.items()}
        curves[name].append(Curves(ratio, tuple(steps), residuals, (by_model["Gaussian"] / score).numpy()))
    return curves


def standard_deviation(data: Float[Tensor, "_ *event"]) -> float:
    """The root of the mean variance of a coordinate."""
    return float(data.flatten(1).var(0, correction=0).mean().sqrt())


def squares(x: Tensor) -> Float[Tensor, " n"]:
    """|x|^2 of every row."""
    return x.flatten(1).double().square().sum(1)

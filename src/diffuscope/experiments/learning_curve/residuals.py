r"""How far a denoiser in training is from each exact model, at the same noised points at every step.

.. math::
    x_i = \alpha x_0^i + \sigma\varepsilon_i, \qquad
    r_i^m = \frac{|D(x_i) - D_m(x_i)|^2}{\min\big(\langle|D_G - \mu|^2\rangle, \langle|D_G - x/\alpha|^2\rangle\big)},
    \qquad R^m = \langle r_i^m\rangle ,

for the exact models m of `audit.fit_references`, G the Gaussian. The denominator is how much the Gaussian's own answer
moves, away from the mean or away from the input, whichever is less: it does not depend on the step, so that a minimum
of R is one of the distance itself; and it is vacuous at neither end of the noise. Because
:math:`s - s_m = \alpha (D - D_m)/\sigma^2`, the score has the same minimum. The published form divides every point by
the network's own score,

.. math::
    \Big\langle\frac{|s - s_m|^2}{|s|^2}\Big\rangle = \Big\langle\frac{|D - D_m|^2}{|D - x/\alpha|^2}\Big\rangle ,

which is near 0 for any model where the noise is high, because there every score is :math:`-x/\sigma^2`.

Source: Wang & Vastola 2024, https://arxiv.org/abs/2412.09726 (score residuals against training).
"""

from collections.abc import Iterable, Mapping, Sequence
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

PAPER = "Wang & Vastola 2024, https://arxiv.org/abs/2412.09726"
SETS = ("held-out", "training")
SIGNIFICANCE = 0.01
BATCH = 256


@dataclass(frozen=True, eq=False)
class Probe:
    """Noised examples of one set at one level, with the answer of every exact model."""

    t: float
    x_t: Float[Tensor, "n *event"]
    clean: Float[Tensor, "n *event"]  # x_t / alpha: what a denoiser that does nothing answers
    exact: Float[Tensor, "models n *event"]
    mean: Float[Tensor, "*event"]
    unit: float

    @classmethod
    def at(cls, schedule: Schedule, references: References, t: float, x_0: Tensor, noise: Tensor) -> "Probe":
        """The examples `x_0` noised to the level of time `t`."""
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        x_t = alpha * x_0 + sigma * noise
        exact = {name: model.denoise(x_t, alpha, sigma) for name, model in references.models.items()}
        moved = (_squares(exact["Gaussian"] - other).mean() for other in (references.mean, x_t / alpha))
        return cls(t, x_t, x_t / alpha, torch.stack(list(exact.values())), references.mean, float(min(moved)))

    def look(self, denoiser: Denoiser) -> "Look":
        """Every distance of the denoiser's answers."""
        with torch.no_grad():
            answer = torch.cat([denoiser(part, torch.tensor(self.t).double()) for part in self.x_t.split(BATCH)])
        distances = torch.stack([_squares(answer - model) for model in self.exact], 1)
        return Look(distances, _squares(answer - self.clean), _squares(answer - self.mean))


@dataclass(frozen=True, eq=False)
class Look:
    """What one denoiser says at one probe."""

    distances: Float[Tensor, "n models"]  # |D - D_m|^2
    score: Float[Tensor, " n"]  # |D - x / alpha|^2, the score's square up to a factor
    centered: Float[Tensor, " n"]  # |D - mu|^2


@dataclass(frozen=True, eq=False)
class Curves:
    """The residuals at one level and set over all logged steps."""

    ratio: float  # sigma / alpha over the deviation of the data
    steps: tuple[int, ...]
    models: tuple[str, ...]
    residuals: Float[ndarray, "n steps models"]
    published: Float[ndarray, "n steps models"]
    centered: Float[ndarray, "steps models"]  # pooled, of the denoiser around the mean

    @classmethod
    def of(cls, probe: Probe, ratio: float, steps: Sequence[int], models: Sequence[str], looks: list[Look]) -> "Curves":
        """The curves that the looks at one probe make."""
        distances = torch.stack([look.distances for look in looks], 1)
        score, centered = (torch.stack([getattr(look, name) for look in looks], 1) for name in ("score", "centered"))
        return cls(
            ratio,
            tuple(steps),
            tuple(models),
            (distances / probe.unit).numpy(),
            (distances / score[:, :, None]).numpy(),
            (distances.mean(0) / centered.mean(0)[:, None]).numpy(),
        )

    def of_model(self, model: str) -> Float[ndarray, "n steps"]:
        """Residuals against one exact model."""
        return self.residuals[:, :, self.models.index(model)]

    def turning(self, rng: np.random.Generator) -> TurningPoint:
        """The turning point of the Gaussian residual."""
        return turning_point(self.of_model("Gaussian"), np.asarray(self.steps), rng, significance=SIGNIFICANCE)

    def published_turning(self, rng: np.random.Generator) -> TurningPoint:
        """The turning point in the published form, every point over the network's own score."""
        values = self.published[:, :, self.models.index("Gaussian")]
        return turning_point(values, np.asarray(self.steps), rng, significance=SIGNIFICANCE)

    def lead(self, near: str, far: str, step: float | int) -> float:
        """By how many standard errors `near` is nearer than `far` at a logged step."""
        place = self.steps.index(int(step))
        more = self.of_model(far)[:, place] - self.of_model(near)[:, place]
        return float(more.mean() / (more.std(ddof=1) / np.sqrt(len(more))))


def chosen(rows: Float[Tensor, "n *event"], points: int, generator: torch.Generator) -> Float[Tensor, "points *event"]:
    """As many of the rows as `points`, drawn without replacement."""
    return rows[torch.randperm(len(rows), generator=generator)[:points]]


def watched(
    networks: Iterable[tuple[int, Denoiser]],
    schedule: Schedule,
    references: References,
    times: Mapping[float, float],
    sets: Mapping[str, Float[Tensor, "n *event"]],
    noise: Float[Tensor, "n *event"],
) -> dict[str, list[Curves]]:
    """Look at every network, with its step; per set of `sets` the curves of every level, `times` by noise."""
    probes = {
        (name, ratio): Probe.at(schedule, references, t, x_0, noise)
        for name, x_0 in sets.items()
        for ratio, t in times.items()
    }
    looks: dict[tuple[str, float], list[Look]] = {key: [] for key in probes}
    steps = []
    for step, network in networks:
        steps.append(step)
        for key, probe in probes.items():
            looks[key].append(probe.look(network))
    models = tuple(references.models)
    return {
        name: [Curves.of(probes[name, ratio], ratio, steps, models, looks[name, ratio]) for ratio in times]
        for name in sets
    }


def _squares(x: Tensor) -> Float[Tensor, " n"]:
    return x.flatten(1).double().square().sum(1)

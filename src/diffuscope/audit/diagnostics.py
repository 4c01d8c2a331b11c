"""The optional part of an audit: is it the score of a density that diffuses, and how many nats does it know?

`equation` asks the network itself and needs its derivatives; `information` is reduced from what was measured anyway. A
network without derivatives is not an error here: the one line that says why takes the place of the first part.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from diffuscope.errors import InputError
from diffuscope.findings import Finding

from . import equation as equation_
from . import information as information_
from .equation import Equation, measure_equation
from .information import Information
from .references import References
from .store import Arrays, Store
from .subject import Levels, Settings, Subject


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Curl and score equation, or in their place the reason why there are none; Fisher information and entropies."""

    equation: Equation | None
    refusal: str
    information: Information


def diagnose(
    subject: Subject,
    settings: Settings,
    references: References,
    levels: Levels,
    measures: list[Arrays],
    heldout: torch.Tensor,
    noise: torch.Tensor,
    store: Store,
    advance: Callable[[int], object],
) -> Diagnostics:
    """Measure and reduce, from the `measures` of all levels and the examples and noise that they were taken with."""
    schedule, ratios, scale = subject.denoiser.schedule, levels.ratios.numpy(), subject.scale
    squares, refusal = [], ""
    for index, (t, _) in enumerate(levels):

        def measure(t: float = t, index: int = index) -> Arrays:
            return measure_equation(subject, references, t, heldout, noise, settings.seed, index)

        try:
            squares.append(store.remember(f"equation-{index:02d}", measure))
        except InputError as error:
            refusal = str(error)
            break
        advance(1)
    rng = np.random.default_rng([settings.seed, 5])
    return Diagnostics(
        None if refusal else equation_.equation(squares, ratios, scale, settings.significance, rng),
        refusal,
        information_.information(
            measures,
            schedule.alpha(levels.times).numpy(),
            schedule.sigma(levels.times).numpy(),
            scale,
            references.gaussian,
            tuple(references.models),
            heldout,
            noise,
            np.random.default_rng([settings.seed, 6]),
        ),
    )


def findings(result: Diagnostics, significance: float) -> list[Finding]:
    """All findings of the section, those of the equation first."""
    first = [] if result.equation is None else equation_.findings(result.equation)
    return [*first, *information_.findings(result.information, significance)]

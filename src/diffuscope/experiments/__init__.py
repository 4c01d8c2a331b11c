"""Published experiments, each with the number it must reach; `diffuscope reproduce` runs them."""

from difflib import get_close_matches

from diffuscope.errors import InputError
from diffuscope.experiments.chart import (
    Arrows,
    Bars,
    Chart,
    Groups,
    HeatMap,
    Line,
    Mark,
    Panel,
    Points,
    arrows,
    density_bars,
    groups,
    heat_map,
    line,
    points,
)
from diffuscope.experiments.claim import Claim, at_least, at_most, equals
from diffuscope.experiments.double_moon import DOUBLE_MOON
from diffuscope.experiments.entropy import ENTROPY
from diffuscope.experiments.experiment import Answer, Experiment, Outcome, Part
from diffuscope.experiments.finite_data import FINITE_DATA
from diffuscope.experiments.fixed_start import FIXED_START
from diffuscope.experiments.heat_1d import HEAT_1D
from diffuscope.experiments.learning_curve import LEARNING_CURVE
from diffuscope.experiments.memorization_transition import MEMORIZATION_TRANSITION
from diffuscope.experiments.mixture_forward import MIXTURE_FORWARD
from diffuscope.experiments.record import Record, code_fingerprint
from diffuscope.experiments.reverse_family import REVERSE_FAMILY
from diffuscope.experiments.sample_quality import SAMPLE_QUALITY
from diffuscope.experiments.samplers_compared import SAMPLERS
from diffuscope.experiments.spectral_bias import SPECTRAL_BIAS
from diffuscope.experiments.support import SUPPORT
from diffuscope.experiments.target_variance import TARGET_VARIANCE

EXPERIMENTS: tuple[Experiment, ...] = (
    HEAT_1D,
    MIXTURE_FORWARD,
    REVERSE_FAMILY,
    SUPPORT,
    FIXED_START,
    FINITE_DATA,
    ENTROPY,
    SAMPLERS,
    SPECTRAL_BIAS,
    LEARNING_CURVE,
    SAMPLE_QUALITY,
    DOUBLE_MOON,
    MEMORIZATION_TRANSITION,
    TARGET_VARIANCE,
)


def find(name: str) -> Experiment:
    """The experiment of that name; InputError names the nearest one, or all, where there is none."""
    for found in EXPERIMENTS:
        if found.name == name:
            return found
    names = [known.name for known in EXPERIMENTS]
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    raise InputError(f"name: there is no experiment {name!r}; {hint}")


__all__ = [
    "EXPERIMENTS",
    "Answer",
    "Arrows",
    "Bars",
    "Chart",
    "Claim",
    "Experiment",
    "Groups",
    "HeatMap",
    "Line",
    "Mark",
    "Outcome",
    "Panel",
    "Part",
    "Points",
    "Record",
    "arrows",
    "at_least",
    "at_most",
    "code_fingerprint",
    "density_bars",
    "equals",
    "find",
    "groups",
    "heat_map",
    "line",
    "points",
]

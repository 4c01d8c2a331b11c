"""Published experiments, each with the number it must reach; `diffuscope reproduce` runs them."""

from difflib import get_close_matches

from diffuscope.errors import InputError

from .double_moon import DOUBLE_MOON
from .entropy import ENTROPY
from .experiment import Answer, Experiment, Outcome, Part
from .finite_data import FINITE_DATA
from .fixed_start import FIXED_START
from .heat_1d import HEAT_1D
from .learning_curve import LEARNING_CURVE
from .memorization_transition import MEMORIZATION_TRANSITION
from .mixture_forward import MIXTURE_FORWARD
from .page import experiment_page, experiments_index
from .record import Record, code_fingerprint
from .reverse_family import REVERSE_FAMILY
from .sample_quality import SAMPLE_QUALITY
from .samplers_compared import SAMPLERS
from .spectral_bias import SPECTRAL_BIAS
from .support import SUPPORT
from .target_variance import TARGET_VARIANCE

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
    "Experiment",
    "Outcome",
    "Part",
    "Record",
    "code_fingerprint",
    "experiment_page",
    "experiments_index",
    "find",
]

r"""Is the model asked of no class that of all data? Guidance leads away from its answers.

D_w = D_u + w (D_y - D_u) takes the model asked of no class, D_u, for the denoiser of all data, which has the least
error over examples of all labels. Where a class of the model has a smaller one, D_u is something else, such as the
model of one class whose number means none by mistake. Measured as in `class_fit`, on training examples of all labels.
"""

from dataclasses import replace

import numpy as np

from diffuscope import streams
from diffuscope.denoisers import OfClass, classes_of
from diffuscope.findings import Finding, Tone
from diffuscope.findings.numbers import number

from .class_data import ClassData
from .class_fit import WRONG, ClassFit, compared, fitted
from .subject import Settings, Subject

TITLE = "Is the model without a class, which guidance moves away from, that of all data?"


def unconditional_finding(subject: Subject, data: ClassData, settings: Settings) -> Finding:
    """The model asked of no class against its best class, on examples of all labels."""
    of_none = replace(subject, denoiser=OfClass(data.denoiser, None))
    stream = streams.torch_stream(settings.seed, "audit", "no class")
    fit = fitted(compared(data.denoiser, classes_of(data.denoiser), of_none, stream))
    return _finding(fit, settings.significance, streams.numpy_stream(settings.seed, "audit", "no class"))


def _finding(fit: ClassFit, level: float, rng: np.random.Generator) -> Finding:
    ratio, (worse, better) = fit.ratio, fit.p_values(rng)
    tone: Tone = "good"
    text = f"Without a class the model denoises all of the data better than with any; {fit.name} comes next."
    if worse < level and ratio >= 1:
        tone = "alarm" if ratio >= WRONG else "attention"
        text = (
            f"Without a class the model is not that of all data: {fit.name} denoises them better, and the errors "
            f"without a class are {number(ratio)} times as large. Guidance moves away from the wrong model."
        )
    elif better >= level:
        tone = "unknown"
        text = f"Cannot tell: without a class and as class {fit.other} the model denoises all of the data equally well."
    return Finding(
        name="guidance.unconditional",
        title=TITLE,
        value=ratio,
        unit="x",
        verdict=text,
        tone=tone,
        interval=fit.interval(rng),
        null="1x: no class denoises all of the data better. Signs of paired errors permuted.",
        p_value=worse,
        power=fit.power(level, "training examples of all labels"),
    )

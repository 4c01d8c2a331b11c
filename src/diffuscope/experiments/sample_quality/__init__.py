"""The experiment on the quality of samples: a network trained here, against digits that nobody has seen."""

from ..experiment import Experiment, Part
from . import copying, distances, setting

SAMPLE_QUALITY = Experiment(
    name="sample-quality",
    title="How good are the samples of a small network?",
    question="How far from real digits are those of a network trained for a minute?",
    source=setting.SOURCE,
    seconds=50,
    parts=(
        Part("features", "Does the classifier see what makes a digit?", distances.features),
        Part("trained", "How far are samples from real digits?", distances.trained),
        Part("controls", "Is what is not like digits far from them?", distances.controls),
        Part("copies", "Are they new, or recited?", copying.copying),
    ),
    settings={
        "data": "scikit-learn's digits, half of them for training, in [-1, 1]",
        "network": f"the library's U-Net, {setting.STEPS} steps of {setting.BATCH}, learning rate {setting.RATE:g}",
        "samples": f"DPM-Solver++ 2M, {setting.EVALUATIONS} evaluations, as many as there are unseen digits",
    },
)

__all__ = ["SAMPLE_QUALITY"]

"""The experiment on the support theorem: where the reverse process can end, and with which weights."""

from ..experiment import Experiment, Part
from ..four_points import HORIZON
from . import bayes, constraint, containment, leaving

SUPPORT = Experiment(
    name="support",
    title="The reverse process stays in the support of the data",
    question="What survives of the data when the reverse process is started from the wrong law?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, support theorem",
    seconds=10,
    parts=(
        Part("containment", "Does it end in the data's support, from any start?", containment.containment),
        Part("bayes", "With which weights?", bayes.bayes_form),
        Part("contraction", "Can an error of the start grow?", bayes.contraction),
        Part("constraint", "What if the data satisfy linear equations?", constraint.linear_constraint),
        Part("leaving", "What does the theorem need?", leaving.leaving),
    ),
    settings={
        "process": "dX = -X dt + √2 dB, η = 1",
        "circle": f"{containment.PARTICLES:,} particles, T = {containment.HORIZON:g}, {containment.STEPS} steps",
        "two bumps": f"0.3 N(-1.2, 0.25²) + 0.7 N(0.8, 0.4²), {bayes.PARTICLES:,} particles, T = {bayes.HORIZON:g}, "
        f"{bayes.STEPS} steps",
        "digits": f"{constraint.DIGITS} of scikit-learn's, {constraint.SAMPLES} samples in {constraint.STEPS} steps",
        "four points": f"-1.5, -0.2, 0.4, 2; {leaving.PARTICLES:,} particles, T = {HORIZON:g}",
    },
)

__all__ = ["SUPPORT"]

"""The experiment on finite data: where the exact reverse process lands, how near, and what it never makes."""

from ..experiment import Experiment, Part
from ..four_points import HORIZON
from . import digits, distance, landing, loss, overfitting, unseen

FINITE_DATA = Experiment(
    name="finite-data",
    title="Finite data: the exact minimizer generates its training set",
    question="What does a perfectly trained diffusion model generate from finitely many examples?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, finite data",
    seconds=20,
    parts=(
        Part("landing", "On which points does it land, how often?", landing.landing),
        Part("distance", "How near does it come?", distance.distance),
        Part("loss", "What can training reach at best?", loss.loss_floors),
        Part("overfitting", "What does it make of real digits?", overfitting.overfitting),
        Part("unseen", "Would unseen digits want the exact score?", unseen.unseen_likelihood),
    ),
    settings={
        "four points": "-1.5, -0.2, 0.4, 2",
        "process": f"dX = -X dt + √2 dB, T = {HORIZON:g}, start N(0, 1)",
        "paths": f"{landing.PATHS:,} (landing), {distance.PATHS:,} (distance), {loss.DRAWS:,} per level (loss)",
        "digits": f"{digits.DIGITS} of scikit-learn's, 8 x 8 pixels in [-1, 1]; the unseen are its held-out half",
        "network": f"MLP of 128 x 2, {digits.TRAINING[-1]} training steps of 64 examples",
        "sampler of the digits": f"DPM-Solver++ 2M, {digits.STEPS} steps from σ = 40 to 0.01 and a last denoising",
    },
)

__all__ = ["FINITE_DATA"]

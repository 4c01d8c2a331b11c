"""The experiment on the double moon: a network learns its score, and what the learned score is compared with."""

from ..experiment import Experiment, Part
from . import clean_law, few_draws, learned, weights
from .setting import ARTICLE, BATCH, DEPTH, DRAWS, FOURIER, HIGH, LOW, STEPS, WIDTH

DOUBLE_MOON = Experiment(
    name="double-moon",
    title="A network learns the score of the double moon",
    question="How near does a small network come to the exact score, and what is it to be compared with?",
    source=ARTICLE,
    seconds=90,
    parts=(
        Part("learned", "Does a network learn the score of the noised law?", learned.learned),
        Part("few-draws", "Are 5000 draws enough?", few_draws.few_draws),
        Part("clean-law", "What does a comparison with the clean law's score show?", clean_law.clean_law),
        Part("weights", "What does the loss without its weight cost?", weights.weights),
    ),
    settings={
        "data": f"two moons, jitter .05; {DRAWS:,} draws, {few_draws.FEW} (few-draws)",
        "network": f"MLP of {WIDTH} x {DEPTH} with {FOURIER} random Fourier features, EDM preconditioning",
        "training": f"{STEPS} steps of {BATCH} examples, noise from {LOW:g} to {HIGH:g}, uniform in log σ; "
        f"{weights.SHORT} steps, .01 to 10 (weights)",
        "measures": "centered relative error under the noised law; mean of the pointwise direction cosine over a grid, "
        "where the density exceeds 1% of its maximum, every point counting the same",
    },
)

__all__ = ["DOUBLE_MOON"]

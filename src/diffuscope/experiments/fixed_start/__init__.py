"""The experiment on one data point and one start."""

from ..experiment import Experiment, Part
from .chain import ddim_inside, ddpm_inside, song_family
from .explicit import CLEAN, NOISY, PARTICLES, POINT, START, explicit_solution, particles
from .frozen import frozen_order, step_variance

FIXED_START = Experiment(
    name="fixed-start",
    title="One data point: the reverse process in closed form",
    question="What does the reverse process do from a fixed start, and what have DDPM and DDIM to do with it?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, fixed start",
    seconds=3,
    parts=(
        Part("explicit", "Does the explicit formula solve the reverse SDE?", explicit_solution),
        Part("particles", "Do particles follow it?", particles),
        Part("ddpm", "Is DDPM's posterior the same thing?", ddpm_inside),
        Part("ddim", "And DDIM?", ddim_inside),
        Part("song", "Is DDIM's η the η of the reverse family?", song_family),
        Part("order", "What happens on other data?", frozen_order),
        Part("variance", "Which variance should a step have?", step_variance),
    ),
    settings={
        "data point": POINT,
        "start": START,
        "noise-to-signal ratio": f"{NOISY:g} to {CLEAN:g}",
        "schedules": "Ornstein-Uhlenbeck, VE, cosine, rectified flow; DDPM's linear table for its posterior",
        "particles": PARTICLES,
    },
)


__all__ = ["FIXED_START"]
